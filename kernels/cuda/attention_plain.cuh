/* The plain twin of the tensor-core attention: f32 or bf16, any head_dim, any architecture, all
 * arithmetic in f32. The same algorithm and the same split into kernels (attention_mma.cuh).
 *
 * A block of 4 warps owns 16 rows (queries; keys in dk/dv), 4 to a warp, and walks over blocks of 32 of
 * the others. In the products over head_dim a lane owns one column of the 16 x 32 scores, in the
 * products over columns it owns columns lane + 32 c of the output. Both operands pass through shared
 * memory in pieces of 64 columns, so that head_dim is free; outputs wider than 256 are made 256 columns
 * at a time. FLOPs as there; shared memory is read once for each multiplication by 4 rows. */
#ifndef PB_KERNELS_CUDA_ATTENTION_PLAIN_CUH
#define PB_KERNELS_CUDA_ATTENTION_PLAIN_CUH

#include "kernels/cuda/attention.cuh"

#define PLAIN_THREADS 128
#define PLAIN_ROWS    16
#define PLAIN_COLS    32
#define PLAIN_DEPTH   64  /* columns of head_dim in shared memory at once */
#define PLAIN_OUT     256 /* output columns of a block */

typedef struct alignas(16) plain_shared {
    float rows[PLAIN_DEPTH]
              [PLAIN_ROWS + 4]; /* transposed: the four rows of a warp are one float4 */
    float cols[PLAIN_COLS][PLAIN_DEPTH + 1];
    float p[PLAIN_COLS][PLAIN_ROWS + 4];
} plain_shared;

/* Rows [from, from+n) of a head of a sequence, columns [d0, d0+depth); zeros outside. */
template <typename T>
static __device__ void plain_load_rows(plain_shared *sh, attn_mat m, int64_t first, int head,
                                       int dim, int from, int len, int d0) {
    for (int i = (int)threadIdx.x; i < PLAIN_ROWS * PLAIN_DEPTH; i += PLAIN_THREADS) {
        int row = i / PLAIN_DEPTH, d = i % PLAIN_DEPTH;
        bool in = from + row < len && d0 + d < dim;
        int64_t at = (first + from + row) * m.stride + (int64_t)head * dim + d0 + d;
        sh->rows[d][row] = in ? pb_load((const T *)m.at + at) : 0.0f;
    }
}
template <typename T>
static __device__ void plain_load_cols(plain_shared *sh, attn_mat m, int64_t first, int head,
                                       int dim, int from, int len, int d0) {
    for (int i = (int)threadIdx.x; i < PLAIN_COLS * PLAIN_DEPTH; i += PLAIN_THREADS) {
        int row = i / PLAIN_DEPTH, d = i % PLAIN_DEPTH;
        bool in = from + row < len && d0 + d < dim;
        int64_t at = (first + from + row) * m.stride + (int64_t)head * dim + d0 + d;
        sh->cols[row][d] = in ? pb_load((const T *)m.at + at) : 0.0f;
    }
}

/* s[r] := row 4 warp + r of a times row `lane` of b, over head_dim. Starts and ends with a barrier. */
template <typename T>
static __device__ void plain_dots(plain_shared *sh, float (&s)[4], attn_mat a, int a_head,
                                  int a_from, attn_mat b, int b_head, int b_from, int64_t first,
                                  int len, int dim) {
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    s[0] = s[1] = s[2] = s[3] = 0.0f;
    for (int d0 = 0; d0 < dim; d0 += PLAIN_DEPTH) {
        __syncthreads();
        plain_load_rows<T>(sh, a, first, a_head, dim, a_from, len, d0);
        plain_load_cols<T>(sh, b, first, b_head, dim, b_from, len, d0);
        __syncthreads();
        int depth = dim - d0 < PLAIN_DEPTH ? dim - d0 : PLAIN_DEPTH;
        for (int d = 0; d < depth; d++) {
            float4 x = *(const float4 *)&sh->rows[d][4 * warp];
            float y = sh->cols[lane][d];
            s[0] += x.x * y;
            s[1] += x.y * y;
            s[2] += x.z * y;
            s[3] += x.w * y;
        }
    }
    __syncthreads();
}

