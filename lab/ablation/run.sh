#!/usr/bin/env bash
# The ablation study, from nothing to docs/evidence.md: cohorts, pre-training, evaluation,
# tables. It can be stopped at any time and started again; finished runs are not repeated.
#
#   lab/ablation/run.sh                                    two runs at once, one thread each: hours on two cores
#   MINUTES=30 lab/ablation/run.sh                         starts no further run after half an hour
#   lab/ablation/run.sh --arms full,no-local --seeds 1      a part of it
set -euo pipefail
cd "$(dirname "$0")/../.."
config=lab/ablation/study.toml
options=(--workers "${WORKERS:-2}" --threads "${THREADS:-1}" --device "${DEVICE:-cpu}" --work "${WORK:-lab/target/ablation}")
if [ -n "${MINUTES:-}" ]; then options+=(--minutes "$MINUTES"); fi

if [ -z "${MEDST:-}" ]; then
  make build
  MEDST=target/release/medst
fi
cargo build --release --manifest-path lab/Cargo.toml -p medst-ablation
lab/target/release/medst-ablation run "$config" --medst "$MEDST" "${options[@]}" "$@"
lab/target/release/medst-ablation report "$config" --out docs/evidence.md
