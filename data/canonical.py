"""Which token may follow which: the pairs that a SentencePiece BPE never puts side by side, whatever the text.

    forbidden = forbidden_pairs(tokenizer)      (V, V) bool, true where no encoding has token b right after token a

Two tokens are adjacent in some text only if the text of the two alone is encoded as these two: a merge sees nothing but
the two symbols that it joins. So a pair is forbidden where, on the way to a and b, two symbols that meet between them
are merged with each other. These are the symbols at the edges of the two pieces' merge trees; each exists from its own
merge to its parent's, best scores first. (`is_valid_token_pair` of the `bpe` crate walks the same two edges.)

What is not certain is allowed: byte pieces, specials, user-defined pieces, parts of unused pieces. Texts that are
encoded apart and then joined can have a forbidden pair at the joint: data/tokenizer.py cuts a text of 2^20 characters
without a space. So models give a forbidden pair little probability, never none (model/gpt.py).
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from base.errors import BadInput
from data.tokenizer import ByteTokenizer, Tokenizer

BPE = 2  # trainer_spec.model_type
NORMAL, USER_DEFINED, UNUSED = 1, 4, 5  # types of pieces
LONGEST = 64  # characters of a piece that is looked at; trained ones have 16, a stranger's file may have a million


class Entry(NamedTuple):
    piece: str
    score: float
    kind: int


class Node(NamedTuple):
    """A symbol as encoding its own text makes it."""

    left: str
    right: str
    born: float  # the lowest score of all merges in it, which is when it exists; a character always does


class Holders(NamedTuple):
    """The tokens that have one symbol at one edge, and the score of the merge in each that uses it up."""

    tokens: npt.NDArray[np.int64]
    merged: npt.NDArray[np.float64]


def forbidden_pairs(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    size = tokenizer.vocab_size
    forbidden = np.zeros((size, size), np.bool_)
    if isinstance(tokenizer, ByteTokenizer):  # a text has one spelling
        return forbidden
    entries = read_entries(tokenizer.model)
    scores = {each.piece: each.score for each in entries if each.kind in (NORMAL, USER_DEFINED, UNUSED)}
    nodes = build_nodes(scores)
    unused = [each.piece for each in entries if each.kind == UNUSED]
    uncertain = [
        each.kind != NORMAL or len(each.piece) > LONGEST or any(each.piece in other for other in unused)
        for each in entries
    ]
    pieces = {token: each.piece for token, each in enumerate(entries) if not uncertain[token]}
    unreachable = [token for token, piece in pieces.items() if piece not in nodes]
    forbidden[unreachable] = True
    forbidden[:, unreachable] = True
    before = find_holders(pieces, nodes, "right")
    after = find_holders(pieces, nodes, "left")
    for piece, score in scores.items():
        for at in range(1, min(len(piece), LONGEST + 1)):
            left, right = piece[:at], piece[at:]
            if left in before and right in after:
                # Merged across before either is used up; of equal scores the leftmost merge is first.
                rows = before[left].tokens[before[left].merged < min(score, nodes[right].born)]
                columns = after[right].tokens[after[right].merged <= min(score, nodes[left].born)]
                forbidden[np.ix_(rows, columns)] = True
    forbidden[uncertain] = False
    forbidden[:, uncertain] = False
    return forbidden


def build_nodes(scores: Mapping[str, float]) -> dict[str, Node]:
    """All symbols, characters included; a piece that its own text is not encoded as is missing."""
    nodes = {character: Node("", "", math.inf) for piece in scores for character in piece}
    for piece in sorted(scores, key=len):
        if 1 < len(piece) <= LONGEST and (split := last_merge(piece, scores)):
            nodes[piece] = Node(*split, min(scores[piece], *(nodes[part].born for part in split)))
    return nodes


def last_merge(piece: str, scores: Mapping[str, float]) -> tuple[str, str] | None:
    """What SentencePiece makes of a piece's characters: it merges the best neighbours, of equals the leftmost."""
    symbols = list(piece)
    while len(symbols) > 2:
        found = [scores.get(a + b, -math.inf) for a, b in zip(symbols, symbols[1:], strict=False)]
        best = max(found)
        if best == -math.inf:
            return None
        at = found.index(best)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return symbols[0], symbols[1]


def find_holders(
    pieces: Mapping[int, str], nodes: Mapping[str, Node], side: Literal["left", "right"]
) -> dict[str, Holders]:
    """By symbol at that edge of a piece. A symbol that is used up at once, by a merge that only waited for it, is not
    counted: whether another merge comes first is not certain."""
    found = defaultdict[str, list[tuple[int, float]]](list)
    for token, piece in pieces.items():
        symbol, merged = piece if piece in nodes else "", -math.inf
        while symbol:
            node = nodes[symbol]
            if node.born > merged:
                found[symbol].append((token, merged))
            symbol, merged = getattr(node, side), node.born
    return {
        symbol: Holders(np.array([token for token, _ in pairs]), np.array([merged for _, merged in pairs]))
        for symbol, pairs in found.items()
    }


# -- SentencePiece's file: a protobuf message, of which the Python package gives no types and no algorithm -------------


def read_entries(model: bytes) -> list[Entry]:
    entries = []
    algorithm = None
    for number, value in read_fields(model):
        fields = dict(read_fields(value)) if number in (1, 2) else {}
        if number == 1:
            score = float(np.frombuffer(fields.get(2, bytes(4)), "<f4")[0])
            entries.append(Entry(fields[1].decode(), score, fields.get(3, NORMAL)))
        if number == 2:
            algorithm = fields.get(3)
    if algorithm != BPE:
        raise BadInput(
            f"the tokenizer's model_type is {algorithm}; canonical successors are known for SentencePiece BPE "
            f"({BPE}); use such a tokenizer or model.canonical=false"
        )
    return entries


def read_fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field: an int, or the bytes of anything else."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        number, wire = divmod(varint(), 8)
        if wire == 0:
            yield number, varint()
            continue
        size = {1: 8, 5: 4}.get(wire) or varint()
        yield number, message[at : at + size]
        at += size
