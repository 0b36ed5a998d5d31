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
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.errors import BadInput
from base.files import write_json
from base.run_folder import MODEL
from data.dataset import open_dataset
from data.manifest import TOKENIZER
from tools.llama import require_supported
from tools.load_model import RSCALM, open_model, require_plain_text
from tools.rscalm import from_rscalm_config, to_rscalm, to_rscalm_config

FILES = {
    "checkpoint": [RSCALM, "ckpt_best.pt", "pytorch_model.bin", "config.json", TOKENIZER],
    "dataset": ["train.bin", "val.bin"],
}


def act(args: argparse.Namespace) -> Answer:
    """Write beside the folder, which may hold other files; complete files move into it."""
    out = Path(args.out).absolute()
    files = FILES[args.what]
    taken = [name for name in files if (out / name).exists()]
    if taken:
        raise BadInput(f"{out}: holds {', '.join(taken)} already; name another folder: --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    write = write_checkpoint if args.what == "checkpoint" else write_dataset
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as part:
        write(args.source, Path(part))
        out.mkdir(exist_ok=True)
        for name in files:
            (Path(part) / name).rename(out / name)
    return {"path": str(out), "files": files}


def write_checkpoint(source: str, folder: Path) -> None:
    opened = open_model(source, MODEL)
    require_plain_text(opened.tokenizer, opened.path)
    where = str(opened.path)
    config = to_rscalm_config(opened.model.config, opened.seq_len)
    require_supported(opened.model.config, from_rscalm_config(config, where), where, "seed 001's model")
    weights = to_rscalm(opened.model.state_dict(), opened.model.config)
    for name in (RSCALM, "ckpt_best.pt"):
        torch.save({"model": weights, "config": config, "optim": {}, "scaler": {}}, folder / name)
    torch.save(weights, folder / "pytorch_model.bin")
    write_json(folder / "config.json", config)
    (folder / TOKENIZER).write_bytes(opened.tokenizer.model)


def write_dataset(source: str, folder: Path) -> None:
    dataset = open_dataset(source)
    require_plain_text(dataset.tokenizer, source)
    for split in ("train", "val"):
        with (folder / f"{split}.bin").open("wb") as stream:
            for document in dataset.documents(split):
                stream.write(np.append(document, dataset.tokenizer.eos_id).astype("<i4").tobytes())


def parser() -> OneLineParser:
    flags = command("tools.convert_rscalm", __doc__ or "")
    flags.add_argument("what", choices=("checkpoint", "dataset"))
    flags.add_argument("source", metavar="RUN | DATASET")
    flags.add_argument("--out", required=True, metavar="DIR", help="a folder without these files")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show_pairs))
