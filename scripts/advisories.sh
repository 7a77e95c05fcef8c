#!/usr/bin/env bash
# Checks the dependencies in Cargo.lock against the RustSec advisory database.
#
# Uses `cargo deny` if it is installed, otherwise `cargo audit`. Ignored advisories and the reasons
# are in deny.toml.
#
# Exit codes: 0 no open advisory, 1 an advisory applies or no tool is installed, 2 the database could
# not be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

say() { echo "advisories: $*" >&2; }

if command -v cargo-deny >/dev/null; then
  check=(deny check advisories)
elif command -v cargo-audit >/dev/null; then
  check=(audit)
  while read -r id; do
    check+=(--ignore "$id")
  done < <(sed -n 's/.*id = "\(RUSTSEC-[0-9-]*\)".*/\1/p' deny.toml)
else
  say 'neither cargo-deny nor cargo-audit is installed'
  say 'help: run `cargo install --locked cargo-audit`'
  exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! "$cargo" "${check[@]}" 2>&1 | tee "$log"; then
  # Both tools exit with 1 in this case too, so the text has to tell.
  if grep -Eq "(failed to|couldn't) fetch advisory database" "$log"; then
    say 'could not fetch the RustSec advisory database: nothing was checked'
    say 'help: run this where https://github.com/RustSec/advisory-db can be reached'
    exit 2
  fi
  exit 1
fi
