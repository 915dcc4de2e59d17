/* The low-rank branch that LoRA, QLoRA, AdaLoRA, DyLoRA and DoRA share (lowrank.h): configuration,
 * parameters, forward, backward, merge. Hu et al. 2021 (arXiv 2106.09685), section 4.1: h = W0 x +
 * (alpha/r) B A x, dropout on A's input only. Test: tests/test_methods_unit.c. */
#include "methods/lowrank.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const bias_names[] = {"none", "lora_only", "all"};
static const char *const init_names[] = {"kaiming", "gaussian"};

/* --- configuration ---------------------------------------------------------------------------- */

static pb_branch whole_factors(const pb_lora *lr, const pb_lowrank_site *s) {
    pb_branch all = {.a = s->a->value, .b = s->b->value, .scale = lr->scale};
    if (lr->cut == 0) return all;
    return (pb_branch){.a = pb_rows_of(all.a, 0, lr->cut),
                       .b = pb_cols_of(all.b, 0, lr->cut),
                       .scale = all.scale};
}

void pb_lowrank_defaults(pb_lora *lr) {
    lr->rank = 8;
    lr->alpha = 16;
    lr->scale = 2;
    lr->branch = whole_factors;
}

/* Copies n strings; targets may be NULL: then the one pattern "*". */
static pb_status take_targets(pb_lora *lr, const pb_json *array, const char *where) {
    int n = array ? cJSON_GetArraySize(array) : 1;
    if (array) PB_RETURN(pb_targets_check(array, where));
    lr->targets = calloc((size_t)n, sizeof *lr->targets);
    if (!lr->targets) return PB_ERROR(PB_E_OOM, "no memory for %d target patterns", n);
    lr->n_targets = n;
    for (int i = 0; i < n; i++) {
        const pb_json *item = array ? cJSON_GetArrayItem(array, i) : NULL;
        lr->targets[i] = strdup(item ? item->valuestring : "*");
        if (!lr->targets[i]) return PB_ERROR(PB_E_OOM, "no memory for %d target patterns", n);
    }
    return PB_OK;
}

pb_status pb_lowrank_parse(pb_lora *lr, const pb_json *o, const char *where, const char *rank_key) {
    if (o) {
        PB_RETURN(pb_json_read_i64(o, where, rank_key, 1, 1 << 20, &lr->rank));
        PB_RETURN(pb_json_read_f64(o, where, "alpha", 0, 1e9, &lr->alpha));
        PB_RETURN(pb_json_read_f64(o, where, "dropout", 0, 1, &lr->dropout));
    }
    if (!(lr->alpha > 0)) return PB_ERROR(PB_E_INPUT, "%s.alpha: must be greater than 0", where);
    if (!(lr->dropout < 1)) return PB_ERROR(PB_E_INPUT, "%s.dropout: must be below 1", where);
    return take_targets(lr, o ? pb_json_get(o, "targets") : NULL, where);
}

pb_status pb_lowrank_describe(const pb_lora *lr, pb_json *out, const char *rank_key) {
    bool ok = pb_json_add_i64(out, rank_key, lr->rank) &&
              pb_json_add_f64(out, "alpha", lr->alpha) &&
              pb_json_add_f64(out, "dropout", lr->dropout);
    pb_json *targets = ok ? pb_json_add_array(out, "targets") : NULL;
    ok = targets != NULL;
    for (int i = 0; ok && i < lr->n_targets; i++) {
        pb_json *s = cJSON_CreateString(lr->targets[i]);
        ok = s && cJSON_AddItemToArray(targets, s);
    }
    return pb_described(ok);
}

pb_status pb_lowrank_parse_scale(pb_lora *lr, const pb_json *o, const char *where) {
    if (o) PB_RETURN(pb_json_read_f64(o, where, "scale", 0, 1e9, &lr->scale));
    if (!(lr->scale > 0)) return PB_ERROR(PB_E_INPUT, "%s.scale: must be greater than 0", where);
    return PB_OK;
}

