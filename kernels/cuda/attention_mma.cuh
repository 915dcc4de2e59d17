/* Attention on tensor cores: bf16 in and out, f32 scores, head_dim 32, 64 or 128, sm_80 and later.
 *
 * Forward (Dao 2023, FlashAttention-2, algorithm 1): a block of 4 warps owns 64 MT queries of one
 * head and walks over blocks of BN keys; the next K and V tiles are copied while the current ones are
 * used. Scores and probabilities live in registers only; the running maximum and sum of each row
 * rescale the output ("online softmax"). Backward recomputes P = exp(s - lse) and needs
 * delta = rowsum(dO .* O). Two kernels, so that no sum crosses thread blocks and none is atomic:
 * dk/dv by blocks of 64 keys (all query heads of the group in a fixed order), dq by blocks of 64
 * queries.
 * FLOPs per head and T x T: forward 4 T^2 D; backward 14 T^2 D (scores and dP are formed twice:
 * 10 T^2 D would need atomic dq), half of that with a causal mask, whose empty tiles are skipped.
 * Bytes: q and o once, k and v once for each block of queries, mostly from the L2 cache. */
#ifndef PB_KERNELS_CUDA_ATTENTION_MMA_CUH
#define PB_KERNELS_CUDA_ATTENTION_MMA_CUH

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/mma.cuh"

#define ATTN_THREADS 128
#define ATTN_ROWS    64 /* rows of a block of 4 warps with one m tile each */

/* Queries of a forward block / m tiles of a warp, and keys of a step. */
#define ATTN_FWD_MT(D) ((D) <= 64 ? 2 : 1)
#define ATTN_FWD_BN(D) 64
#define ATTN_DQ_BN(D)  ((D) <= 64 ? 64 : 32)
#define ATTN_DKV_BQ    32

static constexpr size_t attn_fwd_shared(int d) {
    return (size_t)(ATTN_ROWS * ATTN_FWD_MT(d) + 4 * ATTN_FWD_BN(d)) * (size_t)d * 2;
}
static constexpr size_t attn_dq_shared(int d) {
    return (size_t)(2 * ATTN_ROWS + 4 * ATTN_DQ_BN(d)) * (size_t)d * 2;
}
static constexpr size_t attn_dkv_shared(int d) {
    return (size_t)(2 * ATTN_ROWS + 4 * ATTN_DKV_BQ) * (size_t)d * 2 + 4 * ATTN_DKV_BQ * 4;
}

#if PB_HAS_MMA

static __device__ __forceinline__ const uint16_t *attn_head(attn_mat m, int64_t first, int head,
                                                            int d) {
    return (const uint16_t *)m.at + first * m.stride + (int64_t)head * d;
}

/* tile[ROWS, D] := rows from.. of a sequence of len rows; zeros behind its end. */
template <int D, int ROWS>
static __device__ __forceinline__ void attn_tile_load(uint16_t *tile, const uint16_t *src,
                                                      int64_t stride, int from, int len) {
#pragma unroll
    for (int i = (int)threadIdx.x; i < ROWS * (D / 8); i += ATTN_THREADS) {
        int row = i / (D / 8), chunk = i % (D / 8), at = from + row;
        bool valid = at < len;
        pb_async16(tile + pb_tile_at<D>(row, chunk), src + (valid ? at : 0) * stride + chunk * 8,
                   valid);
    }
}

/* 16 rows of a warp: accumulators times `factor` (of rows g and g+8), as bf16 through the warp's own
 * rows of a tile in shared memory, so that rows leave in pieces of 16 bytes. */
