"""tools/record's pure parts: the preset a run comes from, what makes its data, what the contest misses."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.config import Layer, build, load
from data.build import Recipe
from data.manifest import Manifest, read_manifest
from data.prep import parser as prep_parser
from tests.conftest import prep
from tests.tools.conftest import record
from tools.record.contest import misses, pull_request
from tools.record.describe import DEFAULTS, dataset_name, nearest_preset, neutral, prep_command, public_source
from tools.record.markdown import table, value
from tools.record.runs import differences, flat
from tools.record.schema import Submission
from tools.record.tracks import load_tracks
from train_gpt import RunConfig

ROOT = Path(__file__).parents[2]


def test_a_run_is_told_from_its_nearest_preset_by_what_it_changes() -> None:
    config = load(RunConfig, ROOT / "configs" / "cpu10.yaml", ["seed=5", "data.path=/x/y", "optim.warmdown=0.5"])
    assert nearest_preset(config) == ("configs/cpu10.yaml", {"optim.warmdown": [0.6, 0.5]})
    assert nearest_preset(RunConfig(seed=3)) == (DEFAULTS, {})


def test_only_seed_and_data_path_are_no_difference() -> None:
    one = load(RunConfig, None, ["seed=1", "data.path=a"])
    assert differences(one, load(RunConfig, None, ["seed=2", "data.path=b"])) == {}
    assert differences(one, load(RunConfig, None, ["model.dim=512"])) == {"model.dim": (256, 512)}
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_no_folder_of_this_machine_gets_into_a_record() -> None:
    assert neutral(load(RunConfig, None, ["data.path=/home/me/sets/mine"])).data.path == "data/datasets/mine"
    assert neutral(load(RunConfig, None, ["data.path=sets/mine"])).data.path == "sets/mine"


@pytest.fixture(scope="module")
def manifest(jsonl: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("prepared") / "dataset"
    prep(jsonl, "--vocab", 400, "--val-fraction", 0.2, "--out", out, "--workers", 1)
    return read_manifest(out)


@given(
    vocab=st.sampled_from([400, 1024]),
    val_fraction=st.sampled_from([0.05, 0.01, 0.2]),
    split=st.sampled_from(["hash", "tail"]),
    skip_bad=st.booleans(),
)
def test_the_command_that_is_told_makes_the_dataset_that_was_asked_for(manifest: Manifest, **asked: Any) -> None:
    recipe = Recipe(**asked)
    tokenizer = replace(manifest.tokenizer, vocab_size=recipe.vocab)
    told = replace(manifest, request={**vars(recipe), "corpus": "…", "tokenizer": None}, tokenizer=tokenizer)
    program, flag, module, *words = shlex.split(prep_command(told, "some where"))
    parsed = prep_parser().parse_args(words)
    assert (program, flag, module, parsed.source, parsed.out) == (
        "python", "-m", "data.prep", "texts.jsonl", "some where",
    )  # fmt: skip
    for name, wanted in vars(recipe).items():
        assert getattr(parsed, name) == wanted, name


def test_datasets_have_names_that_a_table_can_use(manifest: Manifest) -> None:
    assert (dataset_name(manifest, "3.11.7"), public_source(manifest)) == ("texts-400", "texts.jsonl")
    assert dataset_name(replace(manifest, source="stdlib"), "3.11.7") == "stdlib-3.11.7"
    hub = replace(manifest, source="hf:owner/name@abc:*.parquet")
    assert (dataset_name(hub, ""), public_source(hub)) == ("name-400", "hf:owner/name@abc:*.parquet")
    contest = replace(manifest, request={}, source="hf:willdepueoai/parameter-golf@abc")
    assert dataset_name(contest, "") == "fineweb10B-sp400"
    assert prep_command(contest, "x") == "python -m data.contest --variant sp400 --train-shards 1"


def test_values_are_spelled_as_in_a_config() -> None:
    assert [value(given) for given in (True, None, 0.6, 5, "", "on")] == ["true", "null", "0.6", "5", '""', "on"]
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


# -- the contest ----------------------------------------------------------------------------------------------------


def submission(seeds: int, **changes: Any) -> Submission:
    result = {
        "val_bpb": 1.05, "val_loss": 2.7, "pre_quant_val_bpb": 1.04, "steps": 5000, "train_seconds": 590.0,
        "calibration_seconds": 8.0, "eval_seconds": 500.0, "bytes_model": 15_900_000, "artifact": "model.golf",
        "artifact_sha256": "a" * 64, "log": "l", "metrics": "m",
    }  # fmt: skip
    written = {"rule": "written", "holds": True, "p": 0.001, "seeds_needed": 0}
    values = {
        "name": "N", "author": "Ada", "github_id": "ada", "date": "2026-11-21", "blurb": "New.",
        "track": "track_10min_16mb", "track_version": 1, "val_bpb": 1.05, "val_bpb_std": 0.001, "val_loss": 2.7,
        "val_loss_std": 0.002, "seeds": list(range(seeds)), "seed_results": {str(n): result for n in range(seeds)},
        "bytes_total": 15_950_000, "bytes_code": 50_000, "bytes_model": 15_900_000, "bytes_tokenizer": 1,
        "cap_bytes": 16_000_000, "params": 1, "evaluation": {"stride": 64, "context": 2048, "val_tokens": 10,
        "val_bytes": 25, "contest_bytes": 25}, "data": {"name": "fineweb10B-sp1024", "source": "hf:", "sha256": "1",
        "val_sha256": "2", "tokenizer_sha256": "3"}, "hardware": "8 x cuda (NVIDIA H100 80GB HBM3)",
        "pytorch_version": "2.13.0", "python_version": "3.11.7", "compliance": {"scored_without_network": True},
        "notes": {"against": {"bpb": [1.06], "lead_bpb": 0.01, "margin_bpb": 0.002, "verdicts": [written]},
        "limits": {"train_seconds": 600, "calibration_inside": True, "eval_seconds": 600, "seeds": 3}},
    }  # fmt: skip
    made: Submission = build(Submission, [Layer("a test", {**values, **changes})])
    return made


def test_a_record_that_has_all_that_the_contest_asks_for_misses_nothing() -> None:
    track = load_tracks().named("track_10min_16mb")
    assert misses(submission(3), track) == []
    request = pull_request(submission(3), "records/x", [], ranked=True)
    assert request.startswith("Record: N (val_bpb: 1.0500, 3-seed mean)\n")
    assert "missing" not in request


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"hardware": "8 x cuda (NVIDIA H200)"}, "hardware: trained on 8 x cuda (NVIDIA H200); the rule is 8xH100"),
        ({"hardware": "4 x cuda (NVIDIA H100)"}, "hardware: "),
        ({"bytes_total": 16_000_001}, "size: 16,000,001 bytes are over the 16,000,000"),
        ({"github_id": ""}, "who and what: "),
        ({"compliance": {"scored_without_network": False}}, "network: "),
        ({"notes": {}}, "significance: give the best row's score as --against BPB...; the lead must be 0.005 nats"),
    ],
)
def test_what_the_contest_asks_for_and_is_not_there_is_named(changes: dict[str, Any], missed: str) -> None:
    found = misses(submission(3, **changes), load_tracks().named("track_10min_16mb"))
    assert len(found) == 1
    assert found[0].startswith(missed)


def test_too_few_seeds_are_named() -> None:
    assert misses(submission(2), load_tracks().named("track_10min_16mb")) == [
        "seeds: 2; the lead is to be shown on 3",
    ]


def test_seconds_over_the_contests_clocks_are_named() -> None:
    track, whole = load_tracks().named("track_10min_16mb"), submission(3)
    slow = replace(whole.seed_results["0"], calibration_seconds=10.5, eval_seconds=601.0)
    late = replace(whole, seed_results={**whole.seed_results, "0": slow})
    assert misses(late, track) == [
        "training time: 600.5 s with calibration; the budget is 600 s",
        "evaluation time: 601.0 s; the budget is 600 s",
    ]


def test_a_lead_that_is_not_proved_is_named_with_what_it_takes(quick: Path, tmp_path: Path) -> None:
    words = ["--layout", "contest", "--track", "track_10min_16mb", "--against"]
    behind = record(quick, tmp_path / "a", *words, "0.5")
    assert any(miss.startswith("significance: a lead of -") for miss in behind["missing"])
    ahead = record(quick, tmp_path / "b", *words, "50.0")
    assert not any(miss.startswith("significance") for miss in ahead["missing"])


def test_a_non_record_needs_neither_seeds_nor_hardware() -> None:
    track = load_tracks().named("track_non_record_16mb")
    assert misses(submission(1, hardware="1 x cpu (2 threads)", notes={}), track) == []
