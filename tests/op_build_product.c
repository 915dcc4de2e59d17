/* Builders of op cases: products, 4-bit weights, the low-rank branch, DoRA, AdaLoRA, optimizers. */
#include <math.h>
#include <stdlib.h>

#include "tests/op_cases.h"

#define AS(op_name) pb_##op_name##_args *a = &t->args.op_name
#define SLOT(field) #field, &a->field

static double beta_of(const op_instance *t) { return op_has(t, OC_BETA) ? 0.5 : 0.0; }
static op_role out_role(const op_instance *t) { return op_has(t, OC_BETA) ? OP_INOUT : OP_OUT; }
static double scale_of(const op_instance *t) { return op_has(t, OC_EXACT) ? 0.5 : 0.7; }

static bool is_quantised(const op_instance *t) { return op_has(t, OC_NF4 | OC_FP4 | OC_INT4); }

static pb_code code_of(const op_instance *t) {
    return op_has(t, OC_FP4) ? PB_CODE_FP4 : op_has(t, OC_INT4) ? PB_CODE_INT4 : PB_CODE_NF4;
}

/* The tensors of a quantised matrix: any bytes are valid content. */
static void quant_slots(op_instance *t, pb_quant4 *q, int64_t out, int64_t in, int block) {
    int64_t n = out * in, blocks = (n + block - 1) / block;
    *q = (pb_quant4){
        .code = code_of(t), .block = block, .double_quant = op_has(t, OC_DQ), .compute = t->dtype};
    q->out = out;
    q->in = in;
    op_ints(t, "codes", &q->codes, PB_U8, (n + 1) / 2, 0, 255);
    if (!q->double_quant) {
        op_positive(op_vec(t, "absmax", &q->absmax, op_master(t), blocks, OP_IN, 1.0));
        return;
    }
    op_ints(t, "absmax_q", &q->absmax_q, PB_U8, blocks, 0, 255);
    op_positive(op_vec(t, "absmax2", &q->absmax2, op_master(t), (blocks + 255) / 256, OP_IN, 0.25));
    op_positive(op_vec(t, "offset", &q->offset, op_master(t), 1, OP_IN, 1.0));
}

static op_slot *weight_slots(op_instance *t, pb_weight *w, int64_t out, int64_t in) {
    if (!is_quantised(t)) return op_mat(t, "w.dense", &w->dense, t->dtype, out, in, OP_IN, 1.0);
    quant_slots(t, &t->quant, out, in, 64);
    w->quant = &t->quant;
    return NULL;
}

/* d = M, N, K */
void op_build_gemm(op_instance *t, const int64_t *d) {
    AS(gemm);
    a->trans_a = op_has(t, OC_TA);
    a->trans_b = op_has(t, OC_TB);
    a->alpha = scale_of(t);
    a->beta = beta_of(t);
    pb_dtype out = op_has(t, OC_MASTER) ? op_master(t) : t->dtype;
    op_mat(t, SLOT(a), t->dtype, a->trans_a ? d[2] : d[0], a->trans_a ? d[0] : d[2], OP_IN, 1.0);
    op_mat(t, SLOT(b), t->dtype, a->trans_b ? d[1] : d[2], a->trans_b ? d[2] : d[1], OP_IN, 1.0);
    op_bound_by(op_mat(t, SLOT(c), out, d[0], d[1], out_role(t), 1.0), (double)d[2] + 2.0, 1.0,
                0.0);
    if (op_has(t, OC_OPT)) op_vec(t, SLOT(bias), out, d[1], OP_IN, 1.0);
}

static pb_status linear_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(linear);
    PB_RETURN(pb_alloc2(dev, PB_MEM_ACT, t->dtype, pb_rows(a->x), pb_weight_out(a->w), y));
    pb_linear_args f = {.x = t->extra[0], .y = *y, .w = a->w};
    return pb_linear(dev, &f);
}

