"""The plan of a run: sizes, FLOPs, hours of training, packing and scoring, cost, data, and whether it fits.

Pure arithmetic; the figures that it goes by were measured (docs/plan.md).
"""

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from annotated_types import Ge, Gt, Le

from base.errors import BadInput
from engine.config import micro_rows
from model.cost import causal_flops_per_token, flops_per_token, parameters, projections, scoring_flops
from model.memory import BF16
from optim.schedule import multiplier
from quant.bits import parse_bits
from quant.config import QuantConfig
from run_config import RunConfig
from tools.plan.corpus import Corpus
from tools.plan.fit import Gpu, Layout, find_change, layouts


class Precedent(NamedTuple):
    """A run whose speed was measured: share of the peak FLOP/s that its model's FLOPs took."""

    dim: int
    mfu: float
    name: str


GOLF = Precedent(512, 0.27, "Parameter Golf #465: 5,999 steps in 600 s on 8 x H100")
NANOCHAT = Precedent(2048, 0.50, "nanochat d32: 1.57 s per step on 8 x H100")

PACK_WEIGHTS = 24.7e6  # of golf465, packed on two CPU cores (docs/LOG.md): seconds without and with calibration
PACK_S, CALIBRATED_PACK_S = 38.0, 138.0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the command line adds to a config."""

    gpu: str = "h100"
    gpus: Annotated[int, Ge(1)] = 1
    nodes: Annotated[int, Ge(1)] = 1
    mfu: Annotated[float, Gt(0), Le(1)] | None = None  # share of the peak FLOP/s; None: by precedent
    rate: Annotated[float, Gt(0)] | None = None  # USD per device and hour; None: the table's
    tokens: Annotated[int, Gt(0)] | None = None
    ratio: Annotated[float, Gt(0)] | None = None  # tokens per parameter


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The answer. `memory_bytes`, `fits` and `max_batch` are the first layout's: the run's own."""

    params: int
    params_tied: int
    params_untied: int
    params_by_kind: dict[str, int]
    flops_per_token: int
    flops_per_token_causal: int
    tokens: int
    tokens_per_step: int
    total_flops: int
    rows: int
    micro_batches: int
    steps: int
    rate_multiplier: dict[str, float]  # of the learning rates, by the share of the run
    gpu: str
    gpus: int
    nodes: int
    mfu: float
    mfu_source: str
    tokens_per_second: float
    hours: float  # of training
    pack_hours: float
    pack_hours_by_method: dict[str, float]
    score_hours: float  # of all scores of the validation side, those during the run included
    val_tokens: int
    cost_usd: float  # of training
    memory_bytes: int
    fits: bool
    fits_sharded: bool  # under FSDP2 with checkpointing and a chunked loss
    max_batch: int
    layouts: list[Layout]
    change: str  # what would make it fit, if it does not
    shards: int | None  # of the dataset that the run reads; None: the dataset is not there, and not a known one
    epochs: float | None
    cache_bytes_per_token: int  # keys and values, for decoding
    artifact_bytes: int  # every weight at the width of its kind, before entropy coding
    warnings: list[str]
    launch: str = ""  # the command or script that starts the run


