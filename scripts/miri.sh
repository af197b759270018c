#!/usr/bin/env bash
# Runs tests under Miri, which finds undefined behaviour: wrong pointers, aliases, uninitialised bytes,
# races. It knows no system calls but the simplest, no assembly and no C, so it takes the pure crates,
# and of the others what works in memory only.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "installing: a nightly toolchain of Rust with Miri"
    if ! rustup toolchain install nightly --profile minimal --component miri,rust-src; then
        echo "make miri needs a nightly toolchain with the components miri and rust-src, which cannot be" \
            "installed here: rustup toolchain install nightly --component miri,rust-src" >&2
        exit 1
    fi
fi

# Properties are tried with few inputs: Miri is some hundred times slower.
export PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation

miri() {
    cargo +nightly miri test --locked --lib "$@"
}

miri -p weft-types -p weft-buffers
# These make or change long datagrams byte by byte.
miri -p weft-wire -- \
    --skip refuses_what_is_longer --skip a_changed_byte --skip record::tests::r
# What is tried exhaustively, or with a number of inputs of its own, takes too long. `ring` is what
# compiles without its C being called.
miri -p weft-proto --no-default-features --features ring -- \
    bucket:: counters:: indices:: pace:: replay:: roam:: route:: silence:: fallback:: way:: \
    --skip engine:: --skip whatever_is_asked --skip so_many_and --skip small_windows --skip equals_the_plain
miri -p weft-sys -- \
    alloc:: link::tests::networks ring::message:: ring::pool:: syscall::tests::interface \
    tun::steering::tests::the_hash udp::address:: udp::control:: udp::receive:: \
    udp::send::tests::only_two \
    --skip freed_and_moved
