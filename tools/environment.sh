#!/usr/bin/env bash
# Makes .venv-NAME, with the Python packages that tools/LIST.txt pins (PyPI), unless it already
# exists.
#   tools/environment.sh NAME LIST
set -euo pipefail
cd "$(dirname "$0")/.."
environment=.venv-$1 list=tools/$2.txt
cmp -s "$list" "$environment/installed" && exit 0
rm -rf "$environment"
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$list"
cp "$list" "$environment/installed"
