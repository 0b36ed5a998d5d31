"""The `--json` answers and exit codes that programs rely on: one chain of commands on tiny data, in this process.

More keys are welcome; these are fixed.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import make_text
from tests.runs import ROOT, SMALL, answer, printed, refusal, write_texts

CONFIG = str(ROOT / "configs" / "demo.yaml")
PREP = "docs.jsonl --vocab 400 --val-fraction 0.2 --out data --workers 1"
CHAIN = [  # module, words, the keys of its answer
    ("data.prep", PREP.split(),
     "path train_docs val_docs train_tokens val_tokens val_bytes vocab_size up_to_date seconds"),
    ("train_gpt", [CONFIG, *SMALL, "--name", "tiny"],
     "run params steps train_seconds val_bpb float_bpb artifact artifact_bytes code_bytes total_bytes"),
    ("train_gpt", [CONFIG, *SMALL, "--dry-run"],
     "params params_by_kind flops_per_token tokens_per_step memory_bytes"),
    ("quant.pack", ["runs/tiny", "--bits", "mlp=5,attn=6"],
     "artifact artifact_bytes code_bytes total_bytes cap_bytes bits bits_per_weight entropy_bits_per_weight kinds"),
    ("eval.bpb", ["runs/tiny", "--stride", "16"],
     "bpb nats_per_token tokens bytes contest_bytes coverage partial stride context artifact_sha256 data_sha256 "
     "seconds tokens_per_second"),
    ("eval.codec", ["compress", "runs/tiny", "docs.jsonl", "docs.glz"],
     "in_bytes out_bytes bpb model_nats seconds"),
    ("eval.codec", ["decompress", "runs/tiny", "docs.glz", "docs.back"], ""),
    ("eval.probe", ["runs/tiny", "--tokens", "256", "--only", "repeat", "coverage"], "passed probes"),
    ("tools.plan", [CONFIG, *SMALL, "--gpu", "h100"],
     "params params_tied flops_per_token total_flops tokens memory_bytes fits fits_sharded max_batch hours cost_usd "
     "shards epochs"),
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("chain")
    write_texts(place / "docs.jsonl", map(make_text, range(80)))
    with contextlib.chdir(place):
        yield place


def test_every_answer_has_its_fixed_keys_alone_on_stdout(place: Path) -> None:
    for module, words, keys in CHAIN:
        found = answer(module, *words)
        missing = set(keys.split()) - found.keys()
        assert not missing, f"{module}: {missing}"
        for key in {"run", "artifact", "path"} & found.keys():
            assert Path(found[key]).is_absolute(), f"{module}: {key}"
    assert (place / "docs.back").read_bytes() == (place / "docs.jsonl").read_bytes()


def test_a_verdict_has_its_fixed_keys_and_an_exit_code_that_follows_it(record: Path, tmp_path: Path) -> None:
    found = answer("tools.verify", record, "--fast", "--records", record.parents[1])
    assert found["verdict"] == "valid"
    assert all({"rule", "level", "message", "evidence"} <= finding.keys() for finding in found["findings"])
    empty = tmp_path / "record"
    empty.mkdir()
    out, _ = printed("tools.verify", empty, "--fast", "--json", code=1)
    assert json.loads(out)["verdict"] == "unverified"


WRONG = [  # module, words: each is bad input
    ("data.prep", "nothing.jsonl --vocab 400 --out x"),
    ("data.check", "nowhere"),
    ("train_gpt", "no.yaml"),
    ("train_gpt", f"{CONFIG} model.layerz=2"),
    ("quant.pack", "nowhere --bits mlp=5"),
    ("quant.inspect", "nowhere"),
    ("eval.bpb", "nowhere --stride 64"),
    ("eval.codec", "compress nowhere a b"),
    ("eval.probe", "nowhere"),
    ("eval.stats", "one"),
    ("tools.bundle", "no.yaml -o x.py"),
    ("tools.record", "nowhere --track track_cpu_10min_1mb --name x"),
    ("tools.verify", "nowhere --fast"),
    ("tools.leaderboard", "nowhere"),
    ("tools.plan", f"{CONFIG} --gpu abacus"),
    ("tools.sweep", "no.yaml"),
    ("tools.generate", "nowhere --prompt x"),
    ("tools.export_llama", "nowhere --out x"),
    ("tools.convert_rscalm", "checkpoint nowhere --out x"),
]


def test_bad_input_ends_every_command_with_2_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module, words in WRONG:
        refusal(module, *words.split())
    assert list(tmp_path.iterdir()) == []