/* d = N, in, out. OC_TA: the input gradient. */
void op_build_linear(op_instance *t, const int64_t *d) {
    AS(linear);
    a->transpose = op_has(t, OC_TA);
    a->beta = beta_of(t);
    int64_t from = a->transpose ? d[2] : d[1], to = a->transpose ? d[1] : d[2];
    op_slot *x = op_mat(t, SLOT(x), t->dtype, d[0], from, OP_IN, 1.0);
    op_slot *y = op_mat(t, SLOT(y), t->dtype, d[0], to, out_role(t), 1.0);
    op_bound_by(y, (double)from + 2.0, is_quantised(t) ? 2.0 : 1.0, 0.0);
    weight_slots(t, &a->w, d[2], d[1]);
    if (op_has(t, OC_OPT) && !a->transpose) op_vec(t, SLOT(bias), t->dtype, d[2], OP_IN, 1.0);
    if (!a->transpose) return;
    op_slot *fx = op_mat(t, "forward x", &t->extra[0], t->dtype, d[0], d[1], OP_IN, 1.0);
    t->forward = linear_forward;
    t->dy = op_index(t, x);
    op_gradient(t, y, fx, a->beta);
}

/* In bf16 a library may take tanh from hardware, 2^-11 relative (PTX, tanh.approx): what moves by `by` of that. */
static double of_tanh(const op_instance *t, double by) {
    return t->dtype == PB_BF16 ? by * ldexp(1.0, -11) : 0.0;
}

/* d = N, in, out. OC_BARE: without pre. */
void op_build_linear_gelu(op_instance *t, const int64_t *d) {
    AS(linear_gelu);
    double scale = 4.0 / sqrt((double)d[1]); /* sums of 6 at the most, in practice */
    op_mat(t, SLOT(x), t->dtype, d[0], d[1], OP_IN, 1.0);
    op_mat(t, SLOT(w), t->dtype, d[2], d[1], OP_IN, scale);
    if (op_has(t, OC_OPT)) op_vec(t, SLOT(bias), t->dtype, d[2], OP_IN, 1.0);
    op_slot *y = op_mat(t, SLOT(y), t->dtype, d[0], d[2], OP_OUT, 1.0);
    op_bound_by(y, (double)d[1] + 2.0, 1.2 * scale, 0.0);
    /* Of the rounded sum s: half an ulp is 2^-8 |s|; times the slope it is below 1.21 |y| for s > 0, which the bound has
     * already, and below 0.19 for s < 0, in 2^-8. A tanh that is off moves y by |s| / 2 of that. */
    y->extra = of_tanh(t, 3.0) + (t->dtype == PB_BF16 ? 0.19 * ldexp(1.0, -8) : 0.0);
    if (op_has(t, OC_BARE)) return;
    op_bound_by(op_mat(t, SLOT(pre), t->dtype, d[0], d[2], OP_OUT, 1.0), (double)d[1] + 2.0, scale,
                0.0);
}

static pb_status gelu_linear_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(gelu_linear_bwd);
    pb_tensor mid = {0};
    PB_RETURN(pb_alloc2(dev, PB_MEM_ACT, t->dtype, pb_rows(a->pre), pb_cols(a->pre), &mid));
    PB_RETURN(pb_alloc2(dev, PB_MEM_ACT, t->dtype, pb_rows(a->pre), pb_rows(a->w), y));
    pb_act_fwd_args act = {.act = PB_ACT_GELU_TANH, .x = a->pre, .y = mid};
    pb_linear_args linear = {.x = mid, .y = *y, .w = {.dense = a->w}};
    PB_RETURN(pb_act_fwd(dev, &act));
    return pb_linear(dev, &linear);
}

/* d = N, in, out of the layer behind the activation. */
void op_build_gelu_linear_bwd(op_instance *t, const int64_t *d) {
    AS(gelu_linear_bwd);
    t->forward = gelu_linear_forward;
    op_slot *dy = op_mat(t, SLOT(dy), t->dtype, d[0], d[2], OP_IN, 1.0);
    op_mat(t, SLOT(w), t->dtype, d[2], d[1], OP_IN, 1.0);
    op_slot *pre = op_mat(t, SLOT(pre), t->dtype, d[0], d[1], OP_IN, 3.0);
    op_slot *dx = op_mat(t, SLOT(dx), t->dtype, d[0], d[1], OP_OUT, 1.0);
    op_bound_by(dx, (double)d[2] + 2.0, 1.2, 0.0);
    /* The slope is (1 + t)/2 + v (1 - t^2) u'/2: half of what t is off, and |v t| u' (5.3 at 3) of it, times the sum. */
    dx->extra = of_tanh(t, 5.8 * sqrt((double)d[2]));
    t->dy = op_index(t, dy);
    op_gradient(t, dx, pre, 0.0);
}

