"""numba's compiler as the mixing's functions use it: at the first call, and releasing the interpreter's lock.

No cache on disk: a single file (tools.bundle) has no place for one, and compiling takes four seconds.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """One order of operations: the same machine gives the same bits."""
    return cast(F, njit(nogil=True)(function))


def compiled_sum(function: F) -> F:
    """Sums in the order that is fastest, which is the same for all inputs of a length."""
    return cast(F, njit(nogil=True, fastmath={"reassoc", "contract"})(function))
