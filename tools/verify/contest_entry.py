"""What a folder of the contest holds, read for the rules of contest.py: claim, logs and texts. It judges nothing.

    entry = open_entry(Folder(path));  entry.bpb, entry.per_seed, entry.logs[0].scores[-1].bpb

A log may be in any of many dialects. They have grown over the baseline's `step:S/N ... train_time:...ms`,
`final_int8_zlib_roundtrip val_loss:... val_bpb:...`, `Total submission size int8+zlib: N bytes`.
"""

import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from base.errors import BadInput
from base.files import read_json_object
from tools.record.schema import README
from tools.verify.folder import Folder
from tools.verify.verdict import Finding

AGREES = 1e-4  # bits per byte between a claim and what it was rounded from
NEAR = 1e-3
FEWEST_DIGITS = 5e-3  # a claim of two digits; with fewer it has no meaning
LARGEST_SCORE = 100.0  # bits per byte

CLAIM = re.compile(r"submission\w*\.json")
SCORE_KEYS = ("val_bpb", "mean_val_bpb", "mean_bpb")
SEED_LISTS = ("seed_results", "seed_scores", "seeds")
SEED_KEY = re.compile(r"(?:seed[_-]?)?(\d{1,18})")
SEED_IN_NAME = re.compile(r"seed[_-]?0*(\d{1,18})(?!\d)", re.I)
LOG_NAME = re.compile(r"log|train|seed|run|eval", re.I)
LOG_ENDS = (".log", ".txt", ".out")
COMPRESSED_ENDS = (".gz", ".xz", ".bz2", ".zst")  # a text that is not read, and might hold any score
TEXT_ENDS = (*LOG_ENDS, ".md", ".csv", ".tsv", ".json", ".jsonl")
DECIMAL = re.compile(r"(?<![\d.])\d{1,2}\.\d{2,12}(?![\d.])")
LONGEST_LINE = 2_000  # characters; what is longer is code or data
UNFINAL = re.compile(r"^step$|diagnostic|pre.?quant", re.I)  # labels of scores of what is not shipped

SCORE = re.compile(
    r"(?P<label>.{0,80}?)\bval_loss[:=]\s*(?P<loss>\d{1,3}\.\d{2,12})\W{1,4}val_bpb[:=]\s*(?P<bpb>\d{1,2}\.\d{2,12})"
    r"(?:.*?\beval_time[:=]\s*(?P<eval_ms>\d{1,10})ms)?"
)
NUMBERS = {
    "bpbs": re.compile(r"(?:val_)?bpb[\"']?\s*[:=]?\s*(\d{1,2}\.\d{2,12})", re.I),  # on whatever line
    "train_ms": re.compile(r"^(?:step:\d{1,9}/\d{1,9}\b|stopping_early:).*?\btrain_time:(\d{1,10})ms"),
    "steps": re.compile(r"^step:(\d{1,9})/\d{1,9}\b.*?\btrain_time:\d{1,10}ms"),
    # Of the packed model: a total without a word for how it was packed is of the raw weights.
    "totals": re.compile(r"^Total submission size\b[^:]{1,60}:\s*([\d,]{1,15}) bytes", re.I),
    "models": re.compile(r"^Serialized model\b[^:]{1,60}:\s*([\d,]{1,15}) bytes", re.I),
    "eval_s": re.compile(r"total_eval_time[:=]\s*(\d{1,7}\.?\d{0,6})\s*s\b"),
    "seeds": re.compile(r"^(?:\s*seed[:=]\s*|(?:(?!_seed).)*\bseed:)(\d{1,10})\b", re.I),
    "val_tokens": re.compile(r"\bval(?:(?:_loader|idation)?\b.{0,200}?\b|_)tokens[:=]\s*([\d,]{1,14})"),
    "train_shards": re.compile(r"\btrain_shards[:=]\s*(\d{1,6})"),
    "calibration_s": re.compile(
        r"(?:gptq|hessian).{0,60}?(?:in|time[:=]|took|collected in)\s*(\d{1,4}\.\d{1,4})\s*s\b", re.I
    ),
}


@dataclass(frozen=True)
class Scored:
    label: str
    loss: float
    bpb: float
    eval_s: float  # 0: its line does not give them

    @property
    def is_final(self) -> bool:
        """Of what is shipped, as far as its label tells."""
        return not UNFINAL.search(self.label)


@dataclass
class Log:
    name: str
    scores: list[Scored] = field(default_factory=list)  # in the order of the lines, as all of the numbers
    numbers: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in NUMBERS})

    @property
    def seed(self) -> int | None:
        """That its name has."""
        found = SEED_IN_NAME.search(self.name)
        return int(found[1]) if found else None

    @property
    def lowest_bpb(self) -> float:
        return min(self.numbers["bpbs"])  # a log with a score has one

    def last(self, key: str) -> float:
        return self.numbers[key][-1] if self.numbers[key] else 0


