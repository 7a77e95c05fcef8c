#!/usr/bin/env bash
# Builds the guests in tests/guests/{python,javascript,c} with the toolchains of these languages.
#
#   toolchains.sh OUT_DIR [GUEST...]
#
# Builds OUT_DIR/GUEST.wasm for each guest: python, javascript, c; all of them by default. Prints
# nothing when they are up to date. Exits with 69 if a toolchain is not available on this machine,
# with 1 if a build failed.
#
# The toolchains come from the package registries that pip, npm and apt are configured for. They are
# kept in OUT_DIR/GUEST; nothing is installed on the machine, and nothing needs root.
#   python       componentize-py, in a virtual environment
#   javascript   componentize-js
#   c            Debian's clang and wasi-libc, unpacked; the linker of the Rust toolchain adds the
#                adapter for WASI preview 1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." # rust-toolchain.toml selects the Rust toolchain

readonly project=$PWD script=$PWD/scripts/toolchains.sh
readonly clang=19
# The malloc of older versions claims the memory that the adapter for WASI preview 1 has allocated,
# so that the component traps at an assertion of the adapter.
readonly oldest_libc=0.0~git20230401
# Where Debian has a newer version.
readonly suite=trixie
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg
readonly exit_unavailable=69

say() { echo "toolchains: $*" >&2; }
fail() { say "$@"; exit 1; }
unavailable() { say "$@"; exit "$exit_unavailable"; }

# Runs a command quietly. If it fails, prints the end of its output and calls $1 with the reason $2.
attempt() {
  local otherwise=$1 reason=$2 log
  shift 2
  log=$("$@" 2>&1) || { printf '%s\n' "$log" | tail -n 20 >&2; "$otherwise" "$reason"; }
}

require() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || unavailable "the guest in $guest needs $tool, which is not installed"
  done
}

# Whether the file $1 holds exactly the text $2.
holds() { [ -f "$1" ] && [ "$(<"$1")" = "$2" ]; }

