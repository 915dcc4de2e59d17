/* Softmax attention over packed sequences of any length, with grouped queries, causal mask and
 * dropout.
 *
 * One task is one head of one sequence (forward) or one key head with its group of query heads
 * (backward), so that dk and dv are sums inside one task. Queries are taken in blocks of 32: scores
 * of a block against all its keys (32 x T f32) stay in the L2 cache and are never stored. K, and V
 * for the backward pass, are transposed once per task, so that every product is rows of scalars
 * times contiguous vectors (cpu_lanes.c). bf16 is widened as it is read; all arithmetic is f32. Where
 * the CPU has tile registers bf16 goes another way: cpu_attention_tiles.c.
 * FLOPs per head and sequence: forward 4 T^2 D, backward 10 T^2 D. */
#include <math.h>

#include "kernels/cpu/cpu_attention.h"
#include "kernels/cpu/cpu_tiles.h"

#define QUERIES PB_QUERIES
#define COPY_BEYOND 64

static int64_t pad16(int64_t n) { return pb_ceil_div(n, PB_LANES) * PB_LANES; }

/* Rows of one head as f32 with zero-padded columns: the tensor's own memory where that serves, else
 * a copy. */
typedef struct rows {
    const float *at;
    int64_t ld;
} rows;

static rows rows_of(pb_tensor t, int64_t first, int64_t n, int64_t head, int64_t dim, float *copy) {
    int64_t from = first * t.stride + head * dim, ld = pad16(dim);
    /* Long sequences are copied too: rows a power of two apart would fall into few sets of the
     * cache. */
    if (t.dtype == PB_F32 && ld == dim && n <= COPY_BEYOND)
        return (rows){(const float *)t.data + from, t.stride};
    for (int64_t i = 0; i < n; i++) {
        float *to = copy + i * ld;
        if (t.dtype == PB_F32) {
            memcpy(to, (const float *)t.data + from + i * t.stride, (size_t)dim * sizeof *to);
        } else {
            pb_cpu_widen(to, (const uint16_t *)t.data + from + i * t.stride, dim);
        }
        for (int64_t j = dim; j < ld; j++) to[j] = 0.0f;
    }
    return (rows){copy, ld};
}

/* The other way: n rows of dim values, times a factor per row (or NULL). */
static void store_rows(pb_tensor t, int64_t first, int64_t n, int64_t head, int64_t dim,
                       const float *src, int64_t ld, const float *factor) {
    for (int64_t i = 0; i < n; i++) {
        int64_t at = (first + i) * t.stride + head * dim;
        const float *from = src + i * ld;
        for (int64_t j = 0; j < dim; j += PB_CPU_BLOCK) {
            float buf[PB_CPU_BLOCK];
            int64_t m = pb_min64(PB_CPU_BLOCK, dim - j);
            float *to = pb_cpu_out(t, at + j, buf);
            pb_cpu_scale(to, from + j, factor != NULL ? factor[i] : 1.0f, m);
            pb_cpu_done(t, at + j, m, to);
        }
    }
}

static pb_status check_cu(pb_tensor cu, int64_t sequences, int64_t max_len, int64_t n) {
    for (int64_t s = 0; s < sequences; s++) {
        int64_t from = pb_int_at(cu, s), to = pb_int_at(cu, s + 1);
        if (from >= 0 && from <= to && to - from <= max_len && to <= n) continue;
        return PB_ERROR(
            PB_E_BUG, "attention: sequence %lld is rows %lld to %lld of %lld, max_len %lld",
            (long long)s, (long long)from, (long long)to, (long long)n, (long long)max_len);
    }
    return PB_OK;
}

static void zero_rows(pb_tensor t, int64_t from) {
    for (int64_t i = from; i < pb_rows(t); i++) {
        memset(pb_cpu_at(t, i * t.stride), 0, (size_t)pb_cols(t) * pb_dtype_size(t.dtype));
    }
}

/* --- forward --------------------------------------------------------------------------------- */

typedef struct fwd_ws { /* of one thread, in floats */
    float *s, *keep, *kt, *v, *q, *o;
    int64_t tp, dp; /* distance of rows of scores, padded head_dim */
} fwd_ws;

