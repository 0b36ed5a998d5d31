"""What a run left behind, file by file: where a newcomer may look next.

python -m tools.tour runs/demo          (default: the newest run)
"""

import argparse
import json
import sys

from base.cli import Answer, OneLineParser, command, run
from base.runs import named_or_newest
from engine.log import RESULT

# What may lie in a run's folder, in the order in which one would open it. The newest of several matches is taken.
FILES = (
    ("loss.png", "the training loss"),
    ("train.log", "config, versions, hashes, what was said; the last line is the score"),
    ("metrics.jsonl", "every step, for programs"),
    ("model.golf", "the model, packed: with this file alone it scores, generates, compresses"),
    ("score.json", "its score by the sliding window"),
    ("*.glz", "a text that the model compressed"),
    ("records/*/*/README.md", "the record: what is claimed, and how to repeat it"),
    ("records/*/*/submission.json", "the claim; change a digit of val_bpb and run python -m tools.verify"),
    ("records/*/*/train_gpt.py", "the whole program in one file; it runs alone"),
    ("records/*/*/figures/bytes.png", "where the bytes are"),
    ("records/*/*/figures/position.png", "where the bits are"),
    ("records/index.html", "the leaderboard; open it in a browser"),
)


def act(args: argparse.Namespace) -> Answer:
    folder = named_or_newest(args.run, RESULT).parent
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    files = []
    for pattern, told in FILES:
        if found := sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns):
            files.append({"path": str(found[-1]), "bytes": found[-1].stat().st_size, "what": told})
    return {
        "run": str(folder),
        "packed_bpb": result["packed_bpb"],
        "total_bytes": result["total_bytes"],
        "files": files,
    }


def show(answer: Answer) -> str:
    width = max(len(file["path"]) for file in answer["files"])
    head = f"{answer['run']}: {answer['packed_bpb']:.4f} bits a byte in {answer['total_bytes']:,} bytes. What to open:"
    return "\n".join(
        [head, *(f"  {file['path']:<{width}}  {file['bytes']:>9,}  {file['what']}" for file in answer["files"])]
    )


def parser() -> OneLineParser:
    flags = command("tools.tour", __doc__ or "")
    flags.add_argument("run", nargs="?", metavar="RUN", help="a finished run's folder (default: the newest)")
    return flags


if __name__ == "__main__":
    sys.exit(run(parser(), act, show))
