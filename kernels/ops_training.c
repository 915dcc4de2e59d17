/* Checks and work of importance, orthogonality and the optimizers. */
#include <stdio.h>

#include "kernels/core/check.h"

#define MASTER (PB_IS(PB_F32) | PB_IS(PB_F64))

static double numel(pb_tensor t) { return (double)pb_numel(t); }

void pb_check_importance(pb_check *c, const void *args) {
    const pb_importance_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, w), MASTER, -1, -1)) return;
    unsigned m = PB_IS(a->w.dtype);
    int64_t r = pb_rows(a->w), k = pb_cols(a->w);
    pb_check_mat(c, PB_ARG(a, g), m, r, k);
    pb_check_mat(c, PB_ARG(a, ibar), m, r, k);
    pb_check_mat(c, PB_ARG(a, ubar), m, r, k);
    pb_check_opt_vec(c, PB_ARG(a, grad_scale), m, 1);
    pb_check_vec(c, PB_ARG(a, score), m, a->by_col ? k : r);
    pb_check_apart(c, PB_ARG(a, ibar), PB_ARG(a, w));
    pb_check_apart(c, PB_ARG(a, ibar), PB_ARG(a, g));
    pb_check_apart(c, PB_ARG(a, ubar), PB_ARG(a, ibar));
    pb_check_apart(c, PB_ARG(a, ubar), PB_ARG(a, w));
    pb_check_apart(c, PB_ARG(a, ubar), PB_ARG(a, g));
}

pb_work pb_work_importance(const void *args) {
    const pb_importance_args *a = args;
    return (pb_work){
        /* |w g scale| 3, ibar 2, |I - ibar| 2, ubar 2, their product and its sum 1 */
        .flops_else = 10.0 * numel(a->w),
        .bytes = pb_work_bytes(a->w) + pb_work_bytes(a->g) +
                 2.0 * (pb_work_bytes(a->ibar) + pb_work_bytes(a->ubar) + pb_work_bytes(a->score))};
}

void pb_check_orthogonality(pb_check *c, const void *args) {
    const pb_orthogonality_args *a = args;
    if (!pb_check_mat(c, PB_ARG(a, gram), MASTER, -1, pb_cols(a->gram))) return;
    pb_check_mat(c, PB_ARG(a, gram), MASTER, pb_cols(a->gram), -1);
    pb_check_vec(c, PB_ARG(a, loss), PB_IS(a->gram.dtype), 1);
    pb_check_apart(c, PB_ARG(a, loss), PB_ARG(a, gram));
}

pb_work pb_work_orthogonality(const void *args) {
    const pb_orthogonality_args *a = args;
    return (pb_work){.flops_else = 2.0 * numel(a->gram),
                     .bytes = 2.0 * (pb_work_bytes(a->gram) + pb_work_bytes(a->loss))};
}

/* --- optimizers ------------------------------------------------------------------------------- */

static void check_adam(pb_check *c, int n, const void *items, double beta1, double beta2,
                       double eps, int64_t step) {
    if (c->status != PB_OK) return;
    if (n < 0 || (n > 0 && items == NULL) || !(beta1 >= 0.0 && beta1 < 1.0) ||
        !(beta2 >= 0.0 && beta2 < 1.0) || !(eps >= 0.0) || step < 1) {
        pb_check_fail(c, "n %d, beta1 %g, beta2 %g, eps %g, step %lld", n, beta1, beta2, eps,
                      (long long)step);
    }
}

/* Names the faulty item: a call may hold hundreds of tensors. */
static void name_item(pb_check *c, int i, pb_status before) {
    if (c->status == PB_OK || before != PB_OK) return;
    char text[300];
    snprintf(text, sizeof text, "%s", pb_error_message());
    c->status = PB_ERROR(PB_E_BUG, "%s (item %d)", text, i);
}

void pb_check_adamw(pb_check *c, const void *args) {
    const pb_adamw_args *a = args;
    check_adam(c, a->n, a->items, a->beta1, a->beta2, a->eps, a->step);
    for (int i = 0; c->status == PB_OK && i < a->n; i++) {
        const pb_adamw_item *it = &a->items[i];
        pb_status before = c->status;
        if (pb_check_vec(c, PB_ARG(it, w), MASTER, -1)) {
            unsigned m = PB_IS(it->w.dtype);
            int64_t n = pb_numel(it->w);
            pb_check_vec(c, PB_ARG(it, g), m, n);
            pb_check_vec(c, PB_ARG(it, m), m, n);
            pb_check_vec(c, PB_ARG(it, v), m, n);
            pb_check_opt_vec(c, PB_ARG(it, copy), PB_REAL, n);
            pb_check_opt_vec(c, PB_ARG(a, grad_scale), m, 1);
            pb_check_apart(c, PB_ARG(it, w), PB_ARG(it, g));
            pb_check_apart(c, PB_ARG(it, m), PB_ARG(it, v));
            pb_check_apart(c, PB_ARG(it, w), PB_ARG(it, copy));
        }
        name_item(c, i, before);
    }
}

