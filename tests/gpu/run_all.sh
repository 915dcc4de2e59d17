#!/usr/bin/env bash
# Everything that needs a GPU, in one command:   tests/gpu/run_all.sh [FOLDER]
#
# Is it right: the op cases, goldens and ten steps of every method on the device, compute-sanitizer. How fast is it: steps, HF
# PEFT beside them, what fits, kernels against their roofs. Where the time goes: traced and counted runs. Needs no network and no
# data; what is missing (nvcc, Python packages, compute-sanitizer) is said and the rest goes on. The most telling parts come
# first. Parts that take no times run side by side, those that do alone. What the time did not suffice for is named at the end,
# with the call that makes up for it. Behind the figures the summary says of every target: met, not met, or not measured.
#
# The build: PB_GPU_BUILD names a finished build folder or an archive that tests/gpu/pack.sh made; else build-gpu.tar.xz in the
# root of the sources is such an archive; else it is built here, for this machine's GPU.
# FOLDER (else $OUT, else gpu-results) gets summary.txt and results.tar.gz: one log per part, figures, records.
# PB_GPU_PARTS: only these parts, separated by commas: names, patterns (step-*), or the groups right, fast, trace.
# PB_GPU_SECONDS: time for all of it (default 460). PB_GPU_DRY=1: pretend that there is no GPU.
# Exit status: 0 all parts that ran passed, 1 some failed (named in summary.txt), 3 nothing could be run.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-${OUT:-$root/gpu-results}}
total=${PB_GPU_SECONDS:-460}
mkdir -p "$out" || exit 3
out=$(cd "$out" && pwd)
scratch=$(mktemp -d) || exit 3
trap 'rm -rf "$scratch"' EXIT
work=$scratch/results
mkdir "$work" "$scratch/lib" "$scratch/tmp"
summary=$out/summary.txt
: >"$summary"
began=$SECONDS
failed="" late="" ran=0
IFS=', ' read -ra wanted <<<"${PB_GPU_PARTS:-}"

say() { printf '%s\n' "$*" | tee -a "$summary"; }
row() { say "$(printf '%-28s %s' "$1" "$2")"; }
left() { echo $((total - (SECONDS - began))); }
# After every part: a script that is ended from outside leaves what it has.
pack_results() {
    cp "$summary" "$work/summary.txt"
    tar -czf "$out/results.tar.gz.new" --exclude=adapter.safetensors -C "$work" . && mv "$out/results.tar.gz.new" "$out/results.tar.gz"
}
is_wanted() { # GROUP NAME
    local pattern
    [ ${#wanted[@]} -eq 0 ] && return 0
    for pattern in build info "${wanted[@]}"; do
        # shellcheck disable=SC2254
        case $2 in $pattern) return 0 ;; esac
        [ "$1" = "$pattern" ] && return 0
    done
    return 1
}

# begin GROUP NAME SECONDS COMMAND...: starts it, a program or a function of this script, within its own budget and what is left
# of the whole. finish: waits for all that were begun and tells how they ended. Neither ever ends the script: a process that the
# system cannot kill, as may be where a GPU hangs, is left behind.
declare -A pid_of=() from_of=() budget_of=()
begun=""
begin() {
    local group=$1 name=$2 budget=$3 rest
    shift 3
    is_wanted "$group" "$name" || return 0
    rest=$(left)
    if [ -n "$why" ]; then row "$name" "not run: $why" && return; fi
    if [ "$rest" -lt 5 ]; then late="$late,$name" && row "$name" "not run: the time is used up" && return; fi
    [ "$budget" -gt "$rest" ] && budget=$rest
    # shellcheck disable=SC2016
    timeout --kill-after=5 "$budget" bash -c '"$@"; rc=$?; echo "$SECONDS" >"$0"; exit $rc' "$scratch/$name.took" "$@" \
        >"$work/$name.log" 2>&1 &
    pid_of[$name]=$! from_of[$name]=$SECONDS budget_of[$name]=$budget
    begun="$begun $name"
}
ended() { # NAME: waits; its exit status
    local until=$((${from_of[$1]} + ${budget_of[$1]} + 10))
    while kill -0 "${pid_of[$1]}" 2>/dev/null; do
        [ "$SECONDS" -gt "$until" ] && return 125
        sleep 0.1
    done
    wait "${pid_of[$1]}"
}
finish() {
    local name rc
    for name in $begun; do
        ended "$name"
        rc=$?
        case $rc in
        0) ran=$((ran + 1)) && row "$name" "passed   $(printf '%4d' "$(cat "$scratch/$name.took")") s" ;;
        77) row "$name" "not run: $(tail -n 1 "$work/$name.log")" ;;
        124 | 137) failed="$failed $name" && row "$name" "FAILED: not done after ${budget_of[$name]} s" ;;
        125) failed="$failed $name" && row "$name" "FAILED: does not end, left behind" ;;
        *) failed="$failed $name" && row "$name" "FAILED: exit $rc: $(tail -n 1 "$work/$name.log" | cut -c1-160)" ;;
        esac
    done
    [ -z "$begun" ] || pack_results
    begun=""
}
part() { begin "$@" && finish; } # one alone

