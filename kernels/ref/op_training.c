/* AdaLoRA's importance and orthogonality, AdamW with full and 8-bit moments, the global gradient
 * norm. */
#include <math.h>

#include "kernels/core/quant.h"
#include "kernels/ref/ref.h"

/* Zhang et al. 2023, eq. 8-10; ubar uses the ibar just updated. */
static pb_status importance(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_importance_args *a = args;
    int64_t rows = pb_rows(a->w), cols = pb_cols(a->w);
    double grad_scale = pb_has(a->grad_scale) ? ref_at(a->grad_scale, 0) : 1.0;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) {
            double i = fabs(ref_get(a->w, r, c) * ref_get(a->g, r, c) * grad_scale);
            double ibar = a->beta1 * ref_get(a->ibar, r, c) + (1.0 - a->beta1) * i;
            double ubar = a->beta2 * ref_get(a->ubar, r, c) + (1.0 - a->beta2) * fabs(i - ibar);
            ref_set(a->ibar, r, c, ibar);
            ref_set(a->ubar, r, c, ubar);
        }
    }
    for (int64_t k = 0; k < (a->by_col ? cols : rows); k++) {
        int64_t n = a->by_col ? rows : cols;
        double sum = 0.0;
        for (int64_t i = 0; i < n; i++) {
            int64_t r = a->by_col ? i : k, c = a->by_col ? k : i;
            sum += ref_get(a->ibar, r, c) * ref_get(a->ubar, r, c);
        }
        if (n > 0) ref_add(a->score, 0, k, sum / (double)n);
    }
    return PB_OK;
}

static pb_status orthogonality(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_orthogonality_args *a = args;
    int64_t r = pb_rows(a->gram);
    double square = 0.0;
    for (int64_t i = 0; i < r; i++) {
        for (int64_t j = 0; j < r; j++) {
            double v = ref_get(a->gram, i, j) - (i == j ? 1.0 : 0.0);
            square += v * v;
        }
    }
    double norm = sqrt(square), factor = norm > 0.0 ? 2.0 * a->weight / norm : 0.0;
    if (isnan(norm)) factor = norm;
    ref_add(a->loss, 0, 0, a->weight * norm);
    for (int64_t i = 0; i < r; i++) {
        for (int64_t j = 0; j < r; j++) {
            ref_set(a->gram, i, j, factor * (ref_get(a->gram, i, j) - (i == j ? 1.0 : 0.0)));
        }
    }
    return PB_OK;
}

/* --- AdamW ------------------------------------------------------------------------------------ */

typedef struct adam_rule {
    double beta1, beta2, eps, correct1, correct2, grad_scale;
} adam_rule;

static adam_rule rule_of(double beta1, double beta2, double eps, int64_t step,
                         pb_tensor grad_scale) {
    adam_rule r = {.beta1 = beta1, .beta2 = beta2, .eps = eps};
    r.correct1 = 1.0 - pow(beta1, (double)step);
    r.correct2 = 1.0 - pow(beta2, (double)step);
    r.grad_scale = pb_has(grad_scale) ? ref_at(grad_scale, 0) : 1.0;
    return r;
}

/* Loshchilov & Hutter 2019, in the order of torch.optim.AdamW. Returns the new weight; m and v are
 * updated. */
static double adam_step(const adam_rule *rule, double w, double g, double lr, double decay,
                        double *m, double *v) {
    g *= rule->grad_scale;
    w *= 1.0 - lr * decay;
    *m = rule->beta1 * *m + (1.0 - rule->beta1) * g;
    *v = rule->beta2 * *v + (1.0 - rule->beta2) * g * g;
    return w - lr * (*m / rule->correct1) / (sqrt(*v / rule->correct2) + rule->eps);
}

