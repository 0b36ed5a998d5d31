"""A verdict: findings, the worst of which decides. Kinds of doubt are never mixed up.

invalid      a counter-example is at hand: a number contradicts the bytes, a rule of the track is broken
unverified   something needed for a check is not there
flag         whether it is allowed is for people to judge
note         information; it decides nothing
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["invalid", "unverified", "flag", "note"]
Verdict = Literal["valid", "flagged", "unverified", "invalid"]
Tier = Literal["fast", "sample", "whole"]  # how far it was checked: files alone, a sample of blocks, the complete score
LEVELS: tuple[Level, ...] = ("invalid", "unverified", "flag", "note")  # from worst to harmless


@dataclass(frozen=True)
class Finding:
    rule: str  # group.name: size.cap, claim.val_bpb
    level: Level
    message: str  # one sentence that names the values, the rule and, where there is one, the way out
    evidence: dict[str, Any] = field(default_factory=dict)


def verdict(findings: Sequence[Finding]) -> Verdict:
    levels = {finding.level for finding in findings}
    if "invalid" in levels:
        return "invalid"
    if "unverified" in levels:
        return "unverified"
    return "flagged" if "flag" in levels else "valid"


def contradiction(rule: str, what: str, value: Any, source: str, other: Any) -> Finding:
    """The one sentence for two values that have to agree."""
    message = f"{what} is {_spell(value)}, but {source} {_spell(other)}"
    return Finding(rule, "invalid", message, {"value": value, "other": other})


def _spell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value!s:.100}"
