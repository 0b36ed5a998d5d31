"""The contest's own folders, written small after public cases: faults are named, and nothing else is accused."""

import base64
import gzip
import json
import lzma
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.errors import BadInput
from base.result_file import read_result
from base.run_folder import RunResult
from run_config import RunConfig
from tests.records import accusations, check
from tools.bundle import bundle, render, unbundle
from tools.verify.contest import contest_findings
from tools.verify.folder import Folder

BYTES = 151_080_891
LUT = """
def build_luts(sp, vocab_size):
    base_bytes = np.zeros(vocab_size)
    has_leading_space = np.zeros(vocab_size, dtype=bool)
    for token_id in range(vocab_size):
        if sp.is_byte(token_id):
            base_bytes[token_id] = 1
            continue
        piece = sp.id_to_piece(token_id)
        if piece.startswith("\u2581"):
            has_leading_space[token_id] = True
            piece = piece[1:]
        base_bytes[token_id] = len(piece.encode("utf-8"))
    return base_bytes, has_leading_space

def count(tgt, prev):
    return base_bytes[tgt] + (has_leading_space[tgt] & ~is_boundary[prev])
"""
SCRIPT = f"import numpy as np\nimport torch\n{LUT}\ndef main():\n    pass\n"
FILLER = "".join(f"x{n} = {n * n * n % 9973}\n" for n in range(600))
MEAN = {"val_bpb": 1.2201, "seeds": [42, 7, 1337]}
RESULTS = {"42": {"val_bpb": 1.22}, "7": {"val_bpb": 1.2201}, "1337": {"val_bpb": 1.2202}}


def log_text(
    bpb: float = 1.22, *, tokens: int = 62_021_632, train_ms: int = 600_195, eval_ms: int = 65_225,
    total: int = 14_888_882, seed: int = 1337, bytes_: int = BYTES, shards: int = 80, tail: str = "",
) -> str:  # fmt: skip
    loss = bpb * math.log(2) * bytes_ / tokens
    return (
        f"train_loader:dataset:fineweb10B_sp1024 train_shards:{shards}\n"
        f"val_loader:shards pattern=/data/fineweb_val_*.bin tokens:{tokens}\nseed:{seed}\n"
        "step:10000/20000 train_loss:2.1676 train_time:455357ms step_avg:45.54ms\n"
        f"step:13161/20000 val_loss:2.0523 val_bpb:{bpb + 0.005:.4f} train_time:{train_ms}ms step_avg:45.60ms\n"
        f"stopping_early: wallclock_cap train_time:{train_ms}ms step:13161/20000\n"
        "Serialized model: 67220567 bytes\nCode size: 50268 bytes\nTotal submission size: 67270835 bytes\n"
        f"Serialized model int8+zlib: {total - 50268} bytes (payload:17178912)\n"
        f"Total submission size int8+zlib: {total} bytes\n"
        f"final_int8_zlib_roundtrip val_loss:{loss:.4f} val_bpb:{bpb:.4f} eval_time:{eval_ms}ms\n"
        f"final_int8_zlib_roundtrip_exact val_loss:{loss:.8f} val_bpb:{bpb:.8f}\n{tail}"
    )


def three(bpb: float = 1.22, **words: Any) -> dict[str, Any]:
    seeds = (42, 7, 1337)
    return {f"train_seed{seed}.log": log_text(bpb + 1e-4 * at, seed=seed, **words) for at, seed in enumerate(seeds)}


def one(bpb: float) -> dict[str, Any]:
    return {"train.log": log_text(bpb)}


