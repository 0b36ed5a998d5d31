"""The data pipeline's promises, measured: exactness, speed, memory. Rows for tools/bench.py."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from base.errors import CheckFailed
from data.bytes import ByteTable
from data.corpus import open_corpus
from data.encoding import BATCH_CHARS, cores, encode_all
from data.loader import Loader
from data.readers import Document
from data.shards import TokenStream
from data.tokenizer_training import train_tokenizer
from tools.bench_row import Row, since

LOADER_SECONDS = 3.0
PARALLEL_CHARS = 60_000_000  # enough for the processes' start not to count
BIG_BYTES = 1_000_000_000
LONG, SHORT = 20_000, 250  # characters a document


def tokenizer_rows(texts: list[str], size: int) -> list[Row]:
    started = time.perf_counter()
    tokenizer = train_tokenizer(texts, 1024)
    trained = Row("train a tokenizer, vocabulary 1,024", size / since(started) / 1e6, "MB/s")
    started = time.perf_counter()
    encoded = [tokenizer.encode(text) for text in texts]
    alone = Row("encode, one process", size / since(started) / 1e6, "MB/s")
    table = ByteTable(tokenizer)
    pairs = list(zip(encoded, texts, strict=True))
    started = time.perf_counter()
    counted = sum(table.join(ids) == text.encode() for ids, text in pairs)
    proved = Row("prove each document's bytes", size / since(started) / 1e6, "MB/s")
    back = sum(tokenizer.decode(ids) == text for ids, text in pairs)
    batches = _batches(texts)
    started = time.perf_counter()
    done = sum(batch.raw_bytes for _, batch in encode_all(batches, tokenizer, cores()))
    together = done / since(started) / 1e6
    return [
        Row("documents given back exactly", back, f"of {len(texts)}", len(texts)),
        Row("documents whose bytes are counted exactly", counted, f"of {len(texts)}", len(texts)),
        Row("bytes a token", size / sum(map(len, encoded)), "bytes"),
        trained,
        alone,
        proved,
        Row(f"encode and prove, {cores()} threads", together, "MB/s", 5),
    ]


def loader_rows() -> list[Row]:
    lengths = (256, 1024, 2048)
    return [Row(f"loader, shuffled, seq_len {n:,}", _loader_speed(n) / 1e6, "M tokens/s", 50) for n in lengths]


def memory_rows() -> list[Row]:
    rows = []
    for words, name in ((LONG, "long"), (SHORT, "short")):
        run = prepare_big_corpus(words)
        what = f"prep of a 1 GB .jsonl of {name} documents"
        rows.append(Row(f"{what}, peak memory of all processes", run.peak_bytes / 1e9, "GB", 1.5, at_most=True))
        rows.append(Row(f"{what}, all three readings", run.bytes_per_second / 1e6, "MB/s", 5))
    return rows


def _batches(texts: list[str]) -> list[tuple[int, list[Document]]]:
    """The corpus, as often over as it takes to be long."""
    batches: list[tuple[int, list[Document]]] = []
    batch: list[Document] = []
    chars = total = 0
    while total < PARALLEL_CHARS:
        for text in texts:
            batch.append(Document("bench", text))
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
    while since(started) < LOADER_SECONDS:
        loader.next_batch()
        tokens += rows * seq_len
    return tokens / since(started)


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
        elapsed_s = since(started)
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
