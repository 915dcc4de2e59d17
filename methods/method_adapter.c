/* Bottleneck adapters at SUBLAYER_OUT sites: y = x + W2 f(W1 z + b1) + b2 replaces the sub-layer's
 * output x.
 *   houlsby (Houlsby et al. 2019, arXiv 1902.00751, sec. 2.1; adapter-bert): two per layer, z = x,
 *     f = GELU (tanh form), W cut normal with sigma 1e-3; every layer norm is trained too.
 *   pfeiffer (Pfeiffer et al. 2020, arXiv 2005.00052; AdapterHub): one per layer, after the
 *     feed-forward block, f = ReLU, W normal with sigma 0.02; post-norm models: z = LN(x + res) with
 *     the pretrained norm that follows, pre-norm models (no such norm): z = x.
 * Not mergeable: f stands between the two products. Test: tests/test_methods_unit.c. */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "methods/method.h"

static const char *const keys[] = {"variant",    "size",        "activation",
                                   "init_sigma", "train_norms", NULL};
static const char *const variant_names[] = {"houlsby", "pfeiffer"};

enum { HOULSBY, PFEIFFER };

typedef struct adapter_site {
    pb_site *site;
    pb_param *down, *down_bias, *up, *up_bias;
    /* of the last forward: */
    pb_tensor z;               /* [N,C] input of W1 */
    pb_tensor sum, mean, rstd; /* of the inner norm */
    pb_tensor pre, act;        /* [N,size] around f */
} adapter_site;

typedef struct adapter {
    int variant;
    int64_t size;
    int activation; /* pb_act */
    double sigma;
    bool train_norms;
    pb_params *params;
    uint64_t seed;
    adapter_site *sites;
    int n_sites;
} adapter;

/* --- configuration ---------------------------------------------------------------------------- */

static void destroy(void *self) {
    adapter *ad = self;
    if (!ad) return;
    free(ad->sites);
    free(ad);
}

static pb_status parse(adapter *ad, const pb_json *o, const char *where) {
    const char *acts[PB_ACT_COUNT];
    for (int i = 0; i < PB_ACT_COUNT; i++) acts[i] = pb_act_name((pb_act)i);
    if (o) PB_RETURN(pb_json_read_choice(o, where, "variant", variant_names, 2, &ad->variant));
    bool houlsby = ad->variant == HOULSBY;
    ad->size = 64;
    ad->activation = houlsby ? PB_ACT_GELU_TANH : PB_ACT_RELU;
    ad->sigma = houlsby ? 1e-3 : 0.02;
    ad->train_norms = houlsby;
    if (!o) return PB_OK;
    PB_RETURN(pb_json_read_i64(o, where, "size", 1, 1 << 20, &ad->size));
    PB_RETURN(pb_json_read_choice(o, where, "activation", acts, PB_ACT_COUNT, &ad->activation));
    PB_RETURN(pb_json_read_f64(o, where, "init_sigma", 0, 10, &ad->sigma));
    if (!(ad->sigma > 0))
        return PB_ERROR(
            PB_E_INPUT,
            "%s.init_sigma: must be greater than 0: with both matrices zero nothing would learn",
            where);
    return pb_json_read_bool(o, where, "train_norms", &ad->train_norms);
}

static pb_status create(const pb_json *params, const char *where, void **self) {
    *self = NULL;
    PB_RETURN(pb_method_check_keys(params, where, keys));
    adapter *ad = calloc(1, sizeof *ad);
    if (!ad) return PB_ERROR(PB_E_OOM, "%s: no memory for the method", where);
    pb_status status = PB_OK;
    PB_TRY(parse(ad, params, where));
    *self = ad;
    ad = NULL;
done:
    destroy(ad);
    return status;
}

static pb_status describe(const void *self, pb_json *out) {
    const adapter *ad = self;
    return pb_described(pb_json_add_str(out, "variant", variant_names[ad->variant]) &&
                        pb_json_add_i64(out, "size", ad->size) &&
                        pb_json_add_str(out, "activation", pb_act_name((pb_act)ad->activation)) &&
                        pb_json_add_f64(out, "init_sigma", ad->sigma) &&
                        pb_json_add_bool(out, "train_norms", ad->train_norms));
}

/* --- attach ----------------------------------------------------------------------------------- */

static pb_status add(const adapter *ad, const pb_site *site, const char *what, int64_t dim0,
                     int64_t dim1, pb_param **out) {
    char name[sizeof((pb_param *)0)->name];
    snprintf(name, sizeof name, "%s.adapter_%s", site->name, what);
    PB_RETURN(pb_params_add(ad->params, PB_ROLE_ADAPTER, name, dim0, dim1, out));
    return pb_param_train(ad->params, *out); /* biases stay the zeros they are allocated as */
}

