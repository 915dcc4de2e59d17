#include "tests/kernel_lab.h"

#include "tests/support.h"

pb_kernel_cases kernel_lab_cases(const char *model, int64_t rows, pb_dtype dtype, pb_layer_rank most,
                                 const char *filter) {
    pb_kernel_cases cases = {0};
    pb_assert_ok(pb_kernel_cases_add(&cases, model, rows, dtype, most, filter));
    for (int i = 0; i < cases.n; i++) {
        pb_layer *l = &cases.items[i].layer;
        l->C = 64;
        l->FF = 128;
        l->V = 512;
        l->NKV = l->NKV < l->NH ? 1 : 2; /* as the model: queries may share keys */
        l->NH = 2;
        l->HS = 32;
    }
    return cases;
}

pb_device *kernel_lab_device(const char *backend, int threads) {
    pb_device *dev = NULL;
    pb_device_options options = {.threads = threads};
    pb_assert_ok(pb_device_open(backend, &options, &dev));
    return dev;
}
