#!/usr/bin/env bash
# Measures how a pre-training step of the full-size model grows with the number of studies, the side
# of the pictures and the length of the reports: seconds, memory, and the ratio expected from
# counted operations (model/cost.rs). Takes minutes; needs an otherwise idle machine.
#
#   STEPS=3 tools/curves.sh [key=value …]     keys of the example bench_step, such as
#                                             precision=bfloat16
set -euo pipefail
cd "$(dirname "$0")/.."
env -u LIBTORCH cargo build --release --quiet --workspace --example bench_step
measure() {
  target/release/examples/bench_step "steps=${STEPS:-3}" "$@" | python3 -c '
import json, sys
from statistics import median
run, name = json.load(sys.stdin), sys.argv[1]
seconds, studies, operations = median(run["seconds"][1:]), run["studies"], run["operations"]
gib = run["peak_bytes"] / 2**30
print(f"{name:28} {seconds:8.2f} {seconds / studies:10.3f} {operations / 1e12:9.3f} {operations / seconds / 1e9:9.0f} {gib:8.2f}", flush=True)
' "$what"
}
printf '%-28s %8s %10s %9s %9s %8s\n' 'step' seconds 's a study' TFLOP GFLOP/s GiB
for studies in 4 8 16 32; do what="$studies studies" && measure "studies=$studies" "$@"; done
for side in 112 224 336 448; do what="4 studies, $side pixels" && measure studies=4 "side=$side" "$@"; done
for tokens in 14 28 56 112; do what="8 studies, $tokens tokens" && measure "tokens=$tokens" "$@"; done
