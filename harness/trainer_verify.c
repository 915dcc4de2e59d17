/* Before a run trusts its device: the ops of one layer of its model, at its widths and few rows,
 * against the reference backend in f64 with the same inputs. It finds a wrong kernel or library on
 * this machine, not the last bit: tests/ do that. Cost: some tens of milliseconds.
 *
 * Tolerance, relative to the largest reference value: inputs are the same on both sides (rounded to
 * T first), sums of K products in f32 deviate like sqrt(K) unit roundoffs of 2^-24 (a factor 32 is
 * allowed), and a bf16 result is rounded once per stage to 2^-8. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "harness/trainer_impl.h"

enum { SEQ_A = 5, SEQ_B = 11, ROWS = SEQ_A + SEQ_B };

/* The same values on both sides. */
typedef struct pair {
    pb_tensor d, r; /* device (T or M or i32), reference (f64 or i32) */
} pair;

typedef struct verifier {
    pb_device *dev, *ref;
    const pb_model_config *c;
    pb_dtype T;
    uint64_t n;  /* pairs made: the stream of the next one */
    double unit; /* of T's rounding, for one stage */
    bool passed;
    char *what;
    size_t cap;
} verifier;

static pb_status make(verifier *v, pb_dtype dtype, int64_t rows, int64_t cols, pair *out) {
    PB_RETURN(pb_alloc2(v->dev, PB_MEM_WORK, dtype, rows, cols, &out->d));
    return pb_alloc2(v->ref, PB_MEM_WORK, PB_F64, rows, cols, &out->r);
}

static pb_tensor as_vector(pb_tensor t) {
    t.dim[0] = pb_numel(t);
    t.ndim = 1;
    t.stride = t.dim[0];
    return t;
}

/* Uniform in [lo, hi], rounded to the device's dtype. cols 0: a vector. */
static pb_status draw(verifier *v, pb_dtype dtype, int64_t rows, int64_t cols, double lo, double hi,
                      pair *out) {
    pb_status status = PB_OK;
    int64_t n = rows * (cols > 0 ? cols : 1);
    double *host = malloc((size_t)n * sizeof *host);
    if (host == NULL) return PB_ERROR(PB_E_OOM, "no host memory to verify ops");
    uint64_t stream = pb_random_stream("verify", v->n++, 0);
    for (int64_t i = 0; i < n; i++)
        host[i] = lo + (hi - lo) * pb_random_uniform(1, stream, (uint64_t)i);
    PB_TRY(make(v, dtype, rows, cols > 0 ? cols : 1, out));
    if (cols == 0) *out = (pair){as_vector(out->d), as_vector(out->r)};
    PB_TRY(pb_device_put_f64(v->dev, out->d, host));
    PB_TRY(pb_device_get_f64(v->dev, host, out->d));
    PB_TRY(pb_device_put_f64(v->ref, out->r, host));
done:
    free(host);
    return status;
}

static pb_status ints(verifier *v, const int32_t *values, int64_t n, pair *out) {
    PB_RETURN(pb_alloc1(v->dev, PB_MEM_WORK, PB_I32, n, &out->d));
    PB_RETURN(pb_alloc1(v->ref, PB_MEM_WORK, PB_I32, n, &out->r));
    PB_RETURN(pb_device_put(v->dev, out->d, values, (size_t)n * sizeof *values));
    return pb_device_put(v->ref, out->r, values, (size_t)n * sizeof *values);
}

/* K: length of the longest sum; stages: how often values were rounded to T on the way. */
static pb_status compare(verifier *v, const char *name, const pair *p, int64_t K, int stages) {
    pb_status status = PB_OK;
    int64_t n = pb_numel(p->d), worst = 0;
    double *got = malloc((size_t)n * sizeof *got), *want = malloc((size_t)n * sizeof *want);
    if (got == NULL || want == NULL) PB_FAIL(PB_E_OOM, "no host memory to verify ops");
    PB_TRY(pb_device_get_f64(v->dev, got, p->d));
    PB_TRY(pb_device_get_f64(v->ref, want, p->r));
    double largest = 0.0, error = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if (fabs(want[i]) > largest) largest = fabs(want[i]);
        double e = fabs(got[i] - want[i]);
        if (!(e <= error)) {
            error = e;
            worst = i;
            if (!isfinite(e)) break;
        }
    }
    double tolerance = largest * (32.0 * 0x1p-24 * sqrt((double)K) + v->unit * stages) + 1e-30;
    if (!(error <= tolerance) && v->passed) {
        v->passed = false;
        snprintf(
            v->what, v->cap,
            "%s on %s (%s): element %" PRId64 " of %" PRId64 " is %.9g, the reference says %.9g",
            name, pb_device_name(v->dev), pb_dtype_name(v->T), worst, n, got[worst], want[worst]);
    }
