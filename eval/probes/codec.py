"""P8, the codec sample: a sample of text coded with the scorer's forecasts, and decoded by one that never saw it.

Whoever encodes and whoever decodes are told a token only after they have forecast it; so the length of the code is what
an honest forecast costs, and it must not exceed what the scorer claims for the same text.
"""

from collections.abc import Callable
from math import log

import numpy as np

from eval.probes.basic import Finding, costs
from eval.range_coder import Decoder, Encoder, frequencies
from eval.scorer import Floats, Predictor, Scorer, Tokens

SLACK = 1.001  # of the claimed bits: rounding, and frequencies in whole numbers
SLACK_BYTES = 16  # the coder's last words; there is no container around a sample


class Growing:
    """A Scorer made to take turns: each forecast is asked of a text that ends in a stand-in for the token to come."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer, self.vocab_size = scorer, scorer.vocab_size
        self._text: list[int] = []

    def predict(self) -> Floats:
        stand_in = self._text[-1]
        forecast: Floats = self._scorer.score(np.array([*self._text, stand_in]), [len(self._text) - 1]).shown[0]
        return forecast

    def reveal(self, token: int) -> None:
        self._text.append(token)


def codec_sample(
    scorer: Scorer, sender: Callable[[], Predictor], receiver: Callable[[], Predictor], tokens: Tokens
) -> Finding:
    """P8. `sender` and `receiver` begin fresh predictors, best in two processes; the first token is given."""
    try:
        return _replayed(scorer, sender, receiver, tokens)
    except ValueError as error:  # no distribution, or none that this code came from
        return Finding("codec", False, f"the sample cannot be coded: {error}", {"tokens": len(tokens)})


def _replayed(
    scorer: Scorer, sender: Callable[[], Predictor], receiver: Callable[[], Predictor], tokens: Tokens
) -> Finding:
    claimed = float(np.nansum(costs(scorer.score(tokens), len(tokens) - 1)) / log(2) / 8)
    predictor, encoder = sender(), Encoder()
    predictor.reveal(int(tokens[0]))
    for token in tokens[1:].tolist():
        encoder.add(frequencies(predictor.predict()), token)
        predictor.reveal(token)
    code = encoder.finish()
    predictor, decoder = receiver(), Decoder(code)
    predictor.reveal(int(tokens[0]))
    for position, token in enumerate(tokens[1:].tolist(), 1):
        found = decoder.take(frequencies(predictor.predict()))
        if found != token:
            detail = f"token {position} decodes to {found} and is {token}: two forecasts of one text differ"
            return Finding("codec", False, detail, {"position": position, "token": token, "decoded": found})
        predictor.reveal(token)
    evidence = {"tokens": len(tokens), "coded_bytes": len(code), "claimed_bytes": claimed}
    said = f"{len(tokens)} tokens take {len(code):,} bytes in turns, {claimed:,.0f} claimed"
    passed = len(code) <= claimed * SLACK + SLACK_BYTES
    return Finding("codec", passed, said + ("; decoded exactly" if passed else " for them as a whole"), evidence)
