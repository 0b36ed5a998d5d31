"""Probabilities -> integer frequencies -> a range-coded stream, and back: the bits that a prediction really costs.

    encoder.code(frequencies(p), token)         decoder.code(frequencies(p)) -> token

Encoder and decoder must have the same frequencies to the last bit, so these are made integers first. A total of 2^24
costs 0.0001 bits per token above the real probabilities; 2^16 would cost 0.017.
"""

import constriction
import numpy as np
import numpy.typing as npt

TOTAL = 1 << 24

Counts = npt.NDArray[np.int64]


def frequencies(probabilities: npt.NDArray[np.floating]) -> Counts:
    """(…, V) -> (…, V): each at least 1, adding up to TOTAL. The probabilities are normalised first."""
    p = np.asarray(probabilities, np.float64)
    if not (np.isfinite(p).all() and (p >= 0).all() and (p.sum(-1) > 0).all()):
        raise ValueError("probabilities must be finite, not negative, and not all zero")
    counts: Counts = np.floor(p / p.sum(-1, keepdims=True) * (TOTAL - p.shape[-1])).astype(np.int64) + 1
    best = p.argmax(-1)[..., None]
    missing = TOTAL - counts.sum(-1, keepdims=True)
    np.put_along_axis(counts, best, np.take_along_axis(counts, best, -1) + missing, -1)
    return counts


def _model(counts: Counts) -> constriction.stream.model.Categorical:
    return constriction.stream.model.Categorical(counts.astype(np.float64), perfect=False)


class Encoder:
    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def code(self, counts: Counts, token: int) -> int:
        self._coder.encode(np.array([token], np.int32), _model(counts))
        return token

    def finish(self) -> bytes:
        data: bytes = self._coder.get_compressed().astype("<u4").tobytes()
        return data


class Decoder:
    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise ValueError(f"a range-coded stream of {len(data)} bytes; its length must be a multiple of 4")
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def code(self, counts: Counts, token: int = 0) -> int:
        """The token that was encoded; the argument of that name is the encoder's alone."""
        try:
            return int(self._coder.decode(_model(counts), 1)[0])
        except AssertionError as error:  # constriction's error where no token has the range
            raise ValueError(f"these frequencies are not those of the stream: {error}") from None
