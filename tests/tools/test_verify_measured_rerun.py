"""--rerun: a record's own code in a box. Honest code passes; code that lies is named."""

import json
import sys
from pathlib import Path

import pytest

from base.files import file_sha256
from data.dataset import Dataset
from tests.tools.measured_record import make_artifact, make_dataset, run_config, scored, true_bpb, write_record
from tools.verify.measured_box import network_is_cut, open_doors, run_boxed
from tools.verify.measured_confined import can_confine
from tools.verify.measured_rerun import rerun_findings
from tools.verify.verdict import Finding

needs_box = pytest.mark.skipif(
    bool(open_doors()), reason="this kernel gives no network namespace (unshare -rn) or no Landlock"
)

# A single file that knows its score, and "trains" by writing an artifact that it was given as text.
CODE = """
import hashlib, json, os, pathlib, sys
bpb, artifact, result, real = {told}
if "--score" in sys.argv:
    assert pathlib.Path("model.golf").read_bytes() and sys.argv[-1] == "--json"
    print(json.dumps({{"bpb": bpb}}))
else:
    assert sorted(os.listdir()) == ["home", "tmp", "train_gpt.py"], os.listdir()
    assert sys.argv[1] == "seed=1" and sys.argv[2].startswith("data.path=/")
    data = pathlib.Path(sys.argv[2].partition("=")[2])
    assert hashlib.sha256((data / "val_000000.bin").read_bytes()).hexdigest() != real
    run = pathlib.Path("runs/demo")
    run.mkdir(parents=True)
    (run / "model.golf").write_bytes(bytes.fromhex(artifact))
    (run / "result.json").write_text(json.dumps(result))
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("rerun"))


@pytest.fixture(scope="module")
def artifact(dataset: Dataset) -> bytes:
    return make_artifact(dataset, run_config(dataset, 1), 1)


def told(bpb: float, artifact: bytes, validation_sha256: str = "") -> str:
    return repr((bpb, artifact.hex(), {"train_seconds": 0.0, "calibration_seconds": 0.0}, validation_sha256))


def rerun(dataset: Dataset, folder: Path, artifact: bytes, code: str) -> list[Finding]:
    record = write_record(folder, dataset, code=code)
    return list(rerun_findings(record, dataset, 1, true_bpb(dataset, artifact), lambda made: scored(dataset, made)))


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.rule: finding.level for finding in findings}


@needs_box
def test_an_honest_single_file_passes_and_trains_without_the_validation_text(
    dataset: Dataset, artifact: bytes, tmp_path: Path
) -> None:
    code = CODE.format(told=told(true_bpb(dataset, artifact), artifact, file_sha256(dataset.path / "val_000000.bin")))
    found = rerun(dataset, tmp_path / "r", artifact, code)
    assert levels(found) == {"rerun.score.measured": "note", "rerun.measured": "note"}, found


def test_a_single_file_that_prints_another_score_is_found(dataset: Dataset, artifact: bytes, tmp_path: Path) -> None:
    truth = true_bpb(dataset, artifact)
    found = rerun(dataset, tmp_path / "r", artifact, CODE.format(told=told(truth - 0.01, artifact)))
    assert levels(found)["score.single_file"] == "invalid"
    assert f"{truth - 0.01:.8f}" in next(f for f in found if f.rule == "score.single_file").message


def test_a_rerun_that_scores_worse_is_not_reproduced_and_no_fraud(
    dataset: Dataset, artifact: bytes, tmp_path: Path
) -> None:
    worse = make_artifact(dataset, run_config(dataset, 1), 2)
    better = make_artifact(dataset, run_config(dataset, 1), 3)
    scores = {data: true_bpb(dataset, data) for data in (artifact, worse, better)}
    order = sorted(scores, key=lambda data: scores[data])
    for data in (order[0], order[-1]):
        code = CODE.format(told=told(scores[artifact], data))
        found = levels(rerun(dataset, tmp_path / f"{scores[data]}", artifact, code))
        if scores[data] > scores[artifact] + 0.02:
            assert found["rerun.val_bpb"] == "unverified"
        else:
            assert found["rerun.measured"] == "note"
    assert scores[order[-1]] > scores[order[0]] + 0.02


def test_code_that_fails_or_answers_nothing_is_unverified(dataset: Dataset, artifact: bytes, tmp_path: Path) -> None:
    found = rerun(dataset, tmp_path / "r", artifact, "raise ValueError('no GPU here')\n")
    assert levels(found) | {"rerun.box": "flag"} == {
        "rerun.score": "unverified", "rerun.train": "unverified", "rerun.box": "flag",
    }  # fmt: skip
    assert all("ValueError: no GPU here" in each.message for each in found if each.level == "unverified")
    found = rerun(dataset, tmp_path / "s", artifact, "print('NaN')\n")
    assert {level for rule, level in levels(found).items() if rule != "rerun.box"} == {"unverified"}


@pytest.mark.skipif(not network_is_cut(), reason="this kernel gives no network namespace (unshare -rn)")
def test_code_in_the_box_reaches_no_network(tmp_path: Path) -> None:
    (tmp_path / "dial.py").write_text("import socket\nsocket.create_connection(('127.0.0.1', 9), 2)\n")
    ran = run_boxed(["dial.py"], tmp_path, 60)
    assert ran.code == 1
    assert "OSError" in ran.last_words or "Network is unreachable" in ran.last_words
    (tmp_path / "up.py").write_text("import socket\nprint(len(socket.if_nameindex()))\n")
    assert run_boxed(["up.py"], tmp_path, 60).out == b"1\n"  # a loopback, which is down


@pytest.mark.skipif(not can_confine(), reason="this kernel has no Landlock")
def test_code_in_the_box_writes_nowhere_else(tmp_path: Path) -> None:
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


def test_code_in_the_box_sees_a_bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    (tmp_path / "env.py").write_text("import json, os\nprint(json.dumps(dict(os.environ)))\n")
    seen = json.loads(run_boxed(["env.py"], tmp_path, 60).out)
    assert "SECRET_TOKEN" not in seen
    assert seen["HOME"] == str(tmp_path / "home")


def test_code_that_does_not_end_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text(
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3); open(\"late\", \"w\")'])\n"
        "time.sleep(60)\n"
    )
    ran = run_boxed(["hang.py"], tmp_path, 1.0)
    assert ran.code is None
    assert ran.seconds < 30
    assert not (tmp_path / "late").exists()


def test_a_link_in_place_of_the_trained_artifact_is_not_followed(
    dataset: Dataset, artifact: bytes, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere.golf").write_bytes(artifact)
    link = f"pathlib.Path('runs/demo/model.golf').symlink_to({str(tmp_path / 'elsewhere.golf')!r})"
    code = CODE.format(told=told(true_bpb(dataset, artifact), artifact))
    code = code.replace('(run / "model.golf").write_bytes(bytes.fromhex(artifact))', link)
    found = rerun(dataset, tmp_path / "r", artifact, code)
    assert levels(found)["rerun.train"] == "unverified"
    assert "model.golf" in next(each for each in found if each.rule == "rerun.train").message


def test_the_box_says_what_it_could_not_cut(
    dataset: Dataset, artifact: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.verify.measured_rerun.open_doors", lambda: ["the network"])
    found = rerun(dataset, tmp_path / "r", artifact, "raise SystemExit(3)\n")
    assert levels(found)["rerun.box"] == "flag"
    assert sys.platform != "linux" or "the network" in found[0].message
