#!/usr/bin/env bash
# Speed and memory against PyTorch, in turns within one run, as one table; target/bench/latest.json
# has the numbers.
#
#   ROUNDS=3 tools/bench.sh [EARLIER.json]   three rounds of each program; compares with an earlier
#                                            result where one is named
#   COMPILED=1 tools/bench.sh                also against torch.compile, which takes minutes
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-3}
peer=.venv-peer/bin/python
if [ ! -e .venv-peer/whole ]; then
  # Unlike libtorch, PyTorch's Python half loads the CUDA libraries even where it computes on a CPU.
  echo "installing the peer (PyTorch, timm, transformers; 5 GB) into .venv-peer …" >&2
  rm -rf .venv-peer
  python3 -m venv .venv-peer
  touch .venv-peer/whole
fi
$peer -m pip install --quiet --disable-pip-version-check --require-hashes -r benches/peer/requirements.txt
$peer benches/peer/pretrain_step.py --check crates/medst/tests/fixtures/reference >&2
$peer benches/peer/pretrain_step.py --check-best >&2
mkdir -p target/bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
env -u LIBTORCH cargo build --release --quiet --workspace --bins --examples
target/release/medst --quiet phantom "$work/cohort" --subjects 100 --size 256 >/dev/null
target/release/medst --quiet prepare table "$work/cohort/studies.csv" --out "$work/corpus" >/dev/null
for ((round = 1; round <= rounds; round++)); do
  echo "round $round of $rounds" >&2
  target/release/examples/bench_step steps=3 >>"$work/ours.jsonl"
  $peer benches/peer/pretrain_step.py --steps 3 >>"$work/peer.jsonl"
  target/release/examples/bench_step steps=5 >>"$work/ours.jsonl"
  $peer benches/peer/pretrain_step.py --best --steps 5 >>"$work/best.jsonl"
  if [ -n "${COMPILED:-}" ]; then
    $peer benches/peer/pretrain_step.py --best --compile --steps 5 >>"$work/compiled.jsonl"
  fi
done
target/release/examples/bench_loader "$work/corpus" >"$work/loader.json"

# From radiographs of 3056x2544 pixels to the corpus: one core, in turns, then all cores through the
# command.
for ((round = 1; round <= rounds; round++)); do
  target/release/examples/bench_jpeg "$work/radiograph.jpg" >>"$work/jpeg.jsonl"
  $peer benches/peer/read_images.py "$work/radiograph.jpg" >>"$work/peer_jpeg.jsonl"
done
# From radiographs and from prepared pictures to embeddings, in turns.
$peer benches/peer/embed_rate.py target/release/medst "$work/cohort" "$work/radiograph.jpg" "$rounds" >"$work/embed.json"
$peer benches/peer/prepare_rate.py target/release/medst "$work/radiograph.jpg" 1600 >"$work/prepare.json"
# Fine-tuning, in turns: the shipped model on one core, a model of full size on all.
for which in "small 72 300" "full 256 16"; do
  read -r name side subjects <<<"$which"
  target/release/medst --quiet phantom "$work/$name" --subjects "$subjects" --size "$side" --seed 5 >/dev/null
  target/release/medst --quiet prepare table "$work/$name/studies.csv" --out "$work/$name-corpus" --image-size "$side" >/dev/null
done
target/release/medst --quiet pretrain configs/pretrain.toml --set data.corpus="$work/full-corpus" --set train.max_steps=0 \
  --set train.output="$work/full-model" >/dev/null
tune() { $peer benches/peer/finetune.py target/release/medst "$@"; }
tune models/phantom "$work/small-corpus" --epochs 2 --seeds "$rounds" >"$work/finetune-small.json"
tune "$work/full-model/last" "$work/full-corpus" --epochs 1 --seeds 1 --batch 8 --threads "$(nproc)" >"$work/finetune-full.json"
target/release/examples/bench_metadata 400000 >"$work/metadata.json"
target/release/examples/bench_evaluation >"$work/evaluation.json"
$peer benches/peer/table.py "$work" target/bench/latest.json "${1:-}"