pb_status pb_lora_parse(pb_lora *lr, const pb_json *o, const char *where) {
    PB_RETURN(pb_lowrank_parse(lr, o, where, "rank"));
    if (o) {
        PB_RETURN(pb_json_read_bool(o, where, "rslora", &lr->rslora));
        PB_RETURN(pb_json_read_choice(o, where, "bias", bias_names, 3, &lr->bias));
        PB_RETURN(pb_json_read_choice(o, where, "init", init_names, 2, &lr->init));
    }
    /* rsLoRA: Kalajdzievski 2023, arXiv 2312.03732 */
    lr->scale = lr->alpha / (lr->rslora ? sqrt((double)lr->rank) : (double)lr->rank);
    return pb_lowrank_parse_scale(lr, o, where);
}

pb_status pb_lora_describe(const pb_lora *lr, pb_json *out) {
    PB_RETURN(pb_lowrank_describe(lr, out, "rank"));
    return pb_described(pb_json_add_bool(out, "rslora", lr->rslora) &&
                        pb_json_add_str(out, "bias", bias_names[lr->bias]) &&
                        pb_json_add_str(out, "init", init_names[lr->init]) &&
                        pb_json_add_f64(out, "scale", lr->scale));
}

void pb_lowrank_clear(pb_lora *lr) {
    if (!lr) return;
    for (int i = 0; i < lr->n_targets; i++) free(lr->targets[i]);
    free(lr->targets);
    free(lr->sites);
    lr->targets = NULL;
    lr->sites = NULL;
    lr->n_targets = lr->n_sites = 0;
}

/* --- attach ----------------------------------------------------------------------------------- */

static pb_status add_factor(pb_lora *lr, const pb_site *site, const char *what, int64_t rows,
                            int64_t cols, pb_param **out) {
    char name[sizeof((pb_param *)0)->name];
    snprintf(name, sizeof name, "%s.%s", site->name, what);
    PB_RETURN(pb_params_add(lr->params, PB_ROLE_ADAPTER, name, rows, cols, out));
    return pb_param_train(lr->params, *out);
}

static pb_status attach_site(pb_lora *lr, pb_lowrank_site *s, pb_site *site) {
    int64_t limit = site->in < site->out ? site->in : site->out;
    if (lr->rank > limit)
        return PB_ERROR(PB_E_INPUT,
                        "%s: rank %lld at '%s' is above its limit %lld, the smaller side of its "
                        "%lld x %lld weight; lower the rank or leave this target out",
                        lr->name, (long long)lr->rank, site->name, (long long)limit,
                        (long long)site->out, (long long)site->in);
    s->site = site;
    PB_RETURN(add_factor(lr, site, "lora_A", lr->rank, site->in, &s->a));
    PB_RETURN(add_factor(lr, site, "lora_B", site->out, lr->rank, &s->b));
    site->hooked = true;
    site->state = s;
    return PB_OK;
}

/* "lora_only": biases of the hooked sites. "all": every bias of the base model, those of the norms
 * included (as peft). */
static pb_status train_biases(const pb_lora *lr, const pb_attach *ctx) {
    for (int i = 0; i < ctx->n_sites && lr->bias != PB_BIAS_NONE; i++) {
        pb_site *site = &ctx->sites[i];
        bool all = lr->bias == PB_BIAS_ALL;
        if (site->kind == PB_SITE_LINEAR && site->bias && (all || site->hooked))
            PB_RETURN(pb_param_train(ctx->params, site->bias));
        if (site->kind == PB_SITE_NORM && site->beta && all)
            PB_RETURN(pb_param_train(ctx->params, site->beta));
    }
    return PB_OK;
}