static pb_status attach_site(const adapter *ad, adapter_site *s, pb_site *site) {
    int64_t width = site->out;
    s->site = site;
    PB_RETURN(add(ad, site, "down.weight", ad->size, width, &s->down));
    PB_RETURN(add(ad, site, "down.bias", ad->size, 0, &s->down_bias));
    PB_RETURN(add(ad, site, "up.weight", width, ad->size, &s->up));
    PB_RETURN(add(ad, site, "up.bias", width, 0, &s->up_bias));
    pb_param *matrices[] = {s->down, s->up};
    double cut = ad->variant == HOULSBY ? 2 : 0;
    for (uint64_t k = 0; k < 2; k++) {
        uint64_t stream = pb_random_stream("method.init", (uint64_t)site->id, k);
        PB_RETURN(pb_param_init_normal(ad->params, matrices[k], ad->sigma, cut, ad->seed, stream));
    }
    site->hooked = true;
    site->state = s;
    return PB_OK;
}

static bool wanted(const adapter *ad, const pb_site *site) {
    if (site->kind != PB_SITE_SUBLAYER_OUT) return false;
    return ad->variant == HOULSBY || pb_glob("*.mlp.out", site->name);
}

static pb_status train_norms(const pb_attach *ctx) {
    for (int i = 0; i < ctx->n_sites; i++) {
        const pb_site *site = &ctx->sites[i];
        if (site->kind != PB_SITE_NORM) continue;
        if (site->gamma) PB_RETURN(pb_param_train(ctx->params, site->gamma));
        if (site->beta) PB_RETURN(pb_param_train(ctx->params, site->beta));
    }
    return PB_OK;
}

static pb_status attach(void *self, const pb_attach *ctx) {
    adapter *ad = self;
    int n = 0;
    for (int i = 0; i < ctx->n_sites; i++) n += wanted(ad, &ctx->sites[i]);
    if (n == 0)
        return PB_ERROR(PB_E_INPUT, "adapter: the model has no sub-layer to put an adapter after");
    ad->params = ctx->params;
    ad->seed = ctx->seed;
    ad->sites = calloc((size_t)n, sizeof *ad->sites);
    if (!ad->sites) return PB_ERROR(PB_E_OOM, "adapter: no memory for %d adapters", n);
    for (int i = 0; i < ctx->n_sites; i++)
        if (wanted(ad, &ctx->sites[i]))
            PB_RETURN(attach_site(ad, &ad->sites[ad->n_sites++], &ctx->sites[i]));
    return ad->train_norms ? train_norms(ctx) : PB_OK;
}

/* --- forward ---------------------------------------------------------------------------------- */

static bool has_inner_norm(const adapter *ad, const pb_site *site) {
    return ad->variant == PFEIFFER && site->gamma;
}

static pb_status dense(pb_device *dev, pb_tensor x, const pb_param *w, const pb_param *bias,
                       pb_tensor y, double beta) {
    pb_linear_args args = {
        .x = x, .y = y, .w = {.dense = w->value}, .bias = bias->value, .beta = beta};
    return pb_linear(dev, &args);
}

/* z = LN(x + res) with the pretrained norm; keeps the sum. */
static pb_status inner_norm(const adapter *ad, const pb_pass *pass, adapter_site *s, pb_tensor x,
                            pb_tensor res) {
    const pb_site *site = s->site;
    pb_dtype master = pb_params_master(ad->params);
    pb_mem keep = pb_pass_keep(pass);
    int64_t rows = pb_rows(x), cols = pb_cols(x);
    PB_RETURN(pb_alloc2_raw(pass->dev, keep, pass->dtype, rows, cols, &s->sum));
    PB_RETURN(pb_alloc1(pass->dev, keep, master, rows, &s->rstd));
    s->mean = (pb_tensor){0};
    if (site->norm == PB_NORM_LAYER) PB_RETURN(pb_alloc1(pass->dev, keep, master, rows, &s->mean));
    pb_norm_fwd_args args = {.norm = site->norm,
                             .x = x,
                             .res = res,
                             .gamma = site->gamma->value,
                             .y = s->z,
                             .sum = s->sum,
                             .mean = s->mean,
                             .rstd = s->rstd,
                             .eps = site->norm_eps};
    if (site->beta) args.beta = site->beta->value;
    return pb_norm_fwd(pass->dev, &args);
}