def plan_run(config: RunConfig, setting: Setting, gpu: Gpu, corpus: Corpus) -> Plan:
    train = config.train
    counts = parameters(config.model)
    params = sum(counts.values())
    rows, micro_batches = micro_rows(train, setting.gpus)
    flops = flops_per_token(config.model, train.seq_len)
    mfu, mfu_source = (setting.mfu, "--mfu") if setting.mfu else find_mfu(config.model.dim)
    flops_per_s = setting.gpus * gpu.tflops * 1e12 * mfu
    tokens = count_tokens(config, setting, flops_per_s / flops)
    hours = tokens * flops / flops_per_s / 3600
    own, *others = layouts(config, setting.gpus, gpu)
    packing = {method: pack_hours(QuantConfig(method=method), params) for method in ("absmax", "rate")}
    widths = parse_bits(config.quant.bits)
    is_packed = config.quant.method != "none"
    change = ""
    warnings = []
    if not own.fits:
        found = find_change(config, setting.gpus, gpu)
        change = found.describe(setting.gpus) if found else "no number of these devices would hold it; take larger ones"
        short = f"{own.memory_bytes / 1e9:.1f} GB of {gpu.memory_gb:g} GB per device"
        warnings.append(f"does not fit {setting.gpus} x {setting.gpu}: {short}; {change}")
    if widths.globs:
        warnings.append("quant.bits names single tensors: artifact_bytes has them at the width of their kind")
    if config.eval.adapt.kind != "off":
        warnings.append(f"eval.adapt.kind {config.eval.adapt.kind}: the hours of scoring are a plain score's")
    return Plan(
        params=params,
        params_tied=params - counts["head"],
        params_untied=params - counts["head"] + config.model.vocab_size * config.model.dim,
        params_by_kind=counts,
        flops_per_token=flops,
        flops_per_token_causal=causal_flops_per_token(config.model, train.seq_len),
        tokens=tokens,
        tokens_per_step=train.batch_tokens,
        total_flops=flops * tokens,
        rows=rows,
        micro_batches=micro_batches,
        steps=math.ceil(tokens / train.batch_tokens),
        rate_multiplier={str(share): multiplier(config.optim, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)},
        gpu=setting.gpu,
        gpus=setting.gpus,
        nodes=setting.nodes,
        mfu=mfu,
        mfu_source=mfu_source,
        tokens_per_second=flops_per_s / flops,
        hours=hours,
        pack_hours=pack_hours(config.quant, params),
        pack_hours_by_method=packing,
        score_hours=count_scoring_flops(config, corpus.val_tokens) / flops_per_s / 3600,
        val_tokens=corpus.val_tokens,
        cost_usd=hours * (setting.rate or gpu.usd_per_hour) * setting.gpus,
        memory_bytes=own.memory_bytes,
        fits=own.fits,
        fits_sharded=others[-1].fits,
        max_batch=own.max_batch,
        layouts=[own, *others],
        change=change,
        shards=math.ceil(tokens / corpus.shard_tokens) if corpus.shards else None,
        epochs=corpus.epochs(tokens),
        cache_bytes_per_token=2 * BF16 * projections(config.model)[1] * len(config.model.order()),
        artifact_bytes=is_packed * sum(math.ceil(widths.kinds[kind] * n / 8) for kind, n in counts.items()),
        warnings=warnings,
    )


def find_mfu(dim: int) -> tuple[float, str]:
    """Of the precedent as narrow or as wide; between the two by the logarithm of the width, which nobody measured."""
    if dim <= GOLF.dim:
        return GOLF.mfu, GOLF.name
    if dim >= NANOCHAT.dim:
        return NANOCHAT.mfu, NANOCHAT.name
    share = math.log(dim / GOLF.dim) / math.log(NANOCHAT.dim / GOLF.dim)
    mfu = round(GOLF.mfu + share * (NANOCHAT.mfu - GOLF.mfu), 3)
    ends = [f"{each.mfu:.0%} at {each.dim} ({each.name})" for each in (GOLF, NANOCHAT)]
    return mfu, f"width {dim} is between {' and '.join(ends)}"


def count_tokens(config: RunConfig, setting: Setting, tokens_per_second: float) -> int:
    """By a flag, or by the first of the run's own limits that is reached."""
    train = config.train
    if setting.tokens is not None:
        return setting.tokens
    if setting.ratio is not None:
        return round(setting.ratio * sum(parameters(config.model).values()))
    limits = []
    if train.steps:
        limits.append(train.steps * train.batch_tokens)
    if train.seconds:
        steps = int((train.seconds - train.reserve_s) * tokens_per_second / train.batch_tokens)
        limits.append(max(1, steps) * train.batch_tokens)
    if not limits:
        raise BadInput("train.steps 0 and train.seconds 0 give no end; set one of them, --tokens or --ratio")
    return min(limits)


def pack_hours(quant: QuantConfig, params: int) -> float:
    """On two CPU cores, in proportion to the weights; nobody has measured a GPU."""
    if quant.method == "none":
        return 0.0
    return (CALIBRATED_PACK_S if quant.is_calibrated else PACK_S) * params / PACK_WEIGHTS / 3600


def count_scoring_flops(config: RunConfig, targets: int) -> float:
    """Of the float weights and the artifact, with the config's windows, and of the validations during the run."""
    context = config.eval.window(config.train.seq_len)
    during = math.ceil(1 / config.eval.during) - 1 if config.eval.during else 0
    scores = {config.eval.stride: 1 if config.quant.method == "none" else 2}
    scores[context] = scores.get(context, 0) + during
    return sum(
        count * targets / stride * scoring_flops(config.model, context, stride) for stride, count in scores.items()
    )
