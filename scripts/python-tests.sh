#!/usr/bin/env bash
# Runs the tests of sdk/python in a private virtual environment.
#
#   python-tests.sh OUT_DIR [PYTEST_ARGUMENT...]
#
# Without Python 3.11 or the packages it says so and succeeds; with CI=true it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# -ge 1 ] || { echo 'usage: scripts/python-tests.sh OUT_DIR [PYTEST_ARGUMENT...]' >&2; exit 2; }
mkdir -p "$1"
env=$(cd "$1" && pwd)/test-env
shift
unset PYTHONPATH PYTHONHOME
code=0
scripts/python-env.sh "$env" sdk/python/tests/requirements.txt || code=$?
if [ "$code" -eq 69 ] && [ "${CI:-}" != true ]; then
  echo 'SKIPPED: the tests of sdk/python'
  exit
fi
[ "$code" -eq 0 ] || exit "$code"
PYTHONDONTWRITEBYTECODE=1 "$env/bin/python" -m pytest -q sdk/python "$@"
for example in guest-example/python; do
  [ ! -d "$example/tests" ] || PYTHONDONTWRITEBYTECODE=1 "$env/bin/python" -m pytest -q "$example"
done
