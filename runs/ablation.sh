#!/usr/bin/env bash
# The ablation study, from nothing to docs/evidence.md: cohorts, pre-training, evaluation, tables and plots. It can be stopped at any time
# and started again: what is done is not done twice.
#
#   runs/ablation.sh                                    two runs at once, one thread each: hours on two cores
#   CONFIG=configs/ablation/large.toml OUT=docs/evidence-large.md DEVICE=cuda WORKERS=1 THREADS=8 runs/ablation.sh     a larger one, on a GPU
#   MINUTES=30 runs/ablation.sh                         begins no run after half an hour
#   runs/ablation.sh --arms full,no-local --seeds 1      a part of it
set -euo pipefail
cd "$(dirname "$0")/.."
config=${CONFIG:-configs/ablation/small.toml}
options=(--workers "${WORKERS:-2}" --threads "${THREADS:-1}" --device "${DEVICE:-cpu}" --work "${WORK:-runs/ablation}")
if [ -n "${MINUTES:-}" ]; then options+=(--minutes "$MINUTES"); fi

if [ -z "${MEDST:-}" ]; then
  make build
  MEDST=target/release/medst
fi
env -u LIBTORCH cargo build --release -p medst-ablation
target/release/medst-ablation run "$config" --medst "$MEDST" "${options[@]}" "$@"
target/release/medst-ablation report "$config" --out "${OUT:-docs/evidence.md}"
