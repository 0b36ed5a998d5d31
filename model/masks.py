"""Which keys each query may see: none beyond its own position, and with `doc_mask` none of another document.

Compiled for a GPU, documents become a block mask, whose kernel skips the blocks that no query may see: a boolean mask
takes T^2 bytes per row of the batch, and keeps attention from its fast kernels. Elsewhere it is a boolean mask.
"""

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from model.config import ModelConfig

Mask = torch.Tensor | BlockMask | None  # (B or 1, 1, T, T_all) true where seen; None: plain causal, nothing cached


def make_mask(config: ModelConfig, past: torch.Tensor, queries: int) -> Mask:
    """For the last so many of the tokens `past` (B, T_all)."""
    rows, length = past.shape
    start = length - queries
    if not config.doc_mask and start == 0:
        return None
    query = torch.arange(start, length, device=past.device)
    seen = torch.arange(length, device=past.device) <= query[:, None]  # (T, T_all)
    if not config.doc_mask:
        return seen[None, None]
    document = (past == config.bos_id).long().cumsum(1)  # (B, T_all) the document each token is in
    if is_block_mask_fast(past) and not config.dropout:  # the block masks' kernel has no dropout

        def is_seen(row: torch.Tensor, _: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            is_past: torch.Tensor = key <= query + start
            return is_past & (document[row, query + start] == document[row, key])

        return create_block_mask(is_seen, rows, None, queries, length, device=past.device.type)
    same = document[:, start:, None] == document[:, None, :]
    return (seen & same).unsqueeze(1)


def is_block_mask_fast(tokens: torch.Tensor) -> bool:
    return tokens.is_cuda and torch.compiler.is_compiling()
