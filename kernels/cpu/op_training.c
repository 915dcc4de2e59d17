/* AdamW with full and with 8-bit moments, the global gradient norm, AdaLoRA's importance and
 * orthogonality.
 *
 * All tensors of a call are one list of pieces, so that a hundred small LoRA factors cost one
 * parallel region. AdamW reads w, g, m, v and writes w, m, v (and the bf16 copy) in one pass: 28
 * bytes an element, 30 with the copy. */
#include <math.h>

#include "kernels/core/quant.h"
#include "kernels/cpu/cpu_quant.h"

static pb_status no_f64(const char *op) {
    return PB_ERROR(PB_E_UNSUPPORTED, "cpu: %s has no f64 kernel", op);
}

typedef struct rule {
    float beta1, rest1, beta2, rest2, eps, grad_scale;
    float step_factor, root_factor; /* 1/(1-beta1^t), 1/sqrt(1-beta2^t) */
} rule;

static rule rule_of(double beta1, double beta2, double eps, int64_t step, pb_tensor grad_scale) {
    rule r = {.beta1 = (float)beta1, .rest1 = (float)(1.0 - beta1), .beta2 = (float)beta2};
    r.rest2 = (float)(1.0 - beta2);
    r.eps = (float)eps;
    r.grad_scale = pb_has(grad_scale) ? *(const float *)grad_scale.data : 1.0f;
    r.step_factor = (float)(1.0 / (1.0 - pow(beta1, (double)step)));
    r.root_factor = (float)(1.0 / sqrt(1.0 - pow(beta2, (double)step)));
    return r;
}

/* Loshchilov & Hutter 2019, as torch.optim.AdamW: the weight after a step with new moments m, v. */
PB_INLINE float stepped(const rule *k, float w, float m, float v, float decay, float lr) {
    return w * decay - lr * (m * k->step_factor) / (sqrtf(v) * k->root_factor + k->eps);
}

PB_CLONES static void adam_block(const rule *r, float *w, const float *g, float *m, float *v,
                                 float decay, float lr, int64_t n) {
    const rule k = *r;
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * k.grad_scale;
        float mi = k.beta1 * m[i] + k.rest1 * gi;
        float vi = k.beta2 * v[i] + k.rest2 * (gi * gi);
        m[i] = mi;
        v[i] = vi;
        w[i] = stepped(&k, w[i], mi, vi, decay, lr);
    }
}

static void adamw_piece(const rule *r, const pb_adamw_item *it, int64_t from, int64_t n) {
    float *w = (float *)it->w.data + from;
    float decay = (float)(1.0 - it->lr * it->weight_decay);
    adam_block(r, w, (const float *)it->g.data + from, (float *)it->m.data + from,
               (float *)it->v.data + from, decay, (float)it->lr, n);
    if (!pb_has(it->copy)) return;
    if (it->copy.dtype == PB_F32) {
        memcpy((float *)it->copy.data + from, w, (size_t)n * sizeof *w);
    } else {
        pb_cpu_narrow((uint16_t *)it->copy.data + from, w, n);
    }
}

/* Walks the pieces of a list of tensors: piece i lies in tensor *t, which starts at piece *first. i
 * never decreases. */
#define WALK(i, t, first, pieces_of_t)       \
    while ((i) >= (first) + (pieces_of_t)) { \
        (first) += (pieces_of_t);            \
        (t)++;                               \
    }

static pb_status adamw_run(pb_device *dev, const void *args, void *ws) {
    const pb_adamw_args *a = args;
    (void)ws;
    int64_t pieces = 0, elements = 0;
    for (int t = 0; t < a->n; t++) {
        if (a->items[t].w.dtype == PB_F64) return no_f64("adamw");
        pieces += pb_ceil_div(pb_numel(a->items[t].w), PB_CPU_TILE);
        elements += pb_numel(a->items[t].w);
    }
    rule r = rule_of(a->beta1, a->beta2, a->eps, a->step, a->grad_scale);
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), elements);
#pragma omp parallel num_threads(threads)
    {
        int t = 0;
        int64_t first = 0;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < pieces; i++) {
            WALK(i, t, first, pb_ceil_div(pb_numel(a->items[t].w), PB_CPU_TILE))
            int64_t from = (i - first) * PB_CPU_TILE;
            adamw_piece(&r, &a->items[t], from,
                        pb_min64(PB_CPU_TILE, pb_numel(a->items[t].w) - from));
        }
    }
    return PB_OK;
}

/* --- 8-bit moments (Dettmers et al. 2022) ---------------------------------------------------- */

typedef struct rule8 {
    rule f32;
    double beta1, rest1, beta2, rest2;
    pb_cpu_code8 m, v;
} rule8;

/* Moments in double, so that they, and with them their codes, are the exactly rounded ones; the
 * weight in f32. */
