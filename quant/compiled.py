"""numba's compiler as the packer's loops use it: at the first call, in some seconds, and without the interpreter's
lock. No cache on disk: a single file (tools.bundle) has no place for one.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """One order of operations, and no fused ones: every machine gives the same bits."""
    return cast(F, njit(nogil=True)(function))
