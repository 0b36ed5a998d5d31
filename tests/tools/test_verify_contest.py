"""The contest's own folders, written small after public cases: faults are named, and nothing else is accused."""

import base64
import gzip
import json
import lzma
import math
from pathlib import Path
from typing import Any

import pytest

from tests.tools.test_verify_tampers import checked

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


def log_text(
    bpb: float = 1.22, *, tokens: int = 62_021_632, train_ms: int = 600_195, eval_ms: int = 65_225,
    total: int = 14_888_882, seed: int = 1337, bytes_: int = BYTES, shards: int = 80, head: str = "", tail: str = "",
) -> str:  # fmt: skip
    loss = bpb * math.log(2) * bytes_ / tokens
    return (
        f"{head}train_loader:dataset:fineweb10B_sp1024 train_shards:{shards}\n"
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


def folder_of(tmp_path: Path, claim: dict[str, Any], **files: str | bytes) -> Path:
    """`claim` as submission.json; files by name, with `__` for a dot."""
    folder = tmp_path / "track_10min_16mb" / "2026-04-01_example"
    folder.mkdir(parents=True)
    claim = {"author": "a", "github_id": "a", "track": "10min_16mb", "bytes_total": 14_888_882, **claim}
    (folder / "submission.json").write_text(json.dumps(claim))
    for name, data in {"README__md": "# A run\n", "train_gpt__py": SCRIPT, **files}.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def three(bpb: float = 1.22, **words: Any) -> dict[str, str]:
    return {
        f"train_seed{seed}__log": log_text(bpb + 1e-4 * at, seed=seed, **words) for at, seed in enumerate((42, 7, 1337))
    }


def found(folder: Path, *levels: str) -> set[str]:
    findings = checked(folder)["findings"]
    return {f["rule"] for f in findings if f["level"] in (levels or ("invalid", "flag"))}


MEAN = {"val_bpb": 1.2201, "seeds": [42, 7, 1337]}


def test_a_merged_row_is_accused_of_nothing_and_unverified_for_want_of_a_model(tmp_path: Path) -> None:
    answer = checked(folder_of(tmp_path, MEAN, **three()))
    assert answer["verdict"] == "unverified"
    assert {f["rule"] for f in answer["findings"] if f["level"] != "note"} == {"artifact.missing"}
    assert answer["measured"]["val_bpb"] == 1.2201


def test_a_single_log_of_early_days_is_not_accused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"val_bpb": 1.22, "val_loss": 2.0603}, train__log=log_text())
    assert found(folder) == set()
    assert found(folder, "unverified") == {"artifact.missing", "seed.few"}


def test_late_dialects_are_read(tmp_path: Path) -> None:
    late = (
        "diagnostic pre-quantization post-ema val_loss:2.32 val_bpb:1.0647 eval_time:7000ms\n"
        "quantized val_loss:2.34 val_bpb:1.0740 eval_time:9000ms\n"
        "Total submission size quantized+brotli: 15907550 bytes\n"
        "quantized_ttt_phased val_loss:2.32208 val_bpb:1.06108000 eval_time:508800ms\ntotal_eval_time:508.8s\n"
    )
    logs = {f"train_seed{seed}__log": log_text(1.2, seed=seed, tail=late + f"# {seed}\n") for seed in (1, 2, 3)}
    assert found(folder_of(tmp_path, {"val_bpb": 1.06108, "seeds": [1, 2, 3]}, **logs)) <= {"number.bytes"}


def test_a_claim_that_no_log_reaches_is_invalid(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"val_bpb": 1.1502}, train__log=log_text(1.1666))  # as in PR 86
    assert "number.val_bpb" in found(folder, "invalid")


def test_a_claim_whose_logs_are_not_all_here_is_unverified(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"val_bpb": 1.21, "seeds": [1, 2, 3]}, train__log=log_text(1.22))
    assert found(folder) == set()
    assert {"number.val_bpb", "seed.few"} <= found(folder, "unverified")


def test_a_mean_that_its_readme_explains_is_not_accused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"val_bpb": 1.21}, README__md="mean over 3 seeds\n", train__log=log_text(1.22))
    assert "number.val_bpb" in found(folder, "unverified")
    assert found(folder, "invalid") == set()


def test_a_seed_whose_own_log_says_more_is_invalid(tmp_path: Path) -> None:
    results = {"42": {"val_bpb": 1.19}, "7": {"val_bpb": 1.2201}, "1337": {"val_bpb": 1.2202}}
    assert "number.seed" in found(folder_of(tmp_path, {**MEAN, "seed_results": results}, **three()), "invalid")