@dataclass
class Entry:
    folder: Folder
    claim: dict[str, Any] = field(default_factory=dict)  # {}: none that can be read
    readme: str = ""
    texts: dict[str, str] = field(default_factory=dict)  # all but claim and README
    logs: list[Log] = field(default_factory=list)  # those with a score, one for each text
    copies: list[tuple[Log, Log]] = field(default_factory=list)  # a log, and another with the same text
    troubles: list[Finding] = field(default_factory=list)
    has_unread_texts: bool = False

    @property
    def is_ten_minutes(self) -> bool:
        values = [self.claim.get(key, "") for key in ("track", "submission_type", "name")]
        words = " ".join(map(str, [*values, self.folder.path.parent.name])).lower()
        return "10min" in words and not re.search("non.?record|unlimited", words)

    @property
    def seeds(self) -> int:
        """How many the claim is the mean of; 0: it does not say."""
        listed = [self.claim.get(key) for key in SEED_LISTS]
        return max((len(value) for value in listed if isinstance(value, list | dict)), default=0)

    @property
    def bpb(self) -> float | None:
        key = next((key for key in SCORE_KEYS if key in self.claim), "")
        return as_number(self.claim.get(key), LARGEST_SCORE) or None

    @property
    def per_seed(self) -> dict[int, float]:
        """Each seed's score, from the first of the usual lists that has any."""
        for listed in map(self.claim.get, SEED_LISTS):
            rows = listed if isinstance(listed, dict) else {}
            if isinstance(listed, list):
                rows = {str(row.get("seed")): row for row in listed if isinstance(row, dict)}
            found: dict[int, float] = {}
            for name, row in rows.items():
                seed = SEED_KEY.fullmatch(name)
                bpb = as_number(row.get("val_bpb") if isinstance(row, dict) else row, LARGEST_SCORE)
                if seed and bpb:
                    found[int(seed[1])] = bpb
            if found:
                return found
        return {}

    @property
    def has_all_logs(self) -> bool:
        """Whether every run behind the claim has its log here, as far as anybody can see."""
        if self.seeds:
            return len(self.logs) >= self.seeds
        return not re.search(r"seeds|mean|±|std", f"{self.readme} {' '.join(self.claim)}", re.I)

    def is_refuted(self, claimed: float, lowest: float) -> bool:
        """Whether a run's `lowest` score is above its claim, and no text (all could be read) has the claimed number."""
        if self.has_unread_texts or lowest <= claimed or agrees(claimed, lowest, NEAR):
            return False
        return not any(agrees(claimed, number, NEAR) for number in self._decimals)

    @cached_property
    def _decimals(self) -> set[float]:
        return {float(word) for text in self.texts.values() for word in DECIMAL.findall(text)}


def open_entry(folder: Folder) -> Entry:
    entry = Entry(folder)
    claims = [name for name in sorted(folder.files) if CLAIM.fullmatch(name)]
    for name in claims[:1]:
        try:
            entry.claim = read_json_object(folder.text(name).removeprefix("\ufeff"), name)
        except BadInput as bad:
            entry.troubles.append(Finding("schema.submission", "unverified", str(bad)))
    for name in sorted(set(folder.files) - set(claims)):
        plain = name.removesuffix(PurePosixPath(name).suffix) if name.endswith(COMPRESSED_ENDS) else name
        if not plain.endswith(TEXT_ENDS) or plain.endswith("requirements.txt"):
            continue
        try:
            text = folder.text(name)
        except BadInput as bad:
            entry.troubles.append(Finding("log.readable", "unverified", str(bad), {"file": name}))
            entry.has_unread_texts = True
            continue
        if name == README:
            entry.readme = text
            continue
        is_log = plain.endswith(LOG_ENDS) and LOG_NAME.search(plain)
        log = read_log(name, text) if is_log else Log(name)
        original = next((other for other in entry.logs if entry.texts[other.name] == text), None)
        if log.scores and original:
            entry.copies.append((original, log))
        elif log.scores:
            entry.logs.append(log)
        entry.texts[name] = text
    return entry


def read_log(name: str, text: str) -> Log:
    log = Log(name)
    for line in text.splitlines():
        if len(line) > LONGEST_LINE:
            continue
        for key, pattern in NUMBERS.items():
            log.numbers[key] += map(_parse, pattern.findall(line))
        if found := SCORE.match(line):
            label = "step" if NUMBERS["steps"].match(line) else found["label"].strip(" :|-[]")
            eval_s = int(found["eval_ms"] or 0) / 1000
            log.scores.append(Scored(label, float(found["loss"]), float(found["bpb"]), eval_s))
    return log


def _parse(digits: str) -> float:
    return float(digits) if "." in digits else int(digits.replace(",", "") or 0)


def as_number(value: Any, below: float = math.inf) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < below else None


def agrees(claimed: float, bpb: float, within: float = AGREES) -> bool:
    """A claim is as exact as it is written: half of its last digit is what rounding may have changed."""
    digits = len(repr(claimed).partition(".")[2])
    return abs(claimed - bpb) <= max(within, min(FEWEST_DIGITS, 0.5 * 10.0**-digits))
