/* The reference backend: host memory, one thread, double accumulators. What every other backend is
 * compared with. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/core/backend.h"

#define ALIGN 64

extern const pb_kernel_set *const pb_ref_kernels_registry[];

static pb_status ref_open(const pb_device_options *options, void **ctx) {
    (void)options;
    *ctx = calloc(1, 1); /* nothing to hold, but a context is never NULL */
    return *ctx != NULL ? PB_OK : PB_ERROR(PB_E_OOM, "no host memory for the reference backend");
}

static void ref_close(void *ctx) { free(ctx); }

/* calloc gives fresh pages as they are; the pointer that free() needs stands just below the aligned
 * address. */
static void *ref_mem_alloc(void *ctx, size_t bytes) {
    (void)ctx;
    if (bytes > SIZE_MAX - 2 * ALIGN) return NULL;
    char *base = calloc(1, bytes + 2 * ALIGN);
    if (base == NULL) return NULL;
    char *at = base + 2 * ALIGN - (uintptr_t)base % ALIGN;
    memcpy(at - sizeof base, &base, sizeof base);
    return at;
}

static void ref_mem_free(void *ctx, void *p, size_t bytes) {
    (void)ctx;
    (void)bytes;
    char *base = NULL;
    memcpy(&base, (char *)p - sizeof base, sizeof base);
    free(base);
}

static pb_status ref_copy(void *ctx, void *dst, const void *src, size_t bytes) {
    (void)ctx;
    memmove(dst, src, bytes);
    return PB_OK;
}

static pb_status ref_zero(void *ctx, void *dst, size_t bytes) {
    (void)ctx;
    memset(dst, 0, bytes);
    return PB_OK;
}

static pb_status ref_sync(void *ctx) {
    (void)ctx;
    return PB_OK;
}

static bool ref_fast_dtype(void *ctx, pb_dtype dtype) {
    (void)ctx;
    return dtype == PB_F32 || dtype == PB_F64;
}

const pb_backend pb_backend_ref = {
    .name = "ref",
    .computes = true,
    .mem_alloc = ref_mem_alloc,
    .mem_free = ref_mem_free,
    .open = ref_open,
    .close = ref_close,
    .put = ref_copy,
    .get = ref_copy,
    .zero = ref_zero,
    .copy = ref_copy,
    .sync = ref_sync,
    .fast_dtype = ref_fast_dtype,
    .kernels = pb_ref_kernels_registry,
};