pb_status pb_lowrank_attach(pb_lora *lr, const char *name, const pb_attach *ctx, size_t site_size) {
    pb_status status = PB_OK;
    lr->name = name;
    lr->dev = ctx->dev;
    lr->params = ctx->params;
    lr->seed = ctx->seed;
    lr->site_size = site_size;
    bool *hit = calloc((size_t)ctx->n_sites + 1, sizeof *hit);
    if (!hit) PB_FAIL(PB_E_OOM, "no memory to mark %d sites", ctx->n_sites);
    PB_TRY(pb_targets_match(name, (const char *const *)lr->targets, lr->n_targets, ctx->sites,
                            ctx->n_sites, hit));
    int n = 0;
    for (int i = 0; i < ctx->n_sites; i++) n += hit[i];
    lr->sites = calloc((size_t)n, site_size);
    if (!lr->sites) PB_FAIL(PB_E_OOM, "no memory for the state of %d sites", n);
    for (int i = 0; i < ctx->n_sites; i++)
        if (hit[i]) PB_TRY(attach_site(lr, pb_lowrank_at(lr, lr->n_sites++), &ctx->sites[i]));
    PB_TRY(train_biases(lr, ctx));
done:
    free(hit);
    return status;
}

uint64_t pb_lowrank_stream(const pb_lowrank_site *s, int which) {
    return pb_random_stream("method.init", (uint64_t)s->site->id, (uint64_t)which);
}

pb_status pb_lora_init(pb_lora *lr) {
    for (int i = 0; i < lr->n_sites; i++) {
        pb_lowrank_site *s = pb_lowrank_at(lr, i);
        uint64_t stream = pb_lowrank_stream(s, 0);
        double bound = 1 / sqrt((double)s->site->in);
        if (lr->init == PB_INIT_GAUSSIAN)
            PB_RETURN(
                pb_param_init_normal(lr->params, s->a, 1 / (double)lr->rank, 0, lr->seed, stream));
        else
            PB_RETURN(pb_param_init_uniform(lr->params, s->a, -bound, bound, lr->seed, stream));
        PB_RETURN(pb_param_fill(lr->params, s->b, 0));
    }
    return PB_OK;
}

/* --- hooks ------------------------------------------------------------------------------------ */

pb_drop pb_lowrank_drop(const pb_lora *lr, const pb_pass *pass, const pb_site *site) {
    return pb_pass_dropout(pass, site->id, PB_SLOT_METHOD, lr->dropout);
}

pb_status pb_lowrank_branch_fwd(pb_lora *lr, const pb_pass *pass, pb_lowrank_site *s, pb_tensor x,
                                pb_tensor y) {
    pb_status status = PB_OK;
    pb_branch br = lr->branch(lr, s);
    pb_mark mark = pb_device_mark(pass->dev, PB_MEM_WORK);
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_LOW_RANK);
    PB_TRY(
        pb_alloc2_raw(pass->dev, pb_pass_keep(pass), pass->dtype, pb_rows(x), br.a.dim[0], &s->h));
    pb_lowrank_args args = {.x = x,
                            .a = br.a,
                            .e = br.e,
                            .b = br.b,
                            .y = y,
                            .h = s->h,
                            .scale = br.scale,
                            .drop = pb_lowrank_drop(lr, pass, s->site)};
    PB_TRY(pb_lowrank(pass->dev, &args));
done:
    pb_device_rewind(pass->dev, PB_MEM_WORK, mark); /* only evaluation has taken anything there */
    return status;
}

pb_status pb_lowrank_branch_bwd(pb_lora *lr, const pb_pass *pass, pb_lowrank_site *s, pb_tensor x,
                                pb_tensor dy, pb_tensor dx, pb_tensor de, double beta_dx) {
    pb_branch br = lr->branch(lr, s);
    pb_lowrank_bwd_args args = {.x = x,
                                .h = s->h,
                                .a = br.a,
                                .e = br.e,
                                .b = br.b,
                                .dy = dy,
                                .dx = dx,
                                .da = s->a->grad,
                                .de = de,
                                .db = s->b->grad,
                                .scale = br.scale,
                                .beta_dx = beta_dx,
                                .drop = pb_lowrank_drop(lr, pass, s->site)};
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_LOW_RANK);
    return pb_lowrank_bwd(pass->dev, &args);
}

