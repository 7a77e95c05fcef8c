#!/usr/bin/env bash
# The story that strongroom comes from: training code logs in to a real database with a password that it never keeps. It runs a PostgreSQL of its own,
# in throw-away folders, and stops it at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/demo-common.sh

mkdir "$work/login"
coproc server { exec scripts/postgres-server.sh "$work/login"; }
stop_at_end 'the PostgreSQL server'
declare -A database=()
while read -r word value <&"$answers" && [ "$word" != ready ]; do database[$word]=$value; done
[ "${word:-}" = ready ] || fail 'there is no server'
address=${database[address]}
cd "$work"

psql() { "${database[bindir]}/psql" --no-psqlrc --pset=pager=off --host="${database[socket]}" --port="${address##*:}" --username=postgres --dbname=training "$@"; }
# The last value of a metric in a run record, with five digits.
figure() { LC_ALL=C awk -v begin="\"$1\": {" 'index($0, begin) { here = 1 } here && $1 == "\"last\":" { printf "%.5f", $2; exit }'; }

say "A PostgreSQL of our own at $address, with the dataset as a table"
printf '%s\n' "${database[version]}"
expect 0 "psql --command='SELECT count(*) AS rows, sum((diagnosis = \$\$benign\$\$)::int) AS benign FROM breast_cancer'"
say 'one role, with a random name and password, may select from that table (r) and nothing else; its login is SCRAM-SHA-256'
expect 0 "psql --command='\\dp breast_cancer'"

say 'its name and password go into a vault; here from files, never as arguments'
expect 0 strongroom init
expect 0 strongroom secret set db-user --from-file login/user
expect 0 strongroom secret set db-password --from-file login/password

say 'the policy: these two secrets, this one address, and the key of the model'
sed -i "s/127\.0\.0\.1:5432/$address/" train-postgres.toml
expect 0 cat train-postgres.toml

say 'train: logs in and reads the rows; the figures are those of the file'
train="strongroom run training-example.wasm --param db-address=$address --param db-name=training --param db-table=breast_cancer"
expect 0 "$train --policy train-postgres.toml --output model -- train --from-postgres"
strongroom runs show last --json >run.json
while read -r name want; do
  got=$(figure "$name" <run.json)
  [ "$got" = "$want" ] || fail "the metric \`$name\` is \`$got\` where $want was expected"
done <<'END'
train-log-loss 0.06069
held-out-log-loss 0.04208
held-out-accuracy 1.00000
intercept 0.10222
END

say 'what the audit says of it'
expect 0 strongroom audit show --run last

say 'the same without the line `tcp`: the secrets are granted, the connection is not'
expect 0 "grep -v '^tcp' train-postgres.toml > no-connection.toml"
expect 1 "$train --policy no-connection.toml --output nothing -- train --from-postgres"

say 'the password is in the vault, sealed, and nowhere else in what the runs have left'
expect 1 grep --recursive --files-with-matches --fixed-strings --file=login/password home model
expect 0 strongroom audit verify

say 'the model opens with the key that the run has left in the vault'
expect 0 'strongroom secret get model-key | open-model model/model.json.age'
