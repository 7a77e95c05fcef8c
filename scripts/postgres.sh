#!/usr/bin/env bash
# Checks that the PostgreSQL server programs are installed. Prints nothing if they are.
#
#   postgres.sh             if they are missing, explains how to install them; installs them with
#                           INSTALL=1 or CI=true
#   postgres.sh --bindir    prints the directory that contains them; installs nothing
set -euo pipefail

readonly install='apt-get install --yes --no-install-recommends postgresql'

say() { echo "postgres: $*" >&2; }
fail() { say "$@"; exit 1; }

complete() { [ -x "$1/initdb" ] && [ -x "$1/postgres" ] && [ -x "$1/psql" ] && [ -x "$1/pg_isready" ]; }

# Prints the directory of the server programs. Looks for Debian's newest version, then asks
# pg_config, then looks in the directories of Red Hat, Homebrew and PostgreSQL's own packages, and
# in PATH. Debian comes first, because its psql in PATH is a wrapper in a directory without the
# server.
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
  bindir || fail "PostgreSQL is not installed: run \`$install\`, or \`INSTALL=1 scripts/postgres.sh\` in this repository"
  exit
fi

bindir >/dev/null && exit 0
if [ "${INSTALL:-}" != 1 ] && [ "${CI:-}" != true ]; then
  fail "PostgreSQL is not installed: run \`$install\`, or run this again with INSTALL=1"
fi
command -v apt-get >/dev/null || fail 'could not find apt-get: install the PostgreSQL server (initdb, postgres, psql) with the package manager of this system'
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "installing PostgreSQL needs root: run \`$install\`"
  as_root=(sudo)
fi
say "installing PostgreSQL: $install"
# $install is split into words on purpose.
# shellcheck disable=SC2086
if ! log=$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update && $install" 2>&1); then
  printf '%s\n' "$log" | tail -n 20 >&2
  fail "could not install PostgreSQL: install the server yourself, then run this again"
fi
bindir >/dev/null || fail 'apt-get installed PostgreSQL, but the server programs were not found'
