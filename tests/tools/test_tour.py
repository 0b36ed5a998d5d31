"""tools.tour: the files that are there, the newest of each kind, and nothing else."""

import json
from pathlib import Path

import pytest

from base.errors import BadInput
from tools.tour import act, parser, show


def test_the_tour_names_what_is_there_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"packed_bpb": 1.5, "total_bytes": 99_000}))
    (tmp_path / "train.log").write_text("said")
    record = tmp_path / "records" / "track_x" / "2026-01-01_a"
    record.mkdir(parents=True)
    (record / "README.md").write_text("claimed")
    answer = act(parser().parse_args([str(tmp_path)]))
    assert [Path(file["path"]).name for file in answer["files"]] == ["train.log", "README.md"]
    assert [file["bytes"] for file in answer["files"]] == [4, 7]
    assert "1.5000 bits a byte in 99,000 bytes" in show(answer)


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"result\.json: no such file"):
        act(parser().parse_args([str(tmp_path)]))
