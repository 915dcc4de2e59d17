#!/usr/bin/env bash
# The proof of the regression gate on a real machine, within a time that is given.
#
# Usage: tests/proof/gate_proof.sh [options] OUT
#   --minutes M     ends after about M minutes (default 40); OUT keeps what is done, the next call goes on from there
#   --jobs N        processes that count instructions side by side (default: all cores)
#   --threads N     of a timed kernel (default 1: the other core is for the rest of the machine)
#   --rows N        token rows of the timed kernels (default 256); counted ones have the table's 64
#   --cases N       kernels of the time part (default 12, of different ops)
#   --program FILE  a peftbench_planted (default: builds one in build-proof); both sides are copies of it
#   --part PART     instructions or time alone (default: both, instructions for half of the time)
#   --beside FILE   a gate-proof.json from before: the part that is not run is shown from it, and of which revision it is
#   --filter TEXT, --comparisons N, --planted N   of the part by instructions: only these kernels, so many comparisons
#                   of A with itself (default 2995) and planted kernels (59). With fewer it is a trial, and says so
#   --summary       only writes the summary of what OUT holds
#
# An OUT is of one program on one machine and of one --filter: with another one it is refused. To go on after the sources changed:
# --program OUT/a/peftbench.
#
# A and B are folders with the same program, tests/tools/planted.c. Beside B's lies what is planted into a kernel.
#
# Instructions (all cores, any machine; callgrind, and perf_event where there is one):
#   1. the table of `kernels count` once, as a baseline; then again and again against it, each in a process of its own, until
#      2995 kernels were judged: none may be MORE_WORK. After four whole tables without the ops of more than 4e6 instructions,
#      which would take most of the time;
#   2. 59 kernels one after the other with 5 % more instructions: each must be MORE_WORK; the same with up to 1 % more: each
#      must be SAME. Kernels whose 5 % are less than the gate's slack of 64 instructions are left out, and listed.
# Time (a quiet machine):
#   3. a process times every kernel: the cheapest of each op are candidates; a comparison of A with itself over them: the
#      --cases with the least spread are taken. This is done before, and once; nothing is left out afterwards: a REGRESSED
#      among the candidates is a false alarm as any other.
#   4. sets, until the time is over: `kernels compare A B` of all those kernels, of which a third spins for 5 % of its own
#      time, a third for 1 % and a third for nothing, by turns. Every comparison is reported, with the slowdown that its own
#      spread could have found. Those of a set share 20 processes: the sets are what is independent.
# OUT/times.tsv says how long each step took.
#
# Results: OUT/gate-proof.md and OUT/gate-proof.json (tests/proof/summary.py). Exit status: 0 what was planted was found
# where it had to be and nothing else, 1 refuted, 2 usage or the OUT of another program, 3 not finished: call it again.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
minutes=40 jobs=$(nproc) threads=1 rows=256 cases=12 program='' only_summary=0 out=''
part=both beside='' filter='' comparisons=2995 planted=59
usage() { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2 && exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
    --minutes | --jobs | --threads | --rows | --cases | --program | --part | --beside | --filter | --comparisons | --planted)
        [ $# -ge 2 ] || usage
        declare "${1#--}=$2"
        shift ;;
    --summary) only_summary=1 ;;
    -*) usage ;;
    *) [ -z "$out" ] || usage && out=$1 ;;
    esac
    shift
