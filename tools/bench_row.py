"""One measured figure, beside its target where it has one."""

import time
from typing import NamedTuple


class Row(NamedTuple):
    what: str
    figure: float
    unit: str
    target: float | None = None
    at_most: bool = False  # the target is a ceiling

    @property
    def missed(self) -> bool:
        if self.target is None:
            return False
        return self.figure > self.target if self.at_most else self.figure < self.target


def since(started: float) -> float:
    return time.perf_counter() - started
