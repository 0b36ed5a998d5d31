"""Parameter Golf's published FineWeb export -> data/datasets/ and data/tokenizers/, every file checked.

    python -m data.contest --variant sp1024 --train-shards 80
    python -m data.contest --variant sp1024 --local        (the files are there already: check and describe them)

Downloads resume where they broke off and are checked against the hub's sizes and hashes. The validation side is then
proved document by document and compared with what the contest's records were made on: an export that was re-issued is
refused, since its scores cannot be compared (--reissued accepts it).
"""

import argparse
import fnmatch
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.errors import BadInput
from base.progress import byte_progress
from data.bare import NUMBER, describe_bare, tokenizer_file
from data.check import prove_side
from data.dataset import assemble
from data.hub import HubFile, fetch, list_files
from data.manifest import TOKENIZER, Manifest, write_manifest
from data.overlap import find_overlap
from data.tokenizer import read_tokenizer

REPO = "willdepueoai/parameter-golf"
REMOTE_ROOT = "datasets"
VAL_DOCUMENTS = 50_000
VAL_BYTES = 151_080_891  # of the normalised text, the same under every SentencePiece variant
SCORED_TOKENS = {"sp1024": 62_021_632, "sp4096": 45_508_608, "sp8192": 40_540_160}  # in complete rows of 1,024


def act(args: argparse.Namespace) -> Answer:
    started = time.monotonic()
    root = Path(args.root)
    folder = root / "datasets" / f"fineweb10B_{args.variant}"
    tokenizer_path = root / "tokenizers" / tokenizer_file(args.variant)
    if args.train_shards < 0:
        raise BadInput(f"--train-shards {args.train_shards}: 0 or more")
    source = "local files" if args.local else download(args.variant, args.train_shards, root)
    tokenizer = read_tokenizer(tokenizer_path)
    manifest = describe_bare(folder, tokenizer, None if args.local else args.train_shards)
    if not args.reissued:
        refuse_reissue(args.variant, manifest)
    dataset = assemble(folder, manifest, tokenizer)
    with byte_progress("proving", manifest.val.bytes) as advance:
        prove_side(dataset, "val", advance)
    overlap = find_overlap(dataset.documents("train"), dataset.documents("val"))
    if overlap and not args.shared:
        raise BadInput(f"{folder}: {overlap}; --shared accepts the export, and its manifest then counts them")
    manifest = replace(
        manifest,
        source=source,
        split=f"the export's own: its first {manifest.val.documents:,} documents are validation",
        train=dataset.train.totals(dataset.table, dataset.mark),
        shared_documents=overlap.documents if overlap else 0,
    )
    shutil.copyfile(tokenizer_path, folder / TOKENIZER)
    write_manifest(manifest, folder)
    return {
        "path": str(folder.resolve()),
        "tokenizer": str(tokenizer_path.resolve()),
        **manifest.totals(),
        "shared_docs": manifest.shared_documents,
        "source": manifest.source,
        "seconds": round(time.monotonic() - started, 3),
    }


def download(variant: str, train_shards: int, root: Path) -> str:
    """Link what the variant needs from the hub's cache into root/datasets and root/tokenizers; returns the source."""
    listed, source = list_files(f"hf:{REPO}")

    def named(pattern: str) -> list[HubFile]:
        return [file for file in listed if fnmatch.fnmatchcase(file.path, f"{REMOTE_ROOT}/{pattern}")]

    val = named(f"datasets/fineweb10B_{variant}/fineweb_val_{NUMBER}.bin")
    train = named(f"datasets/fineweb10B_{variant}/fineweb_train_{NUMBER}.bin")
    tokenizer = named(f"tokenizers/{tokenizer_file(variant)}")
    if not val or not tokenizer:
        variants = sorted({Path(file.path).parent.name for file in named("datasets/*/fineweb_val_*.bin")})
        raise BadInput(f"hf:{REPO}: no variant {variant}; it has {', '.join(variants)}")
    if train_shards > len(train):
        raise BadInput(f"--train-shards {train_shards}: hf:{REPO} has {len(train)} of {variant}")
    for file in [*val, *train[:train_shards], *tokenizer]:
        cached = fetch(file).resolve()
        path = root / file.path.removeprefix(f"{REMOTE_ROOT}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            path.hardlink_to(cached)
        except OSError:  # the cache is on another disk
            shutil.copyfile(cached, path)
    return source


def refuse_reissue(variant: str, manifest: Manifest) -> None:
    """Scores on another issue of the export are other scores: it has happened once, without notice."""
    val = manifest.val
    scored = (val.tokens - 1) // 1024 * 1024
    for found, expected, unit in (
        (val.documents, VAL_DOCUMENTS, "validation documents"),
        (scored, SCORED_TOKENS.get(variant, scored), "scored tokens"),
        (val.contest_bytes, VAL_BYTES if variant.startswith("sp") else val.contest_bytes, "bytes"),
    ):
        if found != expected:
            raise BadInput(
                f"{variant}: {found:,} {unit}, not {expected:,}; the export was re-issued; "
                "--reissued accepts it, and its scores compare with no others"
            )


def parser() -> OneLineParser:
    flags = command("data.contest", __doc__ or "")
    flags.add_argument("--variant", default="sp1024", help="sp1024, sp4096, sp8192, byte260 … (default %(default)s)")
    flags.add_argument("--train-shards", type=int, default=80, help="how many, of 100M tokens (default %(default)s)")
    flags.add_argument("--root", default="data", help="where datasets/ and tokenizers/ are (default %(default)s)")
    flags.add_argument("--local", action="store_true", help="use the files that are there, without the hub")
    flags.add_argument("--shared", action="store_true", help="accept an export with documents on both sides")
    flags.add_argument("--reissued", action="store_true", help="accept an export other than the contest's records'")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show_pairs))
