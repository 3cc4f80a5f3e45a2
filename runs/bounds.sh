#!/usr/bin/env bash
# How well the tasks of the plain phantom can be solved: by supervised training, and by a reader who knows the truth. docs/phantom.md has the
# results.
#
#   runs/bounds.sh OUT    about 40 minutes of one core; existing results are kept, a stopped run continues
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst}
out=${1:?usage: runs/bounds.sh OUT}
mkdir -p "$out"

cohort() { # NAME SUBJECTS SEED
  [ -e "$out/$1-corpus/corpus.json" ] && return
  rm -rf "${out:?}/$1" "$out/$1-corpus"
  "$medst" -q phantom "$out/$1" --subjects "$2" --seed "$3" --size 160
  "$medst" -q prepare table "$out/$1/studies.csv" --out "$out/$1-corpus" --image-size 72
}
# Supervised on seven of ten patients that no other run trains on, judged on their test split.
supervised() { # TASK SUFFIX
  local findings=(consolidation edema pleural_effusion pneumonia pneumothorax atelectasis cardiomegaly)
  local labels=("${findings[@]/%/$2}") resume=()
  [ -e "$out/$1.json" ] && return
  [ -e "$out/$1/finetune.toml" ] && resume=(--resume)
  "$medst" --json finetune configs/finetune.toml "${resume[@]}" --set data.corpus="$out/train-corpus" --set train.output="$out/$1" \
    --set data.task="$1" --set data.labels="[$(printf '"%s",' "${labels[@]}")]" --set train.epochs=6 > "$out/$1.json.new"
  mv "$out/$1.json.new" "$out/$1.json"
}
cohort train 4000 900011
cohort test 300 4000002    # the patients that `medst demo` evaluates on
python3 tools/phantom_bounds.py "$out/test" "$out/train" | tee "$out/reader.txt"
supervised change _progression
supervised findings ""
cat "$out/change.json" "$out/findings.json"