done:
    free(got);
    free(want);
    return status;
}

/* Fewer rows for wide layers: at most about four million products per op on the reference. */
static int64_t rows_for(int64_t in, int64_t out) {
    int64_t rows = 4000000 / (in * out);
    return rows < 1 ? 1 : rows > ROWS ? ROWS : rows;
}

static pb_status check_linear(verifier *v, int64_t in, int64_t out) {
    pair x, w, b, y, dx;
    int64_t n = rows_for(in, out);
    PB_RETURN(draw(v, v->T, n, in, -1, 1, &x));
    PB_RETURN(draw(v, v->T, out, in, -1, 1, &w));
    PB_RETURN(draw(v, v->T, out, 0, -1, 1, &b));
    PB_RETURN(make(v, v->T, n, out, &y));
    PB_RETURN(draw(v, v->T, n, in, -1, 1, &dx));
    pb_linear_args d = {.x = x.d, .y = y.d, .bias = b.d, .w = {.dense = w.d}};
    pb_linear_args r = {.x = x.r, .y = y.r, .bias = b.r, .w = {.dense = w.r}};
    PB_RETURN(pb_linear(v->dev, &d));
    PB_RETURN(pb_linear(v->ref, &r));
    PB_RETURN(compare(v, "linear", &y, in, 1));
    PB_RETURN(draw(v, v->T, n, out, -1, 1, &y));
    d = (pb_linear_args){.x = y.d, .y = dx.d, .w = {.dense = w.d}, .transpose = true, .beta = 1.0};
    r = (pb_linear_args){.x = y.r, .y = dx.r, .w = {.dense = w.r}, .transpose = true, .beta = 1.0};
    PB_RETURN(pb_linear(v->dev, &d));
    PB_RETURN(pb_linear(v->ref, &r));
    return compare(v, "linear (transposed)", &dx, out, 1);
}

static pb_status check_linear_gelu(verifier *v, int64_t in, int64_t out) {
    pair x, w, b, y, pre, dx;
    int64_t n = rows_for(in, out);
    PB_RETURN(draw(v, v->T, n, in, -1, 1, &x));
    PB_RETURN(draw(v, v->T, out, in, -0.5, 0.5, &w));
    PB_RETURN(draw(v, v->T, out, 0, -1, 1, &b));
    PB_RETURN(make(v, v->T, n, out, &y));
    PB_RETURN(make(v, v->T, n, out, &pre));
    pb_linear_gelu_args d = {.x = x.d, .w = w.d, .bias = b.d, .y = y.d, .pre = pre.d};
    pb_linear_gelu_args r = {.x = x.r, .w = w.r, .bias = b.r, .y = y.r, .pre = pre.r};
    PB_RETURN(pb_linear_gelu(v->dev, &d));
    PB_RETURN(pb_linear_gelu(v->ref, &r));
    PB_RETURN(compare(v, "linear_gelu", &y, in, 2));
    PB_RETURN(compare(v, "linear_gelu (sum)", &pre, in, 1));
    PB_RETURN(draw(v, v->T, n, out, -1, 1, &y));
    PB_RETURN(draw(v, v->T, n, in, -3, 3, &x));
    PB_RETURN(make(v, v->T, n, in, &dx));
    pb_gelu_linear_bwd_args bd = {.dy = y.d, .w = w.d, .pre = x.d, .dx = dx.d};
    pb_gelu_linear_bwd_args br = {.dy = y.r, .w = w.r, .pre = x.r, .dx = dx.r};
    PB_RETURN(pb_gelu_linear_bwd(v->dev, &bd));
    PB_RETURN(pb_gelu_linear_bwd(v->ref, &br));
    return compare(v, "gelu_linear_bwd", &dx, out, 2);
}

