#!/usr/bin/env bash
# Trains every sample model again and writes its version folder. Usage: daemon/samples/train.sh [digits]
# Needs Python 3.11 or newer with venv; the packages go to .cache/samples-venv, which git ignores.
# `digits` trains main.default.digits too, and installs PyTorch for it: some gigabytes.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=.cache/samples-venv
requirements=daemon/samples/requirements.txt
if [ "${1:-}" = digits ]; then
    venv=.cache/samples-torch-venv
    requirements=daemon/samples/digits/requirements.txt
fi
if ! cmp -s "$requirements" "$venv/requirements.installed"; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/requirements.installed"
fi

# One thread: the order in which a sum is formed is part of the bytes that come out.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
"$venv/bin/python" daemon/samples/fraud/train.py
"$venv/bin/python" daemon/samples/tumour/train.py
"$venv/bin/python" daemon/samples/diabetes/train.py
if [ "${1:-}" = digits ]; then
    "$venv/bin/python" daemon/samples/digits/train.py
fi
