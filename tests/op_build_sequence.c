/* Builders of op cases: pointwise ops, normalisation, reductions, embedding, attention, pooling,
 * loss. */
#include <math.h>

#include "tests/op_cases.h"

#define AS(op_name) pb_##op_name##_args *a = &t->args.op_name
#define SLOT(field) #field, &a->field

static double beta_of(const op_instance *t) { return op_has(t, OC_BETA) ? 0.5 : 0.0; }
static op_role out_role(const op_instance *t) { return op_has(t, OC_BETA) ? OP_INOUT : OP_OUT; }
static bool in_place(const op_instance *t) { return op_has(t, OC_ALIAS); }
/* What one more rounding to T of a value of size 2 may change. */
static double rounding(const op_instance *t) { return t->dtype == PB_BF16 ? 0x1p-6 : 0.0; }

static pb_status temp(pb_device *dev, const op_instance *t, pb_tensor like, pb_tensor *y) {
    return pb_alloc2(dev, PB_MEM_ACT, t->dtype, pb_rows(like), pb_cols(like), y);
}

/* --- pointwise -------------------------------------------------------------------------------- */

/* d = N, C, act */
void op_build_act_fwd(op_instance *t, const int64_t *d) {
    AS(act_fwd);
    a->act = (pb_act)d[2];
    op_slot *x = op_mat(t, SLOT(x), t->dtype, d[0], d[1], OP_IN, 5.0);
    op_slot *y = op_bound_by(op_mat(t, SLOT(y), t->dtype, d[0], d[1], OP_OUT, 1.0), 1.0, 4.0, 0.0);
    if (in_place(t)) op_share(t, y, x);
}

static pb_status act_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(act_bwd);
    PB_RETURN(temp(dev, t, a->x, y));
    return pb_act_fwd(dev, &(pb_act_fwd_args){.act = a->act, .x = a->x, .y = *y});
}

void op_build_act_bwd(op_instance *t, const int64_t *d) {
    AS(act_bwd);
    a->act = (pb_act)d[2];
    t->forward = act_forward;
    op_slot *x = op_mat(t, SLOT(x), t->dtype, d[0], d[1], OP_IN, 5.0);
    op_slot *dy = op_mat(t, SLOT(dy), t->dtype, d[0], d[1], OP_IN, 1.0);
    op_slot *dx = op_bound_by(op_mat(t, SLOT(dx), t->dtype, d[0], d[1], OP_OUT, 1.0), 1.0, 4.0,
                              0.0);
    if (in_place(t)) op_share(t, dx, dy);
    t->dy = op_index(t, dy);
    op_gradient(t, dx, x, 0.0);
}

/* d = N, C */
void op_build_swiglu_fwd(op_instance *t, const int64_t *d) {
    AS(swiglu_fwd);
    op_mat(t, SLOT(gate), t->dtype, d[0], d[1], OP_IN, 5.0);
    op_mat(t, SLOT(up), t->dtype, d[0], d[1], OP_IN, 2.0);
    op_bound_by(op_mat(t, SLOT(y), t->dtype, d[0], d[1], OP_OUT, 1.0), 1.0, 8.0, 0.0);
}

static pb_status swiglu_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(swiglu_bwd);
    PB_RETURN(temp(dev, t, a->gate, y));
    return pb_swiglu_fwd(dev, &(pb_swiglu_fwd_args){.gate = a->gate, .up = a->up, .y = *y});
}

void op_build_swiglu_bwd(op_instance *t, const int64_t *d) {
    AS(swiglu_bwd);
    t->forward = swiglu_forward;
    op_slot *gate = op_mat(t, SLOT(gate), t->dtype, d[0], d[1], OP_IN, 5.0);
    op_slot *up = op_mat(t, SLOT(up), t->dtype, d[0], d[1], OP_IN, 2.0);
    op_slot *dy = op_mat(t, SLOT(dy), t->dtype, d[0], d[1], OP_IN, 1.0);
    op_slot *dgate = op_bound_by(op_mat(t, SLOT(dgate), t->dtype, d[0], d[1], OP_OUT, 1.0), 1.0,
                                 8.0, 0.0);
    op_slot *dup = op_bound_by(op_mat(t, SLOT(dup), t->dtype, d[0], d[1], OP_OUT, 1.0), 1.0, 8.0,
                               0.0);
    if (in_place(t)) op_share(t, dgate, dy);
    t->dy = op_index(t, dy);
    op_gradient(t, dgate, gate, 0.0);
    op_gradient(t, dup, up, 0.0);
}

