"""Text <-> token ids, without loss: SentencePiece BPE with byte fallback, or the 260-entry byte tokenizer.

A tokenizer is its file's bytes (`model`): a SentencePiece model, or the contest's JSON for bytes. `encode` returns the
text's ids alone, without BOS. One whose first pieces are a transform's operators folds each text before it encodes it
and unfolds what it decodes (data/caseops.py). Not for training one (data/tokenizer_training.py), nor for counting
bytes (data/bytes.py): `decode([id])` is never a count.

SentencePiece writes a space as `▁` (U+2581) and so would read a real `▁` back as a space. That one character is
encoded as its three byte pieces instead, which SentencePiece's own `decode` returns as they are.
"""

import json
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import sentencepiece

from base.errors import BadInput
from data.caseops import NO_TRANSFORM, TRANSFORMS

Ids = npt.NDArray[np.uint16]

SPACE = "▁"
MAX_VOCAB = 1 << 16  # ids are stored as uint16
CHUNK_CHARS = 1 << 20
LETTERS = "A-Za-z\u00c0-\u024f"
WORDS = (  # what may be encoded by itself, the finest first, where no piece of the vocabulary is cut
    re.compile(f" *[{LETTERS}]+| *[^ {LETTERS}]+| +"),
    re.compile(" *[^ ]+| +"),
    re.compile("(?s:.+)"),
)
KNOWN_CHARS = 1 << 22  # of words whose ids are kept: about 100 MB
BYTE_VOCAB, BYTE_OFFSET = 260, 4
FIRST_OPERATOR = 4  # after pad, bos, eos and unk, where SentencePiece's trainer puts symbols of the user

# What a lossless tokenizer returns unchanged: blanks, line ends, composed and compatibility characters.
PROBES = (
    " a", "a ", "a  b", "\r\n\t", "\0", "e\u0301 \u00e9", "\ufb01 \uff21 \u00a0 \u200b", "\u2047", "Aa", f"a{SPACE}b",
)  # fmt: skip


class Piece(NamedTuple):
    """One vocabulary entry as text: what the byte oracle and the contest's counting rule need to know of it."""

    data: bytes  # what the token adds to the decoded text
    contest_bytes: int  # by the contest's script: of the spelling, a leading ▁ as one byte, any other as three
    leading_space: bool  # spelled with a leading ▁
    boundary: bool  # control, unknown or unused: adds nothing, and takes the next token's space in contest counting
    operator: bytes = b""  # of a transform: adds nothing but changes the text of the tokens after it

    @property
    def spelling(self) -> bytes:
        """In the folded text."""
        return self.data or self.operator


SPECIAL = Piece(b"", 0, False, True)


class ByteTokenizer:
    """pad 0, bos 1, eos 2, unk 3, then the 256 byte values: the contest's byte260."""

    pad_id, bos_id, eos_id, unk_id = 0, 1, 2, 3
    vocab_size = BYTE_VOCAB
    lossless = True
    transform = NO_TRANSFORM

    def __init__(self) -> None:
        ids = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "byte_offset": BYTE_OFFSET, "byte_count": 256}
        described = {"tokenizer_type": "pure_byte", "config": ids, "vocab_size": BYTE_VOCAB}
        self.model = (json.dumps(described, indent=2, sort_keys=True) + "\n").encode()

    def encode(self, text: str) -> Ids:
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.uint16) + np.uint16(BYTE_OFFSET)

    def decode(self, ids: Sequence[int] | Ids) -> str:
        values = np.asarray(ids, np.int64)
        return bytes((values[values >= BYTE_OFFSET] - BYTE_OFFSET).tolist()).decode("utf-8", "replace")

    def normalize(self, text: str) -> str:
        return text

    def pieces(self) -> list[Piece]:
        return [SPECIAL] * BYTE_OFFSET + [Piece(bytes([value]), 1, False, False) for value in range(256)]