done
[ -n "$out" ] || usage
case $part in both | instructions | time) ;; *) usage ;; esac
[ -z "$beside" ] || [ -r "$beside" ] || { echo "--beside $beside: no such file" >&2 && exit 2; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
start=$(date +%s)
end=$((start + 60 * minutes)) middle=$((start + 30 * minutes))
[ "$part" = both ] || middle=$end
summary() { python3 "$root/tests/proof/summary.py" "$out" "$comparisons" "$planted" "$part" ${beside:+"$beside"}; }
if [ "$only_summary" = 1 ]; then
    code=0
    summary || code=$?
    exit $code
fi

# step NAME COMMAND...: runs it and writes down how long it took.
step() {
    local name=$1 from code=0
    from=$(date +%s)
    shift
    echo "$name" >&2
    "$@" || code=$?
    printf '%s\t%d\n' "$name" "$(($(date +%s) - from))" >>"$out/times.tsv"
    return $code
}

build() {
    cmake -S "$root" -B "$root/build-proof" -DPB_CUDA=OFF >"$out/build.log"
    cmake --build "$root/build-proof" --parallel "$(nproc)" --target peftbench_planted >>"$out/build.log" 2>&1 || {
        echo "the build failed: $out/build.log" >&2
        return 1
    }
}
if [ -z "$program" ]; then
    step build build
    program=$root/build-proof/tests/peftbench_planted
fi
# What all of OUT is of: the program's hash and revision, the machine, the kernels.
origin() {
    "$program" info --format json | python3 -c 'import json, sys
info = json.load(sys.stdin)
json.dump({"program_sha256": sys.argv[1], "filter": sys.argv[2], **{k: info[k] for k in ("machine", "system", "build", "libraries")}},
          sys.stdout, indent=1)' "$(sha256sum <"$program" | cut -d' ' -f1)" "$filter"
}
origin >"$out/origin.part"
if [ -e "$out/a/peftbench" ] && ! cmp -s "$out/origin.part" "$out/origin.json"; then
    rm "$out/origin.part"
    if [ ! -e "$out/origin.json" ]; then echo "$out does not say which program and machine it is of: take a new folder" >&2 && exit 2; fi
    echo "$out is of another program, machine or --filter (its origin.json): take a new folder, or go on with" >&2
    echo "--program $out/a/peftbench on its machine" >&2
    exit 2
fi
mkdir -p "$out"/{a,b,sets}
mv "$out/origin.part" "$out/origin.json"
[ -e "$out/a/peftbench" ] || cp "$program" "$out/a/peftbench"
ln -f "$out/a/peftbench" "$out/b/peftbench"
a=$out/a/peftbench

# ---- instructions ----

# Every op goes through what plants, with nothing to do: A and B differ in what is planted alone.
"$a" kernels list --format json --model shape:minilm --rows 64 2>/dev/null >"$out/list.json"
python3 -c 'import json, sys
for op in sorted({case["op"] for case in json.load(open(sys.argv[1]))}): print(op, "work", 0)' "$out/list.json" >"$out/nothing"
cp "$out/nothing" "$out/a/planted"

# count_one GAUGE NAME OP PLANTED FILTER: judges against the baseline into OUT/GAUGE/NAME.json, in a folder of its own.
count_one() {
    local gauge=$1 name=$2 op=$3 number=$4 filter=$5 code=0 own
    [ "$(date +%s)" -lt "$middle" ] || return 0
    own=$out/$gauge/$name
    mkdir -p "$own"
    ln -f "$out/a/peftbench" "$own/peftbench"
    { grep -v "^$op " "$out/nothing" || true; [ "$op" = - ] || echo "$op work $number"; } >"$own/planted"
    "$own/peftbench" kernels count --gauge "$gauge" --baseline "$out/$gauge/base.json" ${filter:+--filter "$filter"} \
        --format json >"$own/out.json" 2>"$own/log" || code=$?
    case $code in
    0 | 2) mv "$own/out.json" "$own.json" && rm -r "$own" ;;
    *) echo "$own/log: exit status $code" >&2 && tail -2 "$own/log" >&2 ;;
    esac
}
export -f count_one
export out middle

# run_counts: lines "GAUGE NAME OP NUMBER FILTER", tab-separated, several at a time; what is there already is not run.
run_counts() {
    while IFS=$'\t' read -r gauge name rest; do
        [ -e "$out/$gauge/$name.json" ] || printf '%s\t%s\t%s\0' "$gauge" "$name" "$rest"
    done | xargs -0 -r -P "$jobs" -I{} bash -c 'IFS=$'"'\\t'"' read -r g n o p f <<<"$1"; count_one "$g" "$n" "$o" "$p" "$f"' _ {}
}

base() {
    "$a" kernels count --gauge "$1" ${filter:+--filter "$filter"} --save "$out/$1/base.json" >"$out/$1/base.txt" 2>"$out/$1/base.log"
}

