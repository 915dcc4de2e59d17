/* DoRA (Liu et al. 2024, arXiv 2402.09353), eq. 5: W' = m .* V / ||V||, V = W + s B A, with one
 * magnitude per output feature (norm over the input dimension, as both public implementations) and
 * m = ||W|| at the start. With n = ||V||, c = m/n, xd = D(x), q = V xd:
 *   no dropout:   y = c .* q + b
 *   with dropout: y = W x + b - W xd + c .* q  (the base path keeps x)
 * Backward takes n as a constant (sec. 4.3); "exact_norm_gradient" is eq. 6, at the price of an
 * [out,in] gradient. Test: tests/test_methods_unit.c. */
#include <stdio.h>
#include <stdlib.h>

#include "methods/lowrank.h"

static const char *const keys[] = {PB_LORA_KEYS, "exact_norm_gradient", NULL};

typedef struct dora {
    pb_lora lr; /* first */
    bool exact;
} dora;

typedef struct dora_site {
    pb_lowrank_site s; /* first */
    pb_param *m;       /* "<site>.dora_m" [out] */
    pb_tensor w2;      /* squared row norms of the frozen weight, M [out] */
    pb_tensor n, c, q; /* of the last forward: M [out], M [out], T [N,out] */
} dora_site;

static dora_site *at(const dora *d, int i) { return (dora_site *)(void *)pb_lowrank_at(&d->lr, i); }

/* --- life ------------------------------------------------------------------------------------- */

static void destroy(void *self) {
    pb_lowrank_clear(self);
    free(self);
}

static pb_status create(const pb_json *params, const char *where, void **self) {
    *self = NULL;
    PB_RETURN(pb_method_check_keys(params, where, keys));
    dora *d = calloc(1, sizeof *d);
    if (!d) return PB_ERROR(PB_E_OOM, "%s: no memory for the method", where);
    pb_lowrank_defaults(&d->lr);
    pb_status status = PB_OK;
    PB_TRY(pb_lora_parse(&d->lr, params, where));
    if (params) PB_TRY(pb_json_read_bool(params, where, "exact_norm_gradient", &d->exact));
    *self = d;
    d = NULL;
done:
    destroy(d);
    return status;
}

static pb_status describe(const void *self, pb_json *out) {
    const dora *d = self;
    PB_RETURN(pb_lora_describe(&d->lr, out));
    return pb_described(pb_json_add_bool(out, "exact_norm_gradient", d->exact));
}

static pb_status norms(const dora *d, const dora_site *ds) {
    pb_dora_norm_args args = {.w = pb_site_weight(ds->s.site),
                              .w2 = ds->w2,
                              .a = ds->s.a->value,
                              .b = ds->s.b->value,
                              .m = ds->m->master,
                              .n = ds->n,
                              .c = ds->c,
                              .scale = d->lr.scale};
    pb_device_scope(d->lr.dev, PB_SCOPE_PART, "weight_norm");
    return pb_dora_norm(d->lr.dev, &args);
}

/* The magnitude is 1-D and keeps the default of such parameters, no weight decay: decaying it would
 * pull whole rows of the pretrained weight to zero. (The Hugging Face trainer, going by names,
 * would decay it.) */
static pb_status attach_site(dora *d, dora_site *ds) {
    pb_site *site = ds->s.site;
    pb_params *params = d->lr.params;
    pb_dtype master = pb_params_master(params);
    char name[sizeof((pb_param *)0)->name];
    snprintf(name, sizeof name, "%s.dora_m", site->name);
    PB_RETURN(pb_params_add(params, PB_ROLE_ADAPTER, name, site->out, 0, &ds->m));
    PB_RETURN(pb_param_train(params, ds->m));
    PB_RETURN(pb_alloc1(d->lr.dev, PB_MEM_ADAPTER, master, site->out, &ds->w2));
    pb_weight_norm2_args norm2 = {.w = pb_site_weight(site), .y = ds->w2};
    PB_RETURN(pb_weight_norm2(d->lr.dev, &norm2));

    /* m := n as the forward pass computes it with B = 0, so that c is exactly 1 at the start. */
    pb_status status = PB_OK;
    pb_mark mark = pb_device_mark(d->lr.dev, PB_MEM_WORK);
    PB_TRY(pb_alloc1(d->lr.dev, PB_MEM_WORK, master, site->out, &ds->n));
    PB_TRY(pb_alloc1(d->lr.dev, PB_MEM_WORK, master, site->out, &ds->c));
    PB_TRY(norms(d, ds));
    PB_TRY(pb_device_copy(d->lr.dev, ds->m->master, ds->n));
    if (pb_params_compute(params) != master)
        PB_TRY(pb_axpby(d->lr.dev, &(pb_axpby_args){.x = ds->n, .y = ds->m->value, .alpha = 1}));
done:
    pb_device_rewind(d->lr.dev, PB_MEM_WORK, mark);
    return status;
}

