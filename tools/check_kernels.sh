#!/usr/bin/env bash
# Compiles the GPU kernels with NVIDIA's compiler for several generations of cards, which needs no card. Installs the compiler from PyPI (about 60 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv-kernels
if [ ! -e $venv/whole ]; then
  python3 -m venv $venv
  $venv/bin/pip install --quiet nvidia-cuda-nvrtc==13.0.88
  touch $venv/whole
fi
$venv/bin/python tools/check_kernels.py