pb_work pb_work_adamw(const void *args) {
    const pb_adamw_args *a = args;
    pb_work work = {0};
    for (int i = 0; i < a->n; i++) {
        const pb_adamw_item *it = &a->items[i];
        work.flops_else += 12.0 * numel(it->w); /* g 1, m 2, v 3, root and eps 2, update 4 */
        work.bytes += 2.0 * (pb_work_bytes(it->w) + pb_work_bytes(it->m) + pb_work_bytes(it->v)) +
                      pb_work_bytes(it->g) + pb_work_bytes(it->copy);
    }
    return work;
}

void pb_check_adamw8(pb_check *c, const void *args) {
    const pb_adamw8_args *a = args;
    check_adam(c, a->n, a->items, a->beta1, a->beta2, a->eps, a->step);
    for (int i = 0; c->status == PB_OK && i < a->n; i++) {
        const pb_adamw8_item *it = &a->items[i];
        pb_status before = c->status;
        if (pb_check_vec(c, PB_ARG(it, w), MASTER, -1)) {
            unsigned m = PB_IS(it->w.dtype), u8 = PB_IS(PB_U8);
            int64_t n = pb_numel(it->w), blocks = (n + 255) / 256;
            pb_check_vec(c, PB_ARG(it, g), m, n);
            pb_check_vec(c, PB_ARG(it, m), u8, n);
            pb_check_vec(c, PB_ARG(it, v), u8, n);
            pb_check_vec(c, PB_ARG(it, m_absmax), m, blocks);
            pb_check_vec(c, PB_ARG(it, v_absmax), m, blocks);
            pb_check_opt_vec(c, PB_ARG(it, copy), PB_REAL, n);
            pb_check_opt_vec(c, PB_ARG(a, grad_scale), m, 1);
            pb_check_apart(c, PB_ARG(it, w), PB_ARG(it, g));
            pb_check_apart(c, PB_ARG(it, m), PB_ARG(it, v));
            pb_check_apart(c, PB_ARG(it, m_absmax), PB_ARG(it, v_absmax));
            pb_check_apart(c, PB_ARG(it, w), PB_ARG(it, copy));
        }
        name_item(c, i, before);
    }
}

pb_work pb_work_adamw8(const void *args) {
    const pb_adamw8_args *a = args;
    pb_work work = {0};
    for (int i = 0; i < a->n; i++) {
        const pb_adamw8_item *it = &a->items[i];
        work.flops_else += 36.0 * numel(it->w); /* 12; two decoded 4, largest 4, 8 to search each */
        work.bytes += 2.0 * (pb_work_bytes(it->w) + pb_work_bytes(it->m) + pb_work_bytes(it->v) +
                             pb_work_bytes(it->m_absmax) + pb_work_bytes(it->v_absmax)) +
                      pb_work_bytes(it->g) + pb_work_bytes(it->copy);
    }
    return work;
}

void pb_check_grad_norm(pb_check *c, const void *args) {
    const pb_grad_norm_args *a = args;
    pb_check_true(c, a->n >= 0 && (a->n == 0 || a->grads != NULL), "n >= 0 tensors");
    if (!pb_check_vec(c, PB_ARG(a, norm), MASTER, 1)) return;
    pb_check_vec(c, PB_ARG(a, coef), PB_IS(a->norm.dtype), 1);
    pb_check_true(c, a->max_norm >= 0.0, "max_norm >= 0");
    pb_check_apart(c, PB_ARG(a, norm), PB_ARG(a, coef));
    for (int i = 0; c->status == PB_OK && i < a->n; i++) {
        pb_status before = c->status;
        pb_check_mat(c, "grads", a->grads[i], PB_IS(a->norm.dtype), -1, -1);
        name_item(c, i, before);
    }
}

pb_work pb_work_grad_norm(const void *args) {
    const pb_grad_norm_args *a = args;
    pb_work work = {0};
    for (int i = 0; i < a->n; i++) {
        work.flops_else += numel(a->grads[i]);
        work.bytes += pb_work_bytes(a->grads[i]);
    }
    work.bytes += pb_work_bytes(a->norm) + pb_work_bytes(a->coef);
    return work;
}
