#!/usr/bin/env bash
# Writes the lists of Python packages that are installed with --require-hashes (*.txt), from the
# lists of required packages (*.in).
set -euo pipefail
cd "$(dirname "$0")/.."
python3 -m venv .venv-lock
.venv-lock/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
lock() { # PYTHON LIST
  .venv-lock/bin/uv pip compile --quiet --universal --python-version "$1" --generate-hashes --no-annotate \
    --custom-compile-command tools/lock.sh "$2.in" --output-file "$2.txt"
}
sed 's/^/torch==/' tools/libtorch.version >tools/libtorch.in
lock 3.10 tools/libtorch
rm tools/libtorch.in
lock 3.11 tools/deny
lock 3.11 tools/s3_server
lock 3.11 tools/dicom_peer
lock 3.11 tools/mlflow_check
lock 3.11 tools/onnx_check
lock 3.10 python/requirements-build
lock 3.11 python/requirements-test
lock 3.11 benches/peer/requirements
rm -rf .venv-lock
