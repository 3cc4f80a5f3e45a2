#!/usr/bin/env bash
# The tests and examples of the Python package, against its wheel, in the environment that
# tools/try_python.sh left or a fresh one.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}   # as `make test`
unset LD_LIBRARY_PATH PYTHONPATH PYTHONHOME VIRTUAL_ENV
wheel=$(ls dist/medst-*.whl) || { echo "test: no wheel; \`make wheel\` builds it" >&2; exit 1; }
python=.venv-medst/bin/python
[ -x "$python" ] || python3 -m venv .venv-medst
$python -m pip install --quiet --disable-pip-version-check --require-hashes -r python/requirements-test.txt
$python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
# Not `python -m pytest`, which would find the package's sources first.
cd python
../.venv-medst/bin/pytest -q -p no:cacheprovider tests "$@"