# Copies the guest's sources to a new folder and enters it: tools leave files beside the sources.
stage() {
  rm -rf "$work/build"
  mkdir "$work/build"
  cp "$sources"/* "$work/build/"
  cd "$work/build"
}

build_python() {
  local python="$work/venv/bin/python" wanted
  unset PYTHONPATH PYTHONHOME
  wanted=$(<"$sources/requirements.txt")
  if ! holds "$work/venv/requirements.txt" "$wanted" || ! "$python" -c 'import componentize_py' 2>/dev/null; then
    require python3
    say "installing componentize-py"
    rm -rf "$work/venv"
    attempt unavailable "could not create a virtual environment for Python" python3 -m venv "$work/venv"
    attempt unavailable "could not install componentize-py from pip's package index" "$python" -m pip install --no-input \
      --disable-pip-version-check --no-deps --only-binary :all: -r "$sources/requirements.txt"
    echo "$wanted" >"$work/venv/requirements.txt"
  fi
  say "building the guest in Python (about 15 seconds)"
  stage
  attempt fail "could not build the guest in Python" \
    "$work/venv/bin/componentize-py" -d "$project/wit" -w plugin componentize guest -o "$work/new.wasm"
}

build_javascript() {
  local tools="$work/tools" wanted
  require node npm
  wanted="$(node --version) $(sha256sum <"$sources/package-lock.json")"
  if ! holds "$tools/wanted" "$wanted"; then
    say "installing componentize-js"
    rm -rf "$tools"
    mkdir "$tools"
    cp "$sources"/package*.json "$tools/"
    attempt unavailable "could not install componentize-js from npm's registry" \
      npm ci --prefix "$tools" --ignore-scripts --no-audit --no-fund
    echo "$wanted" >"$tools/wanted"
  fi
  say "building the guest in JavaScript (about 30 seconds)"
  stage
  ln -s "$tools/node_modules" node_modules
  attempt fail "could not build the guest in JavaScript" node build.mjs "$project/wit" "$work/new.wasm"
}

# apt-get with its cache in the scratch folder and with the options in the array `options`.
apt() { apt-get -q -o Dir::Cache="$work/apt" -o APT::Sandbox::User="$(id -un)" "${options[@]}" "$@"; }

download_packages() {
  local packages=(clang-$clang libclang-{common-$clang-dev,cpp$clang,rt-$clang-dev-wasm32} libllvm$clang wasi-libc)
  # And the libraries behind clang's own that this machine lacks.
  mapfile -t -O "${#packages[@]}" packages < <(
    apt --simulate --no-install-recommends install libclang-cpp$clang 2>/dev/null | awk '$1 == "Inst" { print $2 }'
  )
  mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
  rm -f ./*.deb
  apt download "${packages[@]}"
}

# Replaces wasi-libc by that of a newer Debian, of which it needs only the package lists.
download_newer_libc() {
  local mirror
  mirror=$(apt indextargets --format '$(SITE) $(LABEL)' | awk '$2 == "Debian" { print $1; exit }')
  [ -n "$mirror" ] && [ -r "$keyring" ] ||
    unavailable "wasi-libc is too old here, and Debian's $suite is not available: apt has no Debian mirror or keyring"
  mkdir -p "$work"/apt/{newer-lists/partial,sources}
  cat >"$work/apt/sources/debian.sources" <<EOF
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: $keyring
EOF
  local options=(-o Dir::State::Lists="$work/apt/newer-lists" -o Dir::Etc::SourceList=/dev/null
    -o Dir::Etc::SourceParts="$work/apt/sources")
  rm wasi-libc_*.deb
  attempt unavailable "could not read the package lists of Debian's $suite" apt update
  attempt unavailable "could not download wasi-libc of Debian's $suite" apt download wasi-libc
}

# Unpacks clang and wasi-libc into $work/tools.
unpack_clang() {
  local options=() deb
  require apt-get dpkg
  say "downloading clang $clang and wasi-libc"
  rm -rf "$work"/{apt,tools}
  mkdir -p "$work"/apt/{archives/partial,lists/partial,packages} "$work/tools"
  cd "$work/apt/packages"
  # The machine may have no package lists, or old ones.
  if ! download_packages >/dev/null 2>&1; then
    options=(-o Dir::State::Lists="$work/apt/lists")
    attempt unavailable "could not read apt's package lists" apt update
    attempt unavailable "could not download clang $clang and wasi-libc with apt-get" download_packages
  fi
  if dpkg --compare-versions "$(dpkg-deb --field wasi-libc_*.deb Version)" lt "$oldest_libc"; then
    download_newer_libc
  fi
  for deb in *.deb; do dpkg -x "$deb" "$work/tools"; done
  cd "$project"
  rm -rf "$work/apt"
}

build_c() {
  local root="$work/tools" linkers libraries
  require rustc
  linkers=$(rustc --print target-libdir)/../bin
  [ -x "$linkers/wasm-component-ld" ] && [ -x "$linkers/gcc-ld/wasm-ld" ] ||
    unavailable "the guest in $guest needs wasm-component-ld and wasm-ld, which this Rust toolchain does not have"
  if ! holds "$root/wanted" "$clang $oldest_libc"; then
    unpack_clang
    echo "$clang $oldest_libc" >"$root/wanted"
  fi
  libraries=$(printf '%s:' "$root"/usr/lib/*-linux-* "$root"/lib/*-linux-*)
  run_clang() {
    LD_LIBRARY_PATH=$libraries PATH="$linkers/gcc-ld:$PATH" "$root/usr/lib/llvm-$clang/bin/clang" --target=wasm32-wasi \
      --sysroot="$root/usr" "$@"
  }
  attempt unavailable "the downloaded clang does not run on this machine" run_clang --version
  stage
  attempt fail "could not build the guest in C" run_clang -std=c17 -O2 -msimd128 -Wall -Wextra -Werror \
    -fuse-ld="$linkers/wasm-component-ld" -o "$work/new.wasm" guest.c
}

# Builds one guest, unless it is there and was made from the same inputs.
build() {
  local inputs
  readonly work="$out/$guest" sources="$project/tests/guests/$guest"
  mkdir -p "$work"
  exec 9>"$work/lock"
  flock 9
  inputs=$(sha256sum "$script" "$sources"/* wit/* rust-toolchain.toml)
  if [ -f "$out/$guest.wasm" ] && holds "$work/inputs" "$inputs"; then return; fi
  rm -f "$out/$guest.wasm" "$work/new.wasm"
  "build_$guest"
  echo "$inputs" >"$work/inputs"
  mv "$work/new.wasm" "$out/$guest.wasm"
  rm -rf "$work/build"
}

[ $# -ge 1 ] || fail "usage: scripts/toolchains.sh OUT_DIR [GUEST...]"
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
[ $# -ge 1 ] || set -- python javascript c
for guest in "$@"; do
  [[ $guest =~ ^(python|javascript|c)$ ]] || fail "there is no guest \`$guest\`"
done
if [ $# -eq 1 ]; then
  build
  exit
fi
# One process per guest, so that the others are built even if one fails.
code=0
for guest in "$@"; do
  status=0
  "$script" "$out" "$guest" || status=$?
  if [ "$status" -ne 0 ] && { [ "$code" -eq 0 ] || [ "$status" -ne "$exit_unavailable" ]; }; then code=$status; fi
done
exit "$code"
