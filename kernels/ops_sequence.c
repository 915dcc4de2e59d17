/* Checks and work of what knows tokens and sequences: embedding, attention, pooling, rows, loss. */
#include "kernels/core/check.h"
#include "kernels/core/cost.h"

static double numel(pb_tensor t) { return pb_has(t) ? (double)pb_numel(t) : 0.0; }

/* Bytes of those rows of a table that n tokens can touch, each once: all different, as far as there
 * are rows. */
static double rows_bytes(pb_tensor table, double n) {
    if (!pb_has(table)) return 0.0;
    double rows = (double)pb_rows(table);
    return pb_work_bytes(table) * (n < rows ? n / rows : 1.0);
}

void pb_check_embed_fwd(pb_check *c, const void *args) {
    const pb_embed_fwd_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, word), PB_REAL, -1, -1)) return;
    unsigned t = PB_IS(a->word.dtype), i = PB_IS(PB_I32);
    int64_t k = pb_cols(a->word);
    if (!pb_check_vec(c, PB_ARG(a, ids), i, -1)) return;
    int64_t n = pb_numel(a->ids);
    pb_check_opt_mat(c, PB_ARG(a, pos), t, -1, k);
    pb_check_opt_mat(c, PB_ARG(a, type), t, -1, k);
    if (pb_has(a->pos)) pb_check_vec(c, PB_ARG(a, positions), i, n);
    pb_check_opt_vec(c, PB_ARG(a, types), i, n);
    pb_check_mat(c, PB_ARG(a, y), t, n, k);
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, word));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, pos));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, type));
}

pb_work pb_work_embed_fwd(const void *args) {
    const pb_embed_fwd_args *a = args;
    double more = (pb_has(a->pos) ? 1.0 : 0.0) + (pb_has(a->type) ? 1.0 : 0.0);
    double n = (double)pb_rows(a->y);
    return (pb_work){.flops_else = more * numel(a->y),
                     .bytes = pb_work_bytes(a->y) + pb_work_bytes(a->ids) +
                              (pb_has(a->pos) ? pb_work_bytes(a->positions) : 0.0) +
                              (pb_has(a->type) ? pb_work_bytes(a->types) : 0.0) +
                              rows_bytes(a->word, n) + rows_bytes(a->pos, n) +
                              rows_bytes(a->type, n)};
}

void pb_check_embed_bwd(pb_check *c, const void *args) {
    const pb_embed_bwd_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, dy), PB_REAL, -1, -1)) return;
    unsigned m = PB_IS(pb_dtype_master(a->dy.dtype)), i = PB_IS(PB_I32);
    int64_t n = pb_rows(a->dy), k = pb_cols(a->dy);
    if (pb_has(a->dword)) pb_check_vec(c, PB_ARG(a, ids), i, n);
    if (pb_has(a->dpos)) pb_check_vec(c, PB_ARG(a, positions), i, n);
    pb_check_opt_vec(c, PB_ARG(a, types), i, n);
    pb_check_opt_mat(c, PB_ARG(a, dword), m, -1, k);
    pb_check_opt_mat(c, PB_ARG(a, dpos), m, -1, k);
    pb_check_opt_mat(c, PB_ARG(a, dtype), m, -1, k);
    pb_check_apart(c, PB_ARG(a, dword), PB_ARG(a, dy));
    pb_check_apart(c, PB_ARG(a, dpos), PB_ARG(a, dy));
    pb_check_apart(c, PB_ARG(a, dtype), PB_ARG(a, dy));
}

pb_work pb_work_embed_bwd(const void *args) {
    const pb_embed_bwd_args *a = args;
    double outs = (pb_has(a->dword) ? 1.0 : 0.0) + (pb_has(a->dpos) ? 1.0 : 0.0) +
                  (pb_has(a->dtype) ? 1.0 : 0.0);
    double n = (double)pb_rows(a->dy);
    return (pb_work){.flops_else = outs * numel(a->dy),
                     .bytes = pb_work_bytes(a->dy) +
                              (pb_has(a->dword) ? pb_work_bytes(a->ids) : 0.0) +
                              (pb_has(a->dpos) ? pb_work_bytes(a->positions) : 0.0) +
                              (pb_has(a->dtype) ? pb_work_bytes(a->types) : 0.0) +
                              2.0 * (rows_bytes(a->dword, n) + rows_bytes(a->dpos, n) +
                                     rows_bytes(a->dtype, n))};
}

