"""Near-duplicates across the split: MinHash signatures (datatrove's), cut into bands.

    near = NearDuplicates(0.8)
    signature = near.bands(text)                    (bands,) uint64: two texts that share one are about as similar
    near.find(signatures, of_validation)            which documents share a band with a validation document

Similarity is Jaccard's, of the sets of runs of five words, in lower case and without punctuation. Needs datatrove.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from base.errors import BadInput

HASHES = 112  # of a signature
CLUSTER = "pip install -r requirements-cluster.txt"

Bands = npt.NDArray[np.uint64]  # (documents, bands)


class NearDuplicates:
    def __init__(self, similarity: float) -> None:
        try:
            from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
            from datatrove.utils.hashing import HashConfig
            from datatrove.utils.word_tokenizers import WhitespaceTokenizer
        except ImportError:
            raise BadInput(f"--near-duplicates needs datatrove: {CLUSTER}") from None
        # Of b bands of r hashes, texts of the similarity (1/b)^(1/r) share one about every second time.
        possible = [rows for rows in range(2, 29) if HASHES % rows == 0]
        rows = min(possible, key=lambda rows: abs((rows / HASHES) ** (1 / rows) - similarity))
        config = MinhashConfig(5, HASHES // rows, rows, hash_config=HashConfig(64, "sha1"))
        self._signature = MinhashDedupSignature(".", config, WhitespaceTokenizer())

    def bands(self, text: str) -> Bands:
        shingles = self._signature.get_shingles(text)
        if not len(shingles):  # of fewer words than five: similar to what equals it, which the split takes care of
            shingles = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint64).reshape(1, 1)
        signature = np.array(self._signature.get_signature(shingles), "<u8")  # (bands, rows)
        digests = (hashlib.blake2b(band.tobytes(), digest_size=8).digest() for band in signature)
        return np.frombuffer(b"".join(digests), "<u8")

    @staticmethod
    def find(bands: Bands, of_validation: Bands) -> npt.NDArray[np.bool_]:
        shared = [np.isin(own, val) for own, val in zip(bands.T, of_validation.T, strict=True)]
        found: npt.NDArray[np.bool_] = np.any(shared, axis=0)
        return found