static size_t fwd_layout(const pb_attention_fwd_args *a, void *base, fwd_ws *w) {
    int64_t tp = pb_score_ld(a->max_len), dp = pad16(a->head_dim);
    int64_t size[6] = {QUERIES * tp, a->drop.p > 0.0f ? QUERIES * tp : 0, dp * tp, tp * dp, tp * dp,
                       QUERIES * dp},
            all = 0;
    for (int i = 0; i < 6; i++) all += size[i];
    if (base != NULL) {
        float *at = base;
        float **to[6] = {&w->s, &w->keep, &w->kt, &w->v, &w->q, &w->o};
        for (int i = 0; i < 6; i++) {
            *to[i] = at;
            at += size[i];
        }
        w->tp = tp;
        w->dp = dp;
    }
    return (size_t)all * sizeof(float);
}

static size_t fwd_bytes(const pb_attention_fwd_args *a) {
    size_t vectors = fwd_layout(a, NULL, NULL), tiles = pb_attention_tiles_fwd_bytes(a);
    return pb_align64(vectors > tiles || a->q.dtype != PB_BF16 ? vectors : tiles);
}

static size_t attention_fwd_workspace(const pb_device *dev, const void *args) {
    return (size_t)pb_device_threads(dev) * fwd_bytes(args);
}

/* Queries [i0, i0+n) of a sequence that starts at row `first`. */
static void fwd_block(const pb_attention_fwd_args *a, const fwd_ws *w, int64_t first, int64_t len,
                      int64_t head, int64_t i0, int64_t n, rows q, rows v) {
    float factor[QUERIES], *lse = a->lse.data;
    int64_t most_keys = a->causal ? i0 + n : len, padded = pad16(most_keys);
    pb_cpu_small_product(n, padded, a->head_dim, q.at + i0 * q.ld, q.ld, 1, w->kt, w->tp, w->s,
                         w->tp, false);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = first + i0 + i, keys = a->causal ? i0 + i + 1 : len;
        float max, *s = w->s + i * w->tp,
                   sum = pb_cpu_softmax_row(s, keys, padded, (float)a->scale, &max);
        lse[row * a->heads + head] = max + logf(sum);
        factor[i] = 1.0f / sum;
    }
    if (a->drop.p > 0.0f) {
        pb_attention_drop(a->drop, first + i0, n, a->heads, head, a->max_len, most_keys, w->keep,
                          w->tp);
        for (int64_t i = 0; i < n; i++)
            pb_cpu_mul(w->s + i * w->tp, w->s + i * w->tp, w->keep + i * w->tp, most_keys);
    }
    pb_cpu_small_product(n, w->dp, most_keys, w->s, w->tp, 1, v.at, v.ld, w->o, w->dp, false);
    store_rows(a->o, first + i0, n, head, a->head_dim, w->o, w->dp, factor);
}

static void fwd_head(const pb_attention_fwd_args *a, const fwd_ws *w, int64_t sequence,
                     int64_t head) {
    int64_t first = pb_int_at(a->cu, sequence), len = pb_int_at(a->cu, sequence + 1) - first,
            dim = a->head_dim;
    int64_t kv = head / (a->heads / a->kv_heads);
    if (len == 0) return;
    rows k = rows_of(a->k, first, len, kv, dim, w->v);
    pb_cpu_transpose(w->kt, w->tp, k.at, k.ld, len, dim);
    rows v = rows_of(a->v, first, len, kv, dim, w->v);
    rows q = rows_of(a->q, first, len, head, dim, w->q);
    pb_attention_next next = pb_attention_next_of(first, len, head, a->heads);
    for (int64_t i = 0; i < len; i += QUERIES) {
        pb_attention_fwd_prefetch(a, next, i);
        fwd_block(a, w, first, len, head, i, pb_min64(QUERIES, len - i), q, v);
    }
}

static pb_status attention_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_attention_fwd_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->q.dtype == PB_F64)
        return PB_ERROR(PB_E_UNSUPPORTED, "cpu: attention_fwd has no f64 kernel");
    PB_RETURN(check_cu(a->cu, a->sequences, a->max_len, pb_rows(a->q)));
    int64_t tasks = a->sequences * a->heads;
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->q) * 8);
    bool tiles = pb_attention_tiles_fwd_serve(cpu, a);
