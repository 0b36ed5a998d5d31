"""Compress any file with an artifact's model, and give it back byte for byte: the proof that a score is real.

    python -m eval.codec compress [ARTIFACT] IN OUT                  (ARTIFACT left out: the newest run's; - for a pipe)
    python -m eval.codec decompress [ARTIFACT] IN OUT
    python -m eval.codec compress --stride 64 runs/demo IN OUT       (the score's own windows, one by one: slow)

The fast rule cuts the text into rows that are coded side by side, each beginning anew, with a context of the trained
length that falls back to its half. With --stride each token is forecast from the very window that eval.bpb scores it
in, so that the file's length in bits is the score's nats; for samples. The file holds the rule. It must be decompressed
where forecasts come out the same to the last bit: same artifact, torch and kind of processor, any number of cores.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.errors import BadInput
from base.files import atomic_file, file_sha256, require_folder_of
from base.progress import byte_progress
from base.run_folder import ARTIFACT, named_or_newest
from data.bytes import ByteTable
from eval.any_bytes import to_tokens
from eval.codec_format import DIGEST_BYTES, Compressed, digest, read, write
from eval.lm_coder import Desynchronised, Rule, block_count, decode, encode, rows_for
from eval.protocol import checked_context, checked_stride, longest_context
from eval.range_coder import TOTAL
from quant.unpack import Artifact, open_artifact

PIPE = "-"


def act(args: argparse.Namespace) -> Answer:
    if len(args.files) not in (2, 3):
        raise BadInput(f"{len(args.files)} files are named; {args.verb} takes [ARTIFACT] IN OUT")
    *named, source, target = args.files
    if args.json and target == PIPE:
        raise BadInput("--json and OUT - both want stdout; name a file for one of them")
    if args.verb == "decompress" and (args.stride, args.context) != (None, None):
        raise BadInput("--stride and --context are for compress; a compressed file says its own rule")
    require_folder_of(None if target == PIPE else target)
    path = named_or_newest(named[0] if named else None, ARTIFACT)
    data = sys.stdin.buffer.read() if source == PIPE else Path(source).read_bytes()
    compressed = None if args.verb == "compress" else read_for(path, data)
    artifact, started = open_artifact(path), time.perf_counter()
    if compressed is None:
        out, answer = compress(artifact, data, args.stride, args.context)
    else:
        out, answer = decompress(artifact, compressed), {"tokens": compressed.tokens}
    seconds = time.perf_counter() - started
    _deliver(out, target)
    return {
        "artifact": str(path.resolve()), "out": target if target == PIPE else str(Path(target).resolve()),
        "in_bytes": len(data), "out_bytes": len(out), **answer, "seconds": seconds,
        "tokens_per_second": answer["tokens"] / seconds,
    }  # fmt: skip


def compress(artifact: Artifact, data: bytes, stride: int | None, context: int | None) -> tuple[bytes, Answer]:
    table = ByteTable(artifact.tokenizer)
    tokens = to_tokens(data, artifact.tokenizer, table)
    rule = chosen_rule(artifact, len(tokens), stride, context)
    with byte_progress("compressing", len(data)) as advance:
        coded = encode(
            artifact.model, artifact.tokenizer.bos_id, tokens, rule, lambda done: advance(int(table.exact[done].sum()))
        )
    out = write(
        Compressed(
            artifact=bytes.fromhex(artifact.sha256)[:DIGEST_BYTES], text=digest(data), size_bytes=len(data),
            tokens=len(tokens), **rule._asdict(), environment=environment(), streams=coded.streams,
        )
    )  # fmt: skip
    return out, {
        "bpb": 8 * len(out) / len(data) if data else None, "model_nats": coded.nats, "tokens": len(tokens),
        "overhead_bits": 8 * len(out) - coded.nats / math.log(2), **rule._asdict(),
        "artifact_sha256": artifact.sha256, "artifact_bytes": artifact.size_bytes,
    }  # fmt: skip


def read_for(path: Path, data: bytes) -> Compressed:
    """The compressed file, if it is one and was made with this artifact."""
    compressed, found = read(data), file_sha256(path)
    if compressed.artifact.hex() != found[: 2 * DIGEST_BYTES]:
        raise BadInput(
            f"compressed with the artifact {compressed.artifact.hex()}…, and {path} is {found[: 2 * DIGEST_BYTES]}…; "
            "name the artifact that it was compressed with"
        )
    return compressed


def decompress(artifact: Artifact, compressed: Compressed) -> bytes:
    _plausible(artifact, compressed)
    table = ByteTable(artifact.tokenizer)
    rule = Rule(compressed.context, compressed.stride, compressed.rows)
    with byte_progress("decompressing", compressed.size_bytes) as advance:
        try:
            tokens = decode(
                artifact.model, artifact.tokenizer.bos_id, compressed.streams, compressed.tokens, rule,
                lambda done: advance(int(table.exact[done].sum())),
            )  # fmt: skip
        except Desynchronised:
            raise BadInput(_differs(compressed)) from None
    data = table.join(tokens.astype(np.uint16))
    if len(data) != compressed.size_bytes or digest(data) != compressed.text:
        raise BadInput(_differs(compressed))
    return data


def chosen_rule(artifact: Artifact, tokens: int, stride: int | None, context: int | None) -> Rule:
    context = checked_context(artifact, context)
    if stride is None:
        return Rule(context, max(1, context // 2), rows_for(tokens))
    return Rule(context, checked_stride(stride, context), 1)


def environment() -> str:
    """What the last bits of a forecast depend on, as far as it can be said in a few bytes."""
    return f"{torch.__version__} {torch.backends.cpu.get_cpu_capability()}"


def _plausible(artifact: Artifact, compressed: Compressed) -> None:
    """Refuse numbers that no encoder would have written, before they take time or memory."""
    c, vocabulary = compressed, artifact.model.config.vocab_size
    fewest_bits = -math.log2(1 - (vocabulary - 1) / TOTAL)  # that a token can cost
    longest = longest_context(artifact)
    fine = (
        c.tokens <= c.size_bytes
        and bool(c.tokens) == bool(c.size_bytes)
        and c.tokens * fewest_bits <= sum(8 * len(stream) + 64 for stream in c.streams)
        and 1 <= c.rows <= max(1, c.tokens)
        and len(c.streams) == block_count(c.tokens, c.rows)
        and all(len(stream) % 4 == 0 for stream in c.streams)
        and 1 <= c.stride <= c.context <= (longest or c.context)
    )
    if not fine:
        raise BadInput(
            f"the compressed file is malformed: {c.tokens:,} tokens of {c.size_bytes:,} bytes in {c.rows:,} rows and "
            f"{len(c.streams):,} streams, context {c.context:,}, stride {c.stride:,} do not go together"
        )


def _differs(compressed: Compressed) -> str:
    there, here = compressed.environment, environment()
    if there == here:
        why = f"torch and the processor's capability ({here}) are the same, so it is another make of processor"
    else:
        why = f"there it was {there!r}, here it is {here!r} (torch, processor)"
    return f"the forecasts are not those that it was compressed with, to the last bit: {why}; decompress it there"


def _deliver(data: bytes, target: str) -> None:
    """All or nothing, where the target is a file."""
    path = Path(target)
    if target == PIPE:
        assert sys.__stdout__ is not None
        sys.__stdout__.buffer.write(data)
        sys.__stdout__.buffer.flush()
    elif path.exists() and not path.is_file():
        path.write_bytes(data)  # a device, a named pipe: not to be replaced by a file
    else:
        atomic_file(path, data)


def show(answer: Answer) -> str:
    return "" if answer["out"] == PIPE else show_pairs(answer)


def parser() -> OneLineParser:
    flags = command("eval.codec", __doc__ or "")
    flags.add_argument("verb", choices=("compress", "decompress"))
    flags.add_argument("files", nargs="+", metavar="FILE", help="[ARTIFACT] IN OUT; ARTIFACT may be a run's folder")
    flags.add_argument("--stride", type=int, help="compress by the score's own windows (default: the fast rule)")
    flags.add_argument("--context", type=int, help="tokens a window feeds (default: as scored or trained)")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
