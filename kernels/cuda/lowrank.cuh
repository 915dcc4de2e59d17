/* Fused products of the low-rank branch on tensor cores, for x under dropout (Hu et al. 2021): x is read once and D(x) is
 * never stored. bf16, sm_80 and later, rank 128 at most, rows in pieces of 16 bytes.
 *
 * A thread masks the pieces of x that it has itself brought into shared memory, 8 elements from two Philox draws, before
 * the block multiplies them. Factors 1/(1-p) are applied to the sums. */
#ifndef PB_KERNELS_CUDA_LOWRANK_CUH
#define PB_KERNELS_CUDA_LOWRANK_CUH

#include "kernels/cuda/mma.cuh"

#define LOWRANK_THREADS 128
#define LOWRANK_ROWS    64 /* tokens of a tile */
#define LOWRANK_COLS    64 /* columns of x of a tile */

static constexpr size_t lowrank_fwd_shared(int rank) {
    return (size_t)2 * (LOWRANK_ROWS + (size_t)rank) * LOWRANK_COLS * 2;
}
static constexpr size_t lowrank_bwd_shared(int rank) {
    return (size_t)2 * (2 * LOWRANK_ROWS * (LOWRANK_COLS + rank) + rank * LOWRANK_COLS) +
           LOWRANK_ROWS * LOWRANK_COLS / 8;
}

typedef struct lowrank_params {
    const uint16_t *x, *a, *dh; /* dh [n, RT]: columns behind the rank are zeros */
    int64_t x_stride, a_stride, dh_stride;
    int64_t n, in, rank;
    uint16_t *dx; /* or NULL */
    int64_t dx_stride;
    float beta;
    int slices;
    /* Partial sums: h [slices][n][rank], da [slices][rank][in]; NULL where da is not wanted. */
    float *part;
    pb_mask mask;
} lowrank_params; /* no padding: parameters are compared byte by byte */
static_assert(sizeof(lowrank_params) == 13 * 8 + sizeof(pb_mask), "padding");

#if PB_HAS_MMA

/* Rows row0.. and columns col0.. of a matrix into a tile [ROWS, COLS]; zeros outside [rows, cols]. */
template <int ROWS, int COLS>
static __device__ __forceinline__ void lowrank_load(uint16_t *tile, const uint16_t *src,
                                                    int64_t stride, int64_t row0, int64_t rows,
                                                    int64_t col0, int64_t cols) {
#pragma unroll
    for (int i = (int)threadIdx.x; i < ROWS * (COLS / 8); i += LOWRANK_THREADS) {
        int row = i / (COLS / 8), chunk = i % (COLS / 8);
        int64_t r = row0 + row, c = col0 + 8 * chunk;
        bool valid = r < rows && c < cols;
        pb_async16(tile + pb_tile_at<COLS>(row, chunk), src + (valid ? r * stride + c : 0), valid);
    }
}

/* Zeros what dropout drops in the pieces of x this thread has loaded (lowrank_load's own order); bits[row][chunk]: which
 * elements are kept. */
static __device__ __forceinline__ void lowrank_mask(const lowrank_params &p, uint16_t *tile,
                                                    int64_t row0, int64_t col0, uint8_t *bits) {
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < LOWRANK_ROWS * (LOWRANK_COLS / 8); i += LOWRANK_THREADS) {
        int row = i / (LOWRANK_COLS / 8), chunk = i % (LOWRANK_COLS / 8);
        uint64_t block =
            (uint64_t)((row0 + row) * p.in + col0 + 8 * chunk) / 4; /* in is a multiple of 8 */
        pb_u32x4 lo = pb_philox(p.mask.key, p.mask.stream, block);
        pb_u32x4 hi = pb_philox(p.mask.key, p.mask.stream, block + 1);
        unsigned kept = 0;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            kept |= (lo.v[k] >= p.mask.threshold ? 1u : 0u) << k;
            kept |= (hi.v[k] >= p.mask.threshold ? 1u : 0u) << (k + 4);
        }
        uint4 *at = (uint4 *)(tile + pb_tile_at<LOWRANK_COLS>(row, chunk));
        uint4 v = *at;
        v.x &= ((kept & 1u) != 0 ? 0xffffu : 0u) | ((kept & 2u) != 0 ? 0xffff0000u : 0u);
        v.y &= ((kept & 4u) != 0 ? 0xffffu : 0u) | ((kept & 8u) != 0 ? 0xffff0000u : 0u);
        v.z &= ((kept & 16u) != 0 ? 0xffffu : 0u) | ((kept & 32u) != 0 ? 0xffff0000u : 0u);
        v.w &= ((kept & 64u) != 0 ? 0xffffu : 0u) | ((kept & 128u) != 0 ? 0xffff0000u : 0u);
        *at = v;
        if (bits != NULL) bits[row * (LOWRANK_COLS / 8) + chunk] = (uint8_t)kept;
    }
}

