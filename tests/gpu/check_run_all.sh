#!/usr/bin/env bash
# run_all.sh without a GPU: every part is there and says "not run", nothing passes, the exit status says so; one that fails
# does not end it; a build without the backend is none; parts can be chosen. Usage: tests/gpu/check_run_all.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
die() { echo "check_run_all.sh: $*" && cat "$out"/*/summary.txt && exit 1; }
says() { grep -q "$2" "$out/$1/summary.txt" || die "$1: no line '$2'"; }

rc=0
PB_GPU_DRY=1 "$here/run_all.sh" "$out/dry" >/dev/null || rc=$?
[ "$rc" = 3 ] || die "exit status $rc, expected 3: nothing was run"
for name in build device-tests op-cases plain-twins plain-kernels parity-ten-steps goldens bench-ops step-llama-3.2-1b step-eager step-slab peer-eager \
    peer-compile refuses-7b-full qlora-65b algorithms memory-1b tracing peer-full-1b peer-llama-3.1-8b peer-minilm traced-run counted-run calibration memcheck racecheck initcheck synccheck; do
    says dry "^$name  *not run: no GPU"
done
says dry "^0 passed, 0 failed"
if command -v shellcheck >/dev/null; then shellcheck "$here"/*.sh || die "shellcheck"; fi

# With a GPU that is none and a build that cannot work: failures are named, the rest goes on, exit status 1.
mkdir "$out/bin" "$out/build"
# shellcheck disable=SC2016
printf '#!/bin/sh\ncase "$1" in *compute_cap*) echo 9.0 ;; *) echo "Test GPU, 1, 2" ;; esac\n' >"$out/bin/nvidia-smi"
printf '#!/bin/sh\nexit 9\n' >"$out/build/peftbench"
cat >"$out/bin/compute-sanitizer" <<'END'
#!/bin/sh
cat <<'REPORT'
========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 2 bytes
=========     at void attention_fwd_mma<(int)64>(attn_params)+0x1a30 in attention_mma.cuh:280
=========     by thread (0,0,0) in block (1,0,0)
=========     Saved host backtrace up to driver entry point at kernel launch time
=========         Host Frame: pb_api_launch [0x2e28+0x10] in libpeftbench_cuda.so
========= Uninitialized __global__ memory read of size 16 bytes
=========     at void cublasLt::splitKreduce_kernel<(int)32, (int)16, float>(cublasLt::P)+0x90
========= Uninitialized __global__ memory read of size 16 bytes
=========     at nvjet_tst_128x64+0x2f0
=========     at nvjet_tst_128x64+0x300
========= Race reported between Write access at (anonymous namespace)::act_fwd_kernel(int)+0xd0 and Read access at act(int)+0x90
========= ERROR SUMMARY: 4 errors
REPORT
exit 9
END
chmod +x "$out/bin/compute-sanitizer"
chmod +x "$out/bin/nvidia-smi" "$out/build/peftbench"
export PATH=$out/bin:$PATH
run() { # FOLDER BUILD PARTS
    rc=0
    PB_GPU_BUILD=$2 PB_GPU_PARTS=$3 "$here/run_all.sh" "$out/$1" >/dev/null || rc=$?
}
run none "$out/build" ""
[ "$rc" = 1 ] || die "exit status $rc without a backend, expected 1"
says none "^build  *FAILED: exit 1: .*libpeftbench_cuda.so"
says none "^op-cases  *not run: there is no build"

: >"$out/build/libpeftbench_cuda.so"
run bad "$out/build" ""
[ "$rc" = 1 ] || die "exit status $rc with failing parts, expected 1"
says bad "^build  *passed"
says bad "^info  *FAILED: exit 9"
! grep -q "^STALE" "$out/bad/summary.txt" || die "a folder that nobody packed was called stale"
says bad "^qlora-65b  *FAILED"
says bad "^racecheck  *FAILED: exit 9: reports: 2 in kernels of ours, 3 in NVIDIA's: attention_fwd_mma act_fwd_kernel; nvjet_tst_128x64 cublasLt::splitKreduce_kernel"
says bad "^GEMM >= 95 % of the best cuBLASLt  *not measured"
tar -tzf "$out/bad/results.tar.gz" >"$out/list"
grep -q "info.log" "$out/list" || die "no log was packed"
[ "$(find "$out/bad" -type f | wc -l)" = 2 ] || die "more than a summary and an archive was left"

# Targets from figures made up: the worst decides, and what is not there is not met.
mkdir -p "$out/figures/empty"
step() { # NAME SECONDS MFU IDLE TRACER HEAD DEVICE TRACED DROPPED
    printf '[{"step_s_median": %s, "mfu": %s, "idle_share": %s, "tracer": "%s", "head_bytes": %s, "logits_bytes": 1000, "predicted_bytes": 100, "device_bytes": %s, "traced": "%s", "trace_dropped": %s}]\n' \
        "${@:2}" >"$out/figures/$1.json"
}
step step-llama-3.2-1b-lora 0.10 0.50 0.01 cupti 90 null none 0
step step-llama-3.2-1b-dora 0.12 0.40 0.50 host 90 null none 0 # its idle share is none: no CUPTI
step step-llama-3.2-1b-qlora 0.10 null 0.02 cupti 90 null none 0
step step-llama-3.2-1b-qlora-slab 9 0.1 0.9 cupti 0 null none 0
step step-llama-3.2-1b-lora-budget 9 0.1 0.9 cupti 90 104 none 0
step step-gpt2-124m-lora 1 0.01 0.01 cupti 0 null none 0
step trace-eager-none-1 0.100 null 0 cupti 0 null none 0
step trace-eager-none-2 0.110 null 0 cupti 0 null none 0
step trace-eager-ops-1 0.104 null 0 cupti 0 null ops 3
step trace-eager-ops-2 0.102 null 0 cupti 0 null ops 0
cat >"$out/figures/peer-eager.log" <<'END'
llama-3.2-1b  lora     eager            100.0 ms (bf16)  peftbench     45.0 ms  ratio 2.22  peak 10.0 and 5.0 GiB
llama-3.2-1b  dora     eager            100.0 ms (bf16)  peftbench    110.0 ms  ratio 0.91  peak 10.0 and 8.0 GiB
qlora eager: not run: bitsandbytes is not importable
END
printf 'm/norm_fwd/rms/bf16 two pass 12.0 11 13 - 2000 83 %% memory\nm/dequantize4/nf4/bf16 a 1 1 1 - 1 80 %% memory\n' >"$out/figures/kernels-4096.txt"
printf 'linear  2048 x 2048 -> 8192  120.0  118.0  3  98.3 %% of the best\ngemm  2048 x 2048 x 2048  40.0  36.0  1  90.0 %% of the best\n' >"$out/figures/algorithms.log"
# shellcheck source-path=SCRIPTDIR source=targets.sh
. "$here/targets.sh"
(set +eo pipefail && tell_targets "$out/figures") >"$out/targets" # as run_all.sh does
while read -r line; do
    grep -q "$line" "$out/targets" || { cat "$out/targets" && die "targets: no line '$line'"; }
done <<'END'
^LoRA >= 2.0x HF PEFT eager  *met  *worst 2.220: llama-3.2-1b; 1 of 1
^LoRA >= 1.3x HF PEFT with torch.compile  *not measured
^QLoRA >= 2.0x PEFT with bitsandbytes  *not measured
^no method of a model below 1.0x  *NOT MET  *worst 0.910: llama-3.2-1b dora eager; 1 of 2
^peak memory <= 0.7x PEFT's  *NOT MET  *worst 0.800: llama-3.2-1b dora eager; 1 of 2
^QLoRA >= 0.95x own LoRA's speed  *met  *worst 1.000
^DoRA and AdaLoRA <= 1.15x own LoRA's step  *NOT MET  *worst 1.200: llama-3.2-1b dora; 0 of 1
^MFU >= 45 % from 1B parameters on  *NOT MET  *worst 0.400: llama-3.2-1b dora; 1 of 2
^GPU idle <= 2 % of a step  *met  *worst 0.020: llama-3.2-1b qlora; 3 of 3
^NF4 dequantisation >= 85 % of copy bandwidth  *NOT MET  *worst 80.000
^norms, activations, AdamW >= 80 %  *met  *worst 83.000
^GEMM >= 95 % of the best cuBLASLt  *NOT MET  *worst 90.000: gemm 2048 x 2048 x 2048 .*; 1 of 2
^loss layer <= 1/10 of all logits, vocabulary 128k  *met  *worst 0.090
^predicted peak within 5 % of the driver's  *met  *worst 3.846
^tracing <= 3 % of a step, eager  *met  *worst 2.000: eager
^tracing <= 5 % of a step, per graph node  *not measured
^no dropped records  *NOT MET  *worst 3.000: trace-eager-ops-1; 1 of 2
END
(set +eo pipefail && tell_targets "$out/figures/empty") >"$out/targets"
[ "$(grep -c "not measured$" "$out/targets")" = 17 ] || { cat "$out/targets" && die "a target without a figure was judged"; }

# A kernel's fault takes what is behind it with it: once more with a process for every test. What does not end is ended, and
# neither loses what others left.
mkdir -p "$out/build/tests"
cat >"$out/build/tests/test_cuda_ops" <<'END'
#!/bin/sh
[ "$CK_FORK" = yes ] && echo "the kernel is named" && exit 1
echo "cuda: a_kernel: kernel fault; run again with PB_CUDA_GRAPHS=0 CUDA_LAUNCH_BLOCKING=1 to see which kernel did it" && exit 1
END
printf '#!/bin/sh\nsleep 60\n' >"$out/build/tests/test_goldens"
printf '#!/bin/sh\necho "all of it"\n' >"$out/build/tests/test_gpu_steps"
chmod +x "$out"/build/tests/*
rc=0
PB_GPU_BUILD=$out/build PB_GPU_PARTS=op-cases,goldens,parity-ten-steps,bench-ops PB_GPU_SECONDS=12 "$here/run_all.sh" "$out/fault" >/dev/null || rc=$?
[ "$rc" = 1 ] || die "exit status $rc with a fault, expected 1"
says fault "^op-cases  *FAILED: exit 1"
says fault "^goldens  *FAILED: not done after"
says fault "^parity-ten-steps  *passed"
says fault "^bench-ops  *not run: the time is used up"
says fault "^no time was left for some; they alone: PB_GPU_PARTS=bench-ops "
tar -xzOf "$out/fault/results.tar.gz" ./op-cases.log | grep -q "the kernel is named" || die "a fault did not bring a second run"
tar -xzOf "$out/fault/results.tar.gz" ./parity-ten-steps.log | grep -q "all of it" || die "a log was lost"
rm -r "$out/build/tests"

# The same as an archive; two parts of it. One that was packed from other sources is told, one from these is not.
mkdir -p "$out/wheels/of"
: >"$out/wheels/of/bitsandbytes.py"
(cd "$out/wheels/of" && python3 -m zipfile -c ../bitsandbytes-1.2-py3-none-any.whl bitsandbytes.py)
"$here/source_id.sh" >"$out/build/REVISION"
tar -cJf "$out/build.tar.xz" -C "$out/build" .
run some "$out/build.tar.xz" "op-*, trace"
! grep -q "^STALE" "$out/some/summary.txt" || die "a build of these very sources was called stale"
says some "^python  *.*, with bitsandbytes-1.2$"
tar -xzOf "$out/some/results.tar.gz" ./build.log | grep -q "^packed from" || die "the log does not say from what was packed"
echo "abc1234 0123456789ab" >"$out/build/REVISION"
tar -cJf "$out/build.tar.xz" -C "$out/build" .
run stale "$out/build.tar.xz" "op-*"
says stale "^STALE BUILD: packed from abc1234 0123456789ab"
says some "^build  *passed"
says some "^op-cases  *FAILED"
says some "^counted-run  *FAILED"
! grep -q "^\(goldens\|bench-ops\|memcheck\)" "$out/some/summary.txt" || die "a part ran that was not asked for"
