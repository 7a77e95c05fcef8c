# What the demonstrations share; sourced by them, from the top of the project. A throw-away home and working folder, the built programs in the search
# path, and commands that are shown before they run and checked afterwards.
# shellcheck shell=bash

strongroom=${STRONGROOM:?the built binary}
guests=${GUESTS:?the folder of built guests}
work=$(mktemp -d)
# Once it has begun to end, no signal keeps it from ending well.
clean_up() { trap '' INT TERM HUP; rm -rf "$work"; }
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
# For a script that has started a server as the coprocess `server`, which serves as long as its standard input is open: ends it with the script, and
# says where it did not end well. What the server prints is read from `answers`.
stop_at_end() {
  server_name=$1 server_id=$server_PID answers=${server[0]} lifeline=${server[1]}
  trap 'stop_server; clean_up' EXIT
}
stop_server() {
  trap '' INT TERM HUP
  exec {lifeline}>&-
  wait "$server_id" || printf 'demo: %s did not end well\n' "$server_name" >&2
}
export STRONGROOM_HOME=$work/home
unset STRONGROOM_VAULT STRONGROOM_CONFIG
export XDG_CONFIG_HOME=$work/config
cp "$guests/wasm32-wasip2/release/training-example.wasm" "$guests/release/open-model" guest-example/policies/*.toml "$work/"
PATH=$(dirname "$(readlink -f "$strongroom")"):$work:$PATH

if [ -t 1 ]; then bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true); else bold='' plain=''; fi

say() { printf '\n%s── %s%s\n' "$bold" "$*" "$plain"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
# Shows a command, runs it, and checks that it ended with the expected exit code.
expect() {
  local want=$1 got=0
  shift
  printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
  eval "$*" || got=$?
  [ "$got" -eq "$want" ] || fail "that ended with exit code $got where $want was expected"
}
