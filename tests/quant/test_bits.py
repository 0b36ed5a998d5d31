"""quant.bits: the bits of each tensor in a plan, and what is refused."""

import pytest

from base.errors import BadInput
from quant.bits import parse_bits

TENSORS = {"embedding.table.weight": "embed", "blocks.0.mlp.up.weight": "mlp", "blocks.1.mlp.up.weight": "mlp"}


def test_a_bad_word_is_refused_with_what_is_legal() -> None:
    for word in ("mlp", "mlp=", "mlp=1", "mlp=9", "mlp=x", "mlp=-4", "mlp=5.0", "=4x"):
        with pytest.raises(BadInput, match="2, 3, 4, 5, 6, 7, 8, 16, 32"):
            parse_bits(word)
    with pytest.raises(BadInput, match=r"mpl: neither a kind \(mlp, attn.*embedding\.table\.weight"):
        parse_bits("mpl=5").require(TENSORS)
