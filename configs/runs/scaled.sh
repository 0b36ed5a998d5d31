# What run3b.sh and run7b.sh share; sourced by them, not run alone.
#
#     scaled CONFIG "$@"        data, plan, training, score and probes of one large config on one node
#
# Words of theirs: --dry-run (print the commands, run none), --gpu NAME and --gpus N (default: 8 x h100), --source
# SOURCE (of data.prep), section.key=value (for plan and training, such as train.steps=100 for a try).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scaled() {
    local config=$1 dry="" gpu=h100 gpus=8 source=hf:karpathy/fineweb-edu-100b-shuffle
    # Eight rows at a time divide 48 (3B) and 24 (7B) rows a device, and fit 80 GB split and checkpointed.
    local words=(train.shard=fsdp train.checkpointing=true train.micro_tokens=16384 train.loss_tokens=4096)
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            --dry-run) dry=1 ;;
            --gpu | --gpus | --source)
                [ $# -gt 1 ] || { echo "$1: needs a value" >&2; exit 2; }
                printf -v "${1#--}" %s "$2"
                shift
                ;;
            *.*=*) words+=("$1") ;;
            *) echo "$1: not --dry-run, --gpu NAME, --gpus N, --source SOURCE or section.key=value" >&2; exit 2 ;;
        esac
        shift
    done

    # Before hours of download: is there room? Then the tokenizer and the shards (an old dataset is checked and kept).
    step python -m tools.plan "configs/seeds/$config.yaml" --gpu "$gpu" --gpus "$gpus" --check "${words[@]}"
    step python -m data.prep "$source" --vocab 65536 --val-fraction 0.0001 --out data/datasets/fineweb_65536
    step torchrun --standalone --nproc_per_node="$gpus" train_gpt.py "configs/seeds/$config.yaml" "${words[@]}"
    step torchrun --standalone --nproc_per_node="$gpus" -m eval.bpb --stride 512 --limit 10000000
    step python -m eval.probe
}

step() {
    printf '%s\n' "$*"
    [ -n "$dry" ] || "$@"
}