/* d = out, in, block. OC_ZERO: the second block is all zeros. */
void op_build_quantize4(op_instance *t, const int64_t *d) {
    AS(quantize4);
    op_slot *src = op_mat(t, SLOT(src), op_has(t, OC_MASTER) ? op_master(t) : t->dtype, d[0], d[1],
                          OP_IN, 0.05);
    int first = t->n;
    quant_slots(t, &a->q, d[0], d[1], (int)d[2]);
    for (int i = first; i < t->n; i++) {
        op_slot *s = &t->slot[i];
        s->role = OP_OUT;
        s->exact = true;
        for (int64_t k = 0; k < s->rows * s->cols; k++) s->init[k] = NAN;
        if (!op_has(t, OC_DQ) || i == first) continue;
        /* The mean of all absmax may be formed in any order: the second level may differ by an ulp,
         * a code by one. */
        s->exact = false;
        s->code = s->dtype == PB_U8;
        s->mag = 0.05;
    }
    for (int64_t k = d[2]; op_has(t, OC_ZERO) && k < 2 * d[2] && k < d[0] * d[1]; k++)
        src->init[k] = 0.0;
}

/* d = out, in, block */
void op_build_dequantize4(op_instance *t, const int64_t *d) {
    AS(dequantize4);
    quant_slots(t, &a->q, d[0], d[1], (int)d[2]);
    op_mat(t, SLOT(dst), op_has(t, OC_MASTER) ? op_master(t) : t->dtype, d[0], d[1], OP_OUT, 1.0);
}

/* --- low-rank branch -------------------------------------------------------------------------- */

/* d = N, in, out, r */
void op_build_lowrank(op_instance *t, const int64_t *d) {
    AS(lowrank);
    a->scale = scale_of(t);
    a->drop = op_drop(t);
    double in = (double)d[1], r = (double)d[3];
    op_mat(t, SLOT(x), t->dtype, d[0], d[1], OP_IN, 1.0);
    op_mat(t, SLOT(a), t->dtype, d[3], d[1], OP_IN, 1.0);
    if (op_has(t, OC_OPT)) op_vec(t, SLOT(e), t->dtype, d[3], OP_IN, 1.0);
    op_mat(t, SLOT(b), t->dtype, d[2], d[3], OP_IN, 1.0);
    /* u may be rounded to T before the product; h is, before the next one, and h .* e too. */
    op_bound_by(op_mat(t, SLOT(h), t->dtype, d[0], d[3], OP_OUT, 1.0), in, 1.4, 0.5);
    op_bound_by(op_mat(t, SLOT(y), t->dtype, d[0], d[2], OP_INOUT, 1.0), r + 2.0, sqrt(in), 0.5);
}

static pb_status lowrank_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(lowrank_bwd);
    PB_RETURN(pb_alloc2(dev, PB_MEM_ACT, t->dtype, pb_rows(a->x), pb_rows(a->b), y));
    pb_lowrank_args f = {
        .x = a->x, .a = a->a, .e = a->e, .b = a->b, .y = *y, .h = a->h, .scale = a->scale};
    f.drop = a->drop;
    return pb_lowrank(dev, &f);
}

