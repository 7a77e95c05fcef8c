#!/usr/bin/env bash
# Runs the WASI test programs of other projects in strongroom and writes docs/conformance.md, which
# says where the programs come from. Downloads and builds none of them.
#
#   WASI_TESTSUITE=DIR WASMTIME_PROGRAMS=DIR conformance.sh TARGET_DIR
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly target=${1:?usage: scripts/conformance.sh TARGET_DIR}

# Prints the absolute path in a variable.
folder() {
  local path=${!1:-}
  if [ -z "$path" ] || [ ! -d "$path" ]; then
    echo "conformance: $1 is not a directory: see docs/conformance.md" >&2
    exit 69
  fi
  (cd "$path" && pwd)
}

WASI_TESTSUITE=$(folder WASI_TESTSUITE)
WASMTIME_PROGRAMS=$(folder WASMTIME_PROGRAMS)
export WASI_TESTSUITE WASMTIME_PROGRAMS
exec "${CARGO:-cargo}" run --quiet --locked --manifest-path tests/conformance/Cargo.toml \
  --target-dir "$target/conformance" -- \
  "$target/debug/strongroom" tests/conformance/expectations.toml docs/conformance.md
