"""tools/record/claim.py: three tiny records whose submission.json is computed by hand and written out here."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from base.config import to_dict
from base.run_folder import RunResult
from model.config import ModelConfig
from quant.format import ArtifactHeader, Contents
from tools.record.claim import budgeted_seconds, claim, median_seed
from tools.record.evidence import Evidence, SeedEvidence
from tools.record.page import page
from tools.record.schema import Data, EvidenceFile, Scoring, Statement, Submission, Track
from tools.verify.track_rules import check_budget

LN2 = math.log(2)
CONFIG = {"seed": 1, "model": {"layers": 2}, "data": {"path": "/home/ada/sets/words", "order": "shuffled"}}
DATA = Data(
    name="words-400",
    source="words.txt",
    prep="python -m data.prep words.txt --vocab 400 --out data/datasets/words",
    val_documents=3,
    shared_documents=0,
    sha256="d",
    val_sha256="v",
    tokenizer_sha256="t",
)
TRACK = Track(
    title="Test",
    hardware="any",
    device="any",
    devices=0,
    cap_bytes=1000,
    train_seconds=10.0,
    calibration="inside",
    eval_seconds=5.0,
    data="any",
    ranked=True,
    seeds=3,
    margin_nats=0.005,
    p=0.01,
    name="track_test",
)


def seed_evidence(
    seed: int, bits: float, artifact: str, artifact_bytes: int, train_seconds: float = 8.0, bundle_sha256: str = "c"
) -> SeedEvidence:
    """A run of 8,000 targets in 20,000 bytes that costs so many bits in all, two thirds of them in its first block."""
    result = RunResult(
        run="/somewhere",
        params=77,
        steps=4,
        train_seconds=train_seconds,
        tokens_per_second=1.0,
        float_bpb=1.25,
        float_nats_per_token=2.0,
        val_bpb=bits / 20_000,
        val_nats_per_token=bits * LN2 / 8000,
        val_tokens=8000,
        val_bytes=20_000,
        contest_bytes=20_100,
        artifact="/somewhere/model.golf",
        artifact_sha256=f"a{seed}",
        artifact_bytes=artifact_bytes,
        code_bytes=50,
        total_bytes=50 + artifact_bytes,
        calibration_seconds=1.0,
        eval_seconds=2.0,
        seed=seed,
        stride=64,
        context=256,
        data_sha256="d",
        val_sha256="v",
        tokenizer_sha256="t",
        sources_sha256="s",
        bundle_sha256=bundle_sha256,
        device="1 x cpu (2 threads)",
        torch="2.13.0",
        python="3.11.7",
        peak_memory_bytes=1,
    )
    header = ArtifactHeader(ModelConfig(), CONFIG | {"seed": seed}, "d", "t", 256, 64, 256, "/home/ada/sets/words")
    metrics = [
        {"step": n, "loss": 3.0, "elapsed_s": train_seconds * n / 4, "step_s": train_seconds / 4} for n in (1, 4)
    ]
    nats = np.array([bits * LN2 * 2 / 3, bits * LN2 / 3])
    return SeedEvidence(
        seed, result, metrics, nats, artifact, artifact_bytes, f"a{seed}", Contents(header, b"", [], {"tokenizer": 9})
    )


def evidence(*seeds: SeedEvidence, against: tuple[float, ...] = (), network_cut: bool = True) -> Evidence:
    file = EvidenceFile(
        statement=Statement(name="Tiny", date="2026-11-21", track="track_test", track_version=1, against=against),
        data=DATA,
        scoring=Scoring(seconds={str(seed.seed): 3.5 for seed in seeds}, network_cut=network_cut, platform="Linux"),
    )
    return Evidence(file, seeds, code_bytes=50, code_sha256="c", tokenizer_bytes=12, tokenizer_sha256="t")


def require(found: Submission, **expected: Any) -> None:
    """These values of the claim, and what all claims here have in common."""
    config = {**CONFIG, "data": {"path": "data/datasets/words", "order": "shuffled"}}
    expected |= {"bytes_code": 50, "bytes_tokenizer": 12, "params": 77, "config": config, "data": to_dict(DATA)}
    values = to_dict(found)
    assert {key: values[key] for key in expected} == expected


def seed_result(bpb: float, loss: float, artifact: str, size: int, sha256: str, seconds: float = 8.0) -> dict[str, Any]:
    return {
        "val_bpb": pytest.approx(bpb, rel=1e-12),
        "val_loss": pytest.approx(loss, rel=1e-12),
        "pre_quant_val_bpb": 1.25,
        "steps": 4,
        "train_seconds": seconds,
        "calibration_seconds": 1.0,
        "eval_seconds": 3.5,
        "bytes_model": size,
        "artifact": artifact,
        "artifact_sha256": sha256,
    }


RULES = "bytes_within_cap training_within_limit evaluation_within_limit enough_seeds scored_without_network"
KEPT = dict.fromkeys([*RULES.split(), "tokenizer_in_artifact", "no_document_on_both_sides"], True)


def test_three_seeds_that_keep_every_rule() -> None:
    found = claim(
        evidence(
            seed_evidence(1, 26_000, "model.golf", 700),
            seed_evidence(2, 28_000, "model_seed2.golf", 720),
            seed_evidence(3, 24_000, "model_seed3.golf", 650),
        ),
        TRACK,
    )
    require(
        found,
        val_bpb=pytest.approx(1.3, rel=1e-12),  # (1.3 + 1.4 + 1.2) / 3
        val_bpb_std=pytest.approx(0.1, rel=1e-12),
        val_loss=pytest.approx(3.25 * LN2, rel=1e-12),  # 26,000 bits over 8,000 targets
        val_loss_std=pytest.approx(0.25 * LN2, rel=1e-12),
        seeds=[1, 2, 3],
        seed_results={
            "1": seed_result(1.3, 3.25 * LN2, "model.golf", 700, "a1"),
            "2": seed_result(1.4, 3.5 * LN2, "model_seed2.golf", 720, "a2"),
            "3": seed_result(1.2, 3.0 * LN2, "model_seed3.golf", 650, "a3"),
        },
        median_seed=1,
        bytes_total=770,
        bytes_model=720,
        against={},
        code={"sha256": "c", "sources_sha256": "s", "trained": True},
        compliance=KEPT,
    )


def test_one_seed_that_breaks_rules_and_did_not_run_the_shipped_file() -> None:
    slow = seed_evidence(1, 30_000, "model.golf", 990, train_seconds=12.0, bundle_sha256="")
    found = claim(evidence(slow, network_cut=False), TRACK)
    require(
        found,
        val_bpb=pytest.approx(1.5, rel=1e-12),
        val_bpb_std=None,
        val_loss=pytest.approx(3.75 * LN2, rel=1e-12),
        val_loss_std=None,
        seeds=[1],
        seed_results={"1": seed_result(1.5, 3.75 * LN2, "model.golf", 990, "a1", 12.0)},
        median_seed=1,
        bytes_total=1040,  # 40 over the cap
        bytes_model=990,
        code={"sha256": "c", "sources_sha256": "s", "trained": False},
        # 12 + 1 s of training are over the 10 s by no more than the last step of 3 s
        compliance=KEPT | dict.fromkeys(("bytes_within_cap", "enough_seeds", "scored_without_network"), False),
    )


def with_quant(seed: SeedEvidence, **section: Any) -> SeedEvidence:
    header = replace(seed.head.header, config={**CONFIG, "quant": section})
    return replace(seed, head=replace(seed.head, header=header))


@pytest.mark.parametrize(
    ("section", "is_counted"),
    [
        ({"method": "absmax"}, False),
        ({"method": "clip", "codec": "best"}, False),
        ({"method": "sigma", "feedback": False, "cap_bytes": 900}, False),  # by its dial alone
        ({"method": "absmax", "cap_bytes": 900}, True),  # widths are chosen by what they cost
        ({"method": "absmax", "cap_bytes": 900, "solve": False}, False),
        ({"method": "sigma"}, True),
        ({"method": "gptq"}, True),
        ({"method": "rate"}, True),
        ({"method": "of another version"}, True),
    ],
)
def test_packing_uses_up_training_seconds_where_it_reads_the_text(section: dict[str, Any], is_counted: bool) -> None:
    """10.5 s of training and 1 s of packing; 10 s are allowed, and a last step of 0.9 s."""
    seed = with_quant(seed_evidence(1, 26_000, "model.golf", 700, train_seconds=10.5), **section)
    seed = replace(
        seed, metrics=[{**row, "step_s": 0.9} for row in seed.metrics], result=replace(seed.result, steps=12)
    )
    assert budgeted_seconds(seed, TRACK) == (11.5 if is_counted else 10.5)
    assert budgeted_seconds(seed, replace(TRACK, calibration="apart")) == 10.5
    assert claim(evidence(seed), TRACK).compliance["training_within_limit"] is not is_counted
    assert [found.rule for found in check_budget(seed, TRACK)] == ["budget.calibration"] * is_counted


def test_two_seeds_against_a_rival() -> None:
    """A lead of 0.1 with a standard error of 0.02 / sqrt(2): one-sample t = 5 sqrt(2) at one degree of freedom."""
    found = claim(
        evidence(
            seed_evidence(1, 26_000 - 200 * math.sqrt(2), "model.golf", 700, train_seconds=16.0),
            seed_evidence(2, 26_000 + 200 * math.sqrt(2), "model_seed2.golf", 600),
            against=(1.4,),
        ),
        TRACK,
    )
    values = to_dict(found)
    against = values.pop("against")
    assert against["bpb"] == [1.4]
    assert against["lead_bpb"] == pytest.approx(0.1, rel=1e-9)
    written, enforced = against["verdicts"]
    assert (written["rule"], enforced["rule"]) == ("written", "enforced")
    assert written["margin"] == pytest.approx(0.005 * 8000 / LN2 / 20_000, rel=1e-12)
    assert enforced["t"] == pytest.approx(5 * math.sqrt(2), rel=1e-9)
    assert enforced["p"] == pytest.approx(
        math.atan(1 / (5 * math.sqrt(2))) / math.pi, rel=1e-9
    )  # Student's t of one degree: Cauchy
    assert (written["holds"], enforced["holds"]) == (False, True)
    assert values.pop("compliance") == KEPT | {"training_within_limit": False, "enough_seeds": False}
    assert values["val_bpb"] == pytest.approx(1.3, rel=1e-12)
    assert values["val_bpb_std"] == pytest.approx(0.02, rel=1e-9)
    assert (values["median_seed"], values["bytes_total"]) == (1, 750)  # of two, the lower
    page(found)


def test_the_median_is_by_score_and_of_two_the_lower() -> None:
    seeds = [seed_evidence(n, bits, "model.golf", 1) for n, bits in ((1, 5.0), (2, 3.0), (3, 4.0), (4, 9.0))]
    assert median_seed(seeds[:3]).seed == 3
    assert median_seed(seeds).seed == 3
    assert median_seed(seeds[:2]).seed == 2
