#!/usr/bin/env bash
# The demonstration: real training code, in a sandbox, uses a vault under several policies. Every command is shown before it runs. It uses a
# throw-away home and needs no service.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/demo-common.sh
mkdir "$work/data"
cp guest-example/data/breast_cancer.csv "$work/data/"
cp "$guests/wasm32-wasip2/release/thief.wasm" "$work/"
cd "$work"

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
