"""A submission as a reviewer has it: the packed single file, the contest's shards in ./data, two ranks, no more."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from base.config import load
from data.tokenizer import SentencePieceTokenizer
from run_config import RunConfig
from tests.runs import ROOT, lay_bare
from tools.bundle import bundle
from tools.record.__main__ import act, parser
from tools.verify.contest import contest_findings
from tools.verify.folder import Folder
from tools.verify.sandbox import open_doors

pytestmark = pytest.mark.slow

TINY = [
    "model.vocab_size=400", "model.layers=2", "model.dim=64", "model.heads=2", "model.kv_heads=1", "model.hidden=64",
    "train.seconds=0", "train.steps=6", "train.seq_len=32", "train.batch_tokens=256", "train.micro_tokens=0",
    "train.compile=off", "eval.context=32", "eval.stride=32", "eval.during=0",
]  # fmt: skip
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def run_alone(place: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *words, "--json"], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return answer


def test_a_single_file_trains_scores_and_is_recorded_and_verified_on_bare_shards(
    tmp_path: Path, contest_tokenizer: SentencePieceTokenizer, texts: list[str]
) -> None:
    folder = lay_bare(tmp_path / "data", contest_tokenizer, texts, train=1, val=1)
    config = load(RunConfig, ROOT / "configs" / "golf465.yaml", TINY)
    (tmp_path / "train_gpt.py").write_bytes(bundle(config, "golf465", readable=False))
    trained = run_alone(tmp_path, *TORCHRUN, "train_gpt.py")
    assert trained["steps"] == 6
    scored = run_alone(tmp_path, "-I", "train_gpt.py", "--score", trained["artifact"])
    assert scored["bpb"] == pytest.approx(trained["val_bpb"], rel=1e-6)
    assert scored["data_sha256"] == trained["val_sha256"]
    assert {path.suffix for path in folder.iterdir()} == {".bin"}
    words = ["--layout", "contest", "--track", "track_non_record_16mb", "--name", "tiny", "--bundle", "train_gpt.py"]
    with contextlib.chdir(tmp_path):
        made = act(parser().parse_args([trained["run"], *words]))
        findings = list(contest_findings(Folder(Path(made["path"])), fast=False))
    assert made["compliance"]["no_document_on_both_sides"]
    request = Path(made["pull_request"]).read_text()
    assert "torchrun --standalone --nproc_per_node=2 train_gpt.py" in request
    assert "--data data/datasets/fineweb10B_sp1024" in request
    assert not [path for path in tmp_path.rglob("manifest.json") if "contest" not in path.parts]
    measured = {finding.rule: finding.level for finding in findings if finding.rule.startswith("score")}
    assert measured == ({"score.begun": "unverified"} if open_doors() else {"score.measured": "note"}), findings