static pb_status dropout_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(dropout);
    PB_RETURN(temp(dev, t, a->x, y));
    return pb_dropout(dev, &(pb_dropout_args){.x = t->extra[0], .y = *y, .drop = a->drop});
}

/* d = N, C */
void op_build_dropout(op_instance *t, const int64_t *d) {
    AS(dropout);
    a->beta = beta_of(t);
    a->drop = op_drop(t);
    op_slot *x = op_mat(t, SLOT(x), t->dtype, d[0], d[1], OP_IN, 1.0);
    op_slot *y = op_bound_by(op_mat(t, SLOT(y), t->dtype, d[0], d[1], out_role(t), 1.0), 1.0, 2.0,
                             0.0);
    op_slot *fx = op_mat(t, "forward x", &t->extra[0], t->dtype, d[0], d[1], OP_IN, 1.0);
    if (in_place(t)) op_share(t, y, x);
    t->forward = dropout_forward;
    t->dy = op_index(t, x);
    op_gradient(t, y, fx, a->beta);
}

/* d = N, C. OC_MASTER: y in M; OC_TA: x in M. */
void op_build_axpby(op_instance *t, const int64_t *d) {
    AS(axpby);
    a->alpha = op_has(t, OC_EXACT) ? 0.5 : 0.7;
    a->beta = beta_of(t);
    op_slot *x = op_mat(t, SLOT(x), op_has(t, OC_TA) ? op_master(t) : t->dtype, d[0], d[1], OP_IN,
                        1.0);
    op_slot *y = op_mat(t, SLOT(y), op_has(t, OC_MASTER) ? op_master(t) : t->dtype, d[0], d[1],
                        out_role(t), 1.0);
    if (in_place(t)) op_share(t, y, x);
}

/* d = N, C. OC_MASTER: c and bias in M. */
void op_build_scale_cols(op_instance *t, const int64_t *d) {
    AS(scale_cols);
    pb_dtype c = op_has(t, OC_MASTER) ? op_master(t) : t->dtype;
    a->beta = beta_of(t);
    op_slot *x = op_mat(t, SLOT(x), t->dtype, d[0], d[1], OP_IN, 1.0);
    op_vec(t, SLOT(c), c, d[1], OP_IN, 1.0);
    if (op_has(t, OC_OPT)) op_vec(t, SLOT(bias), c, d[1], OP_IN, 1.0);
    op_slot *y = op_bound_by(op_mat(t, SLOT(y), t->dtype, d[0], d[1], out_role(t), 1.0), 3.0, 1.0,
                             0.0);
    if (in_place(t)) op_share(t, y, x);
}

static pb_status coldot_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(coldot);
    PB_RETURN(temp(dev, t, a->a, y));
    return pb_scale_cols(dev, &(pb_scale_cols_args){.x = a->a, .c = t->extra[0], .y = *y});
}

/* d = N, C. OC_OPT: with b; OC_MASTER: with div. */
void op_build_coldot(op_instance *t, const int64_t *d) {
    AS(coldot);
    op_mat(t, SLOT(a), t->dtype, d[0], d[1], OP_IN, 1.0);
    op_slot *b = op_has(t, OC_OPT) ? op_mat(t, SLOT(b), t->dtype, d[0], d[1], OP_IN, 1.0) : NULL;
    if (op_has(t, OC_MASTER)) op_positive(op_vec(t, SLOT(div), op_master(t), d[1], OP_IN, 1.0));
    op_slot *y = op_vec(t, SLOT(y), op_master(t), d[1], OP_INOUT, 1.0);
    op_bound_by(y, (double)d[0] + 1.0, 2.0, 0.0);
    if (b == NULL || op_has(t, OC_MASTER)) return;
    op_slot *c = op_vec(t, "forward c", &t->extra[0], op_master(t), d[1], OP_IN, 1.0);
    t->forward = coldot_forward;
    t->dy = op_index(t, b);
    op_gradient(t, y, c, 1.0);
}

