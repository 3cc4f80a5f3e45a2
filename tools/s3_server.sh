#!/usr/bin/env bash
# Installs the S3 server of the tests into .venv-s3 (30 packages, 140 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
tools/environment.sh s3 s3_server
