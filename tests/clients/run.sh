#!/usr/bin/env bash
# Runs the real Python clients against a box: the one at EDGEWARD_URL (with EDGEWARD_TOKEN), or else a quickstart of
# EDGEWARD_BIN. Usage: tests/clients/run.sh [PYTEST OPTIONS]. EDGEWARD_PYTHON: the interpreter that has the clients; that of
# tritonclient over gRPC stands in the same environment, in `grpc` (tests/setup.sh makes both).
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -z "${EDGEWARD_PYTHON:-}" ]; then
    echo "SKIPPED clients: there is no virtual environment with them; 'make setup' makes one" | tee -a "${EDGEWARD_REPORT:-/dev/null}"
    exit 0
fi

# What is not there is said here and by the tests of the samples; the floors of the second run are not asked for then.
grpc="${EDGEWARD_PYTHON%/bin/python}/grpc/bin/python"
environments=common
if [ -x "$grpc" ]; then
    export EDGEWARD_GRPC_PYTHON="$grpc"
    environments="common grpc"
else
    unset EDGEWARD_GRPC_PYTHON
    echo "SKIPPED clients over gRPC: there is no $grpc; 'make setup' makes it" | tee -a "${EDGEWARD_REPORT:-/dev/null}"
fi

status=0
for environment in $environments; do
    python=$EDGEWARD_PYTHON
    if [ "$environment" = grpc ]; then
        python=$EDGEWARD_GRPC_PYTHON
    fi
    outcome=0
    "$python" -m pytest -q -p no:cacheprovider --environment "$environment" --floors tests/floors.toml "$@" tests/clients || outcome=$?
    # 5: no test in this environment is what the options ask for.
    if [ "$outcome" = 5 ] && [ $# -gt 0 ]; then
        outcome=0
    fi
    [ "$outcome" = 0 ] || status=$outcome
done
exit "$status"
