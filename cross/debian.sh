#!/usr/bin/env bash
# Debian's Rust and cross compiler in a folder of their own, for machines whose Rust cannot have the target.
# build.sh calls this as root:
#
#     cross/debian.sh install ROOT ARCHITECTURE GNU     makes the folder ROOT
#     cross/debian.sh run ROOT BUILT CRATES USER VARIABLE=VALUE... COMMAND...
#
# `run` needs mounts of its own (unshare --mount). COMMAND runs as USER in the sources and sees, beside the root, only
# the folder BUILT and the machine's CARGO_HOME, CRATES: it uses no network.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian's Rust must be as new as rust-version in Cargo.toml. glibc 2.31 is in Debian 11, Ubuntu 20.04 and JetPack 5.
rust_suite=forky
glibc_suite=bullseye

install() {
    local root=$1 architecture=$2 gnu=$3 half=$1.half mirror package packages=()
    # shellcheck disable=SC2016 # apt-get expands it
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
    if [ -z "$mirror" ]; then
        echo "cross: apt's sources name no Debian mirror, or apt-get update has not run" >&2
        exit 1
    fi
    rm -rf "$half"
    mkdir -p "$half"
    # An older debootstrap does not know the suite by name: it is made as sid is.
    debootstrap --variant=minbase --include=ca-certificates "$rust_suite" "$half" "$mirror" \
        /usr/share/debootstrap/scripts/sid
    cp /etc/resolv.conf /etc/hosts "$half/etc"
    printf 'deb %s %s main\n' "$mirror" "$rust_suite" "$mirror" "$glibc_suite" >"$half/etc/apt/sources.list"

    export DEBIAN_FRONTEND=noninteractive LC_ALL=C
    chroot "$half" dpkg --add-architecture "$architecture"
    chroot "$half" apt-get -qq -o Acquire::Check-Valid-Until=false update
    chroot "$half" apt-get -qq install --yes --no-install-recommends rustc cargo gcc libc6-dev \
        "libstd-rust-dev:$architecture" "gcc-${gnu/_/-}" "libc6-dev-$architecture-cross"

    # The older glibc. That the newer compiler asks for the newer one holds for libraries which nothing here links.
    for package in libc6 libc6-dev linux-libc-dev libgcc-s1; do
        packages+=("$package-$architecture-cross/$glibc_suite")
    done
    chroot "$half" env --chdir=/var/cache/apt apt-get -qq download "${packages[@]}"
    chroot "$half" sh -c 'dpkg --force-depends --install /var/cache/apt/*.deb'
    chroot "$half" apt-get clean
    rm "$half"/var/cache/apt/*.deb
    mv "$half" "$root"
}

run() {
    local root=$1 built=$2 crates=$3 user=$4
    shift 4
    mkdir -p "$root/edgeward" "$root/built" "$root/crates"
    mount --bind "$PWD" "$root/edgeward"
    mount --bind "$built" "$root/built"
    mount --bind "$crates" "$root/crates"
    mount --rbind /proc "$root/proc"
    exec chroot --userspec="$user" "$root" env --ignore-environment --chdir=/edgeward PATH=/usr/bin HOME=/tmp "$@"
}

"$@"