PB_CLONES static void adam8_block(const rule8 *r, float *w, const float *g, float *m, float *v,
                                  float decay, float lr, int64_t n) {
    const rule k = r->f32;
    const double beta1 = r->beta1, rest1 = r->rest1, beta2 = r->beta2, rest2 = r->rest2,
                 grad_scale = (double)k.grad_scale;
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        double gi = (double)g[i] * grad_scale;
        m[i] = (float)(beta1 * (double)m[i] + rest1 * gi);
        v[i] = (float)(beta2 * (double)v[i] + rest2 * gi * gi);
    }
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) w[i] = stepped(&k, w[i], m[i], v[i], decay, lr);
}

PB_CLONES static void decode8(const float *map, const uint8_t *code, float absmax, float *x,
                              int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = map[code[i]] * absmax;
}

static void adamw8_piece(const rule8 *r, const pb_adamw8_item *it, int64_t block) {
    float m[PB_QUANT8_BLOCK], v[PB_QUANT8_BLOCK];
    int64_t from = block * PB_QUANT8_BLOCK, n = pb_min64(PB_QUANT8_BLOCK, pb_numel(it->w) - from);
    uint8_t *mc = (uint8_t *)it->m.data + from, *vc = (uint8_t *)it->v.data + from;
    float *m_absmax = (float *)it->m_absmax.data + block,
          *v_absmax = (float *)it->v_absmax.data + block;
    float *w = (float *)it->w.data + from;
    const float *g = (const float *)it->g.data + from;
    pb_cpu_fetch((uintptr_t)w + PB_CPU_AHEAD, (size_t)n * sizeof *w);
    pb_cpu_fetch((uintptr_t)g + PB_CPU_AHEAD, (size_t)n * sizeof *g);
    decode8(r->m.map, mc, *m_absmax, m, n);
    decode8(r->v.map, vc, *v_absmax, v, n);
    adam8_block(r, w, g, m, v, (float)(1.0 - it->lr * it->weight_decay), (float)it->lr, n);
    *m_absmax = pb_cpu_absmax(m, n);
    *v_absmax = pb_cpu_absmax(v, n);
    pb_cpu_encode8(&r->m, m, pb_quant_inverse(*m_absmax), mc, n);
    pb_cpu_encode8(&r->v, v, pb_quant_inverse(*v_absmax), vc, n);
    if (!pb_has(it->copy)) return;
    if (it->copy.dtype == PB_F32) {
        memcpy((float *)it->copy.data + from, w, (size_t)n * sizeof *w);
    } else {
        pb_cpu_narrow((uint16_t *)it->copy.data + from, w, n);
    }
}

static pb_status adamw8_run(pb_device *dev, const void *args, void *ws) {
    const pb_adamw8_args *a = args;
    (void)ws;
    int64_t pieces = 0, elements = 0;
    for (int t = 0; t < a->n; t++) {
        if (a->items[t].w.dtype == PB_F64) return no_f64("adamw8");
        pieces += pb_ceil_div(pb_numel(a->items[t].w), PB_QUANT8_BLOCK);
        elements += pb_numel(a->items[t].w);
    }
    rule8 r = {.f32 = rule_of(a->beta1, a->beta2, a->eps, a->step, a->grad_scale),
               .beta1 = a->beta1,
               .rest1 = 1.0 - a->beta1,
               .beta2 = a->beta2,
               .rest2 = 1.0 - a->beta2};
    pb_cpu_code8_of(pb_dynamic_map_signed(), &r.m);
    pb_cpu_code8_of(pb_dynamic_map_unsigned(), &r.v);
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), elements * 4);
#pragma omp parallel num_threads(threads)
    {
        int t = 0;
        int64_t first = 0;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < pieces; i++) {
            WALK(i, t, first, pb_ceil_div(pb_numel(a->items[t].w), PB_QUANT8_BLOCK))
            adamw8_piece(&r, &a->items[t], i - first);
        }
    }
    return PB_OK;
}

/* --- gradient norm --------------------------------------------------------------------------- */

static size_t grad_norm_workspace(const pb_device *dev, const void *args) {
    const pb_grad_norm_args *a = args;
    (void)dev;
    int64_t pieces = 0;
    for (int t = 0; t < a->n; t++)
        pieces += pb_cpu_grid_of(a->grads[t], pb_contiguous(a->grads[t])).n;
    return (size_t)pieces * sizeof(double);
}

static double squares(pb_tensor t, int64_t piece) {
    float xb[PB_CPU_BLOCK];
    pb_cpu_piece p = pb_cpu_piece_of(pb_cpu_grid_of(t, pb_contiguous(t)), piece);
    double sum = 0.0;
    for (int64_t j = 0; j < p.n; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, p.n - j);
        const float *x = pb_cpu_in(t, p.row * t.stride + p.col + j, n, xb);
        sum += (double)pb_cpu_dot(x, x, n);
    }
    return sum;
}

