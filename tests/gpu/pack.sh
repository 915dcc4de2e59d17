#!/usr/bin/env bash
# A finished build for a machine with a GPU that cannot build, for want of development packages:
#
#     tests/gpu/pack.sh [ARCHITECTURE [FILE]]        default: 90 build-gpu.tar.xz
#
# Builds here, where no GPU is needed, and packs the program, what it opens at run time, the tests that run on a GPU, and the
# shared libraries they need but for the C and C++ libraries and CUDA's. run_all.sh takes the archive from the root of the sources
# or where PB_GPU_BUILD says. The other machine needs the sources too (goldens, suites), no older C library, and CUDA's libraries.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
arch=${1:-90}
file=$(realpath -m "${2:-$root/build-gpu.tar.xz}")
build=$root/build-pack-$arch
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

cmake -S "$root" -B "$build" "-DPB_CUDA_ARCHITECTURES=$arch" -DCMAKE_BUILD_TYPE=Release >&2
cmake --build "$build" -j"$(nproc)" --target peftbench cuda_backend gpu_tests >&2
[ -f "$build/libpeftbench_cuda.so" ] || { echo "pack.sh: no cuda backend was built: is nvcc here?" >&2 && exit 1; }
[ -f "$build/libpeftbench_cupti.so" ] || echo "pack.sh: without the CUPTI tracer: its headers or library were not found" >&2

cd "$build"
mkdir -p "$stage/tests/cuda" "$stage/lib"
for one in peftbench libpeftbench_cuda.so libpeftbench_cupti.so tests/cuda/libpb_cuda_host.so tests/pb_gpu_suite \
    tests/test_cuda_{ops,plain,device} tests/test_{gpu_steps,goldens}; do
    [ -f "$one" ] || continue
    strip -o "$stage/$one" "$one"
    ldd "$one"
done | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | sort -u | while read -r name path; do
    case $name in
    libc.so* | libm.so* | libdl.so* | librt.so* | libutil.so* | libpthread.so* | ld-linux* | libstdc++.so* | libgcc_s.so*) ;;
    libcu* | libnv* | libpb_cuda_*) ;;
    *) cp -L "$path" "$stage/lib/$name" ;;
    esac
done
"$root/tests/gpu/source_id.sh" >"$stage/REVISION" # run_all.sh tells an archive that the sources have left behind
XZ_OPT=${XZ_OPT:--3 -T0} tar -cJf "$file.new" -C "$stage" .
mv "$file.new" "$file"
echo "$file: $(($(stat -c %s "$file") / 1048576)) MiB for sm_$arch: $(find "$stage" -type f -printf '%P ')"