pb_status pb_lowrank_linear_fwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                                pb_tensor y) {
    pb_lora *lr = self;
    PB_RETURN(pb_site_base_fwd(pass, site, x, y, true));
    if (lr->merged) return PB_OK;
    return pb_lowrank_branch_fwd(lr, pass, site->state, x, y);
}

pb_status pb_lowrank_linear_bwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                                pb_tensor dy, pb_tensor dx, double beta_dx) {
    pb_lora *lr = self;
    PB_ASSERT(!lr->merged);
    PB_RETURN(pb_site_base_bwd(pass, site, x, dy, dx, beta_dx));
    return pb_lowrank_branch_bwd(lr, pass, site->state, x, dy, dx, (pb_tensor){0}, 1);
}

int64_t pb_lowrank_components(const void *self) { return ((const pb_lora *)self)->rank; }

pb_status pb_lowrank_cut(void *self, int64_t rank) {
    pb_lora *lr = self;
    PB_ASSERT(rank >= 0 && rank < lr->rank && !lr->merged && lr->branch == whole_factors);
    lr->cut = rank;
    return PB_OK;
}

/* --- merge ------------------------------------------------------------------------------------ */

/* W += sign * scale B diag(e) A. */
static pb_status fold(pb_lora *lr, const pb_lowrank_site *s, double sign) {
    pb_status status = PB_OK;
    pb_branch br = s->merged;
    pb_mark mark = pb_device_mark(lr->dev, PB_MEM_WORK);
    if (pb_has(br.e)) {
        pb_tensor be;
        PB_TRY(pb_alloc2_raw(lr->dev, PB_MEM_WORK, br.b.dtype, br.b.dim[0], br.b.dim[1], &be));
        PB_TRY(pb_scale_cols(lr->dev, &(pb_scale_cols_args){.x = br.b, .c = br.e, .y = be}));
        br.b = be;
    }
    PB_TRY(pb_weight_add_product(lr->dev, pb_site_weight(s->site), pb_params_master(lr->params),
                                 sign * br.scale, br.b, br.a));
done:
    pb_device_rewind(lr->dev, PB_MEM_WORK, mark);
    return status;
}

/* A sum in bf16 or in 4 bits cannot be computed back. */
static bool must_keep(pb_weight w) { return w.quant || w.dense.dtype == PB_BF16; }

pb_status pb_lowrank_merge(void *self, pb_device *dev) {
    pb_lora *lr = self;
    pb_status status = PB_OK;
    PB_ASSERT(dev == lr->dev && !lr->merged);
    lr->merged = true;
    lr->n_merged = 0;
    lr->merge_mark = pb_device_mark(dev, PB_MEM_WORK);
    for (int i = 0; i < lr->n_sites; i++) {
        pb_lowrank_site *s = pb_lowrank_at(lr, i);
        pb_weight w = pb_site_weight(s->site);
        s->merged = lr->branch(lr, s);
        if (must_keep(w)) PB_TRY(pb_weight_keep(dev, w, &s->kept));
        PB_TRY(fold(lr, s, 1));
        lr->n_merged++;
    }
done:
    if (status != PB_OK) pb_lowrank_unmerge(self, dev); /* all sites or none */
    return status;
}

pb_status pb_lowrank_unmerge(void *self, pb_device *dev) {
    pb_lora *lr = self;
    PB_ASSERT(dev == lr->dev && lr->merged);
    for (int i = lr->n_merged - 1; i >= 0; i--) {
        pb_lowrank_site *s = pb_lowrank_at(lr, i);
        pb_weight w = pb_site_weight(s->site);
        PB_RETURN(must_keep(w) ? pb_weight_restore(dev, w, &s->kept) : fold(lr, s, -1));
    }
    pb_device_rewind(dev, PB_MEM_WORK, lr->merge_mark);
    lr->n_merged = 0;
    lr->merged = false;
    return PB_OK;
}