static pb_status grad_norm_run(pb_device *dev, const void *args, void *ws) {
    const pb_grad_norm_args *a = args;
    double *part = ws;
    int64_t pieces = (int64_t)(grad_norm_workspace(dev, args) / sizeof(double)), elements = 0;
    for (int t = 0; t < a->n; t++) {
        if (a->grads[t].dtype == PB_F64) return no_f64("grad_norm");
        elements += pb_numel(a->grads[t]);
    }
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), elements);
#pragma omp parallel num_threads(threads)
    {
        int t = 0;
        int64_t first = 0;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < pieces; i++) {
            WALK(i, t, first, pb_cpu_grid_of(a->grads[t], pb_contiguous(a->grads[t])).n)
            part[i] = squares(a->grads[t], i - first);
        }
    }
    double sum = 0.0;
    for (int64_t i = 0; i < pieces; i++) sum += part[i];
    double norm = sqrt(sum), coef = a->max_norm / (norm + 1e-6);
    *(float *)a->norm.data = (float)norm;
    /* A NaN norm gives a NaN factor, so that divergence stays visible. */
    *(float *)a->coef.data = a->max_norm <= 0.0 || coef > 1.0 ? 1.0f : (float)coef;
    return PB_OK;
}

/* --- AdaLoRA (Zhang et al. 2023) ------------------------------------------------------------- */

/* s = ibar .* ubar after their update, eq. 8-10. */
PB_CLONES static void importance_row(const float *w, const float *g, float *ibar, float *ubar,
                                     float *s, float grad_scale, const float beta[4], int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        float x = w[i] * g[i] * grad_scale;
        float now = x < 0.0f ? -x : x;
        float ib = beta[0] * ibar[i] + beta[1] * now, d = now - ib;
        float ub = beta[2] * ubar[i] + beta[3] * (d < 0.0f ? -d : d);
        ibar[i] = ib;
        ubar[i] = ub;
        s[i] = ib * ub;
    }
}

/* by_col: the column sums so far. */
static size_t importance_workspace(const pb_device *dev, const void *args) {
    const pb_importance_args *a = args;
    (void)dev;
    return a->by_col ? (size_t)pb_cols(a->w) * sizeof(double) : 0;
}

static pb_status importance_run(pb_device *dev, const void *args, void *ws) {
    const pb_importance_args *a = args;
    (void)dev;
    if (a->w.dtype == PB_F64) return no_f64("importance");
    int64_t rows = pb_rows(a->w), cols = pb_cols(a->w);
    float grad_scale = pb_has(a->grad_scale) ? *(const float *)a->grad_scale.data : 1.0f,
          *score = a->score.data;
    const float beta[4] = {(float)a->beta1, (float)(1.0 - a->beta1), (float)a->beta2,
                           (float)(1.0 - a->beta2)};
    double *sums = ws;
    for (int64_t c = 0; a->by_col && c < cols; c++) sums[c] = 0.0;
    for (int64_t r = 0; r < rows; r++) {
        double row = 0.0;
        for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
            float s[PB_CPU_BLOCK];
            int64_t n = pb_min64(PB_CPU_BLOCK, cols - j);
            importance_row((const float *)a->w.data + r * a->w.stride + j,
                           (const float *)a->g.data + r * a->g.stride + j,
                           (float *)a->ibar.data + r * a->ibar.stride + j,
                           (float *)a->ubar.data + r * a->ubar.stride + j, s, grad_scale, beta, n);
            if (!a->by_col) row += (double)pb_cpu_sum(s, n);
            for (int64_t i = 0; a->by_col && i < n; i++) sums[j + i] += (double)s[i];
        }
        if (!a->by_col && cols > 0) score[r] += (float)(row / (double)cols);
    }
    for (int64_t c = 0; a->by_col && rows > 0 && c < cols; c++)
        score[c] += (float)(sums[c] / (double)rows);
    return PB_OK;
}

static pb_status orthogonality_run(pb_device *dev, const void *args, void *ws) {
    const pb_orthogonality_args *a = args;
    (void)dev;
    (void)ws;
    if (a->gram.dtype == PB_F64) return no_f64("orthogonality");
    int64_t r = pb_rows(a->gram);
    float *gram = a->gram.data;
    double square = 0.0;
    for (int64_t i = 0; i < r; i++) {
        float *row = gram + i * a->gram.stride;
        row[i] -= 1.0f;
        for (int64_t j = 0; j < r; j++) square += (double)row[j] * (double)row[j];
    }
    double norm = sqrt(square), factor = norm <= 0.0 ? 0.0 : 2.0 * a->weight / norm;
    float *loss = a->loss.data;
    loss[0] += (float)(a->weight * norm);
    for (int64_t i = 0; i < r; i++) {
        float *row = gram + i * a->gram.stride;
        for (int64_t j = 0; j < r; j++) row[j] *= (float)factor;
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_adamw, "vector", NULL, adamw_run},
    {PB_OP_adamw8, "vector", NULL, adamw8_run},
    {PB_OP_grad_norm, "vector", grad_norm_workspace, grad_norm_run},
    {PB_OP_importance, "vector", importance_workspace, importance_run},
    {PB_OP_orthogonality, "plain", NULL, orthogonality_run},
};
const pb_kernel_set pb_kernels_cpu_training = {kernels, sizeof kernels / sizeof *kernels};
