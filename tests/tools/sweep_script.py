"""A training command for the tests of the sweep: as train_gpt.py is called, as quick as it is told to be.

    sweep_script.py CONFIG --name NAME --json

It reads what to do from `orders.json` of the working directory (seconds to take; variants that crash or diverge) and
notes in `ledger.txt` when it begins and ends.
"""

import json
import os
import sys
import time
from pathlib import Path

orders = json.loads(Path("orders.json").read_text())
key = Path(sys.argv[3]).name
variant, seed = key.rsplit("-s", 1)


def note(what: str) -> None:
    with Path("ledger.txt").open("a") as ledger:
        ledger.write(f"{what} {key} {os.getpid()} {os.getppid()}\n")


note("begin")
time.sleep(orders.get("seconds", 0))
if variant in orders.get("exits", {}):
    said = "has diverged, as ordered" if orders["exits"][variant] == 1 else "as ordered"
    print(f"{key}: {orders.get('says', said)}", file=sys.stderr)
    sys.exit(orders["exits"][variant])
run = Path("runs") / sys.argv[3]
run.mkdir(parents=True, exist_ok=True)
(run / "metrics.jsonl").write_text("".join(json.dumps({"step": n, "loss": 6 - n / 100}) + "\n" for n in range(1, 201)))
answer = {"params": 1, "steps": 200, "train_seconds": 0.5, "val_bpb": 2 + len(variant) / 10 + int(seed) / 100}
note("end")
print(json.dumps({**answer, "packed_bpb": 2.5, "artifact_bytes": 10, "run": str(run)}))
