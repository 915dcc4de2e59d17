/* LoRA (Hu et al. 2021, arXiv 2106.09685), section 4.1: y = W x + b + (alpha/r) B A D(x), A
 * Kaiming-uniform (as both public implementations; "gaussian": N(0, 1/r^2)), B = 0, W frozen.
 * "rslora": alpha/sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732). All of it is the shared branch of
 * lowrank.h. Test: tests/test_methods_unit.c. */
#include <stdlib.h>

#include "methods/lowrank.h"

static const char *const keys[] = {PB_LORA_KEYS, NULL};

static void destroy(void *self) {
    pb_lowrank_clear(self);
    free(self);
}

static pb_status create(const pb_json *params, const char *where, void **self) {
    *self = NULL;
    PB_RETURN(pb_method_check_keys(params, where, keys));
    pb_lora *lora = calloc(1, sizeof *lora);
    if (!lora) return PB_ERROR(PB_E_OOM, "%s: no memory for the method", where);
    pb_lowrank_defaults(lora);
    pb_status status = PB_OK;
    PB_TRY(pb_lora_parse(lora, params, where));
    *self = lora;
    lora = NULL;
done:
    destroy(lora);
    return status;
}

static pb_status describe(const void *self, pb_json *out) { return pb_lora_describe(self, out); }

static pb_status attach(void *self, const pb_attach *ctx) {
    PB_RETURN(pb_lowrank_attach(self, "lora", ctx, sizeof(pb_lowrank_site)));
    return pb_lora_init(self);
}

const pb_method pb_method_lora = {
    .name = "lora",
    .title = "LoRA",
    .paper = "Hu et al. 2021, arXiv 2106.09685",
    .mergeable = true,
    .exact_at_start = true,
    .keys = keys,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .attach = attach,
    .linear_fwd = pb_lowrank_linear_fwd,
    .linear_bwd = pb_lowrank_linear_bwd,
    .components = pb_lowrank_components,
    .cut = pb_lowrank_cut,
    .merge = pb_lowrank_merge,
    .unmerge = pb_lowrank_unmerge,
};
