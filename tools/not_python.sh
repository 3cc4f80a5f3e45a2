#!/usr/bin/env bash
# Runs a test program, unless it is the Python package's library, which `cargo test --lib` runs as a
# test although only Python can load it.
case $1 in */_medst-*) exit 0 ;; esac
exec "$@"
