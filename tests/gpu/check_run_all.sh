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
for name in build device-tests op-cases plain-kernels parity-ten-steps goldens bench-ops step-llama-3.2-1b step-eager peer-eager \
    peer-compile refuses-7b-full qlora-65b traced-run counted-run calibration memcheck racecheck initcheck synccheck; do
    says dry "^$name  *not run: no GPU"
done
says dry "^0 passed, 0 failed"
if command -v shellcheck >/dev/null; then shellcheck "$here"/*.sh || die "shellcheck"; fi

# With a GPU that is none and a build that cannot work: failures are named, the rest goes on, exit status 1.
mkdir "$out/bin" "$out/build"
# shellcheck disable=SC2016
printf '#!/bin/sh\ncase "$1" in *compute_cap*) echo 9.0 ;; *) echo "Test GPU, 1, 2" ;; esac\n' >"$out/bin/nvidia-smi"
printf '#!/bin/sh\nexit 9\n' >"$out/build/peftbench"
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
says bad "^qlora-65b  *FAILED"
says bad "^racecheck  *\(FAILED\|not run: no compute-sanitizer\)"
tar -tzf "$out/bad/results.tar.gz" >"$out/list"
grep -q "info.log" "$out/list" || die "no log was packed"
[ "$(find "$out/bad" -type f | wc -l)" = 2 ] || die "more than a summary and an archive was left"

# The same as an archive; two parts of it.
tar -cJf "$out/build.tar.xz" -C "$out/build" .
run some "$out/build.tar.xz" "op-*, trace"
says some "^build  *passed"
says some "^op-cases  *FAILED"
says some "^counted-run  *FAILED"
! grep -q "^\(goldens\|bench-ops\|memcheck\)" "$out/some/summary.txt" || die "a part ran that was not asked for"
