/* 4-bit block-wise quantisation (Dettmers et al. 2023) and squared row norms of stored weights. */
#include <stdlib.h>

#include "kernels/cuda/quant.cuh"
#include "kernels/cuda/quant.h"

#define THREADS    256
#define PER_THREAD 4 /* pieces of 8 elements a thread decodes, loads first */

/* --- quantising --------------------------------------------------------------------------------- */

/* The decision rules of pb_code_encode, which has them as tables too. */
typedef struct quant_rules {
    float threshold[15];
    int n;   /* thresholds */
    int fp4; /* of |x|, sign apart */
} quant_rules;

static quant_rules rules_of(pb_code code) {
    quant_rules r = {};
    const float *t = pb_code_thresholds(code, &r.n);
    for (int i = 0; i < r.n; i++) r.threshold[i] = t[i];
    r.fp4 = code == PB_CODE_FP4;
    return r;
}

static __device__ __forceinline__ unsigned quant_encode(const quant_rules &r, float x) {
    float at = r.fp4 != 0 && x < 0.0f ? -x : x;
    unsigned rank = 0;
#pragma unroll
    for (int i = 0; i < 15; i++) rank += i < r.n && at > r.threshold[i] ? 1u : 0u;
    if (r.fp4 == 0) return rank;
    /* FP4 codes by size: 0 1 6 7 4 5 2 3. */
    return (0x32547610u >> (4 * rank) & 15u) | (x < 0.0f ? 8u : 0u);
}

/* Idea: a warp takes one block; two elements a lane, so that a lane writes whole bytes; two passes, the second from
 * the cache. Bytes: src once, 1/2 byte of codes and 4/64 of absmax per element. Set-up only. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    quantize4_kernel(const T *src, int64_t stride, quant_rules r, int64_t in, int64_t n, int block,
                     int64_t blocks, uint8_t *codes, float *absmax) {
    int lane = (int)threadIdx.x & 31;
    int64_t b = (int64_t)blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5), first = b * block;
    if (b >= blocks) return;
    int len = n - first < block ? (int)(n - first) : block;
    float most = 0.0f;
    for (int i = lane; i < len; i += 32) {
        int64_t at = first + i;
        most = fmaxf(most, fabsf(pb_load(src + at / in * stride + at % in)));
    }
    most = pb_warp_max(most);
    float inverse = most > 0.0f ? 1.0f / most : 0.0f;
    for (int i = 2 * lane; i < len; i += 64) {
        unsigned byte = 0;
        for (int k = 0; k < 2 && i + k < len; k++) {
            int64_t at = first + i + k;
            float x = pb_load(src + at / in * stride + at % in) * inverse;
            byte |= quant_encode(r, x) << (k == 0 ? 4 : 0);
        }
        codes[(first + i) / 2] = (uint8_t)byte;
    }
    if (lane == 0) absmax[b] = most;
}

/* offset[0] := mean of absmax, in double and in a fixed order: one block, set-up only. */
static __global__ void __launch_bounds__(THREADS)
    quant_mean_kernel(const float *absmax, int64_t n, float *offset) {
    __shared__ double part[THREADS];
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) sum += (double)absmax[i];
    part[threadIdx.x] = sum;
    for (int step = THREADS / 2; step > 0; step /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < step) part[threadIdx.x] += part[threadIdx.x + step];
    }
    if (threadIdx.x == 0) offset[0] = (float)(n > 0 ? part[0] / (double)n : 0.0);
}

/* Index of the nearest entry, a tie goes to the lower one: pb_dynamic_encode. */
static __device__ __forceinline__ int quant_nearest(const float *map, float x) {
    if (!(x > map[0])) return 0;
    if (x >= map[255]) return 255;
    int lo = 0, hi = 255;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (x >= map[mid]) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return (double)x - (double)map[lo] <= (double)map[hi] - (double)x ? lo : hi;
}

/* absmax - mean in 8 bits, one thread block to a block of 256. */
static __global__ void __launch_bounds__(THREADS)
    quant_absmax_kernel(const float *absmax, int64_t n, const float *offset, quant_map m,
                        uint8_t *codes, float *absmax2) {
    __shared__ float map[256], scratch[32];
    map[threadIdx.x] = m.v[threadIdx.x];
    int64_t i = (int64_t)blockIdx.x * PB_QUANT8_BLOCK + threadIdx.x;
    float v = i < n ? absmax[i] - offset[0] : 0.0f;
    float most = pb_block_max(fabsf(v), scratch); /* its barriers make `map` visible too */
    float inverse = most > 0.0f ? 1.0f / most : 0.0f;
    if (i < n) codes[i] = (uint8_t)quant_nearest(map, v * inverse);
    if (threadIdx.x == 0) absmax2[blockIdx.x] = most;
}

