"""A few blocks of a complete score measured again, for verifiers; a run does not, so its single file goes without this.

sums = score_blocks(model, dataset, protocol, device, [3, 141])           found.block_nats[[3, 141]], measured again
sums = score_first_blocks(model, dataset, protocol, device, 4)            found.block_nats[:4], where it adapts
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data.dataset import Dataset
from engine.device import Device
from eval.batches import Floats
from eval.metric import BLOCK_TOKENS
from eval.protocol import Protocol
from eval.score import make_round, plan_score, score, tally_rounds
from model.gpt import GPT


def score_blocks(model: GPT, dataset: Dataset, protocol: Protocol, device: Device, blocks: Sequence[int]) -> Floats:
    """The complete plain score's `block_nats` of these blocks, to rounding, measured again from their own windows."""
    if protocol.adapt.kind != "off":
        raise ValueError(f"{protocol.adapt.kind}: a block costs what the text before it has taught: score_first_blocks")
    tokens = dataset.val.read(0, len(dataset.val))
    targets = len(tokens) - 1
    plan = plan_score(tokens, targets, dataset, protocol)
    last = (targets - 1) // BLOCK_TOKENS
    if len(blocks) == 0 or min(blocks) < 0 or max(blocks) > last:
        raise ValueError(f"blocks {list(blocks)!r:.100}: name some of 0 to {last}")
    wanted = np.sort(blocks)
    # A window is needed if, from the block of its first target on, the next wanted one is not beyond its last target.
    following = np.append(wanted, last + 1)[np.searchsorted(wanted, plan.score_from // BLOCK_TOKENS)]
    is_needed = following <= (plan.end - 1) // BLOCK_TOKENS
    part = plan.select(is_needed)
    share = part.select(slice(device.rank, None, device.ranks))
    tally = tally_rounds([make_round(model, tokens, part, share, protocol.feed)], dataset, tokens, device)
    sums: Floats = tally.score(partial=True).block_nats[np.asarray(blocks)]
    return sums


def score_first_blocks(model: GPT, dataset: Dataset, protocol: Protocol, device: Device, most: int) -> Floats:
    """The complete score's first `block_nats`, measured again: at most so many, and no text after them is seen.

    They end within the first stream, which is scored as a text of its own; where it holds no block, all are measured.
    """
    count = min(most, (len(dataset.val) - 1) // protocol.adapt.streams // BLOCK_TOKENS)
    if count == 0:
        return score(model, dataset, protocol, device).block_nats
    first_stream = replace(protocol, adapt=replace(protocol.adapt, streams=1))
    return score(model, dataset, first_stream, device, count * BLOCK_TOKENS).block_nats[:count]
