#!/usr/bin/env bash
# Builds the zoo: networks of the sizes that people bring, with random weights, float and quantised. Usage: tests/zoo/build.sh DIR
# Does nothing when DIR was built from the same script. Needs Python 3.11 or newer with venv; the packages, some gigabytes
# with PyTorch, go to .cache/zoo-venv, which git ignores.
set -euo pipefail
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."

venv=.cache/zoo-venv
requirements=tests/zoo/requirements.txt
if ! cmp -s "$requirements" "$venv/requirements.installed"; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/requirements.installed"
fi
if ! cmp -s tests/zoo/build.py "$folder/built.py"; then
    "$venv/bin/python" tests/zoo/build.py "$folder"
    "$venv/bin/python" tests/zoo/embeddings.py "$folder"
    cp tests/zoo/build.py "$folder/built.py"
fi
