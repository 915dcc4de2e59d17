/* Checks and work of pointwise ops, normalisation, column and whole-tensor reductions. */
#include "kernels/core/check.h"
#include "kernels/core/cost.h"

static double numel(pb_tensor t) { return (double)pb_numel(t); }
static double twice_if(double beta) {
    return beta != 0.0 ? 2.0 : 1.0;
} /* traffic of an output that is also read */

static double drop_cost(pb_drop drop) { return drop.p > 0.0f ? PB_COST_DROP : 0.0; }

/* name has the dtype and the shape of `like`. */
static bool check_like(pb_check *c, const char *name, pb_tensor t, pb_tensor like) {
    return pb_check_mat(c, name, t, PB_IS(like.dtype), pb_rows(like), pb_cols(like));
}

/* Value, and slope times dy. */
static double act_cost(pb_act act) {
    static const double cost[PB_ACT_COUNT] = {[PB_ACT_GELU] = PB_COST_PHI + 1.0,
                                              [PB_ACT_GELU_TANH] = PB_COST_GELU_TANH,
                                              [PB_ACT_RELU] = 1.0,
                                              [PB_ACT_SILU] = PB_COST_SIGMOID + 1.0};
    return (unsigned)act < PB_ACT_COUNT ? cost[act] : 0.0;
}

static double act_slope_cost(pb_act act) {
    static const double cost[PB_ACT_COUNT] = {[PB_ACT_GELU] = PB_COST_PHI + 3.0,
                                              [PB_ACT_GELU_TANH] = PB_COST_GELU_TANH_SLOPE,
                                              [PB_ACT_RELU] = 2.0,
                                              [PB_ACT_SILU] = PB_COST_SIGMOID + 4.0};
    return (unsigned)act < PB_ACT_COUNT ? cost[act] : 0.0;
}

void pb_check_act_fwd(pb_check *c, const void *args) {
    const pb_act_fwd_args *a = args;
    pb_check_true(c, (unsigned)a->act < PB_ACT_COUNT, "act is one of pb_act");
    pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1);
    check_like(c, PB_ARG(a, y), a->x);
    pb_check_same_or_apart(c, PB_ARG(a, y), PB_ARG(a, x));
}

pb_work pb_work_act_fwd(const void *args) {
    const pb_act_fwd_args *a = args;
    return (pb_work){.flops_else = act_cost(a->act) * numel(a->x),
                     .bytes = pb_work_bytes(a->x) + pb_work_bytes(a->y)};
}

void pb_check_act_bwd(pb_check *c, const void *args) {
    const pb_act_bwd_args *a = args;
    pb_check_true(c, (unsigned)a->act < PB_ACT_COUNT, "act is one of pb_act");
    pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1);
    check_like(c, PB_ARG(a, dy), a->x);
    check_like(c, PB_ARG(a, dx), a->x);
    pb_check_same_or_apart(c, PB_ARG(a, dx), PB_ARG(a, dy));
    pb_check_apart(c, PB_ARG(a, dx), PB_ARG(a, x));
}

pb_work pb_work_act_bwd(const void *args) {
    const pb_act_bwd_args *a = args;
    return (pb_work){.flops_else = act_slope_cost(a->act) * numel(a->x),
                     .bytes = pb_work_bytes(a->x) + pb_work_bytes(a->dy) + pb_work_bytes(a->dx)};
}

void pb_check_swiglu_fwd(pb_check *c, const void *args) {
    const pb_swiglu_fwd_args *a = args;
    pb_check_mat(c, PB_ARG(a, gate), PB_REAL, -1, -1);
    check_like(c, PB_ARG(a, up), a->gate);
    check_like(c, PB_ARG(a, y), a->gate);
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, gate));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, up));
}

pb_work pb_work_swiglu_fwd(const void *args) {
    const pb_swiglu_fwd_args *a = args;
    return (pb_work){.flops_else = (PB_COST_SIGMOID + 2.0) * numel(a->gate),
                     .bytes = pb_work_bytes(a->gate) + pb_work_bytes(a->up) + pb_work_bytes(a->y)};
}

void pb_check_swiglu_bwd(pb_check *c, const void *args) {
    const pb_swiglu_bwd_args *a = args;
    pb_check_mat(c, PB_ARG(a, gate), PB_REAL, -1, -1);
    check_like(c, PB_ARG(a, up), a->gate);
    check_like(c, PB_ARG(a, dy), a->gate);
    check_like(c, PB_ARG(a, dgate), a->gate);
    check_like(c, PB_ARG(a, dup), a->gate);
    pb_check_same_or_apart(c, PB_ARG(a, dgate), PB_ARG(a, dy));
    pb_check_apart(c, PB_ARG(a, dgate), PB_ARG(a, gate));
    pb_check_apart(c, PB_ARG(a, dgate), PB_ARG(a, up));
    pb_check_apart(c, PB_ARG(a, dup), PB_ARG(a, dy));
    pb_check_apart(c, PB_ARG(a, dup), PB_ARG(a, gate));
    pb_check_apart(c, PB_ARG(a, dup), PB_ARG(a, up));
    pb_check_apart(c, PB_ARG(a, dup), PB_ARG(a, dgate));
}

