#!/usr/bin/env bash
# Calibrates the answers of `medst compare` about series on synthetic patients, whose severities are
# known, and checks them on others; then answers MI-CXR's questions about those others. Prints the
# tables of docs/use.md and docs/evaluation.md.
#   tools/series.sh [OUT]          MEDST: the program; MODEL [phantom]; SUBJECTS [2000] of each
#                                  cohort. Existing results are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst} model=${MODEL:-phantom} subjects=${SUBJECTS:-2000} out=${1:-series}
# Patients that the model has not seen and on which no choice was based.
fitted=7200001 checked=7400001
mkdir -p "$out"
for seed in $fitted $checked; do
  [ -e "$out/$seed-questions/corpus.json" ] && continue
  rm -rf "$out/$seed" "$out/$seed"-*
  "$medst" -q phantom "$out/$seed" --subjects "$subjects" --seed $seed --size 160 --layout table,mimic-cxr-jpg,ms-cxr-t,mi-cxr > /dev/null
  # The table has the findings; truth.csv next to it has their severities.
  python3 - "$out/$seed" <<'PYTHON'
import csv
import sys

folder = sys.argv[1]
with open(f"{folder}/truth.csv", newline="") as file:
    severity = {(row["study_id"], row["finding"]): row["severity"] for row in csv.DictReader(file)}
findings = sorted({finding for _, finding in severity})
with open(f"{folder}/table/studies.csv", newline="") as file, open(f"{folder}/table/graded.csv", "w", newline="") as out:
    rows = csv.DictReader(file)
    table = csv.DictWriter(out, [*rows.fieldnames, *(f"severity_{finding}" for finding in findings)])
    table.writeheader()
    for row in rows:
        table.writerow(row | {f"severity_{finding}": severity[row["study_id"], finding] for finding in findings})
PYTHON
  "$medst" -q prepare table "$out/$seed/table/graded.csv" --out "$out/$seed-series" --image-size 72 > /dev/null
  "$medst" -q prepare ms-cxr-t "$out/$seed/ms-cxr-t" --images "$out/$seed/mimic-cxr-jpg" --out "$out/$seed-pairs" --image-size 72 > /dev/null
  "$medst" -q prepare mi-cxr "$out/$seed/mi-cxr" --images "$out/$seed/mimic-cxr-jpg" --out "$out/$seed-questions" --image-size 72 > /dev/null
done
"$medst" compare "$out/$fitted-pairs" "$out/$fitted-series" --model "$model" --fit-calibration "$out/calibration.json"
"$medst" compare "$out/$checked-pairs" "$out/$checked-series" --model "$model" --check-calibration "$out/calibration.json"
"$medst" eval series-questions --model "$model" --corpus "$out/$checked-questions"