static pb_status check_lowrank(verifier *v, int64_t in, int64_t out) {
    enum { RANK = 8 };
    pb_dtype M = v->T == PB_F64 ? PB_F64 : PB_F32;
    pair x, a, b, y, h, dy, dx, da, db;
    PB_RETURN(draw(v, v->T, ROWS, in, -1, 1, &x));
    PB_RETURN(draw(v, v->T, RANK, in, -1, 1, &a));
    PB_RETURN(draw(v, v->T, out, RANK, -1, 1, &b));
    PB_RETURN(draw(v, v->T, ROWS, out, -1, 1, &y));
    PB_RETURN(make(v, v->T, ROWS, RANK, &h));
    PB_RETURN(draw(v, v->T, ROWS, out, -1, 1, &dy));
    PB_RETURN(make(v, v->T, ROWS, in, &dx));
    PB_RETURN(make(v, M, RANK, in, &da));
    PB_RETURN(make(v, M, out, RANK, &db));
    pb_lowrank_args d = {.x = x.d, .a = a.d, .b = b.d, .y = y.d, .h = h.d, .scale = 2.0};
    pb_lowrank_args r = {.x = x.r, .a = a.r, .b = b.r, .y = y.r, .h = h.r, .scale = 2.0};
    PB_RETURN(pb_lowrank(v->dev, &d));
    PB_RETURN(pb_lowrank(v->ref, &r));
    PB_RETURN(compare(v, "lowrank", &y, in, 3));
    pb_lowrank_bwd_args bd = {.x = x.d,
                              .h = h.d,
                              .a = a.d,
                              .b = b.d,
                              .dy = dy.d,
                              .dx = dx.d,
                              .da = da.d,
                              .db = db.d,
                              .scale = 2.0};
    pb_lowrank_bwd_args br = {.x = x.r,
                              .h = h.r,
                              .a = a.r,
                              .b = b.r,
                              .dy = dy.r,
                              .dx = dx.r,
                              .da = da.r,
                              .db = db.r,
                              .scale = 2.0};
    PB_RETURN(pb_lowrank_bwd(v->dev, &bd));
    PB_RETURN(pb_lowrank_bwd(v->ref, &br));
    PB_RETURN(compare(v, "lowrank_bwd dx", &dx, out, 4));
    PB_RETURN(compare(v, "lowrank_bwd dA", &da, out, 4));
    return compare(v, "lowrank_bwd dB", &db, in, 4);
}

static pb_status check_norm(verifier *v) {
    int64_t C = v->c->C;
    pb_dtype M = v->T == PB_F64 ? PB_F64 : PB_F32;
    bool layer = v->c->norm == PB_NORM_LAYER;
    pair x, gamma, beta = {0}, y, mean = {0}, rstd, dy, dx;
    PB_RETURN(draw(v, v->T, ROWS, C, -1, 1, &x));
    PB_RETURN(draw(v, v->T, C, 0, 0.5, 1.5, &gamma));
    PB_RETURN(make(v, v->T, ROWS, C, &y));
    PB_RETURN(draw(v, M, ROWS, 0, 0, 0, &rstd));
    PB_RETURN(draw(v, v->T, ROWS, C, -1, 1, &dy));
    PB_RETURN(make(v, v->T, ROWS, C, &dx));
    if (layer) {
        PB_RETURN(draw(v, v->T, C, 0, -1, 1, &beta));
        PB_RETURN(draw(v, M, ROWS, 0, 0, 0, &mean));
    }
    pb_norm_fwd_args d = {.norm = v->c->norm,
                          .x = x.d,
                          .gamma = gamma.d,
                          .beta = beta.d,
                          .y = y.d,
                          .mean = mean.d,
                          .rstd = rstd.d,
                          .eps = v->c->norm_eps};
    pb_norm_fwd_args r = {.norm = v->c->norm,
                          .x = x.r,
                          .gamma = gamma.r,
                          .beta = beta.r,
                          .y = y.r,
                          .mean = mean.r,
                          .rstd = rstd.r,
                          .eps = v->c->norm_eps};
    PB_RETURN(pb_norm_fwd(v->dev, &d));
    PB_RETURN(pb_norm_fwd(v->ref, &r));
    PB_RETURN(compare(v, "norm_fwd", &y, C, 2));
    pb_norm_bwd_args bd = {.norm = v->c->norm,
                           .dy = dy.d,
                           .sum = x.d,
                           .gamma = gamma.d,
                           .mean = mean.d,
                           .rstd = rstd.d,
                           .dx = dx.d};
    pb_norm_bwd_args br = {.norm = v->c->norm,
                           .dy = dy.r,
                           .sum = x.r,
                           .gamma = gamma.r,
                           .mean = mean.r,
                           .rstd = rstd.r,
                           .dx = dx.r};
    PB_RETURN(pb_norm_bwd(v->dev, &bd));
    PB_RETURN(pb_norm_bwd(v->ref, &br));
    return compare(v, "norm_bwd", &dx, C, 2);
}