static pb_status attach(void *self, const pb_attach *ctx) {
    dora *d = self;
    PB_RETURN(pb_lowrank_attach(&d->lr, "dora", ctx, sizeof(dora_site)));
    PB_RETURN(pb_lora_init(&d->lr));
    for (int i = 0; i < d->lr.n_sites; i++) PB_RETURN(attach_site(d, at(d, i)));
    return PB_OK;
}

/* --- forward ---------------------------------------------------------------------------------- */

static pb_status linear(const pb_pass *pass, const pb_site *site, pb_tensor x, pb_tensor y,
                        bool transpose, double beta) {
    pb_linear_args args = {
        .x = x, .y = y, .w = pb_site_weight(site), .transpose = transpose, .beta = beta};
    return pb_linear(pass->dev, &args);
}

/* q := W xd with xd = D(x), a temporary. */
static pb_status dropped_product(const pb_pass *pass, const pb_site *site, pb_tensor x, pb_tensor q,
                                 pb_drop drop) {
    pb_status status = PB_OK;
    pb_tensor xd;
    pb_mark mark = pb_device_mark(pass->dev, PB_MEM_WORK);
    pb_device_scope(pass->dev, PB_SCOPE_PART, "dropped_product");
    PB_TRY(pb_alloc2_raw(pass->dev, PB_MEM_WORK, pass->dtype, pb_rows(x), pb_cols(x), &xd));
    PB_TRY(pb_dropout(pass->dev, &(pb_dropout_args){.x = x, .y = xd, .drop = drop}));
    PB_TRY(linear(pass, site, xd, q, false, 0));
done:
    pb_device_rewind(pass->dev, PB_MEM_WORK, mark);
    return status;
}

static pb_status forward(dora *d, const pb_pass *pass, dora_site *ds, pb_tensor x, pb_tensor y) {
    pb_site *site = ds->s.site;
    pb_drop drop = pb_lowrank_drop(&d->lr, pass, site);
    pb_scale_cols_args scale = {.x = ds->q, .c = ds->c, .y = y};
    PB_RETURN(norms(d, ds));
    if (drop.p > 0) {
        PB_RETURN(pb_site_base_fwd(pass, site, x, y, true));
        PB_RETURN(dropped_product(pass, site, x, ds->q, drop));
        PB_RETURN(
            pb_axpby(pass->dev, &(pb_axpby_args){.x = ds->q, .y = y, .alpha = -1, .beta = 1}));
        scale.beta = 1;
    } else {
        PB_RETURN(pb_site_base_fwd(pass, site, x, ds->q, false));
        if (site->bias) scale.bias = site->bias->value;
    }
    PB_RETURN(pb_lowrank_branch_fwd(&d->lr, pass, &ds->s, x, ds->q));
    pb_device_scope(pass->dev, PB_SCOPE_PART, "magnitude");
    return pb_scale_cols(pass->dev, &scale);
}

static pb_status linear_fwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                            pb_tensor y) {
    dora *d = self;
    dora_site *ds = site->state;
    if (d->lr.merged) return pb_site_base_fwd(pass, site, x, y, true);

    pb_status status = PB_OK;
    pb_mem keep = pb_pass_keep(pass);
    pb_dtype master = pb_params_master(d->lr.params);
    pb_mark mark = pb_device_mark(pass->dev, PB_MEM_WORK);
    PB_TRY(pb_alloc1(pass->dev, keep, master, site->out, &ds->n));
    PB_TRY(pb_alloc1(pass->dev, keep, master, site->out, &ds->c));
    ds->q = y; /* in place, unless backward needs q */
    if (pass->train)
        PB_TRY(pb_alloc2_raw(pass->dev, keep, pass->dtype, pb_rows(y), site->out, &ds->q));
    PB_TRY(forward(d, pass, ds, x, y));
done:
    pb_device_rewind(pass->dev, PB_MEM_WORK, mark);
    return status;
}

/* --- backward --------------------------------------------------------------------------------- */

/* dx += what the base products pass on: no dropout W^T gc; with dropout W^T g + D'(W^T (gc - g)),
 * which overwrites gc = c .* g. */
static pb_status input_bwd(const dora *d, const pb_pass *pass, const pb_site *site, pb_tensor g,
                           pb_tensor gc, pb_tensor dx) {
    pb_drop drop = pb_lowrank_drop(&d->lr, pass, site);
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_BASE);
    if (drop.p == 0) return linear(pass, site, gc, dx, true, 1);

    pb_status status = PB_OK;
    pb_tensor t;
    pb_mark mark = pb_device_mark(pass->dev, PB_MEM_WORK);
    PB_TRY(pb_alloc2_raw(pass->dev, PB_MEM_WORK, pass->dtype, pb_rows(dx), site->in, &t));
    PB_TRY(linear(pass, site, g, dx, true, 1));
    pb_device_scope(pass->dev, PB_SCOPE_PART, "dropped_product");
    PB_TRY(pb_axpby(pass->dev, &(pb_axpby_args){.x = g, .y = gc, .alpha = -1, .beta = 1}));
    PB_TRY(linear(pass, site, gc, t, true, 0));
    PB_TRY(pb_dropout(pass->dev, &(pb_dropout_args){.x = t, .y = dx, .beta = 1, .drop = drop}));