pb_work pb_work_swiglu_bwd(const void *args) {
    const pb_swiglu_bwd_args *a = args;
    return (pb_work){.flops_else = (PB_COST_SIGMOID + 7.0) * numel(a->gate),
                     .bytes = 5.0 * pb_work_bytes(a->gate)};
}

void pb_check_dropout(pb_check *c, const void *args) {
    const pb_dropout_args *a = args;
    pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1);
    check_like(c, PB_ARG(a, y), a->x);
    pb_check_drop(c, a->drop);
    if (a->beta == 0.0) pb_check_same_or_apart(c, PB_ARG(a, y), PB_ARG(a, x));
    if (a->beta != 0.0) pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, x));
}

pb_work pb_work_dropout(const void *args) {
    const pb_dropout_args *a = args;
    double per = drop_cost(a->drop) + (a->beta != 0.0 ? 1.0 : 0.0);
    return (pb_work){.flops_else = per * numel(a->x),
                     .bytes = pb_work_bytes(a->x) + pb_work_bytes(a->y) * twice_if(a->beta)};
}

/* --- normalisation ---------------------------------------------------------------------------- */

void pb_check_norm_fwd(pb_check *c, const void *args) {
    const pb_norm_fwd_args *a = args;
    bool layer = a->norm == PB_NORM_LAYER;
    if (!pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1)) return;
    unsigned t = PB_IS(a->x.dtype), m = PB_IS(pb_dtype_master(a->x.dtype));
    int64_t n = pb_rows(a->x), k = pb_cols(a->x);
    pb_check_opt_mat(c, PB_ARG(a, res), t, n, k);
    pb_check_vec(c, PB_ARG(a, gamma), t, k);
    if (layer) pb_check_vec(c, PB_ARG(a, beta), t, k);
    if (layer) pb_check_vec(c, PB_ARG(a, mean), m, n);
    pb_check_true(c, layer || !pb_has(a->beta), "beta only with LAYER");
    pb_check_vec(c, PB_ARG(a, rstd), m, n);
    pb_check_mat(c, PB_ARG(a, y), t, n, k);
    pb_check_opt_mat(c, PB_ARG(a, sum), t, n, k);
    pb_check_true(c, a->eps >= 0.0, "eps >= 0");
    pb_check_drop(c, a->drop);
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, x));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, res));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, sum));
    if (pb_has(a->sum)) {
        pb_check_same_or_apart(c, PB_ARG(a, sum), PB_ARG(a, x));
        if (pb_has(a->res)) pb_check_same_or_apart(c, PB_ARG(a, sum), PB_ARG(a, res));
    }
}

pb_work pb_work_norm_fwd(const void *args) {
    const pb_norm_fwd_args *a = args;
    /* Sum, centred squares 2, result 3; for RMS squares and two products. */
    double per = (a->norm == PB_NORM_LAYER ? 6.0 : 3.0) + (pb_has(a->res) ? 1.0 : 0.0) +
                 drop_cost(a->drop);
    return (pb_work){
        .flops_else = per * numel(a->x),
        .bytes = pb_work_bytes(a->x) + pb_work_bytes(a->res) + pb_work_bytes(a->gamma) +
                 pb_work_bytes(a->beta) + pb_work_bytes(a->y) + pb_work_bytes(a->sum) +
                 pb_work_bytes(a->mean) + pb_work_bytes(a->rstd),
    };
}

void pb_check_norm_bwd(pb_check *c, const void *args) {
    const pb_norm_bwd_args *a = args;
    bool layer = a->norm == PB_NORM_LAYER;
    if (!pb_check_mat(c, PB_ARG(a, dy), PB_REAL, -1, -1)) return;
    unsigned t = PB_IS(a->dy.dtype), m = PB_IS(pb_dtype_master(a->dy.dtype));
    int64_t n = pb_rows(a->dy), k = pb_cols(a->dy);
    pb_check_mat(c, PB_ARG(a, sum), t, n, k);
    pb_check_vec(c, PB_ARG(a, gamma), t, k);
    if (layer) pb_check_vec(c, PB_ARG(a, mean), m, n);
    pb_check_vec(c, PB_ARG(a, rstd), m, n);
    pb_check_mat(c, PB_ARG(a, dx), t, n, k);
    pb_check_opt_vec(c, PB_ARG(a, dgamma), m, k);
    pb_check_opt_vec(c, PB_ARG(a, dbeta), m, k);
    pb_check_true(c, layer || !pb_has(a->dbeta), "dbeta only with LAYER");
    if (a->beta_dx == 0.0) pb_check_same_or_apart(c, PB_ARG(a, dx), PB_ARG(a, dy));
    if (a->beta_dx != 0.0) pb_check_apart(c, PB_ARG(a, dx), PB_ARG(a, dy));
    pb_check_apart(c, PB_ARG(a, dx), PB_ARG(a, sum));
}

