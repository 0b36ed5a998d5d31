"""A record whose score adapts, in bf16: all of it says so, it is measured as it says, and nothing else passes."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.dataset import open_dataset
from eval.probe import artifact_scorer
from quant.unpack import open_artifact
from tests import records
from tests.records import accusations, check, copied, edit_json, edit_result, renew, resign
from tests.runs import CPU, make_dataset, small
from tools.record.__main__ import act, parser
from train_gpt import train_pack_score

SENTENCE = "The score adapts (mix, streams 1, trees 1): each target is scored first, then learned from."


@pytest.fixture(scope="module")
def data(jsonl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapted") / "data"
    make_dataset(jsonl, folder)
    return folder


@pytest.fixture(scope="module")
def adapted(data: Path) -> Path:
    """A valid record of one seed, never written to."""
    root = data.parent
    config = small(*records.QUICK, "seed=7", "eval.adapt.kind=mix", "eval.adapt.table_bits=14", "eval.precision=bf16")
    with contextlib.chdir(root), pytest.MonkeyPatch.context() as patch:
        records.make_quick(patch)
        run = train_pack_score(config, "seed7", CPU).run
        records.set_machine(Path(run), step_s=0.007)
        words = ["--track", "track_non_record_16mb", "--name", "Adapting", "--date", "2026-12-01", "-o", "records"]
        return root / act(parser().parse_args([run, *words]))["path"]


def claimed(folder: Path) -> Any:
    return json.loads((folder / "submission.json").read_text())


def test_claim_page_and_report_name_the_adaptation(adapted: Path) -> None:
    answer = check(adapted)
    assert answer.verdict == "valid", answer.findings
    assert "the score adapts: mix, streams 1, trees 1" in {found["message"] for found in answer.findings}
    claim = claimed(adapted)
    assert claim["evaluation"]["adapt"] == {"kind": "mix", "streams": 1, "trees": 1}
    assert claim["evaluation"]["precision"] == claim["config"]["eval"]["precision"] == "bf16"
    assert claim["technique_summary"].endswith("; learns from what is scored: mix")
    page = (adapted / "README.md").read_text()
    assert SENTENCE in page
    assert "Matrix products are computed in bf16 (autocast)" in page
    assert "learns nothing" not in page
    result = json.loads((adapted / "result_seed7.json").read_text())
    assert result["adapt"] == "mix"
    assert claim["val_bpb"] == pytest.approx(result["val_bpb"], rel=1e-9)
    assert result["val_bpb"] < result["float_bpb"] - 0.1  # which is plain


@pytest.mark.usefixtures("scores_only")
def test_it_is_scored_again_as_it_adapts_complete_or_sampled(adapted: Path, data: Path, tmp_path: Path) -> None:
    forged = copied(adapted, tmp_path)
    nats = np.load(forged / "nats_seed7.npy")
    np.save(forged / "nats_seed7.npy", nats * 0.99)
    edit_result(forged / "result_seed7.json", val_bpb=lambda v: v * 0.99, val_nats_per_token=lambda v: v * 0.99)
    renew(forged)
    sampled = "1 of 2 blocks cost what is shipped, in bf16, to 0.001; they"
    for words, message in (([], "2 of 2 blocks"), (["--sample"], sampled)):
        answer = check(adapted, "--data", str(data), *words)
        assert answer.verdict == "valid", answer.findings
        assert message in " ".join(found["message"] for found in answer.findings)
        assert accusations(check(forged, "--data", str(data), *words)) == {"score.val_bpb": "invalid"}


def test_another_adaptation_than_the_artifacts_is_named(adapted: Path, record: Path, tmp_path: Path) -> None:
    mix = {"kind": "mix", "streams": 1, "trees": 1}
    claims = (
        (adapted, mix | {"kind": "lora"}, "adapt.kind is lora, but the evidence gives mix"),
        (adapted, mix | {"streams": 2}, "adapt.streams is 2, but the evidence gives 1"),
        (adapted, None, "adapt is None, but the evidence gives"),
        (record, mix, f"adapt is {mix}, but the evidence gives (absent)"),
    )
    for number, (honest, adapt, message) in enumerate(claims):
        folder = copied(honest, tmp_path / str(number))
        edit_json(folder / "submission.json", lambda values, adapt=adapt: values["evaluation"].update(adapt=adapt))
        resign(folder)
        answer = check(folder)
        assert accusations(answer) == {"claim.evaluation": "invalid"}
        assert message in " ".join(found["message"] for found in answer.findings)
    for key, value in (("adapt", "off"), ("precision", "fp32")):
        folder = copied(adapted, tmp_path / key)
        edit_result(folder / "result_seed7.json", **{key: value})
        renew(folder)
        assert accusations(check(folder)) == {"evidence.rule": "invalid"}


def test_the_probes_probe_the_scorer_that_adapts(adapted: Path, data: Path) -> None:
    path, dataset = adapted / "model.golf", open_dataset(data)
    assert artifact_scorer("a name", open_artifact(path), dataset)[0].endswith("adapt mix")
    tokens = dataset.val.read(0, 400).astype(np.int64)
    own, off = (
        artifact_scorer("a name", open_artifact(path), dataset, kind)[1].score(tokens).nats for kind in (None, "off")
    )
    assert own.sum() < off.sum() - 1


@pytest.mark.slow
def test_it_passes_a_sample_with_probes_and_codec(adapted: Path, data: Path) -> None:
    answer = check(adapted, "--data", str(data), "--sample")
    assert (answer.verdict, answer.tier) == ("valid", "sample"), answer.findings
