/* Linear layers over a 4-bit weight (Dettmers et al. 2023, QLoRA).
 *
 * Many tokens: the weight is decoded in slabs (pb_cuda_slab). The hope is that one is still in the L2 cache when the library's
 * product reads it, so that device memory sees the codes (1/2 byte per weight) and little of a decoded copy; x and y want room
 * there too, and no GPU has shown yet which size is best. Few tokens (16 at most, the padding of one): a product that reads the
 * codes once and never writes the weight. */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/linear4.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/quant.cuh"
#include "kernels/cuda/quant.h"

#define FEW       16 /* tokens of the fused product */
#define THREADS   256
#define MMA_ROWS  16 /* outputs of a thread block */
#define MMA_WARPS (THREADS / 32)
#define PLAIN_N   4 /* tokens of a thread of the plain product */

typedef struct few_args {
    const void *x, *bias;
    void *y;
    int64_t x_stride, y_stride;
    int n;
    float beta;
} few_args;

/* y[n,out] = x W^T + bias + beta y for n <= 8 NT tokens, bf16.
 *
 * Idea: W is operand A of mma.m16n8k16, 16 outputs to a thread block; its 8 warps take turns over pieces of 128 inputs and
 * their sums are added in order at the end. The sum over inputs may run in any order, so a lane takes 32 consecutive
 * inputs (16 bytes of codes) of rows g and g+8, and the same 32 of its tokens, as its share of eight k-steps: codes go
 * from global memory to fragments through two lookups and a multiplication each. Bytes: the codes and constants once, x
 * from the caches. FLOPs 2 N in out on the tensor cores, 1 per weight for decoding. Needs in % 64 == 0, blocks of 64. */
template <int NT>
static __global__ void __launch_bounds__(THREADS)
    linear4_mma_kernel(const __grid_constant__ quant_view v, const __grid_constant__ quant_map m,
                       few_args a) {
#if PB_HAS_MMA
    __shared__ quant_tables s;
    __shared__ float part[MMA_WARPS][NT][MMA_ROWS][8];
    quant_tables_fill(&s, v);
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int64_t j0 = (int64_t)blockIdx.x * MMA_ROWS;
    float c[NT][4];
#pragma unroll
    for (int nt = 0; nt < NT; nt++) c[nt][0] = c[nt][1] = c[nt][2] = c[nt][3] = 0.0f;
    for (int64_t k0 = warp * 128; k0 < v.in; k0 += MMA_WARPS * 128) {
        int64_t k = k0 + 32 * t;
        bool in = k < v.in;
        uint4 code[2];
        float absmax[2];
        uint32_t x[NT][16];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int64_t j = j0 + g + 8 * h, at = j * v.in + k;
            bool have = in && j < v.out;
            code[h] = have ? *(const uint4 *)(v.codes + (at >> 1)) : make_uint4(0, 0, 0, 0);
            absmax[h] = have ? quant_absmax(v, m, at >> 6) : 0.0f;
        }
#pragma unroll
        for (int nt = 0; nt < NT; nt++) {
            int token = 8 * nt + g;
            bool have = in && token < a.n;
            const uint16_t *row = (const uint16_t *)a.x + token * a.x_stride + k;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint4 p = have ? *(const uint4 *)(row + 8 * i) : make_uint4(0, 0, 0, 0);
                x[nt][4 * i] = p.x;
                x[nt][4 * i + 1] = p.y;
                x[nt][4 * i + 2] = p.z;
                x[nt][4 * i + 3] = p.w;
            }
        }
        __syncwarp(); /* lanes whose rows end elsewhere: the products need all of them at once */
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float w[2][8];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                uint32_t word = i == 0   ? code[h].x
                                : i == 1 ? code[h].y
                                : i == 2 ? code[h].z
                                         : code[h].w;
                quant_eight(&s, word, absmax[h], w[h]);
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint32_t fa[4] = {pb_pack2(w[0][4 * half], w[0][4 * half + 1]),
                                  pb_pack2(w[1][4 * half], w[1][4 * half + 1]),
                                  pb_pack2(w[0][4 * half + 2], w[0][4 * half + 3]),
                                  pb_pack2(w[1][4 * half + 2], w[1][4 * half + 3])};
#pragma unroll
                for (int nt = 0; nt < NT; nt++)
                    pb_mma(c[nt], fa, x[nt][4 * i + 2 * half], x[nt][4 * i + 2 * half + 1]);
            }
        }
    }
#pragma unroll
    for (int nt = 0; nt < NT; nt++) {
#pragma unroll
        for (int i = 0; i < 4; i++) part[warp][nt][g + 8 * (i >> 1)][2 * t + (i & 1)] = c[nt][i];
    }
    __syncthreads();
    int row = (int)threadIdx.x % MMA_ROWS,
        token = (int)threadIdx.x / MMA_ROWS; /* 16 x 16 threads */
    int64_t j = j0 + row;
    if (token >= a.n || token >= 8 * NT || j >= v.out) return;
    float sum = 0.0f;
    for (int w = 0; w < MMA_WARPS; w++) sum += part[w][token / 8][row][token % 8];
    if (a.bias != NULL) sum += pb_load((const pb_bf16 *)a.bias + j);
    pb_bf16 *y = (pb_bf16 *)a.y + token * a.y_stride + j;
    pb_store(y, a.beta != 0.0f ? sum + a.beta * pb_load(y) : sum);
#endif
}

