#!/usr/bin/env bash
# Makes sure that PostgreSQL's server programs are on this machine. Says nothing where there is nothing to do.
#
#   postgres.sh             where they are missing, shows how to install them; installs them itself with INSTALL=1 or CI=true
#   postgres.sh --bindir    prints the folder that holds them; installs nothing
set -euo pipefail

readonly install='apt-get install --yes --no-install-recommends postgresql'

say() { echo "postgres: $*" >&2; }
fail() { say "$@"; exit 1; }

complete() { [ -x "$1/initdb" ] && [ -x "$1/postgres" ] && [ -x "$1/psql" ] && [ -x "$1/pg_isready" ]; }

# The folder of the server programs: the newest of Debian's, what pg_config says, where Red Hat, Homebrew and PostgreSQL's own packages put them,
# or the search path. Debian's come first, because its psql in the search path is a wrapper without a server beside it.
bindir() {
  local folder
  while read -r folder; do
    if complete "$folder"; then
      echo "$folder"
      return
    fi
  done < <(
    printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV
    pg_config --bindir 2>/dev/null || true
    printf '%s\n' /usr/pgsql-*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql*/bin | sort -rV
    tr ':' '\n' <<<"$PATH"
  )
  return 1
}

if [ "${1:-}" = --bindir ]; then
  bindir || fail "there is no PostgreSQL server on this machine: install it with \`$install\`, or run this project's \`INSTALL=1 scripts/postgres.sh\`"
  exit
fi

bindir >/dev/null && exit 0
if [ "${INSTALL:-}" != 1 ] && [ "${CI:-}" != true ]; then
  fail "there is no PostgreSQL server on this machine: install it with \`$install\`, or run this again with INSTALL=1"
fi
command -v apt-get >/dev/null || fail 'there is no apt-get here: install the PostgreSQL server (initdb, postgres, psql) the way this system does'
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "installing needs root: run \`$install\`"
  as_root=(sudo)
fi
say "installing PostgreSQL: $install"
# The words of $install are the command's.
# shellcheck disable=SC2086
if ! log=$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update && $install" 2>&1); then
  printf '%s\n' "$log" | tail -n 20 >&2
  fail "that failed; install the PostgreSQL server yourself, then run this again"
fi
bindir >/dev/null || fail 'apt-get has installed it, and there is still no server to be found'
