/* AdaLoRA (Zhang et al. 2023, arXiv 2303.10512): y = W x + b + (alpha/(r0 + 1e-5)) B (E .* A D(x)),
 * r0 the initial rank: a pseudo-SVD whose singular values E are pruned during the run by importance
 * (sec. 3.2, 3.3). As the released code:
 *   A, B ~ N(0, 0.02^2), E = 0; the scale does not follow pruning;
 *   the orthogonality term is a mean of plain (not squared) Frobenius norms over all A and B;
 *   importance comes after the optimizer step: new weights, and the gradients used in that step;
 *   only E is masked, its moments are left alone: a value can come back until the final choice.
 * At t = T - tfinal the choice is made for good and re-applied after every later step (as peft).
 * For LoRA's scale at equal alpha give "scale": alpha/rank. Test: tests/test_methods_unit.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "methods/budget.h"
#include "methods/lowrank.h"

static const char *const keys[] = {"target_rank", "init_rank",   "alpha",  "scale",   "dropout",
                                   "targets",     "tinit",       "tfinal", "delta_t", "beta1",
                                   "beta2",       "orth_weight", NULL};

/* Importance of one matrix: running mean and uncertainty. */
typedef struct importance {
    pb_tensor ibar, ubar;
} importance;

typedef struct adalora_site {
    pb_lowrank_site s; /* first */
    pb_param *e;       /* "<site>.lora_E" [r] */
    importance of_a, of_b, of_e;
    pb_tensor score, keep; /* M [r]: slices of the method's; keep: 1 or 0 */
} adalora_site;

typedef struct adalora {
    pb_lora lr; /* first; lr.rank is the initial rank */
    int64_t target_rank, delta_t;
    double tinit, tfinal; /* steps, or fractions of the run below 1 */
    double beta1, beta2, orth_weight;
    pb_budget budget;
    pb_tensor gram;        /* M [r,r] */
    pb_tensor score, keep; /* M [n_sites,r] */
    double *host;          /* scores, sorted scores, keep: 3 x n_sites*r */
    void *raw;             /* n_sites*r values of type M */
} adalora;

static adalora_site *at(const adalora *ad, int i) {
    return (adalora_site *)(void *)pb_lowrank_at(&ad->lr, i);
}

static int64_t n_triplets(const adalora *ad) { return ad->lr.n_sites * ad->lr.rank; }

static pb_branch triplets(const pb_lora *lr, const pb_lowrank_site *s) {
    const adalora_site *as = (const adalora_site *)(const void *)s;
    return (pb_branch){.a = s->a->value, .e = as->e->value, .b = s->b->value, .scale = lr->scale};
}

/* --- configuration ---------------------------------------------------------------------------- */

static void destroy(void *self) {
    adalora *ad = self;
    if (!ad) return;
    pb_lowrank_clear(&ad->lr);
    free(ad->host);
    free(ad->raw);
    free(ad);
}

static pb_status parse_steps(const pb_json *o, const char *where, const char *key, double *steps) {
    PB_RETURN(pb_json_read_f64(o, where, key, 0, 1e15, steps));
    if (*steps >= 1 && *steps != floor(*steps))
        return PB_ERROR(PB_E_INPUT,
                        "%s.%s: %g is neither a fraction of the run below 1 nor a whole "
                        "number of steps",
                        where, key, *steps);
    return PB_OK;
}

static pb_status parse(adalora *ad, const pb_json *o, const char *where) {
    PB_RETURN(pb_lowrank_parse(&ad->lr, o, where, "init_rank"));
    ad->lr.scale = ad->lr.alpha / ((double)ad->lr.rank + 1e-5);
    PB_RETURN(pb_lowrank_parse_scale(&ad->lr, o, where));
    if (o) {
        PB_RETURN(pb_json_read_i64(o, where, "target_rank", 1, 1 << 20, &ad->target_rank));
        PB_RETURN(parse_steps(o, where, "tinit", &ad->tinit));
        PB_RETURN(parse_steps(o, where, "tfinal", &ad->tfinal));
        PB_RETURN(pb_json_read_i64(o, where, "delta_t", 1, (int64_t)1 << 40, &ad->delta_t));
        PB_RETURN(pb_json_read_f64(o, where, "beta1", 0, 1, &ad->beta1));
        PB_RETURN(pb_json_read_f64(o, where, "beta2", 0, 1, &ad->beta2));
        PB_RETURN(pb_json_read_f64(o, where, "orth_weight", 0, 1e9, &ad->orth_weight));
    }
    if (ad->target_rank > ad->lr.rank)
        return PB_ERROR(PB_E_INPUT, "%s.target_rank: %lld is above init_rank %lld", where,
                        (long long)ad->target_rank, (long long)ad->lr.rank);
    return PB_OK;
}

