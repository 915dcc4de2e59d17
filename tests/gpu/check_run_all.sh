#!/usr/bin/env bash
# run_all.sh without a GPU: every part is there and says "not run", nothing passes, the exit status says so; one that fails
# does not end it. Usage: tests/gpu/check_run_all.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
die() { echo "check_run_all.sh: $*" && cat "$out"/*.txt && exit 1; }

rc=0
PB_GPU_DRY=1 "$here/run_all.sh" "$out" >/dev/null || rc=$?
[ "$rc" = 3 ] || die "exit status $rc, expected 3: nothing was run"
for name in build op-cases parity-ten-steps goldens bench-ops step-llama-3.2-1b peer-peft refuses-7b-full qlora-65b \
    traced-run counted-run memcheck racecheck initcheck synccheck; do
    grep -q "^$name  *not run: no GPU" "$out/summary.txt" || die "$name does not say that it was not run"
done
grep -q "^0 passed, 0 failed" "$out/summary.txt" || die "something was counted"
if command -v shellcheck >/dev/null; then shellcheck "$here"/*.sh || die "shellcheck"; fi

# With a GPU that is none and a build that cannot work: failures are named, the rest goes on, exit status 1.
mkdir "$out/bin" "$out/build"
# shellcheck disable=SC2016
printf '#!/bin/sh\ncase "$1" in *compute_cap*) echo 9.0 ;; *) echo "Test GPU, 1, 2" ;; esac\n' >"$out/bin/nvidia-smi"
printf '#!/bin/sh\nexit 9\n' >"$out/build/peftbench"
chmod +x "$out/bin/nvidia-smi" "$out/build/peftbench"
rc=0
PATH=$out/bin:$PATH PB_GPU_BUILD=$out/build "$here/run_all.sh" "$out/b" >/dev/null || rc=$?
[ "$rc" = 1 ] || die "exit status $rc with failing parts, expected 1"
grep -q "^build  *passed" "$out/b/summary.txt" || die "the given build was not used"
grep -q "^info  *FAILED: exit 9" "$out/b/summary.txt" || die "a failure was not named"
grep -q "^qlora-65b  *FAILED" "$out/b/summary.txt" || die "it did not go on after a failure"
