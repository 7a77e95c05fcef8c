# Shared by the demo scripts, which source it from the top of the repository. It creates a temporary
# home and working directory, puts the built programs on PATH, and defines functions that print a
# command, run it and check its exit code.
# shellcheck shell=bash

strongroom=${STRONGROOM:?set it to the path of the strongroom binary}
guests=${GUESTS:?set it to the folder of the built guests}
work=$(mktemp -d)
# Ignore signals during cleanup, so that it always completes.
clean_up() { trap '' INT TERM HUP; rm -rf "$work"; }
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
# For a script that started a server as the coprocess `server`: stops the server when the script
# ends, and reports a nonzero exit code. The server runs as long as its standard input is open. Its
# output is read from `answers`.
stop_at_end() {
  server_name=$1 server_id=$server_PID answers=${server[0]} lifeline=${server[1]}
  trap 'stop_server; clean_up' EXIT
}
stop_server() {
  trap '' INT TERM HUP
  exec {lifeline}>&-
  wait "$server_id" || printf 'demo: %s exited with an error\n' "$server_name" >&2
}
# Starts a PostgreSQL server with its files in the existing directory `login`. Sets `address`, and
# `database` to everything that the server reports.
start_postgres() {
  coproc server { exec scripts/postgres-server.sh "$work/login"; }
  stop_at_end 'the PostgreSQL server'
  declare -gA database=()
  local word value
  while read -r word value <&"$answers" && [ "$word" != ready ]; do database[$word]=$value; done
  [ "${word:-}" = ready ] || fail 'the PostgreSQL server did not start'
  address=${database[address]}
}
export STRONGROOM_HOME=$work/home
unset STRONGROOM_VAULT STRONGROOM_CONFIG
export XDG_CONFIG_HOME=$work/config
cp "$guests/wasm32-wasip2/release/training-example.wasm" "$guests/release/open-model" guest-example/policies/*.toml "$work/"
PATH=$(dirname "$(readlink -f "$strongroom")"):$work:$PATH

if [ -t 1 ]; then bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true); else bold='' plain=''; fi

say() { printf '\n%s── %s%s\n' "$bold" "$*" "$plain"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
# Prints a command, runs it, and checks its exit code.
expect() {
  local want=$1 got=0
  shift
  printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
  eval "$*" || got=$?
  [ "$got" -eq "$want" ] || fail "the command exited with code $got, expected $want"
}
