/* Work on matrices in chunks of V neighbouring columns: one access of up to 16 bytes where addresses
 * allow it, single elements where they do not. A chunk lies in one row; rows may be strided. T is
 * float or pb_bf16, V elements at most 32 bytes; all arithmetic is f32. */
#ifndef PB_KERNELS_CUDA_CHUNK_CUH
#define PB_KERNELS_CUDA_CHUNK_CUH

#include <math.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/lane.cuh"

#define PB_CHUNK_THREADS 256 /* of a block of a pointwise kernel */

/* --- matrices and their chunks --------------------------------------------------------------- */

/* A matrix as a kernel sees it; data NULL = not there. */
template <typename T> struct pb_view {
    T *data;
    int64_t stride;
    __device__ __forceinline__ T *at(int64_t row, int64_t col) const {
        return data + row * stride + col;
    }
};

template <typename T> static inline pb_view<T> pb_view_of(pb_tensor t) {
    pb_view<T> v = {static_cast<T *>(t.data), t.stride};
    return v;
}

/* rows x cols in chunks: n of them, per_row in each row. wide: every chunk of full length may be
 * moved by vector accesses. */
struct pb_chunks {
    int64_t rows, cols, per_row, n;
    int64_t wide; /* 0 or 1; no padding: parameters are compared byte by byte */
};

/* The chunks of t, row by row. wide when all `n` tensors of `all` are aligned; those that are not there
 * do not count. */
static inline pb_chunks pb_chunks_by_row(pb_tensor t, int width, const pb_tensor *all, int n) {
    pb_chunks g = {pb_rows(t), pb_cols(t), pb_ceil_div(pb_cols(t), width), 0, 1};
    for (int i = 0; i < n; i++) {
        if (!pb_has(all[i])) continue;
        size_t bytes = (size_t)width * pb_dtype_size(all[i].dtype);
        if (bytes > 16) bytes = 16;
        if ((uintptr_t)all[i].data % bytes != 0) g.wide = 0;
        if (pb_rows(all[i]) > 1 && all[i].stride % width != 0) g.wide = 0;
    }
    g.n = g.rows * g.per_row;
    return g;
}

/* The same, as one long row when all tensors are contiguous. */
static inline pb_chunks pb_chunks_of(pb_tensor t, int width, const pb_tensor *all, int n) {
    pb_chunks g = {1, pb_numel(t), pb_ceil_div(pb_numel(t), width), 0, 1};
    for (int i = 0; i < n; i++) {
        if (!pb_has(all[i])) continue;
        if (!pb_contiguous(all[i])) return pb_chunks_by_row(t, width, all, n);
        size_t bytes = (size_t)width * pb_dtype_size(all[i].dtype);
        if ((uintptr_t)all[i].data % (bytes > 16 ? 16 : bytes) != 0) g.wide = 0;
    }
    g.n = g.per_row;
    return g;
}

struct pb_chunk {
    int64_t row, col;
    int n; /* columns, V but for the last of a row */
};

template <int V> __device__ __forceinline__ pb_chunk pb_chunk_at(const pb_chunks &g, int64_t i) {
    pb_chunk c = {0, i, V};
    if (g.rows > 1) { /* a 64-bit division costs more than the rest of a pointwise kernel */
        c.row = g.n <= 0xffffffffLL ? (int64_t)((uint32_t)i / (uint32_t)g.per_row) : i / g.per_row;
        c.col = i - c.row * g.per_row;
    }
    c.col *= V;
    if (g.cols - c.col < V) c.n = (int)(g.cols - c.col);
    return c;
}

/* This thread's chunks of a grid-stride loop. */
#define PB_FOR_CHUNKS(i, g)                                                           \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (g).n;       \
         i += (int64_t)gridDim.x * blockDim.x)

/* Blocks for n threads' worth of work, at most 16 for each multiprocessor: two full waves. */
static inline dim3 pb_chunk_grid(const pb_cuda *cuda, int64_t n) {
    return pb_grid(pb_min64(pb_ceil_div(n, PB_CHUNK_THREADS), 16 * (int64_t)cuda->info.sms));
}

