#!/usr/bin/env bash
# Builds the fuzzers with the stable compiler and runs each for the given time: scripts/fuzz.sh
# SECONDS [TARGET]...
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-20}
shift || true
target_dir=${FUZZ_TARGET_DIR:-target}
targets=("$@")
# The flags that libFuzzer needs. With --target they do not apply to build scripts and macros, which
# stay uninstrumented.
flags=(--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1)
triple=$(rustc -vV | sed -n 's/^host: //p')
[ ${#targets[@]} -gt 0 ] || targets=(policy redactor audit-bytes audit-edits vault component record errors)
RUSTFLAGS="${flags[*]}" "${CARGO:-cargo}" build --locked --target "$triple" --target-dir "$target_dir" --package strongroom-fuzz --bins
# `errors` runs components. Only strongroom's own crates are instrumented in it, because the engine
# takes too long to build and to run with instrumentation.
if [[ " ${targets[*]} " == *" errors "* ]]; then
    RUSTFLAGS="" RUSTC_WRAPPER="$PWD/instrument.sh" INSTRUMENTATION="${flags[*]}" "${CARGO:-cargo}" build --locked \
        --target "$triple" --target-dir "$target_dir" --package strongroom-fuzz-errors
fi
# The targets write files for each input; keep them in memory if the system has /dev/shm.
memory=/dev/shm
[ -w "$memory" ] || memory=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d -p "$memory")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
for name in "${targets[@]}"; do
    # libFuzzer writes new inputs to the first directory and leaves the seeds unchanged.
    mkdir -p "$target_dir/corpus/$name" "$target_dir/findings" "seeds/$name"
    # A component must not cause a large allocation of the host.
    malloc_limit=2048
    [ "$name" != errors ] || malloc_limit=128
    echo "fuzzing $name for $seconds s"
    "$target_dir/$triple/debug/$name" "$target_dir/corpus/$name" "seeds/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb="$malloc_limit" \
        -artifact_prefix="$target_dir/findings/$name-" -print_final_stats=1 2>"$target_dir/$name.log" || {
        tail -40 "$target_dir/$name.log" >&2
        echo "the fuzzer $name found a failure: the input is in $target_dir/findings; docs/fuzzing.md explains what to do with it" >&2
        exit 1
    }
    grep -E 'number_of_executed_units' "$target_dir/$name.log"
done