#endif

/* part[slice] := D(x) A^T over the slice's columns: 64 tokens and all ranks to a block, 16 tokens to a warp; slices (on
 * the grid's y) fill the device when tokens are few and are added in order by lowrank_h_kernel. Bytes: x once, A once for
 * each 64 tokens from the L2 cache. FLOPs 2 N r in, and 1/4 Philox block per element of x. */
template <int RT>
static __global__ void __launch_bounds__(LOWRANK_THREADS) lowrank_xa_mma(lowrank_params p) {
#if PB_HAS_MMA
    constexpr int NT = RT / 8;
    PB_DYNAMIC_SHARED(uint16_t, shared);
    uint16_t *xs = shared, *as = xs + 2 * LOWRANK_ROWS * LOWRANK_COLS;
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int64_t row0 = (int64_t)blockIdx.x * LOWRANK_ROWS;
    int64_t chunks = (p.in + LOWRANK_COLS - 1) / LOWRANK_COLS;
    int64_t from = chunks * blockIdx.y / p.slices, to = chunks * (blockIdx.y + 1) / p.slices;
    float c[NT][4];
#pragma unroll
    for (int n = 0; n < NT; n++) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0.0f;
    for (int64_t j = from - 1; j < to; j++) {
        int64_t next = j + 1;
        if (next < to) { /* tiles of the next step; the first round does only that */
            int64_t at = next & 1, col = next * LOWRANK_COLS;
            lowrank_load<LOWRANK_ROWS, LOWRANK_COLS>(xs + at * LOWRANK_ROWS * LOWRANK_COLS, p.x,
                                                     p.x_stride, row0, p.n, col, p.in);
            lowrank_load<RT, LOWRANK_COLS>(as + at * RT * LOWRANK_COLS, p.a, p.a_stride, 0, p.rank,
                                           col, p.in);
        }
        pb_async_commit();
        if (j < from) continue;
        pb_async_wait<1>();
        uint16_t *xt = xs + (j & 1) * LOWRANK_ROWS * LOWRANK_COLS,
                 *at = as + (j & 1) * RT * LOWRANK_COLS;
        lowrank_mask(p, xt, row0, j * LOWRANK_COLS, (uint8_t *)NULL);
        __syncthreads();
#pragma unroll
        for (int kk = 0; kk < LOWRANK_COLS / 16; kk++) {
            uint32_t fa[4];
            pb_tile_a<LOWRANK_COLS>(fa, xt, warp * 16, kk);
#pragma unroll
            for (int n = 0; n < NT / 2; n++) {
                uint32_t fb[4];
                pb_tile_b<LOWRANK_COLS>(fb, at, 16 * n, kk);
                pb_mma(c[2 * n], fa, fb[0], fb[1]);
                pb_mma(c[2 * n + 1], fa, fb[2], fb[3]);
            }
        }
        __syncthreads();
    }
    pb_async_wait<0>();
    float *part = p.part + (int64_t)blockIdx.y * p.n * p.rank;
#pragma unroll
    for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int64_t row = row0 + warp * 16 + g + 8 * (i >> 1), k = 8 * n + 2 * t + (i & 1);
            if (row < p.n && k < p.rank) part[row * p.rank + k] = c[n][i] * p.mask.scale;
        }
    }
#endif
}

/* Of 64 columns of x and a slice of the tokens: da += dh^T D(x) into part[slice], and dx = beta dx + D'(dh A), from one
 * pass over x and one mask. A warp owns 16 of the columns in the first product and 16 of the tokens in the second.
 * Bytes: x and dx once, dh once for each 64 columns from the L2 cache. FLOPs 4 N r in. */