static pb_attention_bwd_args attention_args(const verifier *v, const pair *p, bool dev) {
    const pb_model_config *c = v->c;
    pb_attention_bwd_args a = {.heads = c->NH,
                               .kv_heads = c->NKV,
                               .head_dim = c->HS,
                               .sequences = 2,
                               .max_len = SEQ_B,
                               .scale = 1.0 / sqrt((double)c->HS),
                               .causal = c->causal};
    pb_tensor *slot[] = {&a.q, &a.k, &a.v, &a.o, &a.lse, &a.cu, &a.d_o, &a.dq, &a.dk, &a.dv};
    for (size_t i = 0; i < sizeof slot / sizeof slot[0]; i++) *slot[i] = dev ? p[i].d : p[i].r;
    return a;
}

static pb_status attention_forward(pb_device *dev, const pb_attention_bwd_args *a) {
    pb_attention_fwd_args f = {.q = a->q,
                               .k = a->k,
                               .v = a->v,
                               .o = a->o,
                               .lse = a->lse,
                               .cu = a->cu,
                               .heads = a->heads,
                               .kv_heads = a->kv_heads,
                               .head_dim = a->head_dim,
                               .sequences = a->sequences,
                               .max_len = a->max_len,
                               .scale = a->scale,
                               .causal = a->causal};
    return pb_attention_fwd(dev, &f);
}

static pb_status check_attention(verifier *v) {
    enum { Q, K, V, O, LSE, CU, D_O, DQ, DK, DV, N };
    const pb_model_config *c = v->c;
    static const int32_t starts[3] = {0, SEQ_A, SEQ_A + SEQ_B};
    int64_t wide = c->NH * c->HS, narrow = c->NKV * c->HS;
    pb_dtype M = v->T == PB_F64 ? PB_F64 : PB_F32;
    pair p[N];
    for (int i = 0; i < N; i++) {
        int64_t cols = i == K || i == V || i == DK || i == DV ? narrow : wide;
        if (i == LSE) {
            PB_RETURN(draw(v, M, ROWS * c->NH, 0, 0, 0, &p[i]));
        } else if (i == CU) {
            PB_RETURN(ints(v, starts, 3, &p[i]));
        } else {
            PB_RETURN(draw(v, v->T, ROWS, cols, -1, 1, &p[i]));
        }
    }
    pb_attention_bwd_args d = attention_args(v, p, true), r = attention_args(v, p, false);
    PB_RETURN(attention_forward(v->dev, &d));
    PB_RETURN(attention_forward(v->ref, &r));
    PB_RETURN(compare(v, "attention_fwd", &p[O], c->HS + SEQ_B, 4));
    PB_RETURN(pb_attention_bwd(v->dev, &d));
    PB_RETURN(pb_attention_bwd(v->ref, &r));
    PB_RETURN(compare(v, "attention_bwd dq", &p[DQ], c->HS + SEQ_B, 8));
    PB_RETURN(compare(v, "attention_bwd dk", &p[DK], c->HS + SEQ_B, 8));
    return compare(v, "attention_bwd dv", &p[DV], c->HS + SEQ_B, 8);
}