static int64_t block_count(const pb_quant4 *q) { return pb_ceil_div(q->out * q->in, q->block); }

static size_t quantize4_workspace(const pb_device *dev, const void *args) {
    const pb_quantize4_args *a = (const pb_quantize4_args *)args;
    (void)dev;
    return a->q.double_quant ? (size_t)block_count(&a->q) * sizeof(float) : 0;
}

static pb_status quantize4_run(pb_device *dev, const void *args, void *ws) {
    const pb_quantize4_args *a = (const pb_quantize4_args *)args;
    const pb_quant4 *q = &a->q;
    pb_cuda *cuda = pb_cuda_of(dev);
    if (a->src.dtype == PB_F64) return pb_cuda_no_f64("quantize4");
    float *absmax = (float *)(q->double_quant ? ws : q->absmax.data);
    int64_t blocks = block_count(q);
    pb_status status = PB_OK;
    PB_WITH_REAL(a->src.dtype, T,
                 status = PB_LAUNCH(
                     cuda, (quantize4_kernel<T>), pb_grid(pb_ceil_div(blocks, THREADS / 32)),
                     THREADS, 0, (const T *)a->src.data, a->src.stride, rules_of(q->code), q->in,
                     q->out * q->in, q->block, blocks, (uint8_t *)q->codes.data, absmax));
    if (status != PB_OK || !q->double_quant) return status;
    PB_RETURN(
        PB_LAUNCH(cuda, quant_mean_kernel, 1, THREADS, 0, absmax, blocks, (float *)q->offset.data));
    return PB_LAUNCH(cuda, quant_absmax_kernel, pb_grid(pb_ceil_div(blocks, PB_QUANT8_BLOCK)),
                     THREADS, 0, absmax, blocks, (const float *)q->offset.data, quant_map_signed(),
                     (uint8_t *)q->absmax_q.data, (float *)q->absmax2.data);
}

/* --- dequantising ------------------------------------------------------------------------------- */

/* dst[j, c] := W[row + j, from + c]. Idea: memory bound, so loads of 4 bytes of codes by neighbouring lanes
 * (128 bytes a warp), stores of 16 or 32 bytes a lane, four pieces under way per thread; absmax is made from its
 * 8-bit form by the lanes that need it, from the cache. Bytes per element: 1/2 + 1/64 in, sizeof(T) out.
 * Source: Dettmers et al. 2023, section 3. One thread block: PER_THREAD * THREADS pieces of 8 of one row of dst
 * (of all of it where rows follow each other without gaps: then rows is 1). */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    dequant8_kernel(const __grid_constant__ quant_view v, const __grid_constant__ quant_map m,
                    int64_t first, int64_t pitch, int64_t n, unsigned per_row, T *dst,
                    int64_t stride) {
    __shared__ quant_tables s;
    quant_tables_fill(&s, v);
    unsigned row = blockIdx.x / per_row;
    int64_t piece = (int64_t)(blockIdx.x % per_row) * (PER_THREAD * THREADS) + threadIdx.x;
    int64_t src = first + row * pitch;
    dst += row * stride;
    uint32_t word[PER_THREAD];
    float absmax[PER_THREAD];
#pragma unroll
    for (int k = 0; k < PER_THREAD; k++) {
        int64_t c = 8 * (piece + k * THREADS);
        if (c + 8 <= n) {
            word[k] = *(const uint32_t *)(v.codes + ((src + c) >> 1));
            absmax[k] = quant_absmax(v, m, quant_block(v, src + c));
        }
    }
#pragma unroll
    for (int k = 0; k < PER_THREAD; k++) {
        int64_t c = 8 * (piece + k * THREADS);
        if (c + 8 > n) break;
        float x[8];
        quant_eight(&s, word[k], absmax[k], x);
        constexpr int V = 16 / (int)sizeof(T);
#pragma unroll
        for (int h = 0; h < 8; h += V) {
            float part[V];
#pragma unroll
            for (int i = 0; i < V; i++) part[i] = x[h + i];
            pb_store_vec<V>(dst + c + h, part);
        }
    }
}