#pragma omp parallel num_threads(threads)
    {
        void *own = (char *)ws + (size_t)pb_cpu_thread() * fwd_bytes(a);
        fwd_ws w = {0};
        (void)fwd_layout(a, own, &w);
        if (tiles) pb_cpu_tiles_begin();
#pragma omp for schedule(dynamic, 4)
        for (int64_t i = 0; i < tasks; i++) {
            int64_t sequence = i / a->heads, head = i % a->heads;
            if (tiles) {
                pb_attention_tiles_fwd_head(a, sequence, head, own);
            } else {
                fwd_head(a, &w, sequence, head);
            }
        }
        if (tiles) pb_cpu_tiles_end();
    }
    int64_t end = a->sequences > 0 ? pb_int_at(a->cu, a->sequences) : 0;
    zero_rows(a->o, end);
    float *lse = a->lse.data;
    for (int64_t i = end * a->heads; i < pb_numel(a->lse); i++) lse[i] = 0.0f;
    return PB_OK;
}

/* --- backward -------------------------------------------------------------------------------- */

typedef struct bwd_ws { /* of one thread, in floats */
    float *s, *ds, *keep, *kt, *vt, *k, *q, *g, *dq, *dk, *dv;
    int64_t tp, dp;
} bwd_ws;

static size_t bwd_layout(const pb_attention_bwd_args *a, void *base, bwd_ws *w) {
    int64_t tp = pb_score_ld(a->max_len), dp = pad16(a->head_dim), td = tp * dp, all = 0;
    int64_t keep = a->drop.p > 0.0f ? QUERIES * tp : 0;
    int64_t size[11] = {QUERIES * tp, QUERIES * tp, keep, td, td, td, td, td, QUERIES * dp, td, td};
    for (int i = 0; i < 11; i++) all += size[i];
    if (base != NULL) {
        float *at = base;
        float **to[11] = {&w->s, &w->ds, &w->keep, &w->kt, &w->vt, &w->k,
                          &w->q, &w->g,  &w->dq,   &w->dk, &w->dv};
        for (int i = 0; i < 11; i++) {
            *to[i] = at;
            at += size[i];
        }
        w->tp = tp;
        w->dp = dp;
    }
    return (size_t)all * sizeof(float);
}

static size_t bwd_bytes(const pb_attention_bwd_args *a) {
    size_t vectors = bwd_layout(a, NULL, NULL), tiles = pb_attention_tiles_bwd_bytes(a);
    return pb_align64(vectors > tiles || a->q.dtype != PB_BF16 ? vectors : tiles);
}

static size_t attention_bwd_workspace(const pb_device *dev, const void *args) {
    return (size_t)pb_device_threads(dev) * bwd_bytes(args);
}

typedef struct bwd_head {
    int64_t first, len, head;
    rows q, k, g; /* g = dO */
} bwd_head;

/* P = exp(S - lse); dP = keep .* (dO V^T); dS = scale P (dP - sum P dP); dV += (keep .* P)^T dO; dQ
 * = dS K; dK += dS^T Q. */
static void bwd_block(const pb_attention_bwd_args *a, const bwd_ws *w, const bwd_head *h,
                      int64_t i0, int64_t n) {
    const float *lse = a->lse.data, *q = h->q.at + i0 * h->q.ld, *g = h->g.at + i0 * h->g.ld;
    int64_t most_keys = a->causal ? i0 + n : h->len, padded = pad16(most_keys), dim = a->head_dim;
    pb_cpu_small_product(n, padded, dim, q, h->q.ld, 1, w->kt, w->tp, w->s, w->tp, false);
    pb_cpu_small_product(n, padded, dim, g, h->g.ld, 1, w->vt, w->tp, w->ds, w->tp, false);
    bool drop = a->drop.p > 0.0f;
    if (drop)
        pb_attention_drop(a->drop, h->first + i0, n, a->heads, h->head, a->max_len, most_keys,
                          w->keep, w->tp);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = h->first + i0 + i, keys = a->causal ? i0 + i + 1 : h->len;
        float *p = w->s + i * w->tp, *dp = w->ds + i * w->tp, *keep = w->keep + i * w->tp;
        pb_cpu_probability_row(p, keys, padded, (float)a->scale, lse[row * a->heads + h->head]);
        if (drop) pb_cpu_mul(dp, dp, keep, most_keys);
        pb_cpu_score_gradient_row(dp, p, padded, (float)a->scale);
        if (drop) pb_cpu_mul(p, p, keep, most_keys);
    }
    bool add = i0 > 0 || h->head % (a->heads / a->kv_heads) != 0;
    pb_cpu_small_product(most_keys, w->dp, n, w->s, 1, w->tp, g, h->g.ld, w->dv, w->dp, add);
    pb_cpu_small_product(n, w->dp, most_keys, w->ds, w->tp, 1, h->k.at, h->k.ld, w->dq, w->dp,
                         false);
    pb_cpu_small_product(most_keys, w->dp, n, w->ds, 1, w->tp, q, h->q.ld, w->dk, w->dp, add);
    store_rows(a->dq, h->first + i0, n, h->head, dim, w->dq, w->dp, NULL);
}

