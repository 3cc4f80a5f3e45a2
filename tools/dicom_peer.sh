#!/usr/bin/env bash
# Reads every DICOM file of pydicom and pydicom-data (about 290), and of the folders in the
# arguments, with medst and with pydicom and compares the pixels: a table in target/dicom_peer.csv,
# status 1 if a difference has no reason. Installs pydicom and its decoders into .venv-dicom (PyPI,
# 170 MB); half a minute without that and without compiling.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/environment.sh dicom dicom_peer
# READ_GREYS: the compiled example, if it is in another place.
if [ -z "${READ_GREYS:-}" ]; then
  cargo build --quiet --release -p medst-data --example read_greys
  READ_GREYS=target/release/examples/read_greys
fi
mkdir -p target
fixtures=crates/medst-image/tests/fixtures
.venv-dicom/bin/python tools/dicom_peer.py "$READ_GREYS" target/dicom_peer.csv "$fixtures/dicom" "$fixtures/cases" "$@"
