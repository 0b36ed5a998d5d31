"""Check a record: compute its claim again from its evidence, then measure the evidence.

    python -m tools.verify records/track_cpu_10min_1mb/2026-11-21_name --fast     (seconds; reads, runs nothing)
    python -m tools.verify records/track_cpu_10min_1mb/2026-11-21_name --sample   (minutes: scores a sample, probes)
    python -m tools.verify runs/demo/records/T/FOLDER --data DIR --rerun      (the complete score, and trains it again)

It reads the contest's own record folders as well, and checks what can be checked in them.

    valid       no contradiction was found        flagged   something that is for people to judge
    unverified  something needed is not there     invalid   a counter-example is at hand, and is shown
Exit 0: valid or flagged. 1: unverified or invalid. 2: no folder to look at.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from base.cli import OneLineParser, command, run
from base.errors import BadInput, CheckFailed
from base.files import write_json
from tools.record.rows import VERDICTS, KeptVerdict, printable, read_verdicts
from tools.record.schema import MANIFEST, TRACKS
from tools.verify.contest import contest_findings, is_contest
from tools.verify.folder import Folder
from tools.verify.rules import first_tier
from tools.verify.verdict import LEVELS, Finding, Tier, Verdict, verdict

MOST_PRINTED = 1_000  # characters of a message


@dataclass(frozen=True)
class Verified:
    verdict: Verdict
    findings: list[dict[str, Any]]
    tier: Tier
    folder: str
    record_sha256: str
    measured: dict[str, Any]
    seconds: float


def act(args: argparse.Namespace) -> Verified:
    begun_s = time.monotonic()
    if args.fast and (args.sample or args.rerun or args.data):
        raise BadInput("--fast is the first tier alone: it takes no --sample, no --rerun and no --data")
    folder = Folder(Path(args.folder))
    findings, tier = check(folder, args)
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    answer = Verified(
        verdict=verdict(findings),
        findings=[asdict(finding) for finding in findings],
        tier=tier,
        folder=str(folder.path),
        record_sha256=manifest_sha256(folder),
        measured=collect_measured(findings),
        seconds=round(time.monotonic() - begun_s, 3),
    )
    if args.keep:
        keep(answer, args.records)
    if answer.verdict in ("invalid", "unverified"):
        worst = findings[0]
        raise CheckFailed(f"{answer.verdict}: {worst.rule}: {printable(worst.message, MOST_PRINTED)}", answer)
    return answer


def check(folder: Folder, args: argparse.Namespace) -> tuple[list[Finding], Tier]:
    """The findings, and the tier that was reached: a counter-example of the first needs no measuring."""
    if is_contest(folder):
        findings = list(contest_findings(folder, args.fast, args.data))
        return findings, "whole" if any(finding.rule == "score.measured" for finding in findings) else "fast"
    record, findings = first_tier(folder, args.records)
    if args.fast or record is None or verdict(findings) == "invalid":
        return findings, "fast"
    second_tier = import_module("tools.verify.measure").second_tier  # here, since it brings torch
    findings += second_tier(record, args.data, args.sample, args.rerun)
    return findings, "sample" if args.sample else "whole"


def manifest_sha256(folder: Folder) -> str:
    """ "" where there is none, or none that may be read."""
    try:
        return folder.sha256(MANIFEST)
    except BadInput:
        return ""


def collect_measured(findings: Sequence[Finding]) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for finding in findings:
        if finding.level == "note" and finding.rule.endswith(".measured"):
            measured |= finding.evidence
    return measured


def keep(answer: Verified, records: Path) -> None:
    """The newest verdict of each record, by its place; the leaderboard's badges come from it."""
    folder = Path(answer.folder)
    new = KeptVerdict(
        verdict=answer.verdict,
        tier=answer.tier,
        date=datetime.now(UTC).date().isoformat(),
        record_sha256=answer.record_sha256,
        findings=tuple(answer.findings),
        measured=answer.measured,
    )
    kept = read_verdicts(records) | {f"{folder.parent.name}/{folder.name}": new}
    entries = {record: asdict(entry) for record, entry in sorted(kept.items())}
    write_json(records / VERDICTS, entries)


def show(answer: Verified) -> str:
    lines = [f"{answer.verdict.upper()}  {answer.folder}  ({answer.tier} tier, {answer.seconds:.1f} s)"]
    width = max((len(finding["rule"]) for finding in answer.findings), default=0)
    for level in LEVELS:
        found = [finding for finding in answer.findings if finding["level"] == level]
        if found:
            lines.append(f"\n{level} ({len(found)})")
        for finding in found:
            lines.append(f"  {finding['rule']:<{width}}  {printable(finding['message'], MOST_PRINTED)}")
    return "\n".join(lines)


def parser() -> OneLineParser:
    flags = command("tools.verify", __doc__ or "")
    flags.add_argument("folder", metavar="FOLDER", help="a record's")
    flags.add_argument("--fast", action="store_true", help="the first tier alone: seconds, reads only")
    flags.add_argument("--sample", action="store_true", help="the second tier on a sample of blocks")
    flags.add_argument("--rerun", action="store_true", help="train again, too")
    flags.add_argument("--data", type=Path, metavar="DIR", help="the dataset (default: the one in data/datasets)")
    flags.add_argument("--records", type=Path, default=TRACKS.parent, help="where rows to beat and verdicts are")
    flags.add_argument("--keep", action="store_true", help=f"add the answer to {VERDICTS} there")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
