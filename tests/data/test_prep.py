"""data.prep end to end: the answer, the files on disk, and every kind of bad input."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.errors import BadInput
from data.build import build_dataset
from data.corpus import Corpus, open_corpus
from data.dataset import Dataset, open_dataset
from data.job import Recipe
from data.readers import Document
from data.tokenizer import SentencePieceTokenizer
from tests.conftest import make_text, prep, sentencepiece_like
from tests.runs import printed, write_texts

Rewrite = Callable[[Path, Callable[[dict[str, Any]], None]], None]


def assert_proved(answer: dict[str, Any]) -> None:
    """The manifest's raw validation bytes are the oracle's sum over the validation shard."""
    dataset = open_dataset(answer["path"])
    tokens = dataset.val.read(0, len(dataset.val))
    assert int(dataset.table.exact_bytes(tokens).sum()) == answer["val_bytes"] == answer["val_raw_bytes"]
    assert len(tokens) == answer["val_tokens"]


def test_one_thread_or_three_write_the_same_bytes(tmp_path: Path) -> None:
    source = write_texts(tmp_path / "many.jsonl", [make_text(seed, 3000) for seed in range(200)])
    answers = [prep(source, "--vocab", 400, "--out", tmp_path / str(n), "--workers", n) for n in (1, 3)]
    assert_proved(answers[0])
    assert answers[0]["data_sha256"] == answers[1]["data_sha256"]
    for file in ("train_000000.bin", "val_000000.bin", "tokenizer.model"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "3" / file).read_bytes()


def test_another_request_or_damage_rebuilds_it(dataset: Dataset, jsonl: Path, rewrite_manifest: Rewrite) -> None:
    words = [jsonl, "--vocab", 400, "--out", dataset.path, "--workers", 1, "--val-fraction"]
    rewrite_manifest(dataset.path, lambda manifest: manifest.update(layout="golf"))  # as older manifests have it
    assert prep(*words, 0.2)["up_to_date"]
    assert not prep(*words, 0.3)["up_to_date"]
    assert not prep(*words, 0.2)["up_to_date"]
    shard = dataset.path / "val_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-2] + b"\1\1")
    assert not prep(*words, 0.2)["up_to_date"]
    rewrite_manifest(dataset.path, lambda manifest: manifest["val"].update(bytes=7))
    assert not prep(*words, 0.2)["up_to_date"]
    assert prep(*words, 0.2)["up_to_date"]
    assert open_dataset(dataset.path).manifest == dataset.manifest


def test_rebuilding_replaces_its_own_files_and_touches_no_other(dataset: Dataset, jsonl: Path) -> None:
    words = (jsonl, "--vocab", 390, "--out", dataset.path, "--workers", 1)
    (dataset.path / "train_000007.bin").write_text("mine")
    with pytest.raises(BadInput, match=r"holds train_000007\.bin, which is no file of a dataset there"):
        prep(*words)
    assert open_dataset(dataset.path).manifest == dataset.manifest
    (dataset.path / "train_000007.bin").unlink()
    prep(*words)
    manifest = open_dataset(dataset.path).manifest
    assert {path.name for path in dataset.path.iterdir()} == {"manifest.json", *manifest.files()}


def test_unreadable_documents_stop_the_run_or_are_skipped_and_counted(tmp_path: Path, texts: list[str]) -> None:
    path = write_texts(tmp_path / "a.jsonl", texts)
    path.write_bytes(path.read_bytes() + b'{"text": "\xff\xfe"}\n' + b"oops\n")
    words = (path, "--vocab", 400, "--val-fraction", 0.2, "--out", tmp_path / "out", "--workers", 1)
    _, error = printed("data.prep", *words, code=2)
    assert f"a.jsonl:{len(texts) + 1}: not readable as jsonl: 'utf-8' codec can't decode byte 0xff" in error
    assert "--skip-bad" in error
    answer = prep(*words, "--skip-bad")
    assert answer["skipped_docs"] == 2
    assert answer["train_docs"] + answer["val_docs"] == len(texts)


BAD_INPUT = [  # flags in one word, what the message has in it
    ("''", "no file is there"),
    ("*.md", "or .parquet in note.md"),
    ("plain.txt", "--txt line or --txt file"),
    ("blank.jsonl", "no document with text in it"),
    ("one.jsonl", "a split needs two"),
    ("texts.jsonl --vocab 70000", "to 65536 (uint16 ids)"),
    ("texts.jsonl --vocab 60000", "too large for this text; use --vocab"),
    ("texts.jsonl --vocab 261", "too small: bytes, specials and characters take"),
    ("texts.jsonl --val-fraction 1.5", "not between 0 and 1"),
    ("texts.jsonl --tokenizer nowhere.model", "no such tokenizer file"),
    ("texts.jsonl --tokenizer texts.jsonl", "neither a SentencePiece model nor"),
    ("texts.jsonl --tokenizer byte --vocab 400", "--vocab is for training"),
    ("texts.jsonl --tokenizer prefix.model", "does not give this document back"),  # adds a space, as LLaMA's does
    ("texts.jsonl --workers 0", "--workers 0: must be at least 1"),
    ("texts.jsonl --tokenizer-mb 0", "nothing to learn"),
    ("texts.jsonl --out texts.jsonl", "is a file; --out names a folder"),
    ("texts.jsonl --out foreign", "not a manifest of format"),
    ("one.jsonl --out taken/new", "a split needs two"),
]


def test_bad_input_leaves_no_file(
    tmp_path: Path, jsonl: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prefix.model").write_bytes(sentencepiece_like(texts, normalization_rule_name="nmt_nfkc").model)
    files = {
        "texts.jsonl": jsonl.read_text(),
        "blank.jsonl": '{"text": ""}\n\n',
        "one.jsonl": '{"text": "all there is"}\n',
        "note.md": "x",
        "plain.txt": "x",
        "taken/mine.bin": "do not touch",
        "foreign/manifest.json": '{"name": "a web page"}',
    }
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    before = sorted(path.as_posix() for path in tmp_path.rglob("*"))
    for line, expected in BAD_INPUT:
        words = ["" if word == "''" else word for word in line.split(" ")]
        out = [] if "--out" in words else ["--out", "out"]
        stdout, err = printed("data.prep", *words, *out, "--json", code=2)
        assert (stdout, expected in err.splitlines()[-1]) == ("", True), line
        assert sorted(path.as_posix() for path in tmp_path.rglob("*")) == before, line


def test_a_source_that_changes_while_it_is_read_stops_the_run(jsonl: Path, tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Changing(Corpus):
        passes: list[int] = dataclasses.field(default_factory=list)

        def documents(self, on_bad: Any) -> Any:
            self.passes.append(1)
            edit = "" if len(self.passes) < 3 else "!"
            return (Document(name, text + edit) for name, text in super().documents(on_bad))

    corpus = Changing("texts", open_corpus(str(jsonl)).files)
    with pytest.raises(BadInput, match="it changed while it was being read"):
        build_dataset(corpus, Recipe(vocab=400, val_fraction=0.2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_texts_made_equal_are_one_document(tmp_path: Path, contest_tokenizer: SentencePieceTokenizer) -> None:
    texts = [make_text(seed, 20) for seed in range(60)]
    spaced = [text.replace(" ", "  ") for text in texts]  # nmt_nfkc folds runs of spaces
    source = write_texts(tmp_path / "a.jsonl", [*texts, *spaced, " ", "  ", "   "])
    (tmp_path / "c.model").write_bytes(contest_tokenizer.model)
    answer = prep(source, "--tokenizer", tmp_path / "c.model", "--val-fraction", 0.3, "--out", tmp_path / "out")
    assert answer["repeated_docs"] == 62
    printed("data.check", answer["path"])
    answer = prep(source, "--tokenizer", "byte", "--val-fraction", 0.3, "--out", tmp_path / "bytes")
    assert (answer["vocab_size"], answer["repeated_docs"]) == (260, 0)
    assert answer["val_tokens"] == answer["val_bytes"] + answer["val_docs"]
