#!/usr/bin/env bash
# What the objects that the program opens at run time show to others: the one function it asks for, and of the tests' stand-in
# what tests ask of it. Anything more could be taken for another object's in the same process.
#
#   tests/cuda/exports.sh BUILD
#
# Exit 77: none was built.
set -euo pipefail
build=${1:?usage: tests/cuda/exports.sh BUILD}
checked=0 bad=0

shows() { # FILE PATTERN: every name it defines for others matches, and at least one does
    local names other
    [ -f "$build/$1" ] || return 0
    names=$(nm -D --defined-only "$build/$1" | awk '{ print $NF }')
    other=$(grep -vxE "$2" <<<"$names" || true)
    checked=$((checked + 1))
    if [ -z "$names" ] || [ -n "$other" ]; then
        echo "$1 should show $2 alone, but shows: $(tr '\n' ' ' <<<"${other:-nothing}" | cut -c1-300)"
        bad=1
    fi
}

shows libpeftbench_cuda.so pb_cuda_plugin
shows libpeftbench_cupti.so pb_cupti_plugin
for object in tests/cuda/libpb_cuda_host.so tests/cuda/libpb_cuda_twin.so; do
    shows "$object" 'pb_cuda_plugin|pb_host_[a-z_]+'
done
[ "$checked" -gt 0 ] || { echo "NOT RUN: $build has no such object" && exit 77; }
echo "$checked objects, $([ $bad = 0 ] && echo "each shows what it should" || echo FAULTS)"
exit $bad
