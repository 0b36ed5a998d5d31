"""Documents -> a dataset folder: tokenizer, shards, manifest.

    python -m data.prep stdlib --vocab 1024 --out data/datasets/stdlib
    python -m data.prep corpus.jsonl.zst --vocab 4096 --out data/datasets/mine
    python -m data.prep books/ --txt file --tokenizer byte --out data/datasets/books
    python -m data.prep 'hf:OWNER/NAME:*.parquet' --vocab 1024 --out data/datasets/name
    python -m data.prep lines.txt --txt line --layout rscalm --split tail --val-fraction 0.01 --out data/datasets/lines

SOURCE is stdlib; a file, folder or 'glob' of .txt, .jsonl, .parquet (also .gz, .xz, .zst); or
hf:OWNER/NAME[@REV][:GLOB].
Running it again on unchanged input checks the dataset and says that it is up to date.
"""

import argparse
import sys
import time
from pathlib import Path

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput, CheckFailed
from data.build import Recipe, build_dataset, request_of
from data.check import count_tokens
from data.corpus import open_corpus
from data.dataset import open_dataset
from data.encoding import cores
from data.manifest import MANIFEST, Manifest
from data.tokenizer import ByteTokenizer, Tokenizer, read_tokenizer

MAX_WORKERS = 512


def act(args: argparse.Namespace) -> Answer:
    started = time.monotonic()
    recipe = _recipe(args)
    given = _given_tokenizer(args.tokenizer)
    corpus = open_corpus(args.source, args.field, args.txt)
    request = request_of(corpus, recipe, given)
    out = Path(args.out)
    manifest = _up_to_date(out, request)
    up_to_date = manifest is not None
    manifest = manifest or build_dataset(corpus, recipe, request, given, out, args.workers)
    return {
        "path": str(out.resolve()),
        "train_docs": manifest.train.documents,
        "val_docs": manifest.val.documents,
        "train_tokens": manifest.train.tokens,
        "val_tokens": manifest.val.tokens,
        "train_bytes": manifest.train.bytes,
        "val_bytes": manifest.val.bytes,
        "val_raw_bytes": manifest.val.raw_bytes,
        "val_contest_bytes": manifest.val.contest_bytes,
        "vocab_size": manifest.tokenizer.vocab_size,
        "lossless": manifest.tokenizer.lossless,
        "skipped_docs": manifest.skipped_documents,
        "dropped_docs": manifest.dropped_documents,
        "repeated_docs": manifest.repeated_documents,
        "ignored_files": corpus.ignored_files,
        "corpus_sha256": manifest.corpus_sha256,
        "data_sha256": manifest.data_sha256(),
        "up_to_date": up_to_date,
        "seconds": round(time.monotonic() - started, 3),
    }


def show(answer: Answer) -> str:
    size = answer["train_bytes"] + answer["val_bytes"]
    tokens = answer["train_tokens"] + answer["val_tokens"]
    lines = [
        f"{answer['path']}: {'up to date' if answer['up_to_date'] else 'written'} in {answer['seconds']:.1f} s",
        f"  train       {answer['train_docs']:>10,} documents {answer['train_tokens']:>14,} tokens"
        f" {answer['train_bytes']:>14,} bytes",
        f"  validation  {answer['val_docs']:>10,} documents {answer['val_tokens']:>14,} tokens"
        f" {answer['val_bytes']:>14,} bytes",
        f"  vocabulary  {answer['vocab_size']:>10,} {size / tokens:.3f} bytes a token",
        f"  corpus      {answer['corpus_sha256']}",
        f"  data        {answer['data_sha256']}",
    ]
    if not answer["lossless"]:
        lines.append(
            f"  the tokenizer normalises: {answer['val_raw_bytes']:,} raw validation bytes became"
            f" {answer['val_bytes']:,}; scores divide by the latter"
        )
    for key, words in (
        ("skipped_docs", "skipped: they could not be read"),
        ("dropped_docs", "dropped: training copies of validation documents"),
        ("repeated_docs", "kept that repeat another on the same side"),
    ):
        if answer[key]:
            lines.append(f"  {answer[key]:,} {'document' if answer[key] == 1 else 'documents'} {words}")
    if answer["ignored_files"]:
        lines.append(f"  {answer['ignored_files']:,} files of other formats were passed over")
    if answer["val_contest_bytes"] > answer["val_bytes"]:
        lines.append(
            f"  the contest's rule would count {answer['val_contest_bytes']:,} validation bytes:"
            " it takes a space inside a piece for three"
        )
    return "\n".join(lines)


def _recipe(args: argparse.Namespace) -> Recipe:
    if not 1 <= args.workers <= MAX_WORKERS:
        raise BadInput(f"--workers {args.workers}: 1 to {MAX_WORKERS} processes")
    if not args.out:
        raise BadInput("--out names the dataset's folder, and it is empty")
    if args.tokenizer and (args.vocab or args.ids):
        raise BadInput("--vocab and --ids are for training; a given --tokenizer has its own")
    return Recipe(
        vocab=Recipe.vocab if args.vocab is None else args.vocab,
        ids=args.ids or args.layout,
        layout=args.layout,
        split=args.split,
        val_fraction=args.val_fraction,
        tokenizer_mb=args.tokenizer_mb,
        shard_tokens=args.shard_tokens,
        skip_bad=args.skip_bad,
    )


def _given_tokenizer(name: str | None) -> Tokenizer | None:
    if name is None:
        return None
    return ByteTokenizer() if name == "byte" else read_tokenizer(Path(name))


def _up_to_date(out: Path, request: dict[str, object]) -> Manifest | None:
    """The dataset at `out`, if it is what is asked for and its files and totals still are what its manifest says."""
    if not (out / MANIFEST).is_file():
        return None
    try:
        dataset = open_dataset(out)
        count_tokens(dataset)
    except (BadInput, CheckFailed) as stale:
        print(f"not up to date: {stale}", file=sys.stderr)
        return None
    return dataset.manifest if dataset.manifest.request == request else None


def parser() -> OneLineParser:
    flags = command("data.prep", __doc__ or "")
    flags.add_argument("source", metavar="SOURCE")
    flags.add_argument("--out", required=True, help="the dataset's folder")
    flags.add_argument("--vocab", type=int, help=f"pieces to train (default {Recipe.vocab})")
    flags.add_argument("--tokenizer", metavar="FILE|byte", help="use this one instead of training")
    flags.add_argument("--ids", choices=("golf", "rscalm"), help="order of the special ids (default: the layout's)")
    flags.add_argument("--field", default="text", help="the text's key in .jsonl and .parquet (default %(default)s)")
    flags.add_argument("--txt", choices=("line", "file"), help="what a document is in .txt")
    flags.add_argument("--split", choices=("hash", "tail"), default=Recipe.split, help="default %(default)s")
    flags.add_argument("--val-fraction", type=float, default=Recipe.val_fraction, help="default %(default)s")
    flags.add_argument("--layout", choices=("golf", "rscalm"), default=Recipe.layout, help="default %(default)s")
    flags.add_argument(
        "--skip-bad", action="store_true", help="pass over documents that cannot be read, and count them"
    )
    flags.add_argument(
        "--tokenizer-mb", type=int, default=Recipe.tokenizer_mb, help="text to train on (default %(default)s)"
    )
    flags.add_argument("--shard-tokens", type=int, default=Recipe.shard_tokens, help="default %(default)s")
    flags.add_argument("--workers", type=int, default=cores(), help="processes (default: cores)")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
