/* CUDA C on the host, for tests: the threads of a block are fibers, blocks run one after another.
 *
 * What it has: threadIdx and friends, __syncthreads, __syncwarp, shuffles, votes, static and dynamic shared memory,
 * atomics, the arithmetic that kernels use. Between two meeting points the warps of a block, and the lanes of a warp, run
 * in an order shuffled by a seed (PB_SHIM_SEED): code that leans on one order gives other bits or other values. Threads
 * that wait where others do not come, or at another place of the source, are a fault that names the places. Dynamic shared
 * memory is exactly as long as asked for (AddressSanitizer sees what lies behind) and holds NaN when a block starts.
 *
 * Included by kernels/cuda/cuda.h when the compiler is not nvcc. The runner is in shim.cpp. */
#ifndef PB_TESTS_CUDA_SHIM_H
#define PB_TESTS_CUDA_SHIM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PB_CUDA_SHIM 1

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define __grid_constant__
#define __constant__ static const
#define __shared__ static /* blocks run one after another in one thread */

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }

/* --- the runner ---------------------------------------------------------------------------------- */

struct pb_shim_place {
    uint3 thread, block;
    dim3 block_size, grid_size;
    unsigned char *shared;
};
extern pb_shim_place pb_shim_now; /* of the thread that runs */

#define threadIdx (pb_shim_now.thread)
#define blockIdx (pb_shim_now.block)
#define blockDim (pb_shim_now.block_size)
#define gridDim (pb_shim_now.grid_size)
#define warpSize 32
#define PB_DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(pb_shim_now.shared)

struct pb_launch;
/* Runs a launch; 0, or 1 and a fault in words. */
int pb_shim_run(const pb_launch *launch);
const char *pb_shim_fault();
void pb_shim_seed(uint64_t seed);
uint64_t pb_shim_threads_run(); /* so far, for tests of the tests */

void pb_shim_block_barrier(const char *file, int line);
/* All lanes of `mask` meet; each gives `bytes` (at most 64) and sees what lane i gave at result + i * bytes. The result
 * stays until the lane meets others again. */
#define PB_SHIM_LANE_BYTES 64
const void *pb_shim_warp_meet(unsigned mask, const void *mine, size_t bytes, const char *what, const char *file, int line);
unsigned pb_shim_lane();

#define PB_SHIM_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(PB_SHIM_HERE) { pb_shim_block_barrier(file, line); }
static inline void __syncwarp(unsigned mask = 0xffffffffu, PB_SHIM_HERE) {
    (void)pb_shim_warp_meet(mask, nullptr, 0, "__syncwarp", file, line);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

template <typename T> T pb_shim_from(unsigned mask, T v, unsigned lane, const char *what, const char *file, int line) {
    static_assert(sizeof(T) <= PB_SHIM_LANE_BYTES, "too large for a shuffle");
    const T *all = (const T *)pb_shim_warp_meet(mask, &v, sizeof v, what, file, line);
    return all[lane];
}
/* As the hardware does: outside its group of `width` lanes a lane keeps its own value. */
template <typename T> T __shfl_sync(unsigned mask, T v, int from, int width = 32, PB_SHIM_HERE) {
    unsigned lane = pb_shim_lane(), w = (unsigned)width;
    return pb_shim_from(mask, v, (lane & ~(w - 1)) + ((unsigned)from & (w - 1)), "__shfl_sync", file, line);
}
template <typename T> T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, PB_SHIM_HERE) {
    unsigned lane = pb_shim_lane(), to = lane ^ (unsigned)bits;
    if ((to & ~((unsigned)width - 1)) > lane) to = lane;
    return pb_shim_from(mask, v, to, "__shfl_xor_sync", file, line);
}
template <typename T> T __shfl_down_sync(unsigned mask, T v, unsigned n, int width = 32, PB_SHIM_HERE) {
    unsigned lane = pb_shim_lane(), w = (unsigned)width;
    return pb_shim_from(mask, v, (lane & (w - 1)) + n < w ? lane + n : lane, "__shfl_down_sync", file, line);
}
template <typename T> T __shfl_up_sync(unsigned mask, T v, unsigned n, int width = 32, PB_SHIM_HERE) {
    unsigned lane = pb_shim_lane(), w = (unsigned)width;
    return pb_shim_from(mask, v, (lane & (w - 1)) >= n ? lane - n : lane, "__shfl_up_sync", file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int yes, PB_SHIM_HERE) {
    const int v = yes != 0, *all = (const int *)pb_shim_warp_meet(mask, &v, sizeof v, "__ballot_sync", file, line);
    unsigned out = 0;
    for (unsigned i = 0; i < 32; i++) {
        if ((mask >> i & 1u) != 0 && all[i] != 0) out |= 1u << i;
    }
    return out;
}
static inline int __any_sync(unsigned mask, int yes, PB_SHIM_HERE) { return __ballot_sync(mask, yes, file, line) != 0; }
static inline int __all_sync(unsigned mask, int yes, PB_SHIM_HERE) {
    return __ballot_sync(mask, yes, file, line) == mask;
}

/* --- atomics ------------------------------------------------------------------------------------ */

template <typename T> T pb_shim_exchange(T *p, T v) {
    T old = *p;
    *p = v;
    return old;
}
template <typename T, typename V> T atomicAdd(T *p, V v) { return pb_shim_exchange(p, (T)(*p + (T)v)); }
template <typename T, typename V> T atomicExch(T *p, V v) { return pb_shim_exchange(p, (T)v); }
template <typename T, typename V> T atomicMax(T *p, V v) { return pb_shim_exchange(p, *p > (T)v ? *p : (T)v); }
template <typename T, typename V> T atomicMin(T *p, V v) { return pb_shim_exchange(p, *p < (T)v ? *p : (T)v); }
template <typename T, typename V> T atomicOr(T *p, V v) { return pb_shim_exchange(p, (T)(*p | (T)v)); }
template <typename T, typename V, typename W> T atomicCAS(T *p, V if_equal, W v) {
    return pb_shim_exchange(p, *p == (T)if_equal ? (T)v : *p);
}
static inline unsigned atomicInc(unsigned *p, unsigned last) { return pb_shim_exchange(p, *p >= last ? 0u : *p + 1u); }

/* --- arithmetic ---------------------------------------------------------------------------------- */

static inline float __uint_as_float(unsigned u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline unsigned __float_as_uint(float f) {
    unsigned u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline float __int_as_float(int i) { return __uint_as_float((unsigned)i); }
static inline int __float_as_int(float f) { return (int)__float_as_uint(f); }
static inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
/* Names that the C library has for itself. */
#define __expf expf
#define __logf logf
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz((unsigned)v); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((uint64_t)a * b) >> 32); }
template <typename T> T __ldg(const T *p) { return *p; }
template <typename T> T __ldcs(const T *p) { return *p; }
template <typename T> void __stcs(T *p, T v) { *p = v; }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
