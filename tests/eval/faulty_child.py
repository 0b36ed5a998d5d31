"""A child that goes wrong in the way that its argument names; see test_subprocess_scorer.py."""

import base64
import json
import os
import sys
import time

import numpy as np

fault = sys.argv[1]


def floats(values):
    return base64.b64encode(np.asarray(values, "<f8").tobytes()).decode()


def say(answer):
    print(answer if isinstance(answer, str) else json.dumps(answer), flush=True)


if fault == "silent":
    sys.exit(3)
say({"vocab_size": "many"} if fault == "hello" else {"vocab_size": 4, "form": "scorer"})
for line in sys.stdin:
    asked = json.loads(line)
    n = len(asked["tokens"]) - 1
    answer = {
        "targets": list(range(n)),
        "nats": floats(np.ones(n)),
        "shown": floats(np.full((len(asked["show"]), 4), 0.25)),
    }
    answer["size_bytes"] = n
    if fault == "dies":
        raise SystemExit("out of ideas")
    if fault == "hangs":
        time.sleep(60)
    if fault == "nan":
        answer["nats"] = floats([*np.ones(n - 1), np.nan])
    if fault == "shape":
        answer["nats"] = floats(np.ones(n + 1))
    if fault == "targets":
        answer["targets"] = [0.5] * n
    if fault == "far":
        answer["targets"] = [1 << 70] * n
    if fault == "nothing":
        answer["shown"] = floats(np.zeros((len(asked["show"]), 4)))
    if fault == "mute":
        os.close(1)
        time.sleep(60)
    if fault == "bytes":
        answer["size_bytes"] = -1
    if fault == "base64":
        answer["shown"] = [[0.25] * 4]
    say({"garbage": "hello world", "list": [1, 2]}.get(fault, answer))
