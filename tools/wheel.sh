#!/usr/bin/env bash
# Builds the wheel of the Python package into dist/: one for every CPython from 3.10 on (stable
# ABI), for the torch of tools/libtorch.version.
#
# Nothing is bundled: libtorch comes with the package torch, on which the wheel depends. Its tag is
# that of the machine (linux_x86_64), because it needs the C library that it was built on.
set -euo pipefail
cd "$(dirname "$0")/.."

pinned="torch==$(cat tools/libtorch.version)"
grep -q "\"$pinned\"" python/pyproject.toml || { echo "wheel: python/pyproject.toml does not ask for $pinned" >&2; exit 1; }

build=.venv-wheel
if [ ! -e "$build/whole" ]; then
  rm -rf "$build"
  python3 -m venv "$build" || { echo "wheel: python3 cannot make an environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
  "$build/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r python/requirements-build.txt
  touch "$build/whole"
fi
rm -f dist/medst-*.whl
# With ALL=1 it has the features that `make test` gives everything, so that nothing is compiled
# again; it then needs MPI where it is used.
"$build/bin/maturin" build --release --features "complete${ALL:+,medst-cli/alike,medst-cli/nccl}" --manifest-path python/Cargo.toml --auditwheel skip --out dist
echo "wheel: $(ls dist/medst-*.whl)"
