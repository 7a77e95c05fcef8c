#!/usr/bin/env bash
# Cargo calls this instead of the compiler (RUSTC_WRAPPER). It adds the flags in INSTRUMENTATION for
# the crates of strongroom, in builds for the target only.
set -euo pipefail
if [[ " $* " == *" --target "* && " $* " =~ " --crate-name "(strongroom|errors) ]]; then
    # Split into words: these are flags.
    # shellcheck disable=SC2086
    exec "$@" $INSTRUMENTATION
fi
exec "$@"
