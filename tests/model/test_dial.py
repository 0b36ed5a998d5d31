"""model.dial: one depth gives nanochat's audited figures, under what is written beside it, over what came before."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.config import load, to_yaml
from base.errors import BadInput
from model.cost import parameters
from model.dial import dial
from train_gpt import RunConfig

CONFIGS = Path(__file__).parents[2] / "configs"


def test_a_depth_scales_as_the_audit_of_nanochat_says() -> None:
    for depth, scaling, tokens, batch in (
        (12, 110.1e6, 1.32e9, 524_288),
        (24, 729.8e6, 8.76e9, 1_048_576),
        (38, 2.777e9, 33.3e9, 2_097_152),
        (52, 7.020e9, 84.2e9, 2_097_152),
    ):
        config = load(RunConfig, CONFIGS / "depth.yaml", [f"model.depth={depth}"])
        counts = parameters(config.model)
        assert counts["attn"] + counts["mlp"] + counts["head"] == pytest.approx(scaling, rel=1e-3)
        assert config.train.batch_tokens == batch
        assert config.train.steps * batch == pytest.approx(tokens, rel=2e-3)


def test_depth_12_is_where_nanochat_is_tuned() -> None:
    optim = dial(12, {})["optim"]
    assert (optim["matrix_lr"], optim["embed_lr"], optim["head_lr"], optim["matrix_decay"]) == (0.02, 0.3, 0.008, 0.28)
    deeper = dial(24, {})["optim"]
    assert deeper["matrix_lr"] == pytest.approx(0.02 * 2**0.5, rel=1e-4)  # twice the batch
    assert deeper["embed_lr"] == pytest.approx(0.3, rel=1e-4)  # and twice the width
    assert deeper["matrix_decay"] == pytest.approx(0.28 * 2**0.5 * 1.32 / 8.76, rel=5e-3)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_a_depth_wins_over_what_came_before_it_and_loses_to_what_is_beside_it(tmp_path: Path) -> None:
    for words in (["model.depth=4", "model.heads=4"], ["model.heads=4", "model.depth=4"]):
        model = load(RunConfig, None, ["model.kv_heads=2", *words]).model
        assert (model.layers, model.dim, model.heads, model.kv_heads) == (4, 256, 4, 2)
    beside = load(RunConfig, written(tmp_path, "model: {layers: 5, depth: 4}\noptim: {matrix_lr: 0.5}"))
    assert (beside.model.layers, beside.model.dim, beside.optim.matrix_lr) == (5, 256, 0.5)
    assert load(RunConfig, written(tmp_path, to_yaml(beside))) == beside  # a resolved config is itself again
    path = written(tmp_path, f"extends: {CONFIGS / 'seeds/d38.yaml'}\nmodel: {{depth: 4}}\ntrain: {{micro_tokens: 0}}")
    assert load(RunConfig, path).model.dim == 256
    again = load(RunConfig, path, ["model.depth=6", "train.batch_tokens=2048"])
    assert (again.model.dim, again.train.batch_tokens, again.train.seq_len) == (384, 2048, 2048)


def test_an_impossible_depth_is_refused_with_the_nearest_possible_one() -> None:
    refused = [
        ("model.depth=21", "width 64 x 21 = 1344 is not divisible by head width 128; use 20 or 22"),
        ("model.depth=10000000000000000000000", "use an even one from 2 to 1024"),
        ("model.depth=-2", "model.depth -2: not a number of layers"),
        ("model.depth=true", "depth True: not a number of layers"),
    ]
    for word, message in refused:
        with pytest.raises(BadInput) as caught:
            load(RunConfig, None, [word])
        assert f"'{word}'" in str(caught.value)
        assert message in str(caught.value)


@given(depth=st.integers(1, 60).map(lambda half: 2 * half), vocab=st.integers(256, 300_000))
def test_every_even_depth_makes_a_legal_run(depth: int, vocab: int) -> None:
    values: dict[str, Any] = dial(depth, {"vocab_size": vocab})
    config = load(RunConfig, None, [f"model.depth={depth}", f"model.vocab_size={vocab}"])
    assert config.model.dim == values["model"]["dim"] == 128 * config.model.heads
    assert config.train.batch_tokens & (config.train.batch_tokens - 1) == 0
