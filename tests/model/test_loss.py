"""model/loss.py: the chunked loss and its gradients are the plain ones."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.config import ModelConfig
from model.gpt import GPT
from model.loss import chunked_loss


def plain_loss(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float) -> torch.Tensor:
    z = x @ weight.T
    return nn.functional.cross_entropy(softcap * torch.tanh(z / softcap) if softcap else z, targets)


@settings(max_examples=40)
@given(n=st.integers(1, 9), rows=st.integers(1, 12), vocab=st.integers(2, 7), softcap=st.sampled_from([0.0, 3.0]))
def test_loss_and_gradients_are_the_plain_ones_in_fp64(n: int, rows: int, vocab: int, softcap: float) -> None:
    torch.manual_seed(n * 100 + rows)
    x, weight = torch.randn(n, 5, dtype=torch.double), torch.randn(vocab, 5, dtype=torch.double) * 3
    targets = torch.randint(vocab, (n,))
    results = []
    for way in (lambda *args: chunked_loss(*args, rows), plain_loss):
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        loss = way(*leaves, targets, softcap)
        (2 * loss).backward()
        results.append([loss, leaves[0].grad, leaves[1].grad])
    for ours, oracle in zip(*results, strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-12, atol=1e-12)  # p - 1 cancels where p is nearly 1


@pytest.mark.parametrize("autocast", [False, True])
def test_a_model_learns_the_same_from_either(autocast: bool) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "layers": 2, "dim": 32, "heads": 2, "kv_heads": 2}
    model = GPT(ModelConfig(**shape, tied=False, softcap=5.0, norm="rms_weight"))
    for parameter in model.parameters():  # zero-initialised projections would hide a wrong gradient
        nn.init.normal_(parameter, std=0.2)
    chunked = copy.deepcopy(model)
    tokens, targets = torch.randint(64, (2, 3, 7)).unbind()
    for way, rows in ((model, 0), (chunked, 4)):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            way.loss(tokens, targets, rows).backward()
    tolerance = {"rtol": 5e-2, "atol": 2e-3} if autocast else {"rtol": 1e-4, "atol": 1e-6}
    for (name, ours), oracle in zip(chunked.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, oracle.grad, **tolerance, msg=lambda text, name=name: f"{name}: {text}")
