"""model.rotary against golden vectors (YaRN's reference implementation) and RoPE's defining property."""

import pytest

from model.config import ModelConfig
from model.rotary import attention_factor, frequencies, yarn_range

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
