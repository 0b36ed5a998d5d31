"""`train_gpt.py CONFIG --dry-run`: the plan of that run on the devices that it would have, and whether it fits."""

import os
import sys
from dataclasses import asdict

import torch

from base.cli import Answer
from base.config import to_yaml
from base.errors import BadInput, CheckFailed
from run_config import RunConfig
from tools.plan.corpus import find_corpus
from tools.plan.estimate import Setting, plan_run
from tools.plan.fit import find_gpu, known_gpus, plain_name

SHOWN = (
    "params", "params_by_kind", "flops_per_token", "flops_per_token_causal", "tokens_per_step", "rows", "micro_batches",
    "steps", "rate_multiplier", "gpu", "gpus", "memory_bytes", "max_batch", "fits", "hours", "pack_hours",
    "score_hours",
)  # fmt: skip


def dry_run(config: RunConfig, gpu: str | None) -> Answer:
    """Nothing is read but a dataset's size, nothing is downloaded or allocated. The resolved config goes to stderr."""
    setting = Setting(gpu=gpu or present_gpu(), gpus=int(os.environ.get("WORLD_SIZE", "1")))
    plan = plan_run(config, setting, find_gpu(setting.gpu), find_corpus(config))
    print(to_yaml(config), file=sys.stderr)
    answer = {name: value for name, value in asdict(plan).items() if name in SHOWN}
    answer["memory_by_part"] = plan.layouts[0].memory_by_part
    if not plan.fits:
        raise CheckFailed(plan.warnings[0], answer)
    return answer


def present_gpu() -> str:
    """The line of the table that this machine's GPU is, or the planner's default."""
    if not torch.cuda.is_available():
        print(f"no GPU is here: planned for {Setting.gpu}; --gpu names another", file=sys.stderr)
        return Setting.gpu
    name = torch.cuda.get_device_name()
    found = [known for known in known_gpus() if known in plain_name(name)]
    if not found:
        raise BadInput(f"{name}, which is here, is not in gpus.yaml; name a device that is: --gpu")
    return found[0]