template <int D>
static __device__ __forceinline__ void attn_rows_store(float (&acc)[D / 8][4], float f0, float f1,
                                                       uint16_t *tile, int r0, attn_mat to,
                                                       int64_t first, int head, int from, int len) {
    int lane = (int)threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    __syncwarp();
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        *(uint32_t *)(tile + pb_tile_at<D>(r0 + g, n) + 2 * t) =
            pb_pack2(acc[n][0] * f0, acc[n][1] * f0);
        *(uint32_t *)(tile + pb_tile_at<D>(r0 + g + 8, n) + 2 * t) =
            pb_pack2(acc[n][2] * f1, acc[n][3] * f1);
    }
    __syncwarp();
    uint16_t *dst = (uint16_t *)to.at + first * to.stride + (int64_t)head * D;
#pragma unroll
    for (int i = lane; i < 16 * (D / 8); i += 32) {
        int row = i / (D / 8), chunk = i % (D / 8), at = from + r0 + row;
        if (at < len) {
            *(uint4 *)(dst + at * to.stride + chunk * 8) =
                *(const uint4 *)(tile + pb_tile_at<D>(r0 + row, chunk));
        }
    }
}

/* Dropout decisions of a C fragment of NT tiles: bit 4 n + i for value i of tile n.
 * by_key false: rows are queries (row index of value i: query0 + g + 8 (i/2)), columns are keys.
 * by_key true: rows are keys, columns are queries.
 * Four neighbouring keys share one Philox block when max_len is a multiple of 4; then the lanes that
 * hold them compute one block each and exchange words. */
template <int NT, bool BY_KEY>
static __device__ __forceinline__ uint32_t attn_keep_bits(const attn_params &p, int64_t first,
                                                          int head, int query0, int key0) {
    int lane = (int)threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    uint32_t bits = 0;
    bool shared = (p.max_len & 3) == 0;
#pragma unroll 1
    for (int n = 0; n < NT; n++) {
        uint32_t word[4];
        if (!shared) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int row = g + 8 * (i >> 1), col = 8 * n + 2 * t + (i & 1);
                int query = query0 + (BY_KEY ? col : row), key = key0 + (BY_KEY ? row : col);
                uint64_t index = (uint64_t)(((first + query) * p.heads + head) * p.max_len + key);
                word[i] = pb_draw_u32(p.mask.key, p.mask.stream, index);
            }
        } else if (!BY_KEY) {
            /* Lanes t and t^1 hold keys 4j..4j+3 of rows g and g+8: the even one makes row g's. */
            int odd = t & 1, query = query0 + g + 8 * odd, key = key0 + 8 * n + 4 * (t >> 1);
            uint64_t index = (uint64_t)(((first + query) * p.heads + head) * p.max_len + key);
            pb_u32x4 x = pb_philox(p.mask.key, p.mask.stream, index / 4);
            uint32_t give0 = odd ? x.v[0] : x.v[2], give1 = odd ? x.v[1] : x.v[3];
            uint32_t got0 = __shfl_xor_sync(PB_ALL_LANES, give0, 1);
            uint32_t got1 = __shfl_xor_sync(PB_ALL_LANES, give1, 1);
            word[0] = odd ? got0 : x.v[0];
            word[1] = odd ? got1 : x.v[1];
            word[2] = odd ? x.v[2] : got0;
            word[3] = odd ? x.v[3] : got1;
        } else {
            /* Lanes g = 4j..4j+3 of one t hold keys 4j.. and 4j+8.. of two queries: lane m = g%4 makes
             * the block of value m; then the 4x4 words are transposed. */
            int m = g & 3, query = query0 + 8 * n + 2 * t + (m & 1);
            int key = key0 + (g & 4) + 8 * (m >> 1);
            uint64_t index = (uint64_t)(((first + query) * p.heads + head) * p.max_len + key);
            pb_u32x4 x = pb_philox(p.mask.key, p.mask.stream, index / 4);
#pragma unroll
            for (int i = 0; i < 4; i++) word[i] = x.v[i];
#pragma unroll
            for (int step = 1; step < 4; step <<= 1) { /* swap words and lanes whose bit differs */
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    if (i & step) continue;
                    bool upper = (m & step) != 0;
                    uint32_t give = upper ? word[i] : word[i | step];
                    uint32_t got = __shfl_xor_sync(PB_ALL_LANES, give, 4 * step);
                    if (upper) {
                        word[i] = got;
                    } else {
                        word[i | step] = got;
                    }
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) bits |= (word[i] >= p.mask.threshold ? 1u : 0u) << (4 * n + i);
    }
    return bits;
}