done:
    pb_device_rewind(pass->dev, PB_MEM_WORK, mark);
    return status;
}

/* grad := g^T D(x), the gradient with respect to W' [out,in]. */
static pb_status full_gradient(const dora *d, const pb_pass *pass, const pb_site *site, pb_tensor x,
                               pb_tensor g, pb_tensor grad) {
    pb_status status = PB_OK;
    pb_drop drop = pb_lowrank_drop(&d->lr, pass, site);
    pb_tensor xd = x;
    pb_mark mark = pb_device_mark(pass->dev, PB_MEM_WORK);
    if (drop.p > 0) {
        PB_TRY(pb_alloc2_raw(pass->dev, PB_MEM_WORK, pass->dtype, pb_rows(x), pb_cols(x), &xd));
        PB_TRY(pb_dropout(pass->dev, &(pb_dropout_args){.x = x, .y = xd, .drop = drop}));
    }
    PB_TRY(pb_gemm(pass->dev,
                   &(pb_gemm_args){.a = g, .b = xd, .c = grad, .trans_a = true, .alpha = 1}));
done:
    pb_device_rewind(pass->dev, PB_MEM_WORK, mark);
    return status;
}

/* v := W + s B A (M). */
static pb_status directions(const dora *d, const dora_site *ds, pb_tensor v) {
    PB_RETURN(pb_weight_read(d->lr.dev, pb_site_weight(ds->s.site), v));
    pb_gemm_args gemm = {
        .a = ds->s.b->value, .b = ds->s.a->value, .c = v, .alpha = d->lr.scale, .beta = 1};
    return pb_gemm(d->lr.dev, &gemm);
}

/* eq. 6: dV = (m/n) (G - (G.V) V / n^2) row by row; dB += s dV A^T, dA += s B^T dV. */
static pb_status exact_bwd(const dora *d, const pb_pass *pass, dora_site *ds, pb_tensor x,
                           pb_tensor g) {
    pb_status status = PB_OK;
    pb_lowrank_site *s = &ds->s;
    pb_dtype master = pb_params_master(d->lr.params);
    pb_dora_exact_args exact = {.m = ds->m->master, .n = ds->n};
    pb_device_scope(pass->dev, PB_SCOPE_PART, "exact_norm_gradient");
    pb_mark mark = pb_device_mark(pass->dev, PB_MEM_WORK);
    PB_TRY(pb_alloc2_raw(pass->dev, PB_MEM_WORK, master, s->site->out, s->site->in, &exact.g));
    PB_TRY(pb_alloc2_raw(pass->dev, PB_MEM_WORK, master, s->site->out, s->site->in, &exact.v));
    PB_TRY(full_gradient(d, pass, s->site, x, g, exact.g));
    PB_TRY(directions(d, ds, exact.v));
    PB_TRY(pb_dora_exact(pass->dev, &exact));
    pb_gemm_args db = {.a = exact.g,
                       .b = s->a->master,
                       .c = s->b->grad,
                       .trans_b = true,
                       .alpha = d->lr.scale,
                       .beta = 1};
    pb_gemm_args da = {.a = s->b->master,
                       .b = exact.g,
                       .c = s->a->grad,
                       .trans_a = true,
                       .alpha = d->lr.scale,
                       .beta = 1};
    PB_TRY(pb_gemm(pass->dev, &db));
    PB_TRY(pb_gemm(pass->dev, &da));
done:
    pb_device_rewind(pass->dev, PB_MEM_WORK, mark);
    return status;
}

/* The branch sees gc. The exact variant takes only the input's gradient from it. */
static pb_status branch_bwd(dora *d, const pb_pass *pass, dora_site *ds, pb_tensor x, pb_tensor gc,
                            pb_tensor dx, double beta_dx) {
    pb_tensor none = {0};
    if (!d->exact) return pb_lowrank_branch_bwd(&d->lr, pass, &ds->s, x, gc, dx, none, beta_dx);
    if (!pb_has(dx)) return PB_OK;
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_LOW_RANK);
    pb_branch br = d->lr.branch(&d->lr, &ds->s);
    pb_lowrank_bwd_args args = {.x = x,
                                .h = ds->s.h,
                                .a = br.a,
                                .b = br.b,
                                .dy = gc,
                                .dx = dx,
                                .scale = br.scale,
                                .beta_dx = beta_dx,
                                .drop = pb_lowrank_drop(&d->lr, pass, ds->s.site)};
    return pb_lowrank_bwd(pass->dev, &args);
}

