/* Full fine-tuning: every parameter of the base model is trained, by the same optimizer and with
 * the same code as every other method: there is nothing to hook. The model computes the gradients
 * of trainable base parameters itself. A 4-bit base is refused (pb_param_train says so). Test:
 * tests/test_methods_unit.c. */
#include "methods/method.h"

static const char *const keys[] = {NULL};

static pb_status create(const pb_json *params, const char *where, void **self) {
    *self = NULL; /* no state */
    return pb_method_check_keys(params, where, keys);
}

static void destroy(void *self) { (void)self; }

static pb_status describe(const void *self, pb_json *out) {
    (void)self, (void)out;
    return PB_OK;
}

static pb_status attach(void *self, const pb_attach *ctx) {
    (void)self;
    for (int i = 0; i < pb_params_count(ctx->params); i++) {
        pb_param *p = pb_params_at(ctx->params, i);
        if (p->role == PB_ROLE_BASE) PB_RETURN(pb_param_train(ctx->params, p));
    }
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
