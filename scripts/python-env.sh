#!/usr/bin/env bash
# Creates a virtual environment with exactly the packages of a requirements file with hashes.
#
#   python-env.sh ENV_DIR REQUIREMENTS
#
# Does nothing if the environment has been made from the same file. Exits with 69 if Python 3.11 or
# the packages are not available on this machine.
set -euo pipefail

readonly exit_unavailable=69
unavailable() { echo "python-env: $*" >&2; exit "$exit_unavailable"; }

[ $# -eq 2 ] || { echo 'usage: scripts/python-env.sh ENV_DIR REQUIREMENTS' >&2; exit 2; }
env=$1 requirements=$2
unset PYTHONPATH PYTHONHOME
command -v python3 >/dev/null || unavailable 'python3 is not installed'
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || unavailable 'python3 is older than 3.11'

mkdir -p "$(dirname "$env")"
exec 9>"$env.lock"
flock 9
wanted=$(<"$requirements")
if [ -f "$env/made-from" ] && [ "$(<"$env/made-from")" = "$wanted" ]; then exit; fi
rm -rf "$env"
echo "python-env: creating $env" >&2
python3 -m venv "$env" >&2 || unavailable 'could not create a virtual environment'
"$env/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-deps --only-binary :all: \
  --require-hashes -r "$requirements" >&2 || unavailable "could not install the packages of $requirements"
printf '%s\n' "$wanted" >"$env/made-from"