def test_a_spread_that_is_not_its_seeds_is_flagged(tmp_path: Path) -> None:
    results = {"42": {"val_bpb": 1.22}, "7": {"val_bpb": 1.2201}, "1337": {"val_bpb": 1.2202}}
    claim = {**MEAN, "seed_results": results, "val_bpb_std": 0.0001}
    assert found(folder_of(tmp_path / "a", claim, **three())) == set()
    assert found(folder_of(tmp_path / "b", {**claim, "val_bpb_std": 0.01}, **three())) == {"number.val_bpb_std"}


@pytest.mark.parametrize(
    ("logged", "claimed", "level"),
    [(16_024_793, 16_024_793, "invalid"), (16_024_793, None, "invalid"), (16_071_321, 15_965_718, "unverified"),
     (15_999_999, 15_999_999, "none")],
)  # fmt: skip
def test_the_cap_is_held_to_what_can_be_known(tmp_path: Path, logged: int, claimed: int | None, level: str) -> None:
    folder = folder_of(tmp_path, {**MEAN, "bytes_total": claimed}, **three(total=logged))
    assert ("size.cap" in found(folder, "invalid")) == (level == "invalid")
    assert ("size.cap" in found(folder, "unverified")) == (level == "unverified")


def test_a_script_that_is_larger_than_was_counted_is_flagged(tmp_path: Path) -> None:
    files = three(total=15_990_000)
    folder = folder_of(tmp_path, {**MEAN, "bytes_total": 15_990_000}, train_gpt__py=SCRIPT + "#" * 100_000, **files)
    assert found(folder) == {"size.strict"}


@pytest.mark.parametrize(
    ("words", "rule", "level"),
    [
        ({"train_ms": 600_195}, "budget.train", ""),  # 41 % of merged folders are past 600,000 ms
        ({"train_ms": 601_153}, "budget.train", "invalid"),  # PR 1908
        ({"eval_ms": 688_000, "train_ms": 599_000}, "budget.eval", "invalid"),  # PR 1972
        ({"train_ms": 599_600, "tail": "gptq: collected in 4.7 s\n"}, "budget.calibration", "flag"),  # PR 1855
        ({"train_ms": 590_000, "tail": "gptq: collected in 4.7 s\n"}, "budget.calibration", ""),
        ({"shards": 1499}, "data.overlap", "flag"),  # issue 2127
        ({"tokens": 9_662_464}, "data.coverage", "flag"),  # PR 1854
        ({"bytes_": int(BYTES * 1.1671)}, "number.bytes", "flag"),  # PR 1804
    ],
)
def test_clocks_and_data_of_the_logs(tmp_path: Path, words: dict[str, Any], rule: str, level: str) -> None:
    folder = folder_of(tmp_path, MEAN, **three(**words))
    for each in ("invalid", "flag", "unverified"):
        assert (rule in found(folder, each)) == (each == level)


def test_clocks_of_an_unlimited_track_are_nobodys_business(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {**MEAN, "track": "non-record-16mb"}, **three(train_ms=9_000_000, eval_ms=9_000_000))
    assert found(folder) == set()


def test_one_log_under_two_names_is_invalid(tmp_path: Path) -> None:
    logs = {**three(), "train_seed7__log": three()["train_seed42__log"]}
    assert found(folder_of(tmp_path, MEAN, **logs), "invalid") == {"seed.same"}


def test_a_log_that_names_another_seed_is_flagged(tmp_path: Path) -> None:
    logs = {**three(), "train_seed42__log": log_text(1.22, seed=1337)}  # PR 465
    assert found(folder_of(tmp_path, MEAN, **logs)) == {"seed.log"}


def test_a_log_may_be_compressed(tmp_path: Path) -> None:
    logs: dict[str, str | bytes] = {f"{name}__gz": gzip.compress(text.encode()) for name, text in three().items()}
    assert found(folder_of(tmp_path, MEAN, **logs), "flag", "unverified", "invalid") == {"artifact.missing"}


def test_the_source_in_a_log_is_compared_with_the_shipped(tmp_path: Path) -> None:
    same = {name: SCRIPT + text for name, text in three().items()}
    assert found(folder_of(tmp_path / "a", MEAN, **same)) == set()
    other = {name: SCRIPT.replace("pass", "return 1") + text for name, text in three().items()}
    assert found(folder_of(tmp_path / "b", MEAN, **other)) == {"hash.sources"}


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


