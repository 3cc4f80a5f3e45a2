#!/usr/bin/env bash
# Exports models to ONNX, runs ONNX's checker on the graphs, and compares the results of ONNX
# Runtime and OpenVINO with medst's (tools/onnx_check.py). Installs them into .venv-onnx (PyPI, 590
# MB installed); two minutes without that.
#   tools/onnx_check.sh            MEDST: the program, by default target/release/medst
#   tools/onnx_check.sh int8       measures the loss of 8 bits on synthetic patients instead
#                                  (docs/onnx.md)
set -euo pipefail
cd "$(dirname "$0")/.."
tools/environment.sh onnx onnx_check
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
script=tools/onnx_check.py
if [ "${1:-}" = int8 ]; then script=tools/onnx_int8.py; fi
.venv-onnx/bin/python "$script" "${MEDST:-target/release/medst}" "$folder"
