"""The one-file train_gpt.py of a submission: what it imports of ours, joined, with a run's config as its default.

    python -m tools.bundle configs/cpu10.yaml -o train_gpt.py                readable: comments kept, a banner a section
    python -m tools.bundle configs/cpu10.yaml -o train_gpt.py --packed       minified and compressed; unpacks itself
    python -I train_gpt.py seed=42 data.path=DIR                             the run again, alone, with another seed
    python -I train_gpt.py --score model.golf --data DIR --json              what an artifact of it is worth

How, and the rules that make it sound: docs/bundle.md. It needs a dataset that data.prep made; it makes none.
"""

import argparse
import sys
from pathlib import Path

from base.cli import Answer, OneLineParser, command, run, show_pairs
from base.config import load
from base.files import atomic_file, require_folder_of
from run_config import DEFAULT, RunConfig
from tools.bundling.build import bundle


def act(args: argparse.Namespace) -> Answer:
    require_folder_of(args.output)
    path, *words = args.words if args.words and "=" not in args.words[0] else [DEFAULT, *args.words]
    built = bundle(load(RunConfig, path, words), args.packed, Path(path).stem)
    atomic_file(Path(args.output), built.data)
    return {
        "path": str(Path(args.output).resolve()),
        "bytes": len(built.data),
        "packed": args.packed,
        "modules": len(built.sources),
    }


def parser() -> OneLineParser:
    flags = command("tools.bundle", __doc__ or "")
    flags.add_argument("words", nargs="*", metavar="CONFIG.yaml section.key=value", help=f"default: {DEFAULT}")
    flags.add_argument("-o", "--output", metavar="FILE", required=True)
    flags.add_argument("--packed", action="store_true", help="as small as it gets (default: readable)")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show_pairs))
