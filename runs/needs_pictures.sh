#!/usr/bin/env bash
# Does a loss need the picture? Trains the demo's small model with one loss at a time, once on a
# cohort and once on the same cohort with the pictures exchanged among studies of the same view and
# split. A loss that falls as far with exchanged pictures as with the right ones does not train the
# image encoder to recognise anything in them.
#
#   runs/needs_pictures.sh OUT            about 20 minutes on two cores; existing results are kept
#   STEPS=250 PATCH=8 LOSSES="within across global temporal" runs/needs_pictures.sh OUT
#   BASE=1 runs/needs_pictures.sh OUT     the same from an encoder of 8 x 8 patches that already
#                                         recognises findings
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst}
out=${1:?usage: runs/needs_pictures.sh OUT}
steps=${STEPS:-250}
patch=${PATCH:-16}   # of 112 pixels: 16 gives 7 x 7 patches, 8 gives 14 x 14
config=configs/from-scratch.toml stored=128 start=random
if [ -n "${BASE:-}" ]; then
  config=lab/ablation/pretrain.toml stored=72 start=base patch=8
fi
mkdir -p "$out"

if [ ! -e "$out/cohort/studies.csv" ]; then
  "$medst" -q phantom "$out/cohort" --subjects 1200 --size 160
  python3 - "$out/cohort/studies.csv" "$out/cohort/shuffled.csv" <<'PYTHON'
import csv, random, sys
source, target = sys.argv[1:]
rows = list(csv.DictReader(open(source, newline="")))
random.seed(1)
groups = {}
for row in rows:
    groups.setdefault((row["view"], row.get("split")), []).append(row)
for group in groups.values():
    images = [row["image"] for row in group]
    random.shuffle(images)
    for row, image in zip(group, images):
        row["image"] = image
with open(target, "w", newline="") as file:
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
PYTHON
fi
for pictures in own shuffled; do
  table=$out/cohort/studies.csv
  [ "$pictures" = own ] || table=$out/cohort/shuffled.csv
  [ -e "$out/corpus-$stored-$pictures" ] || "$medst" -q prepare table "$table" --out "$out/corpus-$stored-$pictures" --image-size "$stored"
done

run() { # LOSS PICTURES
  local run=$out/$1-$start-$patch-$2 weights=(loss.global_weight=0 loss.local_weight=0 loss.temporal_weight=0)
  [ -z "${BASE:-}" ] || weights+=(init.weights=encoders=lab/ablation/base.safetensors)
  case $1 in
    within) weights+=(loss.local_weight=1) ;;
    across) weights+=(loss.local_weight=1 loss.local=across) ;;
    global) weights+=(loss.global_weight=1) ;;
    temporal) weights+=(loss.temporal_weight=1) ;;
  esac
  [ ! -e "$run" ] || return 0
  rm -rf "$out/begun"
  "$medst" -q pretrain "$config" --set data.corpus="$out/corpus-$stored-$2" --set train.output="$out/begun" \
    --set model.image.patch="$patch" --set train.max_steps="$steps" --set train.epochs=100 --set train.sequences_per_batch=24 \
    --set train.validate_every=$((steps / 5)) "${weights[@]/#/--set=}"
  mv "$out/begun" "$run"
}
for loss in ${LOSSES:-within across global temporal}; do
  for pictures in own shuffled; do run "$loss" "$pictures"; done
done
python3 - "$out" "$start" "$patch" <<'PYTHON'
import json, pathlib, sys
out, start, patch = pathlib.Path(sys.argv[1]), *sys.argv[2:]
print(f"validation loss, patches of {patch} pixels, from {'random weights' if start == 'random' else 'a trained encoder'}")
for run in sorted(out.glob(f"*-{start}-{patch}-*")):
    loss, _, _, pictures = run.name.split("-")
    entries = [json.loads(line) for line in open(run / "metrics.jsonl")]
    seen = [entry for entry in entries if entry["kind"] == "validate"]
    line = "  ".join(f"{entry['step']}: {entry['total']:.3f}" for entry in seen)
    print(f"  {loss:9} {pictures:9} {line}")
PYTHON
