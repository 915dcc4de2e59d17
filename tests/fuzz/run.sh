#!/usr/bin/env bash
# Builds every fuzz target with clang in build-fuzz/ and runs each for some seconds (default 60) from its committed corpus.
# New inputs are kept in build-fuzz/found/; a crash, leak, hang or memory over 1 GiB ends with exit 1 and the input's path.
#   tests/fuzz/run.sh [seconds] [target ...]
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(json tokenizer jsonl wordnet safetensors)
build=${PB_FUZZ_BUILD:-build-fuzz}

command -v clang >/dev/null || { echo "clang is missing: apt-get install clang libclang-rt-dev" >&2; exit 3; }
CC=clang cmake -S tests/fuzz -B "$build" >/dev/null
cmake --build "$build" --parallel 2 >"$build/build.log" 2>&1 || { cat "$build/build.log" >&2; exit 3; }

fuzz() {
    local target=$1 found=$build/found/$1
    mkdir -p "$found"
    if ! "$build/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=16384 -print_final_stats=1 \
        -dict=tests/fuzz/json.dict -artifact_prefix="$found/" "$found" "tests/fuzz/corpus/$target" \
        >"$build/$target.log" 2>&1; then
        tail -n 60 "$build/$target.log" >&2
        echo "fuzz_$target: finding, see above; the input lies in $found/" >&2
        return 1
    fi
    echo "fuzz_$target, $seconds s: $(grep -E 'number_of_executed_units|peak_rss_mb' "$build/$target.log" | tr -s ' \n' ' ')"
}

# As many at once as there are processors.
failed=0
running=0
for target in "${targets[@]}"; do
    if [ $running -eq "$(nproc)" ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
    fuzz "$target" &
    running=$((running + 1))
done
while [ $running -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
exit $failed
