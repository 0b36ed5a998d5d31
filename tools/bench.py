"""Measure what the data pipeline promises and print it as the rows of a Markdown table.

    make bench                                  (python -m tools.bench)
    python -m tools.bench --corpus FILE.jsonl   (a corpus of one's own for the encoding rows)
    python -m tools.bench --quick               (without the 1 GB memory run)

Figures are for docs/LOG.md, beside the machine's description that is printed above them. Compare them as ratios
within one run: shared machines are noisy.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from base.cli import Answer, OneLineParser, command, run
from base.errors import CheckFailed
from data.bytes import ByteTable
from data.corpus import open_corpus
from data.encoding import BATCH_CHARS, Pending, cores, encode_all
from data.loader import Loader
from data.shards import TokenStream
from data.split import document_digest
from data.tokenizer_training import train_tokenizer

LOADER_SECONDS = 3.0
PARALLEL_CHARS = 60_000_000  # enough for the processes' start not to count
BIG_BYTES = 1_000_000_000
LONG, SHORT = 20_000, 250  # characters a document


class Row(NamedTuple):
    what: str
    figure: float
    unit: str
    target: float | None = None
    at_most: bool = False  # the target is a ceiling

    @property
    def missed(self) -> bool:
        if self.target is None:
            return False
        return self.figure > self.target if self.at_most else self.figure < self.target


def act(args: argparse.Namespace) -> Answer:
    texts = [document.text for document in open_corpus(args.corpus).documents(lambda bad: None)]
    size = sum(len(text.encode()) for text in texts)
    rows = [*_tokenizer_rows(texts, size), *_loader_rows(), *([] if args.quick else _memory_rows())]
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


def _tokenizer_rows(texts: list[str], size: int) -> list[Row]:
    started = time.perf_counter()
    tokenizer = train_tokenizer(texts, 1024)
    trained = Row("train a tokenizer, vocabulary 1,024", size / _since(started) / 1e6, "MB/s")
    started = time.perf_counter()
    encoded = [tokenizer.encode(text) for text in texts]
    alone = Row("encode, one process", size / _since(started) / 1e6, "MB/s")
    table = ByteTable(tokenizer)
    pairs = list(zip(encoded, texts, strict=True))
    started = time.perf_counter()
    counted = sum(table.join(ids) == text.encode() for ids, text in pairs)
    proved = Row("prove each document's bytes", size / _since(started) / 1e6, "MB/s")
    back = sum(tokenizer.decode(ids) == text for ids, text in pairs)
    batches = _batches(texts)
    started = time.perf_counter()
    done = sum(batch.raw_bytes for _, batch in encode_all(batches, tokenizer.model, "golf", cores()))
    together = done / _since(started) / 1e6
    return [
        Row("documents given back exactly", back, f"of {len(texts)}", len(texts)),
        Row("documents whose bytes are counted exactly", counted, f"of {len(texts)}", len(texts)),
        Row("bytes a token", size / sum(map(len, encoded)), "bytes"),
        trained,
        alone,
        proved,
        Row(f"encode and prove, {cores()} processes, start-up included", together, "MB/s", 5),
    ]


def _loader_rows() -> list[Row]:
    lengths = (256, 1024, 2048)
    return [Row(f"loader, shuffled, seq_len {n:,}", _loader_speed(n) / 1e6, "M tokens/s", 50) for n in lengths]


def _memory_rows() -> list[Row]:
    rows = []
    for words, name in ((LONG, "long"), (SHORT, "short")):
        run = prepare_big_corpus(words)
        what = f"prep of a 1 GB .jsonl of {name} documents"
        rows.append(Row(f"{what}, peak memory of all processes", run.peak_bytes / 1e9, "GB", 1.5, at_most=True))
        rows.append(Row(f"{what}, all three readings", run.bytes_per_second / 1e6, "MB/s", 5))
    return rows


def _since(started: float) -> float:
    return time.perf_counter() - started


def _batches(texts: list[str]) -> list[tuple[int, list[Pending]]]:
    """The corpus, as often over as it takes to be long."""
    batches: list[tuple[int, list[Pending]]] = []
    batch: list[Pending] = []
    chars = total = 0
    while total < PARALLEL_CHARS:
        for text in texts:
            batch.append(Pending("bench", text, document_digest(text.encode())))
            chars += len(text)
            if chars >= BATCH_CHARS:
                batches.append((0, batch))
                total += chars
                batch, chars = [], 0
    return batches


def _loader_speed(seq_len: int) -> float:
    stream = TokenStream([np.random.default_rng(0).integers(0, 1024, 20_000_000, np.uint16) for _ in range(2)])
    rows = 65_536 // seq_len
    loader = Loader(stream, "shuffled", seq_len, rows, seed=1, data_sha256="")
    loader.next_batch()  # draws the first permutation
    tokens, started = 0, time.perf_counter()
    while _since(started) < LOADER_SECONDS:
        loader.next_batch()
        tokens += rows * seq_len
    return tokens / _since(started)


class BigRun(NamedTuple):
    peak_bytes: int
    bytes_per_second: float


def prepare_big_corpus(document_chars: int) -> BigRun:
    """`data.prep` on a 1 GB .jsonl, its memory summed over all its processes while it runs."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "big.jsonl"
        text = "".join(document.text for document in open_corpus("stdlib").documents(lambda bad: None))
        written = number = 0
        with source.open("w", encoding="utf-8") as stream:
            while written < BIG_BYTES:  # each document begins differently, so none repeats another
                at = number * document_chars % (len(text) - document_chars)
                written += stream.write(json.dumps({"text": f"# {number}\n{text[at : at + document_chars]}"}) + "\n")
                number += 1
        words = [sys.executable, "-m", "data.prep", str(source), "--vocab", "1024", "--out", f"{folder}/out", "--json"]
        started = time.perf_counter()
        running = subprocess.Popen(words, stdout=subprocess.PIPE)
        peak = 0
        while running.poll() is None:
            peak = max(peak, _resident(running.pid))
            time.sleep(0.25)
        elapsed_s = _since(started)
        if running.returncode:
            raise CheckFailed(f"data.prep on a 1 GB .jsonl ended with exit code {running.returncode}")
        answer = json.loads(running.stdout.read() if running.stdout else "")
    return BigRun(peak, (answer["train_bytes"] + answer["val_bytes"]) / elapsed_s)


def _resident(root: int) -> int:
    """Proportional resident bytes of a process and its children: shared pages are counted once."""
    total = 0
    waiting = [root]
    while waiting:
        process = Path("/proc") / str(waiting.pop())
        try:
            rollup = (process / "smaps_rollup").read_text()
            waiting += map(int, (process / "task" / process.name / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between two looks
        total += 1024 * int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
    return total


def _machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{cores()} cores of {model}, {memory / 2**30:.0f} GiB, Python {platform.python_version()}"


def parser() -> OneLineParser:
    flags = command("tools.bench", __doc__ or "")
    flags.add_argument("--corpus", default="stdlib", help="SOURCE for the encoding rows (default %(default)s)")
    flags.add_argument("--quick", action="store_true", help="leave out the 1 GB run")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
