#!/usr/bin/env bash
# Trains the shipped model, `--model phantom`, and evaluates it on patients on which no choice was
# based.
#
#   runs/phantom_model.sh OUT [NAME]    about two hours of one core; existing results are kept, a
#                                       stopped run continues
#
# The result is OUT/phantom (weights in 16 bits, card, configuration, log, figures). With NAME it is
# also copied to models/NAME. Seeds of cohorts below 1,000,000 are for training; evaluations use
# others.
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst}
out=${1:?usage: runs/phantom_model.sh OUT [NAME]}
mkdir -p "$out"
say() { printf '\n== %s\n' "$*"; }

# The result does not depend on the number of threads.
cohort() { # NAME SUBJECTS SEED
  [ -e "$out/$1/studies.csv" ] && [ ! -e "$out/$1/unfinished" ] || { rm -rf "${out:?}/$1"; "$medst" -q phantom "$out/$1" --subjects "$2" --seed "$3" --size 160; }
  [ -e "$out/$1-corpus/corpus.json" ] || "$medst" -q prepare table "$out/$1/studies.csv" --out "$out/$1-corpus" --image-size 72
}
stage() { # NAME CORPUS STEPS KEY=VALUE …
  local run=$out/$1 corpus=$out/$2-corpus steps=$3
  shift 3
  [ -e "$run/done" ] && return
  local resume=()
  [ -e "$run/config.toml" ] && resume=(--resume)
  "$medst" pretrain configs/phantom.toml "${resume[@]}" --set data.corpus="$corpus" --set train.output="$run" \
    --set train.max_steps="$steps" "${@/#/--set=}"
  touch "$run/done"
}

say "drawing 16,000 patients"
cohort first 4000 5
cohort second 12000 6
say "stage 1 of 3: to see, by labels and boxes"
stage see first 1800 train.validate_every=600 loss.global_weight=0 loss.local_weight=0 loss.temporal_weight=0 loss.change_weight=0 \
  loss.phrases_weight=0 loss.courses_weight=0 data.statements=0 loss.boxes_weight=5 data.short_sequences=false
say "stage 2 of 3: to read, by the contrast of images and reports, words and patches"
stage read second 1000 train.validate_every=1000 init.weights="$out/see/best/model.safetensors" loss.temporal_weight=0.05 loss.change_weight=0.3 \
  loss.phrases_weight=1 loss.courses_weight=1 loss.boxes_weight=5 data.statements=0.4
say "stage 3 of 3: all of it, for longer"
stage all second 7000 train.validate_every=1000 init.weights="$out/read/last/model.safetensors" optimizer.warmup_fraction=0.02

say "the model"
if [ ! -e "$out/phantom/model.safetensors" ]; then
  "$medst" -q convert "$out/all" --out "$out/phantom" --half --overwrite --licence "MIT OR Apache-2.0"
fi
cp "$out/all/config.toml" "$out/phantom/config.toml"
# The log of the three stages: every validation, and every hundredth step.
for stage in see read all; do
  [ ! -e "$out/$stage/metrics.jsonl" ] || python3 tools/short_log.py "$stage" "$out/$stage/metrics.jsonl"
done > "$out/phantom/log.jsonl"

say "evaluating on patients on whom nothing was chosen"
test=$out/test
if [ ! -e "$test/done" ]; then
  rm -rf "$test"
  "$medst" -q phantom "$test/patients" --subjects 1000 --seed 3000011 --size 160
  "$medst" -q prepare table "$test/patients/studies.csv" --out "$test/cohort" --image-size 72
  # The classifiers of change are trained within the benchmark, so that it has to be larger: more
  # than 500 pairs for each finding.
  "$medst" -q phantom "$test/visits" --subjects 4000 --seed 3000012 --size 160 --layout mimic-cxr-jpg,ms-cxr-t
  "$medst" -q prepare ms-cxr-t "$test/visits/ms-cxr-t" --images "$test/visits/mimic-cxr-jpg" --out "$test/pairs" --image-size 72
  # Retrieval is easier among fewer studies.
  "$medst" -q phantom "$test/few-patients" --subjects 300 --seed 3000013 --size 160
  "$medst" -q prepare table "$test/few-patients/studies.csv" --out "$test/few" --image-size 72
  touch "$test/done"
fi
evaluate() { # OUT CORPUS TASK …
  local to=$1 corpus=$2
  shift 2
  [ -e "$to/results.json" ] || "$medst" -q eval "$@" --model "$out/phantom" --corpus "$corpus" --split all --no-pictures --out "$to"
}
evaluate "$out/figures-cohort" "$test/cohort" zero-shot grounding retrieval sequence-order
# The probe trains on the training patients of this cohort and is judged on its test patients.
[ -e "$out/figures-probe/results.json" ] ||
  "$medst" -q eval linear-probe --model "$out/phantom" --corpus "$test/cohort" --no-pictures --out "$out/figures-probe"
evaluate "$out/figures-pairs" "$test/pairs" temporal-image temporal-sentence progression
evaluate "$out/figures-few" "$test/few" retrieval
python3 tools/phantom_figures.py "$out" | tee "$out/phantom/figures.md"
"$medst" card "$out/phantom" --evaluation "$out/figures-cohort/results.json" --out "$out/phantom/README.md"
if [ -n "${2:-}" ]; then
  mkdir -p "models/$2"
  cp "$out"/phantom/* "models/$2/"
  say "models/$2 is new; build again to have it in the program"
fi