/* --- elements -------------------------------------------------------------------------------- */

template <int BYTES> struct __attribute__((may_alias)) __attribute__((aligned(BYTES))) pb_pack {
    uint32_t word[BYTES / 4];
};

/* V elements as they lie in memory. */
template <typename T, int V> struct pb_raw {
    uint32_t word[V * (int)sizeof(T) / 4];
};

__device__ __forceinline__ void pb_raw_put(uint32_t *word, int k, float x) {
    word[k] = __float_as_uint(x);
}
__device__ __forceinline__ void pb_raw_put(uint32_t *word, int k, pb_bf16 x) {
    word[k / 2] |= (uint32_t)x.bits << (16 * (k % 2));
}

/* n of V elements from p, zeros behind them. */
template <int V, typename T>
__device__ __forceinline__ pb_raw<T, V> pb_load_raw(const T *p, int n, bool wide) {
    constexpr int words = V * (int)sizeof(T) / 4, each = words < 4 ? words : 4;
    pb_raw<T, V> r;
    if (wide && n == V) {
#pragma unroll
        for (int i = 0; i < words / each; i++) {
            pb_pack<4 * each> pack = reinterpret_cast<const pb_pack<4 * each> *>(p)[i];
#pragma unroll
            for (int k = 0; k < each; k++) r.word[i * each + k] = pack.word[k];
        }
    } else {
#pragma unroll
        for (int i = 0; i < words; i++) r.word[i] = 0;
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (k < n) pb_raw_put(r.word, k, p[k]);
        }
    }
    return r;
}

template <int V>
__device__ __forceinline__ void pb_unpack(const pb_raw<float, V> &r, float (&x)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) x[k] = __uint_as_float(r.word[k]);
}
template <int V>
__device__ __forceinline__ void pb_unpack(const pb_raw<pb_bf16, V> &r, float (&x)[V]) {
#pragma unroll
    for (int k = 0; k < V; k += 2) {
        x[k] = __uint_as_float(r.word[k / 2] << 16);
        x[k + 1] = __uint_as_float(r.word[k / 2] & 0xffff0000u);
    }
}

/* x[V] := n elements from p as f32, zeros behind them. */
template <int V, typename T>
__device__ __forceinline__ void pb_chunk_load(const T *p, int n, bool wide, float (&x)[V]) {
    pb_raw<T, V> r = pb_load_raw<V>(p, n, wide);
    pb_unpack<V>(r, x);
}

/* Two bf16, a in the lower half. */
__device__ __forceinline__ uint32_t pb_narrow2(float a, float b) {
#ifdef __CUDACC__
    __nv_bfloat162 pair = __floats2bfloat162_rn(a, b); /* one instruction from sm_80 on */
    return (uint32_t)__bfloat16_as_ushort(pair.x) | (uint32_t)__bfloat16_as_ushort(pair.y) << 16;
#else
    return (uint32_t)pb_f32_to_bf16(a) | (uint32_t)pb_f32_to_bf16(b) << 16;
#endif
}

template <int V> __device__ __forceinline__ pb_raw<float, V> pb_packed(const float (&x)[V], float *) {
    pb_raw<float, V> r;
#pragma unroll
    for (int k = 0; k < V; k++) r.word[k] = __float_as_uint(x[k]);
    return r;
}
template <int V>
__device__ __forceinline__ pb_raw<pb_bf16, V> pb_packed(const float (&x)[V], pb_bf16 *) {
    pb_raw<pb_bf16, V> r;
#pragma unroll
    for (int k = 0; k < V; k += 2) r.word[k / 2] = pb_narrow2(x[k], x[k + 1]);
    return r;
}

__device__ __forceinline__ void pb_raw_get(float *p, const uint32_t *word, int k) {
    *p = __uint_as_float(word[k]);
}
__device__ __forceinline__ void pb_raw_get(pb_bf16 *p, const uint32_t *word, int k) {
    p->bits = (uint16_t)(word[k / 2] >> (16 * (k % 2)));
}

