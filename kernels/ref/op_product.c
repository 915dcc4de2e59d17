/* Products: gemm, linear, the low-rank branch forward and backward. */
#include "kernels/ref/ref.h"

static pb_status gemm(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_gemm_args *g = args;
    int64_t m = pb_rows(g->c), n = pb_cols(g->c),
            inner = g->trans_a ? pb_rows(g->a) : pb_cols(g->a);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (int64_t k = 0; k < inner; k++) {
                double a = g->trans_a ? ref_get(g->a, k, i) : ref_get(g->a, i, k);
                double b = g->trans_b ? ref_get(g->b, j, k) : ref_get(g->b, k, j);
                sum += a * b;
            }
            double bias = pb_has(g->bias) ? ref_at(g->bias, j) : 0.0;
            ref_mix(g->c, i, j, g->beta, g->alpha * sum + bias);
        }
    }
    return PB_OK;
}

/* from + sum over k of x[i,k] w[j,k], or w[k,j]. */
static double layer_sum(pb_tensor x, pb_weight w, bool transpose, int64_t i, int64_t j, double from) {
    for (int64_t k = 0; k < pb_cols(x); k++)
        from += ref_get(x, i, k) * (transpose ? ref_weight(w, k, j) : ref_weight(w, j, k));
    return from;
}

static pb_status linear(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_linear_args *l = args;
    for (int64_t i = 0; i < pb_rows(l->x); i++) {
        for (int64_t j = 0; j < pb_cols(l->y); j++) {
            double bias = pb_has(l->bias) ? ref_at(l->bias, j) : 0.0;
            ref_mix(l->y, i, j, l->beta, layer_sum(l->x, l->w, l->transpose, i, j, bias));
        }
    }
    return PB_OK;
}

static pb_status linear_gelu(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_linear_gelu_args *l = args;
    for (int64_t i = 0; i < pb_rows(l->x); i++) {
        for (int64_t j = 0; j < pb_rows(l->w); j++) {
            double bias = pb_has(l->bias) ? ref_at(l->bias, j) : 0.0;
            double sum = layer_sum(l->x, (pb_weight){.dense = l->w}, false, i, j, bias);
            if (pb_has(l->pre)) ref_set(l->pre, i, j, sum);
            ref_set(l->y, i, j, ref_act(PB_ACT_GELU_TANH, sum));
        }
    }
    return PB_OK;
}

static pb_status gelu_linear_bwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_gelu_linear_bwd_args *l = args;
    for (int64_t i = 0; i < pb_rows(l->dy); i++) {
        for (int64_t j = 0; j < pb_cols(l->w); j++) {
            double sum = layer_sum(l->dy, (pb_weight){.dense = l->w}, true, i, j, 0.0);
            ref_set(l->dx, i, j, ref_act_slope(PB_ACT_GELU_TANH, ref_get(l->pre, i, j)) * sum);
        }
    }
    return PB_OK;
}

static double e_of(pb_tensor e, int64_t k) { return pb_has(e) ? ref_at(e, k) : 1.0; }

/* x[N,in], a[r,in], b[out,r], h[N,r], y[N,out] */
static pb_status lowrank(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_lowrank_args *l = args;
    int64_t n = pb_rows(l->x), in = pb_cols(l->x), r = pb_rows(l->a), out = pb_cols(l->y);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < r; k++) {
            double sum = 0.0;
            for (int64_t c = 0; c < in; c++) {
                sum += ref_get(l->x, i, c) * ref_keep(l->drop, i * in + c) * ref_get(l->a, k, c);
            }
            ref_set(l->h, i, k, sum);
        }
        for (int64_t j = 0; j < out; j++) {
            double sum = 0.0;
            for (int64_t k = 0; k < r; k++)
                sum += ref_get(l->h, i, k) * e_of(l->e, k) * ref_get(l->b, j, k);
            ref_add(l->y, i, j, l->scale * sum);
        }
    }
    return PB_OK;
}

/* ws: dq [N,r] in double. */
static size_t lowrank_bwd_workspace(const pb_device *dev, const void *args) {
    (void)dev;
    const pb_lowrank_bwd_args *l = args;
    return (size_t)pb_numel(l->h) * sizeof(double);
}

/* db[out,r] += g^T (h .* e); de[r] += sum_N dq .* h */
static void lowrank_bwd_b_e(const pb_lowrank_bwd_args *l, const double *dq) {
    int64_t n = pb_rows(l->x), r = pb_rows(l->a), out = pb_cols(l->dy);
    for (int64_t k = 0; k < r; k++) {
        for (int64_t j = 0; pb_has(l->db) && j < out; j++) {
            double sum = 0.0;
            for (int64_t i = 0; i < n; i++)
                sum += ref_get(l->dy, i, j) * ref_get(l->h, i, k) * e_of(l->e, k);
            ref_add(l->db, j, k, l->scale * sum);
        }
        if (!pb_has(l->de)) continue;
        double sum = 0.0;
        for (int64_t i = 0; i < n; i++) sum += dq[i * r + k] * ref_get(l->h, i, k);
        ref_add(l->de, 0, k, sum);
    }
}

/* dh = dq .* e; da[r,in] += dh^T u; dx[N,in] = beta_dx dx + D'(dh A) */
static pb_status lowrank_bwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    const pb_lowrank_bwd_args *l = args;
    double *dq = ws;
    int64_t n = pb_rows(l->x), in = pb_cols(l->x), r = pb_rows(l->a), out = pb_cols(l->dy);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < r; k++) {
            double sum = 0.0;
            for (int64_t j = 0; j < out; j++) sum += ref_get(l->dy, i, j) * ref_get(l->b, j, k);
            dq[i * r + k] = l->scale * sum;
        }
    }
    lowrank_bwd_b_e(l, dq);
    for (int64_t k = 0; pb_has(l->da) && k < r; k++) {
        for (int64_t c = 0; c < in; c++) {
            double sum = 0.0;
            for (int64_t i = 0; i < n; i++) {
                sum += dq[i * r + k] * ref_get(l->x, i, c) * ref_keep(l->drop, i * in + c);
            }
            ref_add(l->da, k, c, e_of(l->e, k) * sum);
        }
    }
    for (int64_t i = 0; pb_has(l->dx) && i < n; i++) {
        for (int64_t c = 0; c < in; c++) {
            double sum = 0.0;
            for (int64_t k = 0; k < r; k++)
                sum += dq[i * r + k] * e_of(l->e, k) * ref_get(l->a, k, c);
            ref_mix(l->dx, i, c, l->beta_dx, ref_keep(l->drop, i * in + c) * sum);
        }
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_gemm, "plain", NULL, gemm},
    {PB_OP_linear, "plain", NULL, linear},
    {PB_OP_linear_gelu, "plain", NULL, linear_gelu},
    {PB_OP_gelu_linear_bwd, "plain", NULL, gelu_linear_bwd},
    {PB_OP_lowrank, "plain", NULL, lowrank},
    {PB_OP_lowrank_bwd, "plain", lowrank_bwd_workspace, lowrank_bwd},
};
const pb_kernel_set pb_kernels_ref_product = REF_SET(kernels);