/* acc[r][c] += sum over the 32 columns j of p[r][j] b[j, out0 + lane + 32 c]. p is put into shared
 * memory first: this thread holds column `lane` of the warp's rows. */
template <typename T, int NC>
static __device__ void plain_spread(plain_shared *sh, float (&acc)[4][NC], const float (&p)[4],
                                    attn_mat b, int head, int from, int64_t first, int len, int dim,
                                    int out0) {
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    float4 mine = {p[0], p[1], p[2], p[3]};
    __syncthreads();
    *(float4 *)&sh->p[lane][4 * warp] = mine;
#pragma unroll
    for (int c = 0; c < NC; c += 2) { /* two columns of the output to a piece of 64 */
        int d0 = out0 + 32 * c;
        if (d0 >= dim) break;
        __syncthreads();
        plain_load_cols<T>(sh, b, first, head, dim, from, len, d0);
        __syncthreads();
        for (int j = 0; j < PLAIN_COLS; j++) {
            float4 x = *(const float4 *)&sh->p[j][4 * warp];
            float y0 = sh->cols[j][lane], y1 = sh->cols[j][lane + 32];
            acc[0][c] += x.x * y0;
            acc[1][c] += x.y * y0;
            acc[2][c] += x.z * y0;
            acc[3][c] += x.w * y0;
            if (c + 1 < NC) {
                acc[0][c + 1 < NC ? c + 1 : c] += x.x * y1;
                acc[1][c + 1 < NC ? c + 1 : c] += x.y * y1;
                acc[2][c + 1 < NC ? c + 1 : c] += x.z * y1;
                acc[3][c + 1 < NC ? c + 1 : c] += x.w * y1;
            }
        }
    }
}

template <typename T, int NC>
static __device__ void plain_store(const float (&acc)[4][NC], const float (&factor)[4], attn_mat to,
                                   int64_t first, int head, int dim, int from, int len, int out0) {
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
#pragma unroll
    for (int r = 0; r < 4; r++) {
        int row = from + 4 * warp + r;
#pragma unroll
        for (int c = 0; c < NC; c++) {
            int d = out0 + lane + 32 * c;
            if (row < len && d < dim) {
                int64_t at = (first + row) * to.stride + (int64_t)head * dim + d;
                pb_store((T *)to.at + at, acc[r][c] * factor[r]);
            }
        }
    }
}

template <int NC>
static __device__ __forceinline__ void plain_zero(float (&acc)[4][NC]) {
#pragma unroll
    for (int r = 0; r < 4; r++) {
#pragma unroll
        for (int c = 0; c < NC; c++) acc[r][c] = 0.0f;
    }
}