/* --- forward ---------------------------------------------------------------------------------- */

/* Scores of one m tile in the log2 domain become probabilities, in place; m, l, o of the rows follow. */
template <int D, int NT>
static __device__ __forceinline__ void attn_online(float (&s)[NT][4], float (&o)[D / 8][4],
                                                   float (&m)[2], float (&l)[2]) {
    float most[2] = {m[0], m[1]}, sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < NT; n++) {
        most[0] = fmaxf(most[0], fmaxf(s[n][0], s[n][1]));
        most[1] = fmaxf(most[1], fmaxf(s[n][2], s[n][3]));
    }
#pragma unroll
    for (int h = 0; h < 2; h++) { /* a row lies in the four lanes of a quad */
        most[h] = fmaxf(most[h], __shfl_xor_sync(PB_ALL_LANES, most[h], 1));
        most[h] = fmaxf(most[h], __shfl_xor_sync(PB_ALL_LANES, most[h], 2));
    }
#pragma unroll
    for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[n][i] = exp2f(s[n][i] - most[i >> 1]);
            sum[i >> 1] += s[n][i];
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float rescale = exp2f(m[h] - most[h]); /* 0 in the first block: m is -inf */
        sum[h] += __shfl_xor_sync(PB_ALL_LANES, sum[h], 1);
        sum[h] += __shfl_xor_sync(PB_ALL_LANES, sum[h], 2);
        l[h] = l[h] * rescale + sum[h];
        m[h] = most[h];
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            o[n][2 * h] *= rescale;
            o[n][2 * h + 1] *= rescale;
        }
    }
}

/* One block of 8 NT keys from k0: scores, probabilities and output of a warp's 16 MT queries. */
template <int D, int MT, int NT>
static __device__ __forceinline__ void
attn_fwd_step(const attn_params &p, const attn_place &w, const uint16_t *qs, const uint16_t *kt,
              const uint16_t *vt, int q0, int k0, float (&o)[MT][D / 8][4], float (&m)[MT][2],
              float (&l)[MT][2]) {
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    float scale = p.scale * ATTN_LOG2E;
    float s[MT][NT][4];
#pragma unroll
    for (int a = 0; a < MT; a++) {
#pragma unroll
        for (int n = 0; n < NT; n++) s[a][n][0] = s[a][n][1] = s[a][n][2] = s[a][n][3] = 0.0f;
    }
#pragma unroll
    for (int kk = 0; kk < D / 16; kk++) {
        uint32_t qa[MT][4];
#pragma unroll
        for (int a = 0; a < MT; a++) pb_tile_a<D>(qa[a], qs, (warp * MT + a) * 16, kk);
#pragma unroll
        for (int n = 0; n < NT / 2; n++) {
            uint32_t b[4];
            pb_tile_b<D>(b, kt, 16 * n, kk);
#pragma unroll
            for (int a = 0; a < MT; a++) {
                pb_mma(s[a][2 * n], qa[a], b[0], b[1]);
                pb_mma(s[a][2 * n + 1], qa[a], b[2], b[3]);
            }
        }
    }
#pragma unroll
    for (int a = 0; a < MT; a++) {
        int row = q0 + (warp * MT + a) * 16 + g, key = k0 + 2 * t;
        bool whole =
            k0 + 8 * NT <= w.len && (!p.causal || k0 + 8 * NT <= q0 + (warp * MT + a) * 16 + 1);
#pragma unroll
        for (int n = 0; n < NT; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int at = key + 8 * n + (i & 1);
                bool seen = whole || (at < w.len && !(p.causal && at > row + 8 * (i >> 1)));
                s[a][n][i] = seen ? s[a][n][i] * scale : -INFINITY;
            }
        }
        attn_online<D, NT>(s[a], o[a], m[a], l[a]);
        if (p.mask.on) {
            uint32_t kept = attn_keep_bits<NT, false>(p, w.first, w.head, row - g, key - 2 * t);
#pragma unroll
            for (int n = 0; n < NT; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    if ((kept >> (4 * n + i) & 1u) == 0) s[a][n][i] = 0.0f;
                }
            }
        }
    }