/* d = N, C. OC_TA: of squares. */
void op_build_reduce(op_instance *t, const int64_t *d) {
    AS(reduce);
    double terms = (double)(d[0] * d[1]) + 1.0;
    a->square = op_has(t, OC_TA);
    a->alpha = 0.5;
    a->beta = beta_of(t);
    op_mat(t, SLOT(x), t->dtype, d[0], d[1], OP_IN, 1.0);
    op_bound_by(op_vec(t, SLOT(y), op_master(t), 1, out_role(t), 1.0), terms, 4.0 / sqrt(terms),
                0.0);
}

/* d = n */
void op_build_fill_uniform(op_instance *t, const int64_t *d) {
    AS(fill_uniform);
    a->lo = -0.5;
    a->hi = 0.25;
    a->key = t->seed;
    a->stream = 77;
    op_vec(t, SLOT(x), t->dtype, d[0], OP_OUT, 1.0);
}

/* --- normalisation ---------------------------------------------------------------------------- */

/* d = N, C. OC_OPT: residual and kept sum; OC_ALIAS: sum in x; OC_ALIAS|OC_TA: sum in res. OC_ZERO:
 * mean 1000. */
void op_build_norm_fwd(op_instance *t, const int64_t *d) {
    AS(norm_fwd);
    bool layer = !op_has(t, OC_RMS), hard = op_has(t, OC_ZERO);
    pb_dtype m = op_master(t);
    a->norm = layer ? PB_NORM_LAYER : PB_NORM_RMS;
    a->eps = 1e-5;
    a->drop = op_drop(t);
    op_slot *x = op_mat(t, SLOT(x), t->dtype, d[0], d[1], OP_IN, 1.0);
    for (int64_t i = 0; hard && i < d[0] * d[1]; i++)
        x->init[i] = op_round(t->dtype, x->init[i] + 1000.0);
    op_slot *res = op_has(t, OC_OPT) ? op_mat(t, SLOT(res), t->dtype, d[0], d[1], OP_IN, 1.0)
                                     : NULL;
    op_vec(t, SLOT(gamma), t->dtype, d[1], OP_IN, 1.0);
    if (layer) op_vec(t, SLOT(beta), t->dtype, d[1], OP_IN, 1.0);
    double extra = rounding(t) + (hard ? 2e-3 : 0.0); /* the sum may be rounded to T first */
    op_bound_by(op_mat(t, SLOT(y), t->dtype, d[0], d[1], OP_OUT, 1.0), 16.0, 2.0, 0.0)->extra =
        extra;
    if (op_has(t, OC_OPT)) {
        op_slot *sum = op_bound_by(op_mat(t, SLOT(sum), t->dtype, d[0], d[1], OP_OUT, 1.0), 2.0,
                                   1.0, 0.0);
        if (in_place(t)) op_share(t, sum, op_has(t, OC_TA) ? res : x);
    }
    if (layer)
        op_bound_by(op_vec(t, SLOT(mean), m, d[0], OP_OUT, 1.0), 8.0, 1.0, 0.0)->extra =
            rounding(t);
    op_bound_by(op_vec(t, SLOT(rstd), m, d[0], OP_OUT, 1.0), 16.0, 1.0, 0.0)->extra = extra;
}

static pb_status norm_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(norm_bwd);
    PB_RETURN(temp(dev, t, a->sum, y));
    pb_norm_fwd_args f = {
        .norm = a->norm, .x = a->sum, .gamma = a->gamma, .y = *y, .mean = a->mean, .rstd = a->rstd};
    f.eps = 1e-5;
    f.beta = t->extra[0];
    return pb_norm_fwd(dev, &f);
}

