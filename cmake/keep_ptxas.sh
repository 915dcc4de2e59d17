#!/bin/sh
# keep_ptxas.sh OBJECT COMMAND...: compiles, and keeps what ptxas says about registers, shared memory and spills in
# OBJECT.ptxas, for tests/cuda/resources.sh. Everything else goes to stderr as always.
object=$1
shift
"$@" 2>"$object.stderr"
status=$?
grep -E '^ptxas info|^    [0-9]+ bytes|^    Function properties' "$object.stderr" >"$object.ptxas"
grep -vE '^ptxas info|^    [0-9]+ bytes|^    Function properties' "$object.stderr" >&2
rm -f "$object.stderr"
[ $status -eq 0 ] || rm -f "$object.ptxas"
exit $status
