#!/usr/bin/env bash
# Everything that needs a GPU, in one command:   tests/gpu/run_all.sh [FOLDER]
#
# Builds for this machine's architecture, runs the op cases, goldens and ten steps of every method on the device,
# compute-sanitizer, the benchmarks, HF PEFT beside them, and a traced run. Needs no network; what is missing (nvcc, Python
# packages, compute-sanitizer) is said and the rest goes on. FOLDER (else $OUT, else gpu-results) gets summary.txt, one log
# per part, and the records. PB_GPU_BUILD names a finished build folder to use instead of building.
# PB_GPU_SECONDS: time for all of it (default 460). PB_GPU_DRY=1: pretend that there is no GPU.
# Exit status: 0 all parts that ran passed, 1 some failed (named in summary.txt), 3 nothing could be run.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-${OUT:-$root/gpu-results}}
total=${PB_GPU_SECONDS:-460}
mkdir -p "$out" || exit 3
out=$(cd "$out" && pwd)
summary=$out/summary.txt
: >"$summary"
began=$SECONDS
failed=0 ran=0

say() { printf '%s\n' "$*" | tee -a "$summary"; }
left() { echo $((total - (SECONDS - began))); }

# part NAME SECONDS COMMAND...: runs it within its own budget and what is left of the whole; never ends the script.
part() {
    local name=$1 budget=$2 rc from=$SECONDS rest
    shift 2
    rest=$(left)
    if [ -n "$why" ]; then say "$(printf '%-28s not run: %s' "$name" "$why")" && return; fi
    if [ "$rest" -lt 5 ]; then say "$(printf '%-28s not run: the time is used up' "$name")" && return; fi
    [ "$budget" -gt "$rest" ] && budget=$rest
    timeout --kill-after=5 "$budget" "$@" >"$out/$name.log" 2>&1
    rc=$?
    case $rc in
    0) ran=$((ran + 1)) && say "$(printf '%-28s passed   %4d s' "$name" $((SECONDS - from)))" ;;
    77) say "$(printf '%-28s not run: %s' "$name" "$(tail -n 1 "$out/$name.log")")" ;;
    124 | 137) failed=$((failed + 1)) && say "$(printf '%-28s FAILED: not done after %d s' "$name" "$budget")" ;;
    *) failed=$((failed + 1)) && say "$(printf '%-28s FAILED: exit %d: %s' "$name" "$rc" "$(tail -n 1 "$out/$name.log" | cut -c1-160)")" ;;
    esac
}

# --- what is here ---

