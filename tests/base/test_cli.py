"""base.cli, base.run_folder, base.progress: exit codes, one line, one JSON object."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.cli import command, run
from base.errors import BadInput, CheckFailed
from base.files import atomic_file, require_folder_of
from base.progress import byte_progress
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


def test_the_answer_is_said_to_people_and_printed_whole_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(chatty, "--n", "3") == 0
    assert capsys.readouterr().out == "n is 3\n"
    assert call(chatty, "--n", "3", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"n": 3}
    assert captured.err == "thinking aloud\n"


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (BadInput("no such\n  file"), 2, "toy.tool: no such file\n"),
        (CheckFailed("it does not hold"), 1, "toy.tool: it does not hold\n"),
        (OSError(28, "No space left on device", "/a/b"), 2, "toy.tool: /a/b: No space left on device\n"),
        (PermissionError(13, "Permission denied", "/a"), 2, "toy.tool: /a: Permission denied\n"),
        (KeyboardInterrupt(), 130, "toy.tool: interrupted\n"),
    ],
)
def test_each_ending_has_its_exit_code_and_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, says: str
) -> None:
    assert call(raising(error)) == code
    captured = capsys.readouterr()
    assert captured.err == says
    assert captured.out == ""


def test_a_failed_check_may_have_an_answer_which_is_printed_as_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    failed = raising(CheckFailed("n should be 5", {"n": 4}))
    assert call(failed) == 1
    assert tuple(capsys.readouterr()) == ("n is 4\n", "toy.tool: n should be 5\n")
    assert call(failed, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"n": 4}


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    atomic_file(tmp_path / "a", b"first")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic_file(tmp_path / "folder", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]
    for output, says in ((tmp_path / "none" / "f", "does not exist"), (tmp_path / "folder", "is a folder")):
        with pytest.raises(BadInput, match=says):
            require_folder_of(None, str(output))
    require_folder_of(None, str(tmp_path / "a"))


def test_a_bug_keeps_its_traceback_and_is_no_failed_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(raising(ZeroDivisionError("oops"))) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--m", "1"), ("--n", "x"), ("extra",)])
def test_bad_usage_is_one_line_that_points_to_help(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert call(chatty, *words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "(see: python -m toy.tool --help)" in said


def test_flags_may_stand_among_words(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command("toy.tool", "A toy.")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--name")
    words = ["a=1", "--name", "x", "b=2", "--json"]
    assert run(parser, lambda args: {"words": args.words, "name": args.name}, str, words) == 0
    assert json.loads(capsys.readouterr().out) == {"words": ["a=1", "b=2"], "name": "x"}


def test_help_exits_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call(chatty, "--help")
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_the_newest_run_is_the_one_whose_mark_was_written_last(tmp_path: Path) -> None:
    for at, name in enumerate(("b", "c", "a")):
        (tmp_path / name).mkdir()
        mark = tmp_path / name / "config.yaml"
        mark.write_text("")
        os.utime(mark, (at, at))
    assert newest("config.yaml", tmp_path) == tmp_path / "a" / "config.yaml"


def test_a_run_may_be_named_by_folder_or_file_and_the_newest_is_said_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r").mkdir()
    mark = tmp_path / "r" / "model.golf"
    mark.write_text("")
    assert named_or_newest(str(tmp_path / "r"), "model.golf") == mark
    assert named_or_newest(str(mark), "model.golf") == mark
    assert capsys.readouterr().err == ""
    assert named_or_newest(None, "model.golf", tmp_path) == mark
    assert str(mark) in capsys.readouterr().err
    with pytest.raises(BadInput, match=r"no config\.yaml in"):
        newest("config.yaml", tmp_path)
    with pytest.raises(BadInput, match="no such file; name a run's folder"):
        named_or_newest(str(tmp_path / "x"), "model.golf")


def test_progress_off_a_terminal_is_plain_lines_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr("base.progress.time.monotonic", lambda: float(next(clock)))
    with byte_progress("encoding", 4_000_000) as advance:
        for _ in range(4):
            advance(1_000_000)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == "encoding: 2.0 MB of 4.0, 12 s left, 0.2 MB/s"


def test_progress_on_a_terminal_leaves_stdout_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with byte_progress("encoding", 10) as advance:
        advance(10)
    assert capsys.readouterr().out == ""
