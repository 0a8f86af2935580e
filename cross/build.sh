#!/usr/bin/env bash
# Builds edgeward for another processor than this machine's, and tries it under emulation.
#
#     cross/build.sh [--check] [--debian] TARGET        TARGET: aarch64, armv7 or x86_64
#
# The binary and its SHA-256 go to target/cross/TRIPLE (CARGO_TARGET_DIR takes the place of target). The shortest way
# that works here is taken:
#
#   plain   TARGET is this machine's own processor.
#   rustup  The machine's Rust has the target, or rustup can add it. The distribution's cross compiler compiles C, and
#           the binary needs the glibc of that distribution or a newer one.
#   debian  Debian's Rust and cross compiler, in a folder below .cache/cross that debian.sh makes once. Needs the
#           rights of root, and a Debian mirror in apt's sources. The binary needs no newer glibc than 2.31. --debian
#           takes this way where rustup would do.
#
# --check then runs the binary under qemu: its version; each profile; the tests of tests/process that take it
# through configurations, starts, predictions and a fleet; and the unit tests of the crates it is made of.
set -euo pipefail
cd "$(dirname "$0")/.."

check=false
debian=false
target=
for argument in "$@"; do
    case $argument in
        --check) check=true ;;
        --debian) debian=true ;;
        *) target=$argument ;;
    esac
done
case $target in
    aarch64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu architecture=arm64 qemu=qemu-aarch64-static ;;
    armv7) triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf architecture=armhf qemu=qemu-arm-static ;;
    x86_64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu architecture=amd64 qemu=qemu-x86_64-static ;;
    *)
        echo "usage: cross/build.sh [--check] [--debian] aarch64|armv7|x86_64" >&2
        exit 64
        ;;
esac

mkdir -p "${CARGO_TARGET_DIR:-target}/cross/$triple"
built=$(realpath "${CARGO_TARGET_DIR:-target}/cross")
folder=$built/$triple
release=$folder/release
root=$PWD/.cache/cross/$architecture

say() { echo "cross: $*"; }
fail() {
    say "$@" >&2
    exit 1
}
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# need PROGRAM PACKAGE...: installs the packages where the program is missing, or says which they are.
need() {
    local program=$1
    shift
    if command -v "$program" >/dev/null; then
        return
    elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "$program is missing (Debian: apt-get install $*)"
    fi
    say "installing $*"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

rust_has_target() { [ -d "$(rustc --print target-libdir --target "$triple")" ]; }

choose_way() {
    if [ "$(rustc -vV | sed -n 's/^host: //p')" = "$triple" ]; then
        way=plain
        release=${CARGO_TARGET_DIR:-target}/release
        if $debian; then fail "--debian is for other processors than this machine's"; fi
    elif ! $debian && { rust_has_target || rustup target add "$triple"; }; then
        way=rustup
        need "$gnu-gcc" "gcc-${gnu/_/-}" "libc6-dev-$architecture-cross"
    else
        way=debian
        if [ ! -d "$root" ]; then
            need debootstrap debootstrap
            say "installing Debian's Rust into $root, once"
            as_root cross/debian.sh install "$root" "$architecture" "$gnu" >"$built/debian.log" 2>&1 ||
                fail "that failed, as $built/debian.log says"
        fi
    fi
}

# The command that runs a program for the target with the libraries below a folder, and none that lie elsewhere.
emulator() { echo "$qemu -cpu max -L $1 -E LD_LIBRARY_PATH=$1/lib"; }

# Cargo for the target.
cross_cargo() {
    if [ "$way" = plain ]; then
        cargo "$@"
        return
    fi
    local variable=${triple^^}
    variable=CARGO_TARGET_${variable//-/_}
    local -x CARGO_BUILD_TARGET=$triple CARGO_TARGET_DIR=$built
    local -x "${variable}_LINKER=$gnu-gcc" "${variable}_RUNNER=$(emulator "/usr/$gnu")"
    if [ "$way" = debian ]; then debian_cargo "$@"; else cargo "$@"; fi
}

# Cargo in Debian's root. The machine's cargo fetches the crates: it knows where from.
debian_cargo() {
    local name variables=()
    cargo fetch --locked
    for name in "${!CARGO_@}"; do variables+=("$name=${!name}"); done
    variables+=(CARGO_HOME=/crates CARGO_TARGET_DIR=/built CARGO_NET_OFFLINE=true)
    as_root unshare --mount cross/debian.sh run "$root" "$built" "${CARGO_HOME:-$HOME/.cargo}" "$(id -u):$(id -g)" \
        "${variables[@]}" cargo "$@"
}

build() {
    local glibc
    cross_cargo build --release --locked --package edgeward
    install -m 0755 "$release/edgeward" "$folder/edgeward"
    (cd "$folder" && sha256sum edgeward >edgeward.sha256)
    glibc=$(readelf --version-info --wide "$folder/edgeward" | grep -o 'GLIBC_[0-9.]*' | sort --version-sort | tail -n 1)
    say "$folder/edgeward"
    say "sha256 $(cut -d' ' -f1 "$folder/edgeward.sha256"), $(stat --format %s "$folder/edgeward") bytes, ${glibc/_/ }"
}

# Writes a command that stands for the binary, and names it in `run`.
emulate() {
    local libraries=/usr/$gnu
    run=$folder/edgeward
    if [ "$way" = plain ]; then return; fi
    need "$qemu" qemu-user-static
    if [ "$way" = debian ]; then
        libraries=$root/usr/$gnu
        as_root install "$(command -v "$qemu")" "$root/usr/bin"
    fi
    run=$folder/run
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$(emulator "$libraries")" "$folder/edgeward" >"$run"
    chmod +x "$run"
}

try_out() {
    local profile
    emulate
    "$run" --version
    for profile in profiles/*.toml; do
        printf 'profile.name = "%s"\nstate.dir = "%s"\n' "$(basename "$profile" .toml)" "$folder/state" >"$folder/edgeward.toml"
        "$run" check-config --config "$folder/edgeward.toml"
    done
    EDGEWARD_BIN=$run cargo test --locked --package edgeward --test process -- config:: lifecycle:: quickstart:: fleet::
    cross_cargo test --release --locked --lib --package edgeward --package edgeward-base --package edgeward-kernels \
        --package edgeward-sync --package edgeward-wire
}

SECONDS=0
choose_way
say "building for $triple, the $way way"
build
say "built in $SECONDS s"
if $check; then
    SECONDS=0
    try_out
    say "checked in $SECONDS s"
fi
