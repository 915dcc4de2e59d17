/* What the two ways to compute attention share: f32 in vectors
 * (op_attention.c), bf16 in tiles (cpu_attention_tiles.c). Private to
 * kernels/cpu. */
#ifndef PB_KERNELS_CPU_ATTENTION_H
#define PB_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/cpu.h"

#define PB_QUERIES 32 /* of a block: its scores against all keys stay in the L2 cache */

static inline int32_t pb_int_at(pb_tensor t, int64_t i) { return ((const int32_t *)t.data)[i]; }

/* Distance of rows of scores: an odd number of cache lines, since rows a power
 * of two apart fall into few sets of the cache. */
static inline int64_t pb_score_ld(int64_t max_len) {
    return pb_ceil_div(max_len, PB_LANES) * PB_LANES | PB_LANES;
}

/* keep[n, ld] := dropout factors of n query rows for `keys` keys. */
static inline void pb_attention_drop(pb_drop drop, int64_t row, int64_t n, int64_t heads,
                                     int64_t head, int64_t max_len, int64_t keys, float *keep,
                                     int64_t ld) {
    uint64_t first = (uint64_t)((row * heads + head) * max_len);
    pb_cpu_drop_factor_rows(drop, first, (uint64_t)(heads * max_len), n, keys, keep, ld);
}

/* Asks for rows [first, first+n) of one head: a head's rows are too short and too far apart for the
 * processor to foresee the next one. */
static inline void pb_attention_prefetch(pb_tensor t, int64_t first, int64_t n, int64_t head,
                                         int64_t dim) {
    int64_t size = (int64_t)pb_dtype_size(t.dtype);
    for (int64_t i = pb_min64(first + n, pb_rows(t)) - 1; i >= first; i--) {
        const char *at = (const char *)t.data + (i * t.stride + head * dim) * size;
        for (int64_t j = 0; j < dim * size; j += 64) __builtin_prefetch(at + j, 0, 2);
    }
}

/* The head that follows in the order of tasks: of the same sequence, or the next one's first, whose
 * rows lie behind. */
typedef struct pb_attention_next {
    int64_t first, head;
} pb_attention_next;

static inline pb_attention_next pb_attention_next_of(int64_t first, int64_t len, int64_t head,
                                                     int64_t heads) {
    bool more = head + 1 < heads;
    return (pb_attention_next){more ? first : first + len, more ? head + 1 : 0};
}

/* What the next head's block of queries at i0, and as many keys, will read and write. */
static inline void pb_attention_fwd_prefetch(const pb_attention_fwd_args *a, pb_attention_next next,
                                             int64_t i0) {
    int64_t from = next.first + i0, kv = next.head / (a->heads / a->kv_heads);
    pb_attention_prefetch(a->q, from, PB_QUERIES, next.head, a->head_dim);
    pb_attention_prefetch(a->o, from, PB_QUERIES, next.head, a->head_dim);
    pb_attention_prefetch(a->k, from, PB_QUERIES, kv, a->head_dim);
    pb_attention_prefetch(a->v, from, PB_QUERIES, kv, a->head_dim);
}
static inline void pb_attention_bwd_prefetch(const pb_attention_bwd_args *a, pb_attention_next next,
                                             int64_t i0) {
    int64_t from = next.first + i0, group = a->heads / a->kv_heads;
    const pb_tensor of_query[] = {a->q, a->d_o, a->dq}, of_key[] = {a->k, a->v, a->dk, a->dv};
    for (int t = 0; t < 3; t++)
        pb_attention_prefetch(of_query[t], from, PB_QUERIES, next.head, a->head_dim);
    for (int t = 0; t < 4 && next.head % group == 0; t++)
        pb_attention_prefetch(of_key[t], from, PB_QUERIES, next.head / group, a->head_dim);
}

/* --- bf16 in tiles: heads of a multiple of 32 ------------------------------------------------- */

bool pb_attention_tiles_fwd_serve(const pb_cpu *cpu, const pb_attention_fwd_args *a);
bool pb_attention_tiles_bwd_serve(const pb_cpu *cpu, const pb_attention_bwd_args *a);
/* Bytes for one thread, a multiple of 64. */
size_t pb_attention_tiles_fwd_bytes(const pb_attention_fwd_args *a);
size_t pb_attention_tiles_bwd_bytes(const pb_attention_bwd_args *a);
/* One head of one sequence, or one key head with its group of query heads,
 * between pb_cpu_tiles_begin and _end. ws: this thread's. */
void pb_attention_tiles_fwd_head(const pb_attention_fwd_args *a, int64_t sequence, int64_t head,
                                 void *ws);
void pb_attention_tiles_bwd_head(const pb_attention_bwd_args *a, int64_t sequence, int64_t kv,
                                 void *ws);

#endif
