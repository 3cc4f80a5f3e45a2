#!/usr/bin/env bash
# The whole path on a synthetic cohort: patients, corpus, pre-training, embeddings, and an evaluation on the benchmarks' layouts.
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst}
demo=${DEMO:-demo}
say() { printf '\n== %s\n' "$*"; }
start=$(date +%s)

if [ -e "$demo" ]; then
  echo "$demo is left from an earlier demo; \`make clean-demo\` removes it, DEMO=DIR uses another folder" >&2
  exit 2
fi
say "1/7 drawing 1200 patients"
"$medst" phantom "$demo/cohort" --subjects 1200 --size 160 --sheet "$demo/cohort.png"
say "2/7 preparing the corpus"
"$medst" prepare table "$demo/cohort/studies.csv" --out "$demo/corpus" --image-size 128
# As docs/evidence.md found best: encoders that know frontal images and reports first, then all of Med-ST on top of them, with mild temporal losses.
say "3/7 pre-training a tiny model: first the contrast of frontal images and reports alone …"
"$medst" pretrain configs/demo.toml --set data.corpus="$demo/corpus" --set train.output="$demo/base" --set train.epochs=22 \
  --set loss.local_weight=0 --set loss.temporal_weight=0 --set model.lateral=ignored --set train.log_every=100 --set train.validate_every=253
say "3/7 … then, from its encoders, Med-ST: both views, words and patches, time"
"$medst" pretrain configs/demo.toml --set data.corpus="$demo/corpus" --set train.output="$demo/run" \
  --set init.weights="$demo/base/last/model.safetensors" --set init.take=encoders
say "4/7 embedding the test patients"
"$medst" embed "$demo/corpus" --model "$demo/run" --split test --out "$demo/embeddings.parquet"
say "5/7 drawing 300 other patients as the benchmarks lie, and preparing those"
"$medst" phantom "$demo/benchmarks" --subjects 300 --seed 1 --size 160 --layout mimic-cxr-jpg,ms-cxr-t,rsna,covidx
"$medst" -q prepare ms-cxr-t "$demo/benchmarks/ms-cxr-t" --images "$demo/benchmarks/mimic-cxr-jpg" \
  --out "$demo/corpora/ms-cxr-t" --image-size 128
"$medst" -q prepare rsna "$demo/benchmarks/rsna" --out "$demo/corpora/rsna" --image-size 128
"$medst" -q prepare covidx "$demo/benchmarks/covidx" --out "$demo/corpora/covidx" --image-size 128
say "6/7 evaluating"
"$medst" eval all --model "$demo/run" --corpus "$demo/corpus" --corpus "$demo/corpora/ms-cxr-t" \
  --corpus "$demo/corpora/rsna" --corpus "$demo/corpora/covidx" --out "$demo/report"
# What the model and its data are, as documents.
"$medst" card "$demo/run" --evaluation "$demo/report/results.json" --out "$demo/model-card.md"
"$medst" card "$demo/corpus" --out "$demo/data-card.md"
say "7/7 the run"
"$medst" inspect "$demo/run"
cat <<EOF

Done in $(($(date +%s) - start)) s. What is where:
  $demo/cohort.png          what the synthetic radiographs look like
  $demo/cohort              radiographs, reports, and the truth about them (truth.csv)
  $demo/corpus              the corpus that training reads
  $demo/run                 the model (best, last), metrics.jsonl, TensorBoard events; base: what it started from
  $demo/embeddings.parquet  image and report embeddings of the test patients
  $demo/corpora             the benchmark corpora
  $demo/report/report.html  the evaluation as a page (report.md, results.json beside it)
  $demo/model-card.md       what the model is, was trained on, and scores; data-card.md: the same of the corpus

Next: your own radiographs. Write a table with subject_id, view, image, report and what else you know (docs/data.md), then
  $medst prepare table TABLE.csv --out CORPUS
  $medst pretrain configs/pretrain.toml --set data.corpus=CORPUS
EOF
