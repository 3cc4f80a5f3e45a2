#!/usr/bin/env bash
# Installs the S3 server of the tests into .venv-s3 (30 packages, 140 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv-s3/installed
cmp -s tools/s3_server.txt "$stamp" && exit 0
rm -rf .venv-s3
python3 -m venv .venv-s3
.venv-s3/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement tools/s3_server.txt
cp tools/s3_server.txt "$stamp"
