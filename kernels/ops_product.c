/* Checks and work of products, 4-bit weights, the low-rank branch and DoRA's norm. */
#include "kernels/core/check.h"
#include "kernels/core/cost.h"

#define DECODE 2.0 /* operations: the code's value, times absmax */

static unsigned or_master(pb_dtype dtype) { return PB_IS(dtype) | PB_IS(pb_dtype_master(dtype)); }

void pb_check_gemm(pb_check *c, const void *args) {
    const pb_gemm_args *g = args;
    if (!pb_check_mat(c, PB_ARG(g, a), PB_REAL, -1, -1)) return;
    int64_t m = g->trans_a ? pb_cols(g->a) : pb_rows(g->a),
            k = g->trans_a ? pb_rows(g->a) : pb_cols(g->a);
    if (!pb_check_mat(c, PB_ARG(g, b), PB_IS(g->a.dtype), g->trans_b ? -1 : k, g->trans_b ? k : -1))
        return;
    int64_t n = g->trans_b ? pb_rows(g->b) : pb_cols(g->b);
    pb_check_mat(c, PB_ARG(g, c), or_master(g->a.dtype), m, n);
    pb_check_opt_vec(c, PB_ARG(g, bias), or_master(g->a.dtype), n);
    pb_check_apart(c, PB_ARG(g, c), PB_ARG(g, a));
    pb_check_apart(c, PB_ARG(g, c), PB_ARG(g, b));
    pb_check_apart(c, PB_ARG(g, c), PB_ARG(g, bias));
}

pb_work pb_work_gemm(const void *args) {
    const pb_gemm_args *g = args;
    double mn = (double)pb_numel(g->c), k = (double)(g->trans_a ? pb_rows(g->a) : pb_cols(g->a));
    return (pb_work){
        .flops = 2.0 * mn * k,
        .flops_else = mn * ((g->beta != 0.0 ? 1.0 : 0.0) + (pb_has(g->bias) ? 1.0 : 0.0)),
        .bytes = pb_work_bytes(g->a) + pb_work_bytes(g->b) + pb_work_bytes(g->bias) +
                 pb_work_bytes(g->c) * (g->beta != 0.0 ? 2.0 : 1.0),
    };
}

void pb_check_linear(pb_check *c, const void *args) {
    const pb_linear_args *l = args;
    if (!pb_check_mat(c, PB_ARG(l, x), PB_REAL, -1, -1)) return;
    int64_t n = pb_rows(l->x), cols = pb_cols(l->x);
    if (!pb_check_weight(c, l->w, l->x.dtype, l->transpose ? cols : -1, l->transpose ? -1 : cols))
        return;
    int64_t out = pb_weight_out(l->w), in = pb_weight_in(l->w);
    pb_check_mat(c, PB_ARG(l, y), PB_IS(l->x.dtype), n, l->transpose ? in : out);
    pb_check_opt_vec(c, PB_ARG(l, bias), PB_IS(l->x.dtype), out);
    pb_check_true(c, !(l->transpose && pb_has(l->bias)), "bias only with transpose false");
    pb_check_apart(c, PB_ARG(l, y), PB_ARG(l, x));
    pb_check_apart(c, PB_ARG(l, y), "w.dense", l->w.dense);
    pb_check_apart(c, PB_ARG(l, y), PB_ARG(l, bias));
}

pb_work pb_work_linear(const void *args) {
    const pb_linear_args *l = args;
    double n = (double)pb_rows(l->x), y = (double)pb_numel(l->y);
    double weights = (double)pb_weight_out(l->w) * (double)pb_weight_in(l->w);
    return (pb_work){
        .flops = 2.0 * n * weights,
        .flops_else = y * ((l->beta != 0.0 ? 1.0 : 0.0) + (pb_has(l->bias) ? 1.0 : 0.0)) +
                      (l->w.quant != NULL ? DECODE * weights : 0.0),
        .bytes = pb_work_bytes(l->x) + pb_work_weight_bytes(l->w) + pb_work_bytes(l->bias) +
                 pb_work_bytes(l->y) * (l->beta != 0.0 ? 2.0 : 1.0),
    };
}

void pb_check_linear_gelu(pb_check *c, const void *args) {
    const pb_linear_gelu_args *l = args;
    if (!pb_check_mat(c, PB_ARG(l, x), PB_REAL, -1, -1)) return;
    unsigned t = PB_IS(l->x.dtype);
    if (!pb_check_mat(c, PB_ARG(l, w), t, -1, pb_cols(l->x))) return;
    pb_check_opt_vec(c, PB_ARG(l, bias), t, pb_rows(l->w));
    pb_check_mat(c, PB_ARG(l, y), t, pb_rows(l->x), pb_rows(l->w));
    pb_check_opt_mat(c, PB_ARG(l, pre), t, pb_rows(l->x), pb_rows(l->w));
    const pb_tensor outs[2] = {l->y, l->pre}, ins[3] = {l->x, l->w, l->bias};
    static const char *const on[2] = {"y", "pre"}, *const in[3] = {"x", "w", "bias"};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++) pb_check_apart(c, on[i], outs[i], in[j], ins[j]);
    pb_check_apart(c, PB_ARG(l, pre), PB_ARG(l, y));
}

