"""tools.bench: that it measures what it names."""

from pathlib import Path

import pytest

from tools import bench
from tools.bench import measure_run, show


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
    monkeypatch.setattr(bench, "PRODUCT", 64)
    rows = measure_run(tmp_path, config)
    assert len(rows) == 7
    assert all(figure > 0 for _, figure, _ in rows)
    named = [{"what": what, "figure": figure, "unit": unit} for what, figure, unit in rows]
    assert show({"machine": "2 cores", "rows": named}).count("\n| ") == 8