# --- what is here ---

toolkits() { # folders that may hold bin/, include/ and lib64/ or lib/
    local dir
    for dir in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /usr/local/cuda-* /opt/cuda \
        "${VIRTUAL_ENV:-/nowhere}"/lib/python3*/site-packages/nvidia/cu1* "$root"/.venv/lib/python3*/site-packages/nvidia/cu1* \
        /opt/*/lib/python3*/site-packages/nvidia/cu1* /opt/*/.venv/lib/python3*/site-packages/nvidia/cu1* \
        "$HOME"/.local/lib/python3*/site-packages/nvidia/cu1* /usr/local/lib/python3*/*-packages/nvidia/cu1*; do
        if [ -n "$dir" ] && [ -d "$dir" ]; then echo "$dir"; fi
    done
}
find_tool() { # NAME: on the PATH, else in a toolkit
    local dir
    command -v "$1" 2>/dev/null && return
    toolkits | while read -r dir; do
        [ -x "$dir/bin/$1" ] && echo "$dir/bin/$1" && break
    done
}
find_library() { # NAME: in the build, else in a toolkit
    local dir
    { echo "$build" && toolkits; } | while read -r dir; do
        find -L "$dir" -maxdepth 4 -name "$1" 2>/dev/null | head -n 1
    done | head -n 1
}
find_python() { # the first that can import torch, else any
    local p any=""
    for p in "${PB_PYTHON:-}" "$root/.venv/bin/python" "${VIRTUAL_ENV:-/nowhere}/bin/python" python3 /opt/conda/bin/python \
        /opt/*/bin/python /opt/*/.venv/bin/python; do
        command -v "$p" >/dev/null 2>&1 || continue
        any=${any:-$p}
        "$p" -c 'import torch' >/dev/null 2>&1 && echo "$p" && return
    done
    echo "$any"
}
# Wheels of what that Python lacks, as bitsandbytes, for a machine without a network: wheels/*.whl in the root of the sources or
# beside the given build. A wheel is an archive of what goes on Python's path.
unpack_wheels() {
    local wheel
    [ -n "$python" ] || return 0
    for wheel in "$root"/wheels/*.whl ${given:+"$(dirname "$given")"/wheels/*.whl}; do
        [ -f "$wheel" ] || continue
        "$python" -m zipfile -e "$wheel" "$scratch/wheels" && wheels="$wheels $(basename "$wheel" | cut -d- -f1,2)"
    done
    [ -z "$wheels" ] || export PYTHONPATH=$scratch/wheels${PYTHONPATH:+:$PYTHONPATH}
}
nvcc=$(find_tool nvcc)
sanitizer=$(find_tool compute-sanitizer)
smi=$(find_tool nvidia-smi)
python=""
[ "${PB_GPU_DRY:-0}" = 1 ] || python=$(find_python)
why="" gpu="" arch=""
if [ "${PB_GPU_DRY:-0}" = 1 ]; then
    why="no GPU (dry run)"
elif [ -z "$smi" ] || ! gpu=$("$smi" --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1) || [ -z "$gpu" ]; then
    why="no GPU: nvidia-smi finds none"
else
    arch=$("$smi" --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
    case $arch in '' | *[!0-9]*) arch="" ;; esac
fi
given=${PB_GPU_BUILD:-}
if [ -z "$given" ] && [ -f "$root/build-gpu.tar.xz" ]; then given=$root/build-gpu.tar.xz; fi
if [ -f "$given" ]; then build=$scratch/build; else build=${given:-$root/build-gpu}; fi
wheels=""
unpack_wheels
bench=$scratch/peftbench # build/peftbench with what it needs around it
say "gpu      ${gpu:-none}${arch:+, sm_$arch}"
say "nvcc     ${nvcc:-none}"
say "sanitizer ${sanitizer:-none}"
say "python   ${python:-none}${wheels:+, with$wheels}"
say "build    ${given:-here}"
source=$("$root/tests/gpu/source_id.sh")
say "source   $source"
[ ${#wanted[@]} -eq 0 ] || say "parts    ${wanted[*]}"

# --- the parts ---

# What our programs lack here lies in the build or in a toolkit. Linked into a folder of its own: a whole toolkit in
# LD_LIBRARY_PATH would give other programs other libraries.
link_libraries() {
    local name file pass
    for pass in 1 2 3 last; do # what is linked may lack more
        find "$build" -maxdepth 3 -type f \( -name peftbench -o -name 'lib*.so*' -o -name 'test_*' -o -name 'pb_gpu_suite' \) ! -name '*.o' \
            -print0 | LD_LIBRARY_PATH=$scratch/lib xargs -0 -r ldd 2>/dev/null | awk '/not found/ { print $1 }' | sort -u >"$scratch/missing"
        [ -s "$scratch/missing" ] || return 0
        [ $pass = last ] && break
        while read -r name; do
            file=$(find_library "$name")
            if [ -n "$file" ]; then ln -sf "$file" "$scratch/lib/$name"; fi
        done <"$scratch/missing"
    done
    echo "not found here: $(tr '\n' ' ' <"$scratch/missing")"
}
unpack() { # ARCHIVE
    mkdir -p "$build"
    tar -xf "$1" -C "$build" && return 0
    [ -n "$python" ] && "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$1" "$build"
}
# What pack.sh packed may be older than the tests, suites and goldens here.
check_revision() {
    local packed="of unknown sources"
    [ ! -f "$build/REVISION" ] || packed=$(cat "$build/REVISION")
    echo "packed from $packed, the sources here are $source"
    if [ "${packed#* }" != "${source#* }" ]; then echo "$packed" >"$scratch/stale"; fi
}
make_build() {
    if [ -f "$given" ]; then
        unpack "$given" || return 1
        check_revision
    elif [ -z "$given" ]; then
        [ -n "$nvcc" ] || { echo "no nvcc and no finished build (PB_GPU_BUILD, tests/gpu/pack.sh)" && return 1; }
        export CUDACXX=$nvcc
        cmake -S "$root" -B "$build" "-DPB_CUDA_ARCHITECTURES=$arch" -DCMAKE_BUILD_TYPE=Release &&
            cmake --build "$build" -j"$(nproc)" --target peftbench cuda_backend gpu_tests || return 1
    fi
    if [ ! -x "$build/peftbench" ] || [ ! -f "$build/libpeftbench_cuda.so" ]; then
        echo "$build has no peftbench with libpeftbench_cuda.so beside it" && return 1
    fi
    link_libraries
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} PB_HOME=%s exec %s "$@"\n' \
        "'$scratch/lib'" "'$root'" "'$build/peftbench'" >"$bench"
    chmod +x "$bench"
    echo "using $build"
}
ours() { # PROGRAM ARGS...
    LD_LIBRARY_PATH=$scratch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} PB_HOME=$root PB_TEST_ROOT=$root PB_TEST_TMP=$scratch/tmp "$@"
}
on_device() { # PROGRAM ARGS...: a test program against the real backend; no fork behind a CUDA context
    PB_CUDA_PLUGIN=$build/libpeftbench_cuda.so PB_TEST_DEVICE=cuda PB_TEST_GPU=1 CK_FORK=${CK_FORK:-no} ours "$@"
}
# A test program in one process, which is quick. A kernel that faults takes the process's context with it, so that everything
# behind it fails too: then again with a process for every test, launches waited for, so that the kernel is named.
tests_on_device() { # PROGRAM
    local rc log
    log=$(mktemp -p "$scratch")
    on_device "$1" 2>&1 | tee "$log"
    rc=${PIPESTATUS[0]}
    [ "$rc" -eq 0 ] && return 0
    if [ "$rc" -gt 128 ] || grep -q 'CUDA_LAUNCH_BLOCKING=1' "$log"; then
        echo "=== a fault: again, a process for every test"
        CK_FORK=yes CUDA_LAUNCH_BLOCKING=1 PB_CUDA_GRAPHS=0 on_device "$1"
    fi
    return "$rc"
}
# The kernels that a report of compute-sanitizer names, most often first. It looks at cuBLASLt's kernels too: what our table of
# kernels does not have is NVIDIA's.
blame() { # REPORT
    local n name ours="" theirs="" own=0 others=0
    while read -r n name; do
        if grep -qE "^$name(<|[[:space:]])" "$root/tests/cuda/resources.txt"; then
            own=$((own + n)) ours="$ours $name"
        else
            others=$((others + n)) theirs="$theirs $name"
        fi
    done < <(grep -oE ' at [^ ].*\+0x[0-9a-f]+' "$1" | sed -E 's/^ at //; s/\+0x[0-9a-f]+.*//; s/^void //
        s/\(anonymous namespace\):://g; s/<unnamed>:://g; s/_INTERNAL_[0-9a-f]+_[^:]*:://g; s/[<(].*//; s/[^A-Za-z0-9_:]//g' |
        sort | uniq -c | sort -rn)
    if [ $((own + others)) -gt 0 ]; then echo "reports: $own in kernels of ours, $others in NVIDIA's:$ours;$theirs"; fi
}
check() { # TOOL: a compute-sanitizer tool over the op cases
    local rc log
    [ -n "$sanitizer" ] || { echo "no compute-sanitizer" && return 77; }
    log=$(mktemp -p "$scratch")
    # What leaves a tensor lands in another one, and all memory was zeroed once: a tool sees either only with memory of its own.
    PB_MEMORY_SEPARATE=1 CK_RUN_CASE=table PB_TEST_ONCE=1 on_device "$sanitizer" --tool "$1" --error-exitcode 9 --print-limit 20 "$build/tests/test_cuda_ops" 2>&1 | tee "$log"
    rc=${PIPESTATUS[0]}
    if grep -q 'Device not supported' "$log"; then # as in some sandboxes
        echo "compute-sanitizer does not support the device as it is given here" && return 77
    fi
    [ "$rc" -eq 0 ] || blame "$log"
    return "$rc"
}
plain_twins() { PB_CUDA_PLAIN=1 tests_on_device "$build/tests/test_cuda_ops"; } # the kernels that others replace on tensor cores
memory_tests() { CK_RUN_CASE=memory on_device "$build/tests/test_cuda_device"; } # its other cases are about the stand-in
# A process for every method: one that fails, or whose steps were traced, touches no other's times.
step() { # SHAPE METHODS ARGS...
    local shape=$1 method file bad=0
    for method in ${2//,/ }; do
        file=$work/step-$shape-$method${STEP_NAME:-}.json
        "$bench" bench step --device cuda --shape "$shape" --methods "$method" --format json "${@:3}" >"$file.new" &&
            mv "$file.new" "$file" || bad=1
    done
    rm -f "$work"/*.new
    return $bad
}
slab_step() { STEP_NAME=-slab PB_CUDA_SLAB_MIB=16 step "$@"; } # is half of what a 4-bit weight is decoded in better?
eager_step() { STEP_NAME=-eager PB_CUDA_GRAPHS=0 step "$@"; }
peer() { # ARGS...: HF PEFT beside peftbench, interleaved
    [ -n "$python" ] || { echo "no Python" && return 77; }
    "$python" "$root/tests/peers/gpu_peft.py" --bench "$bench" --out "$work" "$@"
}
# What tracing costs: eager steps beside the same with every op traced, graphs beside graphs whose nodes are recorded; in turns.
tracing() {
    local round how trace file bad=0
    for round in 1 2; do
        for how in eager-none eager-ops graphs-none graphs-nodes; do
            trace=${how#*-} file=$work/trace-$how-$round.json
            PB_CUDA_GRAPHS=$([ "${how%-*}" = eager ] && echo 0 || echo 1) "$bench" bench step --device cuda --shape llama-3.2-1b \
                --methods lora --batch 4 --max-len 512 --steps 10 --trace "$trace" --format json >"$file.new" &&
                mv "$file.new" "$file" || bad=1
        done
    done
    rm -f "$work"/*.new
    return $bad
}
# With a budget, of any size, an arena is one block of what the plan says: nothing idle in blocks beside it.
budget_step() { STEP_NAME=-budget step "$@" --memory-budget 4096Gi; }
algorithms() { # is the first of cuBLASLt's proposals its best?
    "$bench" bench ops --device cuda --model shape:llama-3.2-1b --dtype bf16 --rows 2048 --algorithms 8
}
# Runs of a suite in records of their own: what goes wrong here costs nothing else.
made_suite() { [ -f "$scratch/suite/gpu.json" ] || CK_FORK=no ours "$build/tests/pb_gpu_suite" "$scratch/suite"; }
suite_run() { # NAME SUITE ARGS...
    "$bench" run "$2" --device cuda --no-report --out "$work/$1" "${@:3}" && "$bench" verify "$work/$1"
}
traced_run() { made_suite && suite_run traced "$scratch/suite/gpu.json" --profile; }
counted_run() { made_suite && suite_run counted "$scratch/suite/gpu.json" --steps 12 --counters; }
minilm_run() {
    [ -f "$root/.cache/models/all-MiniLM-L6-v2/config.json" ] || { echo "no all-MiniLM-L6-v2 under .cache/models" && return 77; }
    [ -f /usr/share/wordnet/data.noun ] || { echo "no WordNet under /usr/share/wordnet" && return 77; }
    suite_run minilm gpu-quick --seeds 1 --steps 60 --profile
}
# Kernels bound by memory at the rows of a training batch, from cold caches, checked against the reference: it computes them too,
# so that products and attention have fewer rows.
kernels() {
    "$bench" kernels run --device cuda --model shape:llama-3.2-1b --dtype bf16 --rows 4096 --budget 20s --save "$work/kernels.json" \
        --filter '/norm_fwd/|/norm_bwd/|/act_fwd/|/act_bwd/|/swiglu_fwd/|/swiglu_bwd/|/dropout/|/axpby/|/rope/|/dequantize4/|/adamw' |
        tee "$work/kernels-4096.txt"
    [ "${PIPESTATUS[0]}" -eq 0 ] &&
        "$bench" kernels run --device cuda --model shape:llama-3.2-1b --dtype bf16 --rows 64 --budget 10s --save "$work/kernels-64.json"
}
fits_48() {
    "$bench" bench step --device cuda --shape llama-65b --methods qlora --params '{"rank": 64}' --checkpoint --optimizer adamw8 \
        --batch 1 --max-len 512 --steps 2 --warmup 1 --memory-budget 48Gi --format json >"$work/step-llama-65b-qlora.json"
}
refuses_48() { # a refusal with numbers is what must come
    "$bench" bench step --device cuda --shape llama-7b --methods full --batch 1 --max-len 512 --steps 1 --memory-budget 48Gi 2>&1 | tee /dev/stderr |
        grep -q 'would need .* bytes'
}
export -f toolkits find_library link_libraries unpack check_revision make_build ours on_device tests_on_device blame check plain_twins memory_tests step slab_step \
    eager_step budget_step tracing algorithms peer made_suite suite_run traced_run counted_run minilm_run kernels fits_48 refuses_48
export root work scratch given build bench nvcc sanitizer python arch source

tests=$build/tests
every=lora,adalora,dylora,dora,qlora,adapter
every_peer=lora,dora,qlora,adalora
# Behind each line the seconds that it is thought to need on an H100 with 16 cores: guesses, no GPU has run this yet. Their sum is
# above what there is.
part right build 240 make_build # 10 (a pack)
if [ -f "$scratch/stale" ]; then say "STALE BUILD: packed from $(cat "$scratch/stale"), the sources here are $source: pack again"; fi
if [ -z "$why" ] && [ ! -x "$bench" ]; then why="there is no build"; fi
part right info 20 "$bench" info # 3
begin right device-tests 60 memory_tests
begin right op-cases 120 tests_on_device "$tests/test_cuda_ops"
begin right plain-twins 120 plain_twins
begin right plain-kernels 120 tests_on_device "$tests/test_cuda_plain"
begin right parity-ten-steps 120 tests_on_device "$tests/test_gpu_steps"
begin right goldens 120 tests_on_device "$tests/test_goldens"
finish # 40
part fast step-llama-3.2-1b 60 step llama-3.2-1b $every --batch 4 --max-len 512 --steps 10 # 30
part fast peer-eager 70 peer --shape llama-3.2-1b --methods lora,dora,qlora,adalora --modes eager --seconds 50 # 60
for tool in memcheck racecheck initcheck synccheck; do begin right "$tool" 80 check "$tool"; done
finish # 80
part trace traced-run 45 traced_run # 20
part trace counted-run 45 counted_run # 25
part fast kernels 90 kernels # 60
part fast bench-ops 30 "$bench" bench ops --device cuda --model shape:llama-3.2-1b --rows 4096 # 15
part fast algorithms 40 algorithms # 12
part fast memory-1b 20 budget_step llama-3.2-1b lora,full --batch 4 --max-len 512 --steps 2 --warmup 1 # 8
part fast refuses-7b-full 20 refuses_48 # 3
part fast qlora-65b 90 fits_48 # 60
part fast step-eager 20 eager_step llama-3.2-1b lora --batch 4 --max-len 512 --steps 10 # 6
part fast step-slab 20 slab_step llama-3.2-1b qlora --batch 4 --max-len 512 --steps 10 # 6
part fast step-full-1b 30 step llama-3.2-1b full --batch 4 --max-len 512 --steps 5 # 8
part fast step-llama-3.1-8b 40 step llama-3.1-8b lora,qlora --batch 4 --max-len 512 --steps 5 # 20
part trace tracing 90 tracing # 50
for shape in llama-3.2-3b gpt2-124m minilm; do part fast "step-$shape" 40 step "$shape" $every --batch 4 --max-len 512 --steps 10; done # 80
part trace minilm-run 60 minilm_run # 20
part fast calibration 60 "$bench" advise --calibrate "$work/calibration.json" --device cuda # 40
part fast peer-compile 120 peer --shape llama-3.2-1b --methods lora,dora --modes compile --seconds 60 # 100
part fast peer-full-1b 60 peer --shape llama-3.2-1b --methods full --modes eager --seconds 40 # 25
part fast peer-llama-3.1-8b 90 peer --shape llama-3.1-8b --methods lora,qlora --modes eager --seconds 60 # 50
part fast peer-llama-3.2-3b 90 peer --shape llama-3.2-3b --methods $every_peer --modes eager --seconds 60 # 80
for shape in gpt2-124m minilm; do part fast "peer-$shape" 90 peer --shape "$shape" --methods "$every_peer,full" --modes eager --seconds 60; done # 80

# --- in short ---

# shellcheck source-path=SCRIPTDIR source=targets.sh
. "$root/tests/gpu/targets.sh"
for file in "$work"/step-*.json; do
    [ -s "$file" ] || continue
    say "$(echo "$(basename "$file" .json)" "$(field "$file" step_s_median)" "$(field "$file" limit_share)" "$(field "$file" mfu)" \
        "$(field "$file" idle_share)" "$(field "$file" peak_bytes)" "$(field "$file" tracer)" | awk '{
        printf "%-32s %9.2f ms  of gemm %.2f  MFU %s  idle %.3f  peak %6.2f GiB  %s",
            $1, 1e3 * $2, $3, $4 == "null" ? "-" : sprintf("%.3f", $4), $5, $6 / 1073741824, $7 }')"
done
find "$work" -name record.json -path '*/counted/*' -exec grep -h -A 2 '"counters": {' {} + | grep -oE '"(available|reason|passes)".*' |
    sort | uniq -c | sed 's/^/counters /' | tee -a "$summary"
if [ -f "$work/kernels.log" ]; then grep -E '/bf16 .* [0-9]+ %' "$work/kernels.log" | cut -c1-150 | tee -a "$summary"; fi
cat "$work"/peer-*.log 2>/dev/null | grep -E 'ratio|not run' | tee -a "$summary"
if [ -f "$work/algorithms.log" ]; then grep 'of the best' "$work/algorithms.log" | tee -a "$summary"; fi
if [ "$ran" -gt 0 ]; then say "--- targets" && tell_targets "$work" | tee -a "$summary"; fi
for name in $failed; do # the first failures of a test program, else the last lines
    say "--- $name"
    { grep -m 3 -E '^[^ ]+:[0-9]+:[FE]:' "$work/$name.log" || tail -n 3 "$work/$name.log"; } | cut -c1-240 | tee -a "$summary"
done
count=$(wc -w <<<"$failed")
say "$ran passed, $count failed, $((SECONDS - began)) s${failed:+:$failed}"
[ -z "$late" ] || say "no time was left for some; they alone: PB_GPU_PARTS=${late#,} tests/gpu/run_all.sh"
pack_results
[ "$count" -gt 0 ] && exit 1
[ "$ran" -gt 0 ] || exit 3
