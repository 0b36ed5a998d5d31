"""Check a record: read everything, believe nothing, and name what disagrees with what.

    python -m tools.verify records/track_cpu_10min_1mb/2026-11-21_name --fast     (seconds; reads, runs nothing)
    python -m tools.verify records/track_cpu_10min_1mb/2026-11-21_name --sample   (minutes: scores a sample, probes)
    python -m tools.verify --data DIR --rerun           (the newest record: the whole score, and trains it again)

It takes the contest's own record folders as well, and checks of them what can be checked.

    valid       nothing was found                 flagged   something that is for people to judge
    unverified  something needed is not there     invalid   a counter-example is at hand, and is shown
Exit 0: valid or flagged. 1: unverified or invalid. 2: no folder to look at.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput, CheckFailed
from base.files import atomic_file
from tools.record.tracks import TRACKS
from tools.verify.contest import contest_findings, is_contest
from tools.verify.folder import Folder
from tools.verify.record import MANIFEST, SUBMISSION, VERDICTS, Options, open_record
from tools.verify.static import static_findings
from tools.verify.verdict import Finding, verdict

PLACES = ("records", "runs/*/records")
ORDER = ("invalid", "unverified", "flag", "note")
WIDTH = 118  # of a line of evidence
TIER_2 = "tools.verify.measured"


def parser() -> OneLineParser:
    flags = command("tools.verify", __doc__ or "")
    flags.add_argument("folder", nargs="?", metavar="FOLDER", help="a record's (default: the newest)")
    flags.add_argument("--fast", action="store_true", help="the first tier alone: seconds, reads only")
    flags.add_argument("--sample", action="store_true", help="the second tier on a sample of the validation side")
    flags.add_argument("--rerun", action="store_true", help="train again, too")
    flags.add_argument("--data", type=Path, metavar="DIR", help="the prepared dataset (default: prepared as it says)")
    flags.add_argument("--margin", type=float, metavar="NATS", help="the lead to prove (default: the track's own)")
    flags.add_argument("--p", type=float, help="how sure (default: the track's own)")
    flags.add_argument(
        "--records", type=Path, default=TRACKS.parent, help="where the rows to beat and the verdicts lie"
    )
    flags.add_argument("--keep", action="store_true", help=f"add the answer to {VERDICTS} there")
    return flags


def act(args: argparse.Namespace) -> Answer:
    begun_s = time.monotonic()
    options = _options(args)
    folder = Folder(Path(args.folder) if args.folder else newest_record())
    tier, findings = "fast", list[Finding]()
    if is_contest(folder):
        findings += contest_findings(folder, args.fast, args.data)
        tier = "whole" if any(finding.rule == "score.measured" for finding in findings) else "fast"
    else:
        record = open_record(folder.path)
        findings += static_findings(record, options)
        if not args.fast and verdict(findings) != "invalid":
            # With a counter-example at hand nothing need be measured, and what is broken is not handed on.
            # By its name, and only now: it brings torch, which takes longer to import than all of the first tier.
            findings += import_module(TIER_2).measured_findings(record, options)
            tier = "sample" if args.sample else "whole"
    findings.sort(key=lambda finding: ORDER.index(finding.level))
    answer: Answer = {
        "verdict": verdict(findings),
        "findings": [asdict(finding) for finding in findings],
        "tier": tier,
        "folder": str(folder.path),
        "record_sha256": hashlib.sha256(folder.read(MANIFEST)).hexdigest() if _readable(folder, MANIFEST) else "",
        "measured": {k: v for finding in findings if _measured(finding) for k, v in finding.evidence.items()},
        "seconds": round(time.monotonic() - begun_s, 3),
    }
    if args.keep:
        keep(answer, args.records)
    if answer["verdict"] in ("invalid", "unverified"):
        first = findings[0]
        raise CheckFailed(f"{answer['verdict']}: {first.rule}: {_plain(first.message)}", answer)
    return answer


def newest_record(root: Path = Path()) -> Path:
    """The one that was written last, in records/ or in a run's own."""
    found = [path for place in PLACES for path in root.glob(f"{place}/*/*/{SUBMISSION}")]
    if not found:
        raise BadInput(f"no {SUBMISSION} in {' or '.join(PLACES)}; name a record's folder, or make one: tools.record")
    folder = max(found, key=lambda path: (path.stat().st_mtime_ns, path.as_posix())).parent
    print(f"taking the newest: {folder}", file=sys.stderr)
    return folder


def _options(args: argparse.Namespace) -> Options:
    if args.fast and (args.sample or args.rerun or args.data):
        raise BadInput("--fast is the first tier alone: it takes no --sample, no --rerun and no --data")
    if args.p is not None and not 0 < args.p < 1:
        raise BadInput(f"--p {args.p} is no probability between 0 and 1")
    if args.margin is not None and not 0 <= args.margin < math.inf:
        raise BadInput(f"--margin {args.margin}: a lead that is to be proved is 0 or more nats a token")
    return Options(
        sample=args.sample, rerun=args.rerun, data=args.data, margin_nats=args.margin, p=args.p, records=args.records
    )


def _readable(folder: Folder, name: str) -> bool:
    try:
        return bool(folder.read(name))
    except BadInput:
        return False


def _measured(finding: Finding) -> bool:
    return finding.level == "note" and finding.rule.endswith(".measured")


def keep(answer: Answer, records: Path) -> None:
    """The newest verdict of each record, by its place, from which the leaderboard takes its badges."""
    path, folder = records / VERDICTS, Path(answer["folder"])
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = ("verdict", "tier", "record_sha256", "findings", "measured")
    date = datetime.now(UTC).date().isoformat()
    kept[f"{folder.parent.name}/{folder.name}"] = {**{name: answer[name] for name in names}, "date": date}
    atomic_file(path, (json.dumps(kept, indent=1, sort_keys=True, default=str) + "\n").encode())


def show(answer: Answer) -> str:
    found: Sequence[dict[str, Any]] = answer["findings"]
    lines = [f"{answer['verdict'].upper()}  {answer['folder']}  ({answer['tier']} tier, {answer['seconds']:.1f} s)"]
    width = max((len(finding["rule"]) for finding in found), default=0)
    for level in ORDER:
        mine = [finding for finding in found if finding["level"] == level]
        if mine:
            lines.append(f"\n{level} ({len(mine)})")
            lines += [f"  {finding['rule']:<{width}}  {_plain(finding['message'])}" for finding in mine]
    return "\n".join(lines)


def _plain(message: str) -> str:
    """A stranger's words go to a terminal: one line, nothing that moves its cursor."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
