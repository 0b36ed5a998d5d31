"""optim.muon against the singular value decomposition, and against itself over ranks."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from optim.config import OptimConfig
from optim.muon import Muon, direction, orthogonalize


def test_five_steps_bring_singular_values_into_the_known_band_and_keep_the_directions() -> None:
    torch.manual_seed(0)
    for shape in ((64, 64), (32, 96), (96, 32), (3, 40, 24)):
        x = torch.randn(shape, dtype=torch.float64)
        u, s, vh = torch.linalg.svd(x, full_matrices=False)
        inner = u.mT @ orthogonalize(x) @ vh.mT
        diagonal = inner.diagonal(dim1=-2, dim2=-1)
        assert (inner - torch.diag_embed(diagonal)).abs().max() < 1e-9  # the same singular vectors, in fp64
        kept = s / s.norm(dim=-1, keepdim=True) > 0.01
        assert kept.float().mean() > 0.9
        assert diagonal[kept].min() > 0.6
        assert diagonal[kept].max() < 1.3


def test_tall_matrices_step_further_and_row_norm_evens_rows() -> None:
    torch.manual_seed(0)
    tall = torch.randn(64, 16, dtype=torch.float64)
    assert torch.allclose(direction(tall), orthogonalize(tall) * 2.0)
    uneven = torch.diag(torch.logspace(-3, 3, 8, dtype=torch.float64)) @ torch.randn(8, 32, dtype=torch.float64)
    even = direction(uneven, row_norm=True)
    assert (even.norm(dim=1) > 0.5).all()


def matrices() -> list[torch.Tensor]:
    torch.manual_seed(7)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in ((16, 16), (24, 8), (16, 16), (8, 24), (16, 16))]


def stepped() -> list[torch.Tensor]:
    """Three steps of random gradients."""
    parameters = matrices()
    muon = Muon(parameters, OptimConfig(matrix_lr=0.1, muon_beta=0.9, matrix_decay=0.1))
    torch.manual_seed(1)
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        muon.step()
    return parameters


def test_matrices_step_together_as_each_would_alone_by_the_formula() -> None:
    alone = matrices()
    momenta = [torch.zeros_like(p) for p in alone]
    torch.manual_seed(1)
    with torch.no_grad():
        for _ in range(3):
            for parameter, momentum in zip(alone, momenta, strict=True):
                gradient = torch.randn_like(parameter)
                momentum.mul_(0.9).add_(gradient)
                parameter.mul_(1 - 0.1 * 0.1).add_(direction(gradient + 0.9 * momentum), alpha=-0.1)
    for a, b in zip(stepped(), alone, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def _on_a_rank(rank: int, ranks: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    torch.save(stepped(), f"{folder}/{rank}.pt")
    os._exit(0)  # as `engine.device.as_rank` does, and for its reason


@pytest.mark.slow
def test_two_ranks_step_as_one_does(tmp_path: Path) -> None:
    mp.spawn(_on_a_rank, (2, str(tmp_path)), nprocs=2)
    for rank in range(2):
        for a, b in zip(torch.load(tmp_path / f"{rank}.pt"), stepped(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
