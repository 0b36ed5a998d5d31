"""Do two numbers, or two configs, agree? Numbers as exactly as they were written: half of the last digit."""

from decimal import Decimal
from typing import Any

from tools.verify.verdict import Finding, Level

CANCELLED = 1e-12  # what a spread of numbers near 1 may lose
LOGGED = 6e-9  # the logs write eight digits
MAY_DIFFER = {("data", "path"), ("data", "source"), ("train", "checkpoint_s")}  # what no result hangs on
SEED = ("seed",)
RESCORED = 2e-6  # relative: the same artifact scored again on another number of threads


def half_digit(claimed: float) -> float:
    exponent = Decimal(repr(claimed)).as_tuple().exponent
    return 0.5 * 10.0**exponent if isinstance(exponent, int) else 0.0


def agree(claimed: float, derived: float, least: float = 0.0) -> bool:
    """Within half of the claim's last digit, or what adding floats in another order makes; never more than a log loses.

    `least`: for what is small because large numbers cancel, such as a spread.
    """
    allowed = min(LOGGED, max(half_digit(claimed), least))
    return abs(claimed - derived) <= allowed * (1 + 1e-6) + 4e-16 * abs(derived)


def disagreement(
    rule: str, what: str, claimed: Any, source: str, derived: Any, level: Level = "invalid", **more: Any
) -> Finding:
    """The one sentence for a number that is not what it was derived from."""
    message = f"{what} is {_spelled(claimed)}, but {source} {_spelled(derived)}"
    return Finding(rule, level, message, {"claimed": claimed, "derived": derived, **more})


def _spelled(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value!s:.100}"


def other_settings(a: Any, b: Any) -> str:
    """What makes two configs other configurations, the seed apart; "": nothing."""
    return ", ".join(".".join(path) for path in differing(a, b) if path not in {*MAY_DIFFER, SEED})


def differing(a: Any, b: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where two configs are not the same."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [found for key in {**a, **b} for found in differing(a.get(key), b.get(key), (*at, str(key)))]
    return [] if a == b and type(a) is type(b) else [at]
