# What run3b.sh, run6b.sh and run7b.sh share; sourced by them, not run alone. How they train is in their configs.
#
#     scaled CONFIG "$@"        plan, data, training, packing, score and probes of one large config on one node
#
# Words of theirs: --dry-run (print the commands, run none), --gpu NAME and --gpus N (default: 8 x h100), --source
# SOURCE (of data.prep), section.key=value (for plan and training, such as train.steps=100 for a try).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scaled() {
    local config=configs/seeds/$1.yaml dry="" gpu=h100 gpus=8 source=hf:karpathy/fineweb-edu-100b-shuffle words=()
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
    local ranks=(torchrun --standalone --nproc_per_node="$gpus")

    # Before hours of download: is there room? Then the tokenizer and the shards (an old dataset is checked and kept).
    step python -m tools.plan "$config" "${words[@]}" --gpu "$gpu" --gpus "$gpus" --check
    step python -m data.prep "$source" --vocab 65536 --val-fraction 0.0001 --out data/datasets/fineweb_65536
    step "${ranks[@]}" train_gpt.py "$config" "${words[@]}"
    step "${ranks[@]}" -m quant.pack
    step "${ranks[@]}" -m eval.bpb
    step python -m eval.probe
}

step() {
    printf '%s\n' "$*"
    [ -n "$dry" ] || "$@"
}
