"""quant.bits: what a plan says of each tensor, and what it refuses."""

import pytest

from base.errors import BadInput
from quant.bits import DEFAULT_BITS, parse_bits

TENSORS = {"embedding.table.weight": "embed", "blocks.0.mlp.up.weight": "mlp", "blocks.1.mlp.up.weight": "mlp"}


def test_kinds_and_globs_and_the_default() -> None:
    plan = parse_bits("mlp=4, blocks.1.*=3,blocks.1.mlp.*=8")
    plan.require(TENSORS)
    assert [plan.bits(name, kind) for name, kind in TENSORS.items()] == [6, 4, 8]
    assert parse_bits("").kinds == DEFAULT_BITS
    assert DEFAULT_BITS["mlp"] == 5
    assert DEFAULT_BITS["attn"] == 6
    assert DEFAULT_BITS["control"] == 16


@pytest.mark.parametrize("word", ["mlp", "mlp=", "mlp=1", "mlp=9", "mlp=x", "mlp=-4", "mlp=5.0", "=4x"])
def test_a_word_that_is_no_plan_is_refused_with_the_legal_bits(word: str) -> None:
    with pytest.raises(BadInput, match="2, 3, 4, 5, 6, 7, 8, 16, 32"):
        parse_bits(word)


def test_a_name_that_fits_nothing_lists_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"mpl: neither a kind \(mlp, attn.*embedding\.table\.weight"):
        parse_bits("mpl=5").require(TENSORS)
