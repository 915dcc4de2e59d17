#!/usr/bin/env bash
# The proof of the regression gate on a real machine, for hours on a quiet one:
#   (a) a build against itself: PROOF_AA kernel comparisons (2995), none REGRESSED: with 95 % confidence the rate of false
#       alarms is then below 0.1 %;
#   (b) a kernel that spins for 5 % of its own time: found PROOF_FIVE times of as many (59): found at least 95 % of the time;
#   (c) a kernel that spins for 1 %, PROOF_ONE comparisons (59), none REGRESSED.
# A comparison of (b) whose own spread lets it find only more than 3.5 % is "too noisy" and counts for nothing; the spread is
# within the sides, so that leaving it out does not favour either answer.
#
# Usage: tests/proof/gate_proof.sh FOLDER [kernels options, e.g. --model shape:minilm --rows 512 --threads 1]
# Every comparison is a file in FOLDER; called again, it goes on. PROOF_MINUTES ends it after that time (default: none).
# PROOF_FILTER names the cases (default: all); PROOF_BUDGET the time of a process of (a) (default 60s).
# FOLDER/gate-proof.txt is the result. Exit status: 0 proven, 1 refuted, 3 not finished or the machine is too noisy.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -ge 1 ] || { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
want_aa=${PROOF_AA:-2995} want_five=${PROOF_FIVE:-59} want_one=${PROOF_ONE:-59}
end=$(($(date +%s) + 60 * ${PROOF_MINUTES:-100000}))

# A program with the spin in it: both sides run it, only B is told to spin.
build=${PROOF_BUILD:-$root/build-proof}
cmake -S "$root" -B "$build" -DPB_PLANT_SPIN=ON -DBUILD_TESTING=OFF -DPB_CUDA=OFF >"$folder/build.log"
cmake --build "$build" --parallel "$(nproc)" --target peftbench >>"$folder/build.log" 2>&1 || {
    echo "the build failed: $folder/build.log" >&2
    exit 1
}
program=$build/peftbench
mkdir -p "$folder"/{aa,five,one}
export PB_SPIN= # nobody spins unless its script says so

# compare PART NUMBER B [options]: one comparison into a file; half-written ones do not count.
compare() {
    local part=$1 number=$2 b=$3 code=0
    shift 3
    "$program" kernels compare "$program" "$b" --format json --allow-unclear "$@" >"$folder/part.json" 2>"$folder/part.log" ||
        code=$?
    case $code in
    0 | 2) mv "$folder/part.json" "$folder/$part/$number.json" ;;
    *) echo "kernels compare ended with $code:" >&2 && tail -3 "$folder/part.log" >&2 && exit 1 ;;
    esac
}

# spinning OP PERCENT: a program that is slower in one op.
spinning() {
    printf '#!/bin/sh\nPB_SPIN=%s:%s exec "%s" "$@"\n' "$1" "$2" "$program" >"$folder/slower"
    chmod 755 "$folder/slower"
}

# summary: what the files hold; its last line is proven, refuted or unfinished.
summary() {
    python3 "$root/tests/proof/summary.py" "$folder" "$want_aa" "$want_five" "$want_one" | tee "$folder/gate-proof.txt"
}

# needs PART: how many comparisons PART still needs.
needs() { sed -n "s/^$1: .*, \([0-9]*\) to go.*/\1/p" "$folder/gate-proof.txt"; }

filter=()
[ -z "${PROOF_FILTER:-}" ] || filter=(--filter "$PROOF_FILTER")
"$program" kernels list --format json "$@" "${filter[@]}" |
    python3 -c 'import json, sys
for case in json.load(sys.stdin): print(case["op"] + "\t" + case["name"])' >"$folder/cases.txt"
mapfile -t cases <"$folder/cases.txt"

# The spin is there: 300 % of it show in one process. Without this, (c) would be true of anything.
fastest() { # seconds of the first case's fastest sample: what noise moves least
    "$1" kernels run "${@:2}" --filter "${cases[0]#*$'\t'}" --unchecked --budget 2s --format json 2>/dev/null |
        python3 -c 'import json, sys
print(min(json.load(sys.stdin)["kernels"][0]["samples_s"][0]))'
}
spinning "${cases[0]%%$'\t'*}" 300
python3 -c 'import sys; sys.exit(not 3 < float(sys.argv[2]) / float(sys.argv[1]) < 6)' "$(fastest "$program" "$@")" \
    "$(fastest "$folder/slower" "$@")" || {
    echo "a spin of 300 % does not make ${cases[0]%%$'\t'*} four times as slow: the proof would prove nothing" >&2
    exit 1
}

summary >/dev/null
did=1
while [ "$(tail -1 "$folder/gate-proof.txt")" = unfinished ] && [ $did = 1 ]; do
    did=0
    for part in aa five one; do
        number=$(find "$folder/$part" -name '*.json' | wc -l)
        if [ "$(needs $part)" = 0 ] || [ "$(date +%s)" -ge "$end" ]; then continue; fi
        if [ $part = five ] && [ "$number" -ge $((4 * want_five)) ]; then continue; fi # too noisy a machine
        did=1
        if [ $part = aa ]; then
            compare aa "$number" "$program" --budget "${PROOF_BUDGET:-60s}" "$@" "${filter[@]}"
            continue
        fi
        case=${cases[$((number * 37 % ${#cases[@]}))]} # not neighbours in the table one after the other
        spinning "${case%%$'\t'*}" "$([ $part = five ] && echo 5 || echo 1)"
        compare "$part" "$number" "$folder/slower" "$@" --filter "${case#*$'\t'}" --budget 2s
    done
    summary >/dev/null
done
summary
case $(tail -1 "$folder/gate-proof.txt") in
proven) exit 0 ;;
refuted) exit 1 ;;
*) exit 3 ;;
esac
