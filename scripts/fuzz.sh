#!/usr/bin/env bash
# Runs every fuzz target for a while with coverage feedback, from the committed corpora.
#   scripts/fuzz.sh [SECONDS] [TARGET...]
# Inputs that add coverage are kept in target/fuzz/corpus, inputs that crash in
# target/fuzz/artifacts. The stable compiler is enough: its LLVM pass makes the coverage counters,
# and libFuzzer does not need the address sanitizer (of ours only weft-sys has unsafe code, which
# `make miri` looks at).
set -euo pipefail
cd "$(dirname "$0")/../dataplane/fuzz"

seconds=${1:-10}
shift $(($# > 0 ? 1 : 0))
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

CARGO_TARGET_DIR=$(realpath ../..)/target/fuzz
export CARGO_TARGET_DIR
platform=$(rustc -vV | sed -n 's/^host: //p')
counters="-Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    counters+=" -Cllvm-args=-sanitizer-coverage-$option"
done
# With a target named, build scripts and procedural macros stay without counters.
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 $counters" \
    "${CARGO:-cargo}" build --release --locked --target "$platform" --bins

mkdir -p "$CARGO_TARGET_DIR/artifacts"
for target in "${targets[@]}"; do
    found=$CARGO_TARGET_DIR/corpus/$target
    mkdir -p "$found"
    echo "fuzzing $target for $seconds s"
    log=$CARGO_TARGET_DIR/$target.log
    if ! "$CARGO_TARGET_DIR/$platform/release/$target" -max_total_time="$seconds" \
        -verbosity=0 -print_final_stats=1 -artifact_prefix="$CARGO_TARGET_DIR/artifacts/$target-" \
        "$found" "corpus/$target" >"$log" 2>&1; then
        cat "$log"
        exit 1
    fi
    sed -n 's/^stat::number_of_executed_units: */  inputs tried: /p' "$log"
done
