#!/usr/bin/env bash
# Installs the target wasm32-wasip2 for this repository's Rust toolchain. Prints nothing if it is
# installed already.
#
# It tries two ways, in this order:
#   rustup   runs `rustup target add`, which needs rustup's server.
#   Debian   builds the target's standard library from Debian's `rust-src` of exactly the compiler's
#            version and from `wasi-libc`, and installs it where rustup would. This needs only the
#            package mirror that the machine already uses, takes about a minute, and changes nothing
#            else: the packages are unpacked, not installed. rustup does not know about this library;
#            before a later `rustup target add`, remove the directory that this script prints.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." # use the toolchain from rust-toolchain.toml

readonly target=wasm32-wasip2
# The Debian suite with newer Rust versions than the stable release.
readonly suite=trixie-backports
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "wasm-target: $*" >&2; }
fail() { say "$@"; exit 1; }

# Runs a command quietly. If it fails, prints its last output and exits with the reason in $1.
attempt() {
  local reason=$1 log
  shift
  log=$("$@" 2>&1) || { printf '%s\n' "$log" | tail -n 20 >&2; fail "$reason"; }
}

installed() { compgen -G "$libdir/libstd-*.rlib" >/dev/null; }

# Runs apt-get or apt-cache for one suite, with apt's state in the scratch directory: needs no root,
# changes nothing.
apt() {
  local tool=$1
  shift
  "$tool" -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$scratch/sources" \
    -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}

# Unpacks `rust-src` for this compiler's version and `wasi-libc` into $scratch/root.
unpack_sources() {
  local mirror package deb
  mirror=$(apt-get indextargets --format '$(SITE) $(LABEL)' | awk '$2 == "Debian" { print $1; exit }')
  [ -n "$mirror" ] || fail "apt has no Debian mirror configured; $by_hand"
  [ -r "$keyring" ] || fail "could not read $keyring: install debian-archive-keyring, then run this again"

  mkdir -p "$scratch"/{sources,lists/partial,cache/archives/partial,packages,root}
  cat >"$scratch/sources/rust.sources" <<EOF
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: $keyring
EOF
  attempt "could not read Debian's $suite from the mirror of this machine; $by_hand" apt apt-get update
  package=$(apt apt-cache madison rust-src | awk -v version="$version+" 'index($3, version) == 1 { print $3; exit }')
  [ -n "$package" ] || fail "Debian's $suite has no rust-src $version; $by_hand"
  cd "$scratch/packages"
  attempt "could not download rust-src and wasi-libc; $by_hand" apt apt-get download "rust-src=$package" wasi-libc
  for deb in *.deb; do dpkg -x "$deb" "$scratch/root"; done
  cd - >/dev/null
}

# Compiles the standard library into $scratch/target, as a dependency of an empty program.
build_library() {
  local sources="$scratch/root/usr/src/rustc-$version/library"
  [ -d "$sources" ] || fail "rust-src does not contain ${sources#"$scratch/root"}; $by_hand"
  mkdir -p "$scratch/empty/src"
  echo 'fn main() {}' >"$scratch/empty/src/main.rs"
  printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n' >"$scratch/empty/Cargo.toml"
  cd "$scratch/empty"
  # -Zbuild-std needs a nightly compiler, or RUSTC_BOOTSTRAP=1. Guests built with link-time
  # optimization need the bitcode. Compiler and cargo come from the sysroot, because
  # rust-toolchain.toml does not apply to the scratch directory.
  attempt "could not build the standard library; $by_hand" env -u RUSTC_WRAPPER -u RUSTC_WORKSPACE_WRAPPER \
    -u CARGO_ENCODED_RUSTFLAGS PATH="$sysroot/bin:$PATH" RUSTC="$sysroot/bin/rustc" RUSTC_BOOTSTRAP=1 \
    __CARGO_TESTS_ONLY_SRC_ROOT="$sources" CARGO_TARGET_DIR="$scratch/target" \
    RUSTFLAGS="-Cembed-bitcode=yes -L $libc -C link-self-contained=no -C link-arg=$libc/crt1-command.o" \
    "$sysroot/bin/cargo" build --release --target "$target" -Zbuild-std=std,panic_abort
  cd - >/dev/null
}

# Copies the library to its place. `installed` looks for libstd, so copy it last: an interrupted
# copy is then repeated.
install_library() {
  local built="$scratch/target/$target/release/deps"
  mkdir -p "$libdir/self-contained"
  cp "$libc"/{crt1-command.o,crt1-reactor.o,libc.a} "$libdir/self-contained/"
  find "$built" -name '*.rlib' ! -name 'libstd-*' -exec cp -t "$libdir" {} +
  cp "$built"/libstd-*.rlib "$libdir/"
}

command -v rustc >/dev/null || fail "could not find rustc: install Rust (rust-toolchain.toml has the version), then run this again"
libdir=$(rustc --print target-libdir --target "$target") || fail "this rustc does not support $target: install the Rust version in rust-toolchain.toml"
installed && exit 0
if rustup target add "$target" >/dev/null 2>&1 && installed; then exit 0; fi

version=$(rustc --version | cut -d' ' -f2)
sysroot=$(rustc --print sysroot)
readonly by_hand="run \`rustup target add $target\` on a machine that can reach rustup's server"
for tool in apt-get apt-cache dpkg; do
  command -v "$tool" >/dev/null || fail "rustup could not add $target, and $tool is missing to build it from Debian packages; $by_hand"
done
mkdir -p "$libdir" 2>/dev/null && [ -w "$libdir" ] || fail "could not write to $libdir: run this as the owner of the Rust toolchain"

say "rustup could not download $target; building its standard library from Debian's rust-src $version (once, about a minute)"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
libc="$scratch/root/usr/lib/$target"
unpack_sources
build_library
install_library
installed || fail "the build created no standard library in $libdir; $by_hand"
say "installed $target for Rust $version in ${libdir%/lib}"
