"""--rerun: the record's own single file, run again in the sandbox; and what the sandbox keeps a program from."""

import fcntl
import json
import time
from pathlib import Path

import pytest

from base.files import file_sha256
from data.dataset import open_dataset
from eval.protocol import Protocol
from eval.score import score
from quant.unpack import from_bytes
from tests.records import check, copied, renew
from tests.runs import CPU
from tools.record.claim import open_record
from tools.verify.confine import can_confine
from tools.verify.folder import Folder
from tools.verify.rerun import check_rerun, compare_rerun
from tools.verify.sandbox import is_network_cut, open_doors, run_boxed
from tools.verify.verdict import Finding

pytestmark = pytest.mark.slow

# A single file that knows its score, and "trains" by writing an artifact that it was given as text.
CODE = """
import hashlib, json, os, pathlib, sys
bpb, artifact, validation = {known}
if "--score" in sys.argv:
    assert pathlib.Path("model.golf").read_bytes() and sys.argv[-1] == "--json"
    print(json.dumps({{"bpb": bpb}}))
else:
    assert sorted(os.listdir()) == ["home", "tmp", "train_gpt.py"], os.listdir()
    folder = pathlib.Path(sys.argv[2].removeprefix("data.path="))
    assert hashlib.sha256((folder / "val_000000.bin").read_bytes()).hexdigest() != validation
    run = pathlib.Path("runs/demo")
    run.mkdir(parents=True)
    (run / "model.golf").write_bytes(bytes.fromhex(artifact))
    (run / "result.json").write_text("{{}}")
"""


def measure(artifact: bytes, data: Path) -> float:
    return score(from_bytes(artifact).model, open_dataset(data), Protocol(32, 16), CPU).bpb


def rerun(record: Path, data: Path, code: str) -> dict[str, Finding]:
    """What running a record again finds, if this is its single file."""
    (record / "train_gpt.py").write_text(code)
    renew(record)
    opened = open_record(Folder(record))
    found = check_rerun(opened, open_dataset(data), opened.evidence.seeds[0], lambda made: measure(made, data))
    return {finding.rule: finding for finding in found}


def code_of(bpb: float, artifact: Path, data: Path) -> str:
    return CODE.format(known=repr((bpb, artifact.read_bytes().hex(), file_sha256(data / "val_000000.bin"))))


