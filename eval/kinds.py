"""Which targets cost what: by repetition, by position in the document, by the kind of token (`eval.bpb --by kind`).

A mean hides what a change helps: an induction head shows in `repeat` alone, a better vocabulary table in `new`.
The labels are indices into NAMES; where they are computed for a score: eval.plot.target_losses.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from data.tokenizer import Tokenizer

Ints = npt.NDArray[np.integer]
Labels = npt.NDArray[np.uint8]
Kinds = dict[str, list[dict[str, Any]]]

WORD_START, CONTINUATION, SPACE, DIGITS, PUNCTUATION, BYTE, SPECIAL = range(7)
NAMES = {
    "repetition": ("new", "broken", "repeat"),
    "position_range": ("1", *(f"{1 << n} to {(2 << n) - 1}" for n in range(1, 40))),  # tokens known of the document
    "token_kind": ("word start", "continuation", "white space", "digits", "punctuation", "byte", "special"),
}


def label_repetition(tokens: Ints, target: Ints, begin: Ints) -> Labels:
    """repeat: the token before the target occurred earlier with this very successor; broken: with others only.

    "Earlier" is among the `context` tokens before the target, and never before `begin`, the first that counts. Windows
    feed fewer, as the stride decides; this definition does not depend on it.
    """
    pairs = (tokens[:-1].astype(np.uint32) << 16) | tokens[1:]
    is_known = find_previous(tokens[:-1])[target] >= begin
    return np.add(is_known, find_previous(pairs)[target] >= begin, dtype=np.uint8)  # a known pair has a known token


def find_previous(values: Ints) -> npt.NDArray[np.int64]:
    """Where each value last occurred before itself; -1: nowhere."""
    order = np.argsort(values, kind="stable")
    is_again = np.diff(values[order]) == 0
    previous = np.full(len(values), -1)
    previous[order[1:][is_again]] = order[:-1][is_again]
    return previous


def label_position(known: Ints) -> Labels:
    """Of how many tokens of the document are known, 1 or more: the power of two at or below it."""
    return (np.frexp(known)[1] - 1).astype(np.uint8)


def label_vocabulary(tokenizer: Tokenizer) -> Labels:
    return np.array([label_token(piece.data) for piece in tokenizer.pieces()], np.uint8)


def label_token(data: bytes) -> int:
    """From its bytes alone: a word after a line break or a bracket has no space, so it counts as a continuation."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return BYTE  # a part of a character
    if not text or text.isspace():
        return SPACE if text else SPECIAL
    if any(map(str.isalpha, text)):
        return WORD_START if text[0].isspace() else CONTINUATION
    return DIGITS if any(map(str.isdigit, text)) else PUNCTUATION


def split_loss(losses: Mapping[str, npt.NDArray[Any]]) -> Kinds:
    """For each label the kinds that occur: mean of `nats`, share of the targets and of the total loss."""
    nats = losses["nats"]
    found: Kinds = {}
    for label, names in NAMES.items():
        count = np.bincount(losses[label])
        total = np.bincount(losses[label], nats)
        found[label] = [
            {
                "kind": names[n],
                "targets": int(count[n]),
                "share": float(count[n] / len(nats)),
                "nats_per_token": float(total[n] / count[n]),
                "loss_share": float(total[n] / nats.sum()),
            }
            for n in np.flatnonzero(count)
        ]
    return found


def show_kinds(kinds: Kinds) -> str:
    lines: list[str] = []
    for label, rows in kinds.items():
        title = label.replace("_", " ")
        lines.append(f"\n{title:<20}{'targets':>12}{'share':>8}{'nats per token':>16}{'of the loss':>13}")
        for kind, targets, share, nats, loss_share in map(dict.values, rows):
            lines.append(f"{kind:<20}{targets:>12,}{share:>8.1%}{nats:>16.4f}{loss_share:>13.1%}")
    return "\n".join(lines)