/* d = N, in, out, r. OC_OPT: with e and de; OC_BARE: da and db only. */
void op_build_lowrank_bwd(op_instance *t, const int64_t *d) {
    AS(lowrank_bwd);
    a->scale = scale_of(t);
    a->beta_dx = beta_of(t);
    a->drop = op_drop(t);
    t->forward = lowrank_forward;
    pb_dtype m = op_master(t);
    double n = (double)d[0], in = (double)d[1], out = (double)d[2], r = (double)d[3];
    op_slot *x = op_mat(t, SLOT(x), t->dtype, d[0], d[1], OP_IN, 1.0);
    op_slot *h = op_mat(t, SLOT(h), t->dtype, d[0], d[3], OP_IN, 1.0);
    h->derived = true;
    op_slot *aa = op_mat(t, SLOT(a), t->dtype, d[3], d[1], OP_IN, 1.0);
    op_slot *e = op_has(t, OC_OPT) ? op_vec(t, SLOT(e), t->dtype, d[3], OP_IN, 1.0) : NULL;
    op_slot *b = op_mat(t, SLOT(b), t->dtype, d[2], d[3], OP_IN, 1.0);
    t->dy = op_index(t, op_mat(t, SLOT(dy), t->dtype, d[0], d[2], OP_IN, 1.0));
    op_slot *da = op_mat(t, SLOT(da), m, d[3], d[1], OP_INOUT, 1.0);
    op_slot *db = op_mat(t, SLOT(db), m, d[2], d[3], OP_INOUT, 1.0);
    op_gradient(t, op_bound_by(da, n, sqrt(out), 0.5), aa, 1.0);
    op_gradient(t, op_bound_by(db, n, sqrt(in), 0.5), b, 1.0);
    if (e != NULL) {
        op_slot *de = op_vec(t, SLOT(de), m, d[3], OP_INOUT, 1.0);
        op_gradient(t, op_bound_by(de, n, sqrt(in * out), 0.5), e, 1.0);
    }
    if (op_has(t, OC_BARE)) return;
    op_slot *dx = op_mat(t, SLOT(dx), t->dtype, d[0], d[1], out_role(t), 1.0);
    op_gradient(t, op_bound_by(dx, r + 1.0, sqrt(out), 0.5), x, a->beta_dx);
}

/* --- norms of weights ------------------------------------------------------------------------- */

/* d = out, in */
void op_build_weight_norm2(op_instance *t, const int64_t *d) {
    AS(weight_norm2);
    weight_slots(t, &a->w, d[0], d[1]);
    op_bound_by(op_vec(t, SLOT(y), op_master(t), d[0], OP_OUT, 1.0), (double)d[1],
                is_quantised(t) ? 2.3 : 1.0, 0.0);
}

static pb_status dora_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(dora_norm);
    *y = a->w2;
    pb_weight_norm2_args f = {.w = a->w, .y = a->w2};
    return pb_weight_norm2(dev, &f);
}

/* d = out, in, r */
void op_build_dora_norm(op_instance *t, const int64_t *d) {
    AS(dora_norm);
    pb_dtype m = op_master(t);
    double terms = (double)(d[1] + d[2] * d[2]);
    a->scale = 0.7;
    t->forward = dora_forward;
    weight_slots(t, &a->w, d[0], d[1]);
    op_vec(t, SLOT(w2), m, d[0], OP_IN, 1.0)->derived = true;
    op_mat(t, SLOT(a), t->dtype, d[2], d[1], OP_IN, 0.3);
    op_mat(t, SLOT(b), t->dtype, d[0], d[2], OP_IN, 0.3);
    op_positive(op_vec(t, SLOT(m), m, d[0], OP_IN, 1.0));
    /* n is the root of a sum of squares, of size sqrt(in/3): its error is that of the sum over 2n.
     */
    op_bound_by(op_vec(t, SLOT(n), m, d[0], OP_OUT, 1.0), terms, 1.0 / sqrt((double)d[1]), 0.0);
    op_bound_by(op_vec(t, SLOT(c), m, d[0], OP_OUT, 1.0), terms, 4.0 / (double)d[1], 0.0);
}

/* y = m v / |v|, n = |v|; on the host, since no op does that. */
static pb_status exact_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(dora_exact);
    int64_t rows = pb_rows(a->v), cols = pb_cols(a->v);
    double *v = malloc((size_t)(rows * cols + 1) * sizeof *v),
           *m = malloc((size_t)(2 * rows + 1) * sizeof *m);
    double *n = m + rows;
    pb_status status = v != NULL && m != NULL ? PB_OK : PB_E_OOM;
    PB_TRY(status);
    PB_TRY(pb_alloc2(dev, PB_MEM_ACT, PB_F64, rows, cols, y));
    pb_axpby_args copy = {.x = a->v, .y = *y, .alpha = 1.0};
    PB_TRY(pb_axpby(dev, &copy));
    PB_TRY(pb_device_get_f64(dev, v, *y));
    PB_TRY(pb_device_get_f64(dev, m, a->m));
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0.0;
        for (int64_t c = 0; c < cols; c++) sum += v[r * cols + c] * v[r * cols + c];
        n[r] = sqrt(sum);
        for (int64_t c = 0; c < cols; c++) v[r * cols + c] *= m[r] / n[r];
    }
    PB_TRY(pb_device_put_f64(dev, *y, v));
    PB_TRY(pb_device_put_f64(dev, a->n, n));
