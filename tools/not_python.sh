#!/usr/bin/env bash
# Runs a test program, unless it is the Python package's library: `cargo test --lib` takes that for one, but it only loads into Python.
case $1 in */_medst-*) exit 0 ;; esac
exec "$@"
