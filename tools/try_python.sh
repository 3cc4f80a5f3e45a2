#!/usr/bin/env bash
# Follows the Python section of the README literally, block by block, in a fresh environment, as a
# new user would.
#
#   KEEP=1   leaves the environment (.venv-medst) and the files that the section made (try/), for
#            tools/test_python.sh
#
# Shell blocks run in one shell each, Python blocks with the environment's interpreter, all in the
# checkout, as a reader would.
set -euo pipefail
cd "$(dirname "$0")/.."
unset LIBTORCH LD_LIBRARY_PATH PYTHONPATH PYTHONHOME VIRTUAL_ENV
rm -rf .venv-medst try
work=$(mktemp -d)
cleanup() { rm -rf "$work"; [ "${KEEP:-}" = 1 ] || rm -rf .venv-medst try; }
trap cleanup EXIT

# Fenced blocks between "## Python" and the next section, one file each.
awk -v out="$work/" '
  /^## /            { here = ($0 == "## Python") }
  here && /^```/    { if (open) { open = 0; close(file) } else { open = 1; file = sprintf("%s%02d.%s", out, ++n, substr($0, 4)); printf "" > file } next }
  here && open      { print > file }
' README.md
ls "$work" | grep -q . || { echo "try: the README has no blocks under \"## Python\"" >&2; exit 1; }

for block in "$work"/*; do
  printf '\n== %s\n' "$(basename "$block")"
  case $block in
    *.sh) sed 's/^/$ /' "$block"; bash -euo pipefail "$block" ;;
    *.py | *.python) sed 's/^/>>> /' "$block"; .venv-medst/bin/python "$block" ;;
    *) cat "$block" ;;
  esac
done
printf '\ntry: %s blocks of the README did what they say\n' "$(ls "$work" | wc -l)"
