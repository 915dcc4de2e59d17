/* Head-only training (linear probing): the base model is frozen, only the task head learns. The
 * model adds the head and trains it with every method, so nothing is left to do here: the floor
 * that the other methods must beat. Test: tests/test_methods_unit.c. */
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
    (void)self, (void)ctx;
    return PB_OK;
}

const pb_method pb_method_head = {
    .name = "head",
    .title = "Head only",
    .paper = "Alain and Bengio 2016, arXiv 1610.01644",
    .exact_at_start = true,
    .keys = keys,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .attach = attach,
};
