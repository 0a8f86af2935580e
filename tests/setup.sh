#!/usr/bin/env bash
# Installs what the tests need beside Rust and a C compiler. Usage: tests/setup.sh VENV [soak]
# With `soak` also what the long run needs: Spark and a Java.
# As root on Debian or Ubuntu it installs missing packages; otherwise it says what is missing and what that leaves out.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A needed_for=(
    [mosquitto]="the fleet tests over a real broker are skipped"
    [mold]="linking takes longer"
    [python3-venv]="the tests with real Python clients are skipped"
    [shellcheck]="the shell scripts are not linted"
    [libvulkan1]="the GPU tests are skipped"
    [mesa-vulkan-drivers]="the GPU tests are skipped on a machine without a GPU"
    [default-jre-headless]="the Spark programs of docs/analysts.md fail in the long run"
)
packages=(mold mosquitto python3-venv shellcheck libvulkan1 mesa-vulkan-drivers)
requirements=requirements.txt
if [ "${2:-}" = soak ]; then
    packages+=(default-jre-headless)
    requirements=soak.txt
fi

# A tool built by hand counts: only its absence matters.
present() {
    case $1 in
        mosquitto) PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v mosquitto >/dev/null ;;
        default-jre-headless) command -v java >/dev/null ;;
        mold | shellcheck) command -v "$1" >/dev/null ;;
        python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null || /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        libvulkan1) ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || /sbin/ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' ;;
        mesa-vulkan-drivers) compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null ;;
    esac
}

missing=()
for package in "${packages[@]}"; do
    present "$package" || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
    # The package starts a broker on port 1883; the tests start their own, on a port of their own.
    if [[ " ${missing[*]} " == *" mosquitto "* ]] && [ -d /run/systemd/system ]; then
        systemctl disable --quiet --now mosquitto
    fi
elif [ ${#missing[@]} -gt 0 ]; then
    for package in "${missing[@]}"; do
        echo "setup: $package is missing: ${needed_for[$package]}"
    done
    echo "setup: as root, 'make setup' installs them; or: apt-get install ${missing[*]}"
fi

# The second stands in the first, so that it goes with it.
status=0
tests/python/venv.sh "$1" "tests/python/$requirements" && tests/python/venv.sh "$1/grpc" tests/python/grpc.txt || status=$?
case $status in
    0) ;;
    3) echo "setup: ${needed_for[python3-venv]}" ;;
    *) exit "$status" ;;
esac
