#!/usr/bin/env bash
# Measures what a small model learns from the small open collections of real radiographs, as far as
# their size allows. Two questions, several seeds:
#
# * Can it memorise its training set? Image-to-report retrieval among the 45 subjects of `open-cxr`
#   that it was trained on.
# * Does it find other visits of a patient of another hospital? `hannover` (71 subjects, no
#   reports), which it has never seen, against chance and against the same model before training.
#
#   runs/real_data.sh                       SEEDS="1 2 3 4 5" STEPS=400
#
# Neither answers questions about accuracy. The collections are expected in ../shared/data (or
# MEDST_SHARED_DIR/data).
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst}
data=${MEDST_SHARED_DIR:-../shared}/data
out=${OUT:-runs/real-data}
seeds=${SEEDS:-1 2 3 4 5}
steps=${STEPS:-400}
for name in open-cxr hannover; do
  [ -f "$data/$name/studies.csv" ] || { echo "there is no $data/$name/studies.csv" >&2; exit 2; }
done
mkdir -p "$out"

# All of the first collection is used for training; the second is held out. (Both have their own
# splits.)
python3 - "$data/open-cxr/studies.csv" "$out/all-train.csv" <<'PY'
import csv, sys
with open(sys.argv[1], newline="", encoding="utf-8") as source, open(sys.argv[2], "w", newline="") as target:
    rows = csv.DictReader(source)
    out = csv.writer(target)
    out.writerow(["subject_id", "study_id", "split"])
    for subject, study in dict.fromkeys((row["subject_id"], row["study_id"]) for row in rows):
        out.writerow([subject, study, "train"])
PY
[ -f "$out/open-cxr/corpus.json" ] ||
  "$medst" -q prepare table "$data/open-cxr/studies.csv" --splits "$out/all-train.csv" --out "$out/open-cxr" --image-size 128
[ -f "$out/hannover/corpus.json" ] || "$medst" -q prepare table "$data/hannover/studies.csv" --out "$out/hannover" --image-size 128

for seed in $seeds; do
  for run in trained untrained; do
    at="$out/$run-$seed"
    if [ ! -f "$at/hannover.npy" ]; then
      rm -rf "$at"
      settings=(--set "data.corpus=$out/open-cxr" --set "train.output=$at" --set "train.seed=$seed" --set train.epochs=100000
        --set train.sequences_per_batch=32)
      case $run in
        trained) settings+=(--set "train.max_steps=$steps" --set train.validate_every=1000000) ;;
        untrained) settings+=(--set train.max_steps=0) ;;
      esac
      "$medst" -q pretrain configs/tiny.toml "${settings[@]}" > "$at.log"
      "$medst" -q eval retrieval --model "$at/last" --corpus "$out/open-cxr" --split train --out "$at/report" --no-pictures > "$at.eval.log"
      "$medst" -q embed "$out/hannover" --model "$at/last" --out "$at/hannover.npy" > /dev/null
    fi
  done
done

echo "Retrieval of the training set, open-cxr, after $steps steps:"
python3 - "$out" $seeds <<'PY'
import json, sys
out, seeds = sys.argv[1], sys.argv[2:]
def figure(run, seed, group, name):
    tasks = json.load(open(f"{out}/{run}-{seed}/report/results.json"))["corpora"][0]["tasks"]
    own = next(f for task in tasks for f in task["figures"] if (f["group"], f["name"]) == (group, name))
    return own["value"], own["chance"]
for group in ("image to report", "report to image"):
    for run in ("untrained", "trained"):
        values = [figure(run, seed, group, "recall@1") for seed in seeds]
        print(f"  {group}, recall@1, {run}: " + ", ".join(f"{value:.3f}" for value, _ in values) + f" (chance {values[0][1]:.3f})")
PY
files() { for seed in $seeds; do echo "$out/$1-$seed/hannover.npy"; done; }
for k in 1 5; do
  echo "Same patient, another visit, hannover, recall@$k:"
  # shellcheck disable=SC2046
  tools/same_patient.py $(files trained) --against $(files untrained) --k $k
done