/* tinit and tfinal: a tenth and three tenths of the run, near the shares of the paper's table 8. */
static pb_status create(const pb_json *params, const char *where, void **self) {
    *self = NULL;
    PB_RETURN(pb_method_check_keys(params, where, keys));
    adalora *ad = calloc(1, sizeof *ad);
    if (!ad) return PB_ERROR(PB_E_OOM, "%s: no memory for the method", where);
    pb_lowrank_defaults(&ad->lr);
    ad->lr.rank = 12;
    ad->lr.branch = triplets;
    ad->target_rank = 8;
    ad->tinit = 0.1;
    ad->tfinal = 0.3;
    ad->delta_t = 1;
    ad->beta1 = ad->beta2 = 0.85;
    ad->orth_weight = 0.5;
    pb_status status = PB_OK;
    PB_TRY(parse(ad, params, where));
    *self = ad;
    ad = NULL;
done:
    destroy(ad);
    return status;
}

static pb_status describe(const void *self, pb_json *out) {
    const adalora *ad = self;
    PB_RETURN(pb_lowrank_describe(&ad->lr, out, "init_rank"));
    return pb_described(
        pb_json_add_i64(out, "target_rank", ad->target_rank) &&
        pb_json_add_f64(out, "scale", ad->lr.scale) && pb_json_add_f64(out, "tinit", ad->tinit) &&
        pb_json_add_f64(out, "tfinal", ad->tfinal) &&
        pb_json_add_i64(out, "delta_t", ad->delta_t) && pb_json_add_f64(out, "beta1", ad->beta1) &&
        pb_json_add_f64(out, "beta2", ad->beta2) &&
        pb_json_add_f64(out, "orth_weight", ad->orth_weight));
}

/* --- attach ----------------------------------------------------------------------------------- */

static pb_status make_budget(adalora *ad, int64_t total) {
    int64_t n = ad->lr.n_sites;
    ad->budget =
        (pb_budget){.total_steps = total,
                    .tinit = (int64_t)(ad->tinit < 1 ? ad->tinit * (double)total : ad->tinit),
                    .tfinal = (int64_t)(ad->tfinal < 1 ? ad->tfinal * (double)total : ad->tfinal),
                    .delta_t = ad->delta_t,
                    .initial = n * ad->lr.rank,
                    .target = n * ad->target_rank};
    if (total > 0 && ad->budget.tinit >= total - ad->budget.tfinal)
        return PB_ERROR(
            PB_E_INPUT,
            "adalora: tinit %lld and tfinal %lld leave no step to prune in a run of %lld "
            "steps; lower them",
            (long long)ad->budget.tinit, (long long)ad->budget.tfinal, (long long)total);
    return PB_OK;
}

static pb_status add_importance(const adalora *ad, const pb_param *p, importance *im) {
    pb_dtype master = pb_params_master(ad->lr.params);
    int64_t cols = p->ndim == 2 ? p->dim[1] : 1; /* E counts as a column */
    PB_RETURN(pb_alloc2(ad->lr.dev, PB_MEM_OPTIM, master, p->dim[0], cols, &im->ibar));
    return pb_alloc2(ad->lr.dev, PB_MEM_OPTIM, master, p->dim[0], cols, &im->ubar);
}

/* Row i as a vector. */
static pb_tensor row(pb_tensor t, int64_t i) {
    pb_tensor r = pb_rows_of(t, i, 1);
    r.ndim = 1;
    r.dim[0] = r.stride = pb_cols(t);
    return r;
}

