"""The loss by kind of target: labels against their definitions written out, shares that add up, and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.dataset import Dataset
from data.tokenizer import ByteTokenizer
from eval import bpb, kinds
from eval.kinds import NAMES, label_position, label_repetition, label_token, label_vocabulary
from tests.eval.tiny import packed


def repetition_written_out(tokens: list[int], target: int, begin: int) -> str:
    last, successor = tokens[target], tokens[target + 1]
    followed_by = [tokens[at + 1] for at in range(begin, target) if tokens[at] == last]
    return "repeat" if successor in followed_by else "broken" if followed_by else "new"


@given(st.lists(st.integers(0, 4) | st.just(65535), min_size=2, max_size=60), st.integers(1, 60), st.integers(0, 50))
def test_a_repetition_is_its_definition_written_out(tokens: list[int], context: int, document: int) -> None:
    target = np.arange(len(tokens) - 1)
    begin = np.maximum(target + 1 - context, np.minimum(document, target))
    found = label_repetition(np.array(tokens, np.uint16), target, begin)
    expected = [repetition_written_out(tokens, i, b) for i, b in enumerate(begin.tolist())]
    assert [NAMES["repetition"][label] for label in found] == expected


def test_positions_fall_into_powers_of_two() -> None:
    for label, known in zip(label_position(np.arange(1, 5000)), range(1, 5000), strict=True):
        first, *last = NAMES["position_range"][label].split(" to ")
        assert int(first) <= known <= int(last[0] if last else first)


def test_a_token_is_named_after_its_bytes() -> None:
    cases = {
        " the": "word start", "\tdef": "word start", " 2nd": "word start", "ing": "continuation", "_x": "continuation",
        "日本": "continuation", "\n": "white space", "    ": "white space", "\u3000": "white space", "7": "digits",
        " 10": "digits", "():": "punctuation", " ==": "punctuation", "🙂": "punctuation", "": "special",
    }  # fmt: skip
    for text, kind in cases.items():
        assert NAMES["token_kind"][label_token(text.encode())] == kind, text
    assert label_token("é".encode()[:1]) == label_token(b"\xa9") == kinds.BYTE
    assert np.bincount(label_vocabulary(ByteTokenizer()))[[kinds.SPECIAL, kinds.BYTE]].tolist() == [4, 128]


@pytest.mark.parametrize("words", [["--limit", "500"], ["--docs"], ["--limit", "300", "--adapt", "mix"]], ids=" ".join)
def test_the_table_splits_the_score(dataset: Dataset, tmp_path: Path, words: list[str]) -> None:
    path = packed(dataset, tmp_path / "model.golf")
    given = [str(path), "--by", "kind", "--dump", str(tmp_path / "d.npz"), *words]
    answer: dict[str, Any] = bpb.act(bpb.parser().parse_args(given))
    assert json.loads(path.with_name("score.json").read_text())["kinds"] == answer["kinds"]
    dump = np.load(tmp_path / "d.npz")
    for label, rows in answer["kinds"].items():
        names = dump[f"{label}_names"][dump[label]]
        assert sum(row["targets"] for row in rows) == answer["tokens"]
        assert sum(row["loss_share"] for row in rows) == pytest.approx(1)
        assert sum(row["share"] * row["nats_per_token"] for row in rows) == pytest.approx(answer["nats_per_token"])
        for row in rows:
            assert row["nats_per_token"] == pytest.approx(dump["nats"][names == row["kind"]].mean())
    tokens = dataset.val.read(0, len(dataset.val)).tolist()
    first = dump["target"] - dump["position_in_document"] if answer["docs"] else 0
    begin = np.maximum(dump["target"] + 1 - answer["context"], first).tolist()
    expected = [repetition_written_out(tokens, i, b) for i, b in enumerate(begin)]
    assert [NAMES["repetition"][label] for label in dump["repetition"]] == expected
    text = bpb.show(answer)
    assert all(f"\n{row['kind']:<20}" in text for rows in answer["kinds"].values() for row in rows)
    assert "'kind'" not in text
