"""base.progress: what a log shows of long work."""

import pytest

from base.progress import counted_progress


def test_counted_work_tells_how_far_it_is_and_how_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 5.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with counted_progress("scoring", 4000, "targets") as tell:
        tell(500, "too soon")
        tell(1000, "1.6724 bits a byte so far")
    said = capsys.readouterr()
    assert said.err == "scoring: 1,000 of 4,000 targets, 1.6724 bits a byte so far, 60 s left\n"
    assert not said.out