plan() { # GAUGE PART: the lines for run_counts
    python3 - "$out/$1" "$1" "$2" "$comparisons" "$planted" "$filter" <<'PLAN'
import json, sys
# What plants takes one instruction more when there is something to plant, and a kernel counted alone differs from the same among
# others, as the baseline has it, by up to 28: 1 % keeps that below the gate's limit.
ROOM = 32
WHOLE, LIGHT = 4, 4e6  # processes that count the whole table; the others leave out ops that execute more
folder, gauge, part, want_aa, want, filter = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
base = json.load(open(folder + "/base.json"))
counts = {name: n for group in base["instructions"].values() for name, n in group.items()}
if part == "aa":
    most = {}
    for name, n in counts.items():
        most[name.split("/")[1]] = max(n, most.get(name.split("/")[1], 0))
    light = [] if filter else [op for op, n in most.items() if n <= LIGHT]
    each = sum(name.split("/")[1] in light for name in counts)
    left, i = want_aa, 0
    while left > 0:
        whole = i < WHOLE or not light
        print(gauge, f"aa-{i:04d}", "-", 0, filter if whole else "|".join(f"/{op}/" for op in light), sep="\t")
        left -= len(counts) if whole else each
        i += 1
else:
    percent = {"five": 5, "one": 1}[part]
    names = [name for name, n in sorted(counts.items()) if 0.05 * n > 64 + 2]
    chosen = [names[i * len(names) // want] for i in range(want)] if len(names) >= want else names
    for i, name in enumerate(chosen):
        # Two instructions a turn. Of the smallest kernels' 1 % half is planted.
        number = int(counts[name] * percent / 100)
        if percent == 1: number -= min(ROOM, number // 2)
        number = number // 2 * 2
        print(gauge, f"{part}-{i:04d}", name.split("/")[1], number, name, sep="\t")
PLAN
}

count_part() { plan "$1" "$2" | run_counts; }

gauges=()
if command -v valgrind >/dev/null; then gauges+=(callgrind); fi
if "$a" kernels count --gauge perf --filter minilm/axpby/ --dtype f32 >/dev/null 2>&1; then gauges+=(perf); fi
[ "$part" != time ] || gauges=()
[ ${#gauges[@]} -gt 0 ] || [ "$part" = time ] || { echo "neither valgrind nor a counter of the processor: nothing to count with" >&2 && exit 1; }
for gauge in "${gauges[@]}"; do
    mkdir -p "$out/$gauge"
    [ -e "$out/$gauge/base.json" ] || step "$gauge: the baseline" base "$gauge"
    for what in five one aa; do
        if [ "$(date +%s)" -lt "$middle" ]; then step "$gauge: $what" count_part "$gauge" "$what"; fi
    done
done
if [ "$part" = instructions ]; then
    code=0
    summary || code=$?
    exit $code
fi

# ---- time ----

timed=(--model shape:minilm --rows "$rows" --threads "$threads" --dtype f32)
rm -f "$out/a/planted" # and no clock is read twice

candidates() { # one process over all kernels; what it says, with the time of each line, shows what a kernel costs
    "$a" kernels run "${timed[@]}" --unchecked --budget 40s --save "$out/candidates.json" 2>&1 >/dev/null |
        while IFS= read -r line; do printf '%s %s\n' "$(date +%s.%N)" "$line"; done >"$out/candidates.log"
    echo "$(date +%s.%N) end of end: end" >>"$out/candidates.log"
}
pilot() {
    python3 "$root/tests/proof/choose.py" candidates "$out" "$((2 * cases))" >"$out/candidates" || return 1
    "$a" kernels compare --aa "$a" "${timed[@]}" --filter "$(cat "$out/candidates")" --format json --allow-unclear \
        --budget "$(cat "$out/candidates.budget")s" >"$out/pilot.part" 2>"$out/pilot.log" || [ $? = 2 ] || return 1
    mv "$out/pilot.part" "$out/pilot.json"
}
[ -e "$out/pilot.json" ] || {
    step "time: what each kernel costs" candidates
    step "time: A against itself, to choose" pilot || { tail -3 "$out/pilot.log" >&2 && exit 1; }
}
if [ ! -e "$out/chosen" ]; then
    python3 "$root/tests/proof/choose.py" pilot "$out" "$cases" >"$out/chosen.part"
    mv "$out/chosen.part" "$out/chosen"
fi

# The spin is there: 100 % of it show in one process. Without this, a third of the sets would be true of anything.
spins() {
    local name op
    name=$(cut -d'|' -f1 "$out/chosen")
    op=$(cut -d/ -f2 <<<"$name")
    for side in a b; do
        if [ "$side" = b ]; then echo "$op time 100" >"$out/b/planted"; fi
        "$out/$side/peftbench" kernels run "${timed[@]}" --filter "$name" --unchecked --budget 3s --format json 2>/dev/null >"$out/spin-$side.json"
    done
    python3 -c 'import json, sys
a, b = (sorted(json.load(open(f))["kernels"][0]["samples_s"][0]) for f in sys.argv[1:])
ratio = b[len(b) // 10] / a[len(a) // 10]
sys.exit(f"a spin of 100 % makes it {ratio:.2f} times as slow: the proof would prove nothing" if not 1.7 < ratio < 2.4 else 0)' \
        "$out/spin-a.json" "$out/spin-b.json"
}
step "time: is the spin there" spins

set_of_comparisons() { # NUMBER: exit status 4 when the program did not do it
    local number=$1 code=0 i=0 name op
    local what=(5 1 0)
    : >"$out/b/planted" && : >"$out/sets/$number.roles"
    while IFS= read -r name; do
        op=$(cut -d/ -f2 <<<"$name")
        role=${what[$(((number + i) % 3))]}
        [ "$role" = 0 ] || echo "$op time $role" >>"$out/b/planted"
        printf '%s\t%s\n' "$role" "$name" >>"$out/sets/$number.roles"
        i=$((i + 1))
    done < <(tr '|' '\n' <"$out/chosen")
    "$a" kernels compare "$out/a" "$out/b" "${timed[@]}" --filter "$(cat "$out/chosen")" --format json --allow-unclear \
        --budget "$(cat "$out/chosen.budget")s" >"$out/sets/part" 2>"$out/sets/log" || code=$?
    case $code in
    0 | 2 | 4 | 5) mv "$out/sets/part" "$out/sets/$number.json" ;; # also what is WRONG is reported
    *) echo "kernels compare ended with $code:" >&2 && tail -3 "$out/sets/log" >&2 && return 4 ;;
    esac
}
number=$(find "$out/sets" -name '*.json' | wc -l)
failures=0 longest=0
while [ $(($(date +%s) + longest)) -lt "$end" ] && [ $failures -lt 3 ]; do
    from=$(date +%s)
    if step "time: set $number" set_of_comparisons "$number"; then
        number=$((number + 1))
    else
        failures=$((failures + 1))
    fi
    took=$(($(date +%s) - from))
    longest=$((took > longest ? took : longest))
done
code=0
summary || code=$?
exit $code