/* The first n elements of r to p. */
template <typename T, int V>
__device__ __forceinline__ void pb_store_raw(T *p, int n, bool wide, const pb_raw<T, V> &r) {
    constexpr int words = V * (int)sizeof(T) / 4, each = words < 4 ? words : 4;
    if (wide && n == V) {
#pragma unroll
        for (int i = 0; i < words / each; i++) {
            pb_pack<4 * each> pack;
#pragma unroll
            for (int k = 0; k < each; k++) pack.word[k] = r.word[i * each + k];
            reinterpret_cast<pb_pack<4 * each> *>(p)[i] = pack;
        }
    } else {
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (k >= n) continue;
            pb_raw_get(p + k, r.word, k);
        }
    }
}

/* The first n of x[V] to p, rounded to nearest even. */
template <int V, typename T>
__device__ __forceinline__ void pb_chunk_store(T *p, int n, bool wide, const float (&x)[V]) {
    pb_store_raw<T, V>(p, n, wide, pb_packed<V>(x, p));
}

/* x := x + beta * (elements at p); what lies at p is not read when beta is 0. */
template <int V, typename T>
__device__ __forceinline__ void pb_chunk_mix(const T *p, int n, bool wide, float beta, float (&x)[V]) {
    if (beta == 0.0f) return;
    float old[V];
    pb_chunk_load<V>(p, n, wide, old);
#pragma unroll
    for (int k = 0; k < V; k++) x[k] += beta * old[k];
}

/* --- dropout --------------------------------------------------------------------------------- */

/* x := D(x) for elements first .. first+V-1. One Philox block serves four elements. */
template <int V>
__device__ __forceinline__ void pb_chunk_drop(const pb_mask &d, uint64_t first, float (&x)[V]) {
    if (!d.on) return;
    if (first % 4 == 0) {
#pragma unroll
        for (int k = 0; k < V; k += 4) {
            pb_u32x4 r = pb_philox(d.key, d.stream, first / 4 + (uint64_t)(k / 4));
#pragma unroll
            for (int j = 0; j < 4; j++) x[k + j] *= r.v[j] >= d.threshold ? d.scale : 0.0f;
        }
        return;
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        uint64_t index = first + (uint64_t)k;
        pb_u32x4 r = pb_philox(d.key, d.stream, index / 4);
        uint32_t low = index & 1 ? r.v[1] : r.v[0], high = index & 1 ? r.v[3] : r.v[2];
        x[k] *= (index & 2 ? high : low) >= d.threshold ? d.scale : 0.0f;
    }
}

/* --- sums in double -------------------------------------------------------------------------- */

/* This thread's share of n numbers. */
__device__ __forceinline__ double pb_strided_sum64(const double *x, int64_t n) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
    return sum;
}

/* Sum over a one-dimensional block whose size is a multiple of 32, in a fixed order; every thread gets
 * it. slots: shared, 32 doubles; may be used again at once. */
__device__ inline double pb_block_sum64(double v, double *slots) {
    int n = (int)blockDim.x / PB_WARP;
#pragma unroll
    for (int d = PB_WARP / 2; d > 0; d /= 2) v += __shfl_xor_sync(PB_ALL_LANES, v, d);
    if (threadIdx.x % PB_WARP == 0) slots[threadIdx.x / PB_WARP] = v;
    __syncthreads();
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += slots[i];
    __syncthreads();
    return sum;
}

/* --- one rounding each: nvcc may fuse neither -------------------------------------------------- */

#ifdef __CUDACC__
__device__ __forceinline__ float pb_times(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ float pb_plus(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double pb_times(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ double pb_plus(double a, double b) { return __dadd_rn(a, b); }
#else
template <typename F> inline F pb_times(F a, F b) { return a * b; }
template <typename F> inline F pb_plus(F a, F b) { return a + b; }
#endif

#endif
