#!/usr/bin/env bash
# The demo: sandboxed training code uses a vault under several policies. The script prints every
# command before it runs it, works in a temporary home folder, and needs no service.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/demo-common.sh
mkdir "$work/data"
cp guest-example/data/breast_cancer.csv "$work/data/"
cp "$guests/wasm32-wasip2/release/thief.wasm" "$work/"
cd "$work"

say 'Create an encrypted vault in a temporary home folder'
expect 0 strongroom init

say 'prepare: encrypt the data with a new key; the policy allows the component to set that key, and nothing else'
expect 0 cat prepare.toml
expect 0 strongroom run training-example.wasm --policy prepare.toml --input data --output sealed -- prepare

say 'train: the policy allows the component to get the dataset key and to set the model key'
expect 0 cat train.toml
expect 0 strongroom run training-example.wasm --policy train.toml --input sealed --output model -- train --from-file

say 'train again under a policy that grants nothing: the request is denied'
expect 0 'echo version = 1 > empty.toml'
expect 1 strongroom run training-example.wasm --policy empty.toml --input sealed --output nothing -- train --from-file

say 'a hostile component: it may read one key, prints it in pieces, and tries to reach everything else'
expect 0 cat thief.toml
expect 0 strongroom run thief.wasm --policy thief.toml

say 'show the secrets in the vault, the audit log of the last run, and verify the audit log'
expect 0 strongroom secret list
expect 0 strongroom audit show --run last
expect 0 strongroom audit verify

say 'decrypt the model with the key that the run stored in the vault'
expect 0 'strongroom secret get model-key | open-model model/model.json.age'
