#!/usr/bin/env bash
# The service and its page with all of it: the demo's model, an index of its corpus, calibrations, example patients.
# ADDRESS=HOST:PORT serves elsewhere; DEMO=DIR uses another demo folder.
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst}
demo=${DEMO:-demo}
address=${ADDRESS:-127.0.0.1:8750}
say() { printf '\n== %s\n' "$*"; }

if [ ! -e "$demo" ]; then
  say "there is no demo yet: making it (minutes)"
  MEDST=$medst DEMO=$demo tools/demo.sh
fi
for part in corpus corpora/ms-cxr-t run/best; do
  if [ ! -e "$demo/$part" ]; then
    echo "$demo/$part is missing: the demo did not come to its end; \`make clean-demo\` removes it" >&2
    exit 2
  fi
done
served=$demo/serve
mkdir -p "$served"
classes=()
for name in consolidation edema 'pleural effusion' pneumonia pneumothorax atelectasis cardiomegaly; do classes+=(--class "$name"); done
# Each step appears whole or not at all, so what is there is kept.
if [ ! -e "$served/corpus-index" ]; then
  say "indexing the corpus"
  "$medst" search index "$demo/corpus" --model "$demo/run" --out "$served/corpus-index"
fi
if [ ! -e "$served/classes.json" ]; then
  say "calibrating findings on the validation patients"
  "$medst" zero-shot "$demo/corpus" --split validate --model "$demo/run" "${classes[@]}" --fit-calibration "$served/classes.json"
fi
if [ ! -e "$served/courses.json" ]; then
  say "calibrating change on pairs of studies"
  "$medst" compare "$demo/corpora/ms-cxr-t" --model "$demo/run" --fit-calibration "$served/courses.json"
fi
# Patients whom the model has never seen (another seed), drawn larger than it reads, as a workstation exports them.
if [ ! -e "$served/patients" ]; then
  say "drawing example patients"
  "$medst" -q phantom "$served/patients" --subjects 12 --seed 77 --size 512 --layout folders
fi
examples=$served/examples
if [ ! -e "$examples" ]; then
  rm -rf "$examples.part" && mkdir -p "$examples.part"
  for patient in "$served"/patients/folders/*/; do
    dates=$(find "$patient" -name '*_frontal.txt' | wc -l)
    laterals=$(find "$patient" -name '*_lateral.*' | wc -l)
    # Several dates, of which some have a lateral view, and no more than fit side by side.
    if [ "$dates" -ge 2 ] && [ "$dates" -le 4 ] && [ "$laterals" -ge 1 ]; then cp -r "$patient" "$examples.part/"; fi
  done
  mv "$examples.part" "$examples"
fi

say "serving; Ctrl-C ends it"
cat <<MESSAGE
  page       the link in the line that begins with "open" (its first screen offers the example patients)
  to drop    $examples/*/   (all files of one folder: PNG, DICOM, reports)
             or your own: DICOM, or PNG and JPEG named like 2024-03-09_lateral.png
  programs   http://$address/reference
MESSAGE
exec "$medst" serve --model "demo=$demo/run" --index "corpus=$served/corpus-index" --calibration "$served/classes.json" \
  --courses "$served/courses.json" --examples "$examples" --bind "$address"
