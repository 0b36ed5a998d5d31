"""Parameter Golf's published FineWeb export -> data/datasets/ and data/tokenizers/, every file checked.

    python -m data.contest --variant sp1024 --train-shards 80
    python -m data.contest --variant sp1024 --local        (the files are there already: check and describe them)

Driven by the export's own manifest; downloads resume where they broke off and are checked against the hub's sizes and
hashes. The validation side is then proved document by document and compared with what the contest's records were
made on: an export that was re-issued is refused, since its scores cannot be compared (--reissued takes it anyway).
"""

import argparse
import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from base.cli import Answer, OneLineParser, command, run
from base.errors import BadInput
from base.files import file_sha256
from base.progress import byte_progress
from data.bytes import ByteTable
from data.check import prove_side
from data.dataset import assemble
from data.hub import HubFile, fetch, list_files, matches, pinned
from data.manifest import (
    TOKENIZER,
    Manifest,
    ShardEntry,
    SplitEntry,
    SplitName,
    describe_tokenizer,
    write_manifest,
)
from data.overlap import find_overlap
from data.shards import TokenStream, open_shard
from data.tokenizer import Tokenizer, read_tokenizer

REPO, REMOTE_ROOT = "willdepueoai/parameter-golf", "datasets"
VAL_DOCUMENTS = 50_000
VAL_BYTES = 151_080_891  # of the normalised text, the same under every SentencePiece variant
SCORED_TOKENS = {"sp1024": 62_021_632, "sp4096": 45_508_608, "sp8192": 40_540_160}  # in whole rows of 1,024
TOKENIZER_FILES = {"byte260": "fineweb_pure_byte_260.json"}  # the others are fineweb_{vocabulary}_bpe.model


def act(args: argparse.Namespace) -> Answer:
    started = time.monotonic()
    root = Path(args.root)
    folder = root / "datasets" / f"fineweb10B_{args.variant}"
    if args.train_shards < 0:
        raise BadInput(f"--train-shards {args.train_shards}: 0 or more")
    if args.local:
        tokenizer_path, source = root / "tokenizers" / _tokenizer_file(args.variant), "local files"
    else:
        tokenizer_path, source = _download(args.repo, args.variant, args.train_shards, root)
    tokenizer = read_tokenizer(tokenizer_path)
    shards = _shards(folder, None if args.local else args.train_shards)
    manifest = _describe(folder, shards, tokenizer, source)
    if not args.reissued:
        _refuse_reissue(args.variant, manifest)
    dataset = assemble(folder, manifest, tokenizer)
    with byte_progress("proving", manifest.val.bytes) as advance:
        prove_side(dataset, "val", advance)
    overlap = find_overlap(dataset.documents("train"), dataset.documents("val"))
    if overlap and not args.shared:
        raise BadInput(f"{folder}: {overlap}; --shared takes the export all the same, and its manifest says so")
    manifest = dataclasses.replace(manifest, shared_documents=overlap.documents if overlap else 0)
    shutil.copyfile(tokenizer_path, folder / TOKENIZER)
    write_manifest(manifest, folder)
    return {
        "path": str(folder.resolve()),
        "tokenizer": str(tokenizer_path.resolve()),
        "train_docs": manifest.train.documents,
        "val_docs": manifest.val.documents,
        "train_tokens": manifest.train.tokens,
        "val_tokens": manifest.val.tokens,
        "val_bytes": manifest.val.bytes,
        "shared_docs": manifest.shared_documents,
        "vocab_size": manifest.tokenizer.vocab_size,
        "source": manifest.source,
        "data_sha256": manifest.data_sha256(),
        "seconds": round(time.monotonic() - started, 3),
    }


def show(answer: Answer) -> str:
    return (
        f"{answer['path']}: ready in {answer['seconds']:.1f} s\n"
        f"  train       {answer['train_docs']:>10,} documents {answer['train_tokens']:>14,} tokens\n"
        f"  validation  {answer['val_docs']:>10,} documents {answer['val_tokens']:>14,} tokens"
        f" {answer['val_bytes']:>14,} bytes, proved\n"
        f"  on both sides: {answer['shared_docs']:,} documents\n"
        f"  data        {answer['data_sha256']}"
    )


def _tokenizer_file(variant: str) -> str:
    return TOKENIZER_FILES.get(variant, f"fineweb_{variant.removeprefix('sp')}_bpe.model")


# -- the hub --------------------------------------------------------------------------------------------------------


def _download(repo: str, variant: str, train_shards: int, root: Path) -> tuple[Path, str]:
    """Bring what the variant needs into root/datasets and root/tokenizers; returns the tokenizer and the source."""
    listed = {file.path: file for file in list_files(f"hf:{repo}:{REMOTE_ROOT}/*")}
    described = json.loads(fetch(_listed(listed, f"{REMOTE_ROOT}/manifest.json", repo)).read_text(encoding="utf-8"))
    name = f"fineweb10B_{variant}"
    entry = _entry(described, "datasets", name, repo)
    stats = entry.get("stats") or {}
    if train_shards > int(stats.get("files_train", 0)):
        raise BadInput(f"--train-shards {train_shards}: {name} has {stats.get('files_train', 0)} on hf:{repo}")
    spelled = _entry(described, "tokenizers", str(entry.get("tokenizer_name")), repo)
    tokenizer = Path(str(spelled.get("model_path") or spelled.get("path") or f"tokenizers/{_tokenizer_file(variant)}"))
    wanted = [f"datasets/{name}/fineweb_val_{i:06d}.bin" for i in range(int(stats.get("files_val", 0)))]
    wanted += [f"datasets/{name}/fineweb_train_{i:06d}.bin" for i in range(train_shards)]
    wanted.append(f"tokenizers/{tokenizer.name}")
    files = [(_listed(listed, f"{REMOTE_ROOT}/{path}", repo), root / path) for path in wanted]
    with byte_progress("download", sum(file.size_bytes for file, _ in files)) as advance:
        for file, target in files:
            if not (target.is_file() and matches(target, file)):
                target.parent.mkdir(parents=True, exist_ok=True)
                fetch(file, into=root / ".hub").replace(target)
            advance(file.size_bytes)
    return root / wanted[-1], pinned(f"hf:{repo}", files[0][0].commit)