pb_work pb_work_norm_bwd(const void *args) {
    const pb_norm_bwd_args *a = args;
    /* dy gamma, xhat 2 (RMS 1), two sums (one), result 3 (two). */
    double per = (a->norm == PB_NORM_LAYER ? 8.0 : 5.0) + (pb_has(a->dgamma) ? 1.0 : 0.0) +
                 (pb_has(a->dbeta) ? 1.0 : 0.0);
    return (pb_work){
        .flops_else = per * numel(a->dy),
        .bytes = pb_work_bytes(a->dy) + pb_work_bytes(a->sum) + pb_work_bytes(a->gamma) +
                 pb_work_bytes(a->mean) + pb_work_bytes(a->rstd) +
                 pb_work_bytes(a->dx) * twice_if(a->beta_dx) +
                 2.0 * (pb_work_bytes(a->dgamma) + pb_work_bytes(a->dbeta)),
    };
}

/* --- linear combinations and reductions ------------------------------------------------------- */

void pb_check_axpby(pb_check *c, const void *args) {
    const pb_axpby_args *a = args;
    pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1);
    pb_check_mat(c, PB_ARG(a, y), PB_REAL, pb_rows(a->x), pb_cols(a->x));
    pb_check_same_or_apart(c, PB_ARG(a, y), PB_ARG(a, x));
}

pb_work pb_work_axpby(const void *args) {
    const pb_axpby_args *a = args;
    return (pb_work){.flops_else = (a->beta != 0.0 ? 2.0 : 1.0) * numel(a->x),
                     .bytes = pb_work_bytes(a->x) + pb_work_bytes(a->y) * twice_if(a->beta)};
}

void pb_check_scale_cols(pb_check *c, const void *args) {
    const pb_scale_cols_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1)) return;
    unsigned tm = PB_IS(a->x.dtype) | PB_IS(pb_dtype_master(a->x.dtype));
    pb_check_vec(c, PB_ARG(a, c), tm, pb_cols(a->x));
    pb_check_opt_vec(c, PB_ARG(a, bias), tm, pb_cols(a->x));
    check_like(c, PB_ARG(a, y), a->x);
    if (a->beta == 0.0) pb_check_same_or_apart(c, PB_ARG(a, y), PB_ARG(a, x));
    if (a->beta != 0.0) pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, x));
}

pb_work pb_work_scale_cols(const void *args) {
    const pb_scale_cols_args *a = args;
    double per = 1.0 + (a->beta != 0.0 ? 1.0 : 0.0); /* the bias is part of a multiply-add */
    return (pb_work){.flops_else = per * numel(a->x),
                     .bytes = pb_work_bytes(a->x) + pb_work_bytes(a->c) + pb_work_bytes(a->bias) +
                              pb_work_bytes(a->y) * twice_if(a->beta)};
}

void pb_check_coldot(pb_check *c, const void *args) {
    const pb_coldot_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, a), PB_REAL, -1, -1)) return;
    unsigned m = PB_IS(pb_dtype_master(a->a.dtype));
    pb_check_opt_mat(c, PB_ARG(a, b), PB_IS(a->a.dtype), pb_rows(a->a), pb_cols(a->a));
    pb_check_opt_vec(c, PB_ARG(a, div), m, pb_cols(a->a));
    pb_check_vec(c, PB_ARG(a, y), m, pb_cols(a->a));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, a));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, b));
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, div));
}

pb_work pb_work_coldot(const void *args) {
    const pb_coldot_args *a = args;
    return (pb_work){.flops_else = numel(a->a),
                     .bytes = pb_work_bytes(a->a) + pb_work_bytes(a->b) + pb_work_bytes(a->div) +
                              2.0 * pb_work_bytes(a->y)};
}

void pb_check_reduce(pb_check *c, const void *args) {
    const pb_reduce_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, x), PB_REAL, -1, -1)) return;
    pb_check_vec(c, PB_ARG(a, y), PB_IS(pb_dtype_master(a->x.dtype)), 1);
    pb_check_apart(c, PB_ARG(a, y), PB_ARG(a, x));
}

pb_work pb_work_reduce(const void *args) {
    const pb_reduce_args *a = args;
    return (pb_work){.flops_else = numel(a->x),
                     .bytes = pb_work_bytes(a->x) + pb_work_bytes(a->y) * twice_if(a->beta)};
}

void pb_check_fill_uniform(pb_check *c, const void *args) {
    const pb_fill_uniform_args *a = args;
    pb_check_vec(c, PB_ARG(a, x), PB_REAL, -1);
    pb_check_true(c, a->lo <= a->hi, "lo <= hi");
}

pb_work pb_work_fill_uniform(const void *args) {
    const pb_fill_uniform_args *a = args;
    return (pb_work){.flops_else = (PB_COST_RANDOM + 2.0) * numel(a->x),
                     .bytes = pb_work_bytes(a->x)};
}