/* blockIdx.y: which PLAIN_OUT columns of the output. */
template <typename T, int NC>
static __global__ void __launch_bounds__(PLAIN_THREADS, 2) attention_fwd_plain(attn_params p) {
    __shared__ plain_shared sh;
    attn_place w = attn_place_of(p, p.heads, p.causal);
    int q0 = w.block * PLAIN_ROWS, out0 = (int)blockIdx.y * PLAIN_OUT, dim = p.head_dim;
    if (q0 >= w.len) return;
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    int kv = w.head / (p.heads / p.kv_heads);
    float o[4][NC], m[4], l[4];
    plain_zero<NC>(o);
    for (int r = 0; r < 4; r++) {
        m[r] = -INFINITY;
        l[r] = 0.0f;
    }
    int keys = p.causal && q0 + PLAIN_ROWS < w.len ? q0 + PLAIN_ROWS : w.len;
    for (int k0 = 0; k0 < keys; k0 += PLAIN_COLS) {
        float s[4];
        plain_dots<T>(&sh, s, p.q, w.head, q0, p.k, kv, k0, w.first, w.len, dim);
        int key = k0 + lane;
#pragma unroll
        for (int r = 0; r < 4; r++) {
            int row = q0 + 4 * warp + r;
            bool seen = key < w.len && !(p.causal && key > row);
            s[r] = seen ? s[r] * p.scale * ATTN_LOG2E : -INFINITY;
            float most = fmaxf(m[r], pb_warp_max(s[r]));
            s[r] = exp2f(s[r] - most);
            float rescale = exp2f(m[r] - most); /* 0 in the first block: m is -inf */
            l[r] = l[r] * rescale + pb_warp_sum(s[r]);
            m[r] = most;
            for (int c = 0; c < NC; c++) o[r][c] *= rescale;
            if (p.mask.on && seen && !attn_kept(p, w.first + row, w.head, key)) s[r] = 0.0f;
        }
        plain_spread<T, NC>(&sh, o, s, p.v, kv, k0, w.first, w.len, dim, out0);
    }
    float factor[4];
#pragma unroll
    for (int r = 0; r < 4; r++) {
        int row = q0 + 4 * warp + r;
        factor[r] = p.mask.scale / l[r];
        if (lane == 0 && out0 == 0 && row < w.len)
            p.lse[(w.first + row) * p.heads + w.head] = m[r] * ATTN_LN2 + logf(l[r]);
    }
    plain_store<T, NC>(o, factor, p.o, w.first, w.head, dim, q0, w.len, out0);
}

/* Probability and dS of one query and key from their scores. */
static __device__ __forceinline__ void plain_gradient(const attn_params &p, const attn_place &w,
                                                      int head, int query, int key, float &s,
                                                      float &dp) {
    bool seen = query < w.len && key < w.len && !(p.causal && key > query);
    if (!seen) {
        s = dp = 0.0f;
        return;
    }
    int64_t row = w.first + query;
    bool keep = !p.mask.on || attn_kept(p, row, head, key);
    float prob = exp2f((s * p.scale - p.lse[row * p.heads + head]) * ATTN_LOG2E);
    dp = prob * ((keep ? dp * p.mask.scale : 0.0f) - p.delta[row * p.heads + head]);
    s = keep ? prob : 0.0f;
}

template <typename T, int NC>
static __global__ void __launch_bounds__(PLAIN_THREADS, 2) attention_bwd_dkv_plain(attn_params p) {
    __shared__ plain_shared sh;
    attn_place w = attn_place_of(p, p.kv_heads, false);
    int k0 = w.block * PLAIN_ROWS, out0 = (int)blockIdx.y * PLAIN_OUT, dim = p.head_dim;
    if (k0 >= w.len) return;
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, group = p.heads / p.kv_heads;
    float dk[4][NC], dv[4][NC];
    plain_zero<NC>(dk);
    plain_zero<NC>(dv);
    int from = p.causal ? k0 / PLAIN_COLS * PLAIN_COLS : 0;
    for (int head = w.head * group; head < (w.head + 1) * group; head++) {
        for (int q0 = from; q0 < w.len; q0 += PLAIN_COLS) {
            float s[4], dp[4];
            plain_dots<T>(&sh, s, p.k, w.head, k0, p.q, head, q0, w.first, w.len, dim);
            plain_dots<T>(&sh, dp, p.v, w.head, k0, p.d_o, head, q0, w.first, w.len, dim);
#pragma unroll
            for (int r = 0; r < 4; r++)
                plain_gradient(p, w, head, q0 + lane, k0 + 4 * warp + r, s[r], dp[r]);
            plain_spread<T, NC>(&sh, dv, s, p.d_o, head, q0, w.first, w.len, dim, out0);
            plain_spread<T, NC>(&sh, dk, dp, p.q, head, q0, w.first, w.len, dim, out0);
        }
    }
    float fk[4] = {p.scale, p.scale, p.scale, p.scale};
    float fv[4] = {p.mask.scale, p.mask.scale, p.mask.scale, p.mask.scale};
    plain_store<T, NC>(dk, fk, p.dk, w.first, w.head, dim, k0, w.len, out0);
    plain_store<T, NC>(dv, fv, p.dv, w.first, w.head, dim, k0, w.len, out0);
}

