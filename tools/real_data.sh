#!/usr/bin/env bash
# The main workflow on real radiographs: table -> corpus -> pre-training (tiny) -> embeddings ->
# results.
#
#   tools/real_data.sh [TABLE] [OUT]
#
# TABLE is by default the open collection `open-cxr` (93 radiographs with notes, CC BY and CC
# BY-NC-SA, after Cohen, Morrison and Dao, arXiv 2003.11597), expected in ../shared/data. It is far
# too small for learning anything general: the loss falls because the model memorises these 93
# pictures.
set -euo pipefail
cd "$(dirname "$0")/.."
medst=${MEDST:-target/release/medst}
table=${1:-../shared/data/open-cxr/studies.csv}
out=${2:-runs/real-data}
[ -f "$table" ] || { echo "$table does not exist; pass the path of a table: tools/real_data.sh TABLE" >&2; exit 2; }
mkdir -p "$out"
"$medst" prepare table "$table" --out "$out/corpus" --image-size 128 --overwrite
"$medst" pretrain configs/tiny.toml --set data.corpus="$out/corpus" --set train.output="$out/run" \
  --set train.max_steps=150 --set train.epochs=150 --set train.validate_every=50 --set train.sequences_per_batch=12
"$medst" embed "$out/corpus" --model "$out/run" --out "$out/embeddings.parquet"
"$medst" inspect "$out/corpus"
"$medst" inspect "$out/run"
