/* Attention of bf16 in tile registers (cpu_tiles.h), forward and backward.
 *
 * Queries are the columns everywhere: for a block of 32 of them S^T = K Q^T [keys, 32], so that maxima,
 * sums and lse of the softmax are lanes of two registers, and nothing is added across lanes. What follows
 * needs no transpose of anything T x T:
 *   forward   O^T = V^T P^T
 *   backward  dP^T = V dO^T,  dS^T = scale P^T (dP^T - D),  D = P^T dP^T summed over keys,
 *             dV += P^T dO,  dK += dS^T Q,  dQ^T = K^T dS^T
 * The first operand of a tile product is in rows, the second in pairs of rows: P^T and dS^T are written
 * as the vector units make them, in rows or in pairs or both; K, V and their transposes are packed once a
 * head, Q and dO once a block (transposing pairs as if they were f32). P and dS are rounded to bf16 for
 * the products, nothing else is; exponentials, statistics and sums are f32. D is no dO . O: o is rounded, and
 * where a query sees few keys dP - D is smaller than that.
 *
 * A head of T tokens: forward 4 T^2 D FLOPs in tiles and some 16 vector operations for each of T^2
 * scores, backward 10 T^2 D and some 22; bytes: its rows of the operands, once. */
#include "kernels/cpu/cpu_attention.h"
#include "kernels/cpu/cpu_tiles.h"

#if defined(__x86_64__) && defined(__linux__)

#include <immintrin.h>
#include <math.h>

#include "kernels/cpu/cpu_attention_rows.h"

#define Q PB_QUERIES
#define LOG2E 1.44269504f

/* Distance of rows of a transposed operand, in pairs: pb_score_ld. */
static int64_t pairs_ld(int64_t max_len) { return pad32(max_len) / 2 | PB_LANES; }

/* One block of queries and the keys that any of them sees. */
typedef struct block {
    int64_t i0, n, keys, padded; /* queries [i0, i0+n); keys rounded up to 32 */
    uint32_t queries;            /* a bit each */
    bool causal;
    float scale;
    const float *keep; /* dropout factors [keys, 32], or NULL */
} block;

static block block_of(int64_t i0, int64_t len, bool causal, double scale, const float *keep) {
    block b = {.i0 = i0, .n = pb_min64(Q, len - i0), .causal = causal, .scale = (float)scale};
    b.keys = causal ? i0 + b.n : len;
    b.padded = pad32(b.keys);
    b.queries = UINT32_MAX >> (Q - b.n);
    b.keep = keep;
    return b;
}

/* Which of 16 queries see key j. */
HELPER __mmask16 sees(const block *b, int64_t j, int half) {
    uint32_t m = j < b->keys ? b->queries : 0;
    if (b->causal && j > b->i0) m &= UINT32_MAX << (j - b->i0 < Q ? j - b->i0 : Q - 1);
    return (__mmask16)(m >> 16 * half);
}

/* --- scores ----------------------------------------------------------------------------------- */

#pragma GCC diagnostic push /* in a build without optimisation this intrinsic is a macro that warns */
#pragma GCC diagnostic ignored "-Wsign-conversion"
/* 2^t where seen, else 0: t = n + f with |f| <= 1/2, the polynomial that equals
 * 2^f at the Chebyshev nodes (relative error 1.0e-7, 1.6e-7 with rounded
 * coefficients). */
HELPER __m512 exp2_of(__m512 t, __mmask16 seen) {
    __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(t, n), p = _mm512_set1_ps(0.00133908633f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.00967603177f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.0555035695f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.240221068f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.693147182f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0000001f));
    return _mm512_maskz_scalef_ps(seen, p, n);
}
#pragma GCC diagnostic pop

/* p[padded/2, 32] := pairs of rows of exp(scale s - max), dropped; max of scale
 * s and the sum before dropout of each query. s[padded, 32]. */
