"""What starts a planned run: a torchrun line for every node, or a batch script for Slurm (docs/nodes.md)."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from base.errors import BadInput
from tools.plan.estimate import Plan

Kind = Literal["torchrun", "slurm"]
KINDS = get_args(Kind)
PORT = 29500
SPARE = 1.2  # the time limit over the plan's hours

SLURM = """\
#!/usr/bin/env bash
# Made by: {made_by}
# After a time limit: sbatch the same file again, and the run resumes from its last checkpoint.
#SBATCH --job-name={name}
#SBATCH --nodes={plan.nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={per_node}
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time={limit}
#SBATCH --signal=TERM@300
#SBATCH --output=%x-%j.out
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --cpus-per-task="$SLURM_CPUS_ON_NODE" {line}"""

TORCHRUN = """\
# Made by: {made_by}
# On each of {plan.nodes} nodes, with HEAD the name or address of one of them:
{line}"""


def launch(kind: Kind, plan: Plan, config: str, words: Sequence[str], made_by: str) -> str:
    """`words` are those of train_gpt.py after the config."""
    for word in (config, *words):
        if not word.isprintable():
            raise BadInput(f"{word!r}: a script takes printable characters only; name the file without the others")
    name = re.sub(r"[^\w.-]+", "-", Path(config).stem, flags=re.ASCII)
    per_node = plan.gpus // plan.nodes
    head, run_id = ("$head", "$SLURM_JOB_ID") if kind == "slurm" else ("${HEAD:?}", name)
    meeting = f'--nnodes={plan.nodes} --rdzv_backend=c10d --rdzv_endpoint="{head}:{PORT}" --rdzv_id="{run_id}"'
    if plan.nodes == 1:
        meeting = "--standalone"
    # Time to save: by default torchrun kills its ranks 30 s after a SIGTERM.
    patience = " --shutdown-timeout=270" if kind == "slurm" else ""
    training = shlex.join(["train_gpt.py", config, *words])
    line = f"torchrun {meeting} --nproc_per_node={per_node}{patience} {training}"
    if kind == "torchrun":
        return line if plan.nodes == 1 else TORCHRUN.format(made_by=made_by, plan=plan, line=line)
    limit_h = int(SPARE * (plan.hours + plan.pack_hours + plan.score_hours)) + 1
    limit = f"{limit_h // 24}-{limit_h % 24:02}:00:00"
    return SLURM.format(made_by=made_by, name=name, plan=plan, per_node=per_node, limit=limit, line=line)