done:
    free(v);
    free(m);
    return status;
}

/* d = out, in */
void op_build_dora_exact(op_instance *t, const int64_t *d) {
    AS(dora_exact);
    pb_dtype m = op_master(t);
    t->forward = exact_forward;
    op_slot *g = op_mat(t, SLOT(g), m, d[0], d[1], OP_INOUT, 1.0);
    op_slot *v = op_mat(t, SLOT(v), m, d[0], d[1], OP_IN, 1.0);
    op_positive(op_vec(t, SLOT(m), m, d[0], OP_IN, 1.0));
    op_vec(t, SLOT(n), m, d[0], OP_IN, 1.0)->derived = true;
    t->dy = op_index(t, g);
    op_gradient(t, op_bound_by(g, sqrt((double)d[1]), 1.0, 0.0), v, 0.0);
}

/* --- AdaLoRA ---------------------------------------------------------------------------------- */

/* d = rows, cols. OC_TA: by column. */
void op_build_importance(op_instance *t, const int64_t *d) {
    AS(importance);
    pb_dtype m = op_master(t);
    a->beta1 = 0.85;
    a->beta2 = 0.75;
    a->by_col = op_has(t, OC_TA);
    op_mat(t, SLOT(w), m, d[0], d[1], OP_IN, 1.0);
    op_mat(t, SLOT(g), m, d[0], d[1], OP_IN, 1.0);
    op_mat(t, SLOT(ibar), m, d[0], d[1], OP_INOUT, 1.0);
    op_mat(t, SLOT(ubar), m, d[0], d[1], OP_INOUT, 1.0);
    op_bound_by(op_vec(t, SLOT(score), m, a->by_col ? d[1] : d[0], OP_INOUT, 1.0), 16.0, 1.0, 0.0);
    if (op_has(t, OC_OPT)) op_positive(op_vec(t, SLOT(grad_scale), m, 1, OP_IN, 0.3));
}

static pb_status orthogonality_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(orthogonality);
    pb_tensor gram;
    PB_RETURN(pb_alloc2(dev, PB_MEM_ACT, op_master(t), pb_rows(a->gram), pb_cols(a->gram), &gram));
    PB_RETURN(pb_alloc1(dev, PB_MEM_ACT, op_master(t), 1, y));
    PB_RETURN(pb_device_copy(dev, gram, a->gram));
    pb_orthogonality_args f = {.gram = gram, .loss = *y, .weight = a->weight};
    return pb_orthogonality(dev, &f);
}

/* d = r. OC_ZERO: the identity, whose gradient is 0. */
void op_build_orthogonality(op_instance *t, const int64_t *d) {
    AS(orthogonality);
    a->weight = 0.1;
    op_slot *gram = op_mat(t, SLOT(gram), op_master(t), d[0], d[0], OP_INOUT, 1.0);
    op_bound_by(op_vec(t, SLOT(loss), op_master(t), 1, OP_INOUT, 1.0), sqrt((double)d[0]), 1.0,
                0.0);
    for (int64_t i = 0; op_has(t, OC_ZERO) && i < d[0] * d[0]; i++)
        gram->init[i] = i % (d[0] + 1) == 0 ? 1.0 : 0.0;
    if (op_has(t, OC_ZERO)) return;
    t->forward = orthogonality_forward;
    t->weight = 2.0; /* the op returns twice dloss/dgram: the 2 of d(A A^T) is in it */
    op_gradient(t, gram, gram, 0.0);
}

/* --- optimizers ------------------------------------------------------------------------------- */

