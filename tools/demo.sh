#!/usr/bin/env bash
# The whole workflow on synthetic patients: draw them, prepare a corpus, continue training from the shipped model, and evaluate
# on patients unseen in training: an untrained model, the shipped one, and the one that was just trained.
#
#   tools/demo.sh                   DEMO=DIR uses another folder than `demo`
#   tools/demo.sh --from-scratch    trains a smaller model from random weights instead (configs/from-scratch.toml)
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst}
demo=${DEMO:-demo}
say() { printf '\n== %s\n' "$*"; }
start=$(date +%s)

if [ -e "$demo" ]; then
  echo "$demo already exists; remove it with \`make clean-demo\`, or use another folder with DEMO=DIR" >&2
  exit 2
fi
config=configs/phantom.toml side=72 first=(--set init.weights=phantom --set train.max_steps=120 --set optimizer.lr=2e-4)
if [ "${1:-}" = --from-scratch ]; then
  config=configs/from-scratch.toml side=128 first=()
fi
untrained=(--set train.max_steps=1 --set optimizer.lr=1e-12 --set optimizer.min_lr=0.0)

say "1/6 drawing 400 patients"
"$medst" phantom "$demo/cohort" --subjects 400 --seed 4000001 --size 160 --sheet "$demo/cohort.png"
say "2/6 preparing the corpus"
"$medst" prepare table "$demo/cohort/studies.csv" --out "$demo/corpus" --image-size "$side"
say "3/6 pre-training briefly on these patients"
"$medst" pretrain "$config" --set data.corpus="$demo/corpus" --set train.output="$demo/run" --set train.log_every=20 "${first[@]}"
# A baseline: random weights, which one step with a negligible learning rate leaves practically unchanged.
"$medst" -q pretrain "$config" --set data.corpus="$demo/corpus" --set train.output="$demo/untrained" "${untrained[@]}" >/dev/null
say "4/6 drawing 300 other patients in the layouts of the benchmarks, and preparing them"
"$medst" phantom "$demo/benchmarks" --subjects 300 --seed 4000002 --size 160 --layout table,mimic-cxr-jpg,ms-cxr-t
"$medst" -q prepare table "$demo/benchmarks/table/studies.csv" --out "$demo/corpora/patients" --image-size "$side"
"$medst" -q prepare ms-cxr-t "$demo/benchmarks/ms-cxr-t" --images "$demo/benchmarks/mimic-cxr-jpg" \
  --out "$demo/corpora/ms-cxr-t" --image-size "$side"
say "5/6 evaluating on them"
models=("untrained=$demo/untrained" "trained=$demo/run")
[ "$config" = configs/phantom.toml ] && models=("untrained=$demo/untrained" "shipped=phantom" "trained=$demo/run")
for model in "${models[@]}"; do
  "$medst" -q eval zero-shot grounding retrieval sequence-order progression temporal-sentence --model "${model#*=}" --split all \
    --corpus "$demo/corpora/patients" --corpus "$demo/corpora/ms-cxr-t" --out "$demo/report-${model%%=*}" --replicates 200
done
# Cards of the model and of its data.
"$medst" card "$demo/run" --evaluation "$demo/report-trained/results.json" --out "$demo/model-card.md"
"$medst" card "$demo/corpus" --out "$demo/data-card.md"
say "6/6 the run"
"$medst" inspect "$demo/run"
printf '\n'
python3 tools/demo_table.py "$demo"
cat <<MESSAGE

Done in $(($(date +%s) - start)) s. What is where:
  $demo/cohort.png            what the synthetic radiographs look like
  $demo/cohort                radiographs, reports, and the truth about them (truth.csv)
  $demo/corpus                the corpus that training reads
  $demo/run                   the trained model (best, last), metrics.jsonl, TensorBoard events
  $demo/corpora               the patients of the evaluation
  $demo/report-trained        the evaluation as a page (report.html), with report.md and results.json
  $demo/model-card.md         the model, its training data and its scores; data-card.md describes the corpus

Next: your own radiographs. Write a table with subject_id, view, image, report and what else you know (docs/data.md), then
  $medst prepare table TABLE.csv --out CORPUS
  $medst pretrain configs/pretrain.toml --set data.corpus=CORPUS
MESSAGE
