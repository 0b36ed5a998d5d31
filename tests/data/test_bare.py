"""data.bare: the contest's shards as they lie, opened without a manifest; what is wrong with them is one line each."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from base.errors import BadInput
from data.config import DataConfig
from data.dataset import Dataset, open_dataset
from data.ensure import ensure_dataset
from data.shards import header
from data.tokenizer import SentencePieceTokenizer
from tests.conftest import make_text
from tests.runs import command, lay_bare, refusal, small
from tools.plan.corpus import find_corpus
from tools.verify.datasets import datasets_with


@pytest.fixture
def folder(tmp_path: Path, contest_tokenizer: SentencePieceTokenizer, texts: list[str]) -> Path:
    return lay_bare(tmp_path / "data", contest_tokenizer, texts, train=3, val=2)


def same_data(one: Dataset, other: Dataset) -> bool:
    return [one.manifest.data_sha256(side) for side in (None, "val", "train")] == [
        other.manifest.data_sha256(side) for side in (None, "val", "train")
    ]


def test_bare_shards_are_the_data_that_their_manifest_would_describe(folder: Path, tmp_path: Path) -> None:
    bare = open_dataset(folder)
    assert {path.suffix for path in folder.iterdir()} == {".bin"}
    words = ("--local", "--reissued", "--root", str(tmp_path / "data"), "--json")
    assert command("data.contest", *words) == 0
    described = open_dataset(folder)
    assert same_data(bare, described)
    assert bare.manifest.val == described.manifest.val
    assert bare.bytes_per_token == described.bytes_per_token
    assert described.manifest.shared_documents == 0
    assert bare.manifest.shared_documents is None
    assert "was not looked for" in bare.manifest.split
    assert [bare.tokenizer.decode(ids) for ids in bare.documents("val")][3] == bare.tokenizer.normalize(make_text(3))


def test_a_score_needs_the_validation_side_alone(folder: Path) -> None:
    complete = open_dataset(folder)
    for path in folder.glob("fineweb_train_*.bin"):
        path.unlink()
    scored = open_dataset(folder, val_only=True)
    assert scored.manifest.data_sha256() == complete.manifest.data_sha256("val")
    assert scored.manifest.val == complete.manifest.val
    assert len(scored.train) == 0


def test_a_manifest_checked_by_another_rank_saves_the_hashing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = open_dataset(folder)
    monkeypatch.setattr("data.shards.file_sha256", pytest.fail)
    assert same_data(open_dataset(folder, checked=checked.manifest), checked)


def test_the_tokenizer_is_where_the_contest_puts_it_or_beside_the_shards(folder: Path, tmp_path: Path) -> None:
    expected = open_dataset(folder)
    (tmp_path / "elsewhere").symlink_to(folder)
    with pytest.raises(BadInput, match=r"elsewhere: no tokenizer \(.*/tokenizers/fineweb_elsewhere_bpe.model\)"):
        open_dataset(tmp_path / "elsewhere")
    there = folder.parents[1] / "tokenizers" / "fineweb_1024_bpe.model"
    for name in (there.name, "tokenizer.model"):
        shutil.move(there, folder / name)
        there = folder / name
        with contextlib.chdir(folder):
            assert same_data(open_dataset("."), expected)


def test_a_record_finds_bare_shards_by_the_hash_of_their_validation_side(folder: Path) -> None:
    (folder.parent / "empty").mkdir()
    wanted = open_dataset(folder).manifest
    assert list(datasets_with(wanted.data_sha256("val"), True, folder.parent)) == [folder]
    assert list(datasets_with(wanted.data_sha256(), False, folder.parent)) == [folder]
    assert list(datasets_with("0" * 64, True, folder.parent)) == []


def test_the_planner_counts_bare_shards(folder: Path) -> None:
    count, tokens, val_tokens = find_corpus(small(f"data.path={folder}"))
    dataset = open_dataset(folder)
    assert (count, count * tokens, val_tokens) == (3, len(dataset.train), len(dataset.val))


def shard_with(token: int) -> bytes:
    return header(2) + np.array([1, token], "<u2").tobytes()


def open_as_a_run_does(folder: Path) -> None:
    ensure_dataset(DataConfig(path=str(folder)), 400)
    open_dataset(folder)


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "training shards of another vocabulary": (
        lambda folder: (folder / "fineweb_train_000001.bin").write_bytes(shard_with(4000)),
        r"fineweb_train_000001.bin: has token 4000, and the tokenizer has 400 pieces",
    ),
    "validation shards of another vocabulary": (
        lambda folder: (folder / "fineweb_val_000001.bin").write_bytes(shard_with(400)),
        r"fineweb_val_000001.bin: has token 400, and the tokenizer has 400 pieces",
    ),
    "no tokenizer": (
        lambda folder: shutil.rmtree(folder.parents[1] / "tokenizers"),
        r"no tokenizer \(.*data/tokenizers/fineweb_1024_bpe.model\); .* python -m data.contest --variant sp1024",
    ),
    "a gap": (
        lambda folder: (folder / "fineweb_train_000001.bin").unlink(),
        "has fineweb_train_000002.bin where fineweb_train_000001.bin should come first",
    ),
    "no validation shard": (
        lambda folder: [path.unlink() for path in folder.glob("fineweb_val_*.bin")],
        "no token in a fineweb_val_000000.bin, so nothing to score: python -m data.contest",
    ),
    "nothing": (
        lambda folder: [path.unlink() for path in folder.iterdir()],
        r"not a dataset \(no manifest.json, no fineweb_val_\*.bin\); make it: python -m data.contest --variant sp1024$",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_in_one_line(folder: Path, name: str) -> None:
    damage, expected = WRONG[name]
    damage(folder)
    with pytest.raises(BadInput, match=expected) as refused:
        open_as_a_run_does(folder)
    assert "\n" not in str(refused.value)


def test_a_missing_dataset_of_another_name_is_made_by_prep_with_the_models_vocabulary() -> None:
    with pytest.raises(BadInput, match=r"python -m data.prep SOURCE --vocab 512 --out data/datasets/mine$"):
        ensure_dataset(DataConfig(path="data/datasets/mine"), 512)


def test_a_check_needs_a_manifest(folder: Path) -> None:
    assert "python -m data.contest --local" in refusal("data.check", folder)
