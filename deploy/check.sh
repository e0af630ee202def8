#!/usr/bin/env bash
# Everything that must hold before a change is good, in one command; CI runs the same. Stops at the first step that fails.
#   deploy/check.sh             all steps
#   deploy/check.sh --no-tests  all but the tests of Python code
#   deploy/check.sh --quick     for the minutes between two edits, in 20 seconds: lint, types (a daemon keeps them
#                               warm), import contracts, words, and the tests that are pure, in parallel
# Needs what `pip install -e '.[dev]'` brings; the page's tests also want node 20 or newer and are skipped without.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -d .venv/bin ]] && PATH="$PWD/.venv/bin:$PATH"

step() {
  local name=$1 began=$SECONDS output
  shift
  if output=$("$@" 2>&1); then
    printf 'ok      %-24s %3d s\n' "$name" $((SECONDS - began))
  else
    printf '%s\n' "$output" >&2
    printf 'FAILED  %-24s (%s)\n' "$name" "$*" >&2
    exit 1
  fi
}

skip() { printf 'skipped %-24s (%s)\n' "$1" "$2"; }

has_node() { command -v node >/dev/null && (($(node --version | sed 's/^v\([0-9]*\).*/\1/') >= 20)); }

step 'lint' ruff check .
step 'format' ruff format --check .
if [[ ${1-} == --quick ]]; then
  step 'types' dmypy run -- --strict
else
  step 'types' mypy --strict
fi
step 'import contracts' lint-imports
step 'words' python deploy/words.py
step 'picture' python deploy/architecture.py --check
if [[ ${1-} == --quick ]]; then
  step 'pure tests' python -m pytest -n 2 --hypothesis-profile=quick \
    -m 'not postgres and not process and not browser and not stopwatch' \
    tests/{codec,dialects,exchange,policy,relay,settings} tests/test_*.py
  exit
fi
step 'shell syntax' bash -n deploy/check.sh .ci/run .ci/tools
step 'Dockerfile' hadolint deploy/Dockerfile
step 'compose file' check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
step 'alerts' check-jsonschema --schemafile deploy/alerts.schema.json deploy/alerts.yml
step 'lock files' python deploy/lock.py --check
if compgen -G 'sql/*.sql' >/dev/null; then
  step 'sql' squawk --config deploy/squawk.toml sql/*.sql
fi
if has_node; then
  step 'page' node --test tests/page/*.test.mjs
else
  skip 'page' 'no node 20 or newer here'
fi
if [[ ${1-} == --no-tests ]]; then
  skip 'tests' 'as asked'
else
  printf 'tests\n'
  python -m pytest || { printf 'FAILED  tests\n' >&2; exit 1; }
fi
