"""A verdict: findings, the worst of which decides. Three kinds of doubt are never mixed up.

invalid      a counter-example is at hand: a number disagrees with the bytes, a rule of the track is broken
unverified   something that would be needed to check is not there
flag         allowed or not is for people to say: policy
note         said for information; it decides nothing
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["invalid", "unverified", "flag", "note"]
Verdict = Literal["valid", "flagged", "unverified", "invalid"]


@dataclass(frozen=True)
class Finding:
    rule: str  # group.name: size.cap, number.val_bpb
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
