#!/usr/bin/env bash
# Sets up what the tests need, builds, and runs all of them with CTest.
# Arguments go to ctest, for example: ./test.sh -R tokenizer
# PB_TEST=fast skips the sanitizer build and the fuzzers.
set -euo pipefail
cd "$(dirname "$0")"
. setup/common.sh

# shellcheck disable=SC2086
need_packages $PB_PACKAGES g++ check clang 'libclang-rt-dev?' shellcheck valgrind ninja-build
export CMAKE_GENERATOR=Ninja # for new folders: make starts a CMake for every file and target
need_model &
model=$!

need_build build 'all cuda_backend'
wait "$model" || exit 3
ctest --test-dir build --parallel "$(nproc)" --output-on-failure --no-tests=error "$@"
if [ "${PB_TEST:-all}" = all ] && [ $# -eq 0 ]; then
    say "The same tests under AddressSanitizer and UndefinedBehaviorSanitizer"
    need_build build-asan all -DPB_SANITIZE=address,undefined
    ctest --test-dir build-asan --parallel "$(nproc)" --output-on-failure --no-tests=error
    say "Fuzzing every parser briefly"
    tests/fuzz/run.sh 15
fi