TARGET static void softmax_columns(const block *b, const float *s, uint32_t *p, float *max,
                                   float *sum) {
    const __m512 log2e = _mm512_set1_ps(LOG2E), scale = _mm512_set1_ps(b->scale);
    __m512 most[2][2], total[2][2], least = _mm512_set1_ps(-INFINITY);
    for (int i = 0; i < 4; i++) {
        most[i / 2][i % 2] = least;
        total[i / 2][i % 2] = _mm512_setzero_ps();
    }
    for (int64_t j = 0; j < b->padded; j += 2) {
        PB_UNROLL
        for (int i = 0; i < 4; i++) { /* row, half; NaN is passed over */
            __m512 x = _mm512_mul_ps(scale, _mm512_loadu_ps(s + j * Q + 16 * i));
            __m512 *m = &most[i / 2][i % 2];
            *m = _mm512_mask_max_ps(*m, sees(b, j + i / 2, i % 2), x, *m);
        }
    }
    PB_UNROLL
    for (int h = 0; h < 2; h++) {
        most[0][h] = _mm512_max_ps(most[0][h], most[1][h]);
        _mm512_storeu_ps(max + 16 * h, most[0][h]);
        most[0][h] = _mm512_mul_ps(most[0][h], log2e);
    }
    const __m512 factor = _mm512_set1_ps(b->scale * LOG2E);
    for (int64_t j = 0; j < b->padded; j += 2) {
        __m512 e[2][2];
        PB_UNROLL
        for (int i = 0; i < 4; i++) {
            __mmask16 seen = sees(b, j + i / 2, i % 2);
            __m512 x = _mm512_loadu_ps(s + j * Q + 16 * i);
            x = exp2_of(_mm512_fmsub_ps(x, factor, most[0][i % 2]), seen);
            total[i / 2][i % 2] = _mm512_add_ps(total[i / 2][i % 2], x);
            if (b->keep != NULL)
                x = _mm512_maskz_mul_ps(seen, x, _mm512_loadu_ps(b->keep + j * Q + 16 * i));
            e[i / 2][i % 2] = x;
        }
        pair_up(p + j / 2 * Q, 16, (__m512i)_mm512_cvtne2ps_pbh(e[0][1], e[0][0]),
                (__m512i)_mm512_cvtne2ps_pbh(e[1][1], e[1][0]));
    }
    PB_UNROLL
    for (int h = 0; h < 2; h++)
        _mm512_storeu_ps(sum + 16 * h, _mm512_add_ps(total[0][h], total[1][h]));
}

/* From s, dp [padded, 32], which are used up: p and ds in rows (of 32 bf16), ds in pairs of rows too. */
typedef struct gradient {
    float *s, *dp;
    const float *lse;
    uint16_t *p, *ds;
    uint32_t *pairs;
} gradient;

/* s := P, dp := dropped dP; D = P dP summed over keys. */
TARGET static void probabilities(const block *b, const gradient *g, __m512 mean[2]) {
    const __m512 factor = _mm512_set1_ps(b->scale * LOG2E);
    __m512 lse[2], total[2][2];
    for (int h = 0; h < 2; h++) {
        lse[h] = _mm512_mul_ps(_mm512_set1_ps(LOG2E), _mm512_loadu_ps(g->lse + 16 * h));
        total[0][h] = total[1][h] = _mm512_setzero_ps();
    }
    for (int64_t j = 0; j < b->padded; j += 2) {
        PB_UNROLL
        for (int i = 0; i < 4; i++) {
            int r = i / 2, h = i % 2;
            int64_t at = (j + r) * Q + 16 * h;
            __mmask16 seen = sees(b, j + r, h);
            __m512 y = _mm512_loadu_ps(g->dp + at);
            __m512 e = exp2_of(_mm512_fmsub_ps(_mm512_loadu_ps(g->s + at), factor, lse[h]), seen);
            if (b->keep != NULL) {
                y = _mm512_mul_ps(y, _mm512_loadu_ps(b->keep + at));
                _mm512_storeu_ps(g->dp + at, y);
            }
            total[r][h] = _mm512_mask3_fmadd_ps(e, y, total[r][h], seen);
            _mm512_storeu_ps(g->s + at, e);
        }
    }
    for (int h = 0; h < 2; h++) mean[h] = _mm512_add_ps(total[0][h], total[1][h]);
}

