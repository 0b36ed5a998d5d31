"""base.progress: what a log shows of long work, and that stdout stays free."""

import pytest

from base.progress import byte_progress, counted_progress


def test_work_in_a_log_is_plain_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 5.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with counted_progress("scoring", 4000, "targets") as show:
        show(500, "too soon")
        show(1000, "1.6724 bits per byte so far")
    line = "scoring: 1,000 of 4,000 targets, 1.6724 bits per byte so far, 60 s left\n"
    assert tuple(capsys.readouterr()) == ("", line)
    clock = iter([0.0, 0.0, 20.0, 20.0])
    with byte_progress("encoding", 4_000_000) as advance:
        advance(2_000_000)
    assert tuple(capsys.readouterr()) == ("", "encoding: 2 of 4 MB, 0.1 MB/s, 20 s left\n")
