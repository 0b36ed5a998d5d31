"""A valid record, changed in one place at a time: every tamper is caught and named by its rule, the untouched is valid.

KEYS: a value of the claim. CLAIM: its shape, or its page; both hashed again as a forger would. EVIDENCE: a piece of
evidence, with claim, page and hashes computed again from it. FILES: a file, hashed again. PLAIN: the manifest stays.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from base.errors import BadInput
from tests.records import MACHINE, SEEDS, accusations, check, copied, edit_json, edit_result, remove_seed, renew, resign
from tools.record.claim import open_record
from tools.record.schema import Submission
from tools.verify.folder import Folder
from tools.verify.rules import check_claim

A, B, C = SEEDS
Tamper = Callable[[Path], Any]


def claim(edit: Callable[[dict[str, Any]], Any]) -> Tamper:
    return lambda folder: edit_json(folder / "submission.json", edit)


def manifest(edit: Callable[[dict[str, Any]], Any]) -> Tamper:
    return lambda folder: edit_json(folder / "manifest.json", edit)


def evidence(edit: Callable[[dict[str, Any]], Any]) -> Tamper:
    return lambda folder: edit_json(folder / "evidence.json", edit)


def statement(**changed: Any) -> Tamper:
    return evidence(lambda values: values["statement"].update(changed))


def data(**changed: Any) -> Tamper:
    return evidence(lambda values: values["data"].update(changed))


def result(seed: int, **changed: Any) -> Tamper:
    return lambda folder: edit_result(folder / f"result_seed{seed}.json", **changed)


def every_result(**changed: Any) -> Tamper:
    return both(*(result(seed, **changed) for seed in SEEDS))


def both(*tampers: Tamper) -> Tamper:
    def apply(folder: Path) -> None:
        for tamper in tampers:
            tamper(folder)

    return apply


def metrics(seed: int, edit: Callable[[list[dict[str, Any]]], Any]) -> Tamper:
    def apply(folder: Path) -> None:
        path = folder / f"metrics_seed{seed}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        edit(rows)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return apply


def nats(seed: int, edit: Callable[[np.ndarray], np.ndarray]) -> Tamper:
    def apply(folder: Path) -> None:
        path = folder / f"nats_seed{seed}.npy"
        np.save(path, edit(np.load(path)))

    return apply


def text(name: str, old: str, new: str) -> Tamper:
    def replace(folder: Path) -> None:
        content = (folder / name).read_text()
        assert old in content, f"{name} has no {old!r}"
        (folder / name).write_text(content.replace(old, new, 1))

    return replace


def swapped(one: str, other: str) -> Tamper:
    def swap(folder: Path) -> None:
        a, b = (folder / one).read_bytes(), (folder / other).read_bytes()
        (folder / one).write_bytes(b)
        (folder / other).write_bytes(a)

    return swap


def written(name: str, content: bytes) -> Tamper:
    return lambda folder: (folder / name).write_bytes(content)


def added(name: str, content: bytes) -> Tamper:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + content)


def removed(*names: str) -> Tamper:
    return lambda folder: [(folder / name).unlink() for name in names]


def linked(name: str, to: str) -> Tamper:
    return lambda folder: (folder / name).symlink_to(to)


def other_artifact(folder: Path) -> str:
    """The first of those that are not model.golf."""
    return min(path.name for path in folder.glob("model_seed*.golf"))


def second_artifact(folder: Path) -> None:
    """Every seed has a file of its own, and there is a model.golf as well."""
    names = {f"model_seed{seed}.golf" for seed in SEEDS}
    missing = next(name for name in names if not (folder / name).exists())
    shutil.copyfile(folder / "model.golf", folder / missing)


def slow(rows: list[dict[str, Any]]) -> None:
    for number, row in enumerate((row for row in rows if "step_s" in row), 1):
        row.update(step_s=150.0, elapsed_s=150.0 * number)


def slower(seed: int) -> Tamper:
    """Every clock of a seed far beyond the budget, in agreement with each other."""
    return both(metrics(seed, slow), result(seed, train_seconds=900.0))


def shuffled(rows: list[dict[str, Any]]) -> None:
    rows[2], rows[3] = rows[3], rows[2]


KEYS = [field.name for field in fields(Submission)]
CLAIM: dict[str, tuple[Tamper, str]] = {
    "a seed of five thousand digits": (
        claim(lambda v: v["seed_results"].update({"9" * 5_000: v["seed_results"].pop(str(A))})), "claim.seed_results"),
    "a key too many": (claim(lambda v: v.update(val_bbp=1.0)), "claim.val_bbp"),
    "a key too few": (claim(lambda v: v.pop("params")), "claim.params"),
    "a number in words": (claim(lambda v: v.update(bytes_code="many")), "claim.bytes_code"),
    "NaN in the claim": (claim(lambda v: v.update(val_loss_std=float("nan"))), "schema.submission"),
    "a claim that is none": (written("submission.json", b"[]"), "schema.submission"),
    "a line added to the README": (added("README.md", b"Peer-reviewed.\n"), "page.readme"),
}  # fmt: skip
EVIDENCE: dict[str, tuple[Tamper, str]] = {
    "a run's score edited": (result(A, val_bpb=lambda v: v - 0.01), "number.seed"),
    "a run's nats per token edited": (result(A, val_nats_per_token=lambda v: v - 0.01), "number.seed"),
    "a run's score before packing edited": (result(A, float_bpb=lambda v: v - 0.01), "number.seed"),
    "a block's nats edited": (nats(A, lambda v: v * 0.999), "number.seed"),
    "a block too many": (nats(A, lambda v: np.append(v, 0.0)), "number.nats"),
    "more bytes than were scored": (every_result(val_bytes=lambda v: v + 1000), "number.seed"),
    "fewer targets": (every_result(val_tokens=lambda v: v // 2), "number.seed"),
    "another stride than the artifact's": (every_result(stride=8), "evidence.rule"),
    "another adaptation than the artifact's": (every_result(adapt="mix"), "evidence.rule"),
    "another stride in one seed": (result(C, stride=8), "seed.config"),
    "another machine": (result(B, device="8 x cuda (NVIDIA H100)"), "claim.hardware"),
    "more cores than the track has": (result(B, device="1 x cpu (64 threads)"), "claim.hardware"),
    "a date that is none": (statement(date="0000-00-00"), "schema.date"),
    "another version of the tracks": (statement(track_version=99), "schema.track_version"),
    "another data hash": (result(B, data_sha256="e" * 64), "data.sha256"),
    "another validation hash": (result(B, val_sha256="e" * 64), "data.val"),
    "another tokenizer's hash": (result(B, tokenizer_sha256="e" * 64), "data.tokenizer"),
    "another dataset described": (data(sha256="e" * 64), "data.sha256"),
    "shared documents": (data(shared_documents=3), "claim.compliance"),
    "scored with a network": (evidence(lambda v: v["scoring"].update(network_cut=False)), "claim.compliance"),
    "results swapped": (swapped(f"result_seed{A}.json", f"result_seed{B}.json"), "seed.number"),
    "metrics swapped": (swapped(f"metrics_seed{A}.jsonl", f"metrics_seed{B}.jsonl"), "number.metrics"),
    "artifacts swapped": (lambda f: swapped("model.golf", other_artifact(f))(f), "hash.artifact"),
    "another hash of the artifact": (result(A, artifact_sha256="e" * 64), "hash.artifact"),
    "another size of the artifact": (result(A, artifact_bytes=1, total_bytes=1), "size.model"),
    "code and total at odds": (result(A, total_bytes=lambda v: v - 1), "size.total"),
    "other sources": (every_result(sources_sha256="e" * 64), "hash.sources"),
    "fewer steps than its metrics": (result(A, steps=5), "number.metrics"),
    "fewer seconds than its metrics": (result(A, train_seconds=lambda v: v / 2), "number.metrics"),
    "steps out of order": (metrics(A, shuffled), "log.metrics"),
    "a step slower than the clock": (metrics(A, lambda rows: rows[2].update(step_s=9.0)), "log.metrics"),
    "a clock that runs backwards": (metrics(A, lambda rows: rows[2].update(elapsed_s=0.0)), "log.metrics"),
    "trained longer": (slower(A), "budget.train"),
    "a row that would excuse a long run": (
        both(slower(A), metrics(A, lambda rows: rows.append({"step_s": 2000.0}))), "budget.train"),
    "calibrated longer than trained": (result(A, calibration_seconds=700.0), "budget.calibration"),
    "scored for too long by the run": (result(A, eval_seconds=700.0), "budget.eval"),
    "scored for too long by the shipped code": (
        evidence(lambda v: v["scoring"]["seconds"].update({str(A): 700.0})), "budget.eval"),
    "too few seeds": (lambda folder: remove_seed(folder, A), "seed.few"),
}  # fmt: skip
FILES: dict[str, tuple[Tamper, str]] = {
    "a statement too many": (statement(award="best"), "evidence.read"),
    "NaN in metrics": (text(f"metrics_seed{A}.jsonl", '"loss": ', '"loss": NaN, "was": '), "evidence.read"),
    "a line of metrics cut": (text(f"metrics_seed{A}.jsonl", '{"step": 4', '\n{"step": 4'), "evidence.read"),
    "a result without its seconds": (
        lambda folder: edit_json(folder / f"result_seed{A}.json", lambda v: v.pop("train_seconds")), "evidence.read"),
    "no target scored": (every_result(val_tokens=0), "evidence.read"),
    "nats below zero": (nats(A, lambda v: -v), "evidence.read"),
    "nats that are objects": (lambda f: np.save(f / f"nats_seed{A}.npy", np.array([{}], object)), "evidence.read"),
    "scoring seconds left out": (evidence(lambda v: v["scoring"]["seconds"].pop(str(A))), "evidence.read"),
    "artifact grown": (added("model.golf", b"\0"), "evidence.read"),
    "an artifact for each seed and one more": (second_artifact, "files.unexpected"),
    "a file named like a seed's": (written("model_seed007.golf", bytes(100)), "files.unexpected"),
    "code in a second file": (written("helper.py", b"x = 1\n"), "files.code"),
    "weights in another file": (written("weights.bin", bytes(999_000)), "size.strict"),
    "a picture of two megabytes": (added("figures/bytes.png", bytes(2 << 20)), "files.figure"),
    "another tokenizer": (added("tokenizer.model", b"\0"), "data.tokenizer"),
    "a requirement left out": (written("requirements.txt", b"numpy==2.4.6\n"), "code.requirements"),
    "a call of the network": (added("train_gpt.py", b"import urllib.request\n"), "code.network"),
    "the artifact missing": (removed("model.golf"), "files.required"),
    "the evidence missing": (removed("evidence.json"), "files.required"),
    "the README missing": (removed("README.md"), "files.wanted"),
    "a log missing": (removed(f"train_seed{A}.log"), "files.required"),
    "a seed's nats missing": (removed(f"nats_seed{A}.npy"), "files.required"),
    "a seed's result missing": (removed(f"result_seed{A}.json"), "files.unexpected"),
    "a link": (linked("notes.txt", "/etc/passwd"), "files.plain"),
}  # fmt: skip
PLAIN: dict[str, tuple[Tamper, str]] = {
    "the claim edited": (claim(lambda v: v.update(blurb="Another.")), "hash.manifest"),
    "a file that the manifest lacks": (written("notes.md", b"hello"), "hash.unlisted"),
    "a way out in the manifest": (manifest(lambda v: v["files"].update({"../../x": {}})), "files.outside"),
    "a file that only the manifest has": (manifest(lambda v: v["files"].update(x={})), "hash.manifest"),
    "a manifest that is none": (written("manifest.json", b"[]"), "schema.manifest"),
    "no manifest": (removed("manifest.json"), "files.required"),
}  # fmt: skip


def test_the_untouched_record_is_valid(record: Path) -> None:
    answer = check(record)
    assert answer.verdict == "valid", answer.findings
    assert {finding["level"] for finding in answer.findings} == {"note"}
    claimed = json.loads((record / "submission.json").read_text())
    assert claimed["hardware"] == MACHINE
    assert answer.measured["bytes_total"] == claimed["bytes_total"]
    assert answer.measured["val_bpb"] == claimed["val_bpb"]


def rules_of(folder: Path) -> set[str]:
    answer = check(folder)
    assert answer.verdict != "valid"
    return set(accusations(answer))


def variants(value: Any) -> Iterator[Any]:
    """The value again and again, each time with another single value in it changed."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            for changed in variants(inner):
                copy = value.copy()
                copy[key] = changed
                yield copy
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    else:
        yield f"{value} and more"