@pytest.mark.parametrize(("source", "rule"), BUGS.values(), ids=BUGS.keys())
def test_a_known_bug_is_flagged_in_any_script_of_the_folder(tmp_path: Path, source: str, rule: str) -> None:
    assert found(folder_of(tmp_path, MEAN, helper__py=source, **three())) == {rule}


def packed(source: str) -> str:
    blob = base64.b85encode(lzma.compress(source.encode())).decode()
    return f"import base64 as b, lzma as l\nexec(l.decompress(b.b85decode({blob!r})).decode())\n"


@pytest.mark.parametrize(("source", "rule"), BUGS.values(), ids=BUGS.keys())
def test_and_inside_a_packed_one(tmp_path: Path, source: str, rule: str) -> None:
    filler = "".join(f"x{n} = {n * n * n % 9973}\n" for n in range(600))
    assert found(folder_of(tmp_path, MEAN, train_gpt__py=packed(filler + source), **three())) == {rule}


def test_a_packed_script_without_faults_is_not_accused(tmp_path: Path) -> None:
    filler = "".join(f"x{n} = {n * n * n % 9973}\n" for n in range(600))
    assert found(folder_of(tmp_path, MEAN, train_gpt__py=packed(filler + SCRIPT), **three())) == set()


def test_a_script_that_does_not_unpack_is_unverified(tmp_path: Path) -> None:
    source = packed(SCRIPT * 20).replace("b85decode('", "b85decode('!!")
    folder = folder_of(tmp_path, MEAN, train_gpt__py=source, **three())
    assert "code.dynamic" in found(folder, "unverified")
    assert found(folder, "invalid") == set()


def test_python_of_another_version_is_not_called_broken(tmp_path: Path) -> None:
    source = "x = f'{\"a\" + f\"{'b'}\"}'\n"  # nested quotes: Python 3.12 and later
    assert found(folder_of(tmp_path, MEAN, train_gpt__py=source, **three()), "invalid") == set()


def test_native_helpers_are_flagged(tmp_path: Path) -> None:
    assert found(folder_of(tmp_path, MEAN, gate__c="int f(void){return 0;}", **three())) == {"files.code"}


@pytest.mark.parametrize("text", ['{"val_bpb": NaN}', '{"a": 1, "a": 2}', "[]", "{"])
def test_a_claim_that_cannot_be_read_is_unverified(tmp_path: Path, text: str) -> None:
    folder = folder_of(tmp_path, MEAN, **three())
    (folder / "submission.json").write_text(text)
    assert checked(folder)["verdict"] == "unverified"


def test_a_score_that_stands_anywhere_else_in_the_folder_is_not_denied(tmp_path: Path) -> None:
    claim = {"val_bpb": 1.1502}
    for at, (name, text) in enumerate(
        {
            "eval_sliding__log": "val_bpb=1.15021 (val_loss=1.94), 62021632 tokens\n",
            "sliding__log": "final sliding window (stride 64) val_bpb 1.15020\n",
            "results__md": "| 1337 | 1.1502 |\n",
            "eval_log__txt": json.dumps({"x": "a" * 3_000, "bits_per_byte": 1.1502}),
        }.items()
    ):
        folder = folder_of(tmp_path / str(at), claim, **{"train__log": log_text(1.1666), name: text})
        assert found(folder, "invalid") == set(), name
        assert "number.val_bpb" in found(folder, "unverified"), name


@pytest.mark.parametrize("name", ["eval__log", "README__md"])
def test_a_text_that_cannot_be_read_might_hold_the_score(tmp_path: Path, name: str) -> None:
    files: dict[str, str | bytes] = {"train__log": log_text(1.1666), name: "val_bpb:1.1502 é".encode("utf-16")}
    folder = folder_of(tmp_path, {"val_bpb": 1.1502}, **files)
    assert found(folder, "invalid") == set()
    assert "log.readable" in found(folder, "unverified")


def test_a_claim_is_as_exact_as_it_is_written(tmp_path: Path) -> None:
    assert found(folder_of(tmp_path / "a", {"val_bpb": 1.14}, train__log=log_text(1.1428))) == set()
    assert found(folder_of(tmp_path / "b", {"val_bpb": 1.1}, train__log=log_text(1.1428)), "invalid") == {
        "number.val_bpb"
    }


def test_one_run_may_have_its_log_under_two_names(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, MEAN, **three(), train__log=three()["train_seed42__log"])
    assert found(folder) == set()


