"""Shared fixtures: a little text, tokenizers trained on it, a dataset made of it, and the records of tests.records."""

import io
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import settings

from data.dataset import Dataset, open_dataset
from data.tokenizer import SPACE, SentencePieceTokenizer
from data.tokenizer_training import train_tokenizer
from tests.records import data, quick, record, scores_only, seeds, single
from tests.runs import make_dataset, prep, write_texts

# Fixtures, and what tests import from here.
__all__ = ["data", "prep", "quick", "record", "scores_only", "seeds", "single"]

# A shell's background job ignores Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

WORDS = (
    "the of and model byte score window stride a packs text weights 10 37 2048 naïve café Straße привет мир 日本 🙂 "
    "return def self.x(y): [] == # \t \n \n\n {} None"
).split(" ")


def make_text(seed: int, words: int = 200) -> str:
    picked = random.Random(seed)
    return " ".join(picked.choice(WORDS) for _ in range(words))


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [make_text(seed) for seed in range(120)]


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> SentencePieceTokenizer:
    return train_tokenizer(texts, 400)


@pytest.fixture(scope="session")
def contest_tokenizer(texts: list[str]) -> SentencePieceTokenizer:
    """Trained the contest's way: nmt_nfkc, extra white space removed."""
    return sentencepiece_like(texts, normalization_rule_name="nmt_nfkc", add_dummy_prefix=False)


def contest_rule(tokenizer: SentencePieceTokenizer, stream: list[int]) -> int:
    """The contest's published counting, written out from its description: the oracle for `contest_bytes`."""
    sp = tokenizer._sp
    total = 0
    for previous, target in zip(stream[:-1], stream[1:], strict=True):
        if sp.is_control(target) or sp.is_unknown(target) or sp.is_unused(target):
            continue
        if sp.is_byte(target):
            total += 1
            continue
        piece = sp.id_to_piece(target)
        total += len(piece.removeprefix(SPACE).encode())
        boundary = sp.is_control(previous) or sp.is_unknown(previous) or sp.is_unused(previous)
        total += piece.startswith(SPACE) and not boundary
    return total


def sentencepiece_like(texts: list[str], **options: Any) -> SentencePieceTokenizer:
    model = io.BytesIO()
    chosen: dict[str, Any] = {
        "vocab_size": 400,
        "model_type": "bpe",
        "byte_fallback": True,
        "split_digits": True,
        "pad_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "unk_id": 3,
        "minloglevel": 2,
        "character_coverage": 0.999,
        "hard_vocab_limit": False,
        **options,
    }
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=model, **chosen)
    return SentencePieceTokenizer(model.getvalue())


@pytest.fixture(scope="session")
def jsonl(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("corpus") / "texts.jsonl", texts)


@pytest.fixture
def dataset(jsonl: Path, tmp_path: Path) -> Dataset:
    """A fresh dataset for each test, which may change it."""
    make_dataset(jsonl, tmp_path / "dataset")
    return open_dataset(tmp_path / "dataset")


@pytest.fixture
def work(jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a dataset in data/ that fits tests.runs.small()."""
    make_dataset(jsonl, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rewrite_manifest() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Edit a dataset's manifest in place: rewrite(folder, lambda m: …)."""

    def rewrite(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
        path = folder / "manifest.json"
        values = json.loads(path.read_text())
        edit(values)
        path.write_text(json.dumps(values))

    return rewrite
