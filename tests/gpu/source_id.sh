#!/usr/bin/env bash
# What the sources are: the revision, and a hash of all that is compiled, which is there without git too and sees what no commit
# holds. pack.sh writes it into its archive, run_all.sh compares. Usage: tests/gpu/source_id.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
hash=$(find CMakeLists.txt cmake base kernels methods models datasets harness results reports plots tests -type f \
    \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.def' -o -name '*.cmake' -o -name CMakeLists.txt \) -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12)
echo "$(git rev-parse --short HEAD 2>/dev/null || echo unknown) $hash"
