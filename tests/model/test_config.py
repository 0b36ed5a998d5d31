"""model.config: impossible shapes are refused by name; every preset's size is the source's own."""

import pytest

from base.config import load
from base.errors import BadInput
from model.config import ModelConfig

REFUSED = [
    (["dim=1024", "heads=20", "kv_heads=20"], "dim 1024 is not divisible by heads 20; use 16 or 32"),
    (["dim=1280", "heads=24", "kv_heads=24"], "dim 1280 is not divisible by heads 24; use 20 or 32"),
    (["heads=8", "kv_heads=3"], "heads 8 is not divisible by kv_heads 3; use 2 or 4"),
    (["dim=36", "heads=4"], "RoPE rotates pairs, and head width 9 is odd; use 8 or 10"),
    (["rope_dims=3"], "rope_dims 3 is odd; use 2 or 4"),
    (["rope_dims=128"], "rope_dims 128 is more than the head width; use 64 or less"),
    (["xsa=9"], "xsa 9 is more than the 8 layers; use 8 or less"),
    (["parallel_from=8"], "parallel_from 8 is not a layer; use 0 to 7"),
    (["loop_repeats=1", "loop_first=3", "loop_last=2"], "loop_first 3 to loop_last 2 is no range of layers"),
    (["loop_repeats=1", "loop_last=8"], "loop_last 8 is no range of layers; use 0 to 7"),
    (["parallel_lanes=true"], "parallel_lanes need a layer to begin at; set parallel_from to 0 to 7"),
    (
        ["parallel_lanes=true", "parallel_from=2", "loop_repeats=1", "loop_first=1", "loop_last=2"],
        "parallel_lanes begin at layer 2, and the loop over layers 1 to 2 would leave them again; end it before",
    ),
    (["bigram_buckets=1"], "use 0 (off) or at least 2"),
    (["parallel_from=0", "norm_order=post"], "parallel_from needs norm_order pre"),
    (["mlp=relu3"], "nearest: relu2"),
]


def test_an_impossible_model_is_refused_with_the_nearest_possible_one() -> None:
    for words, message in REFUSED:
        with pytest.raises(BadInput) as caught:
            load(ModelConfig, None, words)
        assert message in str(caught.value)
    assert ModelConfig(dim=36, heads=4, pos="none").head_width == 9  # odd, but nothing is rotated
