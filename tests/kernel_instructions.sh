#!/usr/bin/env bash
# The gate on instructions: every CPU kernel, counted under callgrind, against the committed counts, and of other models what
# results/reference/kernel-instructions-*.json hold. Then the gate itself: against doctored counts of one kernel it must fail at 2 %, pass at 0.5 % and judge nothing that another compiler
# made. Exit status 77, never 0, where the committed counts are of another compiler or instruction set. Usage: tests/kernel_instructions.sh PEFTBENCH
set -euo pipefail
program=$1
reference=$(cd "$(dirname "$0")/.." && pwd)/results/reference
baseline=$reference/kernel-instructions.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed" && exit 77; }

# against BASELINE [OPTION...]: prints verdicts; the exit status is in $code.
against() {
    local file=$1
    shift
    code=0
    "$program" kernels count --gauge callgrind --baseline "$file" "$@" || code=$?
}

# judge BASELINE RENEW [OPTION...]: all of it must pass; RENEW is the command that writes it anew.
judge() {
    local file=$1 renew=$2
    shift 2
    against "$file" "$@" >"$work/verdicts" 2>"$work/log"
    grep -v '^SAME' "$work/verdicts" || true
    cat "$work/log"
    if [ "$code" = 4 ]; then
        echo "skipped: $file is of another compiler or machine: no kernel was judged"
        exit 77
    fi
    if [ "$code" != 0 ]; then
        echo "exit status $code. Where more work is meant: $renew"
        exit 1
    fi
    echo "$(grep -c . "$work/verdicts") kernels of $file"
}

judge "$baseline" "peftbench kernels baseline results/reference/kernel-instructions.json"
# Parts of other models' tables: the cases that they name.
for file in "$reference"/kernel-instructions-*.json; do
    [ -e "$file" ] || continue
    names=$(awk -F'"' '/^      ".*": [0-9]+,?$/ { printf "%s%s", separator, $2; separator = "|" }' "$file")
    judge "$file" "the command for $(basename "$file") in docs/kernels.md" --filter "$names"
done

# doctored PERCENT: the committed counts with so much less in each.
doctored() {
    awk -v keep="$(awk "BEGIN { print 1 - $1 / 100 }")" '
        /^      ".*": [0-9]+,?$/ {
            comma = sub(/,$/, "") ? "," : ""
            n = $NF
            sub(/[0-9]+$/, "")
            printf "%s%.0f%s\n", $0, n * keep, comma
            changed++
            next
        }
        { print }
        END { exit !changed }' "$baseline"
}
doctored 2 >"$work/2_percent.json"
doctored 0.5 >"$work/0.5_percent.json"
sed 's/^  "compiler": ".*"/  "compiler": "another"/' "$baseline" >"$work/compiler.json"
for try in "2_percent 2 MORE_WORK" "0.5_percent 0 SAME" "compiler 4 INCOMPARABLE"; do
    read -r name want verdict <<<"$try"
    against "$work/$name.json" --filter /axpby/ >"$work/verdicts" 2>"$work/log"
    if [ "$code" != "$want" ] || grep -qv "^$verdict " "$work/verdicts"; then
        cat "$work/verdicts" "$work/log"
        echo "against $name: exit status $code, expected $want and $verdict"
        exit 1
    fi
done