static pb_status linear_bwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                            pb_tensor dy, pb_tensor dx, double beta_dx) {
    dora *d = self;
    dora_site *ds = site->state;
    PB_ASSERT(!d->lr.merged);
    pb_status status = PB_OK;
    pb_tensor gc;
    pb_mark mark = pb_device_mark(pass->dev, PB_MEM_WORK);
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_GRADS);
    PB_TRY(pb_linear_grads(pass->dev, NULL, site->bias, x, dy)); /* the bias is not scaled */
    pb_device_scope(pass->dev, PB_SCOPE_PART, "magnitude");
    pb_coldot_args dm = {.a = dy, .b = ds->q, .div = ds->n, .y = ds->m->grad};
    PB_TRY(pb_coldot(pass->dev, &dm));
    PB_TRY(pb_alloc2_raw(pass->dev, PB_MEM_WORK, pass->dtype, pb_rows(dy), site->out, &gc));
    PB_TRY(pb_scale_cols(pass->dev, &(pb_scale_cols_args){.x = dy, .c = ds->c, .y = gc}));
    PB_TRY(branch_bwd(d, pass, ds, x, gc, dx, beta_dx));
    if (pb_has(dx)) PB_TRY(input_bwd(d, pass, site, dy, gc, dx));
    if (d->exact) PB_TRY(exact_bwd(d, pass, ds, x, dy));
done:
    pb_device_rewind(pass->dev, PB_MEM_WORK, mark);
    return status;
}

/* --- merge ------------------------------------------------------------------------------------ */

/* W := diag(m/n) V. The row scaling is eq. 6's op with directions 0, which leaves (m/n) g. */
static pb_status fold(dora *d, dora_site *ds) {
    pb_status status = PB_OK;
    pb_site *site = ds->s.site;
    pb_device *dev = d->lr.dev;
    pb_dtype master = pb_params_master(d->lr.params);
    pb_dora_exact_args rows = {.m = ds->m->master};
    pb_mark mark = pb_device_mark(dev, PB_MEM_WORK);
    PB_TRY(pb_alloc1(dev, PB_MEM_WORK, master, site->out, &ds->n));
    PB_TRY(pb_alloc1(dev, PB_MEM_WORK, master, site->out, &ds->c));
    PB_TRY(pb_alloc2_raw(dev, PB_MEM_WORK, master, site->out, site->in, &rows.g));
    PB_TRY(pb_alloc2(dev, PB_MEM_WORK, master, site->out, site->in, &rows.v));
    PB_TRY(norms(d, ds));
    PB_TRY(directions(d, ds, rows.g));
    rows.n = ds->n;
    PB_TRY(pb_dora_exact(dev, &rows));
    PB_TRY(pb_weight_write(dev, pb_site_weight(site), rows.g));
done:
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    return status;
}

static pb_status unmerge(void *self, pb_device *dev) {
    dora *d = self;
    PB_ASSERT(dev == d->lr.dev && d->lr.merged);
    for (int i = 0; i < d->lr.n_merged; i++)
        PB_RETURN(pb_weight_restore(dev, pb_site_weight(at(d, i)->s.site), &at(d, i)->s.kept));
    pb_device_rewind(dev, PB_MEM_WORK, d->lr.merge_mark);
    d->lr.n_merged = 0;
    d->lr.merged = false;
    return PB_OK;
}

/* Weights are always kept: a magnitude near zero could not be divided out again. */
static pb_status merge(void *self, pb_device *dev) {
    dora *d = self;
    pb_status status = PB_OK;
    PB_ASSERT(dev == d->lr.dev && !d->lr.merged);
    d->lr.merged = true;
    d->lr.n_merged = 0;
    d->lr.merge_mark = pb_device_mark(dev, PB_MEM_WORK);
    for (int i = 0; i < d->lr.n_sites; i++) {
        PB_TRY(pb_weight_keep(dev, pb_site_weight(at(d, i)->s.site), &at(d, i)->s.kept));
        d->lr.n_merged++;
        PB_TRY(fold(d, at(d, i)));
    }
done:
    if (status != PB_OK) unmerge(self, dev); /* all sites or none */
    return status;
}

const pb_method pb_method_dora = {
    .name = "dora",
    .title = "DoRA",
    .paper = "Liu et al. 2024, arXiv 2402.09353",
    .mergeable = true,
    .exact_at_start = true,
    .keys = keys,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .attach = attach,
    .linear_fwd = linear_fwd,
    .linear_bwd = linear_bwd,
    .merge = merge,
    .unmerge = unmerge,
};