template <typename T, int NC>
static __global__ void __launch_bounds__(PLAIN_THREADS, 2) attention_bwd_dq_plain(attn_params p) {
    __shared__ plain_shared sh;
    attn_place w = attn_place_of(p, p.heads, p.causal);
    int q0 = w.block * PLAIN_ROWS, out0 = (int)blockIdx.y * PLAIN_OUT, dim = p.head_dim;
    if (q0 >= w.len) return;
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    int kv = w.head / (p.heads / p.kv_heads);
    float dq[4][NC];
    plain_zero<NC>(dq);
    int keys = p.causal && q0 + PLAIN_ROWS < w.len ? q0 + PLAIN_ROWS : w.len;
    for (int k0 = 0; k0 < keys; k0 += PLAIN_COLS) {
        float s[4], dp[4];
        plain_dots<T>(&sh, s, p.q, w.head, q0, p.k, kv, k0, w.first, w.len, dim);
        plain_dots<T>(&sh, dp, p.d_o, w.head, q0, p.v, kv, k0, w.first, w.len, dim);
#pragma unroll
        for (int r = 0; r < 4; r++)
            plain_gradient(p, w, w.head, q0 + 4 * warp + r, k0 + lane, s[r], dp[r]);
        plain_spread<T, NC>(&sh, dq, dp, p.k, kv, k0, w.first, w.len, dim, out0);
    }
    float fq[4] = {p.scale, p.scale, p.scale, p.scale};
    plain_store<T, NC>(dq, fq, p.dq, w.first, w.head, dim, q0, w.len, out0);
}

/* delta[row, head] = d_o . o over head_dim: a warp for each. Bytes: o and d_o once. */
template <typename T>
static __global__ void __launch_bounds__(PLAIN_THREADS) attention_delta(attn_params p) {
    int lane = (int)threadIdx.x & 31;
    int64_t i = (int64_t)blockIdx.x * (PLAIN_THREADS / 32) + (threadIdx.x >> 5);
    if (i >= p.rows * p.heads) return;
    int64_t row = i / p.heads, at = i % p.heads * p.head_dim;
    const T *o = (const T *)p.o.at + row * p.o.stride + at;
    const T *g = (const T *)p.d_o.at + row * p.d_o.stride + at;
    float sum = 0.0f;
    for (int d = lane; d < p.head_dim; d += 32) sum += pb_load(o + d) * pb_load(g + d);
    sum = pb_warp_sum(sum);
    if (lane == 0) p.delta[i] = sum;
}

/* Zeros in the rows behind the last sequence: what has rows there. blockIdx.y: which matrix; lse goes with the first. */
typedef struct attn_tails {
    attn_mat mat[3];
    int64_t cols[3];
    float *lse; /* or NULL */
} attn_tails;

#define TAIL_BLOCKS 32 /* in turns: rows behind the end are few, usually fewer than PB_ROW_ROUND */

template <typename T>
static __global__ void __launch_bounds__(PLAIN_THREADS)
    attention_zero_tails(attn_params p, attn_tails w) {
    int64_t end = p.sequences > 0 ? p.cu[p.sequences] : 0;
    /* No run-time index into a parameter: that would be a copy in memory. */
    attn_mat m = blockIdx.y == 0 ? w.mat[0] : blockIdx.y == 1 ? w.mat[1] : w.mat[2];
    int64_t cols = blockIdx.y == 0 ? w.cols[0] : blockIdx.y == 1 ? w.cols[1] : w.cols[2];
    for (int64_t row = (end > 0 ? end : 0) + blockIdx.x; row < p.rows; row += TAIL_BLOCKS) {
        for (int64_t c = threadIdx.x; c < cols; c += PLAIN_THREADS)
            pb_store((T *)m.at + row * m.stride + c, 0.0f);
        if (w.lse == NULL || blockIdx.y != 0) continue;
        for (int64_t h = threadIdx.x; h < p.heads; h += PLAIN_THREADS)
            w.lse[row * p.heads + h] = 0.0f;
    }
}

#endif