TARGET static void gradient_columns(const block *b, const gradient *g) {
    const __m512 scale = _mm512_set1_ps(b->scale);
    __m512 mean[2];
    probabilities(b, g, mean);
    for (int h = 0; h < 2; h++) mean[h] = _mm512_mul_ps(scale, mean[h]);
    for (int64_t j = 0; j < b->padded; j += 2) {
        __m512i ds[2];
        PB_UNROLL
        for (int r = 0; r < 2; r++) {
            __m512 e[2], d[2];
            PB_UNROLL
            for (int h = 0; h < 2; h++) {
                int64_t at = (j + r) * Q + 16 * h;
                __mmask16 seen = sees(b, j + r, h);
                __m512 y = _mm512_fmsub_ps(_mm512_loadu_ps(g->dp + at), scale, mean[h]);
                e[h] = _mm512_loadu_ps(g->s + at);
                d[h] = _mm512_maskz_mul_ps(seen, e[h], y);
                if (b->keep != NULL)
                    e[h] = _mm512_maskz_mul_ps(seen, e[h], _mm512_loadu_ps(b->keep + at));
            }
            ds[r] = (__m512i)_mm512_cvtne2ps_pbh(d[1], d[0]);
            _mm512_storeu_si512(g->p + (j + r) * Q, (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0]));
            _mm512_storeu_si512(g->ds + (j + r) * Q, ds[r]);
        }
        pair_up(g->pairs + j / 2 * Q, 16, ds[0], ds[1]);
    }
}

/* --- forward ---------------------------------------------------------------------------------- */

typedef struct drop_ws {
    float *rows, *columns; /* factors [32, ld], [keys, 32] */
} drop_ws;

/* Adds up what `to` needs, or sets it. */
typedef struct part {
    void *to; /* a pointer to a pointer */
    int64_t bytes;
} part;

static size_t lay_out(const part *parts, int n, char *base) {
    size_t all = 0;
    for (int i = 0; i < n; i++) {
        if (base != NULL) {
            char *at = base + all;
            memcpy(parts[i].to, &at, sizeof at);
        }
        all += pb_align64((size_t)parts[i].bytes);
    }
    return all;
}

typedef struct fwd_ws {
    uint16_t *k, *vt;
    uint32_t *v, *q, *p;
    float *s, *ot, *o;
    drop_ws drop;
} fwd_ws;

static size_t fwd_layout(const pb_attention_fwd_args *a, void *base, fwd_ws *w) {
    int64_t t = pad32(a->max_len), dim = pad32(a->head_dim), drop = a->drop.p > 0.0f ? 1 : 0;
    const part parts[] = {
        {&w->k, 2 * t * dim},
        {&w->vt, 4 * dim * pairs_ld(a->max_len)},
        {&w->v, 2 * t * dim},
        {&w->q, 2 * Q * dim},
        {&w->p, 2 * t * Q},
        {&w->s, 4 * t * Q},
        {&w->ot, 4 * dim * Q},
        {&w->o, 4 * dim * Q},
        {&w->drop.rows, drop * 4 * Q * pb_score_ld(a->max_len)},
        {&w->drop.columns, drop * 4 * t * Q},
    };
    return lay_out(parts, sizeof parts / sizeof *parts, base);
}

size_t pb_attention_tiles_fwd_bytes(const pb_attention_fwd_args *a) {
    fwd_ws w;
    return fwd_layout(a, NULL, &w);
}

static bool even(pb_tensor t) { return t.stride % 2 == 0 && (uintptr_t)t.data % 4 == 0; }

bool pb_attention_tiles_fwd_serve(const pb_cpu *cpu, const pb_attention_fwd_args *a) {
    return cpu->tiles && a->q.dtype == PB_BF16 && a->head_dim % PB_TILE == 0 && even(a->q);
}

