"""tools.bench: that it measures what it names."""

import argparse
from pathlib import Path

import pytest

from base.cli import run
from tools import bench
from tools.bench import act, measure_codec, measure_scoring, measure_training, parser, show


def test_the_table_has_a_row_per_figure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "LOADER_BATCHES", 2)
    assert run(parser(), act, show, ["--only", "loader"]) == 0
    table = capsys.readouterr().out
    assert "cores" in table
    assert table.count("\n| ") == 2


@pytest.mark.slow
def test_commands_are_measured_by_running_them(jsonl: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "model: {vocab_size: 400, layers: 1, dim: 32, heads: 2, kv_heads: 1}\n"
        f"train: {{seq_len: 64, batch_tokens: 512}}\ndata: {{source: {jsonl}}}"
    )
    monkeypatch.setattr(bench, "STEPS", 3)
    monkeypatch.setattr(bench, "SCORED_TOKENS", 100)
    monkeypatch.setattr(bench, "CODED_TEXT", config)
    args = argparse.Namespace(config=str(config), artifact=None)
    rows = [*measure_training(args, tmp_path), *measure_scoring(args, tmp_path), *measure_codec(args, tmp_path)]
    assert len(rows) == 7
    assert all(row.figure > 0 for row in rows)
