#!/usr/bin/env bash
# Trains a model the way the released weights were trained, from nothing:
#
#     scripts/train_release.sh RUN VAL DIR...
#
# RUN is the folder of the run, VAL holds pictures to measure on, the DIRs pictures to train on.
# RUN/weights.safetensors is the result, RUN/trunk.safetensors the weights before the learning rate
# fell, RUN/val.json their rate-distortion. Started again after an interruption it goes on.
# On two cores of a server CPU it takes about three hours; DEVICE=cuda uses a GPU, OPTIONS="--steps
# 500000" and the like change the recipe.
set -euo pipefail
run=$1 val=$2
shift 2
go_on=()
[[ -f $run/checkpoint.pt ]] && go_on=(--resume)
read -ra changes <<<"${OPTIONS:-}"
# The rate falls over larger crops, with the integer scale path in the loop.
exec vrcodec train "$@" -o "$run" "${go_on[@]}" --val "$val" --device "${DEVICE:-auto}" \
    --lr 1e-3 --batch 16 --patch 128 --steps 29000 --decay 0.26 --final-patch 192 --final-batch 6 \
    "${changes[@]}"