void pb_attention_tiles_fwd_head(const pb_attention_fwd_args *a, int64_t sequence, int64_t head,
                                 void *ws) {
    int64_t first = pb_int_at(a->cu, sequence), len = pb_int_at(a->cu, sequence + 1) - first;
    int64_t dim = a->head_dim, kv = head / (a->heads / a->kv_heads), padded = pad32(len);
    int64_t ld = pairs_ld(a->max_len), score_ld = pb_score_ld(a->max_len);
    fwd_ws w;
    (void)fwd_layout(a, ws, &w);
    copy_rows(w.k, rows_of(a->k, first, len, kv, dim), dim, padded);
    pair_rows(w.v, rows_of(a->v, first, len, kv, dim), dim, padded);
    transpose_pairs(w.vt, ld, w.v, dim, padded);
    pb_attention_next next = pb_attention_next_of(first, len, head, a->heads);
    for (int64_t i0 = 0; i0 < len; i0 += Q) {
        float max[Q], sum[Q], *lse = a->lse.data;
        pb_attention_fwd_prefetch(a, next, i0);
        bool drop = a->drop.p > 0.0f;
        block b = block_of(i0, len, a->causal, a->scale, drop ? w.drop.columns : NULL);
        pair_columns(w.q, rows_of(a->q, first + i0, b.n, head, dim), dim);
        pb_cpu_tile_product(b.padded, Q, dim, w.k, dim, w.q, Q, w.s, Q, false);
        if (drop) {
            pb_attention_drop(a->drop, first + i0, b.n, a->heads, head, a->max_len, b.keys,
                              w.drop.rows, score_ld);
            pb_cpu_transpose(w.drop.columns, Q, w.drop.rows, score_ld, b.n, b.keys);
        }
        softmax_columns(&b, w.s, w.p, max, sum);
        pb_cpu_tile_product(dim, Q, b.padded, w.vt, 2 * ld, w.p, Q, w.ot, Q, false);
        pb_cpu_transpose(w.o, dim, w.ot, Q, dim, Q);
        for (int64_t i = 0; i < b.n; i++) {
            lse[(first + i0 + i) * a->heads + head] = max[i] + logf(sum[i]);
            sum[i] = 1.0f / sum[i];
        }
        store_rows(a->o, first + i0, b.n, head, dim, w.o, sum);
    }
}

/* --- backward --------------------------------------------------------------------------------- */

typedef struct bwd_ws {
    uint16_t *k, *v, *kt, *p, *ds;
    uint32_t *pairs, *q, *g, *qt, *gt, *ds_pairs; /* g = dO; t: pairs of columns */
    float *s, *dp, *dqt, *dq, *dk, *dv;
    drop_ws drop;
} bwd_ws;

static size_t bwd_layout(const pb_attention_bwd_args *a, void *base, bwd_ws *w) {
    int64_t t = pad32(a->max_len), dim = pad32(a->head_dim), drop = a->drop.p > 0.0f ? 1 : 0;
    const part parts[] = {
        {&w->k, 2 * t * dim},
        {&w->v, 2 * t * dim},
        {&w->kt, 4 * dim * pairs_ld(a->max_len)},
        {&w->p, 2 * t * Q},
        {&w->ds, 2 * t * Q},
        {&w->pairs, 2 * t * dim},
        {&w->q, 2 * Q * dim},
        {&w->g, 2 * Q * dim},
        {&w->qt, 2 * Q * dim},
        {&w->gt, 2 * Q * dim},
        {&w->ds_pairs, 2 * t * Q},
        {&w->s, 4 * t * Q},
        {&w->dp, 4 * t * Q},
        {&w->dqt, 4 * dim * Q},
        {&w->dq, 4 * dim * Q},
        {&w->dk, 4 * t * dim},
        {&w->dv, 4 * t * dim},
        {&w->drop.rows, drop * 4 * Q * pb_score_ld(a->max_len)},
        {&w->drop.columns, drop * 4 * t * Q},
    };
    return lay_out(parts, sizeof parts / sizeof *parts, base);
}

size_t pb_attention_tiles_bwd_bytes(const pb_attention_bwd_args *a) {
    bwd_ws w;
    return bwd_layout(a, NULL, &w);
}

/* Not causal attention: a query that sees two or three keys has gradients dS of one size and opposite
 * signs, and dQ is less than what rounding them to bf16 may leave. */
bool pb_attention_tiles_bwd_serve(const pb_cpu *cpu, const pb_attention_bwd_args *a) {
    return cpu->tiles && a->q.dtype == PB_BF16 && a->head_dim % PB_TILE == 0 && !a->causal &&
           even(a->q) && even(a->d_o);
}

