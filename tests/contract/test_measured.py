"""The second tier: an honest record passes; a lie on which evidence, claim and hashes agree is found by measuring."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from base.errors import BadInput, CheckFailed
from data.check import count_tokens
from data.dataset import Dataset, open_dataset
from data.overlap import find_overlap
from eval.codec import compress
from eval.protocol import Protocol
from model.gpt import GPT
from quant.unpack import from_bytes, open_artifact
from tests.records import QUICK, SEEDS, accusations, check, copied, edit_json, edit_result, renew, seed_of
from tests.runs import CPU, prep, small
from tools.record.claim import open_record
from tools.verify import measure
from tools.verify.datasets import check_data, find_dataset, withhold_validation
from tools.verify.folder import Folder
from tools.verify.verdict import Finding
from train_gpt import train_pack_score


def forge(folder: Path, **changed: Any) -> None:
    """Change the result of the one seed, then claim, page and hashes with it."""
    edit_result(folder / f"result_seed{seed_of(folder)}.json", **changed)
    renew(folder)


def found_in(folder: Path, data: Path, *words: str) -> dict[str, str]:
    """What the second tier accuses a folder of that the first finds nothing in."""
    assert accusations(check(folder)) == {}
    return accusations(check(folder, "--data", str(data), *words))


# -- honest records -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_honest_seeds_pass_the_sample_and_the_verdict_is_kept(record: Path, data: Path, tmp_path: Path) -> None:
    folder = copied(record, tmp_path)
    answer = check(folder, "--data", str(data), "--sample", "--keep")
    assert (answer.verdict, answer.tier) == ("valid", "sample"), answer.findings
    rules = [finding["rule"] for finding in answer.findings]
    assert [rules.count(rule) for rule in ("score.measured", "probe.measured", "codec.measured")] == [3, 3, 1]
    kept = json.loads((folder.parents[1] / "verdicts.json").read_text())[f"{folder.parent.name}/{folder.name}"]
    assert (kept["verdict"], kept["tier"], kept["record_sha256"]) == ("valid", "sample", answer.record_sha256)
    assert kept["measured"][f"score_seed{SEEDS[0]}"]["wrong"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_an_honest_record_passes_the_complete_score_on_one_rank_and_on_several(
    single: Path, data: Path, monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    monkeypatch.setattr("tools.verify.measure.scoring_ranks", lambda adapt: ranks)
    answer = check(single, "--data", str(data))
    assert (answer.verdict, answer.tier) == ("valid", "whole"), answer.findings
    measured = answer.measured[f"score_seed{seed_of(single)}"]
    assert measured["blocks"] == measured["of"] == len(np.load(next(single.glob("nats_seed*.npy"))))
    assert "data.measured" in {finding["rule"] for finding in answer.findings}


# -- lies that only a measurement finds -----------------------------------------------------------------------------


def one_smaller_block(folder: Path) -> None:
    path = next(folder.glob("nats_seed*.npy"))
    nats = np.load(path)
    share = 1 - 1 / nats.sum()
    nats[1] -= 1.0
    np.save(path, nats)
    forge(folder, val_bpb=lambda v: v * share, val_nats_per_token=lambda v: v * share)


def more_bytes(folder: Path) -> None:
    size = json.loads((folder / "submission.json").read_text())["evaluation"]["val_bytes"]
    share = size / (size + 1000)
    forge(folder, val_bytes=size + 1000, val_bpb=lambda v: v * share, float_bpb=lambda v: v * share)


def other_parameters(folder: Path) -> None:
    forge(folder, params=12_345)


LIES = {more_bytes: "data.val_bytes", other_parameters: "artifact.params", one_smaller_block: "score.val_bpb"}


@pytest.mark.usefixtures("scores_only")
def test_forged_evidence_with_all_that_follows_from_it_is_measured(single: Path, data: Path, tmp_path: Path) -> None:
    for lie, rule in LIES.items():
        folder = copied(single, tmp_path / lie.__name__)
        lie(folder)
        for words in ([], ["--sample"]):
            assert found_in(folder, data, *words) == {rule: "invalid"}
    assert "targets 4,096 to 8,192: " in str(check(folder, "--data", str(data)).findings)


@pytest.mark.usefixtures("scores_only")
def test_a_swapped_artifact_is_found(single: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied(single, tmp_path)
    (tmp_path / "data").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    other = train_pack_score(small(*QUICK, f"seed={seed_of(folder)}", "train.steps=1"), "other", CPU)
    shutil.copyfile(other.artifact, folder / "model.golf")
    sha256, size = other.artifact_sha256, other.artifact_bytes
    more = size - (single / "model.golf").stat().st_size
    forge(folder, artifact_sha256=sha256, artifact_bytes=size, total_bytes=lambda total: total + more)
    assert found_in(folder, data, "--sample") == {"score.val_bpb": "invalid"}


@pytest.mark.slow
def test_a_model_that_peeks_fails_the_probes(single: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest: Callable[..., torch.Tensor] = GPT.trunk

    def peeking(self: GPT, tokens: torch.Tensor, cache: Any = None, last: int | None = None) -> torch.Tensor:
        found = honest(self, tokens, cache, last)
        return found + torch.roll(self.embedding(tokens, cache), -1, 1)[:, -found.shape[1] :]

    monkeypatch.setattr(GPT, "trunk", peeking)
    artifact = (single / "model.golf").read_bytes()
    failed = {found.rule: found for found in measure.check_probes(7, artifact, open_dataset(data))}
    assert failed["probe.flip"].level == "invalid"
    assert "with token" in failed["probe.flip"].message


@pytest.mark.usefixtures("scores_only")
def test_an_unmeasured_score_accuses_of_nan_alone(single: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    causes = {
        BadInput("too little text"): ("score.begun", "unverified"),
        MemoryError("no room"): ("score.begun", "unverified"),
        torch.OutOfMemoryError("no room"): ("score.begun", "unverified"),
        CheckFailed("a loss is NaN"): ("score.losses", "invalid"),
    }
    for cause, (rule, level) in causes.items():
        monkeypatch.setattr("tools.verify.measure.score", Mock(side_effect=cause))
        assert accusations(check(single, "--data", str(data))) == {rule: level}


def test_the_codec_gives_the_text_back_at_the_models_own_length(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, text = (single / "model.golf").read_bytes(), b"def return self. model byte score " * 20
    assert measure.check_codec(7, artifact, text, "off").rule == "codec.measured"
    coded, nats = compress(from_bytes(artifact), text)
    for value, expected in (
        ((coded, nats * 0.5), ("codec.length", "invalid")),
        ((coded[:-9], nats), ("codec.decodes", "unverified")),  # a decoder that fails accuses nobody
    ):
        monkeypatch.setattr("tools.verify.measure.compress", Mock(return_value=value))
        found = measure.check_codec(7, artifact, text, "mix")
        assert (found.rule, found.level) == expected


# -- blocks ---------------------------------------------------------------------------------------------------------


def test_blocks_agree_within_rounding_and_a_sample_states_what_it_can_miss(single: Path) -> None:
    opened = open_record(Folder(single))
    seed = replace(opened.evidence.seeds[0], block_nats=np.full(40, 1e4))
    same = measure.SAME_KIND

    def compared(*nats: float) -> Finding:
        return measure.compare_blocks(seed, np.arange(20), np.array(nats), same)

    assert compared(*[1e4 * (1 + 0.9 * same)] * 20).level == "note"
    assert compared(*[1e4 * (1 + 1.1 * same)] * 20).level == "invalid"
    assert compared(*[1e4] * 19).rule == "score.blocks"
    assert "probability 0.12" in compared(*[1e4] * 20).message
    assert measure.tolerance(opened, CPU) == same
    on_gpu = replace(seed, result=replace(seed.result, device="8 x cuda (NVIDIA H100)"))
    there = replace(opened, evidence=replace(opened.evidence, seeds=(on_gpu,)))
    in_bf16 = replace(opened.claim, evaluation=replace(opened.claim.evaluation, precision="bf16"))
    for other in (there, replace(opened, claim=in_bf16)):
        assert measure.tolerance(other, CPU) == measure.OTHER_KIND


def test_the_sample_is_drawn_by_the_finished_record(single: Path, tmp_path: Path) -> None:
    folder = copied(single, tmp_path)
    seed = replace(open_record(Folder(folder)).evidence.seeds[0], block_nats=np.ones(10_000))
    drawn = measure.drawn_blocks(open_record(Folder(folder)), seed)
    assert len(set(drawn.tolist())) == 32
    assert (drawn == measure.drawn_blocks(open_record(Folder(folder)), seed)).all()
    edit_json(folder / "evidence.json", lambda values: values["statement"].update(blurb="Another."))
    renew(folder)
    assert (drawn != measure.drawn_blocks(open_record(Folder(folder)), seed)).any()


def test_a_score_that_would_take_days_is_not_begun(single: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, dataset = open_artifact(single / "model.golf"), open_dataset(data)
    measure.require_scorable(artifact, dataset, Protocol(32, 16))
    with pytest.raises(BadInput, match="would leave targets out"):
        measure.require_scorable(artifact, dataset, Protocol(32, 33))
    with pytest.raises(BadInput, match="a context of"):
        measure.require_scorable(artifact, dataset, Protocol(measure.LONGEST_CONTEXT + 1, 16))
    monkeypatch.setattr("tools.verify.measure.MOST_FLOPS", 1e3)
    with pytest.raises(BadInput, match="FLOP"):
        measure.require_scorable(artifact, dataset, Protocol(32, 16))


# -- data -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("scores_only")
def test_other_data_are_unverified(single: Path, jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prep(jsonl, "--vocab", 380, "--val-fraction", 0.2, "--out", tmp_path / "other", "--workers", 1)
    assert found_in(single, tmp_path / "other") == {"data.other": "unverified"}
    monkeypatch.chdir(tmp_path)
    missing = find_dataset(open_record(Folder(single)).claim.data, None)
    assert isinstance(missing, Finding)
    assert missing.rule == "data.missing"
    assert "python -m data.prep texts.jsonl" in missing.message


def test_the_dataset_of_a_record_is_found_by_its_hash(single: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{}")
    shutil.copytree(data, tmp_path / "mine")
    found = find_dataset(open_record(Folder(single)).claim.data, None, tmp_path)
    assert isinstance(found, Dataset)
    assert found.path == tmp_path / "mine"


def test_a_training_side_that_holds_validation_documents_is_found(single: Path, data: Path, tmp_path: Path) -> None:
    leaky = leaking(data, tmp_path / "leaky")
    claim = open_record(Folder(single)).claim
    assert [found.rule for found in check_data(claim, leaky)] == ["data.train"]  # which is not the record's
    claim = replace(claim, data=replace(claim.data, sha256=leaky.manifest.data_sha256(), val_text_sha256="other"))
    text, found = check_data(claim, leaky)
    assert (text.rule, text.level) == ("data.text", "invalid")
    assert (found.rule, found.level) == ("data.overlap", "invalid")
    claim = replace(claim, data=replace(claim.data, val_text_sha256=leaky.manifest.val.documents_sha256 or ""))
    admitted = replace(leaky, manifest=replace(leaky.manifest, shared_documents=found.evidence["documents"]))
    assert [found.level for found in check_data(claim, admitted)] == ["flag"]


def leaking(data: Path, folder: Path) -> Dataset:
    """The dataset with its validation shard as its training shard, too."""
    shutil.copytree(data, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    train, val = (next(s for s in manifest["shards"] if s["split"] == side) for side in ("train", "val"))
    shutil.copyfile(folder / val["file"], folder / train["file"])
    train |= {key: val[key] for key in ("tokens", "size_bytes", "sha256")}
    manifest["train"] = manifest["val"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_dataset(folder)


def test_a_dataset_to_train_on_holds_none_of_the_validation_text(data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(data)
    found = open_dataset(withhold_validation(dataset, tmp_path))
    assert found.manifest.data_sha256("train") == dataset.manifest.data_sha256("train")
    assert len(dataset.val) <= len(found.val) < 2 * len(dataset.val)
    assert find_overlap(found.documents("val"), dataset.documents("val")) is None
    for side in ("train", "val"):
        count_tokens(found, side)
