"""Near-duplicates across the split: MinHash signatures (datatrove's), cut into bands.

    signature = Signatures(0.8).bands(text)       (bands,) uint64; two texts that share one are about as similar

Similarity is Jaccard's, of the sets of runs of five words, in lower case and without punctuation. Needs datatrove; what
is done with the bands: data/split.py.
"""

import hashlib

import numpy as np
import numpy.typing as npt
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WordTokenizer

HASHES = 112  # of a signature
WORDS = 5
SHA1 = HashConfig(64, "sha1")


class Words(WordTokenizer):  # type: ignore[misc]
    """The text has been simplified to words and spaces."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    sent_tokenize = span_tokenize = word_tokenize


class Signatures:
    def __init__(self, similarity: float) -> None:
        # Of b bands of r hashes, texts of the similarity (1/b)^(1/r) share one about every second time.
        possible = [rows for rows in range(2, 29) if HASHES % rows == 0]
        rows = min(possible, key=lambda rows: abs((rows / HASHES) ** (1 / rows) - similarity))
        self.count = HASHES // rows
        self._minhash = MinhashDedupSignature(".", MinhashConfig(WORDS, self.count, rows, hash_config=SHA1), Words())

    def bands(self, text: str) -> npt.NDArray[np.uint64]:
        shingles = self._minhash.get_shingles(text)
        if not len(shingles):  # too few words: such a text is similar to its equals alone
            shingles = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], "<u8").reshape(1, 1)
        bands = np.array(self._minhash.get_signature(shingles), "<u8")  # (bands, hashes)
        digests = (hashlib.blake2b(band.tobytes(), digest_size=8).digest() for band in bands)
        return np.frombuffer(b"".join(digests), "<u8")
