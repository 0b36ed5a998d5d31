"""Can this scorer cheat? Asked of the scorer itself, by experiment: eleven probes, each with its counter-example.

    python -m eval.probe                                    (the newest artifact, on its run's dataset)
    python -m eval.probe model.golf --data DIR --fresh new.jsonl
    python -m eval.probe --command "python script.py" --data DIR    (a child process: eval/subprocess_scorer.py)
    python -m eval.probe --only coins codec

Exit code 1 when a probe fails. What a probe proves is in eval/probes/. `fresh`
needs documents that neither side of the dataset has (--fresh); without them it is not run, which is not a pass.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput, CheckFailed
from base.run_folder import ARTIFACT, named_or_newest
from data.corpus import open_corpus
from data.dataset import Dataset, open_dataset
from data.overlap import find_overlap
from eval.adapt import ADAPTATIONS, ModelScorer
from eval.probes.basic import (
    Finding,
    boundary,
    byte_oracle,
    coverage,
    lay_ground,
    normalisation,
    repeat,
    suffix,
    target_flip,
    truncation,
)
from eval.probes.canary import coin_canary
from eval.probes.codec import Growing, codec_sample
from eval.probes.fresh import FEWEST, Bigram, fresh_text
from eval.protocol import artifact_protocol, matching_dataset
from eval.scorer import InTurns, Predictor, Scorer, Tokens
from eval.subprocess_scorer import Child, ChildPredictor
from quant.unpack import open_artifact

NAMES = (
    "repeat", "coverage", "bytes", "normalised", "flip", "suffix", "truncation", "boundary", "coins", "codec", "fresh",
)  # fmt: skip
FEWEST_TOKENS, FEWEST_KINDS = 64, 8  # of a sample
SOURCE_TOKENS = 1 << 16  # real phrases for the canary
REFERENCE_TOKENS = 1 << 22  # of the training side, for the reference of fresh text
DOCUMENTS, DOCUMENT_TOKENS = 64, 512  # of each kind, and of each document, in the probes that take documents
CODEC_TOKENS = 192
LONGEST_LIMIT_S = 86_400.0


class Subject(NamedTuple):
    """Who is probed."""

    name: str
    scorer: Scorer
    also: Sequence[Scorer]  # the same in other batches
    sender: Callable[[], Predictor]
    receiver: Callable[[], Predictor]  # where it can be, in a process that never saw a text


def act(args: argparse.Namespace) -> Answer:
    started = time.monotonic()
    if args.tokens < FEWEST_TOKENS:
        raise BadInput(f"--tokens {args.tokens}: a sample has at least {FEWEST_TOKENS}")
    if args.seed is not None and args.seed < 0:
        raise BadInput(f"--seed {args.seed}: a whole number from 0 on")
    if not 0 < args.limit <= LONGEST_LIMIT_S:
        raise BadInput(f"--limit {args.limit:g}: above 0 and at most {LONGEST_LIMIT_S:g} seconds")
    if not 0 < args.tolerance < math.inf or args.coins < 32:
        raise BadInput(f"--tolerance {args.tolerance:g}, --coins {args.coins}: above 0 nats, and at least 32 coins")
    with _artifact(args) if args.command is None else _child(args) as (subject, dataset):
        wanted = [name for name in NAMES if args.only is None or name in args.only]
        findings = list(_probe(wanted, subject, dataset, args))
    answer = {
        "subject": subject.name,
        "passed": all(finding.passed is not False for finding, _ in findings),
        "probes": {
            finding.name: {
                "passed": finding.passed,
                "detail": finding.detail,
                "evidence": json.loads(json.dumps(finding.evidence), parse_constant=str),  # an infinite loss is a word
                "seconds": round(seconds, 2),
            }
            for finding, seconds in findings
        },
        "seconds": round(time.monotonic() - started, 2),
    }
    failed = [f"{finding.name}: {finding.detail}" for finding, _ in findings if finding.passed is False]
    if failed:
        raise CheckFailed("; ".join(failed), answer)
    return answer


@contextmanager
def _artifact(args: argparse.Namespace) -> Iterator[tuple[Subject, Dataset]]:
    path = named_or_newest(args.artifact, ARTIFACT)
    artifact = open_artifact(path)
    dataset = matching_dataset(args.data, artifact)
    dataset.require(artifact.tokenizer.vocab_size, artifact.tokenizer.bos_id)
    protocol = artifact_protocol(artifact)
    adapt = ADAPTATIONS[args.adapt] if args.adapt else None
    scorer: Scorer = ModelScorer(artifact.model, artifact.tokenizer, protocol, adapt)
    also: list[Scorer] = []
    if adapt is None:
        also = [ModelScorer(artifact.model, artifact.tokenizer, replace(protocol, batch_tokens=1))]

    def turns() -> Predictor:
        return Growing(scorer)

    adapting = f", {args.adapt}" if args.adapt else ""
    name = f"{path}, context {protocol.context}, stride {protocol.stride}{adapting}"
    yield Subject(name, scorer, also, turns, turns), dataset


@contextmanager
def _child(args: argparse.Namespace) -> Iterator[tuple[Subject, Dataset]]:
    if args.artifact is not None or args.adapt is not None or args.data is None:
        raise BadInput("--command takes the place of ARTIFACT and --adapt; --data DIR says which texts it is probed on")
    dataset = open_dataset(args.data)
    with Child(args.command, args.limit) as child, Child(args.command, args.limit) as other:
        if child.vocab_size != dataset.table.vocab_size:
            raise CheckFailed(
                f"{args.command!r} knows {child.vocab_size} tokens, the dataset {dataset.table.vocab_size}"
            )
        scorer: Scorer = child
        if child.form == "predictor":
            scorer = InTurns(lambda: ChildPredictor(child), dataset.table)

        def turns(process: Child) -> Predictor:
            return ChildPredictor(process) if process.form == "predictor" else Growing(process)

        yield Subject(args.command, scorer, (), lambda: turns(child), lambda: turns(other)), dataset


def _probe(
    wanted: Sequence[str], subject: Subject, dataset: Dataset, args: argparse.Namespace
) -> Iterator[tuple[Finding, float]]:
    """Each finding and the seconds that it took; in the order of NAMES, which is from cheap to dear."""
    rng, scorer = np.random.default_rng(args.seed), subject.scorer
    mark = dataset.mark
    stream = dataset.val.read(0, len(dataset.val))
    marked = [part for part in np.split(stream, np.flatnonzero(stream == mark)) if len(part) > FEWEST_TOKENS]
    marked = [part for part in marked if part[0] == mark]
    if not marked or len(stream) < args.tokens:
        raise BadInput(f"{dataset.path}: {len(stream)} validation tokens are too few for a sample of {args.tokens}")
    start = int(rng.integers(0, len(stream) - args.tokens + 1))
    sample, source = _around(stream, start, args.tokens), _around(stream, start, SOURCE_TOKENS)
    if (kinds := len(np.unique(sample))) < FEWEST_KINDS:
        raise BadInput(
            f"{dataset.path}: the sample holds {kinds} different tokens, fewer than {FEWEST_KINDS}; try --tokens"
        )
    some = [_beginning(marked[i], dataset) for i in rng.permutation(len(marked))[:DOCUMENTS]]
    secret = np.random.default_rng(None if args.seed is None else [args.seed, 1])  # None: from the operating system
    ground = lay_ground(scorer, sample, args.tolerance, subject.also)
    probes: dict[str, Callable[[], Finding]] = {
        "repeat": lambda: repeat(ground),
        "coverage": lambda: coverage(scorer, ground, rng),
        "bytes": lambda: byte_oracle(scorer, dataset.tokenizer, [part[1:] for part in some[:8]], mark),
        "normalised": lambda: normalisation(scorer, ground, rng),
        "flip": lambda: target_flip(scorer, ground, rng),
        "suffix": lambda: suffix(scorer, ground, rng),
        "truncation": lambda: truncation(scorer, ground, rng, mark),
        "boundary": lambda: boundary(scorer, some[0], some[-1], rng),
        "coins": lambda: coin_canary(scorer, source, mark, rng, secret, args.coins),
        "codec": lambda: codec_sample(scorer, subject.sender, subject.receiver, sample[:CODEC_TOKENS]),
        "fresh": lambda: _fresh(scorer, dataset, some, mark, args.fresh),
    }
    for name in wanted:
        began = time.monotonic()
        finding = probes[name]()
        print(f"{name}: {_verdict(finding.passed)}", file=sys.stderr, flush=True)
        yield finding, time.monotonic() - began


def _beginning(document: Tokens, dataset: Dataset) -> Tokens:
    """At most DOCUMENT_TOKENS of it, which do not end within a character."""
    part = document[:DOCUMENT_TOKENS]
    while len(part) > 1 and dataset.tokenizer.decode(part[1:].tolist()).encode() != dataset.table.join(
        part[1:].tolist()
    ):
        part = part[:-1]
    return part


def _around(stream: Tokens, start: int, count: int) -> Tokens:
    start = max(0, min(start, len(stream) - count))
    return stream[start : start + count].astype(np.int64)


def _fresh(scorer: Scorer, dataset: Dataset, val: Sequence[Tokens], mark: int, source: str | None) -> Finding:
    if source is None:
        return Finding("fresh", None, "no --fresh FILE of documents of this kind that nobody has trained on", {})

    def refuse(bad: object) -> None:
        raise BadInput(f"{source}: {bad}")

    texts = [dataset.tokenizer.encode(document.text) for document in open_corpus(source).documents(refuse)]
    for side in ("train", "val"):
        if shared := find_overlap(dataset.documents(side), texts):
            raise BadInput(f"{source}: document {shared.val} is not fresh, it is {side} document {shared.train}")
    fresh = [np.concatenate([[mark], ids[: DOCUMENT_TOKENS - 1]]) for ids in texts if len(ids) >= FEWEST_TOKENS]
    if min(len(val), len(fresh)) < FEWEST:
        few = f"{len(val)} validation and {len(fresh)} fresh documents of {FEWEST_TOKENS} tokens or more"
        return Finding("fresh", None, f"{few}; {FEWEST} of each are needed", {})
    reference = Bigram(dataset.train.read(0, min(len(dataset.train), REFERENCE_TOKENS)), dataset.table)
    return fresh_text(scorer, reference, val, fresh[:DOCUMENTS], dataset.table)


def _verdict(passed: bool | None) -> str:
    return {True: "passed", False: "FAILED", None: "not run"}[passed]


def show(answer: Answer) -> str:
    lines = [f"{answer['subject']}: {'passed' if answer['passed'] else 'FAILED'} in {answer['seconds']:.1f} s"]
    for name, found in answer["probes"].items():
        lines.append(f"  {name:<11} {_verdict(found['passed']):<8} {found['seconds']:>6.1f} s  {found['detail']}")
    return "\n".join(lines)


def parser() -> OneLineParser:
    flags = command("eval.probe", __doc__ or "")
    flags.add_argument("artifact", nargs="?", metavar="ARTIFACT", help="a file or a run's folder (default: the newest)")
    flags.add_argument("--command", help="probe a child process that speaks the protocol of eval/subprocess_scorer.py")
    flags.add_argument("--adapt", choices=ADAPTATIONS, help="probe the artifact as it learns (eval/adapt.py)")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: the artifact's run's own)")
    flags.add_argument("--fresh", metavar="SOURCE", help="documents of the same kind that nobody has seen")
    flags.add_argument("--tokens", type=int, default=2048, help="of the sample (default %(default)s)")
    flags.add_argument("--coins", type=int, default=512, help="of the canary (default %(default)s)")
    flags.add_argument(
        "--tolerance", type=float, default=1e-3, metavar="NATS", help="rounding to forgive (%(default)s)"
    )
    flags.add_argument(
        "--limit", type=float, default=120.0, metavar="SECONDS", help="for a child's answer (%(default)s)"
    )
    flags.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    flags.add_argument("--seed", type=int, help="of positions and coins (default: the operating system's chance)")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
