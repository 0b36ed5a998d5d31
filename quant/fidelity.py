"""How far packing moved a model's predictions from those of the float model, on validation text.

KL is the figure to compare methods by: the loss itself also moves by chance (docs/quant.md).
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from data.bytes import bits_per_byte
from data.dataset import Dataset
from model.gpt import GPT
from quant.format import read_artifact
from quant.unpack import load_tensors

BATCH = 16  # windows


@dataclass(frozen=True)
class Fidelity:
    kl_nats: float  # per token, from the float model to the packed one
    float_nats: float  # per token, the float model's loss
    packed_nats: float
    packed_bpb: float
    tokens: int


def as_packed(original: GPT, artifact: bytes) -> GPT:
    """A copy of the model with the weights that every reader of the artifact gets."""
    packed = copy.deepcopy(original)
    load_tensors(packed, read_artifact(artifact).tensors)
    return packed


@torch.no_grad()
def measure_fidelity(original: GPT, packed: GPT, dataset: Dataset, seq_len: int, tokens: int) -> Fidelity:
    """Over the first `tokens` of the validation side, in windows that do not overlap. Leaves both in eval mode."""
    windows = max(1, min(tokens, len(dataset.val) - 1) // seq_len)
    device = next(original.parameters()).device
    kl_nats = float_nats = packed_nats = 0.0
    size_bytes = 0
    original.eval()
    packed.eval()
    for first in range(0, windows, BATCH):
        starts = [window * seq_len for window in range(first, min(first + BATCH, windows))]
        rows = np.stack([dataset.val.read(start, seq_len + 1).astype(np.int64) for start in starts])  # (B, T + 1)
        inputs = torch.from_numpy(rows[:, :-1]).to(device)
        targets = torch.from_numpy(rows[:, 1:]).to(device)[..., None]
        p = F.log_softmax(original(inputs).double(), -1)  # (B, T, V)
        q = F.log_softmax(packed(inputs).double(), -1)
        kl_nats += float((p.exp() * (p - q)).sum())
        float_nats -= float(p.gather(-1, targets).sum())
        packed_nats -= float(q.gather(-1, targets).sum())
        size_bytes += int(dataset.table.exact_bytes(rows[:, 1:]).sum())
    count = windows * seq_len
    bpb = bits_per_byte(packed_nats, size_bytes)
    return Fidelity(kl_nats / count, float_nats / count, packed_nats / count, bpb, count)
