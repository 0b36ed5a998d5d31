"""Compress any file with an artifact's model, and restore it byte for byte: the proof that a score is real.

    python -m eval.codec compress [ARTIFACT] IN OUT       (without ARTIFACT: the newest run's)
    python -m eval.codec decompress [ARTIFACT] IN OUT
    python -m eval.codec compress --stride 64 runs/demo IN OUT       (the score's own windows, one by one: slow)
    python -m eval.codec compress --adapt mix IN OUT                 (the text teaches as it is coded: eval/mixing/)

The fast rule cuts the text into rows that are coded side by side, each with an empty context at its start, and drops
half of the context when it is full. With --stride each token is predicted from the window that eval.bpb scores it in,
so the file's length in bits is the score's nats; this is for samples. The file contains the rule. It must be
decompressed where predictions come out the same to the last bit: the same artifact, torch and kind of processor; the
number of cores does not matter.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numba
import numpy as np
import torch

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.errors import BadInput
from base.files import atomic_file, require_folder_of
from base.progress import byte_progress
from base.run_folder import ARTIFACT, named_or_newest
from data.bytes import ByteTable
from data.encoding import cores
from eval.any_bytes import to_tokens
from eval.codec_format import DIGEST_BYTES, ENVIRONMENT_BYTES, MOST_BYTES, CodedText, Rule, digest, read, write
from eval.config import FEWEST_BITS, MOST_BITS, read_adapt, require_memory
from eval.lm_coder import BLOCK_ROWS, MOST_ROW_TOKENS, Desynchronised, Tokens, block_count, decode, encode, rows_for
from eval.mixing.node import EDGE
from eval.protocol import checked_context, checked_stride, longest_context
from eval.range_coder import TOTAL
from quant.unpack import Artifact, open_artifact


def act(args: argparse.Namespace) -> Answer:
    if len(args.files) not in (2, 3):
        raise BadInput(f"{len(args.files)} files are named; {args.verb} takes [ARTIFACT] IN OUT")
    *named, source, target = args.files
    if args.verb == "decompress" and (args.stride, args.context, args.adapt) != (None, None, "off"):
        raise BadInput("--stride, --context and --adapt are for compress; a compressed file contains its own rule")
    require_folder_of(target)
    path = named_or_newest(named[0] if named else None, ARTIFACT)
    data = Path(source).read_bytes()
    artifact = open_artifact(path)
    started = time.perf_counter()
    figures: Answer = {}
    if args.verb == "compress":
        out, nats = compress(artifact, data, args.stride, args.context, args.adapt)
        coded = read(out)
        figures = {"model_nats": nats, "tokens": coded.tokens, **coded.rule._asdict()}
        figures["bpb"] = 8 * len(out) / len(data) if data else None
    else:
        out = decompress(artifact, data)
    seconds = time.perf_counter() - started
    atomic_file(Path(target), out)
    return {
        "artifact": str(path.resolve()),
        "out": str(Path(target).resolve()),
        "in_bytes": len(data),
        "out_bytes": len(out),
        **figures,
        "seconds": seconds,
    }


def compress(
    artifact: Artifact, data: bytes, stride: int | None = None, context: int | None = None, adapt: str = "off"
) -> tuple[bytes, float]:
    """The compressed file, and the nats that the model charges for the text, to compare the file's length with.

    `stride` None: the fast rule; `context` None: the artifact's own.
    """
    if len(data) > MOST_BYTES:
        raise BadInput(f"{len(data):,} bytes are too many for one compressed file; split them into {MOST_BYTES:,} each")
    table = ByteTable(artifact.tokenizer)
    tokens = to_tokens(data, artifact.tokenizer, table)
    rule = _choose_rule(artifact, len(tokens), stride, context, adapt)
    with byte_progress("compressing", len(data)) as advance:
        streams, nats = encode(artifact.model, artifact.tokenizer, tokens, rule, _by_bytes(advance, table))
    own, here = _digest_of(artifact), _digest_of_environment()
    return write(CodedText(own, digest(data), here, len(data), len(tokens), rule, streams)), nats


def decompress(artifact: Artifact, data: bytes) -> bytes:
    coded = read(data)
    if coded.artifact != _digest_of(artifact):
        raise BadInput(
            f"compressed with the artifact {coded.artifact.hex()}…, and this one is {artifact.sha256[:16]}…; "
            "name the artifact that it was compressed with"
        )
    _require_plausible(coded, artifact)
    table = ByteTable(artifact.tokenizer)
    text = b""
    with byte_progress("decompressing", coded.size_bytes) as advance, suppress(Desynchronised):
        step = _by_bytes(advance, table)
        tokens = decode(artifact.model, artifact.tokenizer, coded.streams, coded.tokens, coded.rule, step)
        text = table.join(tokens.astype(np.uint16))
    if len(text) != coded.size_bytes or digest(text) != coded.text:
        is_same = coded.environment == _digest_of_environment()
        there = "another make of processor" if is_same else "another torch or processor"
        raise BadInput(
            f"the predictions differ from those that it was compressed with, on {there} than here ({environment()}); "
            "decompress it there"
        )
    return text


def _by_bytes(advance: Callable[[int], None], table: ByteTable) -> Callable[[Tokens], None]:
    """Progress in bytes, from the tokens of each step."""
    return lambda done: advance(int(table.exact[done].sum()))


def _choose_rule(artifact: Artifact, tokens: int, stride: int | None, context: int | None, adapt: str) -> Rule:
    context = checked_context(artifact, context)
    table_bits = read_adapt(artifact.header.config).table_bits if adapt == "mix" else 0
    if stride is None:
        return _possible(Rule(context, max(1, context // 2), rows_for(tokens), table_bits), tokens)
    if tokens > MOST_ROW_TOKENS:
        raise BadInput(f"--stride takes at most {MOST_ROW_TOKENS:,} tokens, and the text has {tokens:,}; leave it out")
    return _possible(Rule(context, checked_stride(stride, context), 1, table_bits), tokens)


def _possible(rule: Rule, tokens: int) -> Rule:
    """The rule, unless the tables of the blocks that are coded at a time do not fit this machine."""
    if rule.table_bits:
        require_memory(rule.table_bits, min(cores(), max(1, block_count(tokens, rule.rows))), BLOCK_ROWS)
    return rule


def environment() -> str:
    """The name of what the last bits of a prediction depend on, as far as it has one."""
    processor = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, numba {numba.__version__}, processor {processor}"


def _digest_of(artifact: Artifact) -> bytes:
    return bytes.fromhex(artifact.sha256)[:DIGEST_BYTES]


def _digest_of_environment() -> bytes:
    return digest(environment().encode())[:ENVIRONMENT_BYTES]


def _require_plausible(coded: CodedText, artifact: Artifact) -> None:
    """Refuse numbers that no encoder would have written, before they take time or memory."""
    context, stride, rows, table_bits = coded.rule
    tokens = coded.tokens
    vocab_size = artifact.model.config.vocab_size
    fewest_bits = -math.log2(1 - (vocab_size - 1) / TOTAL)  # that a token can cost
    if table_bits:  # questions of a path, each answered with no more than EDGE log-odds; half, for rounding
        fewest_bits = 0.5 * (vocab_size.bit_length() - 2) * math.log2(1 + math.exp(-EDGE))
    is_plausible = (
        tokens <= coded.size_bytes * (2 if artifact.tokenizer.transform.operators else 1)  # one operator per letter
        and bool(tokens) == bool(coded.size_bytes)
        and tokens * fewest_bits <= sum(8 * len(stream) + 64 for stream in coded.streams)
        and 1 <= rows <= max(1, tokens)
        and tokens <= rows * MOST_ROW_TOKENS
        and len(coded.streams) == block_count(tokens, rows)
        and all(len(stream) % 4 == 0 for stream in coded.streams)
        and 1 <= stride <= context <= (longest_context(artifact) or context)
        and (table_bits == 0 or FEWEST_BITS <= table_bits <= MOST_BITS)
    )
    if not is_plausible:
        raise BadInput(
            f"the compressed file is malformed: {tokens:,} tokens of {coded.size_bytes:,} bytes in "
            f"{len(coded.streams):,} streams contradict each other or {coded.rule}"
        )
    _possible(coded.rule, tokens)


def parser() -> OneLineParser:
    flags = command("eval.codec", __doc__ or "")
    flags.add_argument("verb", choices=("compress", "decompress"))
    flags.add_argument("files", nargs="+", metavar="FILE", help="[ARTIFACT] IN OUT; ARTIFACT may be a run's folder")
    flags.add_argument("--stride", type=int, help="compress by the score's own windows (default: the fast rule)")
    flags.add_argument("--context", type=int, help="tokens of a window (default: as scored or trained)")
    flags.add_argument("--adapt", choices=("off", "mix"), default="off", help="learn from what is coded")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show_pairs))