pb_work pb_work_linear_gelu(const void *args) {
    const pb_linear_gelu_args *l = args;
    double y = (double)pb_numel(l->y);
    return (pb_work){
        .flops = 2.0 * y * (double)pb_cols(l->x),
        .flops_else = y * (PB_COST_GELU_TANH + (pb_has(l->bias) ? 1.0 : 0.0)),
        .bytes = pb_work_bytes(l->x) + pb_work_bytes(l->w) + pb_work_bytes(l->bias) +
                 pb_work_bytes(l->y) + pb_work_bytes(l->pre),
    };
}

void pb_check_gelu_linear_bwd(pb_check *c, const void *args) {
    const pb_gelu_linear_bwd_args *l = args;
    if (!pb_check_mat(c, PB_ARG(l, dy), PB_REAL, -1, -1)) return;
    unsigned t = PB_IS(l->dy.dtype);
    if (!pb_check_mat(c, PB_ARG(l, w), t, pb_cols(l->dy), -1)) return;
    pb_check_mat(c, PB_ARG(l, pre), t, pb_rows(l->dy), pb_cols(l->w));
    pb_check_mat(c, PB_ARG(l, dx), t, pb_rows(l->dy), pb_cols(l->w));
    pb_check_apart(c, PB_ARG(l, dx), PB_ARG(l, dy));
    pb_check_apart(c, PB_ARG(l, dx), PB_ARG(l, w));
    pb_check_apart(c, PB_ARG(l, dx), PB_ARG(l, pre));
}

pb_work pb_work_gelu_linear_bwd(const void *args) {
    const pb_gelu_linear_bwd_args *l = args;
    double dx = (double)pb_numel(l->dx);
    return (pb_work){
        .flops = 2.0 * dx * (double)pb_cols(l->dy),
        .flops_else = dx * PB_COST_GELU_TANH_SLOPE,
        .bytes = pb_work_bytes(l->dy) + pb_work_bytes(l->w) + pb_work_bytes(l->pre) +
                 pb_work_bytes(l->dx),
    };
}

void pb_check_quantize4(pb_check *c, const void *args) {
    const pb_quantize4_args *q = args;
    pb_check_quant4(c, &q->q);
    pb_check_mat(c, PB_ARG(q, src), or_master(q->q.compute), q->q.out, q->q.in);
}

pb_work pb_work_quantize4(const void *args) {
    const pb_quantize4_args *q = args;
    /* |w|, largest, scaled, 4 to search, packed */
    return (pb_work){.flops_else = 8.0 * (double)pb_numel(q->src),
                     .bytes = pb_work_bytes(q->src) + pb_work_quant_bytes(&q->q)};
}

void pb_check_dequantize4(pb_check *c, const void *args) {
    const pb_dequantize4_args *q = args;
    pb_check_quant4(c, &q->q);
    pb_check_mat(c, PB_ARG(q, dst), or_master(q->q.compute), q->q.out, q->q.in);
}

pb_work pb_work_dequantize4(const void *args) {
    const pb_dequantize4_args *q = args;
    return (pb_work){.flops_else = DECODE * (double)pb_numel(q->dst),
                     .bytes = pb_work_bytes(q->dst) + pb_work_quant_bytes(&q->q)};
}

void pb_check_lowrank(pb_check *c, const void *args) {
    const pb_lowrank_args *l = args;
    if (!pb_check_mat(c, PB_ARG(l, x), PB_REAL, -1, -1)) return;
    unsigned t = PB_IS(l->x.dtype);
    int64_t n = pb_rows(l->x), in = pb_cols(l->x);
    if (!pb_check_mat(c, PB_ARG(l, a), t, -1, in) ||
        !pb_check_mat(c, PB_ARG(l, b), t, -1, pb_rows(l->a)))
        return;
    int64_t r = pb_rows(l->a), out = pb_rows(l->b);
    pb_check_opt_vec(c, PB_ARG(l, e), t, r);
    pb_check_mat(c, PB_ARG(l, y), t, n, out);
    pb_check_mat(c, PB_ARG(l, h), t, n, r);
    pb_check_drop(c, l->drop);
    pb_check_apart(c, PB_ARG(l, y), PB_ARG(l, x));
    pb_check_apart(c, PB_ARG(l, y), PB_ARG(l, h));
    pb_check_apart(c, PB_ARG(l, y), PB_ARG(l, b));
    pb_check_apart(c, PB_ARG(l, h), PB_ARG(l, x));
    pb_check_apart(c, PB_ARG(l, h), PB_ARG(l, a));
}

