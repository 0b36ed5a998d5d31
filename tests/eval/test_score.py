"""eval.score: one score from all ranks, its block sums, and blocks that are measured again."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Barrier, Thread

import numpy as np
import pytest
import torch

from base.errors import BadInput
from data.dataset import Dataset
from engine.device import Device
from eval.batches import window_losses
from eval.blocks import score_blocks, score_first_blocks
from eval.config import AdaptConfig
from eval.metric import Score
from eval.protocol import Protocol
from eval.score import score
from model.config import ModelConfig
from model.gpt import GPT

CPU = Device(torch.device("cpu"))
PROTOCOL = Protocol(48, 16)


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(ModelConfig(vocab_size=400, layers=2, dim=16, heads=2, kv_heads=1, smear="static")).double()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def patch(size: int) -> None:
        for module in ("metric", "blocks"):
            monkeypatch.setattr(f"eval.{module}.BLOCK_TOKENS", size)

    return patch


def ranks(monkeypatch: pytest.MonkeyPatch, count: int, work: Callable[[Device], object]) -> list[object]:
    """The same work on several ranks, as threads that meet in `add_up`."""
    shared: list[torch.Tensor] = [torch.empty(0)] * count
    answers: list[object] = [None] * count
    barrier = Barrier(count)

    def add_up(values: torch.Tensor, device: Device) -> None:
        shared[device.rank] = values.clone()
        barrier.wait()
        values.copy_(sum(shared[1:], shared[0]))
        barrier.wait()

    def run(rank: int) -> None:
        answers[rank] = work(Device(torch.device("cpu"), rank, count))

    monkeypatch.setattr("eval.score.add_up", add_up)
    threads = [Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize(
    "protocol",
    [PROTOCOL, Protocol(48, 16, docs=True), Protocol(48, 16, adapt=AdaptConfig(kind="lora"))],
    ids=["windows", "documents", "lora"],
)
def test_ranks_share_windows(model: GPT, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, protocol: Protocol) -> None:
    nats = [np.empty(len(dataset.val) - 1) for _ in range(4)]
    alone = score(model, dataset, protocol, CPU, nats=nats[3])

    def work(device: Device) -> Score:
        return score(model, dataset, protocol, device, nats=nats[device.rank])

    first, *others = ranks(monkeypatch, 3, work)
    for together, own in zip([first, *others], nats, strict=False):
        assert isinstance(together, Score)
        assert together == first
        assert together.plain() == pytest.approx(alone.plain(), rel=1e-12)
        np.testing.assert_allclose(together.block_nats, alone.block_nats, rtol=1e-12)
        np.testing.assert_allclose(own, nats[3], rtol=1e-9)


def test_blocks_measured_again_are_the_same(model: GPT, dataset: Dataset, small_blocks: Callable[[int], None]) -> None:
    for protocol, block in ((PROTOCOL, 100), (Protocol(48, 48), 7), (Protocol(64, 48, docs=True), 33)):
        small_blocks(block)
        complete = score(model, dataset, protocol, CPU).block_nats
        last = len(complete) - 1
        for blocks in ([last // 2], [0, last], [last // 3, last // 3 + 1, last // 5]):
            again = score_blocks(model, dataset, protocol, CPU, blocks)
            np.testing.assert_allclose(again, complete[blocks], rtol=1e-9)
        for blocks in ([], [-1], [last + 1]):
            with pytest.raises(ValueError, match="name some of 0 to"):
                score_blocks(model, dataset, protocol, CPU, blocks)


def test_few_blocks_cost_few_windows_and_ranks_share_them(
    model: GPT, dataset: Dataset, small_blocks: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(160)
    complete = score(model, dataset, PROTOCOL, CPU).block_nats
    counted: list[int] = []

    def counting(*words: object) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for piece in window_losses(*words):  # type: ignore[arg-type]
            counted.append(len(piece[1]))
            yield piece

    monkeypatch.setattr("eval.score.window_losses", counting)
    score_blocks(model, dataset, PROTOCOL, CPU, [3])
    assert sum(counted) <= 160 + 2 * 16
    for found in ranks(monkeypatch, 2, lambda device: score_blocks(model, dataset, PROTOCOL, device, [3, 1])):
        np.testing.assert_allclose(found, complete[[3, 1]], rtol=1e-9)  # type: ignore[arg-type]


def test_what_mixing_cannot_do_is_refused(model: GPT, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.score.ADAPTATIONS", {})
    protocol = replace(PROTOCOL, adapt=AdaptConfig(kind="mix"))
    with pytest.raises(BadInput, match="kind mix on 2 ranks: a text has one past"):
        score(model, dataset, protocol, Device(torch.device("cpu"), 0, 2))
    with pytest.raises(BadInput, match="choose one"):
        score(model, dataset, replace(protocol, docs=True), CPU)
    with pytest.raises(ValueError, match="score_first_blocks"):
        score_blocks(model, dataset, protocol, CPU, [0])


def test_too_many_streams_or_bits_are_refused(model: GPT, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.score.ADAPTATIONS", {})
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 10_000, "SC_PAGE_SIZE": 4096}.__getitem__)  # 40,960,000 bytes
    for adapt, message in (
        (AdaptConfig(kind="mix", table_bits=20), "table_bits 20: .* 33,554,432 .* has 32,571,392 for .* 19 or less"),
        (AdaptConfig(kind="mix", table_bits=19, trees=2), "has 12,091,392 for each of 2: use 18 or less"),
        (AdaptConfig(kind="mix", table_bits=10, streams=5), "use fewer streams"),
        (AdaptConfig(kind="mix", table_bits=10, streams=301), "streams 301 of 300 targets; use 1 to 300"),
    ):
        with pytest.raises(BadInput, match=message):
            score(model, dataset, replace(PROTOCOL, adapt=adapt), CPU, limit=300)
    AdaptConfig(kind="mix", table_bits=19).require_possible(300, 1, docs=False)
    AdaptConfig(kind="off", table_bits=30).require_possible(300, 2, docs=True)


@pytest.mark.parametrize("streams", [1, 3])
def test_the_first_blocks_of_an_adapted_score_are_measured_again_from_the_text_before_their_end(
    model: GPT, dataset: Dataset, small_blocks: Callable[[int], None], streams: int
) -> None:
    small_blocks(100)
    targets = len(dataset.val) - 1
    protocol = replace(PROTOCOL, adapt=AdaptConfig(kind="mix", table_bits=14, streams=streams))
    complete = score(model, dataset, protocol, CPU).block_nats
    assert not np.allclose(complete[:2], score(model, dataset, PROTOCOL, CPU).block_nats[:2], rtol=1e-3)
    for most, count in ((2, 2), (10**9, targets // streams // 100)):
        found = score_first_blocks(model, dataset, protocol, CPU, most)
        assert len(found) == count
        np.testing.assert_allclose(found, complete[:count], rtol=1e-9)
    small_blocks(targets // streams + 1)  # the first stream holds none
    assert len(score_first_blocks(model, dataset, protocol, CPU, 2)) == -(-targets // (targets // streams + 1))