static pb_status check_act(verifier *v) {
    pair x, y, dy, dx, up, dup;
    int64_t n = v->c->FF;
    PB_RETURN(draw(v, v->T, ROWS, n, -4, 4, &x));
    PB_RETURN(make(v, v->T, ROWS, n, &y));
    PB_RETURN(draw(v, v->T, ROWS, n, -1, 1, &dy));
    PB_RETURN(make(v, v->T, ROWS, n, &dx));
    if (v->c->gated_mlp) {
        PB_RETURN(draw(v, v->T, ROWS, n, -1, 1, &up));
        PB_RETURN(make(v, v->T, ROWS, n, &dup));
        pb_swiglu_fwd_args d = {.gate = x.d, .up = up.d, .y = y.d},
                           r = {.gate = x.r, .up = up.r, .y = y.r};
        pb_swiglu_bwd_args bd = {.gate = x.d, .up = up.d, .dy = dy.d, .dgate = dx.d, .dup = dup.d};
        pb_swiglu_bwd_args br = {.gate = x.r, .up = up.r, .dy = dy.r, .dgate = dx.r, .dup = dup.r};
        PB_RETURN(pb_swiglu_fwd(v->dev, &d));
        PB_RETURN(pb_swiglu_fwd(v->ref, &r));
        PB_RETURN(pb_swiglu_bwd(v->dev, &bd));
        PB_RETURN(pb_swiglu_bwd(v->ref, &br));
        PB_RETURN(compare(v, "swiglu_bwd up", &dup, 4, 2));
    } else {
        pb_act_fwd_args d = {.act = v->c->act, .x = x.d, .y = y.d},
                        r = {.act = v->c->act, .x = x.r, .y = y.r};
        pb_act_bwd_args bd = {.act = v->c->act, .x = x.d, .dy = dy.d, .dx = dx.d};
        pb_act_bwd_args br = {.act = v->c->act, .x = x.r, .dy = dy.r, .dx = dx.r};
        PB_RETURN(pb_act_fwd(v->dev, &d));
        PB_RETURN(pb_act_fwd(v->ref, &r));
        PB_RETURN(pb_act_bwd(v->dev, &bd));
        PB_RETURN(pb_act_bwd(v->ref, &br));
    }
    PB_RETURN(compare(v, "activation", &y, 4, 2));
    return compare(v, "activation backward", &dx, 4, 2);
}

static pb_status check_rope(verifier *v) {
    const pb_model_config *c = v->c;
    pb_dtype M = v->T == PB_F64 ? PB_F64 : PB_F32;
    int32_t positions[ROWS];
    pair x, freq, where;
    for (int i = 0; i < ROWS; i++) positions[i] = i < SEQ_A ? i : i - SEQ_A;
    PB_RETURN(draw(v, v->T, ROWS, c->NH * c->HS, -1, 1, &x));
    PB_RETURN(draw(v, M, c->HS / 2, 0, 0.01, 1, &freq));
    PB_RETURN(ints(v, positions, ROWS, &where));
    pb_rope_args d = {.x = x.d, .inv_freq = freq.d, .positions = where.d, .heads = c->NH};
    pb_rope_args r = {.x = x.r, .inv_freq = freq.r, .positions = where.r, .heads = c->NH};
    PB_RETURN(pb_rope(v->dev, &d));
    PB_RETURN(pb_rope(v->ref, &r));
    return compare(v, "rope", &x, 16, 2);
}