pb_work pb_work_lowrank(const void *args) {
    const pb_lowrank_args *l = args;
    double n = (double)pb_rows(l->x), in = (double)pb_cols(l->x), out = (double)pb_cols(l->y);
    double r = (double)pb_rows(l->a);
    return (pb_work){
        .flops = 2.0 * n * r * (in + out),
        .flops_else = n * out + (pb_has(l->e) ? n * r : 0.0) +
                      (l->drop.p > 0.0f ? PB_COST_DROP * n * in : 0.0),
        .bytes = pb_work_bytes(l->x) + pb_work_bytes(l->a) + pb_work_bytes(l->b) +
                 pb_work_bytes(l->e) + pb_work_bytes(l->h) + 2.0 * pb_work_bytes(l->y),
    };
}

static void check_lowrank_outputs(pb_check *c, const pb_lowrank_bwd_args *l) {
    const pb_tensor outs[4] = {l->dx, l->da, l->de, l->db};
    const pb_tensor ins[6] = {l->x, l->h, l->a, l->e, l->b, l->dy};
    static const char *const on[4] = {"dx", "da", "de", "db"}, *const in[6] = {"x", "h", "a",
                                                                               "e", "b", "dy"};
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 6; j++) pb_check_apart(c, on[i], outs[i], in[j], ins[j]);
        for (int j = 0; j < i; j++) pb_check_apart(c, on[i], outs[i], on[j], outs[j]);
    }
}

void pb_check_lowrank_bwd(pb_check *c, const void *args) {
    const pb_lowrank_bwd_args *l = args;
    if (!pb_check_mat(c, PB_ARG(l, x), PB_REAL, -1, -1)) return;
    unsigned t = PB_IS(l->x.dtype), m = PB_IS(pb_dtype_master(l->x.dtype));
    int64_t n = pb_rows(l->x), in = pb_cols(l->x);
    if (!pb_check_mat(c, PB_ARG(l, a), t, -1, in) ||
        !pb_check_mat(c, PB_ARG(l, b), t, -1, pb_rows(l->a)))
        return;
    int64_t r = pb_rows(l->a), out = pb_rows(l->b);
    pb_check_mat(c, PB_ARG(l, h), t, n, r);
    pb_check_opt_vec(c, PB_ARG(l, e), t, r);
    pb_check_mat(c, PB_ARG(l, dy), t, n, out);
    pb_check_opt_mat(c, PB_ARG(l, dx), t, n, in);
    pb_check_opt_mat(c, PB_ARG(l, da), m, r, in);
    pb_check_opt_vec(c, PB_ARG(l, de), m, r);
    pb_check_opt_mat(c, PB_ARG(l, db), m, out, r);
    pb_check_true(c, pb_has(l->e) || !pb_has(l->de), "de only with e");
    pb_check_drop(c, l->drop);
    check_lowrank_outputs(c, l);
}

pb_work pb_work_lowrank_bwd(const void *args) {
    const pb_lowrank_bwd_args *l = args;
    double n = (double)pb_rows(l->x), in = (double)pb_cols(l->x), out = (double)pb_cols(l->dy);
    double r = (double)pb_rows(l->a);
    bool dx = pb_has(l->dx), da = pb_has(l->da), db = pb_has(l->db);
    bool through = dx || da || pb_has(l->de); /* needs dq = g B */
    return (pb_work){
        .flops = 2.0 * n * r *
                 (out * ((db ? 1.0 : 0.0) + (through ? 1.0 : 0.0)) +
                  in * ((da ? 1.0 : 0.0) + (dx ? 1.0 : 0.0))),
        /* scale and e with the thin matrices; the mask of x for da, and of dx */
        .flops_else = n * r * (1.0 + (pb_has(l->e) ? 2.0 : 0.0) + (pb_has(l->de) ? 1.0 : 0.0)) +
                      (dx && l->beta_dx != 0.0 ? n * in : 0.0) +
                      (l->drop.p > 0.0f && (da || dx) ? PB_COST_DROP * n * in : 0.0) +
                      (l->drop.p > 0.0f && da && dx ? n * in : 0.0),
        .bytes = pb_work_bytes(l->dy) + pb_work_bytes(l->e) + (da ? pb_work_bytes(l->x) : 0.0) +
                 (db || pb_has(l->de) ? pb_work_bytes(l->h) : 0.0) +
                 (dx ? pb_work_bytes(l->a) : 0.0) + (through ? pb_work_bytes(l->b) : 0.0) +
                 pb_work_bytes(l->dx) * (l->beta_dx != 0.0 ? 2.0 : 1.0) +
                 2.0 * (pb_work_bytes(l->da) + pb_work_bytes(l->de) + pb_work_bytes(l->db)),
    };
}