/* d = N, C. OC_OPT: dgamma and dbeta; OC_ALIAS: dx in dy. */
void op_build_norm_bwd(op_instance *t, const int64_t *d) {
    AS(norm_bwd);
    bool layer = !op_has(t, OC_RMS);
    pb_dtype m = op_master(t);
    a->norm = layer ? PB_NORM_LAYER : PB_NORM_RMS;
    a->beta_dx = beta_of(t);
    t->forward = norm_forward;
    op_slot *dy = op_mat(t, SLOT(dy), t->dtype, d[0], d[1], OP_IN, 1.0);
    op_slot *sum = op_mat(t, SLOT(sum), t->dtype, d[0], d[1], OP_IN, 2.0);
    op_slot *gamma = op_vec(t, SLOT(gamma), t->dtype, d[1], OP_IN, 1.0);
    if (layer) op_vec(t, SLOT(mean), m, d[0], OP_IN, 1.0)->derived = true;
    op_vec(t, SLOT(rstd), m, d[0], OP_IN, 1.0)->derived = true;
    op_slot *dx = op_mat(t, SLOT(dx), t->dtype, d[0], d[1], out_role(t), 1.0);
    op_gradient(t, op_bound_by(dx, 16.0, 2.0, 0.0), sum, a->beta_dx);
    if (in_place(t)) op_share(t, dx, dy);
    op_slot *beta = layer ? op_vec(t, "forward beta", &t->extra[0], t->dtype, d[1], OP_IN, 1.0)
                          : NULL;
    t->dy = op_index(t, dy);
    if (!op_has(t, OC_OPT)) return;
    op_slot *dgamma = op_vec(t, SLOT(dgamma), m, d[1], OP_INOUT, 1.0);
    op_gradient(t, op_bound_by(dgamma, (double)d[0] + 1.0, 2.0, 0.0), gamma, 1.0);
    if (!layer) return;
    op_slot *dbeta = op_vec(t, SLOT(dbeta), m, d[1], OP_INOUT, 1.0);
    op_gradient(t, op_bound_by(dbeta, (double)d[0] + 1.0, 1.0, 0.0), beta, 1.0);
}

/* --- embedding and positions ------------------------------------------------------------------ */

/* d = N, C, V, P, Y. OC_BARE: words only; OC_OPT: with types, else type 0. */
void op_build_embed_fwd(op_instance *t, const int64_t *d) {
    AS(embed_fwd);
    op_mat(t, SLOT(word), t->dtype, d[2], d[1], OP_IN, 1.0);
    op_ints(t, SLOT(ids), PB_I32, d[0], 0, d[2] - 1);
    op_bound_by(op_mat(t, SLOT(y), t->dtype, d[0], d[1], OP_OUT, 1.0), 3.0, 1.0, 0.0);
    if (op_has(t, OC_BARE)) return;
    op_mat(t, SLOT(pos), t->dtype, d[3], d[1], OP_IN, 1.0);
    op_ints(t, SLOT(positions), PB_I32, d[0], 0, d[3] - 1);
    op_mat(t, SLOT(type), t->dtype, d[4], d[1], OP_IN, 1.0);
    if (op_has(t, OC_OPT)) op_ints(t, SLOT(types), PB_I32, d[0], 0, d[4] - 1);
}

static pb_status embed_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(embed_bwd);
    PB_RETURN(temp(dev, t, a->dy, y));
    pb_embed_fwd_args f = {
        .word = t->extra[0], .pos = t->extra[1], .type = t->extra[2], .ids = a->ids, .y = *y};
    f.positions = a->positions;
    f.types = a->types;
    return pb_embed_fwd(dev, &f);
}

void op_build_embed_bwd(op_instance *t, const int64_t *d) {
    AS(embed_bwd);
    pb_dtype m = op_master(t);
    double n = (double)d[0] + 1.0;
    t->forward = embed_forward;
    op_ints(t, SLOT(ids), PB_I32, d[0], 0, d[2] - 1);
    t->dy = op_index(t, op_mat(t, SLOT(dy), t->dtype, d[0], d[1], OP_IN, 1.0));
    op_slot *word = op_mat(t, "forward word", &t->extra[0], t->dtype, d[2], d[1], OP_IN, 1.0);
    op_slot *dword = op_mat(t, SLOT(dword), m, d[2], d[1], OP_INOUT, 1.0);
    op_gradient(t, op_bound_by(dword, n, 1.0, 0.0), word, 1.0);
    if (op_has(t, OC_BARE)) return;
    op_ints(t, SLOT(positions), PB_I32, d[0], 0, d[3] - 1);
    if (op_has(t, OC_OPT)) op_ints(t, SLOT(types), PB_I32, d[0], 0, d[4] - 1);
    op_slot *pos = op_mat(t, "forward pos", &t->extra[1], t->dtype, d[3], d[1], OP_IN, 1.0);
    op_slot *type = op_mat(t, "forward type", &t->extra[2], t->dtype, d[4], d[1], OP_IN, 1.0);
    op_slot *dpos = op_mat(t, SLOT(dpos), m, d[3], d[1], OP_INOUT, 1.0);
    op_slot *dtype = op_mat(t, SLOT(dtype), m, d[4], d[1], OP_INOUT, 1.0);
    op_gradient(t, op_bound_by(dpos, n, 1.0, 0.0), pos, 1.0);
    op_gradient(t, op_bound_by(dtype, n, 1.0, 0.0), type, 1.0);
}

