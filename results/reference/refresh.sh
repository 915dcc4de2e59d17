#!/bin/sh
# Renews the committed runs from fresh ones, then verifies what lies here. Fresh ones that do not verify, or whose peak memory
# is not within 5 % of what was predicted, renew nothing.
#     results/reference/refresh.sh OUT/quick OUT/claims-small OUT/claims-decoder-NAME
# OUT/quick is what `peftbench run quick --out OUT` left, OUT/claims-decoder-NAME what `peftbench run claims-decoder --model
# DIR --out OUT` left, OUT/claims-small what `peftbench run claims-small --out OUT` and `peftbench claims check OUT/claims-small
# [OUT/claims-decoder-NAME]` left. One of them alone renews that one; `readme` as the only argument renews no run, but the
# table of claims in README.md, as any call does. PEFTBENCH: the program, build/peftbench without it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=${PEFTBENCH:-$here/../../build/peftbench}

# Records, samples, report and figures; without adapter files and locks.
quick() {
    rm -rf "$here/quick"
    cp -R "$1" "$here/quick"
    find "$here/quick" -name adapter.safetensors -exec rm {} +
    rm -rf "$here/quick/.claims"
}

# Verdicts, report and figures as they are, the records packed.
claims_small() {
    rm -rf "$here/claims-small"
    mkdir "$here/claims-small"
    for part in claims.md claims.html claims.json report.md report.html report.tex summary.csv plots; do
        [ ! -e "$1/$part" ] || cp -R "$1/$part" "$here/claims-small/"
    done
    (cd "$1/.." && find claims-small -mindepth 2 -type f ! -name adapter.safetensors ! -path '*/plots/*' \
        ! -path '*/.claims/*' | LC_ALL=C sort | tar --owner=0 --group=0 --mtime=@0 -cf - -T -) |
        xz -9 >"$here/claims-small/records.tar.xz"
}

# As `quick`, trials of the tuning included, in place of any decoder's before.
claims_decoder() {
    rm -rf "$here"/claims-decoder-*
    cp -R "$1" "$here/"
    find "$here"/claims-decoder-* -name adapter.safetensors -exec rm {} +
    rm -rf "$here"/claims-decoder-*/.claims
}

# What `peftbench advise` takes its verdicts from: the final comparison of claims-main, open, without the trials.
claims_main() {
    rm -rf "$here/claims-main"
    mkdir "$here/claims-main"
    grep -l '^  "phase": "final"' "$1"/claims-main/*/record.json | while read -r record; do
        cp -R "$(dirname "$record")" "$here/claims-main/"
    done
    find "$here/claims-main" -name adapter.safetensors -exec rm {} +
}

# README.md's table from the verdicts that lie here, between its two marks.
readme() {
    "$program" claims table "$here/claims-small" >"$here/table.tmp"
    awk -v table="$here/table.tmp" '
        /^<!-- claims: end -->$/ { inside = 0 }
        !inside
        /^<!-- claims: begin -->$/ { inside = 1; while ((getline line < table) > 0) print line }
    ' "$here/../../README.md" >"$here/readme.tmp"
    rm "$here/table.tmp"
    mv "$here/readme.tmp" "$here/../../README.md"
}

[ $# -gt 0 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
if [ "$*" = readme ]; then
    readme
    exit
fi
# Nothing is renewed from runs whose memory was not predicted.
for from in "$@"; do
    "$program" verify --memory-within 5 "$from"
done
for from in "$@"; do
    from=$(cd "$from" && pwd)
    case $(basename "$from") in
    quick) quick "$from" ;;
    claims-small)
        claims_small "$from"
        claims_main "$from"
        ;;
    claims-decoder-*) claims_decoder "$from" ;;
    *) echo "$from: expected a folder named quick, claims-small or claims-decoder-NAME" >&2; exit 2 ;;
    esac
done
readme
"$program" verify "$here/quick"
"$program" verify "$here/claims-main"
for decoder in "$here"/claims-decoder-*; do
    [ ! -d "$decoder" ] || "$program" verify "$decoder"
done
