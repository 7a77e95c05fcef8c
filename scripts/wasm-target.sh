#!/usr/bin/env bash
# Makes `cargo build --target wasm32-wasip2` work for this repository's Rust toolchain. Says nothing where there is nothing to do.
#
# Two ways, in this order:
#   rustup   `rustup target add`, which needs rustup's server.
#   Debian   Builds the target's standard library from Debian's `rust-src` of exactly the compiler's version and its
#            `wasi-libc`, and installs it where rustup would have. Needs only the package mirror that this machine uses
#            already, takes about a minute, and changes nothing else on the machine: the packages are unpacked, not installed.
#            rustup does not know of this library: before a later `rustup target add`, remove the folder it names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." # the toolchain is the one that rust-toolchain.toml names

readonly target=wasm32-wasip2
# Where Debian keeps Rust versions newer than those of its stable release.
readonly suite=trixie-backports
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "wasm-target: $*" >&2; }
fail() { say "$@"; exit 1; }

# Runs a command quietly. When it fails, shows what it said and gives up with the reason in $1.
attempt() {
  local reason=$1 log
  shift
  log=$("$@" 2>&1) || { printf '%s\n' "$log" | tail -n 20 >&2; fail "$reason"; }
}

installed() { compgen -G "$libdir/libstd-*.rlib" >/dev/null; }

# apt-get and apt-cache over one suite alone, with all of apt's state in the scratch folder: no root rights, no lasting change.
apt() {
  local tool=$1
  shift
  "$tool" -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$scratch/sources" \
    -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}

# Unpacks `rust-src` of this compiler's version and `wasi-libc` below $scratch/root.
unpack_sources() {
  local mirror package deb
  mirror=$(apt-get indextargets --format '$(SITE) $(LABEL)' | awk '$2 == "Debian" { print $1; exit }')
  [ -n "$mirror" ] || fail "apt knows no Debian mirror here; $by_hand"
  [ -r "$keyring" ] || fail "$keyring is missing: install debian-archive-keyring, then run this again"

  mkdir -p "$scratch"/{sources,lists/partial,cache/archives/partial,packages,root}
  cat >"$scratch/sources/rust.sources" <<EOF
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: $keyring
EOF
  attempt "cannot read Debian's $suite from this machine's mirror; $by_hand" apt apt-get update
  package=$(apt apt-cache madison rust-src | awk -v version="$version+" 'index($3, version) == 1 { print $3; exit }')
  [ -n "$package" ] || fail "Debian's $suite has no rust-src $version; $by_hand"
  cd "$scratch/packages"
  attempt "cannot download rust-src and wasi-libc; $by_hand" apt apt-get download "rust-src=$package" wasi-libc
  for deb in *.deb; do dpkg -x "$deb" "$scratch/root"; done
  cd - >/dev/null
}

# Compiles the standard library, as a dependency of an empty program, into $scratch/target.
build_library() {
  local sources="$scratch/root/usr/src/rustc-$version/library"
  [ -d "$sources" ] || fail "rust-src does not hold ${sources#"$scratch/root"}; $by_hand"
  mkdir -p "$scratch/empty/src"
  echo 'fn main() {}' >"$scratch/empty/src/main.rs"
  printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n' >"$scratch/empty/Cargo.toml"
  cd "$scratch/empty"
  # -Zbuild-std asks for a nightly compiler, or for a stable one that is told to act as one. The bitcode is for guests that
  # are built with link-time optimisation. Compiler and cargo come from the sysroot itself, because the scratch folder is
  # outside this repository and its rust-toolchain.toml.
  attempt "cannot build the standard library; $by_hand" env -u RUSTC_WRAPPER -u RUSTC_WORKSPACE_WRAPPER \
    -u CARGO_ENCODED_RUSTFLAGS PATH="$sysroot/bin:$PATH" RUSTC="$sysroot/bin/rustc" RUSTC_BOOTSTRAP=1 \
    __CARGO_TESTS_ONLY_SRC_ROOT="$sources" CARGO_TARGET_DIR="$scratch/target" \
    RUSTFLAGS="-Cembed-bitcode=yes -L $libc -C link-self-contained=no -C link-arg=$libc/crt1-command.o" \
    "$sysroot/bin/cargo" build --release --target "$target" -Zbuild-std=std,panic_abort
  cd - >/dev/null
}

# Puts the library in place. libstd comes last: `installed` looks for it, so an interrupted copy is done again.
install_library() {
  local built="$scratch/target/$target/release/deps"
  mkdir -p "$libdir/self-contained"
  cp "$libc"/{crt1-command.o,crt1-reactor.o,libc.a} "$libdir/self-contained/"
  find "$built" -name '*.rlib' ! -name 'libstd-*' -exec cp -t "$libdir" {} +
  cp "$built"/libstd-*.rlib "$libdir/"
}

command -v rustc >/dev/null || fail "no rustc here: install Rust (see rust-toolchain.toml for the version), then run this again"
libdir=$(rustc --print target-libdir --target "$target") || fail "this rustc does not know $target: install the Rust version that rust-toolchain.toml names"
installed && exit 0
if rustup target add "$target" >/dev/null 2>&1 && installed; then exit 0; fi

version=$(rustc --version | cut -d' ' -f2)
sysroot=$(rustc --print sysroot)
readonly by_hand="run \`rustup target add $target\` where rustup's server can be reached"
for tool in apt-get apt-cache dpkg; do
  command -v "$tool" >/dev/null || fail "rustup could not add $target, and there is no $tool here to build it from Debian's packages; $by_hand"
done
mkdir -p "$libdir" 2>/dev/null && [ -w "$libdir" ] || fail "cannot write $libdir: run this as the owner of the Rust toolchain"

say "rustup cannot fetch $target here; building its standard library from Debian's rust-src $version (about a minute, once)"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
libc="$scratch/root/usr/lib/$target"
unpack_sources
build_library
install_library
installed || fail "the build left no standard library in $libdir; $by_hand"
say "$target is ready for Rust $version, in ${libdir%/lib}"
