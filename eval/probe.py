"""Can this scorer cheat? Eleven experiments on the scorer itself; a failed one shows its counter-example.

    python -m eval.probe                                    (the newest artifact, on its run's dataset)
    python -m eval.probe model.golf --data DIR --fresh new.jsonl
    python -m eval.probe --scorer my_module:make_scorer --data DIR      (any Python object, see eval/scorer.py)
    python -m eval.probe --only coins codec

Exit code 1 when a probe fails. What each probe proves is in eval/probes/. `fresh` needs documents that are on neither
side of the dataset (--fresh); without them it is not run, which is not a pass.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from base.cli import OneLineParser, command, run
from base.errors import BadInput, CheckFailed
from base.run_folder import ARTIFACT, named_or_newest
from data.corpus import open_corpus
from data.dataset import Dataset, open_dataset
from data.overlap import find_overlap
from eval.adapt import ADAPTATIONS, ModelScorer
from eval.probes import basic
from eval.probes.basic import Finding
from eval.probes.canary import check_coins
from eval.probes.codec import check_codec
from eval.probes.fresh import FEWEST, Bigram, check_fresh
from eval.protocol import artifact_protocol, matching_dataset
from eval.scorer import Scorer, Tokens
from quant.unpack import Artifact, open_artifact

# From cheap to expensive.
NAMES = (
    "repeat", "coverage", "bytes", "normalised", "flip", "suffix", "truncation", "boundary", "coins", "codec", "fresh",
)  # fmt: skip
SAMPLE_TOKENS = 2048
COINS = 512
TOLERANCE_NATS = 1e-3  # of rounding
FEWEST_TOKENS = 64  # of a sample
FEWEST_KINDS = 8  # different tokens in a sample
FEWEST_COINS = 32
SOURCE_TOKENS = 1 << 16  # of real text for the canary's phrases
REFERENCE_TOKENS = 1 << 22  # of the training side, for the reference of `fresh`
DOCUMENTS = 64  # of each side, for the probes that take documents
DOCUMENT_TOKENS = 512  # of each of them
CODEC_TOKENS = 192


@dataclass(frozen=True)
class Report:
    subject: str
    passed: bool
    probes: dict[str, Finding]
    seconds: float


def artifact_scorer(
    name: str, artifact: Artifact, dataset: Dataset, adapt: str | None = None
) -> tuple[str, ModelScorer]:
    """A name for the scorer, and the scorer, under the artifact's own protocol; `adapt` instead of its own kind."""
    dataset.require(artifact.tokenizer.vocab_size, artifact.tokenizer.bos_id)
    # A stream is a text by itself: a sample is one. In fp32: bf16's rounding would hide what a probe looks for.
    protocol = artifact_protocol(artifact, precision="fp32", kind=adapt, streams=1)
    protocol.adapt.require_possible(len(dataset.val) - 1, ranks=1, docs=False)
    rule = f"context {protocol.context}, stride {protocol.stride}, adapt {protocol.adapt.kind}"
    return f"{name}, {rule}", ModelScorer(artifact.model, artifact.tokenizer, protocol)


def load_scorer(name: str, dataset: Dataset) -> Scorer:
    """Import MODULE:FACTORY and call the factory with the dataset, whose tokenizer and byte table a scorer may need."""
    module, _, factory = name.partition(":")
    try:
        build = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"--scorer {name}: {error}; name MODULE:FACTORY of a module that can be imported") from None
    scorer = build(dataset)
    if not isinstance(scorer, Scorer) or scorer.vocab_size != dataset.table.vocab_size:
        raise BadInput(
            f"--scorer {name}: {scorer!r:.80} has no score(), or not the vocab_size of {dataset.path}, which is "
            f"{dataset.table.vocab_size}; see eval/scorer.py"
        )
    return scorer


def probe_scorer(
    name: str,
    scorer: Scorer,
    dataset: Dataset,
    names: Sequence[str] = NAMES,
    tokens: int = SAMPLE_TOKENS,
    coins: int = COINS,
    seed: int | None = None,
    fresh: str | None = None,
) -> Report:
    """Run the probes in `names` on a sample of the validation side.

    `tokens`: of the sample; `seed` None: positions and coins are random; `fresh`: a SOURCE of unseen documents.
    """
    for flag, value, least in (("tokens", tokens, FEWEST_TOKENS), ("coins", coins, FEWEST_COINS), ("seed", seed, 0)):
        if value is not None and value < least:
            raise BadInput(f"--{flag} {value}: use at least {least}")
    started = time.monotonic()
    probes = _prepare(scorer, dataset, tokens, coins, seed, fresh)
    findings = {}
    for probe in sorted(names, key=NAMES.index):
        began = time.monotonic()
        finding = probes[probe]()
        print(f"{probe}: {_verdict(finding)}", file=sys.stderr, flush=True)
        evidence = json.loads(json.dumps(finding.evidence), parse_constant=str)  # an infinite loss as a word
        findings[probe] = replace(finding, evidence=evidence, seconds=round(time.monotonic() - began, 2))
    passed = all(finding.passed is not False for finding in findings.values())
    return Report(name, passed, findings, round(time.monotonic() - started, 2))


