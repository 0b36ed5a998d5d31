"""A valid record, spoilt in one place at a time: each tamper is caught and named by its rule, the untouched passes.

Most tampers are followed by a fresh manifest, as a forger's would be, so that what catches them is not the hash alone.
"""

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.errors import CheckFailed
from data.tokenizer import SentencePieceTokenizer
from tests.tools.records_fixture import (
    MACHINE,
    SEEDS,
    TRACK,
    artifact,
    config_of,
    copied,
    edit_json,
    edit_text,
    make_record,
)
from tests.tools.records_fixture import resign as signed_again
from tools.verify.__main__ import act, parser

A, B, C = SEEDS  # the first is the best, the second the median
LOG, METRICS = f"train_seed{B}.log", f"metrics_seed{B}.jsonl"


@pytest.fixture(scope="module")
def record(tokenizer: SentencePieceTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_record(tmp_path_factory.mktemp("records") / TRACK / "2026-11-21_tiny", tokenizer)


def checked(folder: Path, *words: str) -> dict[str, Any]:
    """The answer of the command, whatever its verdict."""
    try:
        return act(parser().parse_args([str(folder), "--fast", "--records", str(folder.parents[1]), *words]))
    except CheckFailed as failed:
        assert failed.answer is not None
        return failed.answer


def claim(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "submission.json", edit)


def manifest(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "manifest.json", edit)


def listed(name: str) -> Callable[[Path], None]:
    return manifest(lambda v: v["files"].update({name: {"sha256": "", "bytes": 1}}))


def text(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: edit_text(folder / name, old, new)


def swapped(one: str, other: str) -> Callable[[Path], None]:
    def swap(folder: Path) -> None:
        a, b = (folder / one).read_bytes(), (folder / other).read_bytes()
        (folder / one).write_bytes(b)
        (folder / other).write_bytes(a)

    return swap


def flipped(name: str, at: int) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[at] ^= 1
        (folder / name).write_bytes(data)

    return flip


def written(name: str, data: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    return write


def added(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + data) and None


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def linked(name: str, to: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(to)


def copy_of(name: str, other: str) -> Callable[[Path], None]:
    return lambda folder: shutil.copyfile(folder / name, folder / other) and None


def dropped(seed: int) -> Callable[[dict[str, Any]], Any]:
    def drop(values: dict[str, Any]) -> None:
        values["seeds"].remove(seed)
        del values["seed_results"][str(seed)]

    return drop


def of_seed(seed: int, **changed: Any) -> Callable[[Path], None]:
    return claim(lambda values: values["seed_results"][str(seed)].update(changed))


def other_config(folder: Path, tokenizer: SentencePieceTokenizer) -> None:
    """A seed of another learning, consistent in itself: its artifact's header and its log agree."""
    config = config_of(C, tokenizer.vocab_size, tokenizer.bos_id)
    config["train"]["batch_tokens"] = 128
    edit_text(folder / f"train_seed{C}.log", "batch_tokens: 64", "batch_tokens: 128")
    (folder / f"model_seed{C}.golf").write_bytes(artifact(config, tokenizer))


def shuffled_steps(folder: Path) -> None:
    path = folder / f"metrics_seed{A}.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[3], lines[4] = lines[4], lines[3]
    path.write_text("".join(lines))


def over_the_cap(folder: Path) -> None:
    with (folder / "train_gpt.py").open("a") as stream:
        stream.write("#" * 1_000_000)


def slower(folder: Path) -> None:
    """Every clock of a seed a tenth slower, and a row of metrics that is no step and would excuse it."""
    edit_text(folder / LOG, *LONGER)
    of_seed(B, train_seconds=660.088)(folder)
    rows = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    rows = [row | {key: 1.1 * row[key] for key in ("elapsed_s", "step_s") if key in row} for row in rows]
    lines = [json.dumps(row) + "\n" for row in [*rows, {"step_s": 2000.0}]]
    (folder / METRICS).write_text("".join(lines))


def chunked(folder: Path) -> None:
    """A chunk of a name of its own in a picture that is otherwise whole."""
    path = folder / "figures" / "loss.png"
    data, inside = path.read_bytes(), b"gOLF" + bytes(5_000)
    chunk = len(inside[4:]).to_bytes(4, "big") + inside + zlib.crc32(inside).to_bytes(4, "big")
    path.write_bytes(data[:33] + chunk + data[33:])


def renamed_seed(folder: Path) -> None:
    edit_json(
        folder / "submission.json", lambda v: v["seed_results"].update({"9" * 5_000: v["seed_results"].pop(str(A))})
    )


def noted(**notes: Any) -> Callable[[Path], None]:
    return claim(lambda values: values.setdefault("notes", {}).update(notes))


LONGER = "train_time:600080ms step_avg:15002.00ms", "train_time:660000ms step_avg:16500.00ms"
BANNER = f"# == base/errors.py sha256 {'9' * 64} ==\n".encode()
FORGED = {  # followed by a fresh manifest
    "val_bpb edited": (claim(lambda v: v.update(val_bpb=v["val_bpb"] - 0.01)), "number.val_bpb"),
    "one late digit of val_bpb edited": (claim(lambda v: v.update(val_bpb=v["val_bpb"] + 1e-8)), "number.val_bpb"),
    "val_loss edited": (claim(lambda v: v.update(val_loss=v["val_loss"] - 0.01)), "number.val_loss"),
    "std edited": (claim(lambda v: v.update(val_bpb_std=1e-5)), "number.val_bpb_std"),
    "std left out": (claim(lambda v: v.update(val_bpb_std=None)), "number.val_bpb_std"),
    "a seed's bpb edited": (of_seed(A, val_bpb=1.4), "number.seed"),
    "a seed's steps edited": (of_seed(A, steps=39), "number.seed"),
    "a seed's seconds edited": (of_seed(A, train_seconds=599.0), "number.seed"),
    "more bytes than were scored": (claim(lambda v: v["evaluation"].update(val_bytes=160_000)), "number.ratio"),
    "README's headline edited": (text("README.md", "# tiny: 1.51", "# tiny: 1.41"), "number.readme"),
    "README's table edited": (text("README.md", f"| {A} | 1.51", f"| {A} | 1.43"), "number.readme"),
    "README's title far off": (text("README.md", "# tiny: 1.51", "# tiny: 0.51"), "number.readme"),
    "another stride than the log's": (claim(lambda v: v["evaluation"].update(stride=4)), "number.evaluation"),
    "another context than the log's": (claim(lambda v: v["evaluation"].update(context=32)), "number.evaluation"),
    "an adaptation that no log has": (claim(lambda v: v["evaluation"].update(adapt="lora")), "number.evaluation"),
    "another config in the notes": (noted(config={"seed": A, "model": {"layers": 9}}), "seed.config"),
    "another code in the notes": (noted(code={"sha256": "f" * 64}), "hash.code"),
    "a rule that it says it broke": (claim(lambda v: v["compliance"].update(enough_seeds=False)), "claim.compliance"),
    "scored for too long": (of_seed(A, eval_seconds=5000.0), "budget.eval"),
    "another machine": (claim(lambda v: v.update(hardware="8 x cuda (NVIDIA H100)")), "claim.hardware"),
    "another machine in the log": (text(LOG, MACHINE, "8 x cuda (NVIDIA H100)"), "claim.hardware"),
    "a machine in words": (text(LOG, MACHINE, "8 x NVIDIA H100"), "claim.hardware"),
    "a picture of two megabytes": (added("figures/bytes.png", bytes(2 << 20)), "files.figure"),
    "more cores than the track has": (text(LOG, MACHINE, "1 x cpu (64 threads)"), "claim.hardware"),
    "a date that is none": (claim(lambda v: v.update(date="0000-00-00")), "schema.date"),
    "a date before its folder's": (claim(lambda v: v.update(date="2025-01-01")), "schema.date"),
    "another program": (written("train_gpt.py", b"import torch\nprint(torch)\n"), "hash.sources"),
    "a row that makes a step long": (slower, "budget.train"),
    "a file named like a seed's": (written("model_seed007.golf", bytes(100)), "files.unexpected"),
    "a file of a seed that has another": (written(f"model_seed{B}.golf", b"x = 1\n"), "files.unexpected"),
    "data inside a picture": (chunked, "files.figure"),
    "a seed of five thousand digits": (renamed_seed, "seed.results"),
    "logs swapped": (swapped(f"train_seed{A}.log", f"train_seed{B}.log"), "seed.log"),
    "metrics swapped": (swapped(f"metrics_seed{A}.jsonl", f"metrics_seed{B}.jsonl"), "number.metrics"),
    "artifacts swapped": (swapped("model.golf", f"model_seed{A}.golf"), "hash.artifact"),
    "a seed left out of the mean": (claim(dropped(C)), "seed.dropped"),
    "a seed left out of the list": (claim(lambda v: v["seeds"].remove(C)), "seed.results"),
    "a seed claimed twice": (claim(lambda v: v["seeds"].append(A)), "seed.twice"),
    "one log for two seeds": (copy_of(f"train_seed{A}.log", f"train_seed{B}.log"), "seed.same"),
    "one artifact for two seeds": (copy_of("model.golf", f"model_seed{C}.golf"), "seed.same"),
    "a log that ends twice": (added(LOG, b"final val_loss:3.0 val_bpb:1.40000000 eval_time:1ms\n"), "log.structure"),
    "a step after the end": (added(LOG, b"step 41 val_bpb:1.4000 (no overlap)\n"), "log.structure"),
    "a log's last line cut off": (text(LOG, "final val_loss", "val_loss"), "log.structure"),
    "a log's head broken": (text(LOG, "seed: ", "seed "), "log.structure"),
    "a log's average edited": (text(LOG, "step_avg:15002.00ms", "step_avg:14002.00ms"), "log.clock"),
    "a log's data hash edited": (text(LOG, "data dddd", "data eeee"), "data.log"),
    "a log's validation edited": (text(LOG, "val_bpb:1.9100", "val_bpb:1.8100"), "number.metrics"),
    "a log's code and total at odds": (text(LOG, "total_bytes:1", "total_bytes:2"), "size.log"),
    "steps out of order": (shuffled_steps, "log.metrics"),
    "a step slower than the clock": (text(METRICS, '"step_s": 15.002', '"step_s": 9.002'), "log.metrics"),
    "metrics cut short": (text(METRICS, '{"step": 40', '\n{"step": 40'), "log.metrics"),
    "NaN in metrics": (text(METRICS, '"loss": 5.9', '"loss": NaN, "was": 5.9'), "log.metrics"),
    "trained longer": (text(LOG, *LONGER), "budget.train"),
    "artifact grown": (added("model.golf", b"\0"), "artifact.format"),
    "a byte of the artifact flipped": (flipped("model.golf", 500), "hash.artifact"),
    "bytes_model edited": (claim(lambda v: v.update(bytes_model=1000)), "size.bytes_model"),
    "bytes_code edited": (claim(lambda v: v.update(bytes_code=1)), "size.bytes_code"),
    "bytes_total edited": (claim(lambda v: v.update(bytes_total=1000)), "size.bytes_total"),
    "cap edited": (claim(lambda v: v.update(cap_bytes=2_000_000)), "size.cap_claim"),
    "over the cap": (over_the_cap, "size.cap"),
    "code in a second file": (written("helper.py", b"x = 1\n"), "files.code"),
    "weights in another file": (written("weights.bin", bytes(999_000)), "size.strict"),
    "native code": (written("fast.so", b"\x7fELF"), "files.code"),
    "data in a picture": (added("figures/loss.png", b"more"), "files.figure"),
    "another tokenizer": (added("tokenizer.model", b"\0"), "hash.tokenizer"),
    "another tokenizer's hash": (claim(lambda v: v["data"].update(tokenizer_sha256="f" * 64)), "data.tokenizer"),
    "another data hash": (claim(lambda v: v["data"].update(sha256="f" * 64)), "data.log"),
    "another version of the tracks": (claim(lambda v: v.update(track_version=99)), "schema.track_version"),
    "a track that is none": (claim(lambda v: v.update(track="track_moon")), "schema.track"),
    "a key too many": (claim(lambda v: v.update(val_bbp=1.0)), "schema.submission"),
    "a key too few": (claim(lambda v: v.pop("params")), "schema.submission"),
    "a number in words": (claim(lambda v: v.update(bytes_code="many")), "schema.submission"),
    "NaN in the claim": (claim(lambda v: v.update(val_loss_std=float("nan"))), "schema.submission"),
    "a requirement left out": (written("requirements.txt", b"numpy==2.4.6\n"), "code.requirements"),
    "a call of the network": (added("train_gpt.py", b"import urllib.request\n"), "code.network"),
    "another program started": (added("train_gpt.py", b"import subprocess\n"), "code.process"),
    "a file of the machine opened": (added("train_gpt.py", b'open("/etc/passwd")\n'), "code.path"),
    "a variable read": (added("train_gpt.py", b'import os\nos.environ["BPB"]\n'), "code.environment"),
    "a section of another source": (added("train_gpt.py", BANNER), "hash.sources"),
    "code that makes code": (added("train_gpt.py", b"exec(input())\n"), "code.dynamic"),
    "constants made beforehand": (added("train_gpt.py", f"x = {list(range(100))}\n".encode()), "code.constants"),
    "a blob": (added("train_gpt.py", f"x = {'k7Q' * 900!r}\n".encode()), "code.dynamic"),
    "code that is none": (added("train_gpt.py", b"def\n"), "code.syntax"),
    "a log named outside": (of_seed(A, log="../../secret.log"), "files.outside"),
    "the artifact missing": (removed("model.golf"), "files.required"),
    "the README missing": (removed("README.md"), "files.wanted"),
    "a log missing": (removed(LOG), "files.required"),
    "a link": (linked("notes.txt", "/etc/passwd"), "files.plain"),
    "a link to a folder": (linked("more", "/etc"), "files.plain"),
}  # fmt: skip
PLAIN = {  # the manifest stays as it was
    "the claim edited": (claim(lambda v: v.update(blurb="Another.")), "hash.manifest"),
    "the code edited": (added("train_gpt.py", b"# more\n"), "hash.manifest"),
    "a file that the manifest does not know": (written("notes.md", b"hello"), "hash.unlisted"),
    "a way out in the manifest": (listed("../../x"), "files.outside"),
    "an absolute name in the manifest": (listed("/etc/passwd"), "files.outside"),
    "a file that is only in the manifest": (listed("x"), "hash.manifest"),
    "other sources in the manifest": (manifest(lambda v: v["code"]["sources"].update({"a.py": "0"})), "hash.sources"),
    "another hash of them": (manifest(lambda v: v["code"].update(sources_sha256="0" * 64)), "hash.sources"),
    "other data in the manifest": (manifest(lambda v: v["data"].update(name="other")), "data.manifest"),
    "a manifest that is none": (written("manifest.json", b"[]"), "schema.manifest"),
    "no manifest": (removed("manifest.json"), "files.required"),
}  # fmt: skip


def test_the_untouched_record_is_valid(record: Path) -> None:
    answer = checked(record)
    assert answer["verdict"] == "valid", answer["findings"]
    assert {finding["level"] for finding in answer["findings"]} == {"note"}
    assert answer["measured"]["bytes_total"] == json.loads((record / "submission.json").read_text())["bytes_total"]


@pytest.mark.parametrize(("tamper", "rule"), FORGED.values(), ids=FORGED.keys())
def test_a_forgery_is_named(record: Path, tmp_path: Path, tamper: Callable[[Path], None], rule: str) -> None:
    folder = copied(record, tmp_path)
    tamper(folder)
    signed_again(folder)
    assert rule in accused(folder)


@pytest.mark.parametrize(("tamper", "rule"), PLAIN.values(), ids=PLAIN.keys())
def test_a_tamper_that_leaves_the_manifest_is_named(
    record: Path, tmp_path: Path, tamper: Callable[[Path], None], rule: str
) -> None:
    folder = copied(record, tmp_path)
    tamper(folder)
    assert rule in accused(folder)


def accused(folder: Path) -> set[str]:
    answer = checked(folder)
    assert answer["verdict"] != "valid"
    return {finding["rule"] for finding in answer["findings"] if finding["level"] != "note"}


def test_a_seed_of_another_configuration_is_named(
    record: Path, tmp_path: Path, tokenizer: SentencePieceTokenizer
) -> None:
    folder = copied(record, tmp_path)
    other_config(folder, tokenizer)
    signed_again(folder)
    assert "seed.config" in accused(folder)


def test_an_artifact_of_another_configuration_is_named(
    record: Path, tmp_path: Path, tokenizer: SentencePieceTokenizer
) -> None:
    folder = copied(record, tmp_path)
    edit_text(folder / f"train_seed{C}.log", "batch_tokens: 64", "batch_tokens: 128")
    signed_again(folder)
    assert {"artifact.config", "seed.config"} <= accused(folder)


def test_too_few_seeds_for_the_track_are_named(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    folder = make_record(tmp_path / "records" / TRACK / "2026-11-21_two", tokenizer, SEEDS[:2])
    assert accused(folder) == {"seed.few"}


def test_one_seed_is_enough_where_the_track_is_not_ranked(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    track = "track_non_record_16mb"
    answer = checked(make_record(tmp_path / "records" / track / "2026-11-21_one", tokenizer, SEEDS[:1], track))
    assert answer["verdict"] == "valid", answer["findings"]


def test_a_pipe_is_refused_and_not_waited_for(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    (folder / "model.golf").unlink()
    os.mkfifo(folder / "model.golf")
    assert "files.plain" in accused(folder)
