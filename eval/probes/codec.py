"""The codec probe: a sample of text is coded with the scorer's predictions, and decoded without the text.

Both sides request the prediction of a token from a text that ends before it, so the length of the code is what an
honest prediction costs. It must not exceed the cost that the scorer claims for the same text.
"""

from math import log

import numpy as np

from eval.probes.basic import Finding, nats_by_target
from eval.range_coder import Counts, Decoder, Encoder, frequencies
from eval.scorer import Scorer, Tokens

SLACK = 1.001  # of the claimed bits: rounding, and frequencies in integers
SLACK_BYTES = 16  # the end of the range coder's stream; a sample has no file header


def check_codec(scorer: Scorer, tokens: Tokens) -> Finding:
    """The sample must decode exactly, from no more bytes than the scorer claims. Its first token is given."""
    claimed = float(np.nansum(nats_by_target(scorer.score(tokens), len(tokens) - 1)) / log(2) / 8)
    encoder = Encoder()
    decoded = tokens.copy()
    try:
        for position in range(1, len(tokens)):
            encoder.code(_predict_next(scorer, tokens[:position]), int(tokens[position]))
        code = encoder.finish()
        decoder = Decoder(code)
        for position in range(1, len(tokens)):
            token = int(tokens[position])
            decoded[position] = decoder.code(_predict_next(scorer, decoded[:position]))
            if decoded[position] != token:
                found = int(decoded[position])
                detail = f"token {position} decodes to {found} and is {token}: two predictions of one text differ"
                evidence = {"position": position, "token": token, "decoded": found}
                return Finding("codec", False, detail, evidence)
    except ValueError as error:  # the scorer shows no distribution, or not the one that this code was made with
        return Finding("codec", False, f"the sample cannot be coded: {error}", {"tokens": len(tokens)})
    sizes = {"tokens": len(tokens), "coded_bytes": len(code), "claimed_bytes": claimed}
    detail = f"{len(tokens)} tokens take {len(code):,} bytes, predicted one by one; the scorer claims {claimed:,.0f}"
    return Finding("codec", len(code) <= claimed * SLACK + SLACK_BYTES, detail, sizes)


def _predict_next(scorer: Scorer, text: Tokens) -> Counts:
    """(V,) frequencies. The text ends in a stand-in for the token to come, its last token again."""
    return frequencies(scorer.score(np.append(text, text[-1]), [len(text) - 1]).shown[0])
