"""Any bytes as tokens of a tokenizer, such that the tokens' bytes are those bytes again.

UTF-8 goes through `encode`. Other bytes, and text that the tokenizer would not give back (the contest's normalises),
become one token per byte. The way back is `ByteTable.join`.
"""

import re

import numpy as np

from base.errors import BadInput
from data.bytes import ByteTable
from data.tokenizer import Ids, Tokenizer

NOT_UTF8 = re.compile("([\udc80-\udcff]+)")  # how `surrogateescape` spells bytes that are not UTF-8
LINES = re.compile("(\n)")


def to_tokens(data: bytes, tokenizer: Tokenizer, table: ByteTable) -> Ids:
    """Ids without BOS. None of them is a special token, and `table.join` of them is `data`."""
    single = {piece.data[0]: token for token, piece in enumerate(tokenizer.pieces()) if len(piece.data) == 1}
    parts: list[Ids] = [np.empty(0, np.uint16)]
    for number, run in enumerate(NOT_UTF8.split(data.decode("utf-8", "surrogateescape"))):
        if number % 2:
            parts.append(_one_by_one(run.encode("utf-8", "surrogateescape"), single))
            continue
        for text in [run] if tokenizer.lossless else LINES.split(run):
            ids = tokenizer.encode(text)
            ids = ids[~table.boundary[ids]]
            plain = text.encode()
            parts.append(ids if table.join(ids) == plain else _one_by_one(plain, single))
    return np.concatenate(parts)


def _one_by_one(data: bytes, single: dict[int, int]) -> Ids:
    missing = set(data) - single.keys()
    if missing:
        raise BadInput(
            f"the artifact's tokenizer has no token for the byte 0x{min(missing):02x}; "
            "such text needs an artifact whose tokenizer falls back to bytes"
        )
    return np.array([single[value] for value in data], np.uint16)
