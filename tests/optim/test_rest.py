"""optim.schedule, optim.average, optim.groups."""

from pathlib import Path

import pytest
import torch

from base.config import load
from base.errors import BadInput
from model.gpt import GPT, learning_kind
from optim.average import Average
from optim.config import OptimConfig
from optim.groups import build_optimizers, set_rates
from optim.muon import Muon
from optim.schedule import momentum, multiplier
from run_config import RunConfig

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_contests_schedule_is_flat_then_linear_to_zero() -> None:
    down, up = OptimConfig(warmdown=0.5), OptimConfig(warmup=0.1)
    assert [multiplier(down, p) for p in (0.0, 0.5, 0.75, 1.0)] == [1.0, 1.0, 0.5, 0.0]
    assert multiplier(OptimConfig(warmdown=0.72, floor=0.1), 1.0) == pytest.approx(0.1)
    assert multiplier(up, 0.0) == 0.0  # the first step of a warm-up does not run at the peak
    assert multiplier(up, 0.05) == 0.5
    assert multiplier(OptimConfig(warmdown=0.5, shape="cosine"), 0.75) == pytest.approx(0.5)
    contest = OptimConfig(muon_beta_start=0.92, muon_beta=0.99, muon_warmup=0.5)
    assert [momentum(contest, p, 9) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.92, 0.955, 0.99, 0.99])
    by_steps = OptimConfig(muon_beta_start=0.92, muon_beta=0.99, muon_warmup_steps=1500)
    assert [momentum(by_steps, 0.9, n) for n in (0, 750, 1500, 6000)] == pytest.approx([0.92, 0.955, 0.99, 0.99])


def test_swa_takes_the_contests_29_parts_of_its_5999_steps() -> None:
    config = load(RunConfig, CONFIGS / "golf465.yaml").average
    average = Average()
    taken = []
    for step in range(5999):
        before = average.count
        average.follow(config, [torch.zeros(1)], step / 5999)
        taken += [step + 1] * (average.count - before)
    assert len(taken) == 29
    assert all(abs(step - 50 * round(step / 50)) <= 1 for step in taken)
    assert taken[0] == pytest.approx(4550, abs=1)


def averaged(average: Average) -> torch.Tensor:
    """What it puts in the place of its only parameter."""
    parameter = torch.empty_like(average.sums[0])
    average.swap([parameter])
    return parameter


def test_swa_is_the_mean_and_ema_fades_in_fp32_whatever_the_weights_are() -> None:
    weights = [torch.full((3,), value, dtype=torch.bfloat16) for value in (1.0, 1.0078125, 1.015625, 1.0)]
    swa, ema = Average(), Average(0.5)
    for weight in weights:
        swa.update([weight])
        ema.update([weight])
    assert swa.sums[0].dtype == torch.float32
    assert torch.allclose(averaged(swa), torch.stack([w.float() for w in weights]).mean(0))
    expected = weights[0].float()
    for number, weight in enumerate(weights[1:], start=1):
        kept = min(0.5, (1 + number) / (10 + number))  # the start is forgotten first
        expected = kept * expected + (1 - kept) * weight.float()
    assert torch.allclose(averaged(ema), expected)


def parameters() -> list[tuple[torch.Tensor, str]]:
    shapes = {"embed": (8, 4), "attn": (4, 4), "mlp": (4, 8), "control": (4,), "bigram": (6, 3), "head": (8, 4)}
    shapes["bigram_proj"] = (4, 3)
    return [(torch.nn.Parameter(torch.randn(shape)), kind) for kind, shape in shapes.items()]


def test_each_kind_has_its_rate_and_decay_and_matrices_are_muons() -> None:
    muon, adamw = build_optimizers(parameters(), OptimConfig())
    assert isinstance(muon, Muon)
    assert [tuple(p.shape) for p in muon.param_groups[0]["params"]] == [(4, 4), (4, 8)]
    rates = {tuple(p.shape): (g["lr"], g["weight_decay"]) for g in adamw.param_groups for p in g["params"]}
    assert rates[(4,)] == (0.02, 0.0)
    assert rates[(6, 3)] == rates[(4, 3)] == (0.03, 0.01)
    (only,) = build_optimizers(parameters(), OptimConfig(matrix="adamw", matrix_lr=1e-3, muon_bigram=True))
    assert sum(len(group["params"]) for group in only.param_groups) == 7


def test_the_contests_preset_has_the_bigrams_projection_under_muon_and_its_table_under_adamw() -> None:
    config = load(RunConfig, CONFIGS / "golf465.yaml", ["model.layers=1", "model.dim=64"])
    named = dict(GPT(config.model).named_parameters())
    kinds = [(parameter, learning_kind(name, parameter)) for name, parameter in named.items()]
    muon, adamw = build_optimizers(kinds, config.optim)
    for part, optimizer in (("proj", muon), ("table", adamw)):
        held = [p for group in optimizer.param_groups for p in group["params"]]
        assert any(p is named[f"embedding.bigram.{part}.weight"] for p in held)


def test_the_schedule_multiplies_every_peak_and_warms_muons_momentum() -> None:
    with pytest.raises(BadInput, match=r"more than the whole run; use warmdown 0\.8 or less"):
        load(OptimConfig, None, ["warmup=0.2", "warmdown=0.9"])
    config = OptimConfig(warmdown=0.5, muon_warmup=0.5)
    optimizers = build_optimizers(parameters(), config)
    set_rates(optimizers, config, 0.75, 9)
    assert multiplier(config, 0.75) == 0.5
    assert all(group["lr"] == 0.5 * group["peak"] for o in optimizers for group in o.param_groups)
    set_rates(optimizers, config, 0.0, 0)
    assert optimizers[0].param_groups[0]["beta"] == 0.85
