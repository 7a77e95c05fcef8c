#!/usr/bin/env bash
# The Python demo: a script with the lines of Azure ML trains on encrypted data and on a table of a
# real PostgreSQL server, and the program in Rust reads what it wrote.
set -euo pipefail
cd "$(dirname "$0")/.."
# Without the user's configuration of strongroom, but with that of pip.
pip_config=${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf
[ ! -f "$pip_config" ] || export PIP_CONFIG_FILE=$pip_config
source scripts/demo-common.sh

mkdir "$work/login" "$work/data"
cp guest-example/data/breast_cancer.csv "$work/data/"
cp -r guest-example/python "$work/project"
start_postgres
cd "$work"

say 'the script uses the lines of Azure ML for secrets and metrics'
expect 0 "grep -n 'azureml\\|get_secret\\|set_secret\\|run.log' project/train.py"

say 'prepare: build the script, and encrypt the data with a new key; the dependencies are locked with hashes'
expect 0 cat project/requirements.lock
expect 0 strongroom init
expect 0 strongroom run project/train.py --policy prepare.toml --input data --output sealed -- prepare

say 'train: read the key under a policy with two grants; nothing has changed, so nothing is built'
expect 0 strongroom run project/train.py --policy train.toml --input sealed --output model -- train --from-file

say 'without the grants: the traceback says which line of the policy is missing'
expect 0 'echo version = 1 > empty.toml'
expect 1 strongroom run project/train.py --policy empty.toml --input sealed --output nothing -- train --from-file

say 'train on a table, with user and password from the vault'
expect 0 strongroom secret set db-user --from-file login/user
expect 0 strongroom secret set db-password --from-file login/password
sed -i "s/127\.0\.0\.1:5432/$address/" train-postgres.toml
expect 0 "strongroom run project/train.py --param db-address=$address --param db-name=training --param db-table=breast_cancer \
  --policy train-postgres.toml --output from-table -- train --from-postgres"

say 'the program in Rust trains on the file that the script encrypted, and opens its model'
expect 0 'strongroom secret get model-key | open-model from-table/model.json.age'
expect 0 strongroom run training-example.wasm --policy train.toml --input sealed --output rust -- train --from-file
expect 0 strongroom audit verify