static void bwd_key_head(const pb_attention_bwd_args *a, const bwd_ws *w, int64_t sequence,
                         int64_t kv) {
    int64_t first = pb_int_at(a->cu, sequence), len = pb_int_at(a->cu, sequence + 1) - first,
            dim = a->head_dim;
    int64_t group = a->heads / a->kv_heads;
    if (len == 0) return;
    rows v = rows_of(a->v, first, len, kv, dim, w->k);
    pb_cpu_transpose(w->vt, w->tp, v.at, v.ld, len, dim);
    bwd_head h = {.first = first, .len = len};
    h.k = rows_of(a->k, first, len, kv, dim, w->k);
    pb_cpu_transpose(w->kt, w->tp, h.k.at, h.k.ld, len, dim);
    if (a->causal) { /* blocks reach only the keys before them: start from zero */
        memset(w->dk, 0, (size_t)(len * w->dp) * sizeof *w->dk);
        memset(w->dv, 0, (size_t)(len * w->dp) * sizeof *w->dv);
    }
    for (h.head = kv * group; h.head < (kv + 1) * group; h.head++) {
        h.q = rows_of(a->q, first, len, h.head, dim, w->q);
        h.g = rows_of(a->d_o, first, len, h.head, dim, w->g);
        pb_attention_next next = pb_attention_next_of(first, len, h.head, a->heads);
        for (int64_t i = 0; i < len; i += QUERIES) {
            pb_attention_bwd_prefetch(a, next, i);
            bwd_block(a, w, &h, i, pb_min64(QUERIES, len - i));
        }
    }
    store_rows(a->dk, first, len, kv, dim, w->dk, w->dp, NULL);
    store_rows(a->dv, first, len, kv, dim, w->dv, w->dp, NULL);
}

static pb_status attention_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_attention_bwd_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->q.dtype == PB_F64)
        return PB_ERROR(PB_E_UNSUPPORTED, "cpu: attention_bwd has no f64 kernel");
    PB_RETURN(check_cu(a->cu, a->sequences, a->max_len, pb_rows(a->q)));
    int64_t tasks = a->sequences * a->kv_heads;
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->q) * 8);
    bool tiles = pb_attention_tiles_bwd_serve(cpu, a);
#pragma omp parallel num_threads(threads)
    {
        void *own = (char *)ws + (size_t)pb_cpu_thread() * bwd_bytes(a);
        bwd_ws w = {0};
        (void)bwd_layout(a, own, &w);
        if (tiles) pb_cpu_tiles_begin();
#pragma omp for schedule(dynamic, 4)
        for (int64_t i = 0; i < tasks; i++) {
            int64_t sequence = i / a->kv_heads, head = i % a->kv_heads;
            if (tiles) {
                pb_attention_tiles_bwd_head(a, sequence, head, own);
            } else {
                bwd_key_head(a, &w, sequence, head);
            }
        }
        if (tiles) pb_cpu_tiles_end();
    }
    int64_t end = a->sequences > 0 ? pb_int_at(a->cu, a->sequences) : 0;
    zero_rows(a->dq, end);
    zero_rows(a->dk, end);
    zero_rows(a->dv, end);
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_attention_fwd, "tiles or vector", attention_fwd_workspace, attention_fwd_run},
    {PB_OP_attention_bwd, "tiles or vector", attention_bwd_workspace, attention_bwd_run},
};
const pb_kernel_set pb_kernels_cpu_attention = {kernels, sizeof kernels / sizeof *kernels};
