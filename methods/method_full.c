/* Full fine-tuning: every parameter of the base model is trained, by the same optimizer and with
 * the same code as every other method: there is nothing to hook. The model computes the gradients
 * of trainable base parameters itself, and stops below the lowest. `targets` names some of them
 * instead: globs over parameters ("*.LayerNorm.*") and over the sites that they belong to ("layers.5.*",
 * "*.norm"): the top layers alone, the norms alone. A 4-bit base is refused (pb_param_train says so).
 * Test: tests/test_methods_unit.c. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "methods/method.h"

static const char *const keys[] = {"targets", NULL};

typedef struct full {
    pb_json *targets; /* array of texts; NULL = everything */
} full;

static void destroy(void *self) {
    full *f = self;
    if (f) pb_json_free(f->targets);
    free(f);
}

static pb_status take_targets(full *f, const pb_json *array, const char *where) {
    PB_RETURN(pb_targets_check(array, where));
    f->targets = cJSON_Duplicate(array, true);
    return f->targets ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for target patterns");
}

static pb_status create(const pb_json *params, const char *where, void **self) {
    pb_status status = PB_OK;
    full *f = NULL;
    *self = NULL;
    PB_RETURN(pb_method_check_keys(params, where, keys));
    f = calloc(1, sizeof *f);
    if (!f) return PB_ERROR(PB_E_OOM, "no memory for full fine-tuning");
    if (params && pb_json_get(params, "targets"))
        PB_TRY(take_targets(f, pb_json_get(params, "targets"), where));
    *self = f;
    f = NULL;
done:
    destroy(f);
    return status;
}

/* Without targets nothing: a run of everything keeps the identity it had before they existed. */
static pb_status describe(const void *self, pb_json *out) {
    const full *f = self;
    if (!f->targets) return PB_OK;
    pb_json *copy = cJSON_Duplicate(f->targets, true);
    if (copy && cJSON_AddItemToObject(out, "targets", copy)) return PB_OK;
    pb_json_free(copy);
    return PB_ERROR(PB_E_OOM, "no memory for a JSON value");
}

/* The site whose own weight, bias, gain or shift a parameter is. What follows a sub-layer is a norm of its own. */
static const pb_site *site_of(const pb_attach *ctx, const pb_param *p) {
    for (int i = 0; i < ctx->n_sites; i++) {
        const pb_site *s = &ctx->sites[i];
        if (s->kind == PB_SITE_LINEAR && (s->weight == p || s->bias == p)) return s;
        if (s->kind == PB_SITE_NORM && (s->gamma == p || s->beta == p)) return s;
    }
    return NULL;
}

static pb_status no_match(const pb_attach *ctx, const char *pattern) {
    pb_text some = {0};
    int named = 0;
    for (int i = pb_params_count(ctx->params) - 1; i >= 0 && named < 6; i--) { /* the top first */
        const pb_param *p = pb_params_at(ctx->params, i);
        const pb_site *s = p->role == PB_ROLE_BASE ? site_of(ctx, p) : NULL;
        if (p->role != PB_ROLE_BASE) continue;
        pb_text_add(&some, "%s%s", named++ ? ", " : "", p->name);
        if (s) pb_text_add(&some, " (site %s)", s->name);
    }
    pb_status status = PB_ERROR(PB_E_INPUT, "full: target '%s' matches no parameter of the model and none of its sites; there are: %s, ...",
                                pattern, some.data ? some.data : "none");
    pb_text_free(&some);
    return status;
}

static pb_status train_matching(const pb_attach *ctx, const char *pattern) {
    bool any = false;
    for (int i = 0; i < pb_params_count(ctx->params); i++) {
        pb_param *p = pb_params_at(ctx->params, i);
        if (p->role != PB_ROLE_BASE) continue;
        const pb_site *s = site_of(ctx, p);
        if (!pb_glob(pattern, p->name) && !(s && pb_glob(pattern, s->name))) continue;
        PB_RETURN(pb_param_train(ctx->params, p));
        any = true;
    }
    return any ? PB_OK : no_match(ctx, pattern);
}

static pb_status attach(void *self, const pb_attach *ctx) {
    const full *f = self;
    const pb_json *e = NULL;
    if (!f->targets) return train_matching(ctx, "*");
    cJSON_ArrayForEach (e, f->targets) PB_RETURN(train_matching(ctx, e->valuestring));
    return PB_OK;
}

const pb_method pb_method_full = {
    .name = "full",
    .title = "Full fine-tuning",
    .paper = "Howard and Ruder 2018, arXiv 1801.06146; Devlin et al. 2018, arXiv 1810.04805",
    .exact_at_start = true,
    .trains_base = true,
    .keys = keys,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .attach = attach,
};