static pb_status check_loss(verifier *v, int64_t classes) {
    pb_dtype M = v->T == PB_F64 ? PB_F64 : PB_F32;
    int32_t target[4], got[4], want[4];
    pair logits, labels, loss, dlogits, pred;
    for (int64_t i = 0; i < 4; i++) target[i] = (int32_t)((i * 7) % classes);
    PB_RETURN(draw(v, M, 4, classes, -4, 4, &logits));
    PB_RETURN(ints(v, target, 4, &labels));
    PB_RETURN(ints(v, target, 4, &pred));
    PB_RETURN(draw(v, M, 4, 0, 0, 0, &loss));
    PB_RETURN(make(v, v->T, 4, classes, &dlogits));
    pb_tensor narrow = pb_narrowed(logits.d, v->T); /* as models/head.c has it */
    pb_cross_entropy_args d = {.logits = logits.d,
                               .target = labels.d,
                               .loss = loss.d,
                               .pred = pred.d,
                               .dlogits = narrow,
                               .scale = 0.25};
    pb_cross_entropy_args r = {.logits = logits.r,
                               .target = labels.r,
                               .loss = loss.r,
                               .pred = pred.r,
                               .dlogits = dlogits.r,
                               .scale = 0.25};
    PB_RETURN(pb_cross_entropy(v->dev, &d));
    PB_RETURN(pb_device_copy(v->dev, dlogits.d, narrow));
    PB_RETURN(pb_cross_entropy(v->ref, &r));
    PB_RETURN(compare(v, "cross_entropy", &loss, classes, 0));
    PB_RETURN(compare(v, "cross_entropy gradient", &dlogits, classes, 2));
    PB_RETURN(pb_device_get(v->dev, got, pred.d, sizeof got));
    PB_RETURN(pb_device_get(v->ref, want, pred.r, sizeof want));
    for (int i = 0; i < 4; i++) {
        if (got[i] == want[i] || !v->passed) continue;
        v->passed = false;
        snprintf(v->what, v->cap,
                 "cross_entropy on %s: prediction %d of row %d, the reference says %d",
                 pb_device_name(v->dev), (int)got[i], i, (int)want[i]);
    }
    return PB_OK;
}

static pb_status check_adamw(verifier *v) {
    enum { SIZE = 777 };
    pair w, g, m, s;
    PB_RETURN(draw(v, PB_F32, SIZE, 0, -1, 1, &w));
    PB_RETURN(draw(v, PB_F32, SIZE, 0, -1, 1, &g));
    PB_RETURN(draw(v, PB_F32, SIZE, 0, -1, 1, &m));
    PB_RETURN(draw(v, PB_F32, SIZE, 0, 0.5, 1, &s));
    pb_adamw_item id = {.w = w.d, .g = g.d, .m = m.d, .v = s.d, .lr = 0.125, .weight_decay = 0.5},
                  ir = id;
    ir.w = w.r;
    ir.g = g.r;
    ir.m = m.r;
    ir.v = s.r;
    pb_adamw_args d = {.items = &id, .n = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = 3},
                  r = d;
    r.items = &ir;
    PB_RETURN(pb_adamw(v->dev, &d));
    PB_RETURN(pb_adamw(v->ref, &r));
    return compare(v, "adamw", &w, 16, 0);
}

static pb_status check_all(verifier *v, int64_t classes) {
    const pb_model_config *c = v->c;
    PB_RETURN(check_linear(v, c->C, c->NH * c->HS));
    PB_RETURN(check_linear(v, c->C, c->FF));
    PB_RETURN(check_linear(v, c->FF, c->C));
    PB_RETURN(check_lowrank(v, c->C, c->NKV * c->HS));
    PB_RETURN(check_lowrank(v, c->FF, c->C));
    PB_RETURN(check_norm(v));
    PB_RETURN(check_attention(v));
    PB_RETURN(check_act(v));
    if (!c->gated_mlp && c->act == PB_ACT_GELU_TANH) PB_RETURN(check_linear_gelu(v, c->C, c->FF));
    if (c->rope) PB_RETURN(check_rope(v));
    PB_RETURN(check_loss(v, c->causal ? c->V : classes > 1 ? classes : 2));
    return check_adamw(v);
}

pb_status pb_verify_ops(const char *device, int threads, const pb_model_config *config,
                        pb_dtype dtype, int64_t classes, bool *passed, char *what, size_t cap) {
    pb_status status = PB_OK;
    verifier v = {.c = config,
                  .T = dtype,
                  .unit = dtype == PB_BF16 ? 0x1p-8 : 0x1p-24,
                  .passed = true,
                  .what = what,
                  .cap = cap};
    pb_device_options options = {.threads = threads}, one = {.threads = 1};
    if (cap > 0) what[0] = 0;
    PB_TRY(pb_device_open(device, &options, &v.dev));
    PB_TRY(pb_device_open("ref", &one, &v.ref));
    PB_TRY(check_all(&v, classes));
    *passed = v.passed;
done:
    pb_device_close(v.dev);
    pb_device_close(v.ref);
    return status;
}
