#!/usr/bin/env bash
# Builds a Python wheel with the program `strongroom` and the package in sdk/python, for Linux with
# glibc 2.28 or newer.
#
#   wheel.sh TARGET_DIR [x86_64|aarch64]...
#
# Without an architecture it builds for x86-64, installs the wheel into a fresh virtual environment,
# and runs a script with it. The others are cross-built and not tested.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# -ge 1 ] || { echo 'usage: scripts/wheel.sh TARGET_DIR [x86_64|aarch64]...' >&2; exit 2; }
mkdir -p "$1"
target=$(cd "$1" && pwd)
shift
architectures=("$@")
[ $# -gt 0 ] || architectures=(x86_64)
unset PYTHONPATH PYTHONHOME
tools=$target/python/wheel-env
scripts/python-env.sh "$tools" sdk/python/wheel-tools.txt

for architecture in "${architectures[@]}"; do
  triple=$architecture-unknown-linux-gnu
  rustup target list --installed | grep -qx "$triple" || rustup target add "$triple"
  # maturin finds Zig in the environment that is active.
  (cd sdk/python && VIRTUAL_ENV=$tools PATH=$tools/bin:$PATH CARGO_TARGET_DIR=$target \
    maturin build --release --locked --zig --target "$triple" --compatibility manylinux_2_28 --out "$target/wheels")
done

wheel=$(ls -t "$target"/wheels/strongroom-*manylinux_2_28_"$(uname -m)".whl | head -n 1)
[ -n "$wheel" ] || exit 0
echo "testing $wheel in a fresh virtual environment"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-index "$wheel"
export PATH=$work/env/bin:$PATH STRONGROOM_HOME=$work/home
cd "$work"
strongroom init
printf 'correct-horse-battery' | strongroom secret set db-password
strongroom new myjob
strongroom run myjob/train.py --policy myjob/policy.toml | tee output
grep -q 'db-password: \[redacted:db-password\]' output
python -m strongroom.local --vault memory --help >/dev/null
python -c 'import strongroom, importlib.util as u; assert not u.find_spec("mlflow") and not u.find_spec("azureml")'
echo "built $wheel"
