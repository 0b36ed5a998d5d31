#!/usr/bin/env bash
# Seed 004's 7B (depth 52: 7,347,372,032 parameters, 147 billion tokens): 485 h and about $11,600 on 8 x H100 at 50 %
# MFU, not the seed's 70 to 80 h (docs/plan.md). One node; the 1,822 data shards are read 1.55 times.
#
#     configs/runs/run7b.sh --dry-run
#     configs/runs/run7b.sh train.steps=100          (a try: memory and speed)
source "$(dirname "${BASH_SOURCE[0]}")/scaled.sh"
scaled d52 "$@"
