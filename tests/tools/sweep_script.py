"""A training command for the tests of the sweep: called as train_gpt.py is, but instant.

    sweep_script.py BASE section.key=value ... seed=N --name NAME --json

It reads what to do from `orders.json` of the working directory (seconds to take; variants that crash or diverge), and
notes in `ledger.txt` when it begins and ends.
"""

import json
import os
import sys
import time
from dataclasses import fields
from pathlib import Path

from base.run_folder import METRICS, RESULT, RunResult

orders = json.loads(Path("orders.json").read_text())
name = sys.argv[sys.argv.index("--name") + 1]
key = Path(name).name
variant, seed = key.rsplit("-s", 1)
assert sys.argv[-4] == f"seed={seed}"


def note(what: str) -> None:
    with Path("ledger.txt").open("a") as ledger:
        ledger.write(f"{what} {key} {os.getpid()} {os.getppid()}\n")


note("begin")
time.sleep(orders.get("seconds", 0))
if variant in orders.get("exits", {}):
    print(f"train_gpt.py: {key}: as ordered", file=sys.stderr)
    sys.exit(orders["exits"][variant])
if variant in orders.get("broken", []):
    raise SyntaxError("cannot even start")
run = Path("runs") / name
run.mkdir(parents=True, exist_ok=True)
(run / METRICS).write_text("".join(json.dumps({"step": n, "loss": 6 - n / 100}) + "\n" for n in range(1, 201)))
values = {field.name: "x" if field.type is str else 1 for field in fields(RunResult)}
score = 2 + len(variant) / 10 + int(seed) / 100
result = {**values, "train_seconds": 0.5, "val_bpb": score, "data_sha256": orders.get("data", "one")}
(run / RESULT).write_text(json.dumps(result))
note("end")
print(json.dumps({"run": str(run.resolve())}))