def _entry(described: dict[str, Any], kind: str, name: str, repo: str) -> dict[str, Any]:
    entries = {str(entry.get("name")): entry for entry in described.get(kind, [])}
    if name not in entries:
        raise BadInput(f"hf:{repo}: its manifest has no {name} in {kind}, only {', '.join(entries) or 'nothing'}")
    found: dict[str, Any] = entries[name]
    return found


def _listed(listed: dict[str, HubFile], path: str, repo: str) -> HubFile:
    if path not in listed:
        raise BadInput(f"hf:{repo}: {path} is not there, though the export should hold it")
    return listed[path]


# -- the shards -----------------------------------------------------------------------------------------------------


def _shards(folder: Path, train_shards: int | None) -> dict[SplitName, list[Path]]:
    """The shards by number, from 0 on without a gap; byte sidecars and other neighbours are no shards."""
    found: dict[SplitName, list[Path]] = {}
    limits: dict[SplitName, int | None] = {"val": None, "train": train_shards}
    for split, limit in limits.items():
        numbered = sorted(folder.glob(f"fineweb_{split}_" + "[0-9]" * 6 + ".bin"))[:limit]
        for number, path in enumerate(numbered):
            if path.name != f"fineweb_{split}_{number:06d}.bin":
                raise BadInput(f"{folder}: has {path.name} where fineweb_{split}_{number:06d}.bin should come first")
        found[split] = numbered
    if not found["val"]:
        raise BadInput(f"{folder}: no fineweb_val_000000.bin; download it: python -m data.contest")
    return found


def _describe(folder: Path, shards: dict[SplitName, list[Path]], tokenizer: Tokenizer, source: str) -> Manifest:
    """A manifest of the shards as they lie there: every count is taken from the tokens themselves."""
    table = ByteTable(tokenizer)
    totals = {split: _count(found, tokenizer, table) for split, found in shards.items()}
    return Manifest(
        source=source,
        split=f"the export's own: its first {totals['val'].documents:,} documents are validation",
        tokenizer=describe_tokenizer(tokenizer),
        train=totals["train"],
        val=totals["val"],
        shards=tuple(
            ShardEntry(
                file=path.name,
                split=split,
                tokens=len(open_shard(path)),
                size_bytes=path.stat().st_size,
                sha256=file_sha256(path),
            )
            for split, found in shards.items()
            for path in found
        ),
    )


def _count(paths: list[Path], tokenizer: Tokenizer, table: ByteTable) -> SplitEntry:
    stream = TokenStream([open_shard(path) for path in paths])
    documents, exact, contest = stream.count(table, tokenizer.bos_id)
    return SplitEntry(
        documents=documents,
        tokens=len(stream),
        bytes=exact,
        contest_bytes=contest,
        raw_bytes=None,
        documents_sha256=None,
    )


def _refuse_reissue(variant: str, manifest: Manifest) -> None:
    """Scores on another issue of the export are other scores: it has happened once, without notice."""
    way_out = "the export was re-issued; --reissued takes it, and its scores stand apart"
    if manifest.val.documents != VAL_DOCUMENTS:
        raise BadInput(f"{variant}: {manifest.val.documents:,} validation documents, not {VAL_DOCUMENTS:,}; {way_out}")
    scored = (manifest.val.tokens - 1) // 1024 * 1024
    if scored != SCORED_TOKENS.get(variant, scored):
        raise BadInput(f"{variant}: {scored:,} scored tokens, not {SCORED_TOKENS[variant]:,}; {way_out}")
    if variant.startswith("sp") and manifest.val.contest_bytes != VAL_BYTES:
        raise BadInput(f"{variant}: {manifest.val.contest_bytes:,} bytes, not {VAL_BYTES:,}; {way_out}")


def parser() -> OneLineParser:
    flags = command("data.contest", __doc__ or "")
    flags.add_argument("--variant", default="sp1024", help="sp1024, sp4096, sp8192, byte260 … (default %(default)s)")
    flags.add_argument("--train-shards", type=int, default=80, help="how many, of 100M tokens (default %(default)s)")
    flags.add_argument("--root", default="data", help="where datasets/ and tokenizers/ lie (default %(default)s)")
    flags.add_argument("--repo", default=REPO, help="the hub dataset (default %(default)s)")
    flags.add_argument("--local", action="store_true", help="use the files that are there, ask no hub")
    flags.add_argument("--shared", action="store_true", help="take an export with documents on both sides")
    flags.add_argument("--reissued", action="store_true", help="take an export that the contest's records do not know")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
