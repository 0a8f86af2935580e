#!/usr/bin/env bash
# Runs the real Python clients against a box: the one at EDGEWARD_URL (with EDGEWARD_TOKEN), or else a quickstart of
# EDGEWARD_BIN. Usage: tests/clients/run.sh [PYTEST OPTIONS]. EDGEWARD_PYTHON: the interpreter that has the clients.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -z "${EDGEWARD_PYTHON:-}" ]; then
    echo "SKIPPED clients: there is no virtual environment with them; 'make setup' makes one" | tee -a "${EDGEWARD_REPORT:-/dev/null}"
    exit 0
fi
exec "$EDGEWARD_PYTHON" -m pytest -q -p no:cacheprovider --floors tests/floors.toml "$@" tests/clients
