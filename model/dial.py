"""One number for a model's size: depth -> shape, batch, length and rates, by nanochat's rules.

    dial(24, {"vocab_size": 32_768})      {"model": {"layers": 24, "dim": 1536, ...}, "train": {...}, "optim": {...}}

In a config it is `model.depth`; whatever is written beside it wins (base.config.load), and the resolved config has the
values. Width is 64 · depth in heads of 128, as in the 3B, 6.6B and 7B of seed 004. The rest is nanochat's scaling from
its tuned depth 12: S parameters of blocks and head learn from 12·S tokens, batches grow with tokens^0.383, rates with
the batch's square root. It does not set the kind of block, nor nanochat's cosine decay, which our optimizers lack.
"""

import math
from collections.abc import Mapping
from typing import Any

ASPECT = 64  # width over depth
HEAD = 128  # width of a head
TOKENS_PER_PARAM = 12
MOST = 1024
USUAL_VOCAB = 32_768
TUNED_DEPTH = 12  # where nanochat's rates below were tuned
TUNED_BATCH = 2**19
MATRIX_LR, EMBED_LR, HEAD_LR, MATRIX_DECAY = 0.02, 0.3, 0.008, 0.28
WARMUP_STEPS, MOMENTUM_STEPS = 40, 400


def dial(depth: Any, model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Values by section; ValueError for an impossible depth. `model` is the section that the depth is written in."""
    if type(depth) is not int or not 1 <= depth <= MOST:
        raise ValueError(f"depth {depth!r:.30}: not a number of layers; use an even one from 2 to {MOST}")
    if ASPECT * depth % HEAD:
        raise ValueError(
            f"depth {depth}: width {ASPECT} x {depth} = {ASPECT * depth} is not divisible by head width {HEAD}; "
            f"use {f'{depth - 1} or ' if depth > 1 else ''}{depth + 1} (layers={depth} may be set beside it)"
        )
    vocab_size = model.get("vocab_size")
    vocab_size = vocab_size if type(vocab_size) is int and vocab_size > 0 else USUAL_VOCAB  # checked by ModelConfig
    tokens = _training_tokens(depth, vocab_size)
    tuned = _training_tokens(TUNED_DEPTH, vocab_size)
    batch = 2 ** round(math.log2(TUNED_BATCH * (tokens / tuned) ** 0.383))
    steps = max(1, tokens // batch)
    rate = math.sqrt(batch / TUNED_BATCH)
    by_width = rate * math.sqrt(TUNED_DEPTH / depth)
    heads = ASPECT * depth // HEAD
    return {
        "model": {"layers": depth, "dim": ASPECT * depth, "heads": heads, "kv_heads": heads},
        "train": {"batch_tokens": batch, "steps": steps, "seconds": 0},
        "optim": {
            "matrix_lr": round(MATRIX_LR * rate, 6),
            "embed_lr": round(EMBED_LR * by_width, 6),
            "head_lr": round(HEAD_LR * by_width, 6),
            "matrix_decay": round(MATRIX_DECAY * rate * tuned / tokens, 6),
            "muon_beta_start": 0.85,
            "muon_beta": 0.97,
            "muon_warmup": round(min(MOMENTUM_STEPS / steps, 0.5), 6),
            "warmup": round(min(WARMUP_STEPS / steps, 0.1), 6),
            "warmdown": 0.65,
            "floor": 0.05,
        },
    }


def _training_tokens(depth: int, vocab_size: int) -> int:
    width = ASPECT * depth
    return TOKENS_PER_PARAM * (12 * depth * width**2 + vocab_size * width)
