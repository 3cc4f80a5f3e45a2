#!/usr/bin/env bash
# Builds a pretended GPU into a folder: libraries that take the place of libtorch_cuda.so, CUDA's driver and its compiler, and compute on the host
# (crates/medst-cli/tests/gpu). A program that is started with the folder in LD_LIBRARY_PATH takes the way that it takes on a GPU.
#
#   tools/pretended_gpu.sh FOLDER
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")/.."
libtorch=${LIBTORCH:-.libtorch}
sources=crates/medst-cli/tests/gpu
mkdir -p "$out"
c++ -shared -fPIC -std=c++17 -O1 -w -D_GLIBCXX_USE_CXX11_ABI=1 -I "$libtorch/include" -I "$libtorch/include/torch/csrc/api/include" \
  "$sources/pretended_cuda.cpp" -o "$out/libtorch_cuda.so" -L "$libtorch/lib" -ltorch_cpu -lc10
# One source for every width and type: without C names, which may be there once only.
sed 's/extern "C" __global__ void/inline __global__ void/' crates/medst/ops/gpu/kernels.cu >"$out/kernels_for_the_host.inc"
c++ -shared -fPIC -std=c++17 -O2 -w -fsanitize=alignment -fsanitize-undefined-trap-on-error -I "$out" "$sources/pretended_driver.cpp" -o "$out/libcuda.so.1" -ldl
ln -sf libcuda.so.1 "$out/libnvrtc.so.13"
