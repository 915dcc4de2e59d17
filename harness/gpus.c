/* See gpus.h. Test: tests/test_advise.c. */
#include "harness/gpus.h"

#include <string.h>

#include "base/text.h"

static const pb_gpu gpus[] = {
#define PB_GPU(...) {__VA_ARGS__},
#include "harness/gpus.def"
#undef PB_GPU
};
enum { N_GPUS = sizeof gpus / sizeof gpus[0] };

const pb_gpu *pb_gpu_table(int *n) {
    *n = N_GPUS;
    return gpus;
}

double pb_gpu_host_bytes_per_s(const pb_gpu *gpu) {
    return 16 * (double)(1 << gpu->pcie) * 1e9 / 8 * 128 / 130; /* 2^generation Gbit/s a lane, from the third on */
}

bool pb_gpu_is(const pb_gpu *gpu, const char *text) {
    static const char also[] = " Generation"; /* "NVIDIA RTX 6000 Ada Generation" */
    const char *at = strstr(text, gpu->driver);
    if (at == NULL || (at > text && at[-1] != ' ')) return false;
    at += strlen(gpu->driver);
    if (strncmp(at, also, sizeof also - 1) == 0) at += sizeof also - 1;
    return *at == 0 || *at == ',';
}

pb_status pb_gpu_find(const char *name, const pb_gpu **out) {
    const char *names[N_GPUS];
    pb_text all = {0};
    *out = NULL;
    for (int i = 0; i < N_GPUS; i++) {
        if (strcmp(gpus[i].name, name) == 0) *out = &gpus[i];
        names[i] = gpus[i].name;
        pb_text_add(&all, "%s%s", i ? ", " : "", gpus[i].name);
    }
    pb_status status = PB_OK;
    if (!*out)
        status = PB_ERROR(PB_E_INPUT, "--gpu: unknown GPU '%s'; did you mean '%s'? Known: %s", name,
                          pb_nearest(name, names, N_GPUS), all.data ? all.data : "");
    pb_text_free(&all);
    return status;
}
