#!/bin/sh
# Checks the unit, the user and the directories with systemd's own tools, without installing them.
# usage: systemd/verify.sh [BINARY]    BINARY takes the place of /usr/bin/edgeward, which need not
# be installed (default: /bin/true)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
binary=${1:-/bin/true}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

sed "s|/usr/bin/edgeward|$binary|" "$here/edgeward.service" > "$root/edgeward.service"
# verify also reports on units of the machine that ours depends on: only ours is ours to mend.
systemd-analyze verify --man=no --recursive-errors=no "$root/edgeward.service" 2> "$root/report" || {
    cat "$root/report" >&2
    exit 1
}
if grep "edgeward.service" "$root/report" >&2; then
    exit 1
fi

mkdir "$root/etc"
printf 'root:x:0:0:root:/root:/bin/sh\n' > "$root/etc/passwd"
printf 'root:x:0:\n' > "$root/etc/group"
systemd-sysusers --root="$root" "$here/edgeward.sysusers"
grep -q '^edgeward:' "$root/etc/passwd"
systemd-tmpfiles --root="$root" --create "$here/edgeward.tmpfiles"
test -d "$root/var/lib/edgeward"
echo "unit, user and directories are valid"