@pytest.mark.parametrize("key", KEYS)
def test_every_value_of_the_claim_is_held_to_the_evidence(record: Path, tmp_path: Path, key: str) -> None:
    folder = copied(record, tmp_path)
    opened = open_record(Folder(folder))
    values = json.loads((folder / "submission.json").read_text())
    for changed in variants(values[key]):
        (folder / "submission.json").write_text(json.dumps({**values, key: changed}))
        assert f"claim.{key}" in {finding.rule for finding in check_claim(opened)}, changed
    resign(folder)
    assert f"claim.{key}" in rules_of(folder)


@pytest.mark.parametrize(("tamper", "rule"), [*CLAIM.values(), *FILES.values()], ids=[*CLAIM, *FILES])
def test_a_forgery_is_named(record: Path, tmp_path: Path, tamper: Tamper, rule: str) -> None:
    folder = copied(record, tmp_path)
    tamper(folder)
    resign(folder)
    assert rule in rules_of(folder)


@pytest.mark.parametrize(("tamper", "rule"), EVIDENCE.values(), ids=EVIDENCE)
def test_forged_evidence_is_named_if_the_claim_follows(record: Path, tmp_path: Path, tamper: Tamper, rule: str) -> None:
    folder = copied(record, tmp_path)
    tamper(folder)
    try:
        renew(folder)
    except BadInput:
        resign(folder)
    assert rule in rules_of(folder)


@pytest.mark.parametrize(("tamper", "rule"), PLAIN.values(), ids=PLAIN)
def test_a_tamper_that_leaves_the_manifest_is_named(record: Path, tmp_path: Path, tamper: Tamper, rule: str) -> None:
    folder = copied(record, tmp_path)
    tamper(folder)
    assert rule in rules_of(folder)


def test_one_seed_is_enough_where_the_track_is_not_ranked(single: Path) -> None:
    answer = check(single)
    assert answer.verdict == "valid", answer.findings


def test_a_pipe_is_refused_and_not_waited_for(record: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    (folder / "model.golf").unlink()
    os.mkfifo(folder / "model.golf")
    assert "files.plain" in rules_of(folder)
