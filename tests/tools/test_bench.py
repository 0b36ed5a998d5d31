"""tools.bench: that it measures, and (slow) that the promises it measures are kept."""

import argparse

import pytest

from tools.bench import LONG, SHORT, Row, act, prepare_big_corpus, show


def test_the_bench_measures_every_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bench.LOADER_SECONDS", 0.05)
    monkeypatch.setattr("tools.bench.PARALLEL_CHARS", 1_000_000)
    answer = act(argparse.Namespace(corpus="stdlib", quick=True))
    rows = {row["what"]: row for row in answer["rows"]}
    for what in ("documents given back exactly", "documents whose bytes are counted exactly"):
        assert rows[what]["figure"] == rows[what]["target"] > 300
    table = show(answer)
    assert table.count("\n| ") == len(rows) + 1
    assert "cores of" in table


def test_a_missed_target_is_told() -> None:
    assert Row("speed", 4, "MB/s", 5).missed
    assert not Row("speed", 6, "MB/s", 5).missed
    assert Row("memory", 2, "GB", 1.5, at_most=True).missed
    assert not Row("words", 1, "").missed


@pytest.mark.slow
@pytest.mark.parametrize("document_chars", [LONG, SHORT])
def test_a_gigabyte_is_prepared_within_one_and_a_half_of_memory(document_chars: int) -> None:
    big = prepare_big_corpus(document_chars)
    assert 0.1e9 < big.peak_bytes < 1.5e9
    assert big.bytes_per_second > 5e6
