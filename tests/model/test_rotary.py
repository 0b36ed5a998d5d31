"""model.rotary against golden vectors (YaRN's reference implementation) and RoPE's defining property."""

import math

import pytest
import torch

from model.config import ModelConfig
from model.rotary import attention_factor, frequencies, rotate, rotation, yarn_range

MICRO = {"dim": 512, "heads": 8, "kv_heads": 2, "rope_base": 1e6, "yarn_original": 2048, "yarn_factor": 16.0}


def test_yarn_frequencies_are_the_references() -> None:
    config = ModelConfig(**MICRO)
    found = frequencies(config)
    assert yarn_range(config, 64) == (5, 14)
    golden = {0: 1, 1: 0.64938164, 5: 0.1154782, 6: 0.067178026, 9: 0.011978897, 14: 1.4821085e-4, 31: 9.624541e-8}
    for index, value in golden.items():
        assert found[index].item() == pytest.approx(value, rel=2e-7)
    assert attention_factor(config) == pytest.approx(1.27725887, rel=1e-8)
    assert attention_factor(config) ** 2 == pytest.approx(1.63139023, rel=1e-8)

    for heads, original, factor, expected in ((4, 4096, 16.0, (20, 46)), (8, 2048, 2.0, (8, 21))):  # LLaMA, the contest
        config = ModelConfig(dim=512, heads=heads, rope_base=1e4, yarn_original=original, yarn_factor=factor)
        assert yarn_range(config, 512 // heads) == expected


def test_yarn_keeps_the_fast_and_stretches_the_slow_and_a_factor_of_one_is_plain_rope() -> None:
    config = ModelConfig(**MICRO)
    plain = frequencies(ModelConfig(**{**MICRO, "yarn_factor": 1.0}))
    assert torch.equal(plain, 1e6 ** (-torch.arange(0, 64, 2, dtype=torch.float64) / 64))
    stretched = frequencies(config)
    assert torch.equal(stretched[:6], plain[:6])
    assert torch.allclose(stretched[14:], plain[14:] / 16, rtol=1e-12)
    assert attention_factor(ModelConfig()) == 1.0
    assert attention_factor(ModelConfig(**{**MICRO, "yarn_attention": 1.0})) == 1.0


def test_a_rotated_pair_depends_on_the_distance_alone() -> None:
    config = ModelConfig(dim=32, heads=2, kv_heads=2, rope_dims=8)
    q, k = (torch.randn(1, 1, 1, 16, dtype=torch.float64) for _ in range(2))

    def score(at: int, of: int) -> float:
        a, b = (rotate(x, *rotation(config, place, 1, x)) for x, place in ((q, at), (k, of)))
        return float((a * b).sum())

    assert score(7, 3) == pytest.approx(score(1007, 1003), rel=1e-9)
    assert not math.isclose(score(7, 3), score(7, 4), rel_tol=1e-3)
