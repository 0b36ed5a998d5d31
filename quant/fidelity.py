"""What packing did to a model: the divergence of its predictions from the float model's, on validation text.

KL is the figure to compare methods by: the loss itself moves by chance as well (docs/quant.md).
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from data.dataset import Dataset
from model.gpt import GPT
from quant.format import read_artifact
from quant.unpack import put_into

ROWS = 16


@dataclass(frozen=True)
class Damage:
    kl_nats: float  # a token
    float_nats: float
    packed_nats: float
    packed_bpb: float
    tokens: int

    @property
    def loss_increase(self) -> float:
        return self.packed_nats - self.float_nats


def damage_of(data: bytes, original: GPT, dataset: Dataset, seq_len: int, tokens: int) -> Damage:
    """Of an artifact's bytes: what a reader of them has, not what was meant."""
    packed = copy.deepcopy(original)
    put_into(packed, read_artifact(data).tensors)
    return damage(original, packed, dataset, seq_len, tokens)


@torch.no_grad()
def damage(original: GPT, packed: GPT, dataset: Dataset, seq_len: int, tokens: int) -> Damage:
    """Over the first `tokens` of the validation side, in windows that do not overlap."""
    windows = max(1, min(tokens, len(dataset.val) - 1) // seq_len)
    original.eval(), packed.eval()
    kl = before = after = 0.0
    total_bytes, device = 0, next(original.parameters()).device
    for first in range(0, windows, ROWS):
        starts = [w * seq_len for w in range(first, min(first + ROWS, windows))]
        rows = np.stack([dataset.val.read(start, seq_len + 1).astype(np.int64) for start in starts])  # (B, T + 1)
        targets = torch.from_numpy(rows[:, 1:]).to(device)
        inputs = torch.from_numpy(rows[:, :-1]).to(device)
        p, q = (F.log_softmax(model(inputs).double(), -1) for model in (original, packed))  # (B, T, V)
        kl += float((p.exp() * (p - q)).sum())
        before -= float(p.gather(-1, targets[..., None]).sum())
        after -= float(q.gather(-1, targets[..., None]).sum())
        total_bytes += int(dataset.table.exact_bytes(rows[:, 1:]).sum())
    count = windows * seq_len
    return Damage(kl / count, before / count, after / count, after / math.log(2) / total_bytes, count)