#pragma unroll
    for (int kk = 0; kk < NT / 2; kk++) {
        uint32_t pa[MT][4];
#pragma unroll
        for (int a = 0; a < MT; a++) {
            pa[a][0] = pb_pack2(s[a][2 * kk][0], s[a][2 * kk][1]);
            pa[a][1] = pb_pack2(s[a][2 * kk][2], s[a][2 * kk][3]);
            pa[a][2] = pb_pack2(s[a][2 * kk + 1][0], s[a][2 * kk + 1][1]);
            pa[a][3] = pb_pack2(s[a][2 * kk + 1][2], s[a][2 * kk + 1][3]);
        }
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4];
            pb_tile_b_trans<D>(b, vt, 16 * kk, n);
#pragma unroll
            for (int a = 0; a < MT; a++) {
                pb_mma(o[a][2 * n], pa[a], b[0], b[1]);
                pb_mma(o[a][2 * n + 1], pa[a], b[2], b[3]);
            }
        }
    }
}

#endif /* PB_HAS_MMA */

template <int D>
static __global__ void __launch_bounds__(ATTN_THREADS) attention_fwd_mma(attn_params p) {
#if PB_HAS_MMA
    constexpr int MT = ATTN_FWD_MT(D), BM = ATTN_ROWS * MT, BN = ATTN_FWD_BN(D), NT = BN / 8;
    PB_DYNAMIC_SHARED(uint16_t, shared);
    uint16_t *qs = shared, *ks = qs + BM * D, *vs = ks + 2 * BN * D;
    attn_place w = attn_place_of(p, p.heads, p.causal);
    int q0 = w.block * BM;
    if (q0 >= w.len) return;
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int kv = w.head / (p.heads / p.kv_heads);
    const uint16_t *k = attn_head(p.k, w.first, kv, D), *v = attn_head(p.v, w.first, kv, D);
    attn_tile_load<D, BM>(qs, attn_head(p.q, w.first, w.head, D), p.q.stride, q0, w.len);
    attn_tile_load<D, BN>(ks, k, p.k.stride, 0, w.len);
    attn_tile_load<D, BN>(vs, v, p.v.stride, 0, w.len);
    pb_async_commit();

    float o[MT][D / 8][4], m[MT][2], l[MT][2];
#pragma unroll
    for (int a = 0; a < MT; a++) {
        m[a][0] = m[a][1] = -INFINITY;
        l[a][0] = l[a][1] = 0.0f;
#pragma unroll
        for (int n = 0; n < D / 8; n++) o[a][n][0] = o[a][n][1] = o[a][n][2] = o[a][n][3] = 0.0f;
    }
    int keys = p.causal && q0 + BM < w.len ? q0 + BM : w.len, steps = (keys + BN - 1) / BN;
    for (int j = 0; j < steps; j++) {
        const uint16_t *kt = ks + (j & 1) * BN * D, *vt = vs + (j & 1) * BN * D;
        if (j + 1 < steps) {
            int next = (j + 1) & 1;
            attn_tile_load<D, BN>(ks + next * BN * D, k, p.k.stride, (j + 1) * BN, w.len);
            attn_tile_load<D, BN>(vs + next * BN * D, v, p.v.stride, (j + 1) * BN, w.len);
        }
        pb_async_commit(); /* empty in the last step: the wait below counts groups */
        pb_async_wait<1>();
        __syncthreads();

        if (!p.causal || j * BN <= q0 + (warp + 1) * MT * 16 - 1)
            attn_fwd_step<D, MT, NT>(p, w, qs, kt, vt, q0, j * BN, o, m, l);
        __syncthreads(); /* before the next step's copies overwrite these tiles */
    }
    pb_async_wait<0>();
#pragma unroll
    for (int a = 0; a < MT; a++) {
        int r0 = (warp * MT + a) * 16;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = q0 + r0 + g + 8 * h;
            if (t == 0 && row < w.len) {
                p.lse[(w.first + row) * p.heads + w.head] = m[a][h] * ATTN_LN2 + logf(l[a][h]);
            }
        }
        /* The warp's own rows of the query tile have been read for the last time. */
        attn_rows_store<D>(o[a], p.mask.scale / l[a][0], p.mask.scale / l[a][1], qs, r0, p.o,
                           w.first, w.head, q0, w.len);
    }