def test_the_real_file_scores_and_trains_alike(single: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.verify.rerun.scoring_ranks", lambda adapt: 2)
    answer = check(single, "--data", str(data), "--sample", "--rerun")
    assert answer.verdict == ("flagged" if open_doors() else "valid"), answer.findings
    assert answer.measured["rerun_score"]["single_file_bpb"] == pytest.approx(answer.measured["val_bpb"], rel=2e-6)
    assert answer.measured["rerun"]["rerun_bpb"] == pytest.approx(answer.measured["val_bpb"], abs=0.02)


def test_a_single_file_with_a_score_of_its_own_is_found(single: Path, data: Path, tmp_path: Path) -> None:
    folder = copied(single, tmp_path)
    truth = measure((folder / "model.golf").read_bytes(), data)
    honest = rerun(folder, data, code_of(truth, folder / "model.golf", data))
    assert {"rerun.score.measured", "rerun.measured"} <= set(honest)
    assert {finding.level for rule, finding in honest.items() if rule != "rerun.box"} == {"note"}, honest
    found = rerun(folder, data, code_of(truth - 0.01, folder / "model.golf", data))["score.single_file"]
    assert found.level == "invalid"
    assert f"{truth - 0.01:.10g}" in found.message


def test_a_rerun_that_scores_worse_is_not_reproduced_and_no_fraud(single: Path) -> None:
    opened = open_record(Folder(single))
    claimed = opened.claim.val_bpb
    assert compare_rerun(opened, 7, claimed - 0.5, 1.0).level == "note"
    assert compare_rerun(opened, 7, claimed + 0.005, 1.0).level == "note"
    worse = compare_rerun(opened, 7, claimed + 0.01, 1.0)
    assert (worse.rule, worse.level) == ("rerun.val_bpb", "unverified")


def test_failing_code_is_unverified(single: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.verify.rerun.open_doors", lambda: ["the network"])
    folder = copied(single, tmp_path)
    found = rerun(folder, data, "raise ValueError('no GPU here')\n")
    assert {rule: finding.level for rule, finding in found.items()} == {
        "rerun.box": "flag", "rerun.score": "unverified", "rerun.train": "unverified",
    }  # fmt: skip
    assert "the network" in found["rerun.box"].message
    assert "ValueError: no GPU here" in found["rerun.train"].message
    assert "not JSON" in rerun(folder, data, "print('NaN')\n")["rerun.score"].message
    link = f"(run / 'model.golf').symlink_to({str(single / 'model.golf')!r})"
    code = code_of(1.0, folder / "model.golf", data).replace(
        '(run / "model.golf").write_bytes(bytes.fromhex(artifact))', link
    )
    assert "model.golf cannot be read" in rerun(folder, data, code)["rerun.train"].message


# -- the sandbox ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not is_network_cut(), reason="this kernel gives no network namespace (unshare --net)")
def test_boxed_code_reaches_no_network(tmp_path: Path) -> None:
    (tmp_path / "dial.py").write_text("import socket\nsocket.create_connection(('127.0.0.1', 9), 2)\n")
    ran = run_boxed(["dial.py"], tmp_path, 60)
    assert ran.code == 1
    assert "Network is unreachable" in ran.last_line
    (tmp_path / "up.py").write_text("import socket\nprint(len(socket.if_nameindex()))\n")
    assert run_boxed(["up.py"], tmp_path, 60).out == b"1\n"  # a loopback, which is down


@pytest.mark.skipif(not can_confine(), reason="this kernel has no Landlock")
def test_boxed_code_writes_nowhere_else(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "box"
    outside.mkdir()
    inside.mkdir()
    (outside / "there").write_text("as it was")
    (inside / "mess.py").write_text(
        "import os, pathlib, subprocess, sys\n"
        f"out = pathlib.Path({str(outside)!r})\n"
        "tries = [lambda: (out / 'new').write_text('x'), lambda: (out / 'there').write_text('x'),\n"
        "    lambda: os.truncate(out / 'there', 0), lambda: (out / 'there').unlink(), lambda: (out / 'd').mkdir(),\n"
        "    lambda: os.rename(out / 'there', 'mine'), lambda: os.symlink('x', out / 'l'),\n"
        "    lambda: subprocess.run([sys.executable, '-c', f'open({str(out)!r} + \"/sub\", \"w\")'], check=True)]\n"
        "for attempt in tries:\n"
        "    try: attempt()\n"
        "    except (OSError, subprocess.CalledProcessError): continue\n"
        "    print('written')\n"
        "pathlib.Path('here').write_text('x')\n"
    )
    ran = run_boxed(["mess.py"], inside, 60)
    assert (ran.code, ran.out) == (0, b""), ran
    assert [path.name for path in outside.iterdir()] == ["there"]
    assert (outside / "there").read_text() == "as it was"
    assert (inside / "here").exists()


def test_boxed_code_has_a_bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    (tmp_path / "env.py").write_text("import json, os\nprint(json.dumps(dict(os.environ)))\n")
    seen = json.loads(run_boxed(["env.py"], tmp_path, 60).out)
    assert "SECRET_TOKEN" not in seen
    assert seen["HOME"] == str(tmp_path / "home")


def test_boxed_code_that_does_not_end_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text("import fcntl, time\nfcntl.flock(1, fcntl.LOCK_EX)\ntime.sleep(100)\n")
    (tmp_path / "hang.py").write_text(
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, 'child.py'], stdout=open('lock', 'w'))\n"
        "time.sleep(100)\n"
    )
    started = time.monotonic()
    assert run_boxed(["hang.py"], tmp_path, 5.0).code is None
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits as long as the child lives
    assert time.monotonic() - started < 60