find_tool() { # NAME: on the PATH, else in the toolkit's usual places
    local dir
    command -v "$1" 2>/dev/null && return
    for dir in /usr/local/cuda /usr/local/cuda-* /opt/cuda "${CUDA_HOME:-/nowhere}" "${CUDA_PATH:-/nowhere}" \
        "$HOME"/.local/lib/python3*/site-packages/nvidia/cu1* /usr/local/lib/python3*/*-packages/nvidia/cu1*; do
        [ -x "$dir/bin/$1" ] && echo "$dir/bin/$1" && return
    done
}
find_python() { # the first that can import torch, else any
    local p any=""
    for p in "${PB_PYTHON:-}" "$root/.venv/bin/python" "${VIRTUAL_ENV:-/nowhere}/bin/python" python3 /opt/conda/bin/python; do
        command -v "$p" >/dev/null 2>&1 || continue
        any=${any:-$p}
        "$p" -c 'import torch' >/dev/null 2>&1 && echo "$p" && return
    done
    echo "$any"
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
say "gpu      ${gpu:-none}${arch:+, sm_$arch}"
say "nvcc     ${nvcc:-none}"
say "sanitizer ${sanitizer:-none}"
say "python   ${python:-none}"
say "source   $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)"

# --- the parts ---

build=${PB_GPU_BUILD:-$root/build-gpu}
bench=$build/peftbench
make_build() {
    [ -n "${PB_GPU_BUILD:-}" ] && [ -x "$bench" ] && echo "using $build" && return 0
    [ -n "$nvcc" ] || { echo "no nvcc and no finished build (PB_GPU_BUILD)" && return 1; }
    export CUDACXX=$nvcc
    cmake -S "$root" -B "$build" "-DPB_CUDA_ARCHITECTURES=$arch" -DCMAKE_BUILD_TYPE=Release &&
        cmake --build "$build" -j"$(nproc)"
}
on_device() { # PROGRAM ARGS...: a test program against the real backend; no fork behind a CUDA context
    PB_CUDA_PLUGIN=$build/libpeftbench_cuda.so PB_TEST_DEVICE=cuda CK_FORK=no "$@"
}
check() { # TOOL: a compute-sanitizer tool over the op cases
    [ -n "$sanitizer" ] || { echo "no compute-sanitizer" && return 77; }
    on_device "$sanitizer" --tool "$1" --error-exitcode 9 --print-limit 20 "$build/tests/test_cuda_ops"
}
step() { # SHAPE METHODS ARGS...
    local shape=$1 methods=$2
    shift 2
    "$bench" bench step --device cuda --shape "$shape" --methods "$methods" --format json "$@" >"$out/step-$shape-$methods.json"
}
peer() { # ARGS...: HF PEFT beside peftbench, interleaved
    [ -n "$python" ] || { echo "no Python" && return 77; }
    "$python" "$root/tests/peers/gpu_peft.py" --bench "$bench" --out "$out" "$@"
}
traced_run() {
    [ -d "$root/.cache/models/all-MiniLM-L6-v2" ] || { echo "no model under .cache/models" && return 77; }
    "$bench" run gpu-quick --device cuda --seeds 1 --steps 60 --profile --out "$out/records" && "$bench" verify "$out/records"
}
counted_run() { # in a record of its own: what goes wrong here costs nothing else
    [ -d "$root/.cache/models/all-MiniLM-L6-v2" ] || { echo "no model under .cache/models" && return 77; }
    "$bench" run gpu-quick --device cuda --seeds 1 --steps 20 --counters --out "$out/counted" && "$bench" verify "$out/counted"
}
fits_48() {
    "$bench" bench step --device cuda --shape llama-65b --methods qlora --params '{"rank": 64}' --checkpoint --optimizer adamw8 \
        --batch 1 --max-len 512 --steps 2 --warmup 1 --memory-budget 48Gi --format json >"$out/llama-65b-qlora.json"
}
refuses_48() { # a refusal with numbers is what must come
    "$bench" bench step --device cuda --shape llama-7b --methods full --batch 1 --max-len 512 --steps 1 --memory-budget 48Gi 2>&1 | tee /dev/stderr |
        grep -q 'would need .* bytes'
}
export -f make_build on_device check step peer traced_run counted_run fits_48 refuses_48
export root out build bench nvcc sanitizer python arch
in_shell() { part "$1" "$2" bash -c '"$@"' bash "${@:3}"; } # a function of this script, in a process that can be ended

in_shell build 240 make_build
if [ -z "$why" ] && [ ! -x "$bench" ]; then why="there is no build"; fi
part info 20 "$bench" info
in_shell device-tests 60 on_device "$build/tests/test_cuda_device"
in_shell op-cases 60 on_device "$build/tests/test_cuda_ops"
in_shell plain-kernels 60 on_device "$build/tests/test_cuda_plain"
in_shell parity-ten-steps 60 on_device "$build/tests/test_gpu_steps"
in_shell goldens 60 on_device "$build/tests/test_goldens"
part bench-ops 40 "$bench" bench ops --device cuda --model shape:llama-3.2-1b --rows 4096
for shape in minilm gpt2-124m llama-3.2-1b llama-3.2-3b; do
    in_shell "step-$shape" 40 step "$shape" lora,adalora,dylora,dora,qlora,adapter --batch 4 --max-len 512 --steps 10
done
in_shell step-llama-3.1-8b 40 step llama-3.1-8b lora,qlora --batch 4 --max-len 512 --steps 5
in_shell step-full-1b 30 step llama-3.2-1b full --batch 4 --max-len 512 --steps 5
in_shell peer-peft 90 peer --shape llama-3.2-1b --methods lora,dora,qlora
in_shell refuses-7b-full 20 refuses_48
in_shell traced-run 60 traced_run
in_shell counted-run 40 counted_run
in_shell qlora-65b 90 fits_48
for tool in memcheck racecheck initcheck synccheck; do in_shell "$tool" 60 check "$tool"; done

say "$ran passed, $failed failed, $((SECONDS - began)) s"
[ "$failed" -gt 0 ] && exit 1
[ "$ran" -gt 0 ] || exit 3