static pb_status rope_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(rope);
    PB_RETURN(temp(dev, t, a->x, y));
    PB_RETURN(pb_device_copy(dev, *y, t->extra[0]));
    return pb_rope(
        dev, &(pb_rope_args){
                 .x = *y, .inv_freq = a->inv_freq, .positions = a->positions, .heads = a->heads});
}

/* d = N, heads, head_dim, largest position. OC_TA: inverse. */
void op_build_rope(op_instance *t, const int64_t *d) {
    AS(rope);
    a->heads = d[1];
    a->inverse = op_has(t, OC_TA);
    op_slot *x = op_bound_by(op_mat(t, SLOT(x), t->dtype, d[0], d[1] * d[2], OP_INOUT, 1.0), 2.0,
                             1.0, 0.0);
    op_slot *freq = op_vec(t, SLOT(inv_freq), op_master(t), d[2] / 2, OP_IN, 1.0);
    for (int64_t j = 0; j < d[2] / 2; j++) {
        freq->init[j] = op_round(freq->dtype, pow(10000.0, -2.0 * (double)j / (double)d[2]));
    }
    op_ints(t, SLOT(positions), PB_I32, d[0], 0, d[3]);
    if (t->dtype != PB_F64) x->extra = (double)d[3] * 0x1p-23; /* the angle may be an f32 */
    if (!a->inverse) return;
    op_slot *fx = op_mat(t, "forward x", &t->extra[0], t->dtype, d[0], d[1] * d[2], OP_IN, 1.0);
    t->forward = rope_forward;
    t->dy = op_index(t, x);
    op_gradient(t, x, fx, 0.0);
}

/* --- sequences -------------------------------------------------------------------------------- */

/* Lengths: the first is max_len, the others vary in 1..max_len. Returns their sum; cu's slot gets
 * the offsets. */
static int64_t sequences(op_instance *t, pb_tensor *where, int64_t n, int64_t max_len) {
    op_slot *cu = op_vec(t, "cu", where, PB_I32, n + 1, OP_IN, 1.0);
    cu->init[0] = 0.0;
    for (int64_t s = 0; s < n; s++)
        cu->init[s + 1] = cu->init[s] + (double)(s == 0                         ? max_len
                                                 : s == 1 && op_has(t, OC_ZERO) ? 0
                                                                                : 1 + (s * 7 + 3) % max_len);
    return (int64_t)cu->init[n];
}

/* d = heads, kv_heads, head_dim, sequences, max_len, rows behind the last sequence. OC_ZERO: the
 * second sequence is empty. */
void op_build_attention_fwd(op_instance *t, const int64_t *d) {
    AS(attention_fwd);
    *a = (pb_attention_fwd_args){
        .heads = d[0], .kv_heads = d[1], .head_dim = d[2], .sequences = d[3], .max_len = d[4]};
    a->scale = 1.0 / sqrt((double)d[2]);
    a->causal = op_has(t, OC_CAUSAL);
    a->drop = op_drop(t);
    int64_t end = sequences(t, &a->cu, d[3], d[4]), n = end + d[5];
    op_mat(t, SLOT(q), t->dtype, n, d[0] * d[2], OP_IN, 2.0);
    op_mat(t, SLOT(k), t->dtype, n, d[1] * d[2], OP_IN, 2.0);
    op_mat(t, SLOT(v), t->dtype, n, d[1] * d[2], OP_IN, 1.0);
    op_slot *o = op_mat(t, SLOT(o), t->dtype, n, d[0] * d[2], OP_OUT, 1.0);
    op_slot *lse = op_vec(t, SLOT(lse), op_master(t), n * d[0], OP_OUT, 1.0);
    op_bound_by(o, (double)d[2] + sqrt((double)d[4]), 1.0, 0.0)->extra = rounding(t);
    op_bound_by(lse, (double)d[2] + sqrt((double)d[4]), 1.0, 0.0);
    lse->valid = end * d[0];
}

