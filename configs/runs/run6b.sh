#!/usr/bin/env bash
# Seed 004's 6.6B (depth 50: 6,563,430,400 parameters, 131 billion tokens): 388 h and about $9,300 on 8 x H100 at 50 %
# MFU, not the seed's 58 to 65 h (docs/plan.md). One node; the 1,822 data shards are read 1.38 times.
#
#     configs/runs/run6b.sh --dry-run
#     configs/runs/run6b.sh train.steps=100          (a try: memory and speed)
source "$(dirname "${BASH_SOURCE[0]}")/scaled.sh"
scaled d50 "$@"
