#!/usr/bin/env bash
# Links `.libtorch` (at the root of the checkout) to the libtorch that the bindings need.
#
#   LIBTORCH=DIR   use this libtorch (a folder with include/ and lib/) of the pinned version
#   CUDA=1         install the build for NVIDIA GPUs; by default it is installed if a GPU is found
#   CUDA=0         never install it
#
# Without LIBTORCH, it uses the torch of python3 if that has the pinned version. Otherwise it
# installs torch into a private environment `.venv` (1.3 GB for a CPU); nothing outside the checkout
# is changed.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(cat tools/libtorch.version)

fail() { echo "bootstrap: $*" >&2; exit 1; }

# The version of the libtorch in a folder, without a suffix such as +cu130; nothing if the folder
# has none.
version_of() {
  [ -e "$1/lib/libtorch_cpu.so" ] && [ -d "$1/include/torch" ] || return 0
  if [ -f "$1/version.py" ]; then
    sed -n "s/^__version__ = '\([^'+]*\).*/\1/p" "$1/version.py"
  elif [ -f "$1/build-version" ]; then
    sed 's/+.*//' "$1/build-version"
  fi
}

link() {
  ln -sfn "$1" .libtorch
  echo "libtorch $version: $1" >&2
}

if [ -n "${LIBTORCH:-}" ] && [ "$(readlink -f "$LIBTORCH")" != "$(readlink -f .libtorch 2>/dev/null || true)" ]; then
  found=$(version_of "$LIBTORCH")
  [ "$found" = "$version" ] || fail "LIBTORCH=$LIBTORCH holds version '${found:-none}'; $version is needed"
  link "$(readlink -f "$LIBTORCH")"
  exit 0
fi
# Already installed. `.venv/whole` exists only after a complete installation and names the build:
# CUDA=1 is not satisfied by the build for a CPU.
if [ "$(version_of .libtorch)" = "$version" ]; then
  case "$(readlink .libtorch)" in
    .venv/*) [ -e .venv/whole ] && { [ "${CUDA:-}" != 1 ] || [ "$(cat .venv/whole)" = 1 ]; } && exit 0 ;;
    *) [ "${CUDA:-}" != 1 ] || [ -e .libtorch/lib/libtorch_cuda.so ] && exit 0 ;;
  esac
fi

command -v python3 >/dev/null || fail "python3 is missing; on Debian: apt-get install python3 python3-pip python3-venv"
installed=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null || true)
if [ -n "$installed" ] && [ "$(version_of "$installed")" = "$version" ] &&
  { [ "${CUDA:-}" != 1 ] || [ -e "$installed/lib/libtorch_cuda.so" ]; }; then
  link "$installed"
  exit 0
fi

cuda=${CUDA:-}
if [ -z "$cuda" ]; then
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then cuda=1; else cuda=0; fi
fi
# MiB that the installation needs at its peak: the unpacked files, and the wheels during unpacking.
if [ "$cuda" = 1 ]; then needed=10000; else needed=2500; fi
free=$(df -Pm . | awk 'NR == 2 { print $4 }')
[ "$free" -ge "$needed" ] || fail "$needed MiB of disk are needed here, $free are free; LIBTORCH=DIR uses a libtorch elsewhere"
echo "installing libtorch $version into .venv (CUDA=$cuda) …" >&2
rm -rf .venv
if python3 -m venv .venv >/dev/null 2>&1; then
  pip=(.venv/bin/python -m pip install)
else
  # Debian's python3 has no venv unless python3-venv is installed; pip alone is enough.
  rm -rf .venv
  mkdir .venv
  python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing; on Debian: apt-get install python3-pip"
  pip=(python3 -m pip install --target .venv/packages)
fi
if [ "$cuda" = 1 ]; then
  packages=(--requirement tools/libtorch.txt)
else
  # Only these three packages are needed; libtorch loads the last two without a GPU as well.
  awk '/^[a-z]/ { wanted = /^(torch|nvidia-cuda-runtime|nvidia-cuda-cupti)==/ } wanted' tools/libtorch.txt >.venv/cpu.txt
  packages=(--no-deps --requirement .venv/cpu.txt)
fi
"${pip[@]}" --quiet --disable-pip-version-check --require-hashes "${packages[@]}" ||
  fail "pip could not install torch $version (above: why); it needs 64-bit Linux and Python 3.10 or newer"
torch=$(find .venv -type d -path '*/torch/lib' -prune | head -n 1)
torch=${torch%/lib}
[ "$(version_of "${torch:-none}")" = "$version" ] || fail "the installation holds no libtorch $version"
echo "$cuda" >.venv/whole
link "$torch"
