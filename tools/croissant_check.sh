#!/usr/bin/env bash
# Checks the metadata of a corpus with mlcroissant, Croissant's reference implementation, and reads
# its studies and sequences through them. Installs it into .venv-croissant (PyPI, 300 MB). Without
# an argument it draws and prepares a small corpus.
#   tools/croissant_check.sh [CORPUS]          MEDST: the program, by default target/release/medst
set -euo pipefail
cd "$(dirname "$0")/.."
tools/environment.sh croissant croissant_check
medst=${MEDST:-target/release/medst}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
corpus=${1:-$folder/corpus}
if [ $# -eq 0 ]; then
  "$medst" --quiet phantom "$folder/cohort" --subjects 20 --size 96 --layout mimic-cxr-jpg,ms-cxr-t > /dev/null
  "$medst" --quiet prepare ms-cxr-t "$folder/cohort/ms-cxr-t" --images "$folder/cohort/mimic-cxr-jpg" --image-size 64 \
    --out "$corpus" > /dev/null
fi
# The metadata name files relative to their own folder, so they are written to a folder of links to
# those files.
mkdir "$folder/linked"
ln -s "$(realpath "$corpus")"/* "$folder/linked"
"$medst" card "$corpus" --format croissant --out "$folder/linked/croissant.json"
.venv-croissant/bin/python - "$folder/linked/croissant.json" <<'PYTHON'
import sys

import mlcroissant

dataset = mlcroissant.Dataset(sys.argv[1])
issues = dataset.metadata.ctx.issues
print(issues.report() or "no remarks")
if issues.errors:
    sys.exit(1)
for record_set in dataset.metadata.record_sets:
    rows = list(dataset.records(record_set.uuid))
    print(f"{record_set.uuid}: {len(rows)} rows of {len(record_set.fields)} fields")
    # A table without rows, such as skipped.csv of a clean corpus, is allowed; studies and sequences
    # must have rows.
    if record_set.uuid in ("studies", "sequences") and not rows:
        sys.exit(f"{record_set.uuid} has no rows")
PYTHON
