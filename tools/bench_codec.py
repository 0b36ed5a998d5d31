"""What the codec makes of text of the model's own domain, beside the usual compressors: rows for tools/bench.py.

The text is the start of the validation side that the artifact's run was scored on, documents joined. The others carry
no model, so the artifact's size stands beside: the codec wins on the text, or on text enough to pay for the model.
"""

import bz2
import lzma
import math
import time
from collections.abc import Callable
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import zstandard

from base.errors import BadInput, CheckFailed
from data.dataset import open_dataset
from eval.codec import compress, decompress
from eval.codec_format import read
from quant.unpack import Artifact, open_artifact
from tools.bench_row import Row, since

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "bzip2 -9": bz2.compress,
    "xz -9e": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    "zstd -22 --ultra": lambda data: zstandard.ZstdCompressor(level=22).compress(data),
    "brotli -q 11": lambda data: brotli.compress(data, quality=11, lgwin=24),
}


def codec_rows(path: Path, tokens: int) -> list[Row]:
    artifact = open_artifact(path)
    text = _validation_text(artifact, tokens)
    started = time.perf_counter()
    coded, nats = compress(artifact, text)
    count = read(coded).tokens
    forth, started = count / since(started), time.perf_counter()
    if decompress(artifact, coded) != text:
        raise CheckFailed(f"{path}: the text did not come back")
    back = count / since(started)
    others = {name: 8 * len(pack(text)) / len(text) for name, pack in COMPRESSORS.items()}
    bits = nats / math.log(2)
    return [
        Row("codec: text", len(text) / 1e3, "kB"),
        Row("codec: artifact", artifact.size_bytes / 1e3, "kB"),
        Row(
            "codec: bits a byte, artifact not counted",
            8 * len(coded) / len(text),
            "bpb",
            min(others.values()),
            at_most=True,
        ),
        *(Row(f"{name}: bits a byte", bpb, "bpb") for name, bpb in others.items()),
        Row("codec: file, over the model's bits + 64 bytes", 100 * (8 * (len(coded) - 64) / bits - 1), "%", 0.1, True),
        Row("codec: compress", forth, "tokens/s", 2000),
        Row("codec: decompress", back, "tokens/s", 2000),
    ]


def _validation_text(artifact: Artifact, tokens: int) -> bytes:
    try:
        dataset = open_dataset(artifact.header.data_path)
    except (KeyError, TypeError):
        raise BadInput("the artifact's header names no dataset: there is no text of its domain to compress") from None
    return dataset.table.join(dataset.val.read(0, min(tokens, len(dataset.val))))