/* The same element by element, for any size and stride. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    dequant1_kernel(const __grid_constant__ quant_view v, const __grid_constant__ quant_map m,
                    int64_t first, int64_t pitch, int64_t n, unsigned per_row, T *dst,
                    int64_t stride) {
    __shared__ quant_tables s;
    quant_tables_fill(&s, v);
    unsigned row = blockIdx.x / per_row;
    int64_t c = (int64_t)(blockIdx.x % per_row) * THREADS + threadIdx.x;
    if (c < n) pb_store(dst + row * stride + c, quant_value(v, m, &s, first + row * pitch + c));
}

template <typename T>
static pb_status dequant(pb_cuda *cuda, const pb_quant4 *q, int64_t row, int64_t rows, int64_t from,
                         int64_t n, pb_tensor dst) {
    int64_t first = row * q->in + from, pitch = q->in, stride = dst.stride;
    bool by8 = quant_by_8(q, from) && n % 8 == 0 && pb_vectors_fit(dst);
    if (n == q->in && pb_contiguous(dst)) { /* one long row */
        n *= rows;
        rows = n > 0 ? 1 : 0;
    }
    int64_t per_row = pb_ceil_div(n, by8 ? 8 * PER_THREAD * THREADS : THREADS),
            grid = rows * per_row;
    if (grid > 0x7fffffff)
        return PB_ERROR(PB_E_UNSUPPORTED, "cuda: a 4-bit matrix of %lld elements",
                        (long long)(rows * n));
    quant_view v = quant_view_of(q);
    if (by8)
        return PB_LAUNCH(cuda, (dequant8_kernel<T>), pb_grid(grid), THREADS, 0, v,
                         quant_map_signed(), first, pitch, n, (unsigned)per_row, (T *)dst.data,
                         stride);
    return PB_LAUNCH(cuda, (dequant1_kernel<T>), pb_grid(grid), THREADS, 0, v, quant_map_signed(),
                     first, pitch, n, (unsigned)per_row, (T *)dst.data, stride);
}

pb_status pb_cuda_dequant4(pb_cuda *cuda, const pb_quant4 *q, int64_t row, int64_t rows,
                           int64_t from, int64_t n, pb_tensor dst) {
    return dst.dtype == PB_F32 ? dequant<float>(cuda, q, row, rows, from, n, dst)
                               : dequant<pb_bf16>(cuda, q, row, rows, from, n, dst);
}

static int slab_mib_of(const char *text) {
    char *end = NULL;
    if (text == NULL) return PB_CUDA_SLAB_MIB;
    long mib = strtol(text, &end, 10);
    return end != text && *end == 0 && mib >= 1 && mib <= 1024 ? (int)mib : 0;
}

bool pb_cuda_slab_mib(int *mib) {
    static const int given = slab_mib_of(getenv("PB_CUDA_SLAB_MIB"));
    *mib = given > 0 ? given : PB_CUDA_SLAB_MIB;
    return given > 0;
}

int64_t pb_cuda_slab(const pb_quant4 *q, pb_dtype dtype, bool columns) {
    int64_t along = columns ? q->in : q->out, across = columns ? q->out : q->in;
    int mib = 0;
    (void)pb_cuda_slab_mib(&mib); /* asked when the device was opened */
    int64_t fit = ((int64_t)mib << 20) / pb_max64(1, across * (int64_t)pb_dtype_size(dtype));
    if (along <= fit) return along;
    return pb_min64(along, pb_max64(64, fit / 64 * 64));
}

static pb_status dequantize4_run(pb_device *dev, const void *args, void *ws) {
    const pb_dequantize4_args *a = (const pb_dequantize4_args *)args;
    (void)ws;
    if (a->dst.dtype == PB_F64) return pb_cuda_no_f64("dequantize4");
    return pb_cuda_dequant4(pb_cuda_of(dev), &a->q, 0, a->q.out, 0, a->q.in, a->dst);
}

/* --- y[j] = sum of squares of row j -------------------------------------------------------------- */

/* Idea: one thread block to a row, each thread 16 bytes at a time where rows allow it (VECTOR); sums of a thread in
 * order, of the block in a fixed tree. Bytes: the weight once; FLOPs: 2 per element. */
