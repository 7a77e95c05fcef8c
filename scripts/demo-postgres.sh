#!/usr/bin/env bash
# The PostgreSQL demo: training code logs in to a real database with a password from the vault. The
# script starts its own PostgreSQL server in temporary directories and stops it at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/demo-common.sh

mkdir "$work/login"
start_postgres
cd "$work"

psql() { "${database[bindir]}/psql" --no-psqlrc --pset=pager=off --host="${database[socket]}" --port="${address##*:}" --username=postgres --dbname=training "$@"; }
# Prints the last value of a metric in a run record, with five decimals.
figure() { LC_ALL=C awk -v begin="\"$1\": {" 'index($0, begin) { here = 1 } here && $1 == "\"last\":" { printf "%.5f", $2; exit }'; }

say "Started a PostgreSQL server at $address, with the dataset in a table"
printf '%s\n' "${database[version]}"
expect 0 "psql --command='SELECT count(*) AS rows, sum((diagnosis = \$\$benign\$\$)::int) AS benign FROM breast_cancer'"
say 'one role with a random name and password may SELECT from that table (r) and nothing else; it logs in with SCRAM-SHA-256'
expect 0 "psql --command='\\dp breast_cancer'"

say 'store the name and password in a vault; here from files, never as command-line arguments'
expect 0 strongroom init
expect 0 strongroom secret set db-user --from-file login/user
expect 0 strongroom secret set db-password --from-file login/password

say 'the policy: get these two secrets, connect to this one address, and set the model key'
sed -i "s/127\.0\.0\.1:5432/$address/" train-postgres.toml
expect 0 cat train-postgres.toml

say 'train: log in and read the rows; the metrics equal those of training from the file'
train="strongroom run training-example.wasm --param db-address=$address --param db-name=training --param db-table=breast_cancer"
expect 0 "$train --policy train-postgres.toml --output model -- train --from-postgres"
strongroom runs show last --json >run.json
while read -r name want; do
  got=$(figure "$name" <run.json)
  [ "$got" = "$want" ] || fail "the metric \`$name\` is \`$got\`, expected $want"
done <<'END'
train-log-loss 0.06069
held-out-log-loss 0.04208
held-out-accuracy 1.00000
intercept 0.10222
END

say 'show the audit log of the run'
expect 0 strongroom audit show --run last

say 'train without the `tcp` line: the secrets are granted, the connection is not'
expect 0 "grep -v '^tcp' train-postgres.toml > no-connection.toml"
expect 1 "$train --policy no-connection.toml --output nothing -- train --from-postgres"

say 'check that no file in the home folder or the output contains the password in plain text'
expect 1 grep --recursive --files-with-matches --fixed-strings --file=login/password home model
expect 0 strongroom audit verify

say 'decrypt the model with the key that the run stored in the vault'
expect 0 'strongroom secret get model-key | open-model model/model.json.age'
