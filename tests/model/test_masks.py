"""Document masks: the block mask of GPUs and the boolean one of CPUs give the same numbers.

Forward only: PyTorch has no backward pass of block masks on a CPU; tools.gpu_check compares gradients.
"""

import pytest
import torch
from torch import nn

from model import masks
from model.config import ModelConfig
from model.gpt import GPT

BOS = 1


def scrambled(**changes: object) -> GPT:
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "layers": 3, "dim": 64, "heads": 4, "kv_heads": 2, "bos_id": BOS, "doc_mask": True}
    model = GPT(ModelConfig(**{**shape, **changes}))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def texts(rows: int, length: int) -> torch.Tensor:
    """Documents of all lengths, one that ends with the row, one of its BOS alone."""
    tokens = torch.randint(2, 40, (rows, length), generator=torch.Generator().manual_seed(1))
    tokens[0, [0, 7, 8, length - 1]] = BOS
    tokens[1, [3, 130]] = BOS
    return tokens


@pytest.mark.filterwarnings("ignore:flex_attention called without")  # slow is good enough here
@pytest.mark.parametrize("last", [None, 5])
@torch.no_grad()
def test_a_block_mask_is_the_boolean_mask(monkeypatch: pytest.MonkeyPatch, last: int | None) -> None:
    model = scrambled().double()
    tokens = texts(2, 150)
    found = []
    for is_block in (False, True):
        monkeypatch.setattr(masks, "is_block_mask_fast", lambda _, is_block=is_block: is_block)
        found.append(model.trunk(tokens, last=last))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


def test_a_query_sees_its_own_document_up_to_itself() -> None:
    config = ModelConfig(vocab_size=40, bos_id=BOS, doc_mask=True)
    mask = masks.make_mask(config, torch.tensor([[5, BOS, 6, 7, BOS, 8]]), 2)
    assert isinstance(mask, torch.Tensor)
    assert mask.int().tolist() == [[[[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 1]]]]