/* Queries [i0, i0+32) of a head. */
static void bwd_block(const pb_attention_bwd_args *a, const bwd_ws *w, int64_t first, int64_t len,
                      int64_t head, int64_t i0) {
    int64_t dim = a->head_dim, score_ld = pb_score_ld(a->max_len);
    const float *all_lse = a->lse.data;
    float lse[Q] = {0};
    bool drop = a->drop.p > 0.0f;
    block b = block_of(i0, len, a->causal, a->scale, drop ? w->drop.columns : NULL);
    rows q = rows_of(a->q, first + i0, b.n, head, dim);
    rows g = rows_of(a->d_o, first + i0, b.n, head, dim);
    pair_columns(w->qt, q, dim);
    pair_columns(w->gt, g, dim);
    pair_rows(w->q, q, dim, Q);
    pair_rows(w->g, g, dim, Q);
    for (int64_t i = 0; i < b.n; i++) lse[i] = all_lse[(first + i0 + i) * a->heads + head];
    pb_cpu_tile_product(b.padded, Q, dim, w->k, dim, w->qt, Q, w->s, Q, false);
    pb_cpu_tile_product(b.padded, Q, dim, w->v, dim, w->gt, Q, w->dp, Q, false);
    if (drop) {
        pb_attention_drop(a->drop, first + i0, b.n, a->heads, head, a->max_len, b.keys,
                          w->drop.rows, score_ld);
        pb_cpu_transpose(w->drop.columns, Q, w->drop.rows, score_ld, b.n, b.keys);
    }
    gradient_columns(&b, &(gradient){w->s, w->dp, lse, w->p, w->ds, w->ds_pairs});
    pb_cpu_tile_product(b.padded, dim, Q, w->p, Q, w->g, dim, w->dv, dim, true);
    pb_cpu_tile_product(b.padded, dim, Q, w->ds, Q, w->q, dim, w->dk, dim, true);
    pb_cpu_tile_product(dim, Q, b.padded, w->kt, 2 * pairs_ld(a->max_len), w->ds_pairs, Q, w->dqt,
                        Q, false);
    pb_cpu_transpose(w->dq, dim, w->dqt, Q, dim, Q);
    store_rows(a->dq, first + i0, b.n, head, dim, w->dq, NULL);
}

void pb_attention_tiles_bwd_head(const pb_attention_bwd_args *a, int64_t sequence, int64_t kv,
                                 void *ws) {
    int64_t first = pb_int_at(a->cu, sequence), len = pb_int_at(a->cu, sequence + 1) - first;
    int64_t dim = a->head_dim, group = a->heads / a->kv_heads, padded = pad32(len);
    rows k = rows_of(a->k, first, len, kv, dim);
    bwd_ws w;
    (void)bwd_layout(a, ws, &w);
    copy_rows(w.k, k, dim, padded);
    copy_rows(w.v, rows_of(a->v, first, len, kv, dim), dim, padded);
    pair_rows(w.pairs, k, dim, padded);
    transpose_pairs(w.kt, pairs_ld(a->max_len), w.pairs, dim, padded);
    memset(w.dk, 0, (size_t)(padded * dim) * sizeof *w.dk);
    memset(w.dv, 0, (size_t)(padded * dim) * sizeof *w.dv);
    for (int64_t head = kv * group; head < (kv + 1) * group; head++) {
        pb_attention_next next = pb_attention_next_of(first, len, head, a->heads);
        for (int64_t i0 = 0; i0 < len; i0 += Q) {
            pb_attention_bwd_prefetch(a, next, i0);
            bwd_block(a, &w, first, len, head, i0);
        }
    }
    store_rows(a->dk, first, len, kv, dim, w.dk, NULL);
    store_rows(a->dv, first, len, kv, dim, w.dv, NULL);
}

#else

bool pb_attention_tiles_fwd_serve(const pb_cpu *cpu, const pb_attention_fwd_args *a) {
    return (void)cpu, (void)a, false;
}
bool pb_attention_tiles_bwd_serve(const pb_cpu *cpu, const pb_attention_bwd_args *a) {
    return (void)cpu, (void)a, false;
}
size_t pb_attention_tiles_fwd_bytes(const pb_attention_fwd_args *a) { return (void)a, 0; }
size_t pb_attention_tiles_bwd_bytes(const pb_attention_bwd_args *a) { return (void)a, 0; }
void pb_attention_tiles_fwd_head(const pb_attention_fwd_args *a, int64_t sequence, int64_t head,
                                 void *ws) {
    (void)a, (void)sequence, (void)head, (void)ws;
}
void pb_attention_tiles_bwd_head(const pb_attention_bwd_args *a, int64_t sequence, int64_t kv,
                                 void *ws) {
    (void)a, (void)sequence, (void)kv, (void)ws;
}

#endif
