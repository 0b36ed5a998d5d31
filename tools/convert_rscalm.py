"""Write a run or a dataset of ours as the files of seed 001 (RSCaLM), for programs that read those.

    python -m tools.convert_rscalm checkpoint runs/rscalm138m --out old
    python -m tools.convert_rscalm dataset data/datasets/rscalm138m --out old

checkpoint  ckpt_last.pt, ckpt_best.pt (the same weights; `optim` and `scaler` are empty, as ours is another optimizer),
            pytorch_model.bin, config.json, tokenizer.model
dataset     train.bin and val.bin: int32 tokens without a header, EOS after each document and no BOS

tokenizer.model is copied as it is: bos 1 and eos 2 are theirs; pad 0 and unk 3 are the other way round there, and
neither occurs in a dataset. The way back is tools.generate or tools.export_llama, which open ckpt_last.pt.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from base.cli import OneLineParser, command, run
from base.errors import BadInput
from base.run_folder import MODEL
from data.dataset import open_dataset
from data.manifest import TOKENIZER
from tools.llama import fold
from tools.load_model import LLAMA_CONFIG, RSCALM, open_model
from tools.rscalm import to_rscalm, to_rscalm_config, unsupported_in_rscalm


@dataclass(frozen=True)
class Converted:
    path: str
    source: str
    files: list[str]


def act(args: argparse.Namespace) -> Converted:
    out = Path(args.out).absolute()
    files = convert_checkpoint(args.source, out) if args.what == "checkpoint" else convert_dataset(args.source, out)
    return Converted(str(out), str(Path(args.source).resolve()), files)


def convert_checkpoint(source: str, out: Path) -> list[str]:
    opened = open_model(source, MODEL)
    unsupported = unsupported_in_rscalm(opened.model.config)
    if unsupported:
        fields = ", ".join(f"{name}={value}" for name, value in unsupported.items())
        raise BadInput(f"{opened.path}: seed 001's model has no place for {fields}; tools.export_llama may take it")
    model = fold(opened.model)
    config = to_rscalm_config(model.config, opened.seq_len)
    weights = to_rscalm(model.state_dict(), model.config)
    files = [RSCALM, "ckpt_best.pt", "pytorch_model.bin", LLAMA_CONFIG, TOKENIZER]
    with add_files(out, files) as part:
        for name in files[:2]:
            torch.save({"model": weights, "config": config, "optim": {}, "scaler": {}}, part / name)
        torch.save(weights, part / "pytorch_model.bin")
        (part / LLAMA_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (part / TOKENIZER).write_bytes(opened.tokenizer.model)
    return files


def convert_dataset(source: str, out: Path) -> list[str]:
    dataset = open_dataset(source)
    files = ["train.bin", "val.bin"]
    with add_files(out, files) as part:
        for split in ("train", "val"):
            with (part / f"{split}.bin").open("wb") as stream:
                for document in dataset.documents(split):
                    stream.write(np.append(document, dataset.tokenizer.eos_id).astype("<i4").tobytes())
    return files


@contextmanager
def add_files(folder: Path, names: list[str]) -> Iterator[Path]:
    """A place to write `names`; at the end, complete, they move into `folder`, which may hold other files."""
    taken = [name for name in names if (folder / name).exists()]
    if taken:
        raise BadInput(f"{folder}: holds {', '.join(taken)} already; name another folder: --out")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".") as part:
        yield Path(part)
        for name in names:
            (Path(part) / name).rename(folder / name)


def show(converted: Converted) -> str:
    return f"{converted.path}: {', '.join(converted.files)}"


def parser() -> OneLineParser:
    flags = command("tools.convert_rscalm", __doc__ or "")
    flags.add_argument("what", choices=("checkpoint", "dataset"))
    flags.add_argument("source", metavar="RUN | DATASET")
    flags.add_argument("--out", required=True, metavar="DIR", help="a folder without these files")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
