#!/usr/bin/env bash
# Runs the fault catalogue at full extent and prints its figures as a table (docs/faults.md).
#   scripts/faults.sh [TEST...]     all tests that have rows, or only those named
# Needs root, and the programs in WEFT_BIN_DIR.
set -euo pipefail
cd "$(dirname "$0")/.."

tests=("$@")
if [ ${#tests[@]} -eq 0 ]; then
    tests=(
        faults forgery isolation path canary restart roam streams segmentation endpoints
        floods secrets strangers half_open clock own_interface limits managed authorities
        processes reach soak
    )
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

status=0
WEFT_FAULTS=full "${CARGO:-cargo}" test --locked -p netns-tests --no-fail-fast \
    "${tests[@]/#/--test=}" -- --nocapture --test-threads=1 2>&1 | tee "$log" || status=$?

echo
echo "| fault | must hold | figure |"
echo "|---|---|---|"
sed -n 's/^.*fault: \(.*\)$/| \1 |/p' "$log"
if grep -q '^test .* FAILED$\|^FAILED$' "$log"; then
    echo
    echo "not everything holds: see above"
fi
exit "$status"
