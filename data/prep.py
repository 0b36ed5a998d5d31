"""Documents -> a dataset folder: tokenizer, shards, manifest.

    python -m data.prep stdlib --vocab 1024 --out data/datasets/stdlib
    python -m data.prep corpus.jsonl.zst --vocab 4096 --out data/datasets/mine
    python -m data.prep corpus.parquet --vocab 4096 --transform caseops --out data/datasets/folded
    python -m data.prep books/ --txt file --tokenizer byte --out data/datasets/books
    python -m data.prep 'hf:OWNER/NAME:*.parquet' --vocab 1024 --out data/datasets/name
    python -m data.prep lines.txt --txt line --split tail --val-fraction 0.01 --out data/datasets/lines
    python -m data.prep 's3://bucket/*.jsonl.zst' --vocab 8192 --out OUT --executor local --tasks 64     (docs/scale.md)

SOURCE is stdlib; a file, folder or 'glob' of .txt, .jsonl (also as .gz, .xz, .zst) or .parquet; or
hf:OWNER/NAME[@REV][:GLOB]; or a URL of a file, folder or glob that fsspec reads, as s3://BUCKET/FOLDER.
Running it again on unchanged input checks the dataset and reports that it is up to date. With --executor the same
dataset is made by tasks, on this machine or a cluster; after a failure the same command continues.
"""

import argparse
import importlib
import shutil
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.errors import BadInput
from data.assemble import request_of
from data.build import build_dataset
from data.caseops import TRANSFORMS
from data.check import find_current
from data.corpus import Corpus, open_corpus
from data.encoding import cores
from data.job import Recipe
from data.manifest import Manifest
from data.tokenizer import ByteTokenizer, Tokenizer, read_tokenizer


def act(args: argparse.Namespace) -> Answer:
    started = time.monotonic()
    if args.workers < 1:
        raise BadInput(f"--workers {args.workers}: must be at least 1")
    out = Path(args.out)
    given = _given_tokenizer(args)
    flags = {each.name: getattr(args, each.name) for each in fields(Recipe)}
    recipe = Recipe(**{name: value for name, value in flags.items() if value is not None})
    corpus = open_corpus(args.source, args.field, args.txt)
    if not args.executor and (args.tasks or args.logs or args.sbatch):
        raise BadInput("--tasks, --logs and --sbatch are for an --executor: local, slurm or ray")
    if args.executor:
        manifest, is_current = _build_on_cluster(args, corpus, recipe, out, given)
    else:
        existing = find_current(out)
        is_current = existing is not None and _made_from(existing) == request_of(recipe, corpus, given)
        manifest = existing if existing and is_current else build_dataset(corpus, recipe, out, given, args.workers)
    return {
        "path": str(out.resolve()),
        **manifest.totals(),
        "val_raw_bytes": manifest.val.raw_bytes,
        "val_contest_bytes": manifest.val.contest_bytes,
        "lossless": manifest.tokenizer.lossless,
        "transform": manifest.tokenizer.transform,
        "skipped_docs": manifest.skipped_documents,
        "dropped_docs": manifest.dropped_documents,
        "repeated_docs": manifest.repeated_documents,
        "ignored_files": corpus.ignored_files,
        "corpus_sha256": manifest.corpus_sha256,
        "up_to_date": is_current,
        "seconds": round(time.monotonic() - started, 3),
    }


def _build_on_cluster(
    args: argparse.Namespace, corpus: Corpus, recipe: Recipe, out: Path, given: Tokenizer | None
) -> tuple[Manifest, bool]:
    if args.tasks is None or args.tasks < 1:
        raise BadInput(f"--tasks {args.tasks}: name how many parts to put the files into, at least 1")
    if args.sbatch and args.executor != "slurm":
        raise BadInput("--sbatch is for --executor slurm")
    sbatch = dict(option.partition("=")[::2] for option in args.sbatch)
    if args.executor == "slurm" and not {"partition", "time"} <= {*sbatch}:
        raise BadInput("--executor slurm: name --sbatch partition=NAME and --sbatch time=HH:MM:SS")
    if args.executor == "slurm" and not shutil.which("sbatch"):
        raise BadInput("--executor slurm: there is no sbatch here; run this on a node that submits jobs")
    try:
        scale = importlib.import_module("data.scale")
        cluster = scale.Cluster(
            executor=args.executor,
            tasks=args.tasks,
            workers=args.workers,
            logs=Path(args.logs or f"{out}.logs"),
            sbatch=sbatch,
        )
        found: tuple[Manifest, bool] = scale.build_on(cluster, corpus, recipe, out, given)
    except ImportError as error:
        raise BadInput(f"--executor {args.executor}: {error}; pip install -r requirements-cluster.txt") from None
    return found


def _given_tokenizer(args: argparse.Namespace) -> Tokenizer | None:
    if args.tokenizer is None:
        return None
    if args.vocab is not None or args.transform != Recipe.transform:
        raise BadInput("--vocab is for training, and so is --transform; a given --tokenizer has its own")
    return ByteTokenizer() if args.tokenizer == "byte" else read_tokenizer(Path(args.tokenizer))


def _made_from(manifest: Manifest) -> dict[str, Any]:
    return {"transform": Recipe.transform, "near_duplicates": None, **manifest.request}  # older ones lack these


def parser() -> OneLineParser:
    flags = command("data.prep", __doc__ or "")
    flags.add_argument("source", metavar="SOURCE")
    flags.add_argument("--out", required=True, help="the dataset's folder")
    flags.add_argument("--vocab", type=int, help=f"pieces to train (default {Recipe.vocab})")
    flags.add_argument("--tokenizer", metavar="FILE|byte", help="use this one instead of training")
    flags.add_argument("--transform", choices=TRANSFORMS, default=Recipe.transform, help="of texts, before training")
    flags.add_argument("--field", default="text", help="the text's key in .jsonl and .parquet (default %(default)s)")
    flags.add_argument("--txt", choices=("line", "file"), help="what a document is in .txt")
    flags.add_argument("--split", choices=("hash", "tail"), default=Recipe.split, help="default %(default)s")
    flags.add_argument("--val-fraction", type=float, default=Recipe.val_fraction, help="default %(default)s")
    flags.add_argument(
        "--near-duplicates",
        type=float,
        metavar="SIMILARITY",
        help="drop training documents about this similar to one of validation, like 0.8 (needs datatrove)",
    )
    flags.add_argument("--skip-bad", action="store_true", help="skip documents that cannot be read, and count them")
    flags.add_argument("--tokenizer-mb", type=int, default=Recipe.tokenizer_mb, help="of text to train on (default 64)")
    flags.add_argument("--workers", type=int, default=cores(), help="processes or tasks at a time (default: cores)")
    tasks = flags.add_argument_group("as tasks of datatrove")
    tasks.add_argument("--executor", choices=("local", "slurm", "ray"), help="this machine, or a cluster")
    tasks.add_argument("--tasks", type=int, metavar="N", help="parts that the files are put into")
    tasks.add_argument("--logs", metavar="DIR", help="the tasks' state, shared by all nodes (default: OUT.logs)")
    tasks.add_argument("--sbatch", action="append", default=[], metavar="KEY=VALUE", help="an option of Slurm's")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show_pairs))
