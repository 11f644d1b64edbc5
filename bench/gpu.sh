#!/bin/sh
# Figures of a GPU in under ten minutes, from the repository's root:
#
#     bench/gpu.sh FOLDER                                           # on a GPU
#     bench/gpu.sh FOLDER cpu 0 --network nano --size 64 decoder    # whether it works, on a CPU
#
# FOLDER/training.json: images per second and peak memory of each kind of stage of each recipe, about 40 seconds each, on
# SAM 2.1 tiny (at 1024 pixels, MedSAM2's recipe at its 512) and on nano. What comes after the seconds is passed on to
# `python -m bench train`.
set -eu
folder=${1:?"usage: bench/gpu.sh FOLDER [DEVICE [SECONDS [OPTIONS ...]]]"}
device=${2:-cuda}
seconds=${3:-30}
shift "$(($# < 3 ? $# : 3))"
python=${PYTHON:-.venv/bin/python}
test -x "$python" || python=python3
workers=$("$python" -c 'import os; print(min(12, max(1, (os.cpu_count() or 2) - 2)))')
mkdir -p "$folder"
"$python" -m bench train --device "$device" --workers "$workers" --seconds "$seconds" "$@" --json "$folder/training.json"
