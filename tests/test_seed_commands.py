"""Every command that docs/seeds.md gives for a seed's own runs here, small; and none on that page is left out.

A command is run as it is written there, with a few words more that make it small, in this process and an empty folder.
"""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import make_text
from tests.runs import ROOT, printed

PAGE = (ROOT / "docs" / "seeds.md").read_text(encoding="utf-8")

DATA = ["data.path=data/datasets/rscalm138m", "data.source=''"]
SMALL = [
    *DATA, "model.vocab_size=400", "model.layers=2", "model.dim=64", "model.hidden=64", "model.heads=4",
    "model.kv_heads=4", "train.seconds=0", "train.steps=3", "train.seq_len=64", "train.batch_tokens=128",
    "train.micro_tokens=0", "train.compile=off", "eval.stride=64", "eval.during=0", "eval.context=64",
]  # fmt: skip
PACKED_PLAINLY = [*SMALL, "quant.method=absmax", "quant.codec=zstd", "model.bigram_buckets=32", "model.bigram_dim=8"]
YARN = ["--yarn-original", "64"]

# A command of the page -> the words that make it small.
COMMANDS: dict[str, list[str]] = {
    "python -m data.prep corpus.txt --txt line --split tail --val-fraction 0.01 --vocab 32000 "
    "--out data/datasets/rscalm138m": ["--vocab", "400", "--val-fraction", "0.1", "--workers", "1"],
    "python train_gpt.py configs/seeds/albor50m.yaml": SMALL,
    "python -m tools.plan configs/seeds/albor350m.yaml --gpu \"rtx 4090\"": [],
    "python train_gpt.py configs/seeds/rscalm138m.yaml": SMALL,
    "python -m tools.generate runs/rscalm138m --prompt \"The sun is\" --max-new-tokens 50":
        ["--max-new-tokens", "5", "--top-p", "0.9", "--top-k", "50", "--repetition-penalty", "1.3",
         "--no-repeat-ngram", "4"],
    "python -m tools.convert_rscalm checkpoint runs/rscalm138m --out old": [],
    "python -m tools.convert_rscalm dataset data/datasets/rscalm138m --out old": [],
    "python -m tools.generate old/ckpt_last.pt --tokenizer old/tokenizer.model --prompt \"The sun is\" --mark eos": [],
    "python -m tools.export_llama runs/rscalm138m --out RSCaLM-138M-LLaMA": [],
    "python train_gpt.py configs/seeds/micro26m.yaml": SMALL,
    "python -m tools.generate runs/micro26m --prompt \"import\" --yarn 16 --yarn-original 2048 --yarn-attention 1.0":
        ["--max-new-tokens", "5", *YARN],
    "python train_gpt.py configs/golf465.yaml": PACKED_PLAINLY,
    "python -m quant.pack --bits mlp=5,attn=6,embed=6,bigram=6": [],
    "python -m eval.bpb --stride 64": [],
    "python train_gpt.py configs/depth.yaml": ["model.depth=2", *SMALL],
    "python -m tools.plan configs/seeds/d52.yaml --gpu h100 --gpus 8": [],
}  # fmt: skip
# Commands whose own tests run them: name in the page -> the file of those tests.
ELSEWHERE = {
    "tools.sweep": "tests/tools/test_sweep.py",
    "tools.record": "tests/tools/test_record.py",
    "run3b.sh": "tests/tools/test_plan_runs.py",
    "run6b.sh": "tests/tools/test_plan_runs.py",
    "run7b.sh": "tests/tools/test_plan_runs.py",
    "torchrun": "tests/contract/test_ranks.py",
}


def name_and_words(line: str) -> tuple[str, list[str]]:
    words = [str(ROOT / word) if word.endswith(".yaml") else word for word in shlex.split(line)]
    assert words[0] == "python"
    return (words[2], words[3:]) if words[1] == "-m" else (words[1].removesuffix(".py"), words[2:])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("seeds")
    lines = [make_text(seed, 400).replace("\n", " ") for seed in range(60)]
    (place / "corpus.txt").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return place


def test_every_command_of_the_page_works_one_after_the_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for line, small in COMMANDS.items():
        assert line in PAGE, line
        name, words = name_and_words(line)
        printed(name, *words, *small)
    assert {"ckpt_last.pt", "pytorch_model.bin", "train.bin"} <= {path.name for path in (place / "old").iterdir()}
    assert (place / "RSCaLM-138M-LLaMA" / "config.json").is_file()


def test_no_command_of_the_page_is_left_out_and_its_configs_exist() -> None:
    named = re.findall(r"`((?:python|torchrun|configs/runs/)[^`]*)`", PAGE)
    assert len(named) > 20
    for line in named:
        assert line in COMMANDS or any(word in line for word in ELSEWHERE), f"{line}: no test runs it"
    for file in [*ELSEWHERE.values(), *re.findall(r"configs/[\w/]+\.(?:yaml|sh)", PAGE)]:
        assert (ROOT / file).is_file(), file
