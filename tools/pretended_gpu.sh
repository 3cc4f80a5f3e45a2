#!/usr/bin/env bash
# Builds a replacement for libtorch_cuda.so that computes on the host (crates/medst-cli/tests/gpu)
# into a folder. A program started with the folder in LD_LIBRARY_PATH takes the path that it takes
# on a GPU.
#
#   tools/pretended_gpu.sh FOLDER
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")/.."
libtorch=${LIBTORCH:-.libtorch}
mkdir -p "$out"
c++ -shared -fPIC -std=c++17 -O1 -w -D_GLIBCXX_USE_CXX11_ABI=1 -I "$libtorch/include" -I "$libtorch/include/torch/csrc/api/include" \
  crates/medst-cli/tests/gpu/pretended_cuda.cpp -o "$out/libtorch_cuda.so" -L "$libtorch/lib" -ltorch_cpu -lc10