void pb_check_rope(pb_check *c, const void *args) {
    const pb_rope_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1)) return;
    if (!pb_check_vec(c, PB_ARG(a, inv_freq), PB_IS(pb_dtype_master(a->x.dtype)), -1)) return;
    pb_check_vec(c, PB_ARG(a, positions), PB_IS(PB_I32), pb_rows(a->x));
    if (a->heads < 1 || pb_cols(a->x) != a->heads * 2 * pb_numel(a->inv_freq)) {
        pb_check_fail(c, "x has %lld columns, expected %lld heads of 2 x %lld",
                      (long long)pb_cols(a->x), (long long)a->heads,
                      (long long)pb_numel(a->inv_freq));
    }
}

pb_work pb_work_rope(const void *args) {
    const pb_rope_args *a = args;
    /* Of a pair each: two products and two multiply-adds. */
    return (pb_work){.flops_else = 2.0 * numel(a->x),
                     .bytes = 2.0 * pb_work_bytes(a->x) + pb_work_bytes(a->positions) +
                              pb_work_bytes(a->inv_freq)};
}

/* --- attention -------------------------------------------------------------------------------- */

static void check_heads(pb_check *c, int64_t heads, int64_t kv_heads, int64_t head_dim,
                        int64_t sequences, int64_t max_len) {
    if (c->status != PB_OK) return;
    if (heads < 1 || kv_heads < 1 || heads % kv_heads != 0 || head_dim < 1 || sequences < 0 ||
        max_len < 0) {
        pb_check_fail(c,
                      "heads %lld over kv_heads %lld, head_dim %lld, sequences %lld, max_len %lld",
                      (long long)heads, (long long)kv_heads, (long long)head_dim,
                      (long long)sequences, (long long)max_len);
    }
}

void pb_check_attention_fwd(pb_check *c, const void *args) {
    const pb_attention_fwd_args *a = args;
    check_heads(c, a->heads, a->kv_heads, a->head_dim, a->sequences, a->max_len);
    if (!pb_check_mat(c, PB_ARG(a, q), PB_REAL, -1, a->heads * a->head_dim)) return;
    unsigned t = PB_IS(a->q.dtype);
    int64_t n = pb_rows(a->q), kv = a->kv_heads * a->head_dim;
    pb_check_mat(c, PB_ARG(a, k), t, n, kv);
    pb_check_mat(c, PB_ARG(a, v), t, n, kv);
    pb_check_mat(c, PB_ARG(a, o), t, n, a->heads * a->head_dim);
    pb_check_vec(c, PB_ARG(a, lse), PB_IS(pb_dtype_master(a->q.dtype)), n * a->heads);
    pb_check_vec(c, PB_ARG(a, cu), PB_IS(PB_I32), a->sequences + 1);
    pb_check_drop(c, a->drop);
    pb_check_apart(c, PB_ARG(a, o), PB_ARG(a, q));
    pb_check_apart(c, PB_ARG(a, o), PB_ARG(a, k));
    pb_check_apart(c, PB_ARG(a, o), PB_ARG(a, v));
}

/* Query-key pairs of one head when every sequence is as long as max_len allows: the lengths stand
 * on the device. */
static double pairs(double rows, int64_t sequences, int64_t max_len, bool causal) {
    double len = (double)max_len, most = (double)sequences * len;
    double n = rows < most ? rows : most;
    return n * (causal ? (len + 1.0) / 2.0 : len);
}

