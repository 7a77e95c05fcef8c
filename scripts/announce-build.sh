#!/usr/bin/env bash
# Says what is about to be compiled and how long that takes, unless the program was built before.
set -euo pipefail
target=$1
[ -x "$target/debug/strongroom" ] && exit 0
cat >&2 <<'MESSAGE'
Building strongroom and its WebAssembly engine (wasmtime): about 6 minutes on two idle cores, and
longer on busy ones. This happens once; later builds take seconds.
MESSAGE