static pb_status attention_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(attention_bwd);
    *y = a->o;
    pb_attention_fwd_args f = {
        .q = a->q, .k = a->k, .v = a->v, .o = a->o, .lse = a->lse, .cu = a->cu};
    f.heads = a->heads;
    f.kv_heads = a->kv_heads;
    f.head_dim = a->head_dim;
    f.sequences = a->sequences;
    f.max_len = a->max_len;
    f.scale = a->scale;
    f.causal = a->causal;
    f.drop = a->drop;
    return pb_attention_fwd(dev, &f);
}

void op_build_attention_bwd(op_instance *t, const int64_t *d) {
    AS(attention_bwd);
    *a = (pb_attention_bwd_args){
        .heads = d[0], .kv_heads = d[1], .head_dim = d[2], .sequences = d[3], .max_len = d[4]};
    a->scale = 1.0 / sqrt((double)d[2]);
    a->causal = op_has(t, OC_CAUSAL);
    a->drop = op_drop(t);
    t->forward = attention_forward;
    int64_t end = sequences(t, &a->cu, d[3], d[4]), n = end + d[5];
    op_slot *q = op_mat(t, SLOT(q), t->dtype, n, d[0] * d[2], OP_IN, 2.0);
    op_slot *k = op_mat(t, SLOT(k), t->dtype, n, d[1] * d[2], OP_IN, 2.0);
    op_slot *v = op_mat(t, SLOT(v), t->dtype, n, d[1] * d[2], OP_IN, 1.0);
    op_mat(t, SLOT(o), t->dtype, n, d[0] * d[2], OP_IN, 1.0)->derived = true;
    op_vec(t, SLOT(lse), op_master(t), n * d[0], OP_IN, 1.0)->derived = true;
    t->dy = op_index(t, op_mat(t, SLOT(d_o), t->dtype, n, d[0] * d[2], OP_IN, 1.0));
    op_slot *dq = op_mat(t, SLOT(dq), t->dtype, n, d[0] * d[2], OP_OUT, 1.0);
    op_slot *dk = op_mat(t, SLOT(dk), t->dtype, n, d[1] * d[2], OP_OUT, 1.0);
    op_slot *dv = op_mat(t, SLOT(dv), t->dtype, n, d[1] * d[2], OP_OUT, 1.0);
    /* P, dS and o may be rounded to T; dk and dv sum them over the queries of a group of heads. */
    double terms = (double)d[2] + sqrt((double)d[4]), queries = sqrt((double)(d[4] * d[0] / d[1]));
    op_gradient(t, op_bound_by(dq, terms, 1.0, 0.0), q, 0.0);
    op_gradient(t, op_bound_by(dk, terms + queries, 1.0, 0.0), k, 0.0);
    op_gradient(t, op_bound_by(dv, terms + queries, 1.0, 0.0), v, 0.0);
    dq->extra = 2.0 * rounding(t);
    dk->extra = dv->extra = 2.0 * rounding(t) * (1.0 + queries / 4.0);
}

/* d = sequences, C, pool, max_len, rows behind */
void op_build_pool_fwd(op_instance *t, const int64_t *d) {
    AS(pool_fwd);
    a->pool = (pb_pool)d[2];
    int64_t n = sequences(t, &a->cu, d[0], d[3]) + d[4];
    op_mat(t, SLOT(x), t->dtype, n, d[1], OP_IN, 1.0);
    op_bound_by(op_mat(t, SLOT(y), t->dtype, d[0], d[1], OP_OUT, 1.0), (double)d[3],
                2.0 / (double)d[3], 0.0);
}

static pb_status pool_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(pool_bwd);
    PB_RETURN(temp(dev, t, a->dy, y));
    return pb_pool_fwd(
        dev, &(pb_pool_fwd_args){.pool = a->pool, .x = t->extra[0], .cu = a->cu, .y = *y});
}

void op_build_pool_bwd(op_instance *t, const int64_t *d) {
    AS(pool_bwd);
    a->pool = (pb_pool)d[2];
    t->forward = pool_forward;
    int64_t n = sequences(t, &a->cu, d[0], d[3]) + d[4];
    t->dy = op_index(t, op_mat(t, SLOT(dy), t->dtype, d[0], d[1], OP_IN, 1.0));
    op_slot *dx = op_mat(t, SLOT(dx), t->dtype, n, d[1], OP_OUT, 1.0);
    op_gradient(t, dx, op_mat(t, "forward x", &t->extra[0], t->dtype, n, d[1], OP_IN, 1.0), 0.0);
}

