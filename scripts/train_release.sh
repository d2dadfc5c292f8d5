#!/usr/bin/env bash
# Trains a model much the way the released weights were trained, from nothing:
#
#     scripts/train_release.sh RUN VAL DIR...
#
# RUN is the folder of the run, VAL holds pictures to measure on, the DIRs pictures to train on:
# pictures that anybody may use, if the weights are to be such. First a model of one dial learns
# squared error, in RUN-first; then it gets the second dial, and the rate falls, in RUN; at last the
# synthesis transform learns from latents as files hold them, in RUN-synthesis.
# RUN-synthesis/weights.safetensors is the result, RUN/weights.safetensors what it was before the last
# part, RUN/val.json the rate-distortion of that by estimated rates, and RUN/trunk.safetensors the
# weights before the learning rate fell. Started again after an interruption it goes on.
#
# On two idle cores with AVX-512 and bfloat16 the first takes two hours and more, the second one and a half.
# DEVICE=cuda uses a GPU; PROCESSES=N trains in N processes of a thread each, which is faster where
# there are as many idle cores. FIRST="--steps 100000" changes the recipe of the first part,
# OPTIONS="..." that of the second, LAST="..." that of the last, which always is the CPU's. PYTHON names
# the interpreter that has vrcodec, if python3 is not it. docs/training.md says how to go on from the result.
set -euo pipefail
run=$1 val=$2
shift 2
read -ra first_changes <<<"${FIRST:-}"
read -ra changes <<<"${OPTIONS:-}"
read -ra last_changes <<<"${LAST:-}"
train=(vrcodec train)
tune=("${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/synthesis.py")
if ((${PROCESSES:-1} > 1)); then
    train=(torchrun --nproc-per-node "$PROCESSES" -m vrcodec train --threads 1)
    tune=(torchrun --nproc-per-node "$PROCESSES" "${tune[1]}" --threads 1)
fi
train+=(--device "${DEVICE:-auto}")
shape=$(mktemp)
trap 'rm -f "$shape"' EXIT
cat >"$shape" <<'JSON'
{"lambda_ranges": [[0.0006, 0.5]], "width8": 128, "width16": 256, "analysis_blocks": [2, 2],
 "synthesis_blocks": [2, 3], "core": 192, "hyper": 64, "hyper_width": 96, "context_width": 128,
 "context_blocks": 0, "context_passes": 4, "film_width": 64, "dead_zone": [0.15, 0.4],
 "learned_linear": false, "local_steps": true, "trellis_step": 0.75, "trellis_level": 15,
 "trellis_reach": 8192}
JSON

if [[ ! -f $run-first/weights.safetensors ]]; then
    if [[ -f $run-first/checkpoint.pt ]]; then
        "${train[@]}" -o "$run-first" --resume "${first_changes[@]}"
    else
        "${train[@]}" "$@" -o "$run-first" --config "$shape" --optimizer muon --lr 2e-3 \
            --warmup 300 --batch 32 --patch 128 --steps 14500 --decay 0 "${first_changes[@]}"
    fi
fi
if [[ -f $run/checkpoint.pt ]]; then
    "${train[@]}" -o "$run" --resume "${changes[@]}"
else
    # The rate falls with the integer scale path in the loop; in the end that learns alone.
    "${train[@]}" "$@" -o "$run" --init "$run-first/checkpoint.pt" --val "$val" --loss tune \
        --perceptual both --optimizer muon --lr 1e-3 --warmup 100 --batch 32 --patch 192 \
        --steps 3900 --decay 0.42 --scale-steps 500 "${changes[@]}"
fi
[[ -f $run/weights.safetensors ]] || exit 0
last=$run-synthesis
if [[ -f $last/checkpoint.pt ]] && cmp -s "$run/weights.safetensors" "$last/before.safetensors"; then
    tune+=(--resume)
else # it begins, or the second part has gone on since
    mkdir -p "$last"
    rm -f "$last/checkpoint.pt"
    cp "$run/weights.safetensors" "$last/before.safetensors"
fi
"${tune[@]}" "$last/before.safetensors" "$@" -o "$last" "${last_changes[@]}"
