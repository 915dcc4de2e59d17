/* The plan backend: memory that is counted but does not exist, transfers that do nothing. It has no
 * kernels of its own; "plan:<backend>" asks that backend's kernels for their workspace and never
 * runs them. */
#include <stdlib.h>
#include <string.h>

#include "kernels/core/device_impl.h"

/* Addresses handed out are distinct, never NULL and never valid: a stray access faults at once. */
#define FIRST_ADDRESS ((uintptr_t)1 << 56)
#define PAGE          ((uintptr_t)4096)

typedef struct plan {
    uintptr_t next;
} plan;

static pb_status plan_open(const pb_device_options *options, void **ctx) {
    (void)options;
    plan *p = calloc(1, sizeof *p);
    if (p == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a plan");
    p->next = FIRST_ADDRESS;
    *ctx = p;
    return PB_OK;
}

static void plan_close(void *ctx) { free(ctx); }

static void *plan_mem_alloc(void *ctx, size_t bytes) {
    plan *p = ctx;
    uintptr_t at = p->next;
    p->next += (bytes + PAGE - 1) / PAGE * PAGE + PAGE; /* a gap, so that neighbours never touch */
    return (void *)at;
}

static void plan_mem_free(void *ctx, void *at, size_t bytes) {
    (void)ctx;
    (void)at;
    (void)bytes;
}

static pb_status plan_put(void *ctx, void *dst, const void *host, size_t bytes) {
    (void)ctx;
    (void)dst;
    (void)host;
    (void)bytes;
    return PB_OK;
}

static pb_status plan_get(void *ctx, void *host, const void *src, size_t bytes) {
    (void)ctx;
    (void)src;
    memset(host, 0, bytes);
    return PB_OK;
}

static pb_status plan_zero(void *ctx, void *dst, size_t bytes) {
    (void)ctx;
    (void)dst;
    (void)bytes;
    return PB_OK;
}

static pb_status plan_sync(void *ctx) {
    (void)ctx;
    return PB_OK;
}

static const pb_kernel_set *const no_kernels[] = {NULL};

const pb_backend pb_backend_plan = {
    .name = "plan",
    .computes = false,
    .mem_alloc = plan_mem_alloc,
    .mem_free = plan_mem_free,
    .open = plan_open,
    .close = plan_close,
    .put = plan_put,
    .get = plan_get,
    .zero = plan_zero,
    .copy = plan_put,
    .sync = plan_sync,
    .fast_dtype = NULL,
    .kernels = no_kernels,
};
