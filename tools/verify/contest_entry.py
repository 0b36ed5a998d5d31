"""A contest folder as it is, read for rules to look at: its claim, its logs, its texts, and what could not be read."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from base.errors import BadInput
from tools.verify.agree import half_digit
from tools.verify.contest_log import ContestLog, read_contest_log
from tools.verify.folder import OPENERS, Folder
from tools.verify.record import README
from tools.verify.strict import read_json
from tools.verify.verdict import Finding

NEAR, FEWEST_DIGITS = 1e-3, 5e-3  # bpb: of a claim that is about right, and of one with two digits
LOG_NAME = re.compile(r"(log|train|seed|run|eval)", re.I)
LOG_ENDS = (".log", ".txt", ".out")
TEXT_ENDS = (*LOG_ENDS, ".md", ".csv", ".tsv", ".json", ".jsonl")
CLAIM = re.compile(r"submission\w*\.json")
DECIMAL = re.compile(r"(?<![\d.])\d{1,2}\.\d{2,12}(?![\d.])")
SEED = re.compile(r"seed[_-]?0*(\d{1,18})(?!\d)", re.I)
LARGEST_SCORE = 100.0  # bits a byte: more is no score, whatever it is


@dataclass(frozen=True)
class Entry:
    folder: Folder
    claim: dict[str, Any]  # as it is written; {}: none that can be read
    logs: list[ContestLog]  # those with a score, one of each text
    texts: dict[str, str]  # all but claim and README
    copies: dict[str, str]  # a log's name -> the one that has the same text
    unread: list[str]  # texts that nobody can say anything of

    @property
    def ten_minutes(self) -> bool:
        words = (self.claim.get(key, "") for key in ("track", "submission_type", "name"))
        said = " ".join(map(str, (*words, self.folder.path.parent.name))).lower()
        return "10min" in said and not re.search("non.?record|unlimited", said)

    @property
    def seeds(self) -> int:
        """How many the claim says that it is the mean of; 0: it does not say."""
        listed = [self.claim.get(key) for key in ("seeds", "seed_results", "seed_scores")]
        counts = [len(value) for value in listed if isinstance(value, list | dict)]
        said = self.claim.get("n_seeds")
        return max([*counts, said if isinstance(said, int) else 0])

    @property
    def bpb(self) -> float | None:
        return score(next((self.claim[key] for key in ("val_bpb", "mean_val_bpb", "mean_bpb") if key in self.claim), 0))

    @property
    def per_seed(self) -> dict[int, float]:
        """What the claim says of each seed, in whichever of the usual ways."""
        found = dict[int, float]()
        for key in ("seed_results", "seed_scores", "seeds"):
            listed = self.claim.get(key)
            if isinstance(listed, list):
                listed = {str(row.get("seed")): row for row in listed if isinstance(row, dict)}
            for name, value in listed.items() if isinstance(listed, dict) and not found else ():
                seed = re.fullmatch(r"(?:seed[_-]?)?(\d{1,18})", str(name))
                bpb = score(value.get("val_bpb")) if isinstance(value, dict) else score(value)
                if seed and bpb is not None:
                    found[int(seed[1])] = bpb
        return found

    @property
    def all_logs(self) -> bool:
        """Whether every run behind the claim has its log here, as far as anybody can see."""
        if self.unread:
            return False
        if self.seeds:
            return len(self.logs) >= self.seeds
        readme = self.folder.text(README) if README in self.folder else ""
        return not re.search(r"seeds|mean|±|std", f"{readme} {' '.join(map(str, self.claim))}", re.I)

    def says(self, bpb: float) -> bool:
        """Whether that number stands anywhere in the folder but in claim and README, on whatever line."""
        at = bisect_left(self._decimals, bpb - rough(bpb))
        return at < len(self._decimals) and self._decimals[at] <= bpb + rough(bpb)

    @cached_property
    def _decimals(self) -> list[float]:
        return sorted({float(word) for text in self.texts.values() for word in DECIMAL.findall(text)})


def number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def score(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and 0 < found < LARGEST_SCORE else None


def rounding(bpb: float) -> float:
    """What a claim may have lost when it was written with so few digits; with fewer than two it says nothing."""
    return min(FEWEST_DIGITS, half_digit(bpb))


def rough(bpb: float) -> float:
    """How far a number may lie from a claim that is written so, and still be what was meant."""
    return max(NEAR, rounding(bpb))


def seed_of(name: str) -> int | None:
    """The seed that a file is named after."""
    found = SEED.search(name)
    return int(found[1]) if found else None


def open_entry(folder: Folder, found: list[Finding]) -> Entry:
    claim: Any = {}
    name = next((n for n in sorted(folder.files) if CLAIM.fullmatch(n)), None)
    if name is not None:
        try:
            claim = read_json(folder.text(name).removeprefix("\ufeff"), name)
        except BadInput as bad:
            found.append(Finding("schema.submission", "unverified", str(bad)))
    texts, unread = dict[str, str](), list[str]()
    for name in sorted(folder.files):
        plain = _plain(name)
        if not plain.endswith(TEXT_ENDS) or CLAIM.fullmatch(name) or plain.endswith("requirements.txt"):
            continue
        try:
            text = folder.text(name)
            texts |= {name: text} if name != README else {}
        except BadInput as bad:
            unread.append(name)
            found.append(Finding("log.readable", "unverified", str(bad), {"file": name}))
    logs, first, copies = [], dict[str, str](), {}
    for name, text in texts.items():
        if _plain(name).endswith(LOG_ENDS) and LOG_NAME.search(_plain(name)):
            log = read_contest_log(name, text)
            if log.scores and first.setdefault(text, name) == name:
                logs.append(log)
            elif log.scores:
                copies[name] = first[text]
    return Entry(folder, claim if isinstance(claim, dict) else {}, logs, texts, copies, unread)


def _plain(name: str) -> str:
    """Without the ending that says how it is compressed."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix in OPENERS else name