#endif
}

/* --- backward --------------------------------------------------------------------------------- */

#if PB_HAS_MMA
/* acc[NT] := the 16 rows r0.. of tile a times the rows of tile b, both [.., D]. */
template <int D, int NT>
static __device__ __forceinline__ void attn_scores(float (&acc)[NT][4], const uint16_t *a, int r0,
                                                   const uint16_t *b) {
#pragma unroll
    for (int n = 0; n < NT; n++) acc[n][0] = acc[n][1] = acc[n][2] = acc[n][3] = 0.0f;
#pragma unroll
    for (int kk = 0; kk < D / 16; kk++) {
        uint32_t fa[4];
        pb_tile_a<D>(fa, a, r0, kk);
#pragma unroll
        for (int n = 0; n < NT / 2; n++) {
            uint32_t fb[4];
            pb_tile_b<D>(fb, b, 16 * n, kk);
            pb_mma(acc[2 * n], fa, fb[0], fb[1]);
            pb_mma(acc[2 * n + 1], fa, fb[2], fb[3]);
        }
    }
}

/* acc[16, D] += s[16, 8 NT] (rounded to bf16) times tile b [8 NT, D]. */
template <int D, int NT>
static __device__ __forceinline__ void attn_spread(float (&acc)[D / 8][4], float (&s)[NT][4],
                                                   const uint16_t *b) {
#pragma unroll
    for (int kk = 0; kk < NT / 2; kk++) {
        uint32_t fa[4] = {pb_pack2(s[2 * kk][0], s[2 * kk][1]),
                          pb_pack2(s[2 * kk][2], s[2 * kk][3]),
                          pb_pack2(s[2 * kk + 1][0], s[2 * kk + 1][1]),
                          pb_pack2(s[2 * kk + 1][2], s[2 * kk + 1][3])};
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t fb[4];
            pb_tile_b_trans<D>(fb, b, 16 * kk, n);
            pb_mma(acc[2 * n], fa, fb[0], fb[1]);
            pb_mma(acc[2 * n + 1], fa, fb[2], fb[3]);
        }
    }
}
#endif

/* dk, dv of 64 keys: S^T = K Q^T and dP^T = V dO^T have keys as rows, so P^T and dS^T are the A
 * fragments of dV += P^T dO and dK += dS^T Q as they stand. */