pb_work pb_work_attention_fwd(const void *args) {
    const pb_attention_fwd_args *a = args;
    double p = pairs((double)pb_rows(a->q), a->sequences, a->max_len, a->causal) * (double)a->heads;
    return (pb_work){
        .flops = 4.0 * p * (double)a->head_dim,
        /* largest, exponential of the difference, sum */
        .flops_else = p * (3.0 + PB_COST_EXP + (a->drop.p > 0.0f ? PB_COST_DROP : 0.0)),
        .bytes = pb_work_bytes(a->q) + pb_work_bytes(a->k) + pb_work_bytes(a->v) +
                 pb_work_bytes(a->o) + pb_work_bytes(a->lse) + pb_work_bytes(a->cu),
    };
}

void pb_check_attention_bwd(pb_check *c, const void *args) {
    const pb_attention_bwd_args *a = args;
    check_heads(c, a->heads, a->kv_heads, a->head_dim, a->sequences, a->max_len);
    if (!pb_check_mat(c, PB_ARG(a, q), PB_REAL, -1, a->heads * a->head_dim)) return;
    unsigned t = PB_IS(a->q.dtype);
    int64_t n = pb_rows(a->q), k = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    pb_check_mat(c, PB_ARG(a, k), t, n, kv);
    pb_check_mat(c, PB_ARG(a, v), t, n, kv);
    pb_check_mat(c, PB_ARG(a, o), t, n, k);
    pb_check_mat(c, PB_ARG(a, d_o), t, n, k);
    pb_check_mat(c, PB_ARG(a, dq), t, n, k);
    pb_check_mat(c, PB_ARG(a, dk), t, n, kv);
    pb_check_mat(c, PB_ARG(a, dv), t, n, kv);
    pb_check_vec(c, PB_ARG(a, lse), PB_IS(pb_dtype_master(a->q.dtype)), n * a->heads);
    pb_check_vec(c, PB_ARG(a, cu), PB_IS(PB_I32), a->sequences + 1);
    pb_check_drop(c, a->drop);
    const pb_tensor outs[3] = {a->dq, a->dk, a->dv}, ins[5] = {a->q, a->k, a->v, a->o, a->d_o};
    static const char *const on[3] = {"dq", "dk", "dv"}, *const in[5] = {"q", "k", "v", "o", "d_o"};
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 5; j++) pb_check_apart(c, on[i], outs[i], in[j], ins[j]);
        for (int j = 0; j < i; j++) pb_check_apart(c, on[i], outs[i], on[j], outs[j]);
    }
}

pb_work pb_work_attention_bwd(const void *args) {
    const pb_attention_bwd_args *a = args;
    double p = pairs((double)pb_rows(a->q), a->sequences, a->max_len, a->causal) * (double)a->heads;
    return (pb_work){
        .flops = 10.0 * p * (double)a->head_dim, /* scores again, dP, dV, dQ, dK */
        /* exponential of the difference, P (dP - sum), scale; the sum of P dP from o and d_o */
        .flops_else = p * (4.0 + PB_COST_EXP + (a->drop.p > 0.0f ? PB_COST_DROP + 1.0 : 0.0)) +
                      numel(a->o),
        .bytes = 2.0 * (pb_work_bytes(a->q) + pb_work_bytes(a->k) + pb_work_bytes(a->v) +
                        pb_work_bytes(a->o)) +
                 pb_work_bytes(a->lse) + pb_work_bytes(a->cu),
    };
}

/* --- pooling, rows, loss ---------------------------------------------------------------------- */

static void check_pool(pb_check *c, pb_pool pool, pb_tensor cu, int64_t sequences) {
    pb_check_true(c, pool == PB_POOL_MEAN || pool == PB_POOL_CLS || pool == PB_POOL_LAST,
                  "pool is one of pb_pool");
    pb_check_vec(c, "cu", cu, PB_IS(PB_I32), sequences + 1);
}

void pb_check_pool_fwd(pb_check *c, const void *args) {
    const pb_pool_fwd_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1)) return;
    if (!pb_check_mat(c, PB_ARG(a, y), PB_IS(a->x.dtype), -1, pb_cols(a->x))) return;
    check_pool(c, a->pool, a->cu, pb_rows(a->y));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, x));
}

