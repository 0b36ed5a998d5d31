#!/usr/bin/env bash
# Seed 004's 3B (depth 38: 3,015,835,648 parameters, 60.3 billion tokens): 82 h and about $2,000 on 8 x H100 at 50 %
# MFU, not the seed's 18 to 22 h (docs/plan.md). One node; 1,158 of the 1,822 data shards are read.
#
#     configs/runs/run3b.sh --dry-run
#     configs/runs/run3b.sh train.steps=100          (a try: memory and speed)
source "$(dirname "${BASH_SOURCE[0]}")/scaled.sh"
scaled d38 "$@"
