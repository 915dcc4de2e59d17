#!/usr/bin/env bash
# Is a kernel that does more found? The program with a real pass too much in one kernel (tests/tools/planted.c) against itself
# without it: instructions must say MORE_WORK of that kernel and of no other, alone and within a comparison of builds, and
# nothing of a build against itself. No committed counts are needed, so that every compiler is judged. Exit status 77 without
# valgrind. Usage: tests/kernel_planted.sh PEFTBENCH_PLANTED
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed" && exit 77; }
mkdir "$work/a" "$work/b"
cp "$1" "$work/a/peftbench"
cp "$1" "$work/b/peftbench"
kernels=(--model shape:minilm --rows 64 --dtype f32 --filter '/axpby/64|/scale_cols/64')

# expect WANT-STATUS AXPBY OTHERS COMMAND...: its exit status, and the verdicts it must print.
expect() {
    local want=$1 axpby=$2 others=$3 code=0
    shift 3
    "$@" >"$work/out" 2>"$work/log" || code=$?
    if [ "$code" != "$want" ] || ! grep /axpby/ "$work/out" | grep -q "^$axpby" ||
        ! grep /scale_cols/ "$work/out" | grep -q "^$others "; then
        cat "$work/out" "$work/log"
        echo "exit status $code, expected $want, $axpby of axpby and $others of scale_cols: $*"
        exit 1
    fi
    grep /axpby/ "$work/out"
}

"$work/a/peftbench" kernels count --gauge callgrind "${kernels[@]}" --save "$work/then.json" >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
against=(kernels count --gauge callgrind --baseline "$work/then.json" --filter '/axpby/64|/scale_cols/64')
expect 0 SAME SAME "$work/b/peftbench" "${against[@]}"
echo "axpby pass 1" >"$work/b/planted"
expect 2 MORE_WORK SAME "$work/b/peftbench" "${against[@]}"
# 1 % of some 25,000 instructions passes, 5 % does not.
for try in "200 0 SAME" "1300 2 MORE_WORK"; do
    read -r more code verdict <<<"$try"
    echo "axpby work $more" >"$work/b/planted"
    expect "$code" "$verdict" SAME "$work/b/peftbench" "${against[@]}"
done
# The same in the processor's own instruction set, instruction by instruction: what callgrind's CPU has not is seen too.
if [ "$(uname -m)" = x86_64 ]; then
    rm -f "$work/b/planted"
    "$work/a/peftbench" kernels count --gauge step "${kernels[@]}" --save "$work/step.json" >"$work/log" 2>&1 || {
        cat "$work/log"
        exit 1
    }
    stepped=(kernels count --baseline "$work/step.json" --filter '/axpby/64|/scale_cols/64')
    expect 0 SAME SAME "$work/b/peftbench" "${stepped[@]}"
    echo "axpby work 1300" >"$work/b/planted"
    expect 2 MORE_WORK SAME "$work/b/peftbench" "${stepped[@]}" --junit "$work/verdicts.xml"
    grep -q 'tests="2" failures="1" skipped="0"' "$work/verdicts.xml" &&
        grep -q 'axpby/.*<failure message="MORE_WORK' "$work/verdicts.xml" || {
        cat "$work/verdicts.xml"
        echo "JUnit: expected a failure of axpby alone"
        exit 1
    }
fi
# The same within a comparison, whatever the few samples of this budget say of time.
echo "axpby pass 1" >"$work/b/planted"
expect 2 '\(MORE_WORK\|REGRESSED\) .*+[0-9.]* % instructions' '[A-Z]*' "$work/a/peftbench" kernels compare "$work/a" "$work/b" --instructions --gauge callgrind \
    --threads 1 --budget 1s "${kernels[@]}"
