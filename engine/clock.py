"""The run's budget: seconds of training, steps, or both; the first that is used up ends the run. And the stop flag.

The clock runs while the model trains; it is stopped for validation, checkpoints and compilation. Progress in [0, 1] is
the only time that schedules know.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from base.errors import BadInput


class Clock:
    def __init__(
        self, seconds: float, steps: int, reserve_s: float = 0.0, now: Callable[[], float] = time.perf_counter
    ) -> None:
        """0 seconds or 0 steps: no such limit. `reserve_s` of the seconds are kept for what follows training."""
        if not seconds and not steps:
            raise BadInput("train.seconds and train.steps are both 0: a run has to end by one of them")
        self.step = 0
        self._seconds = seconds - reserve_s if seconds else 0.0
        self._steps = steps
        self._now = now
        self._spent = 0.0
        self._since: float | None = None

    @property
    def elapsed_s(self) -> float:
        running = self._now() - self._since if self._since is not None else 0.0
        return self._spent + running

    def progress(self, elapsed_s: float | None = None) -> float:
        elapsed = self.elapsed_s if elapsed_s is None else elapsed_s
        by_time = elapsed / self._seconds if self._seconds else 0.0
        by_steps = self.step / self._steps if self._steps else 0.0
        return min(1.0, max(by_time, by_steps))

    def start(self) -> None:
        """Nothing, if it runs already."""
        if self._since is None:
            self._since = self._now()

    def stop(self) -> None:
        self._spent, self._since = self.elapsed_s, None

    def state_dict(self) -> dict[str, float]:
        return {"step": self.step, "elapsed_s": self.elapsed_s}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.step = int(state["step"])
        self._spent = float(state["elapsed_s"])


@contextmanager
def stop_flag() -> Iterator[list[int]]:
    """A list that is empty until SIGTERM or Ctrl-C arrives; a second one, and the end, find the former handlers."""
    received: list[int] = []
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def stop(number: int, _: object) -> None:
        received.append(number)
        restore()

    for number, handler in former.items():
        if handler != signal.SIG_IGN:  # as Ctrl-C is for a shell's background jobs
            signal.signal(number, stop)
    try:
        yield received
    finally:
        restore()