/* E is [r,1] in the released code and decays like the matrices. */
static pb_status attach_site(adalora *ad, int i) {
    adalora_site *as = at(ad, i);
    pb_params *params = ad->lr.params;
    char name[sizeof((pb_param *)0)->name];
    snprintf(name, sizeof name, "%s.lora_E", as->s.site->name);
    PB_RETURN(pb_params_add(params, PB_ROLE_ADAPTER, name, ad->lr.rank, 0, &as->e));
    PB_RETURN(pb_param_train(params, as->e));
    as->e->decay = true;
    uint64_t seed = ad->lr.seed;
    PB_RETURN(pb_param_init_normal(params, as->s.a, 0.02, 0, seed, pb_lowrank_stream(&as->s, 0)));
    PB_RETURN(pb_param_init_normal(params, as->s.b, 0.02, 0, seed, pb_lowrank_stream(&as->s, 1)));
    PB_RETURN(pb_param_fill(params, as->e, 0));
    PB_RETURN(add_importance(ad, as->s.a, &as->of_a));
    PB_RETURN(add_importance(ad, as->s.b, &as->of_b));
    PB_RETURN(add_importance(ad, as->e, &as->of_e));
    as->score = row(ad->score, i);
    as->keep = row(ad->keep, i);
    return PB_OK;
}

/* Copies host values into a device tensor of type M without allocating. */
static pb_status put_keep(adalora *ad, const double *keep) {
    int64_t n = n_triplets(ad);
    for (int64_t i = 0; i < n; i++) {
        if (ad->keep.dtype == PB_F64)
            ((double *)ad->raw)[i] = keep[i];
        else
            ((float *)ad->raw)[i] = (float)keep[i];
    }
    return pb_device_put(ad->lr.dev, ad->keep, ad->raw, pb_bytes(ad->keep));
}

static pb_status attach(void *self, const pb_attach *ctx) {
    adalora *ad = self;
    PB_RETURN(pb_lowrank_attach(&ad->lr, "adalora", ctx, sizeof(adalora_site)));
    PB_RETURN(make_budget(ad, ctx->total_steps));
    int64_t r = ad->lr.rank, n = ad->lr.n_sites, all = n_triplets(ad);
    pb_dtype master = pb_params_master(ctx->params);
    PB_RETURN(pb_alloc2(ctx->dev, PB_MEM_OPTIM, master, r, r, &ad->gram));
    PB_RETURN(pb_alloc2(ctx->dev, PB_MEM_OPTIM, master, n, r, &ad->score));
    PB_RETURN(pb_alloc2(ctx->dev, PB_MEM_OPTIM, master, n, r, &ad->keep));
    ad->host = calloc((size_t)all, 3 * sizeof *ad->host);
    ad->raw = calloc((size_t)all, pb_dtype_size(master));
    if (!ad->host || !ad->raw)
        return PB_ERROR(PB_E_OOM, "adalora: no memory for %lld scores", (long long)all);
    for (int64_t i = 0; i < all; i++) ad->host[2 * all + i] = 1;
    PB_RETURN(put_keep(ad, ad->host + 2 * all));
    for (int i = 0; i < n; i++) PB_RETURN(attach_site(ad, i));
    return PB_OK;
}

/* --- hooks ------------------------------------------------------------------------------------ */

static pb_status linear_bwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                            pb_tensor dy, pb_tensor dx, double beta_dx) {
    adalora *ad = self;
    adalora_site *as = site->state;
    PB_ASSERT(!ad->lr.merged);
    PB_RETURN(pb_site_base_bwd(pass, site, x, dy, dx, beta_dx));
    return pb_lowrank_branch_bwd(&ad->lr, pass, &as->s, x, dy, dx, as->e->grad, 1);
}

/* f = ||G||_F with G = A A^T - I (rows) or B^T B - I (columns): loss += w f; dA += w (2/f) G A or
 * dB += w (2/f) B G. */
static pb_status orthogonality(adalora *ad, const pb_param *p, bool rows, pb_tensor loss,
                               double weight) {
    pb_device *dev = ad->lr.dev;
    pb_gemm_args gram = {.a = p->master,
                         .b = p->master,
                         .c = ad->gram,
                         .trans_a = !rows,
                         .trans_b = rows,
                         .alpha = 1};
    PB_RETURN(pb_gemm(dev, &gram));
    pb_orthogonality_args term = {.gram = ad->gram, .loss = loss, .weight = weight};
    PB_RETURN(pb_orthogonality(dev, &term));
    pb_gemm_args grad = {.a = rows ? ad->gram : p->master,
                         .b = rows ? p->master : ad->gram,
                         .c = p->grad,
                         .alpha = 1,
                         .beta = 1};
    return pb_gemm(dev, &grad);
}

