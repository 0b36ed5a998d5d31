"""tools/verify/measured*.py and corpora.py: an honest record passes in every mode, each lie is named."""

import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.check import count_tokens
from data.dataset import Dataset, open_dataset
from data.overlap import find_overlap
from data.tokenizer_training import train_tokenizer
from engine.device import Device
from eval.codec import compress
from model.gpt import GPT
from quant.unpack import Artifact, from_bytes
from tests.conftest import make_text, prep
from tests.tools.measured_record import (
    CONTEXT,
    STRIDE,
    VOCAB,
    make_artifact,
    make_dataset,
    run_config,
    true_bpb,
    with_result,
    write_record,
)
from tools.verify.corpora import data_findings, find_dataset, withheld
from tools.verify.measured import measured_findings
from tools.verify.measured_artifact import LONGEST_CONTEXT, open_artifacts, too_dear
from tools.verify.measured_probes import codec_sample, probed
from tools.verify.measured_score import SAME_KIND, Estimate, Rule, compared, rough_ground, sampled_score, whole_score
from tools.verify.record import Options, Record
from tools.verify.verdict import Finding, verdict

CPU = Device(torch.device("cpu"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("measured"))


def rules(findings: Sequence[Finding], *levels: str) -> set[str]:
    return {finding.rule for finding in findings if finding.level in levels}


def measure(record: Record, **options: Any) -> list[Finding]:
    return list(measured_findings(record, Options(**options)))


@pytest.mark.parametrize(
    ("sample", "seeds"), [(False, (7,)), (True, (7,)), pytest.param(False, (7, 8, 9), marks=pytest.mark.slow)]
)
def test_an_honest_record_passes(sample: bool, seeds: tuple[int, ...], dataset: Dataset, tmp_path: Path) -> None:
    findings = measure(write_record(tmp_path / "r", dataset, seeds), sample=sample, data=dataset.path)
    assert verdict(findings) == "valid", findings
    notes = [finding.rule for finding in findings]
    each = ("score.measured", "probe.measured", "codec.measured")
    assert all(notes.count(rule) == len(seeds) for rule in each), notes
    assert "data.measured" in notes


# -- artifacts ------------------------------------------------------------------------------------------------------


def opened(record: Record) -> list[Finding]:
    return open_artifacts(record)[1]


def test_an_honest_artifact_says_nothing(dataset: Dataset, tmp_path: Path) -> None:
    assert opened(write_record(tmp_path / "r", dataset, (1, 2))) == []


def test_another_models_artifact_under_the_claimed_hash_is_found(dataset: Dataset, tmp_path: Path) -> None:
    other = make_artifact(dataset, run_config(dataset, 1), 99)
    record = write_record(tmp_path / "r", dataset, files={"model.golf": other})
    assert "artifact.sha256" in rules(opened(record), "invalid")


def test_an_artifact_with_another_tokenizer_is_found(dataset: Dataset, tmp_path: Path) -> None:
    texts = [make_text(seed, 50) for seed in range(200, 260)]
    other = train_tokenizer(texts, VOCAB)
    assert other.model != dataset.tokenizer.model
    swapped = make_artifact(dataset, run_config(dataset, 1), 1, other.model)
    record = write_record(tmp_path / "r", dataset, files={"model.golf": swapped})
    assert "artifact.tokenizer" in rules(opened(record), "invalid")


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("artifact.params", {"params": 12345}),
        ("artifact.rule", {"stride": STRIDE // 2}),
        ("artifact.rule", {"context": CONTEXT * 2}),
    ],
)
def test_a_claim_that_the_artifact_contradicts_is_found(
    rule: str, changes: dict[str, Any], dataset: Dataset, tmp_path: Path
) -> None:
    def edit(submission: Any) -> Any:
        if "params" in changes:
            return replace(submission, **changes)
        return replace(submission, evaluation=replace(submission.evaluation, **changes))

    assert rules(opened(write_record(tmp_path / "r", dataset, edit=edit)), "invalid") == {rule}


def test_no_forged_artifact_makes_it_crash(dataset: Dataset, tmp_path: Path) -> None:
    honest = make_artifact(dataset, run_config(dataset, 1), 1)
    header = honest.replace(b"GOLF\x02\x00", b"GOLF\x02\x00\xff\xff\xff\x7f", 1)
    forged = [b"", b"GOLF", honest[:100], honest[:-1], header, honest[: len(honest) // 2], flip(honest)]
    for number, data in enumerate(forged):
        findings = opened(write_record(tmp_path / str(number), dataset, files={"model.golf": data}))
        assert "artifact.open" in rules(findings, "invalid"), number


def flip(data: bytes) -> bytes:
    return data[:500] + bytes([data[500] ^ 1]) + data[501:]


def test_a_scoring_that_would_take_days_is_not_begun(dataset: Dataset) -> None:
    artifact = from_bytes(make_artifact(dataset, run_config(dataset, 1), 1))
    assert too_dear(artifact, CONTEXT, STRIDE, 10_000) == ""
    assert "a context of" in too_dear(artifact, LONGEST_CONTEXT + 1, STRIDE, 10_000)
    assert "FLOP" in too_dear(artifact, CONTEXT, 1, 10**15)


# -- data -----------------------------------------------------------------------------------------------------------


def test_a_dataset_with_another_validation_side_leaves_it_unverified(dataset: Dataset, tmp_path: Path) -> None:
    other = make_dataset(tmp_path, 0.4)
    record = write_record(tmp_path / "r", dataset)
    findings = measure(record, data=other.path)
    assert rules(findings, "unverified", "invalid") == {"data.other"}


def test_a_dataset_that_lies_here_is_found_by_its_hash(dataset: Dataset, tmp_path: Path) -> None:
    record = write_record(tmp_path / "r", dataset)
    assert record.submission is not None
    tokenizer = record.path / "tokenizer.model"
    found = find_dataset(record.submission.data, tokenizer, None, dataset.path.parent)
    assert isinstance(found, Dataset)
    missing = find_dataset(record.submission.data, tokenizer, None, tmp_path)
    assert isinstance(missing, Finding)
    assert (missing.rule, missing.level) == ("data.missing", "unverified")
    assert "--data DIR" in missing.message


@pytest.fixture
def little_stdlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A standard library of thirty small files; the real one takes as long as all other tests together."""
    folder = tmp_path / "lib"
    folder.mkdir()
    for number in range(120):
        (folder / f"m{number}.py").write_text(f"def f{number}():\n    return {number} * {number}\n" * 5)
    listed = [(path.name, path) for path in sorted(folder.iterdir())]
    monkeypatch.setattr("data.corpus.stdlib_files", lambda: listed)
    return folder


def test_the_standard_library_is_prepared_with_the_records_tokenizer(little_stdlib: Path, tmp_path: Path) -> None:
    prep("stdlib", "--vocab", 300, "--out", tmp_path / "own", "--workers", 1)
    made = open_dataset(tmp_path / "own")
    claimed = claimed_stdlib(tmp_path, made)
    found = find_dataset(claimed, made.path / "tokenizer.model", None, tmp_path / "datasets")
    assert isinstance(found, Dataset)
    assert found.manifest.data_sha256("val") == made.manifest.data_sha256("val")
    again = find_dataset(claimed, made.path / "tokenizer.model", None, tmp_path / "datasets")
    assert isinstance(again, Dataset)
    assert again.path == found.path


def test_another_pythons_library_is_named_with_both_versions(little_stdlib: Path, tmp_path: Path) -> None:
    prep("stdlib", "--vocab", 300, "--out", tmp_path / "own", "--workers", 1)
    made = open_dataset(tmp_path / "own")
    claimed = replace(claimed_stdlib(tmp_path, made), python="3.12.1")
    for path in little_stdlib.iterdir():
        path.write_text(path.read_text() + "# of another version\n")
    found = find_dataset(claimed, made.path / "tokenizer.model", None, tmp_path / "datasets")
    assert isinstance(found, Finding)
    assert (found.rule, found.level) == ("data.python", "unverified")
    assert "needs Python 3.12.1" in found.message
    assert f"of Python {platform.python_version()}" in found.message


def claimed_stdlib(tmp_path: Path, made: Dataset) -> Any:
    record = write_record(tmp_path / "r", make_dataset(tmp_path / "t"))
    assert record.submission is not None
    manifest = made.manifest
    return replace(
        record.submission.data, source="stdlib", sha256=manifest.data_sha256(),
        val_sha256=manifest.data_sha256("val"), tokenizer_sha256=manifest.tokenizer.sha256,
    )  # fmt: skip


def test_totals_that_are_not_the_datasets_are_found(dataset: Dataset, tmp_path: Path) -> None:
    def edit(submission: Any) -> Any:
        inflated = replace(submission.evaluation, val_bytes=submission.evaluation.val_bytes + 100)
        return replace(submission, evaluation=inflated)

    honest, inflated = write_record(tmp_path / "r", dataset), write_record(tmp_path / "s", dataset, edit=edit)
    assert honest.submission is not None
    assert inflated.submission is not None
    assert not rules(list(data_findings(honest.submission, dataset)), "invalid", "unverified", "flag")
    assert rules(list(data_findings(inflated.submission, dataset)), "invalid") == {"data.val_bytes"}


def test_a_training_side_that_holds_a_validation_document_is_found(dataset: Dataset, tmp_path: Path) -> None:
    leaky = leaking(dataset, tmp_path / "leaky")
    record = write_record(tmp_path / "r", leaky)
    assert record.submission is not None
    (found,) = data_findings(record.submission, leaky)
    assert (found.rule, found.level) == ("data.overlap", "invalid")
    assert "training documents are validation documents" in found.message


def leaking(dataset: Dataset, folder: Path) -> Dataset:
    """The dataset with its validation shard as its training shard, too."""
    folder.mkdir()
    manifest = json.loads((dataset.path / "manifest.json").read_text())
    for path in dataset.path.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    train, val = (next(s for s in manifest["shards"] if s["split"] == side) for side in ("train", "val"))
    (folder / train["file"]).write_bytes((folder / val["file"]).read_bytes())
    train |= {key: val[key] for key in ("tokens", "size_bytes", "sha256")}
    manifest["train"] = manifest["val"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_dataset(folder)


def test_a_dataset_to_train_on_has_the_training_side_and_none_of_the_validation_text(
    dataset: Dataset, tmp_path: Path
) -> None:
    found = open_dataset(withheld(dataset, tmp_path))
    assert found.manifest.data_sha256("train") == dataset.manifest.data_sha256("train")
    assert len(dataset.val) <= len(found.val) < 2 * len(dataset.val)
    assert find_overlap(found.documents("val"), dataset.documents("val")) is None
    count_tokens(found)


# -- scores ---------------------------------------------------------------------------------------------------------


def test_a_claim_off_by_a_hundredth_is_found_by_scoring_all(dataset: Dataset) -> None:
    data = make_artifact(dataset, run_config(dataset, 1), 1)
    score, seconds = whole_score(from_bytes(data), dataset, Rule(CONTEXT, STRIDE), CPU)
    found = Estimate(score.bpb, 0.0, score.tokens, seconds)
    truth = true_bpb(dataset, data)
    assert compared(1, truth, found, SAME_KIND).level == "note"
    for claimed in (truth - 0.01, truth + 0.01, truth - 2 * SAME_KIND):
        assert compared(1, claimed, found, SAME_KIND).level == "invalid"
    wrong = compared(1, truth - 0.01, found, SAME_KIND)
    assert wrong.rule == "score.val_bpb"
    assert "-0.010000 off" in wrong.message


def test_a_sample_contradicts_a_claim_beyond_its_error_and_no_other() -> None:
    found = Estimate(1.5, 0.001, 1000, 1.0)
    assert compared(1, 1.5055, found, SAME_KIND).level == "note"
    assert "a claim off by more than 0.00601" in compared(1, 1.4999, found, SAME_KIND).message
    wrong = compared(1, 1.49, found, SAME_KIND)
    assert (wrong.rule, wrong.level) == ("score.sample", "invalid")
    assert "-10.0 standard errors" in wrong.message


@pytest.mark.slow
def test_the_whole_way_finds_a_claim_that_is_off(dataset: Dataset, tmp_path: Path) -> None:
    def edit(submission: Any) -> Any:
        return with_result(submission, 1, val_bpb=submission.seed_results["1"].val_bpb - 0.01)

    findings = measure(write_record(tmp_path / "r", dataset, edit=edit), data=dataset.path)
    assert rules(findings, "invalid") == {"score.val_bpb"}


@pytest.mark.parametrize("other", [1, 2])
def test_a_samples_error_is_what_samples_of_the_record_really_miss_by(other: int, dataset: Dataset) -> None:
    """Over many draws, misses in units of the stated error have a spread near one, and the mean is the truth."""
    first, data = (make_artifact(dataset, run_config(dataset, 1), weights) for weights in (1, other))
    artifact, truth = from_bytes(data), true_bpb(dataset, data)
    blocks = (len(dataset.val) - 1) // CONTEXT
    found = [
        sample(from_bytes(first), artifact, dataset, draw, coarse, blocks * CONTEXT // 4)
        for coarse in (1 << 20, blocks * CONTEXT // 2)
        for draw in range(20)
    ]
    z = np.array([(estimate.bpb - truth) / estimate.error_bpb for estimate in found])
    assert abs(z.mean()) < 0.8
    assert 0.3 < z.std() < 1.6
    assert np.abs(z).max() < 5


def sample(first: Artifact, artifact: Artifact, dataset: Dataset, draw: int, coarse: int, fine: int) -> Estimate:
    rule = Rule(CONTEXT, STRIDE)
    ground = rough_ground(first, dataset, rule, CPU, np.random.default_rng(draw), coarse, fine)
    return sampled_score(artifact, ground, rule, CPU)


def test_a_sample_of_everything_is_the_score(dataset: Dataset) -> None:
    first, data = (make_artifact(dataset, run_config(dataset, 1), weights) for weights in (1, 2))
    found = sample(from_bytes(first), from_bytes(data), dataset, 0, 1 << 30, 1 << 30)
    assert found.error_bpb == 0
    assert found.bpb == pytest.approx(true_bpb(dataset, data), abs=1e-7)
    assert found.tokens == len(dataset.val) - 1


def test_an_adaptation_that_nobody_knows_is_left_unverified(dataset: Dataset, tmp_path: Path) -> None:
    def edit(submission: Any) -> Any:
        return replace(submission, evaluation=replace(submission.evaluation, adapt="magic"))

    findings = measure(write_record(tmp_path / "r", dataset, edit=edit), data=dataset.path, sample=True)
    assert rules(findings, "unverified", "invalid") == {"score.begun"}


# -- probes and codec -----------------------------------------------------------------------------------------------


def test_a_failed_probe_is_invalid_with_its_counter_example(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model peeks: its logits at each place are moved by the next token, as a leak in a mask would."""
    data = make_artifact(dataset, run_config(dataset, 1), 1)
    (tmp_path / "1.golf").write_bytes(data)
    honest = GPT.trunk

    def peeking(self: GPT, tokens: torch.Tensor, cache: Any = None, last: int | None = None) -> torch.Tensor:
        found = honest(self, tokens, cache, last)
        after = torch.roll(self.embedding(tokens, cache), -1, 1)
        return found + after[:, -found.shape[1] :]

    assert not rules(list(probed(1, tmp_path / "1.golf", dataset, "")), "invalid", "unverified", "flag")
    monkeypatch.setattr(GPT, "trunk", peeking)
    findings = list(probed(1, tmp_path / "1.golf", dataset, ""))
    assert "probe.flip" in rules(findings, "invalid")
    assert "with token" in next(finding for finding in findings if finding.rule == "probe.flip").message


def test_a_code_longer_than_the_models_word_is_found(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_artifact(dataset, run_config(dataset, 1), 1)
    path, artifact = tmp_path / "1.golf", from_bytes(data)
    path.write_bytes(data)

    def boasting(*args: Any) -> tuple[bytes, float]:
        coded, nats = compress(*args)
        return coded, nats * 0.9

    monkeypatch.setattr("tools.verify.measured_probes.compress", boasting)
    (found,) = codec_sample(1, path, artifact, dataset, np.random.default_rng(0))
    assert (found.rule, found.level) == ("codec.length", "invalid")


def test_a_decoder_that_fails_accuses_nobody(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process whose forecasts differ: here, one that is given another artifact."""
    data = make_artifact(dataset, run_config(dataset, 1), 1)
    path = tmp_path / "1.golf"
    path.write_bytes(make_artifact(dataset, run_config(dataset, 1), 2))
    (found,) = codec_sample(1, path, from_bytes(data), dataset, np.random.default_rng(0))
    assert (found.rule, found.level) == ("codec.decodes", "unverified")
    assert "compressed with the artifact" in found.message
