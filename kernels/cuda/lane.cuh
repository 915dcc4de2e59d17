/* Device code that every kernel shares: elements as f32, 16-byte vectors, reductions in a fixed order, dropout.
 * Compiles for the device and for the host shim. Include after cuda.h. */
#ifndef PB_KERNELS_CUDA_LANE_CUH
#define PB_KERNELS_CUDA_LANE_CUH

#include "kernels/cuda/cuda.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
/* A dynamic shared array: PB_DYNAMIC_SHARED(float, tile); one per kernel. */
#define PB_DYNAMIC_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char pb_dynamic_shared[]; \
    type *name = reinterpret_cast<type *>(pb_dynamic_shared)
#endif

#define PB_ALL_LANES 0xffffffffu

/* --- elements ------------------------------------------------------------------------------------ */

/* A type of its own, so that templates tell it from integers. */
struct pb_bf16 {
    uint16_t bits;
};

__device__ inline float pb_wide(float v) { return v; }
__device__ inline float pb_wide(pb_bf16 v) { return __uint_as_float((uint32_t)v.bits << 16); }

/* f32 -> T, to nearest even. */
template <typename T> __device__ inline T pb_narrow(float v);
template <> __device__ inline float pb_narrow<float>(float v) { return v; }
template <> __device__ inline pb_bf16 pb_narrow<pb_bf16>(float v) {
    pb_bf16 out;
#ifdef __CUDACC__
    out.bits = __bfloat16_as_ushort(__float2bfloat16_rn(v));
#else
    out.bits = pb_f32_to_bf16(v);
#endif
    return out;
}

template <typename T> __device__ inline float pb_load(const T *p) { return pb_wide(*p); }
template <typename T> __device__ inline void pb_store(T *p, float v) { *p = pb_narrow<T>(v); }

/* N elements that move as one access: 4 floats or 8 bf16 are 16 bytes. The address must be a multiple of the size. */
template <typename T, int N> struct alignas(sizeof(T) * N) pb_vec {
    T v[N];
};
template <typename T> __host__ __device__ constexpr int pb_vec_n() { return (int)(16 / sizeof(T)); }

template <int N, typename T> __device__ inline void pb_load_vec(float (&out)[N], const T *p) {
    const pb_vec<T, N> v = *reinterpret_cast<const pb_vec<T, N> *>(p);
#pragma unroll
    for (int i = 0; i < N; i++) out[i] = pb_wide(v.v[i]);
}
template <int N, typename T> __device__ inline void pb_store_vec(T *p, const float (&in)[N]) {
    pb_vec<T, N> v;
#pragma unroll
    for (int i = 0; i < N; i++) v.v[i] = pb_narrow<T>(in[i]);
    *reinterpret_cast<pb_vec<T, N> *>(p) = v;
}
/* Host: may rows of this tensor move as vectors of 16 bytes? */
static inline bool pb_vectors_fit(pb_tensor t) {
    int64_t size = (int64_t)pb_dtype_size(t.dtype);
    return ((uintptr_t)t.data & 15) == 0 && pb_cols(t) * size % 16 == 0 && (pb_rows(t) <= 1 || t.stride * size % 16 == 0);
}

/* Runs the statement with T = float or pb_bf16: PB_WITH_REAL(x.dtype, T, status = PB_LAUNCH(..., (kernel<T>), ...)). */
#define PB_WITH_REAL(dt, T, ...)  \
    do {                          \
        if ((dt) == PB_F32) {     \
            using T = float;      \
            __VA_ARGS__;          \
        } else {                  \
            using T = pb_bf16;    \
            __VA_ARGS__;          \
        }                         \
    } while (0)

/* --- reductions: every lane gets the result; the order depends on nothing but the block's size ---- */

__device__ inline float pb_warp_sum(float v) {
#pragma unroll
    for (int d = PB_WARP / 2; d > 0; d /= 2) v += __shfl_xor_sync(PB_ALL_LANES, v, d);
    return v;
}
__device__ inline float pb_warp_max(float v) {
#pragma unroll
    for (int d = PB_WARP / 2; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(PB_ALL_LANES, v, d));
    return v;
}

/* The whole one-dimensional block, whose size is a multiple of 32; `scratch` is shared memory for 32 floats. Two
 * barriers: all threads must come, and scratch may be used again at once. */
__device__ inline float pb_block_sum(float v, float *scratch) {
    int warp = (int)threadIdx.x / PB_WARP, n = (int)blockDim.x / PB_WARP;
    v = pb_warp_sum(v);
    if (threadIdx.x % PB_WARP == 0) scratch[warp] = v;
    __syncthreads();
    float sum = 0.0f;
    for (int i = 0; i < n; i++) sum += scratch[i];
    __syncthreads();
    return sum;
}
__device__ inline float pb_block_max(float v, float *scratch) {
    int warp = (int)threadIdx.x / PB_WARP, n = (int)blockDim.x / PB_WARP;
    v = pb_warp_max(v);
    if (threadIdx.x % PB_WARP == 0) scratch[warp] = v;
    __syncthreads();
    float best = scratch[0];
    for (int i = 1; i < n; i++) best = fmaxf(best, scratch[i]);
    __syncthreads();
    return best;
}

/* --- dropout: the masks of kernels/core/rng.h -------------------------------------------------- */

struct pb_mask {
    uint64_t key, stream;
    uint32_t threshold; /* kept when the element's number is not below it */
    float scale;        /* 1/(1-p); 1 when off */
    int on;
    int unused; /* no padding: parameters are compared byte by byte */
};
static_assert(sizeof(pb_mask) == 2 * 8 + 4 * 4, "padding");

static inline pb_mask pb_mask_of(pb_drop drop) {
    pb_mask m = {};
    m.key = drop.key;
    m.stream = drop.stream;
    m.on = drop.p != 0.0f;
    m.threshold = m.on ? pb_dropout_threshold(drop.p) : 0;
    m.scale = m.on ? 1.0f / (1.0f - drop.p) : 1.0f;
    return m;
}

/* pb_random_u32 by selects: a word picked by a run-time index would live in memory. */
__device__ inline uint32_t pb_draw_u32(uint64_t key, uint64_t stream, uint64_t index) {
    const pb_u32x4 r = pb_philox(key, stream, index / 4);
    uint32_t lo = (index & 1) != 0 ? r.v[1] : r.v[0], hi = (index & 1) != 0 ? r.v[3] : r.v[2];
    return (index & 2) != 0 ? hi : lo;
}

/* 0 or 1/(1-p) for one element. Four neighbours from one draw: pb_mask_factors4. */
__device__ inline float pb_mask_factor(const pb_mask &m, uint64_t index) {
    if (!m.on) return 1.0f;
    return pb_draw_u32(m.key, m.stream, index) >= m.threshold ? m.scale : 0.0f;
}
/* Elements 4*block .. 4*block+3. */
__device__ inline void pb_mask_factors4(const pb_mask &m, uint64_t block, float (&out)[4]) {
    if (!m.on) {
        for (int i = 0; i < 4; i++) out[i] = 1.0f;
        return;
    }
    const pb_u32x4 r = pb_philox(m.key, m.stream, block);
#pragma unroll
    for (int i = 0; i < 4; i++) out[i] = r.v[i] >= m.threshold ? m.scale : 0.0f;
}

#endif
