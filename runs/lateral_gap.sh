#!/usr/bin/env bash
# Why is same-patient retrieval better without lateral views (docs/evidence.md)? One cohort of the study, `full` trained on it as in the study, and
# its test patients embedded twice: as they are, and with every lateral view taken away. Same weights, same frontal pictures, so that the only
# difference is which studies are embedded with a lateral view.
#
#   runs/lateral_gap.sh          SEEDS="1 2 3"; the base run is that of runs/ablation.sh (BASE=FILE names another), some minutes on one core
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst}
out=${OUT:-runs/lateral-gap}
seeds=${SEEDS:-1 2 3}
base=${BASE:-$(ls runs/ablation/base-*/run/last/model.safetensors 2>/dev/null | head -1)}
[ -n "$base" ] || { echo "there is no base run; runs/ablation.sh makes it, or BASE=FILE" >&2; exit 2; }
mkdir -p "$out"
if [ ! -f "$out/frontal/corpus.json" ]; then
  "$medst" -q phantom "$out/raw" --subjects 1000 --seed 1 --size 160 --difficulty hard
  python3 - "$out/raw/studies.csv" "$out/raw/frontal.csv" <<'PY'
import csv, sys
with open(sys.argv[1], newline="", encoding="utf-8") as source, open(sys.argv[2], "w", newline="", encoding="utf-8") as target:
    rows = csv.DictReader(source)
    out = csv.DictWriter(target, rows.fieldnames)
    out.writeheader()
    out.writerows(row for row in rows if row["view"] != "LATERAL")
PY
  "$medst" -q prepare table "$out/raw/studies.csv" --out "$out/mixed" --image-size 128
  "$medst" -q prepare table "$out/raw/frontal.csv" --out "$out/frontal" --image-size 128
fi
pairs=()
for seed in $seeds; do
  run="$out/run-$seed"
  if [ ! -f "$run/frontal.npy" ]; then
    rm -rf "$run"
    "$medst" -q pretrain configs/ablation/pretrain.toml --set "data.corpus=$out/mixed" --set "train.output=$run" \
      --set "train.seed=$seed" --set "init.weights=$base" --set init.take=encoders > "$run.log"
    for corpus in mixed frontal; do
      "$medst" -q embed "$out/$corpus" --split test --model "$run/last" --out "$run/$corpus.npy" > /dev/null
    done
  fi
  pairs+=("$run/mixed.npy:$run/frontal.npy")
done
tools/lateral_gap.py "$out/raw/studies.csv" "${pairs[@]}"