/* --- norms of weights ------------------------------------------------------------------------- */

static pb_dtype weight_dtype(pb_weight w) {
    return w.quant != NULL ? w.quant->compute : w.dense.dtype;
}

static bool check_any_weight(pb_check *c, pb_weight w) {
    pb_dtype t = weight_dtype(w);
    pb_check_true(c, t == PB_F32 || t == PB_BF16 || t == PB_F64, "w is of a real dtype");
    return pb_check_weight(c, w, t, -1, -1);
}

void pb_check_weight_norm2(pb_check *c, const void *args) {
    const pb_weight_norm2_args *a = args;
    if (!check_any_weight(c, a->w)) return;
    pb_check_vec(c, PB_ARG(a, y), PB_IS(pb_dtype_master(weight_dtype(a->w))), pb_weight_out(a->w));
    pb_check_apart(c, PB_ARG(a, y), "w.dense", a->w.dense);
}

pb_work pb_work_weight_norm2(const void *args) {
    const pb_weight_norm2_args *a = args;
    double n = (double)pb_weight_out(a->w) * (double)pb_weight_in(a->w);
    return (pb_work){.flops_else = (a->w.quant != NULL ? 1.0 + DECODE : 1.0) * n,
                     .bytes = pb_work_weight_bytes(a->w) + pb_work_bytes(a->y)};
}

void pb_check_dora_norm(pb_check *c, const void *args) {
    const pb_dora_norm_args *d = args;
    if (!check_any_weight(c, d->w)) return;
    pb_dtype t = weight_dtype(d->w);
    unsigned m = PB_IS(pb_dtype_master(t));
    int64_t out = pb_weight_out(d->w), in = pb_weight_in(d->w);
    if (!pb_check_mat(c, PB_ARG(d, a), PB_IS(t), -1, in)) return;
    pb_check_mat(c, PB_ARG(d, b), PB_IS(t), out, pb_rows(d->a));
    pb_check_vec(c, PB_ARG(d, w2), m, out);
    pb_check_vec(c, PB_ARG(d, m), m, out);
    pb_check_vec(c, PB_ARG(d, n), m, out);
    pb_check_vec(c, PB_ARG(d, c), m, out);
    pb_check_apart(c, PB_ARG(d, n), PB_ARG(d, m));
    pb_check_apart(c, PB_ARG(d, n), PB_ARG(d, w2));
    pb_check_apart(c, PB_ARG(d, n), PB_ARG(d, c));
    pb_check_apart(c, PB_ARG(d, c), PB_ARG(d, m));
    pb_check_apart(c, PB_ARG(d, c), PB_ARG(d, w2));
}

pb_work pb_work_dora_norm(const void *args) {
    const pb_dora_norm_args *d = args;
    double out = (double)pb_weight_out(d->w), in = (double)pb_weight_in(d->w),
           r = (double)pb_rows(d->a);
    return (pb_work){
        .flops = 2.0 * out * in * r + 2.0 * r * r * in + 2.0 * out * r * r,
        .flops_else = out * (2.0 * r + 6.0) + (d->w.quant != NULL ? DECODE * out * in : 0.0),
        .bytes = pb_work_weight_bytes(d->w) + pb_work_bytes(d->a) + pb_work_bytes(d->b) +
                 pb_work_bytes(d->w2) + pb_work_bytes(d->m) + pb_work_bytes(d->n) +
                 pb_work_bytes(d->c),
    };
}

void pb_check_dora_exact(pb_check *c, const void *args) {
    const pb_dora_exact_args *d = args;
    if (!pb_check_mat(c, PB_ARG(d, g), PB_IS(PB_F32) | PB_IS(PB_F64), -1, -1)) return;
    unsigned t = PB_IS(d->g.dtype);
    pb_check_mat(c, PB_ARG(d, v), t, pb_rows(d->g), pb_cols(d->g));
    pb_check_vec(c, PB_ARG(d, m), t, pb_rows(d->g));
    pb_check_vec(c, PB_ARG(d, n), t, pb_rows(d->g));
    pb_check_apart(c, PB_ARG(d, g), PB_ARG(d, v));
}

pb_work pb_work_dora_exact(const void *args) {
    const pb_dora_exact_args *d = args;
    return (pb_work){.flops_else = 3.0 * (double)pb_numel(d->g), /* dot, along v, scaled */
                     .bytes = 2.0 * pb_work_bytes(d->g) + pb_work_bytes(d->v) +
                              pb_work_bytes(d->m) + pb_work_bytes(d->n)};
}
