#!/usr/bin/env bash
# Pre-training steps in bfloat16 and float16 on one GPU against PyTorch on the same card, the
# loader, and embedding against the card's own rate, as one table; target/bench/gpu.json has the
# numbers.
#
#   tools/bench_gpu.sh                         builds the programs, unless the folder BIN has them
#   BIN=target/release/examples PYTHON=python3 STUDIES="64 256 1024" tools/bench_gpu.sh
#   PARTS="embed step" tools/bench_gpu.sh      some of embed, step and precision, if time is short
#   DEVICE=cpu STUDIES=8 SUBJECTS=20 tools/bench_gpu.sh    the script itself, tried without a GPU
#
# The programs are built for any machine: libtorch is the one of PYTHON's torch 2.11, and CUDA is
# loaded while they run. Nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
bin=${BIN:-}
if [ -z "$bin" ]; then
  env -u LIBTORCH cargo build --release --quiet --workspace --examples
  bin=target/release/examples
fi
torch=$($python -c 'import os, torch; print(os.path.dirname(torch.__file__)) if torch.__version__.startswith("2.11") else exit("torch 2.11 is needed, this is " + torch.__version__)')
export LD_LIBRARY_PATH=$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
mkdir -p target/bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
theirs=(--device "$device" --precision bfloat16 --steps "${STEPS:-12}")
# Runs that number of studies in a precision: in one backward pass if it fits the card, otherwise
# 256 studies at a time.
ours() {
  local step=("$bin/bench_step" "device=$device" "steps=${STEPS:-12}" "studies=$1" "precision=$2")
  "${step[@]}" || "${step[@]}" chunk=256
}
parts=" ${PARTS:-embed step precision} "
if [[ $parts == *" embed "* ]]; then
  "$bin/bench_embed" "device=$device" "subjects=${SUBJECTS:-1000}" precisions=float32,float16,bfloat16 >"$work/embed.json"
fi
if [[ $parts == *" step "* ]]; then
  for studies in ${STUDIES:-64 256 1024}; do
    echo "$studies studies" >&2
    # Every fourth study begins a sequence, as in a corpus of sequences.
    ours "$studies" bfloat16 >>"$work/ours.jsonl"
    ours "$studies" float16 >>"$work/ours16.jsonl"
    $python benches/peer/pretrain_step.py "${theirs[@]}" --studies "$studies" --best >>"$work/best.jsonl" || echo null >>"$work/best.jsonl"
    $python benches/peer/pretrain_step.py "${theirs[@]}" --studies "$studies" --best --compile >>"$work/compiled.jsonl" ||
      echo null >>"$work/compiled.jsonl"
  done
fi
if [[ $parts == *" precision "* ]]; then
  "$bin/bench_precision" "device=$device" "steps=${PRECISION_STEPS:-200}" >"$work/precision.json"
  $python benches/peer/pretrain_step.py --device "$device" --cosine >"$work/autocast.json"
fi
$python benches/peer/table_gpu.py "$work" target/bench/gpu.json