static pb_status loss_term(void *self, pb_device *dev, pb_tensor loss) {
    adalora *ad = self;
    PB_ASSERT(dev == ad->lr.dev);
    double weight = ad->orth_weight / (2.0 * ad->lr.n_sites); /* mean over matrices */
    for (int i = 0; i < ad->lr.n_sites && weight > 0; i++) {
        pb_device_scope(dev, PB_SCOPE_SITE, at(ad, i)->s.site->name);
        pb_device_scope(dev, PB_SCOPE_PART, "orthogonality");
        PB_RETURN(orthogonality(ad, at(ad, i)->s.a, true, loss, weight));
        PB_RETURN(orthogonality(ad, at(ad, i)->s.b, false, loss, weight));
    }
    return PB_OK;
}

static pb_status watch(adalora *ad, const pb_param *p, importance *im, pb_tensor grad_scale,
                       pb_tensor score, bool by_col) {
    pb_tensor w = p->master, g = p->grad;
    if (p->ndim == 1) {
        w = pb_reshape(w, p->dim[0], 1);
        g = pb_reshape(g, p->dim[0], 1);
    }
    pb_importance_args args = {.w = w,
                               .g = g,
                               .grad_scale = grad_scale,
                               .ibar = im->ibar,
                               .ubar = im->ubar,
                               .score = score,
                               .beta1 = ad->beta1,
                               .beta2 = ad->beta2,
                               .by_col = by_col};
    return pb_importance(ad->lr.dev, &args);
}

/* Triplet score: E's own, plus the means over A's row and B's column. */
static pb_status update_importance(adalora *ad, pb_tensor grad_scale) {
    pb_device_scope(ad->lr.dev, PB_SCOPE_SITE, "");
    pb_device_scope(ad->lr.dev, PB_SCOPE_PART, "importance");
    PB_RETURN(pb_device_zero(ad->lr.dev, ad->score));
    for (int i = 0; i < ad->lr.n_sites; i++) {
        adalora_site *as = at(ad, i);
        pb_device_scope(ad->lr.dev, PB_SCOPE_SITE, as->s.site->name);
        pb_device_scope(ad->lr.dev, PB_SCOPE_PART, "importance");
        PB_RETURN(watch(ad, as->e, &as->of_e, grad_scale, as->score, false));
        PB_RETURN(watch(ad, as->s.a, &as->of_a, grad_scale, as->score, false));
        PB_RETURN(watch(ad, as->s.b, &as->of_b, grad_scale, as->score, true));
    }
    return PB_OK;
}

/* Chooses `budget` triplets over all sites by score. */
static pb_status choose(adalora *ad, int64_t budget) {
    int64_t n = n_triplets(ad);
    double *score = ad->host, *scratch = ad->host + n, *keep = ad->host + 2 * n;
    pb_device_scope(ad->lr.dev, PB_SCOPE_SITE, "");
    pb_device_scope(ad->lr.dev, PB_SCOPE_PART, "rank_budget");
    PB_RETURN(pb_device_get(ad->lr.dev, ad->raw, ad->score, pb_bytes(ad->score)));
    for (int64_t i = 0; i < n; i++)
        score[i] =
            ad->score.dtype == PB_F64 ? ((double *)ad->raw)[i] : (double)((float *)ad->raw)[i];
    if (!pb_budget_mask(score, n, budget, scratch, keep))
        return PB_ERROR(PB_E_DIVERGED, "adalora: an importance score is not finite");
    return put_keep(ad, keep);
}

