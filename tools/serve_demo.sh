#!/usr/bin/env bash
# Starts the service and its page with the shipped model, an index and calibrations made from new
# patients, and example patients. Ready within a minute; nothing is trained. ADDRESS=HOST:PORT
# serves elsewhere; MODEL=PATH serves another model; SERVED=DIR keeps the generated files in DIR
# instead of `demo-served`.
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst}
served=${SERVED:-demo-served}
model=${MODEL:-phantom}
address=${ADDRESS:-127.0.0.1:8750}
say() { printf '\n== %s\n' "$*"; }

mkdir -p "$served"
classes=()
for name in consolidation edema 'pleural effusion' pneumonia pneumothorax atelectasis cardiomegaly; do classes+=(--class "$name"); done
# Each result appears completely or not at all, so existing results are kept.
if [ ! -e "$served/corpora/pairs" ]; then
  say "drawing and preparing 600 patients that the model has not seen"
  rm -rf "$served/drawn" "$served/corpora"
  "$medst" -q phantom "$served/drawn" --subjects 600 --seed 5000001 --size 160 --layout table,mimic-cxr-jpg,ms-cxr-t >/dev/null
  "$medst" -q prepare table "$served/drawn/table/studies.csv" --out "$served/corpora/patients" --image-size 72 >/dev/null
  "$medst" -q prepare ms-cxr-t "$served/drawn/ms-cxr-t" --images "$served/drawn/mimic-cxr-jpg" --out "$served/corpora/pairs" \
    --image-size 72 >/dev/null
fi
if [ ! -e "$served/index" ]; then
  say "indexing these patients"
  "$medst" search index "$served/corpora/patients" --model "$model" --out "$served/index"
fi
if [ ! -e "$served/classes.json" ]; then
  say "calibrating findings"
  "$medst" zero-shot "$served/corpora/patients" --model "$model" "${classes[@]}" --fit-calibration "$served/classes.json"
fi
if [ ! -e "$served/courses.json" ]; then
  say "calibrating change on pairs of studies"
  "$medst" compare "$served/corpora/pairs" --model "$model" --fit-calibration "$served/courses.json"
fi
# Patients that the model has never seen (another seed), drawn larger than the model's input, like
# exports of a workstation.
if [ ! -e "$served/patients" ]; then
  say "drawing example patients"
  "$medst" -q phantom "$served/patients" --subjects 12 --seed 5000002 --size 512 --layout folders
fi
examples=$served/examples
if [ ! -e "$examples" ]; then
  rm -rf "$examples.part" && mkdir -p "$examples.part"
  for patient in "$served"/patients/folders/*/; do
    dates=$(find "$patient" -name '*_frontal.txt' | wc -l)
    laterals=$(find "$patient" -name '*_lateral.*' | wc -l)
    # Patients with several dates, some with a lateral view, and no more dates than fit side by
    # side.
    if [ "$dates" -ge 2 ] && [ "$dates" -le 4 ] && [ "$laterals" -ge 1 ]; then cp -r "$patient" "$examples.part/"; fi
  done
  mv "$examples.part" "$examples"
fi

say "serving; stop with Ctrl-C"
cat <<MESSAGE
  page       the link in the line that begins with "open" (its first screen offers the example patients)
  to drop    $examples/*/   (all files of one folder: PNG, DICOM, reports)
             or your own: DICOM, or PNG and JPEG named like 2024-03-09_lateral.png
  programs   http://$address/reference
MESSAGE
exec "$medst" serve --model "phantom=$model" --index "patients=$served/index" --calibration "$served/classes.json" \
  --courses "$served/courses.json" --examples "$examples" --bind "$address"
