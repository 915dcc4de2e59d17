/* What the attention kernels share: their arguments, the place of a block, dropout of probabilities. */
#ifndef PB_KERNELS_CUDA_ATTENTION_CUH
#define PB_KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/lane.cuh"

/* One matrix [rows, heads*head_dim]. */
typedef struct attn_mat {
    void *at;
    int64_t stride; /* elements */
} attn_mat;

typedef struct attn_params {
    attn_mat q, k, v, o, d_o, dq, dk, dv;
    float *lse, *delta; /* [rows, heads] */
    const int32_t *cu;
    int64_t rows, max_len;
    int heads, kv_heads, head_dim, sequences;
    int blocks; /* of queries (or keys) in a sequence of max_len */
    float scale;
    bool causal;
    uint8_t unused[7]; /* no padding: parameters are compared byte by byte */
    pb_mask mask;      /* dropout of probabilities */
} attn_params;
static_assert(sizeof(attn_params) == 8 * sizeof(attn_mat) + 5 * 8 + 6 * 4 + 8 + sizeof(pb_mask), "padding");

#define ATTN_LOG2E 1.4426950408889634f
#define ATTN_LN2   0.6931471805599453f

/* Where a thread block works. `len` is cut to what the tensors hold, so that a wrong cu reads nothing
 * outside them; 0 = nothing to do. */
typedef struct attn_place {
    int64_t first; /* row of the sequence */
    int len, block, head, sequence;
} attn_place;

/* blockIdx.x = (block * sequences + sequence) * heads + head, blocks from the last to the first when
 * `backwards`: under a causal mask the last query blocks have the most keys and should start first. */
static __device__ attn_place attn_place_of(const attn_params &p, int heads, bool backwards) {
    attn_place w;
    unsigned i = blockIdx.x;
    w.head = (int)(i % (unsigned)heads);
    i /= (unsigned)heads;
    w.sequence = (int)(i % (unsigned)p.sequences);
    int block = (int)(i / (unsigned)p.sequences);
    w.block = backwards ? p.blocks - 1 - block : block;
    int64_t from = p.cu[w.sequence], to = p.cu[w.sequence + 1];
    to = to < p.rows ? to : p.rows;
    to = to < from + p.max_len ? to : from + p.max_len;
    w.first = from;
    w.len = from >= 0 && to > from ? (int)(to - from) : 0;
    return w;
}

static __device__ __forceinline__ bool attn_kept(const attn_params &p, int64_t row, int head,
                                                 int key) {
    uint64_t index = (uint64_t)((row * p.heads + head) * p.max_len + key);
    return pb_draw_u32(p.mask.key, p.mask.stream, index) >= p.mask.threshold;
}

#endif
