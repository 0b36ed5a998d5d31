"""How much of the speed-up that is there to be had the sliding evaluation has: rows for tools/bench.py.

Plain is every position through every block and the head; fast is eval.score's own step. Both score the same windows in
batches of the same size, compiled alike, in turns, and each is judged by its best turn: a model of the preset's shape
with random weights takes as long as a trained one. What may be gained is what model.cost's FLOPs say.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from base.config import load
from base.errors import CheckFailed
from eval.batches import fitting, score_windows
from model.cost import scoring_flops
from model.gpt import GPT
from run_config import RunConfig
from tools.bench_row import Row, since

TURNS = 40
CLOSE_NATS = 1e-6  # that plain and fast may differ by, in the mean

Step = Callable[[torch.Tensor], torch.Tensor]


@torch.inference_mode()
def scoring_rows(config_path: str) -> list[Row]:
    config: RunConfig = load(RunConfig, config_path, [])
    context, stride = config.eval.context or config.train.seq_len, config.eval.stride
    torch.manual_seed(0)
    model = GPT(config.model).eval()
    rows = torch.randint(
        config.model.vocab_size,
        (max(1, fitting(config.eval.batch_tokens, torch.device("cpu")) // context), context + 1),
    )
    steps = {"plain": partial(plain_windows, model, last=stride), "fast": partial(score_windows, model, last=stride)}
    name = Path(config_path).stem
    flops = {
        "plain": scoring_flops(config.model, context, context),
        "fast": scoring_flops(config.model, context, stride),
    }
    allowed = flops["plain"] / flops["fast"]
    found = [
        Row(f"{name}: FLOPs of a window, context {context}, every position", flops["plain"] / 1e6, "MFLOP"),
        Row(f"{name}: FLOPs of a window, the last {stride} positions", flops["fast"] / 1e6, "MFLOP"),
        Row(f"{name}: the speed-up that this allows", allowed, "times"),
    ]
    for how, ready in (("as it is", lambda step: step), ("compiled", partial(torch.compile, dynamic=False))):
        seconds = best_turns({key: ready(step) for key, step in steps.items()}, rows)
        found += [Row(f"{name}: {key} scoring, {how}", len(rows) / s, "windows/s") for key, s in seconds.items()]
        gained = seconds["plain"] / seconds["fast"]
        found += [
            Row(f"{name}: speed-up, {how}", gained, "times"),
            Row(f"{name}: of the allowed speed-up, {how}", 100 * gained / allowed, "%", 90),
        ]
    return found


def plain_windows(model: GPT, rows: torch.Tensor, last: int) -> torch.Tensor:
    """(W, T + 1) -> (W, last): every position's loss, of which the last are kept."""
    logits = model(rows[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none").view(len(rows), -1)[:, -last:]


def best_turns(steps: dict[str, Step], rows: torch.Tensor) -> dict[str, float]:
    """Seconds of each step, in turns: what disturbs one disturbs the others. They must agree."""
    means = {key: float(step(rows).double().mean()) for key, step in steps.items()}
    if max(means.values()) - min(means.values()) > CLOSE_NATS:
        raise CheckFailed(f"nats a token: {means}; two ways to score the same windows differ")
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(TURNS):
        for key, step in steps.items():
            started = time.perf_counter()
            step(rows)
            best[key] = min(best[key], since(started))
    return best