template <int RT>
static __global__ void __launch_bounds__(LOWRANK_THREADS) lowrank_bwd_mma(lowrank_params p) {
#if PB_HAS_MMA
    constexpr int MT = RT / 16;
    PB_DYNAMIC_SHARED(uint16_t, shared);
    uint16_t *xs = shared, *hs = xs + 2 * LOWRANK_ROWS * LOWRANK_COLS,
             *as = hs + 2 * LOWRANK_ROWS * RT;
    uint8_t *bits = (uint8_t *)(as + RT * LOWRANK_COLS);
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int64_t col0 = (int64_t)blockIdx.x * LOWRANK_COLS;
    int64_t tiles = (p.n + LOWRANK_ROWS - 1) / LOWRANK_ROWS;
    int64_t from = tiles * blockIdx.y / p.slices, to = tiles * (blockIdx.y + 1) / p.slices;
    float da[MT][2][4];
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int n = 0; n < 2; n++) da[m][n][0] = da[m][n][1] = da[m][n][2] = da[m][n][3] = 0.0f;
    }
    lowrank_load<RT, LOWRANK_COLS>(as, p.a, p.a_stride, 0, p.rank, col0, p.in);
    for (int64_t j = from - 1; j < to; j++) {
        int64_t next = j + 1;
        if (next < to) {
            int64_t at = next & 1, row = next * LOWRANK_ROWS;
            lowrank_load<LOWRANK_ROWS, LOWRANK_COLS>(xs + at * LOWRANK_ROWS * LOWRANK_COLS, p.x,
                                                     p.x_stride, row, p.n, col0, p.in);
            lowrank_load<LOWRANK_ROWS, RT>(hs + at * LOWRANK_ROWS * RT, p.dh, p.dh_stride, row, p.n,
                                           0, RT);
        }
        pb_async_commit();
        if (j < from) continue;
        pb_async_wait<1>();
        int64_t row0 = j * LOWRANK_ROWS;
        uint16_t *xt = xs + (j & 1) * LOWRANK_ROWS * LOWRANK_COLS,
                 *ht = hs + (j & 1) * LOWRANK_ROWS * RT;
        lowrank_mask(p, xt, row0, col0, bits);
        __syncthreads();
        if (p.part != NULL) {
#pragma unroll
            for (int kk = 0; kk < LOWRANK_ROWS / 16; kk++) {
                uint32_t fb[4];
                pb_tile_b_trans<LOWRANK_COLS>(fb, xt, 16 * kk, warp);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    uint32_t fa[4];
                    pb_tile_a_trans<RT>(fa, ht, 16 * kk, m);
                    pb_mma(da[m][0], fa, fb[0], fb[1]);
                    pb_mma(da[m][1], fa, fb[2], fb[3]);
                }
            }
        }
        if (p.dx != NULL) {
            float c[LOWRANK_COLS / 8][4];
#pragma unroll
            for (int n = 0; n < LOWRANK_COLS / 8; n++) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0.0f;
#pragma unroll
            for (int kk = 0; kk < MT; kk++) {
                uint32_t fa[4];
                pb_tile_a<RT>(fa, ht, warp * 16, kk);
#pragma unroll
                for (int n = 0; n < LOWRANK_COLS / 16; n++) {
                    uint32_t fb[4];
                    pb_tile_b_trans<LOWRANK_COLS>(fb, as, 16 * kk, n);
                    pb_mma(c[2 * n], fa, fb[0], fb[1]);
                    pb_mma(c[2 * n + 1], fa, fb[2], fb[3]);
                }
            }
#pragma unroll
            for (int n = 0; n < LOWRANK_COLS / 8; n++) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    int row = warp * 16 + g + 8 * h;
                    int64_t col = col0 + 8 * n + 2 * t;
                    if (row0 + row >= p.n || col >= p.in) continue;
                    unsigned kept = bits[row * (LOWRANK_COLS / 8) + n] >> (2 * t);
                    float v0 = (kept & 1u) != 0 ? c[n][2 * h] * p.mask.scale : 0.0f;
                    float v1 = (kept & 2u) != 0 ? c[n][2 * h + 1] * p.mask.scale : 0.0f;
                    uint32_t *to_dx = (uint32_t *)(p.dx + (row0 + row) * p.dx_stride + col);
                    if (p.beta != 0.0f) {
                        uint32_t old = *to_dx;
                        v0 += p.beta * __uint_as_float(old << 16);
                        v1 += p.beta * __uint_as_float(old & 0xffff0000u);
                    }
                    *to_dx = pb_pack2(v0, v1);
                }
            }
        }
        __syncthreads();
    }
    pb_async_wait<0>();
    if (p.part == NULL) return;
    float *part = p.part + (int64_t)blockIdx.y * p.rank * p.in;
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int n = 0; n < 2; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int64_t k = 16 * m + g + 8 * (i >> 1),
                        col = col0 + 16 * warp + 8 * n + 2 * t + (i & 1);
                if (k < p.rank && col < p.in) part[k * p.in + col] = da[m][n][i] * p.mask.scale;
            }
        }
    }
#endif
}

#endif
