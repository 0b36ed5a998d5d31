"""data.contest against a local hub that holds a small export in the published layout."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.dataset import open_dataset
from data.tokenizer import ByteTokenizer, SentencePieceTokenizer, Tokenizer
from tests.conftest import make_text
from tests.data.hub_server import COMMIT, Hub, serve
from tests.data.test_hub import run_module
from tests.runs import shards_of

REPO = "willdepueoai/parameter-golf"
pytestmark = pytest.mark.slow  # a process for each command


@pytest.fixture
def hub(contest_tokenizer: SentencePieceTokenizer) -> Hub:
    texts = {"val": [make_text(seed) for seed in range(20)], "train": [make_text(seed) for seed in range(20, 80)]}
    files: dict[str, bytes] = {}
    variants: dict[str, Tokenizer] = {"sp1024": contest_tokenizer, "byte260": ByteTokenizer()}
    for variant, tokenizer in variants.items():
        name = "fineweb_1024_bpe.model" if variant == "sp1024" else "fineweb_pure_byte_260.json"
        files[f"datasets/tokenizers/{name}"] = tokenizer.model
        for split, count in (("val", 1), ("train", 3)):
            for number, shard in enumerate(shards_of(tokenizer, texts[split], count)):
                files[f"datasets/datasets/fineweb10B_{variant}/fineweb_{split}_{number:06d}.bin"] = shard
    return Hub(REPO, files)


def contest(endpoint: str, tmp_path: Path, *words: object) -> tuple[int, dict[str, Any], str]:
    done = run_module(endpoint, tmp_path / "home", "data.contest", "--root", tmp_path / "data", "--json", *words)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.mark.parametrize("variant", ["sp1024", "byte260"])
def test_the_export_lands_in_datasets_and_tokenizers_proved_and_opens(tmp_path: Path, hub: Hub, variant: str) -> None:
    with serve(hub) as endpoint:
        words = ("--variant", variant, "--train-shards", 2, "--reissued")
        code, answer, error = contest(endpoint, tmp_path, *words)
        assert code == 0, error
        served = len(hub.served)
        assert contest(endpoint, tmp_path, *words)[0] == 0
        assert not [path for path in hub.served[served:] if path.endswith(".bin")]  # nothing is fetched twice
    folder = tmp_path / "data" / "datasets" / f"fineweb10B_{variant}"
    assert len(list(folder.glob("fineweb_train_*.bin"))) == 2
    dataset = open_dataset(folder)
    assert answer["val_docs"] == 20
    assert answer["source"] == f"hf:{REPO}@{COMMIT}"
    decoded = [dataset.tokenizer.decode(ids) for ids in dataset.documents("val")]
    assert answer["val_bytes"] == sum(len(text.encode()) for text in decoded)
    assert decoded[0] == dataset.tokenizer.normalize(make_text(0))
    assert (tmp_path / "data" / "tokenizers" / Path(answer["tokenizer"]).name).read_bytes() == dataset.tokenizer.model


def test_what_cannot_be_had_is_one_clear_line(tmp_path: Path, hub: Hub) -> None:
    with serve(hub) as endpoint:
        for words, expected in (
            (["--train-shards", 2], "20 validation documents, not 50,000; the export was re-issued"),
            (["--variant", "sp9999"], "no variant sp9999; it has fineweb10B_byte260, fineweb10B_sp1024"),
            (["--train-shards", 9], "has 3 of sp1024"),
            (["--train-shards", -1], "--train-shards -1: 0 or more"),
        ):
            code, _, error = contest(endpoint, tmp_path, *words)
            assert code == 2
            assert expected in error
            assert error.count("\n") == 1
    assert not list((tmp_path / "data").glob("datasets/*/manifest.json"))


def test_shared_documents_need_a_flag(tmp_path: Path, hub: Hub, contest_tokenizer: SentencePieceTokenizer) -> None:
    leaked = shards_of(contest_tokenizer, [make_text(99), make_text(7)], 1)[0]  # text 7 is a validation document
    hub.files["datasets/datasets/fineweb10B_sp1024/fineweb_train_000000.bin"] = leaked
    with serve(hub) as endpoint:
        code, _, error = contest(endpoint, tmp_path, "--train-shards", 1, "--reissued")
        assert code == 2
        assert "(the first: training 1 is validation 7)" in error
        assert not list((tmp_path / "data").glob("datasets/*/manifest.json"))
        code, answer, error = contest(endpoint, tmp_path, "--train-shards", 1, "--reissued", "--shared")
    assert code == 0, error
    assert answer["shared_docs"] == open_dataset(answer["path"]).manifest.shared_documents == 1


def test_local_files_need_no_hub_a_byte_sidecar_is_no_shard_and_a_gap_is_refused(tmp_path: Path, hub: Hub) -> None:
    with serve(hub) as endpoint:
        before = contest(endpoint, tmp_path, "--train-shards", 3, "--reissued")[1]
    folder = Path(before["path"])
    (folder / "fineweb_val_bytes_000000.bin").write_bytes((folder / "fineweb_val_000000.bin").read_bytes())
    after = contest("http://127.0.0.1:9", tmp_path, "--local", "--reissued")[1]
    assert (after["val_bytes"], after["val_tokens"]) == (before["val_bytes"], before["val_tokens"])
    (folder / "fineweb_train_000001.bin").unlink()
    code, _, error = contest("http://127.0.0.1:9", tmp_path, "--local", "--reissued")
    assert code == 2
    assert "has fineweb_train_000002.bin where fineweb_train_000001.bin should come first" in error
