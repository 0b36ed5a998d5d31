"""Measure what the project promises and print it as the rows of a Markdown table.

    make bench                                  (python -m tools.bench)
    python -m tools.bench --corpus FILE.jsonl   (a corpus of one's own)
    python -m tools.bench --only training       (or data, scoring, loss, memory; memory prepares 1 GB)
    python -m tools.bench --only codec --artifact runs/cpu10     (not in the whole table: it needs a trained model)

Figures are for docs/LOG.md, beside the machine's description that is printed above them. Compare them as ratios
within one run: shared machines are noisy, and a second busy process makes every figure worthless.
"""

import argparse
import os
import platform
import sys
from pathlib import Path

from base.cli import Answer, OneLineParser, command, run
from base.run_folder import named_or_newest
from data.corpus import open_corpus
from data.encoding import cores
from tools.bench_codec import codec_rows
from tools.bench_data import loader_rows, memory_rows, tokenizer_rows
from tools.bench_loss import loss_rows
from tools.bench_row import Row
from tools.bench_scoring import scoring_rows
from tools.bench_training import training_rows

PARTS = ("data", "training", "scoring", "loss", "memory", "codec")
CODEC_TOKENS = 100_000


def act(args: argparse.Namespace) -> Answer:
    texts = [document.text for document in open_corpus(args.corpus).documents(lambda bad: None)]
    size = sum(len(text.encode()) for text in texts)
    rows: list[Row] = []
    if args.only in (None, "data"):
        rows += [*tokenizer_rows(texts, size), *loader_rows()]
    if args.only in (None, "training"):
        rows += training_rows(args.config, args.corpus)
    if args.only in (None, "scoring"):
        rows += scoring_rows(args.config)
    if args.only in (None, "loss"):
        rows += loss_rows()
    if args.only in (None, "memory"):
        rows += memory_rows()
    if args.only == "codec":
        rows += codec_rows(named_or_newest(args.artifact, "model.golf"), args.tokens)
    return {
        "machine": _machine(),
        "corpus": args.corpus,
        "corpus_bytes": size,
        "rows": [{**row._asdict(), "missed": row.missed} for row in rows],
    }


def show(answer: Answer) -> str:
    lines = [
        f"{answer['machine']}; corpus {answer['corpus']}, {answer['corpus_bytes'] / 1e6:.1f} MB", "",
        "| what | measured | target |", "|---|---|---|",
    ]  # fmt: skip
    for row in answer["rows"]:
        target = "" if row["target"] is None else f"{row['target']:,g} {row['unit']}{' MISSED' * row['missed']}"
        lines.append(f"| {row['what']} | {row['figure']:,.4g} {row['unit']} | {target} |")
    return "\n".join(lines)


def _machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{cores()} cores of {model}, {memory / 2**30:.0f} GiB, Python {platform.python_version()}"


def parser() -> OneLineParser:
    flags = command("tools.bench", __doc__ or "")
    flags.add_argument("--corpus", default="stdlib", help="SOURCE of the text (default %(default)s)")
    flags.add_argument(
        "--config", default="configs/cpu10.yaml", help="of the training and scoring rows (default %(default)s)"
    )
    flags.add_argument("--artifact", help="of the codec's rows: a file or a run's folder (default: the newest)")
    flags.add_argument("--tokens", type=int, default=CODEC_TOKENS, help="of the codec's rows (default %(default)s)")
    flags.add_argument("--only", choices=PARTS, help="one part of the table")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