class SentencePieceTokenizer:
    """A SentencePiece model: ours is lossless; the contest's (nmt_nfkc) normalises, and `lossless` is false."""

    def __init__(self, model: bytes, name: str = "tokenizer") -> None:
        self.model = model
        try:
            self._sp = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, TypeError):
            raise BadInput(f"{name}: not a SentencePiece model") from None
        self.vocab_size: int = self._sp.vocab_size()
        if not 0 < self.vocab_size <= MAX_VOCAB:
            raise BadInput(f"{name}: {self.vocab_size} pieces; uint16 shards hold 1 to {MAX_VOCAB}")
        self.pad_id: int = self._sp.pad_id()
        self.bos_id: int = self._sp.bos_id()
        self.eos_id: int = self._sp.eos_id()
        self.unk_id: int = self._sp.unk_id()
        if self.bos_id < 0 or self.eos_id < 0:
            raise BadInput(f"{name}: has no bos or no eos piece, which mark where documents begin and end")
        if self._sp.is_unknown(self._sp.piece_to_id(SPACE)):
            raise BadInput(f"{name}: has no piece for a lone {SPACE}: every space would become three byte tokens")
        caseops = TRANSFORMS["caseops"]
        first = [self._sp.piece_to_id(operator) - FIRST_OPERATOR for operator in caseops.operators]
        self.transform = caseops if first == [*range(len(first))] else NO_TRANSFORM
        self._lone_space: list[int] = [self._sp.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]
        spellings = [piece.spelling.decode(errors="replace") for piece in self.pieces() if piece.spelling]
        # Of a BPE the scores are ranks. Unused pieces, which have no spelling here, take part in merges.
        is_plain = all(self._sp.get_score(i).is_integer() and not self._sp.is_unused(i) for i in range(self.vocab_size))
        possible = WORDS if is_plain else WORDS[-1:]
        self._word = next(word for word in possible if all(map(word.fullmatch, spellings)))
        self._known = dict[str, bytes]()  # words and their ids
        self._known_chars = 0
        self.lossless = all(map(self._sp.is_byte, self._lone_space))  # `encode` then keeps a lone space mark
        self.lossless = self.lossless and all(map(self._gives_back, PROBES))
        if self.transform.operators and not self.lossless:
            raise BadInput(f"{name}: does not give text back, and {self.transform.name} needs a tokenizer that does")

    def encode(self, text: str) -> Ids:
        if not self.lossless:
            return np.asarray(self._sp.encode_as_numpy(text), np.uint16)  # normalisation needs all of the text at once
        ids = bytearray()
        for chunk in chunks(self.transform.fold(text)):
            words = self._word.findall(chunk)
            self._learn(set(words))
            ids += b"".join(map(self._known.__getitem__, words))
        return np.frombuffer(ids, np.uint16)

    def _learn(self, words: set[str]) -> None:
        """Make all of these known: most words of a text have been encoded before, and looking one up is faster."""
        if self._known_chars > KNOWN_CHARS:
            self._known.clear()
            self._known_chars = 0
        new = words.difference(self._known)
        self._known_chars += sum(map(len, new))
        segments = [word.split(SPACE) for word in new]
        encoded = iter(self._sp.encode([part for parts in segments for part in parts], num_threads=1))
        for word, parts in zip(new, segments, strict=True):
            ids = next(encoded)
            for _ in parts[1:]:
                ids += self._lone_space + next(encoded)
            self._known[word] = array("H", ids).tobytes()

    def decode(self, ids: Sequence[int] | Ids) -> str:
        return self.transform.unfold(self._sp.decode(np.asarray(ids).tolist()))

    def normalize(self, text: str) -> str:
        if self.lossless:
            return text
        normal: str = self._sp.normalize(text)
        return normal.replace(SPACE, " ")

    def pieces(self) -> list[Piece]:
        return [self._piece(token) for token in range(self.vocab_size)]

    def _piece(self, token: int) -> Piece:
        if self._sp.is_control(token) or self._sp.is_unknown(token) or self._sp.is_unused(token):
            return SPECIAL
        spelled: str = self._sp.id_to_piece(token)
        if spelled in self.transform.operators:
            return Piece(b"", 0, False, False, spelled.encode())
        if self._sp.is_byte(token):
            return Piece(bytes([int(spelled[3:5], 16)]), 1, False, False)
        leading = spelled.startswith(SPACE)
        contest_bytes = leading + len(spelled.removeprefix(SPACE).encode())
        return Piece(spelled.replace(SPACE, " ").encode(), contest_bytes, leading, False)

    def _gives_back(self, text: str) -> bool:
        ids = self.encode(text).tolist()
        spelled = b"".join(self._piece(token).spelling for token in ids)
        return self.decode(ids) == text and self.transform.unfold_bytes(spelled) == text.encode()


Tokenizer = SentencePieceTokenizer | ByteTokenizer


def load_tokenizer(model: bytes, name: str = "tokenizer") -> Tokenizer:
    """From a file's bytes, whatever kind they are."""
    if not model.lstrip().startswith(b"{"):
        return SentencePieceTokenizer(model, name)
    tokenizer = ByteTokenizer()
    try:
        described = json.loads(model)
    except ValueError:
        described = None
    if described != json.loads(tokenizer.model):
        raise BadInput(f"{name}: neither a SentencePiece model nor the {BYTE_VOCAB}-entry byte tokenizer's JSON")
    tokenizer.model = model
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise BadInput(f"{path}: no such tokenizer file")
    return load_tokenizer(path.read_bytes(), str(path))


def chunks(text: str, limit: int = CHUNK_CHARS) -> Iterator[str]:
    """The text in pieces of at most `limit` characters, each cut before a space that follows something else.

    SentencePiece's memory grows with what it is given at once, so a book in one document needs cutting. In a vocabulary
    trained word by word no piece has a space after another character, so no token can span such a cut, and the ids are
    the same as without it. Likewise for words.
    """
    start = 0
    while len(text) - start > limit:
        cut = text.rfind(" ", start + 1, start + limit)
        while cut > start and text[cut - 1] == " ":
            cut -= 1
        if cut <= start:
            cut = start + limit
        yield text[start:cut]
        start = cut
    yield text[start:]