template <typename T, bool VECTOR>
static __global__ void __launch_bounds__(THREADS)
    norm2_dense_kernel(const T *w, int64_t stride, int64_t in, float *y) {
    __shared__ float scratch[32];
    const T *row = w + blockIdx.x * stride;
    float sum = 0.0f;
    if (VECTOR) {
        constexpr int V = 16 / (int)sizeof(T);
        for (int64_t i = (int64_t)threadIdx.x * V; i < in; i += THREADS * V) {
            float x[V];
            pb_load_vec<V>(x, row + i);
#pragma unroll
            for (int k = 0; k < V; k++) sum += x[k] * x[k];
        }
    } else {
        for (int64_t i = threadIdx.x; i < in; i += THREADS) {
            float x = pb_load(row + i);
            sum += x * x;
        }
    }
    sum = pb_block_sum(sum, scratch);
    if (threadIdx.x == 0) y[blockIdx.x] = sum;
}

/* The same over 4-bit codes; values are rounded to the compute dtype T before they are squared. */
template <typename T, bool BY8>
static __global__ void __launch_bounds__(THREADS)
    norm2_quant_kernel(const __grid_constant__ quant_view v, const __grid_constant__ quant_map m,
                       float *y) {
    __shared__ quant_tables s;
    __shared__ float scratch[32];
    quant_tables_fill(&s, v);
    int64_t first = blockIdx.x * v.in;
    float sum = 0.0f;
    if (BY8) {
        for (int64_t i = (int64_t)threadIdx.x * 8; i < v.in; i += THREADS * 8) {
            float x[8];
            uint32_t word = *(const uint32_t *)(v.codes + ((first + i) >> 1));
            quant_eight(&s, word, quant_absmax(v, m, quant_block(v, first + i)), x);
#pragma unroll
            for (int k = 0; k < 8; k++) sum += quant_rounded<T>(x[k]) * quant_rounded<T>(x[k]);
        }
    } else {
        for (int64_t i = threadIdx.x; i < v.in; i += THREADS) {
            float x = quant_rounded<T>(quant_value(v, m, &s, first + i));
            sum += x * x;
        }
    }
    sum = pb_block_sum(sum, scratch);
    if (threadIdx.x == 0) y[blockIdx.x] = sum;
}

template <typename T>
static pb_status norm2(pb_cuda *cuda, const pb_weight_norm2_args *a) {
    float *y = (float *)a->y.data;
    dim3 grid = pb_grid(pb_weight_out(a->w));
    if (a->w.quant == NULL) {
        const pb_tensor w = a->w.dense;
        const T *at = (const T *)w.data;
        if (pb_vectors_fit(w))
            return PB_LAUNCH(cuda, (norm2_dense_kernel<T, true>), grid, THREADS, 0, at, w.stride,
                             pb_cols(w), y);
        return PB_LAUNCH(cuda, (norm2_dense_kernel<T, false>), grid, THREADS, 0, at, w.stride,
                         pb_cols(w), y);
    }
    quant_view v = quant_view_of(a->w.quant);
    if (quant_by_8(a->w.quant, 0))
        return PB_LAUNCH(cuda, (norm2_quant_kernel<T, true>), grid, THREADS, 0, v,
                         quant_map_signed(), y);
    return PB_LAUNCH(cuda, (norm2_quant_kernel<T, false>), grid, THREADS, 0, v, quant_map_signed(),
                     y);
}

static pb_status weight_norm2_run(pb_device *dev, const void *args, void *ws) {
    const pb_weight_norm2_args *a = (const pb_weight_norm2_args *)args;
    pb_dtype dtype = a->w.quant != NULL ? a->w.quant->compute : a->w.dense.dtype;
    (void)ws;
    if (dtype == PB_F64) return pb_cuda_no_f64("weight_norm2");
    return dtype == PB_F32 ? norm2<float>(pb_cuda_of(dev), a) : norm2<pb_bf16>(pb_cuda_of(dev), a);
}

static const pb_kernel kernels[] = {
    {PB_OP_quantize4, "warp", quantize4_workspace, quantize4_run},
    {PB_OP_dequantize4, "vector", NULL, dequantize4_run},
    {PB_OP_weight_norm2, "vector", NULL, weight_norm2_run},
};
PB_CUDA_KERNELS(quant) = {kernels, sizeof kernels / sizeof *kernels};
