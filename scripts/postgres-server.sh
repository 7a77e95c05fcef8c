#!/usr/bin/env bash
# Starts a temporary PostgreSQL server with the example dataset, for the demo and the tests. The
# server runs until its standard input is closed, so that it cannot outlive the process that started
# it, and removes all its files.
#
#   postgres-server.sh FOLDER    writes the files `user` and `password` to FOLDER, readable only by
#                                their owner
#
# The server listens on a free port of the loopback interface and accepts only SCRAM-SHA-256 over
# TCP. It has the database `training`, the table `breast_cancer`, and a role with a random name and
# password that may connect to this database and SELECT from this table, and nothing else. The
# calling user is superuser through the Unix socket.
#
# When the server is ready, the script prints one `WORD VALUE` line each for socket (a directory),
# bindir, version, address, database and table, and then the line `ready`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly folder=$(readlink -f "${1:?name a folder for the files user and password}")
readonly data=$PWD/guest-example/data
readonly database=training table=breast_cancer superuser=postgres
bindir=$(scripts/postgres.sh --bindir)
readonly bindir

fail() { echo "postgres-server: $*" >&2; exit 1; }

# PostgreSQL refuses to run as root. In that case, another user owns the server and its files.
owner=$(id -un)
as_owner=()
if [ "$(id -u)" -eq 0 ]; then
  for owner in postgres nobody ''; do id -u "$owner" >/dev/null 2>&1 && break; done
  [ -n "$owner" ] || fail 'the server cannot run as root, and there is no user `postgres` or `nobody`'
  as_owner=(setpriv --reuid="$owner" --regid="$(id -g "$owner")" --clear-groups)
fi

cluster=$(mktemp -d)
server=''
stop() {
  # SIGINT requests a fast shutdown: the server closes its connections and stops its child processes
  # first.
  if [ -n "$server" ] && kill -INT "$server" 2>/dev/null; then wait "$server" || true; fi
  rm -rf "$cluster"
}
trap stop EXIT
trap 'exit 130' INT TERM HUP
[ "$(id -u)" -ne 0 ] || chown "$owner" "$cluster"
cd "$cluster"

log=$(LC_ALL=C "${as_owner[@]}" "$bindir/initdb" --pgdata=data --username="$superuser" --encoding=UTF8 --locale=C --no-sync \
  --auth-local=peer --auth-host=scram-sha-256 2>&1) || fail "initdb failed: $log"
cat >data/pg_hba.conf <<END
local  all          $superuser           peer map=caller
host   $database    all  127.0.0.1/32    scram-sha-256
END
printf 'caller %s %s\n' "$owner" "$superuser" "$(id -un)" "$superuser" >data/pg_ident.conf
cat >>data/postgresql.conf <<END
listen_addresses = '127.0.0.1'
unix_socket_directories = '$cluster'
password_encryption = 'scram-sha-256'
max_connections = 20
fsync = off
END

# Try random ports until the server can bind one. They are below the kernel's range of ephemeral
# ports.
for _ in {1..20}; do
  port=$((20000 + RANDOM % 12000))
  LC_ALL=C "${as_owner[@]}" "$bindir/postgres" -D data -p "$port" </dev/null >log 2>&1 &
  server=$!
  for _ in {1..600}; do
    "$bindir/pg_isready" --quiet --host="$cluster" --port="$port" && break 2
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  kill -INT "$server" 2>/dev/null || true
  wait "$server" || true
  server=''
  grep -q 'Address already in use' log || fail "the server did not start: $(tail -n 5 log)"
done
[ -n "$server" ] || fail 'could not find a free port'

sql() { "$bindir/psql" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --host="$cluster" --port="$port" --username="$superuser" "$@" >/dev/null; }

# 6 and 18 random bytes. SQL is passed on standard input, never as an argument; the server does not
# log it.
user=trainer_$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')
password=$(head -c 18 /dev/urandom | base64 | tr '+/' '-_')
(umask 077 && printf '%s' "$user" >"$folder/user" && printf '%s' "$password" >"$folder/password")

sql --dbname=postgres <<END
CREATE DATABASE $database;
REVOKE ALL ON DATABASE $database FROM PUBLIC;
END
sql --dbname="$database" --file="$data/breast_cancer.sql"
# The first line of the file is a header. The last field of each row is the class, 1 or 0.
awk -F, -v OFS=, 'NR == 1 { name[0] = $3; name[1] = $4; next } { $NF = name[$NF]; print NR - 2, $0 }' "$data/breast_cancer.csv" |
  sql --dbname="$database" --command="COPY $table FROM STDIN (FORMAT csv)"
sql --dbname="$database" <<END
CREATE ROLE $user LOGIN PASSWORD '$password';
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE $database TO $user;
GRANT USAGE ON SCHEMA public TO $user;
GRANT SELECT ON $table TO $user;
END

printf '%s %s\n' socket "$cluster" bindir "$bindir" version "$("$bindir/postgres" --version)" address "127.0.0.1:$port" \
  database "$database" table "$table"
echo ready
# Wait with the builtin `read`, because a signal can interrupt it.
while read -r _; do :; done
