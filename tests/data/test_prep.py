"""data.prep end to end: the answer, what lies on disk, and every kind of bad input."""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from base.cli import run
from base.errors import BadInput
from data import prep as prep_module
from data.bytes import ByteTable
from data.dataset import Dataset, open_dataset
from data.encoding import Pending, encode_batch
from data.shards import open_shard
from data.split import document_digest
from data.staging import LOCK, PARTIAL
from data.tokenizer import SentencePieceTokenizer
from tests.conftest import SHARED_CORPUS, check_exit, make_text, needs_shared_corpus, prep, sentencepiece_like

ROOT = Path(__file__).parents[2]
Rewrite = Callable[[Path, Callable[[dict[str, Any]], None]], None]


def prep_exit(*words: object) -> int:
    return run(prep_module.parser(), prep_module.act, prep_module.show, [str(word) for word in words])


def assert_proved(answer: dict[str, Any]) -> None:
    """The manifest's raw validation bytes are the oracle's sum over the validation shard."""
    dataset = open_dataset(answer["path"])
    tokens = dataset.val.read(0, len(dataset.val))
    assert int(dataset.table.exact_bytes(tokens).sum()) == answer["val_bytes"] == answer["val_raw_bytes"]
    assert len(tokens) == answer["val_tokens"]


def test_the_standard_library_is_prepared_proved_and_then_up_to_date(tmp_path: Path) -> None:
    words = ("stdlib", "--vocab", 1024, "--out", tmp_path / "stdlib")
    started = time.monotonic()
    answer = prep(*words)
    assert time.monotonic() - started < 90
    assert not answer["up_to_date"]
    assert answer["vocab_size"] == 1024
    assert_proved(answer)
    again = prep(*words)
    assert again["up_to_date"]
    assert {k: v for k, v in again.items() if k not in ("up_to_date", "seconds")} == {
        k: v for k, v in answer.items() if k not in ("up_to_date", "seconds")
    }
    assert check_exit(answer["path"]) == 0


@needs_shared_corpus
def test_2197_english_documents_are_prepared_and_proved(tmp_path: Path) -> None:
    answer = prep(SHARED_CORPUS, "--vocab", 1024, "--out", tmp_path / "proposals")
    assert answer["train_docs"] + answer["val_docs"] == 2197
    assert_proved(answer)
    assert prep(SHARED_CORPUS, "--vocab", 1024, "--out", tmp_path / "proposals")["up_to_date"]


def test_one_process_or_three_write_the_same_bytes(jsonl: Path, tmp_path: Path) -> None:
    many = tmp_path / "many.jsonl"
    many.write_text("".join(json.dumps({"text": make_text(seed, 3000)}) + "\n" for seed in range(200)))
    answers = [prep(many, "--vocab", 400, "--out", tmp_path / str(n), "--workers", n) for n in (1, 3)]
    assert answers[0]["data_sha256"] == answers[1]["data_sha256"]
    for file in ("train_000000.bin", "val_000000.bin", "tokenizer.model"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "3" / file).read_bytes()


def test_another_request_or_a_damaged_file_makes_it_anew(dataset: Dataset, jsonl: Path) -> None:
    words = [jsonl, "--vocab", 400, "--val-fraction", 0.2, "--out", dataset.path, "--workers", 1]
    assert prep(*words)["up_to_date"]
    assert not prep(*words, "--shard-tokens", 2000)["up_to_date"]
    assert len(list(dataset.path.glob("train_*.bin"))) > 3
    assert not prep(*words)["up_to_date"]
    assert len(list(dataset.path.glob("train_*.bin"))) == 1
    shard = dataset.path / "val_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-2] + b"\1\1")
    assert not prep(*words)["up_to_date"]
    assert prep(*words)["up_to_date"]
    assert open_dataset(dataset.path).manifest == dataset.manifest


def test_the_rscalm_layout_is_seed_001s(tmp_path: Path) -> None:
    texts = [make_text(seed).replace("\n", " ") for seed in range(100)]
    (tmp_path / "corpus.txt").write_text("\n".join(texts) + "\n\n", encoding="utf-8")
    out = tmp_path / "out"
    prep(tmp_path / "corpus.txt", "--txt", "line", "--layout", "rscalm", "--split", "tail", "--val-fraction", 0.1,
         "--vocab", 400, "--out", out, "--workers", 1)  # fmt: skip
    dataset = open_dataset(out)
    tokenizer = dataset.tokenizer
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2, 3)
    raw = (out / "val.bin").read_bytes()
    ids = np.array(struct.unpack(f"<{len(raw) // 4}i", raw))
    assert ids[-1] == tokenizer.eos_id
    documents = [
        tokenizer.decode(part[:-1]) for part in np.split(ids, np.flatnonzero(ids == tokenizer.eos_id) + 1)[:-1]
    ]
    assert documents == texts[90:]
    assert check_exit(out) == 0