static pb_status adamw(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_adamw_args *a = args;
    adam_rule rule = rule_of(a->beta1, a->beta2, a->eps, a->step, a->grad_scale);
    for (int t = 0; t < a->n; t++) {
        const pb_adamw_item *it = &a->items[t];
        for (int64_t i = 0; i < pb_numel(it->w); i++) {
            double m = ref_at(it->m, i), v = ref_at(it->v, i);
            double w = adam_step(&rule, ref_at(it->w, i), ref_at(it->g, i), it->lr,
                                 it->weight_decay, &m, &v);
            ref_put(it->w, i, w);
            ref_put(it->m, i, m);
            ref_put(it->v, i, v);
            if (pb_has(it->copy)) ref_put(it->copy, i, ref_at(it->w, i));
        }
    }
    return PB_OK;
}

/* Codes and absmax of one block of new moments, f32 arithmetic. */
static void store_moments(const float *map, const float *x, int64_t n, uint8_t *codes,
                          pb_tensor absmax, int64_t block) {
    float most = 0.0f;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    float inverse = pb_quant_inverse(most);
    for (int64_t i = 0; i < n; i++) codes[i] = (uint8_t)pb_dynamic_encode(map, x[i] * inverse);
    ref_put(absmax, block, (double)most);
}

/* Dettmers et al. 2022: decode, step with the exact new moments, encode. */
static void adamw8_block(const adam_rule *rule, const pb_adamw8_item *it, int64_t from, int64_t n) {
    const float *map_m = pb_dynamic_map_signed(), *map_v = pb_dynamic_map_unsigned();
    int64_t block = from / PB_QUANT8_BLOCK;
    uint8_t *mc = (uint8_t *)it->m.data + from, *vc = (uint8_t *)it->v.data + from;
    float m_absmax = (float)ref_at(it->m_absmax, block),
          v_absmax = (float)ref_at(it->v_absmax, block);
    float new_m[PB_QUANT8_BLOCK], new_v[PB_QUANT8_BLOCK];
    for (int64_t i = 0; i < n; i++) {
        double m = (double)(map_m[mc[i]] * m_absmax), v = (double)(map_v[vc[i]] * v_absmax);
        double w = ref_at(it->w, from + i), g = ref_at(it->g, from + i);
        ref_put(it->w, from + i, adam_step(rule, w, g, it->lr, it->weight_decay, &m, &v));
        if (pb_has(it->copy)) ref_put(it->copy, from + i, ref_at(it->w, from + i));
        new_m[i] = (float)m;
        new_v[i] = (float)v;
    }
    store_moments(map_m, new_m, n, mc, it->m_absmax, block);
    store_moments(map_v, new_v, n, vc, it->v_absmax, block);
}

static pb_status adamw8(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_adamw8_args *a = args;
    adam_rule rule = rule_of(a->beta1, a->beta2, a->eps, a->step, a->grad_scale);
    for (int t = 0; t < a->n; t++) {
        int64_t n = pb_numel(a->items[t].w);
        for (int64_t from = 0; from < n; from += PB_QUANT8_BLOCK) {
            adamw8_block(&rule, &a->items[t], from,
                         n - from < PB_QUANT8_BLOCK ? n - from : PB_QUANT8_BLOCK);
        }
    }
    return PB_OK;
}

static pb_status grad_norm(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_grad_norm_args *a = args;
    double sum = 0.0;
    for (int t = 0; t < a->n; t++) {
        for (int64_t r = 0; r < pb_rows(a->grads[t]); r++) {
            for (int64_t c = 0; c < pb_cols(a->grads[t]); c++) {
                sum += ref_get(a->grads[t], r, c) * ref_get(a->grads[t], r, c);
            }
        }
    }
    double norm = sqrt(sum), coef = a->max_norm / (norm + 1e-6);
    ref_put(a->norm, 0, norm);
    /* A NaN norm must give a NaN factor: !(coef > 1) keeps it. */
    ref_put(a->coef, 0, a->max_norm == 0.0 || coef > 1.0 ? 1.0 : coef);
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_importance, "plain", NULL, importance},
    {PB_OP_orthogonality, "plain", NULL, orthogonality},
    {PB_OP_adamw, "plain", NULL, adamw},
    {PB_OP_adamw8, "plain", NULL, adamw8},
    {PB_OP_grad_norm, "plain", NULL, grad_norm},
};
const pb_kernel_set pb_kernels_ref_training = REF_SET(kernels);