static pb_status apply_keep(adalora *ad) {
    for (int i = 0; i < ad->lr.n_sites; i++) {
        adalora_site *as = at(ad, i);
        pb_tensor e = as->e->master;
        pb_device_scope(ad->lr.dev, PB_SCOPE_SITE, as->s.site->name);
        pb_device_scope(ad->lr.dev, PB_SCOPE_PART, "rank_budget");
        pb_scale_cols_args mask = {.x = pb_reshape(e, 1, ad->lr.rank), .c = as->keep};
        mask.y = mask.x;
        PB_RETURN(pb_scale_cols(ad->lr.dev, &mask));
        if (as->e->value.data == e.data) continue;
        pb_axpby_args cast = {.x = e, .y = as->e->value, .alpha = 1};
        PB_RETURN(pb_axpby(ad->lr.dev, &cast));
    }
    return PB_OK;
}

static pb_status after_step(void *self, pb_device *dev, int64_t step, pb_tensor grad_scale) {
    adalora *ad = self;
    PB_ASSERT(dev == ad->lr.dev);
    if (pb_budget_watches(&ad->budget, step)) PB_RETURN(update_importance(ad, grad_scale));
    pb_budget_action action = pb_budget_action_at(&ad->budget, step);
    if (action == PB_BUDGET_NONE) return PB_OK;
    if (action != PB_BUDGET_REAPPLY) PB_RETURN(choose(ad, pb_budget_at(&ad->budget, step)));
    return apply_keep(ad);
}

/* What a resumed run needs beside parameters and optimizer state. */
static bool state(void *self, int i, char name[PB_STATE_NAME], pb_tensor *t) {
    adalora *ad = self;
    static const char *const what[] = {"A.ibar", "A.ubar", "B.ibar", "B.ubar", "E.ibar", "E.ubar"};
    if (i >= 6 * ad->lr.n_sites + 2) return false;
    if (i >= 6 * ad->lr.n_sites) {
        bool keep = i - 6 * ad->lr.n_sites == 1;
        snprintf(name, PB_STATE_NAME, "adalora.%s", keep ? "keep" : "score");
        *t = keep ? ad->keep : ad->score;
        return true;
    }
    const adalora_site *as = at(ad, i / 6);
    const importance *im[] = {&as->of_a, &as->of_b, &as->of_e};
    snprintf(name, PB_STATE_NAME, "%s.%s", as->s.site->name, what[i % 6]);
    *t = i % 2 ? im[i % 6 / 2]->ubar : im[i % 6 / 2]->ibar;
    return true;
}

/* Ranks after the last allocation; read from the device, so that a resumed or loaded run reports
 * its own. */
static pb_status report(const void *self, pb_device *dev, pb_json *out) {
    const adalora *ad = self;
    pb_status status = PB_OK;
    pb_json *ranks = NULL;
    int64_t total = 0, r = ad->lr.rank;
    double *keep = calloc((size_t)n_triplets(ad), sizeof *keep);
    if (!keep) PB_FAIL(PB_E_OOM, "adalora: no memory for its report");
    PB_TRY(pb_device_get_f64(dev, keep, ad->keep));
    ranks = pb_json_add_object(out, "ranks");
    PB_TRY(pb_described(ranks != NULL));
    for (int i = 0; i < ad->lr.n_sites; i++) {
        int64_t rank = 0;
        for (int64_t k = 0; k < r; k++) rank += keep[i * r + k] != 0;
        total += rank;
        PB_TRY(pb_described(pb_json_add_i64(ranks, at(ad, i)->s.site->name, rank)));
    }
    PB_TRY(pb_described(pb_json_add_i64(out, "rank_total", total) &&
                        pb_json_add_i64(out, "tinit_steps", ad->budget.tinit) &&
                        pb_json_add_i64(out, "tfinal_steps", ad->budget.tfinal) &&
                        pb_json_add_i64(out, "total_steps", ad->budget.total_steps)));
done:
    free(keep);
    return status;
}

const pb_method pb_method_adalora = {
    .name = "adalora",
    .title = "AdaLoRA",
    .paper = "Zhang et al. 2023, arXiv 2303.10512",
    .mergeable = true,
    .exact_at_start = true,
    .keys = keys,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .attach = attach,
    .linear_fwd = pb_lowrank_linear_fwd,
    .linear_bwd = linear_bwd,
    .loss_term = loss_term,
    .after_step = after_step,
    .state = state,
    .merge = pb_lowrank_merge,
    .unmerge = pb_lowrank_unmerge,
    .report = report,
};
