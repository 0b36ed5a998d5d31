"""data.hub against a local server that speaks the hub's layout: listing, pinning, checking."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_text
from tests.data.hub_server import Hub, serve

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # a process for each command


def run_module(endpoint: str, home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        environment.pop(name, None)
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def lines(seeds: range) -> bytes:
    return "".join(json.dumps({"text": make_text(seed)}) + "\n" for seed in seeds).encode()


@pytest.fixture
def hub() -> Hub:
    files = {
        "data/b.jsonl": lines(range(30)),
        "data/a.jsonl.gz": gzip.compress(lines(range(30, 60))),
        "other/c.jsonl": lines(range(60, 90)),
        "README.md": b"# about",
    }
    return Hub("owner/name", files)


def prep_words(tmp_path: Path, spec: str) -> list[object]:
    return ["data.prep", spec, "--vocab", 400, "--val-fraction", 0.2, "--out", tmp_path / "out", "--json"]


def test_a_hub_dataset_is_listed_downloaded_and_prepared_then_up_to_date(tmp_path: Path, hub: Hub) -> None:
    with serve(hub) as endpoint:
        words = prep_words(tmp_path, "hf:owner/name:data/*")
        first = run_module(endpoint, tmp_path / "home", *words)
        assert first.returncode == 0, first.stderr
        answer: dict[str, Any] = json.loads(first.stdout)
        assert answer["train_docs"] + answer["val_docs"] == 60
        assert set(hub.served) == {"data/a.jsonl.gz", "data/b.jsonl"}
        assert len(hub.served) == 2  # three readings of the corpus, one download each
        again = run_module(endpoint, tmp_path / "home", *words)
        assert json.loads(again.stdout)["up_to_date"]


def test_a_file_that_is_not_what_was_listed_is_refused(tmp_path: Path, hub: Hub) -> None:
    listed = hub.listing()
    hub.listing = lambda: listed  # type: ignore[method-assign]
    hub.files["data/b.jsonl"] = hub.files["data/b.jsonl"].replace(b"the", b"eht")
    with serve(hub) as endpoint:
        done = run_module(endpoint, tmp_path / "home", *prep_words(tmp_path, "hf:owner/name:data/b.jsonl"))
    assert done.returncode == 2
    assert "does not match its listed hash" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_the_hub_does_not_have_or_answer_is_one_clear_line(tmp_path: Path, hub: Hub) -> None:
    with serve(hub) as endpoint:
        for address, spec, expected in (
            (endpoint, "hf:nobody/nothing", "not there"),
            (endpoint, "hf:owner/name@v1:*.parquet", "no .txt, .jsonl (also as .gz, .xz, .zst) or .parquet"),
            (endpoint, "hf:owner/name/more", "a hub source is hf:OWNER/NAME"),
            ("http://127.0.0.1:9", "hf:owner/name", "cannot be reached"),
        ):
            done = run_module(address, tmp_path / "home", *prep_words(tmp_path, spec))
            assert done.returncode == 2
            assert expected in done.stderr
            assert done.stderr.count("\n") == 1