/* The plain twin: any dtype, shape, block and architecture. A warp to an output, PLAIN_N tokens at a time; lanes walk over
 * the inputs. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    linear4_plain_kernel(const __grid_constant__ quant_view v, const __grid_constant__ quant_map m,
                         few_args a) {
    __shared__ quant_tables s;
    quant_tables_fill(&s, v);
    int lane = (int)threadIdx.x & 31, n0 = (int)blockIdx.y * PLAIN_N;
    int64_t j = (int64_t)blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5);
    if (j >= v.out) return;
    float sum[PLAIN_N] = {};
    for (int64_t i = lane; i < v.in; i += 32) {
        float w = quant_rounded<T>(quant_value(v, m, &s, j * v.in + i));
#pragma unroll
        for (int k = 0; k < PLAIN_N; k++) {
            if (n0 + k < a.n) sum[k] += w * pb_load((const T *)a.x + (n0 + k) * a.x_stride + i);
        }
    }
#pragma unroll
    for (int k = 0; k < PLAIN_N; k++) {
        float total = pb_warp_sum(sum[k]);
        if (lane != 0 || n0 + k >= a.n) continue;
        if (a.bias != NULL) total += pb_load((const T *)a.bias + j);
        T *y = (T *)a.y + (n0 + k) * a.y_stride + j;
        pb_store(y, a.beta != 0.0f ? total + a.beta * pb_load(y) : total);
    }
}

bool pb_cuda_linear4_mma(const pb_cuda *cuda, const pb_linear_args *l) {
    const pb_quant4 *q = l->w.quant;
    return l->x.dtype == PB_BF16 && cuda->info.major >= 8 && !cuda->plain && q->in % 64 == 0 &&
           q->block == 64 && ((uintptr_t)q->codes.data & 15) == 0 && pb_vectors_fit(l->x);
}

pb_status pb_cuda_linear4_few(pb_cuda *cuda, const pb_linear_args *l, bool mma) {
    quant_view v = quant_view_of(l->w.quant);
    few_args a = {l->x.data,   l->bias.data,       l->y.data,     l->x.stride,
                  l->y.stride, (int)pb_rows(l->x), (float)l->beta};
    if (a.n == 0) return PB_OK;
    if (!mma) {
        dim3 grid = pb_grid(pb_ceil_div(v.out, THREADS / 32), pb_ceil_div(a.n, PLAIN_N));
        if (l->x.dtype == PB_F32)
            return PB_LAUNCH(cuda, (linear4_plain_kernel<float>), grid, THREADS, 0, v,
                             quant_map_signed(), a);
        return PB_LAUNCH(cuda, (linear4_plain_kernel<pb_bf16>), grid, THREADS, 0, v,
                         quant_map_signed(), a);
    }
    dim3 grid = pb_grid(pb_ceil_div(v.out, MMA_ROWS));
    if (a.n <= 8)
        return PB_LAUNCH(cuda, (linear4_mma_kernel<1>), grid, THREADS, 0, v, quant_map_signed(), a);
    return PB_LAUNCH(cuda, (linear4_mma_kernel<2>), grid, THREADS, 0, v, quant_map_signed(), a);
}

static bool is_few(const pb_linear_args *l) { return !l->transpose && pb_rows(l->x) <= FEW; }

typedef struct slab_ws {
    void *slab, *product;
    size_t bytes;
} slab_ws;

static slab_ws slab_layout(const pb_linear_args *l, char *base) {
    slab_ws w = {};
    char *at = base;
    w.slab = pb_cuda_take(&at, pb_cuda_slab_bytes(l->w.quant, l->x.dtype, l->transpose));
    w.product = pb_cuda_take(&at, PB_CUDA_PRODUCT_BYTES);
    w.bytes = (size_t)(at - base);
    return w;
}

size_t pb_cuda_linear4_workspace(const pb_linear_args *l) { return is_few(l) ? 0 : slab_layout(l, NULL).bytes; }

/* Slab by slab: rows of W are columns of y; for the input gradient columns of W are columns of y. Every element of y is
 * summed in one product. */
static pb_status linear4_slabs(pb_cuda *cuda, const pb_linear_args *l, void *ws) {
    const slab_ws room = slab_layout(l, (char *)ws);
    const pb_quant4 *q = l->w.quant;
    int64_t slab = pb_cuda_slab(q, l->x.dtype, l->transpose), along = l->transpose ? q->in : q->out;
    for (int64_t at = 0; at < along; at += slab) {
        int64_t n = pb_min64(slab, along - at);
        pb_tensor w = {};
        w.data = room.slab;
        w.dtype = l->x.dtype;
        w.ndim = 2;
        w.dim[0] = l->transpose ? q->out : n;
        w.dim[1] = w.stride = l->transpose ? n : q->in;
        PB_RETURN(l->transpose ? pb_cuda_dequant4(cuda, q, 0, q->out, at, n, w)
                               : pb_cuda_dequant4(cuda, q, at, n, 0, q->in, w));
        pb_gemm_args g = {};
        g.a = l->x;
        g.b = w;
        g.c = pb_cols_of(l->y, at, n);
        g.trans_b = !l->transpose;
        g.alpha = 1.0;
        g.beta = l->beta;
        if (pb_has(l->bias)) g.bias = pb_cols_of(l->bias, at, n);
        PB_RETURN(pb_cuda_gemm(cuda, &g, room.product));
    }
    return PB_OK;
}

pb_status pb_cuda_linear4(pb_cuda *cuda, const pb_linear_args *l, void *ws) {
    if (is_few(l)) return pb_cuda_linear4_few(cuda, l, pb_cuda_linear4_mma(cuda, l));
    return linear4_slabs(cuda, l, ws);
}