static pb_status forward(const adapter *ad, const pb_pass *pass, adapter_site *s, pb_tensor x,
                         pb_tensor res, pb_tensor y) {
    pb_device *dev = pass->dev;
    pb_mem keep = pb_pass_keep(pass);
    pb_device_scope(dev, PB_SCOPE_PART, "bottleneck");
    bool inner = has_inner_norm(ad, s->site);
    s->z = x;
    /* x itself may be gone at backward: z is kept */
    if (inner || pass->train)
        PB_RETURN(pb_alloc2_raw(dev, keep, pass->dtype, pb_rows(x), pb_cols(x), &s->z));
    PB_RETURN(pb_alloc2_raw(dev, keep, pass->dtype, pb_rows(x), ad->size, &s->pre));
    PB_RETURN(pb_alloc2_raw(dev, keep, pass->dtype, pb_rows(x), ad->size, &s->act));
    if (inner)
        PB_RETURN(inner_norm(ad, pass, s, x, res));
    else if (pass->train)
        PB_RETURN(pb_device_copy(dev, s->z, x));
    PB_RETURN(dense(dev, s->z, s->down, s->down_bias, s->pre, 0));
    pb_act_fwd_args act = {.act = (pb_act)ad->activation, .x = s->pre, .y = s->act};
    PB_RETURN(pb_act_fwd(dev, &act));
    PB_RETURN(pb_device_copy(dev, y, x));
    return dense(dev, s->act, s->up, s->up_bias, y, 1);
}

static pb_status sublayer_fwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                              pb_tensor res, pb_tensor y) {
    pb_mark mark = pb_device_mark(pass->dev, PB_MEM_WORK);
    pb_status status = forward(self, pass, site->state, x, res, y);
    pb_device_rewind(pass->dev, PB_MEM_WORK, mark); /* only evaluation keeps anything there */
    PB_RETURN(status);
    return PB_OK;
}

/* --- backward --------------------------------------------------------------------------------- */

/* y = beta*y + dy W: the input's gradient of a dense layer. */
static pb_status dense_input(pb_device *dev, pb_tensor dy, const pb_param *w, pb_tensor y,
                             double beta) {
    pb_linear_args args = {
        .x = dy, .y = y, .w = {.dense = w->value}, .transpose = true, .beta = beta};
    return pb_linear(dev, &args);
}

/* dsum := the gradient with respect to x + res, from dz; dgamma, dbeta where they are trained. */
static pb_status inner_norm_bwd(const pb_pass *pass, const adapter_site *s, pb_tensor dz,
                                pb_tensor dsum) {
    const pb_site *site = s->site;
    pb_norm_bwd_args args = {.norm = site->norm,
                             .dy = dz,
                             .sum = s->sum,
                             .gamma = site->gamma->value,
                             .mean = s->mean,
                             .rstd = s->rstd,
                             .dx = dsum};
    if (site->gamma->trainable) args.dgamma = site->gamma->grad;
    if (site->beta && site->beta->trainable) args.dbeta = site->beta->grad;
    return pb_norm_bwd(pass->dev, &args);
}

static pb_status add_to(pb_device *dev, pb_tensor x, pb_tensor y) {
    return pb_axpby(dev, &(pb_axpby_args){.x = x, .y = y, .alpha = 1, .beta = 1});
}

static pb_status sublayer_bwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor dy,
                              pb_tensor dx, pb_tensor dres) {
    const adapter *ad = self;
    const adapter_site *s = site->state;
    pb_device *dev = pass->dev;
    pb_status status = PB_OK;
    pb_tensor dact, dz;
    pb_device_scope(dev, PB_SCOPE_PART, "bottleneck");
    int64_t rows = pb_rows(dy), cols = pb_cols(dy);
    pb_mark mark = pb_device_mark(dev, PB_MEM_WORK);
    PB_TRY(pb_alloc2_raw(dev, PB_MEM_WORK, pass->dtype, rows, ad->size, &dact));
    PB_TRY(pb_linear_grads(dev, s->up, s->up_bias, s->act, dy));
    PB_TRY(dense_input(dev, dy, s->up, dact, 0));
    pb_act_bwd_args act = {.act = (pb_act)ad->activation, .x = s->pre, .dy = dact, .dx = dact};
    PB_TRY(pb_act_bwd(dev, &act));
    PB_TRY(pb_linear_grads(dev, s->down, s->down_bias, s->z, dact));
    PB_TRY(pb_device_copy(dev, dx, dy)); /* the adapter's own skip */
    if (!has_inner_norm(ad, site)) {
        PB_TRY(dense_input(dev, dact, s->down, dx, 1));
        goto done;
    }
    PB_TRY(pb_alloc2_raw(dev, PB_MEM_WORK, pass->dtype, rows, cols, &dz));
    PB_TRY(dense_input(dev, dact, s->down, dz, 0));
    PB_TRY(inner_norm_bwd(pass, s, dz, dz));
    PB_TRY(add_to(dev, dz, dx));
    if (pb_has(dres)) PB_TRY(add_to(dev, dz, dres));
done:
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    return status;
}

const pb_method pb_method_adapter = {
    .name = "adapter",
    .title = "Adapter",
    .paper = "Houlsby et al. 2019, arXiv 1902.00751; Pfeiffer et al. 2020, arXiv 2005.00052",
    .keys = keys,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .attach = attach,
    .sublayer_fwd = sublayer_fwd,
    .sublayer_bwd = sublayer_bwd,
};