pb_work pb_work_pool_fwd(const void *args) {
    const pb_pool_fwd_args *a = args;
    bool mean = a->pool == PB_POOL_MEAN;
    return (pb_work){.flops_else = mean ? numel(a->x) : 0.0,
                     .bytes = (mean ? pb_work_bytes(a->x) : pb_work_bytes(a->y)) +
                              pb_work_bytes(a->y) + pb_work_bytes(a->cu)};
}

void pb_check_pool_bwd(pb_check *c, const void *args) {
    const pb_pool_bwd_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, dy), PB_REAL, -1, -1)) return;
    if (!pb_check_mat(c, PB_ARG(a, dx), PB_IS(a->dy.dtype), -1, pb_cols(a->dy))) return;
    check_pool(c, a->pool, a->cu, pb_rows(a->dy));
    pb_check_apart(c, PB_ARG(a, dx), PB_ARG(a, dy));
}

pb_work pb_work_pool_bwd(const void *args) {
    const pb_pool_bwd_args *a = args;
    return (pb_work){.flops_else = a->pool == PB_POOL_MEAN ? numel(a->dx) : 0.0,
                     .bytes = pb_work_bytes(a->dx) + pb_work_bytes(a->dy) + pb_work_bytes(a->cu)};
}

void pb_check_gather_rows(pb_check *c, const void *args) {
    const pb_gather_rows_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1)) return;
    if (!pb_check_mat(c, PB_ARG(a, y), PB_IS(a->x.dtype), -1, pb_cols(a->x))) return;
    pb_check_vec(c, PB_ARG(a, idx), PB_IS(PB_I32), pb_rows(a->y));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, x));
}

pb_work pb_work_gather_rows(const void *args) {
    const pb_gather_rows_args *a = args;
    return (pb_work){.bytes = 2.0 * pb_work_bytes(a->y) + pb_work_bytes(a->idx)};
}

void pb_check_scatter_rows(pb_check *c, const void *args) {
    const pb_scatter_rows_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1)) return;
    if (!pb_check_mat(c, PB_ARG(a, y), PB_IS(a->x.dtype), -1, pb_cols(a->x))) return;
    pb_check_vec(c, PB_ARG(a, idx), PB_IS(PB_I32), pb_rows(a->x));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, x));
}

pb_work pb_work_scatter_rows(const void *args) {
    const pb_scatter_rows_args *a = args;
    return (pb_work){.bytes = pb_work_bytes(a->x) + pb_work_bytes(a->y) + pb_work_bytes(a->idx)};
}

void pb_check_cross_entropy(pb_check *c, const void *args) {
    const pb_cross_entropy_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, logits), PB_REAL, -1, -1)) return;
    int64_t r = pb_rows(a->logits), v = pb_cols(a->logits);
    pb_check_true(c, v >= 1, "logits have at least one column");
    pb_check_vec(c, PB_ARG(a, target), PB_IS(PB_I32), r);
    pb_check_vec(c, PB_ARG(a, loss), PB_IS(pb_dtype_master(a->logits.dtype)), r);
    pb_check_vec(c, PB_ARG(a, pred), PB_IS(PB_I32), r);
    unsigned types = PB_IS(a->logits.dtype) | (a->logits.dtype == PB_F32 ? PB_IS(PB_BF16) : 0u);
    pb_check_opt_mat(c, PB_ARG(a, dlogits), types, r, v);
    if (pb_has(a->dlogits)) pb_check_narrowed_or_apart(c, PB_ARG(a, dlogits), PB_ARG(a, logits));
}

pb_work pb_work_cross_entropy(const void *args) {
    const pb_cross_entropy_args *a = args;
    return (pb_work){/* largest, exponential of the difference, sum; scaled */
                     .flops_else = (3.0 + PB_COST_EXP + (pb_has(a->dlogits) ? 1.0 : 0.0)) *
                                   numel(a->logits),
                     .bytes = pb_work_bytes(a->logits) + pb_work_bytes(a->dlogits) +
                              pb_work_bytes(a->target) + pb_work_bytes(a->loss) +
                              pb_work_bytes(a->pred)};
}
