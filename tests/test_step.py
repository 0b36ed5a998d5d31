"""A training step keeps the device busy: one graph, no wait for a number of its own, gradients sent as they come."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from base.config import load
from base.errors import BadInput
from data.dataset import open_dataset
from engine.device import Device, require_same
from engine.gradients import Gradients
from model.config import ModelConfig
from model.gpt import GPT
from run_config import RunConfig
from tests.runs import CPU, ROOT, small
from training import Training

READ = "aten::_local_scalar_dense"  # what `.item()` and `float()` of a tensor come to
COUNTERS = "aten::_fused_adamw_"  # on a CPU reads the steps that it counts; on CUDA they are read by its kernel
TINY = {"vocab_size": 64, "dim": 64, "heads": 4, "kv_heads": 2, "hidden": 64}


def tiny(name: str, **changes: Any) -> ModelConfig:
    """A preset's features at a small size."""
    config = load(RunConfig, ROOT / "configs" / f"{name}.yaml", []).model
    few = {"bigram_buckets": 32, "bigram_dim": 8} if config.bigram_buckets else {}
    return replace(config, **{**TINY, **few, "rope_dims": min(config.rope_dims, 8), **changes})


def with_callers(event: Any) -> list[str]:
    return [event.name, *(with_callers(event.cpu_parent) if event.cpu_parent else [])]


@pytest.mark.parametrize(
    ("config", "rows"),
    [
        (tiny("golf465"), 0),
        (tiny("golf465", doc_mask=True), 24),
        (tiny("golf_top"), 0),  # loops, lanes, gates, document masks
        (tiny("golf_h200", vocab_size=70), 24),
    ],
)
def test_the_loss_is_one_graph(config: ModelConfig, rows: int) -> None:
    model = GPT(config)
    tokens, targets = torch.randint(64, (2, 2, 32)).unbind()
    model.prepare(32)
    counter = CompileCounter()
    loss = torch.compile(model.loss, backend=counter, dynamic=False, fullgraph=True)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):  # as on a GPU
            value = loss(tokens, targets.clone(), rows)
        value.backward()
    assert counter.frame_count == 1


def test_a_step_reads_no_number_but_the_report_of_the_step_before(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "has_queue", True)
    training = Training(small("train.micro_tokens=64"), open_dataset("data"), CPU)
    assert training.step(0.0) is None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        report = training.step(0.1)
    assert report is not None
    assert (report.step, report.progress) == (1, 0.0)
    assert not [names for names in map(with_callers, profile.events()) if names[0] == READ and COUNTERS not in names]
    last = training.finish_step()
    assert last is not None
    assert last.step == 2
    assert training.finish_step() is None


def test_gradients_leave_when_their_bucket_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    class Work:
        def wait(self) -> None:
            pass

    def all_reduce(flat: torch.Tensor, async_op: bool) -> Work:
        sent.append(len(flat))
        flat.mul_(2)  # the other rank has the same gradients
        return Work()

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    monkeypatch.setattr("engine.gradients.BUCKET_BYTES", 100)
    first, second, unused = (torch.ones(n, requires_grad=True) for n in (3, 30, 5))
    gradients = Gradients([first, second, unused], Device(torch.device("cpu"), 0, 2))
    for _ in range(2):
        sent.clear()
        for number in range(2):
            gradients.is_last = number == 1
            (first.sum() + 3 * second.sum()).backward()
            assert sent == ([] if number == 0 else [3])  # the other bucket waits for `unused`
        gradients.average()
        assert sorted(sent) == [3, 30]
        assert torch.equal(first.grad, torch.full((3,), 2.0))
        assert torch.equal(second.grad, torch.full((30,), 6.0))
        assert unused.grad is None
        first.grad = second.grad = None


def test_ranks_with_different_configs_are_refused_by_the_line_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.device.gather", lambda ours, _: [ours, ("b", None), ("c", "seed: 2\nlayers: 9")])
    message = r"rank 0 \(.*\) and rank 2 \(c\) have different configs: 'seed: 1' here, 'seed: 2' there; start all alike"
    with pytest.raises(BadInput, match=message):
        require_same("seed: 1\nlayers: 9", "configs", "start all alike", Device(torch.device("cpu"), 0, 3))