/* n distinct rows of `of`, in no order: a stride that is coprime to `of`. */
static void distinct(op_instance *t, pb_tensor *where, int64_t n, int64_t of) {
    op_slot *idx = op_vec(t, "idx", where, PB_I32, n, OP_IN, 1.0);
    int64_t step = 1;
    for (int64_t s = 2; s < of && step == 1; s++) {
        int64_t x = of, y = s;
        while (y != 0) {
            int64_t r = x % y;
            x = y;
            y = r;
        }
        if (x == 1) step = s;
    }
    for (int64_t i = 0; i < n; i++) idx->init[i] = (double)((i * step + of / 2) % of);
}

/* d = n, rows of x, C */
void op_build_gather_rows(op_instance *t, const int64_t *d) {
    AS(gather_rows);
    op_mat(t, SLOT(x), t->dtype, d[1], d[2], OP_IN, 1.0);
    distinct(t, &a->idx, d[0], d[1]);
    op_mat(t, SLOT(y), t->dtype, d[0], d[2], OP_OUT, 1.0)->exact = true;
}

static pb_status scatter_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    AS(scatter_rows);
    PB_RETURN(temp(dev, t, a->x, y));
    return pb_gather_rows(dev, &(pb_gather_rows_args){.x = t->extra[0], .idx = a->idx, .y = *y});
}

/* d = n, rows of y, C */
void op_build_scatter_rows(op_instance *t, const int64_t *d) {
    AS(scatter_rows);
    t->forward = scatter_forward;
    t->dy = op_index(t, op_mat(t, SLOT(x), t->dtype, d[0], d[2], OP_IN, 1.0));
    distinct(t, &a->idx, d[0], d[1]);
    op_slot *y = op_mat(t, SLOT(y), t->dtype, d[1], d[2], OP_OUT, 1.0);
    y->exact = true;
    op_gradient(t, y, op_mat(t, "forward x", &t->extra[0], t->dtype, d[1], d[2], OP_IN, 1.0), 0.0);
}

static pb_status loss_forward(pb_device *dev, op_instance *t, pb_tensor *y) {
    pb_cross_entropy_args f = t->args.cross_entropy;
    f.dlogits = (pb_tensor){0};
    *y = f.loss;
    return pb_cross_entropy(dev, &f);
}

/* d = R, V. OC_OPT: with dlogits; OC_ALIAS: in logits; OC_MASTER: logits in the master dtype. OC_ZERO: ignored targets, ties,
 * large logits. */
void op_build_cross_entropy(op_instance *t, const int64_t *d) {
    AS(cross_entropy);
    pb_dtype m = op_master(t);
    a->scale = 0.125;
    pb_dtype type = op_has(t, OC_MASTER) ? m : t->dtype;
    op_slot *logits = op_mat(t, SLOT(logits), type, d[0], d[1], OP_IN, 5.0);
    op_slot *target = op_ints(t, SLOT(target), PB_I32, d[0], 0, d[1] - 1);
    op_slot *loss = op_bound_by(op_vec(t, SLOT(loss), m, d[0], OP_OUT, 1.0), 8.0, 4.0, 0.0);
    if (op_has(t, OC_ZERO))
        loss->extra = 1000.0 * 0x1p-22; /* log-sum-exp minus a logit, both up to 1000 */
    op_vec(t, SLOT(pred), PB_I32, d[0], OP_OUT, 1.0);
    for (int64_t i = 0; op_has(t, OC_ZERO) && i < d[0] * d[1]; i++) {
        int64_t row = i / d[1];
        if (row % 3 == 0) target->init[row] = -1.0;
        if (row % 4 == 1) logits->init[i] = 2.0; /* all equal: index 0 */
        if (row % 4 == 2)
            logits->init[i] = op_round(type, 200.0 * logits->init[i]); /* exp would overflow */
    }
    if (!op_has(t, OC_OPT)) return;
    op_slot *g = op_mat(t, SLOT(dlogits), t->dtype, d[0], d[1], OP_OUT, 1.0);
    if (in_place(t)) op_share(t, g, logits);
    t->forward = loss_forward;
    t->weight = a->scale;
    op_gradient(t, g, logits, 0.0);
}