template <int D>
static __global__ void __launch_bounds__(ATTN_THREADS) attention_bwd_dkv_mma(attn_params p) {
#if PB_HAS_MMA
    constexpr int BK = ATTN_ROWS, BQ = ATTN_DKV_BQ, NT = BQ / 8;
    PB_DYNAMIC_SHARED(uint16_t, shared);
    uint16_t *ks = shared, *vs = ks + BK * D, *qs = vs + BK * D, *gs = qs + 2 * BQ * D;
    float *lses = (float *)(gs + 2 * BQ * D), *deltas = lses + 2 * BQ;
    attn_place w = attn_place_of(p, p.kv_heads, false);
    int k0 = w.block * BK;
    if (k0 >= w.len) return;
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int group = p.heads / p.kv_heads, r0 = warp * 16;
    attn_tile_load<D, BK>(ks, attn_head(p.k, w.first, w.head, D), p.k.stride, k0, w.len);
    attn_tile_load<D, BK>(vs, attn_head(p.v, w.first, w.head, D), p.v.stride, k0, w.len);

    float dk[D / 8][4], dv[D / 8][4], scale = p.scale * ATTN_LOG2E;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        dk[n][0] = dk[n][1] = dk[n][2] = dk[n][3] = 0.0f;
        dv[n][0] = dv[n][1] = dv[n][2] = dv[n][3] = 0.0f;
    }
    int from = p.causal ? k0 / BQ : 0, per_head = (w.len + BQ - 1) / BQ - from;
    int steps = group * per_head;
    for (int j = -1; j < steps; j++) {
        int next = j + 1;
        if (next < steps) { /* tiles of the next step; j = -1 only does that */
            int head = w.head * group + next / per_head, q0 = (from + next % per_head) * BQ;
            int at = (next & 1) * BQ;
            attn_tile_load<D, BQ>(qs + at * D, attn_head(p.q, w.first, head, D), p.q.stride, q0,
                                  w.len);
            attn_tile_load<D, BQ>(gs + at * D, attn_head(p.d_o, w.first, head, D), p.d_o.stride, q0,
                                  w.len);
            int i = (int)threadIdx.x;
            if (i < BQ) { /* +inf: probability 0 behind the end */
                int64_t row = (w.first + q0 + i) * p.heads + head;
                lses[at + i] = q0 + i < w.len ? p.lse[row] * ATTN_LOG2E : INFINITY;
                deltas[at + i] = q0 + i < w.len ? p.delta[row] : 0.0f;
            }
        }
        pb_async_commit();
        if (j < 0) continue;
        pb_async_wait<1>();
        __syncthreads();
        const uint16_t *qt = qs + (j & 1) * BQ * D, *gt = gs + (j & 1) * BQ * D;
        const float *lse = lses + (j & 1) * BQ, *delta = deltas + (j & 1) * BQ;
        int head = w.head * group + j / per_head, q0 = (from + j % per_head) * BQ;

        if (!p.causal || k0 + r0 <= q0 + BQ - 1) { /* some query sees some key of this warp */
            float s[NT][4], ds[NT][4];
            attn_scores<D, NT>(s, ks, r0, qt);
            attn_scores<D, NT>(ds, vs, r0, gt);
            uint32_t kept = 0xffffffffu;
            if (p.mask.on) kept = attn_keep_bits<NT, true>(p, w.first, head, q0, k0 + r0);
#pragma unroll
            for (int n = 0; n < NT; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int col = 8 * n + 2 * t + (i & 1), key = k0 + r0 + g + 8 * (i >> 1);
                    bool seen = key < w.len && !(p.causal && key > q0 + col);
                    bool keep = (kept >> (4 * n + i) & 1u) != 0;
                    float prob = seen ? exp2f(s[n][i] * scale - lse[col]) : 0.0f;
                    float dprob = keep ? ds[n][i] * p.mask.scale : 0.0f;
                    ds[n][i] = prob * (dprob - delta[col]);
                    s[n][i] = keep ? prob : 0.0f;
                }
            }
            attn_spread<D, NT>(dv, s, gt);
            attn_spread<D, NT>(dk, ds, qt);
        }
        __syncthreads();
    }
    pb_async_wait<0>();
    /* The warp's own rows of the key and value tiles have been read for the last time. */
    attn_rows_store<D>(dk, p.scale, p.scale, ks, r0, p.dk, w.first, w.head, k0, w.len);
    attn_rows_store<D>(dv, p.mask.scale, p.mask.scale, vs, r0, p.dv, w.first, w.head, k0, w.len);
#endif
}