/* d = elements of the first and of the second tensor, step */
void op_build_adamw(op_instance *t, const int64_t *d) {
    AS(adamw);
    pb_dtype m = op_master(t);
    *a = (pb_adamw_args){
        .items = t->items, .n = 2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .step = d[2]};
    for (int i = 0; i < 2; i++) {
        pb_adamw_item *it = &t->items[i];
        it->lr = i == 0 ? 1e-2 : 3e-3;
        it->weight_decay = i == 0 ? 0.1 : 0.0;
        op_vec(t, i == 0 ? "w0" : "w1", &it->w, m, d[i], OP_INOUT, 1.0);
        op_vec(t, i == 0 ? "g0" : "g1", &it->g, m, d[i], OP_IN, 1.0);
        op_vec(t, i == 0 ? "m0" : "m1", &it->m, m, d[i], OP_INOUT, 0.5);
        op_positive(op_vec(t, i == 0 ? "v0" : "v1", &it->v, m, d[i], OP_INOUT, 0.5));
        if (op_has(t, OC_OPT))
            op_vec(t, i == 0 ? "copy0" : "copy1", &it->copy, PB_BF16, d[i], OP_OUT, 1.0);
    }
    if (op_has(t, OC_OPT)) op_positive(op_vec(t, SLOT(grad_scale), m, 1, OP_IN, 0.3));
}

/* d as above. Codes of v start at 64: a zero denominator would make any rounding error large. */
void op_build_adamw8(op_instance *t, const int64_t *d) {
    AS(adamw8);
    pb_dtype m = op_master(t);
    *a = (pb_adamw8_args){
        .items = t->items8, .n = 2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .step = d[2]};
    for (int i = 0; i < 2; i++) {
        pb_adamw8_item *it = &t->items8[i];
        int64_t blocks = (d[i] + 255) / 256;
        it->lr = i == 0 ? 1e-2 : 3e-3;
        it->weight_decay = i == 0 ? 0.1 : 0.0;
        op_bound_by(op_vec(t, i == 0 ? "w0" : "w1", &it->w, m, d[i], OP_INOUT, 1.0), 4.0, 1.0, 0.0);
        op_vec(t, i == 0 ? "g0" : "g1", &it->g, m, d[i], OP_IN, 1.0);
        op_slot *mc = op_ints(t, i == 0 ? "m0" : "m1", &it->m, PB_U8, d[i], 0, 255);
        op_slot *vc = op_ints(t, i == 0 ? "v0" : "v1", &it->v, PB_U8, d[i], 64, 255);
        mc->role = vc->role = OP_INOUT;
        mc->code = vc->code = true;
        op_positive(
            op_vec(t, i == 0 ? "m_absmax0" : "m_absmax1", &it->m_absmax, m, blocks, OP_INOUT, 0.5));
        op_positive(
            op_vec(t, i == 0 ? "v_absmax0" : "v_absmax1", &it->v_absmax, m, blocks, OP_INOUT, 0.5));
        if (op_has(t, OC_OPT))
            op_vec(t, i == 0 ? "copy0" : "copy1", &it->copy, PB_BF16, d[i], OP_OUT, 1.0);
    }
    if (op_has(t, OC_OPT)) op_positive(op_vec(t, SLOT(grad_scale), m, 1, OP_IN, 0.3));
}

/* d = sizes of three tensors. OC_OPT: clips. OC_ZERO: max_norm 0. */
void op_build_grad_norm(op_instance *t, const int64_t *d) {
    AS(grad_norm);
    static const char *const name[3] = {"g0", "g1", "g2"};
    a->grads = t->list;
    a->n = 3;
    a->max_norm = op_has(t, OC_ZERO) ? 0.0 : op_has(t, OC_OPT) ? 0.5 : 1e6;
    for (int i = 0; i < 3; i++) op_mat(t, name[i], &t->list[i], op_master(t), 1, d[i], OP_IN, 1.0);
    double terms = (double)(d[0] + d[1] + d[2]);
    op_bound_by(op_vec(t, SLOT(norm), op_master(t), 1, OP_OUT, 1.0), terms, 2.0 / terms, 0.0);
    op_bound_by(op_vec(t, SLOT(coef), op_master(t), 1, OP_OUT, 1.0), terms, 2.0 / terms, 0.0);
}
