#!/usr/bin/env bash
# Installs the tunnels that `make bench` compares Weft with: Debian packages, and crates into
# target/peers. Does nothing for what is there already. What cannot be had is reported with the
# reason, and the rest is installed all the same; exit code 1 then.
set -uo pipefail
cd "$(dirname "$0")/.."

# program:package
packages=(wireguard-go:wireguard-go wg:wireguard-tools nebula:nebula tincd:tinc)
# program:crate@version
crates=(
    gotatun:gotatun-cli@0.10.2 boringtun-cli:boringtun-cli@0.7.1 vpncloud:vpncloud@2.3.0
)
root=target/peers
# Lines of a failed installation that are shown.
lines_shown=12

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "neither root nor sudo: as root, run: $*" >&2
        return 1
    fi
}

export PATH="$PWD/$root/bin:$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

# attempt NAME COMMAND...: runs it, and shows the end of its output when it fails.
attempt() {
    local name=$1
    if "${@:2}" >"$log" 2>&1; then
        echo "$name: installed"
    else
        echo "$name: cannot be had: ${*:2}" >&2
        tail -n $lines_shown "$log" | sed 's/^/    /' >&2
        failed=1
    fi
}

updated=
for entry in "${packages[@]}"; do
    program=${entry%%:*} package=${entry#*:}
    if command -v "$program" >/dev/null; then
        echo "$package: is there"
        continue
    fi
    if [ -z "$updated" ]; then
        attempt "lists of packages" as_root apt-get update -qq
        updated=yes
    fi
    attempt "$package" as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$package"
done
for entry in "${crates[@]}"; do
    program=${entry%%:*} crate=${entry#*:}
    if command -v "$program" >/dev/null; then
        echo "$crate: is there"
        continue
    fi
    attempt "$crate" nice -n 10 "${CARGO:-cargo}" install --quiet --locked --root "$root" "$crate"
done
exit $failed
