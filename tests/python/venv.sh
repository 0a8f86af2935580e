#!/usr/bin/env bash
# Makes the virtual environment that the client tests run in. Usage: tests/python/venv.sh DIR REQUIREMENTS
# Does nothing when DIR was made from the same requirements by the same Python. Exit 3: no Python here can make one.
set -euo pipefail

dir=$1
requirements=$2

# The distribution's Python first: version managers often lack modules that the system's has.
python=
for candidate in /usr/bin/python3 python3; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "venv: needs Python 3.11 or newer with the venv module (Debian: python3-venv)" >&2
    exit 3
fi

stamp="$("$python" --version) $(cat "$(dirname "$0")"/*.txt | sha256sum | cut -d' ' -f1)"
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ] && "$dir/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

echo "venv: installing the pinned clients into $dir"
rm -rf "$dir"
"$python" -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check --no-input --use-pep517 --requirement "$requirements"
echo "$stamp" >"$dir/stamp"
