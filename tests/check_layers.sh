#!/usr/bin/env bash
# The floors of the house: no file includes a header of a floor above its own, and device headers stay in their place.
# Tries itself first on a planted fault of each kind. Usage: tests/check_layers.sh [ROOT]
set -euo pipefail
root=${1:-$(cd "$(dirname "$0")/.." && pwd)}

# What each folder may include besides itself.
declare -A may=(
    [base]=""
    [kernels]="base"
    [methods]="base kernels"
    [models]="base kernels methods"
    [datasets]="base kernels"
    [results]="base"
    [plots]="base results"
    [reports]="base results plots"
    [harness]="base kernels methods models datasets results plots reports"
)

# includes TREE: lines "file:included/path.h" of every quoted include in C and CUDA sources.
includes() {
    local folder
    for folder in "${!may[@]}"; do
        [ -d "$1/$folder" ] || continue
        find "$1/$folder" \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \) -type f -print0
    done | (cd "$1" && xargs -0 -r grep -HoE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<][^">]+' | sed -E \
        's@^'"$1"'/@@; s@:[[:space:]]*#[[:space:]]*include[[:space:]]*["<]@:@')
}

check() {
    local bad=0 n=0 line file header own other
    while IFS= read -r line; do
        file=${line%%:*} header=${line#*:}
        own=${file%%/*} other=${header%%/*}
        n=$((n + 1))
        case $header in
        cuda*.h | cublas*.h | cupti*.h | nvtx*/*.h | curand*.h)
            case $file in
            kernels/cuda/* | harness/profile/* | harness/profile_*) ;;
            *) echo "$file: $header belongs to kernels/cuda and harness/profile only" && bad=1 ;;
            esac ;;
        esac
        if [ "$header" = "$other" ] || [ "$own" = "$other" ] || [ -z "${may[$other]+known}" ]; then continue; fi
        case " ${may[$own]} " in
        *" $other "*) ;;
        *) echo "$file: includes $header, but $own may include only: ${may[$own]:-nothing}" && bad=1 ;;
        esac
    done < <(includes "$1")
    [ "$n" -gt 0 ] || { echo "$1: no include found: nothing was checked" && bad=1; }
    return $bad
}

planted=$(mktemp -d)
trap 'rm -rf "$planted"' EXIT
mkdir -p "$planted"/{base,kernels/cuda,methods,reports}
echo '#include "base/status.h"' >"$planted/kernels/fine.c"
echo '#include <cuda_runtime.h>' >"$planted/kernels/cuda/fine.cu"
check "$planted" >/dev/null || { echo "check_layers.sh refuses what is fine" && exit 1; }
for fault in 'base/x.c #include "kernels/ops.h"' 'methods/x.c  #  include "models/model.h"' \
    'reports/x.c #include "kernels/ops.h"' 'methods/x.h #include <cublas_v2.h>'; do
    echo "${fault#* }" >"$planted/${fault%% *}"
    if check "$planted" >/dev/null; then
        echo "check_layers.sh does not see: $fault" && exit 1
    fi
    rm "$planted/${fault%% *}"
done
check "$root"