def test_bad_documents_stop_the_run_unless_told_to_skip_and_are_then_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], texts: list[str]
) -> None:
    path = tmp_path / "a.jsonl"
    good = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    path.write_bytes(good + b'{"text": "\xff\xfe"}\n' + b"oops\n")
    words = (path, "--vocab", 400, "--val-fraction", 0.2, "--out", tmp_path / "out", "--workers", 1)
    assert prep_exit(*words) == 2
    said = capsys.readouterr().err
    assert f"a.jsonl:{len(texts) + 1}: not UTF-8 at byte 10" in said
    assert "--skip-bad" in said
    answer = prep(*words, "--skip-bad")
    assert answer["skipped_docs"] == 2
    assert answer["train_docs"] + answer["val_docs"] == len(texts)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing.jsonl"], "no such file, folder or glob"),
        (["empty.jsonl"], "no document with text in it"),
        (["blank.jsonl"], "no document with text in it"),
        (["one.jsonl"], "a split needs two"),
        (["texts.jsonl", "--vocab", "70000"], "ids are stored as uint16; use 261 to 65536"),
        (["texts.jsonl", "--vocab", "60000"], "too large for this text; use --vocab"),
        (["texts.jsonl", "--vocab", "300"], "too small"),
        (["texts.jsonl", "--vocab", "2"], "use 261 to 65536"),
        (["texts.jsonl", "--val-fraction", "1.5"], "not between 0 and 1"),
        (["texts.jsonl", "--val-fraction", "nan"], "not between 0 and 1"),
        (["texts.jsonl", "--tokenizer", "nowhere.model"], "no such tokenizer file"),
        (["texts.jsonl", "--tokenizer", "texts.jsonl"], "neither a SentencePiece model nor"),
        (["texts.jsonl", "--workers", "0"], "1 to 512 processes"),
        (["texts.jsonl", "--vocab", "many"], "invalid int value"),
        (["texts.jsonl", "--out", "texts.jsonl"], "is a file; --out names a folder"),
        (["texts.jsonl", "--out", "taken"], "holds mine.bin, which no manifest there names"),
        (["texts.jsonl", "--tokenizer", "byte", "--vocab", "400"], "--vocab and --ids are for training"),
        (["texts.jsonl", "--shard-tokens", "0"], "a shard holds 1 to"),
        (["texts.jsonl", "--tokenizer-mb", "0"], "must be at least 1"),
        (["texts.jsonl", "--voc", "400"], "unrecognized arguments"),
        (["texts.jsonl", "--out", "foreign"], "not a manifest of format"),
        (["texts.jsonl", "--out", "model"], "holds tokenizer.model, which no manifest there names"),
        (["texts.jsonl", "--out", ""], "--out names the dataset's folder, and it is empty"),
        (["missing.jsonl", "--out", "deep/er"], "no such file"),
        (["one.jsonl", "--out", "deep/er"], "a split needs two"),
        ([""], "SOURCE is empty"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing_behind(
    tmp_path: Path, jsonl: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: list[str], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.jsonl").write_bytes(jsonl.read_bytes())
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "blank.jsonl").write_text('{"text": ""}\n\n')
    (tmp_path / "one.jsonl").write_text('{"text": "all there is"}\n')
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.bin").write_text("do not touch")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.model").write_text("do not touch")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "manifest.json").write_text('{"name": "a web page"}')
    before = sorted(path.as_posix() for path in tmp_path.rglob("*"))
    out = [] if "--out" in words else ["--out", "out"]
    assert prep_exit(*words, *out, "--json") == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.splitlines()[-1].startswith("data.prep: ")
    assert captured.out == ""
    assert sorted(path.as_posix() for path in tmp_path.rglob("*")) == before


def test_a_document_that_the_tokenizer_does_not_give_back_stops_the_run(
    tokenizer: SentencePieceTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ByteTable, "join", lambda self, ids: b"something else")
    document = Pending("a.jsonl:7", "the text", document_digest(b"the text"))
    with pytest.raises(BadInput, match="a.jsonl:7: the tokenizer does not give this document back"):
        encode_batch(tokenizer.model, "golf", [document])