def test_the_log_of_an_ablation_beside_the_claims_own_is_no_counterexample(tmp_path: Path) -> None:
    results = {"42": {"val_bpb": 1.22}, "7": {"val_bpb": 1.2201}, "1337": {"val_bpb": 1.2202}}
    long = log_text(1.25, train_ms=14_400_000, total=16_500_000)
    folder = folder_of(tmp_path, {**MEAN, "seed_results": results}, **three(), log_ablation__txt=long)
    assert found(folder, "invalid") == set()
    assert "budget.train" in found(folder, "flag")


def test_seconds_of_another_evaluation_are_not_the_claims(tmp_path: Path) -> None:
    later = "diagnostic stride:16 val_loss:2.0500 val_bpb:1.2100 eval_time:900000ms\n"
    assert "budget.eval" not in found(folder_of(tmp_path, MEAN, **three(tail=later)))


def test_the_total_of_the_raw_weights_is_nobodys_claim(tmp_path: Path) -> None:
    raw = "Total submission size: 98490349 bytes\n"
    logs = {name: text.replace("bytes\n", "bytes\n" + raw, 1) for name, text in three().items()}
    commas = {name: text.replace("int8+zlib: 14888882", "int8+zlib: 14,888,882") for name, text in logs.items()}
    assert "size.cap" not in found(
        folder_of(tmp_path, {**MEAN, "bytes_total": None}, **commas), "invalid", "unverified"
    )


@pytest.mark.parametrize("said", [{"submission_type": "non-record"}, {"name": "Non-record: four hours"}])
def test_a_claim_that_calls_itself_unlimited_is_not_timed(tmp_path: Path, said: dict[str, str]) -> None:
    assert "budget.train" not in found(folder_of(tmp_path, {**MEAN, **said}, **three(train_ms=9_000_000)))


def test_a_manifest_of_another_kind_makes_no_record_of_ours(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, MEAN, **three(), manifest__json='{"files": ["a"]}')
    assert found(folder) == set()


@pytest.mark.parametrize(
    "claim",
    [
        {"seed_results": {"42": 1.7e308, "7": -1.7e308}, "val_bpb_std": 0.0001},
        {"seed_results": {"9" * 5_000: 1.2}},
        {"seed_results": {"seed": 1, "val_bpb": 1.2201}},
        {"val_bpb": 0},
        {"val_bpb": [1.22], "seeds": None, "bytes_total": "14.9 MB"},
    ],
)
def test_odd_claims_end_in_a_verdict(tmp_path: Path, claim: dict[str, Any]) -> None:
    zero = log_text(1.22) + "ttt skipped val_loss:0.0000 val_bpb:0.0000\n"
    assert found(folder_of(tmp_path, {**MEAN, **claim}, **three(), train__log=zero), "invalid") == set()


def test_a_claim_of_one_seed_or_of_what_is_not_shipped_is_flagged(tmp_path: Path) -> None:
    before = {name: "DIAGNOSTIC post_ema val_loss:1.9000 val_bpb:1.1000\n" + text for name, text in three().items()}
    assert found(folder_of(tmp_path / "a", {**MEAN, "val_bpb": 1.1000001}, **before)) == {"number.val_bpb"}
    apart = {f"train_seed{seed}__log": log_text(1.22 + 0.01 * at, seed=seed) for at, seed in enumerate((42, 7, 1337))}
    assert found(folder_of(tmp_path / "b", {**MEAN, "val_bpb": 1.22}, **apart)) == {"number.val_bpb"}


@pytest.mark.parametrize("keys", [("42", "7", "1337"), ("seed_42", "seed_7", "seed_1337"), ()])
def test_seeds_that_are_listed_in_any_way_are_held_to_their_logs(tmp_path: Path, keys: tuple[str, ...]) -> None:
    listed: Any = {key: {"val_bpb": 1.05} for key in keys}
    listed = listed or [{"seed": seed, "val_bpb": 1.05} for seed in (42, 7, 1337)]
    assert "number.seed" in found(folder_of(tmp_path, {**MEAN, "seed_results": listed}, **three()), "invalid")


def test_a_stub_that_is_part_of_the_logged_source_is_not_that_source(tmp_path: Path) -> None:
    logs = {name: SCRIPT + text for name, text in three().items()}
    stub = {"train_gpt__py": "def main():\n    pass\n", "__init____py": ""}
    assert found(folder_of(tmp_path, MEAN, **logs, **stub)) == {"hash.sources"}
    crlf = {name: SCRIPT.replace("\n", "\r\n") + text for name, text in three().items()}
    assert found(folder_of(tmp_path / "c", MEAN, **crlf)) == set()
