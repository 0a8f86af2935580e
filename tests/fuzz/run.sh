#!/usr/bin/env bash
# Fuzzes the readers of what comes from outside. Usage: tests/fuzz/run.sh SECONDS [TARGET...], SECONDS for each target, all of
# them when none is named. Prints the inputs and the coverage of each; fails at the first input that breaks a claim, takes
# five seconds or asks for 64 MiB at once.
# Needs a nightly toolchain and cargo-fuzz (cargo install cargo-fuzz --locked). What was found is kept in tests/fuzz/corpus,
# what broke in tests/fuzz/artifacts; git ignores both.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ $# -eq 0 ]; then
    echo "usage: tests/fuzz/run.sh SECONDS [TARGET...]" >&2
    exit 64
fi
seconds=$1
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    targets=(dataframe_json csv v2_binary mlmodel)
fi

# One unit of code for each crate would take longer to compile than these runs gain.
fuzz() {
    cargo +nightly fuzz "$1" --fuzz-dir tests/fuzz --codegen-units 16 "${@:2}"
}

for target in "${targets[@]}"; do
    fuzz build "$target"
done
for target in "${targets[@]}"; do
    folder=tests/fuzz/corpus/$target
    log=$folder.log
    mkdir -p "$folder"
    broken=0
    fuzz run "$target" "$folder" "tests/fuzz/seeds/$target" -- -max_total_time="$seconds" -timeout=5 \
        -max_len=32768 -malloc_limit_mb=64 -rss_limit_mb=2048 -print_final_stats=1 \
        -dict="tests/fuzz/dictionaries/$target.dict" >"$log" 2>&1 || broken=$?
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(grep -o 'cov: .* corp: [^ ]*' "$log" | tail -1 || true)
    printf '%-16s %12s inputs  %s\n' "$target" "${inputs:-no}" "$coverage"
    if [ "$broken" -ne 0 ]; then
        tail -60 "$log" >&2
        exit "$broken"
    fi
done
