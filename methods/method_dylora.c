/* DyLoRA (Valipour et al. 2022, arXiv 2210.07558): LoRA factors of rank r_max trained so that every
 * truncation works. Each step draws one rank b in 1..r_max for all sites; y = W x + b0 + (alpha/b)
 * B[:,:b] A[:b,:] D(x) (the released code's sqrt(r_max/b) on both factors times alpha/r_max).
 * "frozen": the first b-1 rows take part but only row b of A and column b of B get a gradient; the
 * others get exactly zero, and still move by the optimizer's momentum and decay, because parameters
 * are whole tensors. Variants = ranks. Test: tests/test_methods_unit.c. */
#include <stdlib.h>

#include "methods/lowrank.h"

static const char *const keys[] = {"rank", "alpha", "dropout", "targets", "frozen", NULL};

typedef struct dylora {
    pb_lora lr; /* first; lr.rank is r_max */
    bool frozen;
    int64_t drawn;    /* rank of this step, 1..r_max */
    int64_t selected; /* rank of the evaluation variant, 0 = training */
} dylora;

static int64_t rank_now(const dylora *dy) { return dy->selected ? dy->selected : dy->drawn; }

static pb_branch first_rows(const pb_lora *lr, const pb_lowrank_site *s) {
    int64_t b = rank_now((const dylora *)lr);
    return (pb_branch){.a = pb_rows_of(s->a->value, 0, b),
                       .b = pb_cols_of(s->b->value, 0, b),
                       .scale = lr->alpha / (double)b};
}

static void destroy(void *self) {
    pb_lowrank_clear(self);
    free(self);
}

static pb_status create(const pb_json *params, const char *where, void **self) {
    *self = NULL;
    PB_RETURN(pb_method_check_keys(params, where, keys));
    dylora *dy = calloc(1, sizeof *dy);
    if (!dy) return PB_ERROR(PB_E_OOM, "%s: no memory for the method", where);
    pb_lowrank_defaults(&dy->lr);
    dy->lr.branch = first_rows;
    dy->frozen = true;
    pb_status status = PB_OK;
    PB_TRY(pb_lowrank_parse(&dy->lr, params, where, "rank"));
    if (params) PB_TRY(pb_json_read_bool(params, where, "frozen", &dy->frozen));
    dy->drawn = dy->lr.rank;
    *self = dy;
    dy = NULL;
done:
    destroy(dy);
    return status;
}

static pb_status describe(const void *self, pb_json *out) {
    const dylora *dy = self;
    PB_RETURN(pb_lowrank_describe(&dy->lr, out, "rank"));
    return pb_described(pb_json_add_bool(out, "frozen", dy->frozen));
}

static pb_status attach(void *self, const pb_attach *ctx) {
    PB_RETURN(pb_lowrank_attach(self, "dylora", ctx, sizeof(pb_lowrank_site)));
    return pb_lora_init(self);
}

/* A pure function of (seed, step): a resumed run draws what the unbroken one would have. */
static pb_status before_step(void *self, int64_t step) {
    dylora *dy = self;
    uint64_t stream = pb_random_stream("dylora.rank", 0, 0);
    dy->drawn =
        1 + (int64_t)pb_random_below(dy->lr.seed, stream, (uint64_t)step, (uint64_t)dy->lr.rank);
    return PB_OK;
}

/* Gradients of row b of A and column b of B alone. */
static pb_status last_row_bwd(dylora *dy, const pb_pass *pass, pb_lowrank_site *s, pb_tensor x,
                              pb_tensor dy_out, pb_tensor dx) {
    pb_branch br = first_rows(&dy->lr, s);
    int64_t last = br.a.dim[0] - 1;
    pb_lowrank_bwd_args args = {.x = x,
                                .dy = dy_out,
                                .dx = dx,
                                .beta_dx = 1,
                                .scale = br.scale,
                                .h = pb_cols_of(s->h, last, 1),
                                .a = pb_rows_of(br.a, last, 1),
                                .b = pb_cols_of(br.b, last, 1),
                                .da = pb_rows_of(s->a->grad, last, 1),
                                .db = pb_cols_of(s->b->grad, last, 1),
                                .drop = pb_lowrank_drop(&dy->lr, pass, s->site)};
    return pb_lowrank_bwd(pass->dev, &args);
}

static pb_status linear_bwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                            pb_tensor dy_out, pb_tensor dx, double beta_dx) {
    dylora *dy = self;
    pb_lowrank_site *s = site->state;
    PB_ASSERT(!dy->lr.merged);
    PB_RETURN(pb_site_base_bwd(pass, site, x, dy_out, dx, beta_dx));
    pb_branch br = first_rows(&dy->lr, s);
    int64_t b = br.a.dim[0];
    PB_ASSERT(pb_cols(s->h) == b); /* the rank of the forward pass */
    pb_lowrank_bwd_args args = {.x = x,
                                .h = s->h,
                                .a = br.a,
                                .b = br.b,
                                .dy = dy_out,
                                .dx = dx,
                                .scale = br.scale,
                                .beta_dx = 1,
                                .drop = pb_lowrank_drop(&dy->lr, pass, site)};
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_LOW_RANK);
    if (!dy->frozen) {
        args.da = pb_rows_of(s->a->grad, 0, b);
        args.db = pb_cols_of(s->b->grad, 0, b);
        return pb_lowrank_bwd(pass->dev, &args);
    }
    /* The input's gradient flows through all b rows, the parameters' through the last one. */
    if (pb_has(dx) && b > 1) PB_RETURN(pb_lowrank_bwd(pass->dev, &args));
    return last_row_bwd(dy, pass, s, x, dy_out, b > 1 ? (pb_tensor){0} : dx);
}

static int variants(const void *self) { return (int)((const dylora *)self)->lr.rank; }

static pb_status select_rank(void *self, int i) {
    dylora *dy = self;
    PB_ASSERT(i >= -1 && i < dy->lr.rank); /* what is merged stays as it was merged */
    dy->selected = i + 1;
    return PB_OK;
}

static double variant_value(const void *self, int i) {
    (void)self;
    return (double)(i + 1);
}

static pb_status report(const void *self, pb_device *dev, pb_json *out) {
    const dylora *dy = self;
    (void)dev;
    pb_json *ranks = pb_json_add_array(out, "ranks");
    bool ok = ranks != NULL;
    for (int64_t b = 1; ok && b <= dy->lr.rank; b++) {
        pb_json *n = cJSON_CreateNumber((double)b);
        ok = n && cJSON_AddItemToArray(ranks, n);
    }
    return pb_described(ok);
}

const pb_method pb_method_dylora = {
    .name = "dylora",
    .title = "DyLoRA",
    .paper = "Valipour et al. 2022, arXiv 2210.07558",
    .mergeable = true,
    .exact_at_start = true,
    .keys = keys,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .attach = attach,
    .linear_fwd = pb_lowrank_linear_fwd,
    .linear_bwd = linear_bwd,
    .before_step = before_step,
    .variants = variants,
    .select = select_rank,
    .variant_name = "rank",
    .variant_value = variant_value,
    .merge = pb_lowrank_merge,
    .unmerge = pb_lowrank_unmerge,
    .report = report,
};