class Folders:
    """Makes contest folders, each with a README and an honest script unless `files` has others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.made = 0

    def make(self, claim: dict[str, Any], files: dict[str, Any]) -> Path:
        self.made += 1
        folder = self.path / str(self.made) / "track_10min_16mb" / "2026-04-01_example"
        claim = {"author": "a", "github_id": "a", "track": "10min_16mb", "bytes_total": 14_888_882, **claim}
        contents = {"submission.json": json.dumps(claim), "README.md": "# A run\n", "train_gpt.py": SCRIPT, **files}
        for name, data in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return folder

    def rules(self, claim: dict[str, Any], files: dict[str, Any], *levels: str) -> set[str]:
        """The rules that speak at these levels; without any: those that accuse."""
        findings = contest_findings(Folder(self.make(claim, files)))
        return {finding.rule for finding in findings if finding.level in (levels or ("invalid", "flag"))}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


# -- the claim against its logs -------------------------------------------------------------------------------------


def test_a_merged_record_is_accused_of_nothing_and_unverified_without_a_model(folders: Folders) -> None:
    answer = check(folders.make(MEAN, three()))
    assert answer.verdict == "unverified"
    assert set(accusations(answer)) == {"artifact.missing"}
    assert answer.measured["val_bpb"] == 1.2201


def test_a_single_log_of_early_days_is_not_accused(folders: Folders) -> None:
    assert folders.rules({"val_bpb": 1.22}, one(1.22), "unverified") == {"artifact.missing", "seed.few"}


def test_late_dialects_are_read(folders: Folders) -> None:
    late = (
        "diagnostic pre-quantization post-ema val_loss:2.32 val_bpb:1.0647 eval_time:7000ms\n"
        "quantized val_loss:2.34 val_bpb:1.0740 eval_time:9000ms\n"
        "Total submission size quantized+brotli: 15907550 bytes\n"
        "quantized_ttt_phased val_loss:2.32208 val_bpb:1.06108000 eval_time:508800ms\ntotal_eval_time:508.8s\n"
    )
    logs = {f"train_seed{seed}.log": log_text(1.2, seed=seed, tail=late + f"# {seed}\n") for seed in (1, 2, 3)}
    assert folders.rules({"val_bpb": 1.06108, "seeds": [1, 2, 3]}, logs) <= {"number.bytes"}


def test_a_claim_whose_runs_may_be_elsewhere_is_unverified(folders: Folders) -> None:
    for claim, readme in (({"val_bpb": 1.21, "seeds": [1, 2, 3]}, "#"), ({"val_bpb": 1.21}, "mean over 3 seeds\n")):
        assert folders.rules(claim, {**one(1.22), "README.md": readme}) == set()
        assert "number.val_bpb" in folders.rules(claim, {**one(1.22), "README.md": readme}, "unverified")


def test_a_score_found_anywhere_else_in_the_folder_is_not_denied(folders: Folders) -> None:
    for name, text in {
        "eval_sliding.log": "val_bpb=1.15021 (val_loss=1.94), 62021632 tokens\n",
        "results.md": "| 1337 | 1.1502 |\n",
        "eval_log.txt": json.dumps({"x": "a" * 3_000, "bits_per_byte": 1.1502}),
    }.items():
        assert folders.rules({"val_bpb": 1.1502}, {**one(1.1666), name: text}, "invalid") == set(), name
        assert "number.val_bpb" in folders.rules({"val_bpb": 1.1502}, {**one(1.1666), name: text}, "unverified"), name


def test_a_text_that_cannot_be_read_might_hold_the_score(folders: Folders) -> None:
    assert "number.val_bpb" in folders.rules({"val_bpb": 1.1502}, one(1.1666), "invalid")  # as in PR 86
    coded = "val_bpb:1.1502 é".encode("utf-16")
    for name, text in (("eval.log", coded), ("README.md", coded), ("eval.log.gz", gzip.compress(coded))):
        files = {**one(1.1666), name: text}
        assert folders.rules({"val_bpb": 1.1502}, files, "invalid") == set(), name
        assert "log.readable" in folders.rules({"val_bpb": 1.1502}, files, "unverified"), name


def test_a_claim_is_as_exact_as_it_is_written(folders: Folders) -> None:
    assert folders.rules({"val_bpb": 1.14}, one(1.1428)) == set()
    assert folders.rules({"val_bpb": 1.1}, one(1.1428), "invalid") == {"number.val_bpb"}


def test_a_claim_of_one_seed_or_of_what_is_not_shipped_is_flagged(folders: Folders) -> None:
    before = {name: "DIAGNOSTIC post_ema val_loss:1.9000 val_bpb:1.1000\n" + text for name, text in three().items()}
    assert folders.rules({**MEAN, "val_bpb": 1.1000001}, before) == {"number.val_bpb"}
    apart = {f"train_seed{seed}.log": log_text(1.22 + 0.01 * at, seed=seed) for at, seed in enumerate((42, 7, 1337))}
    assert folders.rules({**MEAN, "val_bpb": 1.22}, apart) == {"number.val_bpb"}


def test_the_log_of_an_ablation_is_no_counter_example(folders: Folders) -> None:
    long = {"log_ablation.txt": log_text(1.25, train_ms=14_400_000, total=16_500_000)}
    files = {**three(), **long}
    assert folders.rules({**MEAN, "seed_results": RESULTS}, files, "invalid") == set()
    assert "budget.train" in folders.rules({**MEAN, "seed_results": RESULTS}, files, "flag")


def test_a_seed_whose_own_log_says_more_is_invalid(folders: Folders) -> None:
    for listed in (
        {seed: {"val_bpb": 1.05} for seed in ("42", "7", "1337")},
        [{"seed": seed, "val_bpb": 1.05} for seed in (42, 7, 1337)],
    ):
        assert "number.seed" in folders.rules({**MEAN, "seed_results": listed}, three(), "invalid"), listed


def test_seeds_are_held_to_their_logs(folders: Folders) -> None:
    first = three()["train_seed42.log"]
    assert folders.rules(MEAN, {**three(), "train_seed7.log": first}, "invalid") == {"seed.same"}
    assert folders.rules(MEAN, {**three(), "train.log": first}) == set()  # one run under two names
    assert folders.rules(MEAN, {**three(), "train_seed42.log": log_text(seed=1337)}) == {"seed.log"}  # PR 465


def test_a_log_may_have_no_steps(folders: Folders) -> None:
    without_steps = {name: text.replace("step:", "at ") for name, text in three().items()}
    assert folders.rules(MEAN, without_steps, "flag", "unverified", "invalid") == {"artifact.missing"}


# -- sizes, clocks, data --------------------------------------------------------------------------------------------


def test_clocks_and_data_are_read_from_the_logs(folders: Folders) -> None:
    calibrated = "gptq: collected in 4.7 s\n"
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"train_ms": 600_195}, "budget.train", ""),  # 41 % of merged folders are past 600,000 ms
        ({"train_ms": 601_153}, "budget.train", "invalid"),  # PR 1908
        ({"eval_ms": 688_000, "train_ms": 599_000}, "budget.eval", "invalid"),  # PR 1972
        ({"train_ms": 599_600, "tail": calibrated}, "budget.calibration", "flag"),  # PR 1855
        ({"train_ms": 590_000, "tail": calibrated}, "budget.calibration", ""),
        ({"shards": 1499}, "data.overlap", "flag"),  # issue 2127
        ({"tokens": 9_662_464}, "data.coverage", "flag"),  # PR 1854
        ({"bytes_": int(BYTES * 1.1671)}, "number.bytes", "flag"),  # PR 1804
        ({"bytes_": 164_594_397}, "number.bytes", "flag"),  # an open claim's, found by this reader
        ({"tail": "diagnostic stride:16 val_loss:2.0500 val_bpb:1.2100 eval_time:900000ms\n"}, "budget.eval", ""),
    ]
    for words, rule, level in cases:
        for each in ("invalid", "flag", "unverified"):
            assert (rule in folders.rules(MEAN, three(**words), each)) == (each == level), (words, each)


def test_the_cap_is_held_to_what_can_be_known(folders: Folders) -> None:
    cases = [
        (16_024_793, 16_024_793, "invalid"),
        (16_024_793, None, "invalid"),
        (16_071_321, 15_965_718, "unverified"),
        (15_999_999, 15_999_999, "none"),
    ]
    for logged, claimed, level in cases:
        for each in ("invalid", "unverified"):
            found = folders.rules({**MEAN, "bytes_total": claimed}, three(total=logged), each)
            assert ("size.cap" in found) == (each == level), (logged, claimed)


def test_a_script_larger_than_was_counted_is_flagged(folders: Folders) -> None:
    files = {**three(total=15_990_000), "train_gpt.py": SCRIPT + "#" * 100_000}
    assert folders.rules({**MEAN, "bytes_total": 15_990_000}, files) == {"size.strict"}


def test_the_total_of_the_raw_weights_is_nobodys_claim(folders: Folders) -> None:
    raw = "Total submission size: 98490349 bytes\n"
    logs = {name: text.replace("bytes\n", "bytes\n" + raw, 1) for name, text in three().items()}
    commas = {name: text.replace("int8+zlib: 14888882", "int8+zlib: 14,888,882") for name, text in logs.items()}
    assert "size.cap" not in folders.rules({**MEAN, "bytes_total": None}, commas, "invalid", "unverified")


def test_an_unlimited_claim_is_not_timed(folders: Folders) -> None:
    for words in ({"track": "non-record-16mb"}, {"submission_type": "non-record"}, {"name": "Non-record: four hours"}):
        assert folders.rules({**MEAN, **words}, three(train_ms=9_000_000, eval_ms=9_000_000)) == set(), words


# -- scripts --------------------------------------------------------------------------------------------------------


NGRAM = """
ctx_hash = (ctx_hash ^ (tokens[i - k] * PRIMES[k])) & mask
full_key = (ctx_hash ^ (tgt_np * PRIMES[4])) & mask
np.add.at(full_tables, full_key, 1)
"""
COUNTED, SPACED = 'len(piece.encode("utf-8"))', 'piece.replace("\u2581", " ")'
BUGS = {
    "a space counted twice": (LUT.replace(COUNTED, f"{COUNTED} + 1"), "code.bytes"),
    "a space in the table": (LUT.replace(COUNTED, COUNTED.replace("piece", SPACED)), "code.bytes"),
    "single tokens decoded": ("n = len(sp.decode([i]).encode('utf-8'))\n", "code.bytes"),
    "the target in the key": (NGRAM, "code.target"),
    "a network": ("import requests\n", "code.network"),
}  # fmt: skip


def packed(source: str) -> str:
    blob = base64.b85encode(lzma.compress(source.encode())).decode()
    return f"import base64 as b, lzma as l\nexec(l.decompress(b.b85decode({blob!r})).decode())\n"


def test_a_known_bug_is_flagged_in_any_script_plain_or_packed(folders: Folders) -> None:
    for name, (source, rule) in BUGS.items():
        assert folders.rules(MEAN, {**three(), "helper.py": source}) == {rule}, name
        assert folders.rules(MEAN, {**three(), "train_gpt.py": packed(FILLER + source)}) == {rule}, name
    assert folders.rules(MEAN, {**three(), "train_gpt.py": packed(FILLER + SCRIPT)}) == set()
    assert folders.rules(MEAN, {**three(), "gate.c": "int f(void){return 0;}"}) == {"files.code"}


def test_a_single_file_of_ours_is_read_module_by_module(folders: Folders) -> None:
    levels = ("invalid", "flag", "unverified")
    for readable in (True, False):
        files = {**three(), "train_gpt.py": bundle(RunConfig(), "demo", readable)}
        assert folders.rules(MEAN, files, *levels) == {"artifact.missing"}
    hidden = {"name": "x", "config.yaml": "", "sources_sha256": "", "data/bytes.py": NGRAM + "exec(input())\n"}
    files = {**three(), "train_gpt.py": render(hidden)}
    assert folders.rules(MEAN, files, *levels) == {"artifact.missing", "code.target", "code.dynamic"}


def test_a_script_that_cannot_be_read_is_unverified(folders: Folders) -> None:
    broken = packed(SCRIPT * 20).replace("b85decode('", "b85decode('!!")
    assert "code.dynamic" in folders.rules(MEAN, {**three(), "train_gpt.py": broken}, "unverified")
    newer = "x = f'{\"a\" + f\"{'b'}\"}'\n"  # nested quotes: Python 3.12 and later
    for source in (broken, newer):
        assert folders.rules(MEAN, {**three(), "train_gpt.py": source}, "invalid") == set()


# -- odd folders ----------------------------------------------------------------------------------------------------


def test_a_claim_that_cannot_be_read_is_unverified(folders: Folders) -> None:
    for text in ('{"val_bpb": NaN}', '{"a": 1, "a": 2}', "[]", "{"):
        assert check(folders.make({}, {**three(), "submission.json": text})).verdict == "unverified", text


def test_odd_claims_end_in_a_verdict(folders: Folders) -> None:
    zero = {"train.log": log_text() + "ttt skipped val_loss:0.0000 val_bpb:0.0000\n"}
    for claim in (
        {"seed_results": {"42": 1.7e308, "7": -1.7e308}, "val_bpb_std": 0.0001},
        {"seed_results": {"9" * 5_000: 1.2}},
        {"seed_results": {"seed": 1, "val_bpb": 1.2201}},
        {"seeds": [{"seed": [1]}, {"seed": None, "val_bpb": 1.22}]},
        {"val_bpb": 0},
        {"val_bpb": [1.22], "seeds": None, "bytes_total": "14.9 MB"},
    ):
        assert folders.rules({**MEAN, **claim}, {**three(), **zero}, "invalid") == set(), claim


def test_a_manifest_of_another_kind_makes_no_record_of_ours(folders: Folders) -> None:
    assert folders.rules(MEAN, {**three(), "manifest.json": '{"files": ["a"]}'}) == set()


Score = Callable[..., dict[str, str]]


# -- a shipped artifact ---------------------------------------------------------------------------------------------


@pytest.fixture
def run(seeds: Path) -> RunResult:
    return read_result(seeds / "runs" / "seed7" / "result.json")


@pytest.fixture(scope="session")
def code() -> bytes:
    return bundle(RunConfig(), "tiny", readable=True)


@pytest.fixture
def score(folders: Folders, data: Path, run: RunResult, code: bytes, monkeypatch: pytest.MonkeyPatch) -> Score:
    """Rule -> level of what is found of a shipped artifact, where its single file answers as the run did."""
    answer = {"bpb": run.val_bpb, "tokens": run.val_tokens, "bytes": run.val_bytes, "contest_bytes": run.contest_bytes}

    def find(claim: dict[str, Any], **files: Any) -> dict[str, str]:
        shipped = {"model.golf": Path(run.artifact).read_bytes(), "train_gpt.py": code, "README.md": "# A run\n"}
        found = contest_findings(Folder(folders.make(claim, {**shipped, **files})), fast=False, data=data)
        return {finding.rule: finding.level for finding in found if finding.rule.startswith(("score", "artifact"))}

    monkeypatch.setattr("tools.verify.contest.score_boxed", lambda *_: (answer, 1.0))
    monkeypatch.setattr("tools.verify.contest.open_doors", list)
    return find


MEASURED = {"score.measured": "note"}


def test_a_shipped_artifact_is_scored_and_compared(score: Score, run: RunResult, folders: Folders) -> None:
    assert score({"val_bpb": run.val_bpb}) == MEASURED
    assert score({"val_bpb": run.val_bpb - 0.01}) == MEASURED | {"score.val_bpb": "invalid"}
    adapted = {"README.md": "adapted while scoring"}
    assert score({"val_bpb": run.val_bpb - 0.01}, **adapted) == MEASURED | {"score.val_bpb": "flag"}
    near = {"val_bpb": run.val_bpb - 0.0005000001}  # another kind of device may round so
    assert score(near) == MEASURED | {"score.val_bpb": "flag"}
    fast = contest_findings(Folder(folders.make({}, {"model.golf": b"any"})))
    assert "artifact.unscored" in {finding.rule for finding in fast}


def test_an_artifact_of_several_seeds_is_never_called_invalid(score: Score, run: RunResult) -> None:
    claim = {"val_bpb": run.val_bpb - 0.01, "seeds": [1, 2]}
    own = {"1": {"val_bpb": run.val_bpb}, "2": {"val_bpb": run.val_bpb - 0.02}}
    other = {"1": {"val_bpb": run.val_bpb + 0.01}, "2": {"val_bpb": run.val_bpb - 0.03}}
    assert "score.val_bpb" not in score({**claim, "seed_results": own})
    assert score({**claim, "seed_results": other})["score.val_bpb"] == "flag"


def test_another_program_is_not_run_and_one_of_another_tree_is_named(score: Score, run: RunResult, code: bytes) -> None:
    assert score({"val_bpb": run.val_bpb}, **{"train_gpt.py": SCRIPT}) == {"score.begun": "unverified"}
    inside = unbundle(code)
    assert inside is not None
    meta = {"name": "x", "config.yaml": "", "sources_sha256": ""}
    forged = render({**meta, **inside.modules, "train_gpt.py": "print({'bpb': 1.0})\n"})
    assert score({"val_bpb": run.val_bpb}, **{"train_gpt.py": forged}) == MEASURED | {"score.code": "unverified"}
    assert (
        score({"val_bpb": run.val_bpb}, **{"train_gpt.py": bundle(RunConfig(), "packed", readable=False)}) == MEASURED
    )


def test_what_cannot_be_scored_here_is_unverified(
    score: Score, folders: Folders, code: bytes, run: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score({"val_bpb": 1.2}, **{"model.golf": b"PK" * 100}) == {"score.begun": "unverified"}
    shipped = folders.make({}, {"model.golf": Path(run.artifact).read_bytes(), "train_gpt.py": code})
    findings = contest_findings(Folder(shipped), fast=False)
    assert any("no dataset in data/datasets is" in finding.message for finding in findings)
    monkeypatch.setattr("tools.verify.contest.open_doors", lambda: ["the network"])
    assert score({"val_bpb": 1.2}) == {"score.begun": "unverified"}
    with pytest.raises(BadInput, match="not a dataset"):  # bad usage
        list(contest_findings(Folder(shipped), fast=False, data=folders.path))