/* dq of 64 queries: dQ = scale dS K. */
template <int D>
static __global__ void __launch_bounds__(ATTN_THREADS, 2) attention_bwd_dq_mma(attn_params p) {
#if PB_HAS_MMA
    constexpr int BM = ATTN_ROWS, BN = ATTN_DQ_BN(D), NT = BN / 8;
    PB_DYNAMIC_SHARED(uint16_t, shared);
    uint16_t *qs = shared, *gs = qs + BM * D, *ks = gs + BM * D, *vs = ks + 2 * BN * D;
    attn_place w = attn_place_of(p, p.heads, p.causal);
    int q0 = w.block * BM;
    if (q0 >= w.len) return;
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int kv = w.head / (p.heads / p.kv_heads), r0 = warp * 16;
    const uint16_t *k = attn_head(p.k, w.first, kv, D), *v = attn_head(p.v, w.first, kv, D);
    attn_tile_load<D, BM>(qs, attn_head(p.q, w.first, w.head, D), p.q.stride, q0, w.len);
    attn_tile_load<D, BM>(gs, attn_head(p.d_o, w.first, w.head, D), p.d_o.stride, q0, w.len);
    attn_tile_load<D, BN>(ks, k, p.k.stride, 0, w.len);
    attn_tile_load<D, BN>(vs, v, p.v.stride, 0, w.len);
    pb_async_commit();

    float dq[D / 8][4], lse[2], delta[2], scale = p.scale * ATTN_LOG2E;
#pragma unroll
    for (int n = 0; n < D / 8; n++) dq[n][0] = dq[n][1] = dq[n][2] = dq[n][3] = 0.0f;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = q0 + r0 + g + 8 * h;
        int64_t at = (w.first + row) * p.heads + w.head;
        lse[h] = row < w.len ? p.lse[at] * ATTN_LOG2E : INFINITY;
        delta[h] = row < w.len ? p.delta[at] : 0.0f;
    }
    int keys = p.causal && q0 + BM < w.len ? q0 + BM : w.len, steps = (keys + BN - 1) / BN;
    for (int j = 0; j < steps; j++) {
        const uint16_t *kt = ks + (j & 1) * BN * D, *vt = vs + (j & 1) * BN * D;
        if (j + 1 < steps) {
            int next = (j + 1) & 1;
            attn_tile_load<D, BN>(ks + next * BN * D, k, p.k.stride, (j + 1) * BN, w.len);
            attn_tile_load<D, BN>(vs + next * BN * D, v, p.v.stride, (j + 1) * BN, w.len);
        }
        pb_async_commit();
        pb_async_wait<1>();
        __syncthreads();
        if (!p.causal || j * BN <= q0 + r0 + 15) { /* some query of this warp sees some key */
            float s[NT][4], ds[NT][4];
            attn_scores<D, NT>(s, qs, r0, kt);
            attn_scores<D, NT>(ds, gs, r0, vt);
            uint32_t kept = 0xffffffffu;
            if (p.mask.on) kept = attn_keep_bits<NT, false>(p, w.first, w.head, q0 + r0, j * BN);
#pragma unroll
            for (int n = 0; n < NT; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int key = j * BN + 8 * n + 2 * t + (i & 1), row = q0 + r0 + g + 8 * (i >> 1);
                    bool seen = key < w.len && !(p.causal && key > row);
                    bool keep = (kept >> (4 * n + i) & 1u) != 0;
                    float prob = seen ? exp2f(s[n][i] * scale - lse[i >> 1]) : 0.0f;
                    float dprob = keep ? ds[n][i] * p.mask.scale : 0.0f;
                    ds[n][i] = prob * (dprob - delta[i >> 1]);
                }
            }
            attn_spread<D, NT>(dq, ds, kt);
        }
        __syncthreads();
    }
    pb_async_wait<0>();
    attn_rows_store<D>(dq, p.scale, p.scale, qs, r0, p.dq, w.first, w.head, q0, w.len);
#endif
}

#endif
