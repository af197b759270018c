#!/usr/bin/env bash
# Changes the code that replay, authentication, ownership and policy rest on, one place after another,
# and runs the tests of its crate: a change that no test notices is a rule that no test states.
#   scripts/mutants.sh [PART...]
# It takes hours, so it is not part of CI. What is left out is in .cargo/mutants.toml.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! "${CARGO:-cargo}" mutants --version >/dev/null 2>&1; then
    echo "installing: cargo-mutants"
    "${CARGO:-cargo}" install --locked cargo-mutants
fi

parts=("$@")
if [ ${#parts[@]} -eq 0 ]; then
    parts=(replay authentication ownership indices roam policy certificates admission)
fi

# Kept from one run to the next; without optimisation changes are compiled in seconds.
export CARGO_TARGET_DIR=$PWD/target/mutants CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=1

status=0
mutants() {
    local part=$1 package=$2 options=()
    shift 2
    for file in "$@"; do options+=(--file "dataplane/$file"); done
    for option in package.weft-proto.opt-level=0 package.weft-handshake.opt-level=0 \
        package.weft-pki.opt-level=0; do
        options+=(--cargo-arg=--config=profile.dev.$option)
    done
    # Both providers of AEADs are compiled, so that what is only of one is tested too.
    if [ "$package" = weft-proto ]; then options+=(--all-features); fi
    echo "mutants of $part"
    nice "${CARGO:-cargo}" mutants --package "$package" --no-shuffle \
        --minimum-test-timeout 30 --output "target/mutants/$part" "${options[@]}" -- --lib || {
        # 3: some tests did not end, which is noticed as well.
        [ $? -eq 3 ] || status=1
    }
}

mkdir -p target/mutants
for part in "${parts[@]}"; do
    case $part in
    replay) mutants "$part" weft-proto proto/src/replay.rs ;;
    authentication)
        mutants "$part" weft-proto proto/src/{aead,keys,route}.rs proto/src/lane/receive.rs
        ;;
    ownership) mutants "$part" weft-proto proto/src/engine/{inbound,outbound}.rs ;;
    indices) mutants "$part" weft-proto proto/src/{indices,pace}.rs ;;
    policy)
        mutants "$part" weft-proto proto/src/engine/judging.rs \
            proto/src/policy/{bits,compiled,flows,guard,ports,rules,seen}.rs
        ;;
    roam) mutants "$part" weft-proto proto/src/roam.rs ;;
    certificates) mutants "$part" weft-pki pki/src/verify.rs ;;
    admission) mutants "$part" weft-handshake handshake/src/{verifier,admission}.rs ;;
    *)
        echo "no part $part" >&2
        exit 2
        ;;
    esac
done
exit $status
