"""A submission's script that speaks the probes' protocol (eval/subprocess_scorer.py): adaptive counts of single tokens.

python example_child.py scorer VOCAB_SIZE      (or predictor; bytes are counted as one a token from 4 on)
"""

import base64
import json
import sys

import numpy as np


def floats(values):
    return base64.b64encode(np.asarray(values, "<f8").tobytes()).decode()


def say(**answer):
    print(json.dumps(answer), flush=True)


form, vocab_size = sys.argv[1], int(sys.argv[2])
say(vocab_size=vocab_size, form=form)
seen = []
for line in sys.stdin:
    asked = json.loads(line)
    if form == "predictor":
        seen = [asked["first"]] if "first" in asked else [*seen, asked["next"]]
        counts = np.bincount(seen, minlength=vocab_size) + 0.1
        say(p=floats(counts / counts.sum()))
        continue
    tokens = np.array(asked["tokens"])
    counts = np.cumsum(np.eye(vocab_size)[tokens[:-1]], 0) + 0.1  # (n, V) of what came before each target
    p = counts / counts.sum(-1, keepdims=True)
    nats = -np.log(p[np.arange(len(p)), tokens[1:]])
    say(
        targets=list(range(len(nats))),
        nats=floats(nats),
        shown=floats(p[asked["show"]]),
        size_bytes=int((tokens[1:] > 3).sum()),
    )