def test_a_source_that_changes_while_it_is_read_stops_the_run(tokenizer: SentencePieceTokenizer) -> None:
    document = Pending("a.jsonl:7", "the text", document_digest(b"another text"))
    with pytest.raises(BadInput, match="changed while it was being read"):
        encode_batch(tokenizer.model, "golf", [document])


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_dataset(tmp_path: Path) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails with an error, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    command = [sys.executable, "-m", "data.prep", "stdlib", "--vocab", "1024", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, preexec_fn=small_files, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_killed_half_way_leaves_no_dataset_and_no_process_and_the_next_run_makes_one(tmp_path: Path) -> None:
    source = tmp_path / "big.jsonl"
    with source.open("w") as stream:
        for seed in range(400):
            stream.write(json.dumps({"text": make_text(seed, 10_000)}) + "\n")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "data.prep", str(source), "--vocab", "400", "--out", str(out), "--workers", "2"]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    partial = out / PARTIAL / "train_000000.bin"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 1024) and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    running.kill()
    running.wait()
    assert partial.stat().st_size > 1024  # it was caught in the act
    with pytest.raises(BadInput, match="not a dataset"):
        open_dataset(out)
    assert not list(out.glob("*.bin"))
    with pytest.raises(BadInput, match="header says 0 tokens"):
        open_shard(partial)
    deadline = time.monotonic() + 10
    while any(_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children
    assert not any(_alive(child) for child in children)
    answer = prep(source, "--vocab", 400, "--out", out, "--workers", 1)
    assert_proved(answer)
    assert not (out / PARTIAL).exists()


def test_two_runs_do_not_write_one_dataset_at_once(jsonl: Path, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BadInput, match="another run is writing this dataset"):
            prep(jsonl, "--vocab", 400, "--out", tmp_path / "out")


def test_a_manifest_whose_totals_are_false_is_not_up_to_date(
    dataset: Dataset, jsonl: Path, rewrite_manifest: Rewrite
) -> None:
    rewrite_manifest(dataset.path, lambda m: m["val"].update(bytes=7))
    words = (jsonl, "--vocab", 400, "--val-fraction", 0.2, "--out", dataset.path, "--workers", 1)
    answer = prep(*words)
    assert not answer["up_to_date"]
    assert answer["val_bytes"] == dataset.manifest.val.bytes


@pytest.mark.parametrize("moment", ["tokenizer", "encoding"])
def test_ctrl_c_ends_the_run_in_one_line_and_leaves_nothing(tmp_path: Path, moment: str) -> None:
    source = tmp_path / "big.jsonl"
    with source.open("w") as stream:
        for seed in range(300):
            stream.write(json.dumps({"text": make_text(seed, 10_000)}) + "\n")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "data.prep", str(source), "--vocab", "400", "--out", str(out), "--workers", "2"]
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # tests in the background ignore it: so would this
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, process_group=0)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    mark = out / PARTIAL / ("train_000000.bin" if moment == "encoding" else "")
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.splitlines()[-1] == "data.prep: interrupted"
    assert "Traceback" not in said
    assert not out.exists()


def test_texts_that_the_tokenizer_makes_equal_are_one_document(
    tmp_path: Path, contest_tokenizer: SentencePieceTokenizer
) -> None:
    texts = [make_text(seed, 20) for seed in range(60)]
    path = tmp_path / "a.jsonl"
    spaced = [text.replace(" ", "  ") for text in texts]  # nmt_nfkc folds runs of spaces
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, *spaced, " ", "  ", "   "]))
    (tmp_path / "c.model").write_bytes(contest_tokenizer.model)
    words = (path, "--tokenizer", tmp_path / "c.model", "--val-fraction", 0.3, "--workers", 1)
    answer = prep(*words, "--out", tmp_path / "out")
    assert answer["repeated_docs"] == 62
    assert check_exit(answer["path"]) == 0


def test_a_tokenizer_whose_pieces_do_not_spell_what_it_decodes_is_refused(
    tmp_path: Path, jsonl: Path, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    prefixed = sentencepiece_like(texts, normalization_rule_name="nmt_nfkc")  # a dummy prefix, as LLaMA has
    (tmp_path / "p.model").write_bytes(prefixed.model)
    assert prep_exit(jsonl, "--tokenizer", tmp_path / "p.model", "--out", tmp_path / "out", "--workers", 1) == 2
    assert "does not give this document back" in capsys.readouterr().err


def test_rebuilding_removes_its_own_files_and_no_others(dataset: Dataset, jsonl: Path) -> None:
    words = (jsonl, "--vocab", 400, "--val-fraction", 0.2, "--out", dataset.path, "--workers", 1)
    (dataset.path / "notes.txt").write_text("mine")
    prep(*words, "--shard-tokens", 2000)
    prep(*words, "--shard-tokens", 3000)
    assert (dataset.path / "notes.txt").read_text() == "mine"
    named = {entry.file for entry in open_dataset(dataset.path).manifest.shards}
    assert {path.name for path in dataset.path.glob("*.bin")} == named
    (dataset.path / "mine.bin").write_text("mine")
    with pytest.raises(BadInput, match=r"holds mine\.bin, which no manifest there names"):
        prep(*words)


def test_the_answer_is_told_to_people_too(tmp_path: Path, jsonl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prep_exit(jsonl, "--vocab", 400, "--val-fraction", 0.2, "--out", tmp_path / "out", "--workers", 1) == 0
    said = capsys.readouterr().out
    assert "written in" in said
    assert "validation" in said
    assert check_exit(tmp_path / "out") == 0
    assert "the documents have the hash of the source" in capsys.readouterr().out


def test_copies_of_a_document_never_fall_on_both_sides_and_are_counted(tmp_path: Path) -> None:
    texts = [make_text(seed) for seed in range(60)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, *texts[:25]]))
    hashed = prep(path, "--vocab", 300 + 50, "--val-fraction", 0.3, "--out", tmp_path / "h", "--workers", 1)
    assert (hashed["repeated_docs"], hashed["dropped_docs"]) == (25, 0)
    tail = prep(path, "--vocab", 350, "--split", "tail", "--val-fraction", 0.3, "--out", tmp_path / "t", "--workers", 1)
    assert tail["val_docs"] == 25
    assert tail["dropped_docs"] == 25
    for answer in (hashed, tail):
        assert check_exit(answer["path"]) == 0


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"
