"""base.cli, base.files, base.run_folder: exit codes, one line, one JSON object."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.cli import command, run
from base.errors import BadInput, CheckFailed
from base.files import atomic_file, require_folder_of
from base.run_folder import named_or_newest, newest


def call(act: Callable[[argparse.Namespace], dict[str, Any]], *words: str) -> int:
    parser = command("toy.tool", "A toy.")
    parser.add_argument("--n", type=int, default=1)
    return run(parser, act, lambda answer: f"n is {answer['n']}", words)


def raising(error: BaseException) -> Callable[[argparse.Namespace], dict[str, Any]]:
    def act(_: argparse.Namespace) -> dict[str, Any]:
        raise error

    return act


def chatty(args: argparse.Namespace) -> dict[str, Any]:
    print("thinking aloud")
    return {"n": args.n}


def test_the_answer_is_text_for_people_and_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(chatty, "--n", "3") == 0
    assert capsys.readouterr().out == "n is 3\n"
    assert call(chatty, "--n", "3", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"n": 3}
    assert captured.err == "thinking aloud\n"


def test_each_ending_has_its_exit_code_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for error, code, line in (
        (BadInput("no such\n  file"), 2, "no such file"),
        (CheckFailed("it does not hold"), 1, "it does not hold"),
        (OSError(28, "No space left on device", "/a/b"), 2, "/a/b: No space left on device"),
        (PermissionError(13, "Permission denied", "/a"), 2, "/a: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ):
        assert call(raising(error)) == code
        assert tuple(capsys.readouterr()) == ("", f"toy.tool: {line}\n")
    assert call(raising(ZeroDivisionError("oops"))) == 70  # a bug, and no failed claim
    assert "Traceback" in capsys.readouterr().err


def test_a_failed_check_may_have_an_answer_which_is_printed_as_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    failed = raising(CheckFailed("n should be 5", {"n": 4}))
    assert call(failed) == 1
    assert tuple(capsys.readouterr()) == ("n is 4\n", "toy.tool: n should be 5\n")
    assert call(failed, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"n": 4}


def test_files_are_written_completely_or_not_at_all(tmp_path: Path) -> None:
    atomic_file(tmp_path / "a", b"first")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic_file(tmp_path / "folder", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]
    for output, says in ((tmp_path / "none" / "f", "does not exist"), (tmp_path / "folder", "is a folder")):
        with pytest.raises(BadInput, match=says):
            require_folder_of(None, str(output))
    require_folder_of(None, str(tmp_path / "a"))


def test_flags_may_come_between_words_and_bad_usage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command("toy.tool", "A toy.")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--n", type=int)
    words = ["a=1", "--n", "3", "b=2", "--json"]
    assert run(parser, lambda args: {"words": args.words, "n": args.n}, str, words) == 0
    assert json.loads(capsys.readouterr().out) == {"words": ["a=1", "b=2"], "n": 3}
    for bad in (("--m", "1"), ("--n", "x"), ("extra",)):
        assert call(chatty, *bad) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert "(see: python -m toy.tool --help)" in line


def test_a_run_is_named_by_folder_or_file_or_is_the_newest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match=r"no model\.golf in"):
        newest("model.golf", tmp_path)
    for at, name in enumerate(("b", "c", "a")):
        (tmp_path / name).mkdir()
        mark = tmp_path / name / "model.golf"
        mark.write_text("")
        os.utime(mark, (at, at))
    assert named_or_newest(str(tmp_path / "a"), "model.golf") == mark
    assert named_or_newest(str(mark), "model.golf") == mark
    assert capsys.readouterr().err == ""
    assert named_or_newest(None, "model.golf", tmp_path) == mark
    assert str(mark) in capsys.readouterr().err
    with pytest.raises(BadInput, match="no such file; name a run's folder"):
        named_or_newest(str(tmp_path / "x"), "model.golf")
