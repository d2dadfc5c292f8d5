#!/usr/bin/env bash
# Trains a model the way the released weights are trained, from nothing:
#
#     scripts/train_release.sh RUN VAL DIR...
#
# RUN is the folder of the run, VAL holds pictures to measure on, the DIRs pictures to train on:
# pictures that anybody may use, if the weights are to be such. RUN/weights.safetensors is the result,
# RUN/trunk.safetensors the weights before the learning rate fell, RUN/val.json their rate-distortion.
# Started again after an interruption it goes on. A step takes 0.74 s on two idle cores with AVX2, so
# the 160,000 take a day and a half; DEVICE=cuda uses a GPU, PROCESSES=N trains in N processes of a thread
# each, which is faster where there are as many idle cores, OPTIONS="--steps 500000" and the like change the
# recipe. docs/training.md says how to go on from the result, and how to add the second dial.
set -euo pipefail
run=$1 val=$2
shift 2
read -ra changes <<<"${OPTIONS:-}"
train=(vrcodec train)
if ((${PROCESSES:-1} > 1)); then
    train=(torchrun --nproc-per-node "$PROCESSES" -m vrcodec train --threads 1)
fi
if [[ -f $run/checkpoint.pt ]]; then
    exec "${train[@]}" -o "$run" --resume --device "${DEVICE:-auto}" "${changes[@]}"
fi
shape=$(mktemp)
trap 'rm -f "$shape"' EXIT
cat >"$shape" <<'JSON'
{"lambda_ranges": [[0.0006, 0.5]], "width8": 128, "width16": 256, "analysis_blocks": [2, 2],
 "synthesis_blocks": [2, 3], "core": 192, "hyper": 64, "hyper_width": 96, "context_width": 128,
 "context_blocks": 0, "context_passes": 4, "film_width": 64, "dead_zone": [0.15, 0.4],
 "learned_linear": false}
JSON
# The rate falls over larger crops, with the integer scale path in the loop.
"${train[@]}" "$@" -o "$run" --config "$shape" --val "$val" --device "${DEVICE:-auto}" \
    --optimizer muon --lr 2e-3 --warmup 300 --batch 16 --patch 128 --steps 160000 \
    --decay 0.2 --final-patch 192 --final-batch 8 "${changes[@]}"
