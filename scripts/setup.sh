#!/usr/bin/env bash
# Installs what building, testing, counting instructions and the demo need on Debian 12 or later,
# and nothing else. Does nothing, and needs no network, when all of it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

# command:package
needed=(
    cc:build-essential pkg-config:pkg-config make:make curl:curl git:git jq:jq openssl:openssl
    ip:iproute2 ethtool:ethtool nft:nftables conntrack:conntrack ping:iputils-ping
    iperf3:iperf3 tcpdump:tcpdump nsenter:util-linux setpriv:util-linux ps:procps
    valgrind:valgrind etcd:etcd-server strace:strace
)

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

# ip, nft and the like are for root; other users may not have their directories in PATH.
export PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

missing=()
for entry in "${needed[@]}"; do
    command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
done
# The AEAD's library is for x86_64 only; elsewhere all is done by another.
if [ "$(uname -m)" = x86_64 ] && [ ! -e /usr/include/intel-ipsec-mb.h ]; then
    missing+=(libipsec-mb-dev)
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing: ${missing[*]}"
    as_root apt-get update -qq
    # Tests start members of their own; the one that the package would start is nobody's.
    if [[ " ${missing[*]} " == *" etcd-server "* && ! -e /etc/systemd/system/etcd.service ]]; then
        as_root mkdir -p /etc/systemd/system
        as_root ln -s /dev/null /etc/systemd/system/etcd.service
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends ca-certificates "${missing[@]}"
fi

if ! command -v cargo >/dev/null; then
    if apt-cache show rustup >/dev/null 2>&1; then
        echo "installing: rustup"
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends rustup
    else
        echo "installing: rustup, from its own site (this Debian has no package of it)"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --profile minimal --default-toolchain none
    fi
fi

# rust-toolchain.toml says which compiler; cargo fails here when it is not installed.
if ! cargo --version >/dev/null 2>&1; then
    echo "installing: the Rust toolchain of rust-toolchain.toml"
    rustup toolchain install
fi
for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || {
        echo "cargo $component is missing: install it for $(cargo --version)" >&2
        exit 1
    }
done

[ -c /dev/net/tun ] || {
    echo "/dev/net/tun is missing: load the module with 'modprobe tun'" >&2
    exit 1
}