def _prepare(
    scorer: Scorer, dataset: Dataset, tokens: int, coins: int, seed: int | None, fresh: str | None
) -> dict[str, Callable[[], Finding]]:
    """Draw the sample and the documents, measure the baseline, and bind each probe to what it needs."""
    mark = dataset.mark
    rng = np.random.default_rng(seed)
    secret = np.random.default_rng(None if seed is None else [seed, 1])
    stream = dataset.val.read(0, len(dataset.val))
    parts = np.split(stream, np.flatnonzero(stream == mark))
    documents = [part for part in parts if len(part) > FEWEST_TOKENS and part[0] == mark]
    start = int(rng.integers(0, max(0, len(stream) - tokens) + 1))
    sample = stream[start : start + tokens].astype(np.int64)
    source_start = max(0, min(start, len(stream) - SOURCE_TOKENS))
    source = stream[source_start : source_start + SOURCE_TOKENS].astype(np.int64)
    if not documents or len(sample) < tokens or len(np.unique(sample)) < FEWEST_KINDS:
        raise BadInput(
            f"{dataset.path}: {len(stream)} validation tokens are too few, or too much alike, for a sample of {tokens}"
        )
    val = [documents[i][:DOCUMENT_TOKENS] for i in rng.permutation(len(documents))[:DOCUMENTS]]
    baseline = basic.measure_baseline(scorer, sample, TOLERANCE_NATS)
    return {
        "repeat": lambda: basic.check_repeat(baseline),
        "coverage": lambda: basic.check_coverage(scorer, baseline, rng, mark),
        "bytes": lambda: basic.check_bytes(scorer, dataset.tokenizer, [document[1:] for document in val[:8]], mark),
        "normalised": lambda: basic.check_normalisation(scorer, baseline, rng, mark),
        "flip": lambda: basic.check_flip(scorer, baseline, rng, mark),
        "suffix": lambda: basic.check_suffix(scorer, baseline, rng),
        "truncation": lambda: basic.check_truncation(scorer, baseline, rng, mark),
        "boundary": lambda: basic.measure_boundary(scorer, val[0], val[-1], rng),
        "coins": lambda: check_coins(scorer, source, mark, rng, secret, coins),
        "codec": lambda: check_codec(scorer, sample[:CODEC_TOKENS]),
        "fresh": lambda: _check_fresh_source(scorer, dataset, val, fresh),
    }


def _check_fresh_source(scorer: Scorer, dataset: Dataset, val: Sequence[Tokens], source: str | None) -> Finding:
    if source is None:
        return Finding("fresh", None, "no --fresh FILE of documents of this kind that were in no training", {})

    def refuse(bad: object) -> None:
        raise BadInput(f"{source}: {bad}")

    texts = [dataset.tokenizer.encode(document.text) for document in open_corpus(source).documents(refuse)]
    for side in ("train", "val"):
        shared = find_overlap(dataset.documents(side), texts)
        if shared:
            raise BadInput(f"{source}: document {shared.val} is not fresh, it is {side} document {shared.train}")
    fresh = [np.append(dataset.mark, ids[: DOCUMENT_TOKENS - 1]) for ids in texts if len(ids) >= FEWEST_TOKENS]
    if min(len(val), len(fresh)) < FEWEST:
        found = f"{len(val)} validation and {len(fresh)} fresh documents of {FEWEST_TOKENS} tokens or more"
        return Finding("fresh", None, f"{found}; {FEWEST} of each are needed", {})
    reference = Bigram(dataset.train.read(0, min(len(dataset.train), REFERENCE_TOKENS)), dataset.table)
    return check_fresh(scorer, reference, val, fresh[:DOCUMENTS], dataset.table)


def _verdict(finding: Finding) -> str:
    if finding.passed is None:
        return "not run"
    return "passed" if finding.passed else "FAILED"


def act(args: argparse.Namespace) -> Report:
    scorer: Scorer
    if args.scorer is None:
        path = named_or_newest(args.artifact, ARTIFACT)
        artifact = open_artifact(path)
        dataset = matching_dataset(args.data, artifact, val_only=False)
        name, scorer = artifact_scorer(str(path), artifact, dataset, args.adapt)
    elif args.artifact is not None or args.adapt is not None or args.data is None:
        raise BadInput("--scorer takes the place of ARTIFACT and --adapt, and needs --data DIR")
    else:
        dataset = open_dataset(args.data)
        name = args.scorer
        scorer = load_scorer(name, dataset)
    report = probe_scorer(name, scorer, dataset, args.only, args.tokens, args.coins, args.seed, args.fresh)
    failures = [f"{name}: {finding.detail}" for name, finding in report.probes.items() if finding.passed is False]
    if failures:
        raise CheckFailed("; ".join(failures), report)
    return report


def show(report: Report) -> str:
    lines = [f"{report.subject}: {'passed' if report.passed else 'FAILED'} in {report.seconds:.1f} s"]
    for name, finding in report.probes.items():
        lines.append(f"  {name:<11} {_verdict(finding):<8} {finding.seconds:>6.1f} s  {finding.detail}")
    return "\n".join(lines)


def parser() -> OneLineParser:
    flags = command("eval.probe", __doc__ or "")
    flags.add_argument("artifact", nargs="?", metavar="ARTIFACT", help="a file or a run's folder (default: the newest)")
    flags.add_argument("--scorer", metavar="MODULE:FACTORY", help="probe the scorer that FACTORY(dataset) returns")
    flags.add_argument("--adapt", choices=ADAPTATIONS, help="how it learns from the text (default: as its run did)")
    flags.add_argument("--data", metavar="DIR", help="the dataset (default: that of the artifact's run)")
    flags.add_argument("--fresh", metavar="SOURCE", help="documents of the same kind that were in no training")
    flags.add_argument("--tokens", type=int, default=SAMPLE_TOKENS, help="length of the sample (default %(default)s)")
    flags.add_argument("--coins", type=int, default=COINS, help="secret coins in the canary (default %(default)s)")
    flags.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    flags.add_argument("--seed", type=int, help="for positions and coins (default: random)")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
