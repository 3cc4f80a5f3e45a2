#!/usr/bin/env bash
# What a pre-training step asks of a GPU, counted on a pretended one (tools/pretended_gpu.sh) for 8 and 16 studies, and the time that cards of which the
# rates are known would need at least for any number. No card is needed; nothing is measured on one.
#
#   tools/gpu_forecast.sh             the engine's kernels, and with our own (minutes)
#   STEP=/elsewhere/bench_step tools/gpu_forecast.sh
set -euo pipefail
cd "$(dirname "$0")/.."
step=${STEP:-}
if [ -z "$step" ]; then
  env -u LIBTORCH cargo build --release --quiet --workspace --examples
  step=target/release/examples/bench_step
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools/pretended_gpu.sh "$work/gpu"
for kernels in ${KERNELS:-0 1}; do
  for studies in 8 16; do
    MEDST_GPU_KERNELS=$kernels MEDST_PRETENDED_GPU=$work/$kernels-$studies MEDST_PRETENDED_GPU_SHAPES=1 \
      LD_LIBRARY_PATH=$work/gpu:.libtorch/lib "$step" device=cuda precision=bfloat16 steps=2 "studies=$studies" >"$work/$kernels-$studies.json"
  done
  [ "$kernels" = 0 ] && name="the engine's kernels" || name="with kernels of our own"
  python3 tools/gpu_forecast.py "$name" "$work/$kernels-8" "$work/$kernels-16"
done
