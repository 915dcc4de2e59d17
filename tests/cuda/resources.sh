#!/usr/bin/env bash
# Registers, shared memory and spills of every kernel on every architecture, as ptxas reported them while the cuda backend was
# built (cmake/keep_ptxas.sh), against the table tests/cuda/resources.txt.
#
#   tests/cuda/resources.sh BUILD             check: fails on a spill, on more than is recorded, on a kernel without a row or
#                                             a row without a kernel
#   tests/cuda/resources.sh BUILD --update    writes the table; every architecture must have been built
#
# Exit 77: nothing was checked, because the cuda backend was not built here or the table was never made.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:?usage: tests/cuda/resources.sh BUILD [--update]}
table=${PB_RESOURCES:-tests/cuda/resources.txt}
architectures="75 80 86 89 90 100 120"
mapfile -t logs < <(find "$build" -path '*peftbench_cuda.dir*' -name '*.ptxas' 2>/dev/null | sort)
if [ ${#logs[@]} -eq 0 ]; then
    echo "NOT RUN: $build has no cuda backend (no nvcc here): registers and spills were not checked" >&2
    exit 77
fi

# Lines "kernel TAB architecture TAB registers TAB shared TAB spilled", sorted. Other copies of a kernel have the same name:
# the largest counts.
measured() {
    awk '
    /Compiling entry function/ { split($0, q, "\047"); kernel = q[2]; arch = q[4]; sub(/^sm_/, "", arch); spill = 0; next }
    /bytes spill/ { for (i = 3; i <= NF; i++) if ($i == "spill") spill += $(i - 2); next }
    /Used [0-9]+ registers/ && kernel != "" {
        shared = 0
        for (i = 2; i <= NF; i++) {
            if ($i ~ /^registers/) registers = $(i - 1)
            if ($i ~ /^smem/) shared = $(i - 2)
        }
        print kernel "\t" arch "\t" registers "\t" shared "\t" spill
        kernel = ""
    }' "${logs[@]}" | c++filt -p | sed -E 's/_INTERNAL_[0-9a-f]+_[^:]*:://g; s/\(anonymous namespace\):://g' | awk -F'\t' -v OFS='\t' '
    { gsub(/ /, "", $1); key = $1 OFS $2
      for (i = 3; i <= 5; i++) if (!((key, i) in most) || $i + 0 > most[key, i] + 0) most[key, i] = $i
      keys[key] = 1 }
    END { for (key in keys) print key, most[key, 3], most[key, 4], most[key, 5] }' | LC_ALL=C sort
}

if [ "${2:-}" = --update ]; then
    {
        echo "# kernel, static shared memory in bytes, registers on sm_${architectures// / sm_} (made by resources.sh --update)"
        measured | awk -F'\t' -v list="$architectures" '
        { if (!($1 in shared) || $4 + 0 > shared[$1] + 0) shared[$1] = $4; registers[$1, $2] = $3; names[$1] = 1 }
        $5 + 0 > 0 { print $1 " spills " $5 " bytes on sm_" $2 > "/dev/stderr"; bad = 1 }
        END {
            n = split(list, arch, " ")
            for (name in names) {
                line = name "\t" shared[name]
                for (i = 1; i <= n; i++) {
                    if (!((name, arch[i]) in registers)) {
                        print name " was not built for sm_" arch[i] > "/dev/stderr"
                        exit 1
                    }
                    line = line "\t" registers[name, arch[i]]
                }
                print line
            }
            exit bad
        }' | LC_ALL=C sort
    } >"$table.new"
    mv "$table.new" "$table"
    echo "$table: $(grep -vc '^#' "$table") kernels"
    exit 0
fi

if [ ! -f "$table" ]; then
    echo "NOT RUN: $table has not been recorded yet: tests/cuda/resources.sh BUILD --update, with all architectures built" >&2
    exit 77
fi
measured | awk -F'\t' -v list="$architectures" -v table="$table" '
function fault(text) { print text; faults++ }
BEGIN {
    n = split(list, arch, " ")
    while ((getline line < table) > 0) {
        if (line ~ /^#/) continue
        split(line, f, "\t")
        known[f[1]] = 1
        shared[f[1]] = f[2]
        for (i = 1; i <= n; i++) registers[f[1], arch[i]] = f[2 + i]
    }
}
{
    checked++
    seen[$1] = 1
    on[$2] = 1
    where = $1 " on sm_" $2
    if ($5 + 0 > 0) fault(where " spills: " $5 " bytes")
    if (!($1 in known)) { fault(where " has no row in " table); next }
    if ($3 + 0 > registers[$1, $2] + 0) fault(where ": " $3 " registers, " registers[$1, $2] " recorded")
    if ($4 + 0 > shared[$1] + 0) fault(where ": " $4 " bytes of shared memory, " shared[$1] " recorded")
}
END {
    for (name in known) if (!(name in seen)) fault(name " is in " table " but was not built")
    for (a in on) built = built " sm_" a
    if (checked == 0) fault("no kernel was found in the logs of the build")
    printf "%d kernels checked, %d faults, built for%s\n", checked, faults, built
    exit faults > 0
}' || { echo "If more is right, record it: tests/cuda/resources.sh $build --update" >&2; exit 1; }
