"""eval.document_ttt: every document for itself, scored before it teaches, whatever is beside, before or after it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from base.errors import BadInput
from data.tokenizer import ByteTokenizer
from eval.batches import Feed, window_losses
from eval.config import AdaptConfig, EvalConfig, LoRAConfig
from eval.document_ttt import lora_losses
from eval.protocol import Protocol
from eval.windows import find_begins, plan_documents
from model.config import ModelConfig
from model.gpt import GPT

PROTOCOL = Protocol(32, 8)
CONFIG = LoRAConfig(lr=0.03, rank=4, targets=("q", "v", "up", "head"), batch_documents=3)
BOS = 1


def document(text: str) -> np.ndarray:
    return np.concatenate([[BOS], ByteTokenizer().encode(text)])


# The second is a chunk less one token, so that the next BOS ends its last chunk; the stream ends within a document.
DOCUMENTS = [
    document("a file that decompresses. " * 4),
    document("a score"),
    document("xyz " * 30),
    document("score " * 9),
]
TOKENS = np.concatenate(DOCUMENTS)


def by(config: LoRAConfig) -> Protocol:
    return replace(PROTOCOL, adapt=AdaptConfig(kind="lora", lora=config))


def adapted(
    model: GPT, tokens: np.ndarray = TOKENS, config: LoRAConfig = CONFIG, documents: slice = slice(None)
) -> np.ndarray:
    """Losses in order, NaN for those of other documents; none comes twice."""
    nats = np.full(len(tokens) - 1, np.nan)
    for targets, costs in lora_losses(model, ByteTokenizer(), tokens, by(config), {}, documents):
        assert np.isnan(nats[targets]).all()
        nats[targets] = costs
    return nats


def plain(model: GPT, tokens: np.ndarray = TOKENS) -> np.ndarray:
    plan = plan_documents(find_begins(tokens, BOS), len(tokens) - 1, PROTOCOL.context, PROTOCOL.stride)
    nats = np.full(len(tokens) - 1, np.nan)
    for targets, costs in window_losses(model, tokens, plan, Feed(1000)):
        nats[targets] = costs
    return nats


def test_a_first_chunk_costs_the_same_and_what_repeats_less(model: GPT) -> None:
    taught, untaught = adapted(model), plain(model)
    for begin in find_begins(TOKENS, BOS):
        np.testing.assert_allclose(taught[begin : begin + 8], untaught[begin : begin + 8], rtol=1e-12)
    third = len(DOCUMENTS[0]) + len(DOCUMENTS[1])
    assert taught[third + 60 : third + 100].sum() < 0.8 * untaught[third + 60 : third + 100].sum()
    np.testing.assert_allclose(adapted(model, config=replace(CONFIG, lr=1e-30)), untaught, rtol=1e-12)


def test_what_a_document_costs_depends_on_no_other_one_and_on_no_batch(model: GPT) -> None:
    together = adapted(model)
    for size in (1, 2, 4):
        np.testing.assert_allclose(adapted(model, config=replace(CONFIG, batch_documents=size)), together, rtol=1e-9)
    shares = [adapted(model, documents=slice(rank, None, 3)) for rank in range(3)]
    assert (np.sum(~np.isnan(shares), axis=0) == 1).all()
    np.testing.assert_allclose(np.nansum(shares, axis=0), together, rtol=1e-9)
    begin = 0
    for each in DOCUMENTS[:-1]:
        alone = adapted(model, np.append(each, BOS))
        np.testing.assert_allclose(together[begin : begin + len(each)], alone, rtol=1e-9)
        begin += len(each)


def test_a_lesson_is_adams_first_step_on_the_chunks_mean_loss() -> None:
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=260, layers=2, dim=32, heads=2, kv_heads=1, softcap=15.0, tied=False)
    artifact = GPT(config).double()
    model = copy.deepcopy(artifact)
    own = replace(CONFIG, targets=("up", "head"), alpha=2.0)
    tokens = DOCUMENTS[0][:17]  # two chunks
    rows = torch.from_numpy(tokens)[None]
    first = F.cross_entropy(model(rows[:, :8])[0], rows[0, 1:9])
    assert model.head is not None
    matrices = [model.blocks[0].mlp.up.weight, model.blocks[1].mlp.up.weight, model.head.weight]
    gradients = torch.autograd.grad(first, matrices)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for matrix, gradient in zip(matrices, gradients, strict=True):
            a = ((2 * torch.rand(4, 32, generator=draw) - 1) / 32**0.5).double()
            slope = gradient @ a.T * 2 / 4  # of (out, R), which is zero: the first matrix has no gradient yet
            matrix.add_(-own.lr * slope / (slope.abs() + 1e-8) @ a * 2 / 4)
        wanted = F.cross_entropy(model(rows[:, :16])[0, 8:], rows[0, 9:17], reduction="none").numpy()
    np.testing.assert_allclose(adapted(artifact, tokens, own)[8:], wanted, rtol=1e-9)


def test_the_model_passed_in_does_not_change(model: GPT) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    untaught = plain(model)
    model.train()
    next(lora_losses(model, ByteTokenizer(), TOKENS, by(CONFIG), {}))  # left half way
    adapted(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    np.testing.assert_array_equal(plain(model), untaught)


def test_a_chunk_beyond_the_context_is_refused_before_a_run_and_before_a_score(model: GPT) -> None:
    config = replace(CONFIG, chunk_tokens=33)
    with pytest.raises(BadInput, match="chunk_tokens 33 is beyond the context of 32; use 0 to 32"):
        adapted(model, config=config)
    with pytest.raises(BadInput, match="chunk_tokens 33"):
        EvalConfig(stride=8, adapt=AdaptConfig(kind="lora", lora=config)).window(32)
