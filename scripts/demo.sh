#!/usr/bin/env bash
# The demonstration: real training code, in a sandbox, uses a vault under several policies. Every command is shown before it runs. It uses a
# throw-away home and needs no service.
set -euo pipefail
cd "$(dirname "$0")/.."

strongroom=${STRONGROOM:?the built binary}
guests=${GUESTS:?the folder of built guests}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STRONGROOM_HOME=$work/home
unset STRONGROOM_VAULT STRONGROOM_CONFIG
export XDG_CONFIG_HOME=$work/config
policies=$PWD/guest-example/policies
mkdir "$work/data"
cp guest-example/data/breast_cancer.csv "$work/data/"
cp "$guests/wasm32-wasip2/release/training-example.wasm" "$guests/wasm32-wasip2/release/thief.wasm" "$guests/release/open-model" "$work/"
cp "$policies"/*.toml "$work/"
PATH=$(dirname "$(readlink -f "$strongroom")"):$work:$PATH
cd "$work"

if [ -t 1 ]; then bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true); else bold='' plain=''; fi

say() { printf '\n%s── %s%s\n' "$bold" "$*" "$plain"; }
# Shows a command, runs it, and checks that it ended with the expected exit code.
expect() {
  local want=$1 got=0
  shift
  printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
  eval "$*" || got=$?
  if [ "$got" -ne "$want" ]; then
    printf 'demo: that ended with exit code %s where %s was expected\n' "$got" "$want" >&2
    exit 1
  fi
}

say 'A vault of our own, encrypted, in a throw-away home'
expect 0 strongroom init

say 'prepare: encrypts the data with a fresh key; its policy may only set that key'
expect 0 cat prepare.toml
expect 0 strongroom run training-example.wasm --policy prepare.toml --input data --output sealed -- prepare

say 'train: may get the key of the data and set the key of the model'
expect 0 cat train.toml
expect 0 strongroom run training-example.wasm --policy train.toml --input sealed --output model -- train --from-file

say 'train again, under a policy that grants nothing: denied, as it should be'
expect 0 'echo version = 1 > empty.toml'
expect 1 strongroom run training-example.wasm --policy empty.toml --input sealed --output nothing -- train --from-file

say 'a thief: it may read one key, prints it in pieces, and tries everything else'
expect 0 cat thief.toml
expect 0 strongroom run thief.wasm --policy thief.toml

say 'what is in the vault, and what the audit says'
expect 0 strongroom secret list
expect 0 strongroom audit show --run last
expect 0 strongroom audit verify

say 'the model opens with the key that the run has left in the vault'
expect 0 'strongroom secret get model-key | open-model model/model.json.age'
