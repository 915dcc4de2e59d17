/* The cuda backend: memory, transfers through pinned staging, events. Kernels are in op_*.cu. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/plugin.h"
#include "kernels/cuda/quant.h"
#include "kernels/cuda/queue.h"

#define STAGING ((size_t)1 << 20) /* bytes of one of two pinned buffers */

typedef struct context {
    pb_cuda cuda; /* first: what ops see */
    void *staging[2];
    void *free_again[2]; /* event: the copy out of this buffer has run */
    int turn;
    bool unzeroed; /* memory is given out as it comes */
} context;

static void cuda_close(void *ctx) {
    context *c = (context *)ctx;
    if (c == NULL) return;
    if (c->cuda.stream != NULL) (void)pb_api_stream_sync(c->cuda.stream);
    pb_cuda_queue_free(&c->cuda);
    pb_cuda_products_free(&c->cuda);
    for (int i = 0; i < 2; i++) {
        if (c->free_again[i] != NULL) (void)pb_api_event_free(c->free_again[i]);
        if (c->staging[i] != NULL) (void)pb_api_host_free(c->staging[i]);
    }
    for (int i = 0; i < 3; i++) {
        if (c->cuda.mark[i] != NULL) (void)pb_api_event_free(c->cuda.mark[i]);
    }
    if (c->cuda.side != NULL) (void)pb_api_stream_free(c->cuda.side);
    if (c->cuda.stream != NULL) (void)pb_api_stream_free(c->cuda.stream);
    free(c);
}

/* A driver that is older than the runtime says no more than that: both versions tell what to do. */
static pb_status count_devices(int *n) {
    int driver = 0, runtime = 0, code = pb_api_device_count(n);
    if (code == 0) return *n > 0 ? PB_OK : PB_ERROR(PB_E_ENV, "cuda: no GPU is visible; look at CUDA_VISIBLE_DEVICES");
    if (pb_api_versions(&driver, &runtime) != 0 || driver / 1000 >= runtime / 1000)
        return pb_cuda_failed(code, "pb_api_device_count", __FILE__, __LINE__);
    return PB_ERROR(PB_E_ENV,
                    "cuda: %s: the driver is for CUDA %d.%d, this was built with %d.%d: a newer driver, or a build with the "
                    "driver's toolkit",
                    pb_api_error(code), driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
}

/* The driver's libraries obey this variable whatever the call asks for: records would say f32 and mean less. */
static pb_status check_environment(void) {
    const char *tf32 = getenv("NVIDIA_TF32_OVERRIDE");
    int mib = 0;
    if (tf32 != NULL && strcmp(tf32, "1") == 0)
        return PB_ERROR(PB_E_ENV, "cuda: NVIDIA_TF32_OVERRIDE=1 turns products in f32 into TF32: unset it, or set it to 0");
    if (pb_cuda_slab_mib(&mib)) return PB_OK;
    return PB_ERROR(PB_E_ENV, "cuda: PB_CUDA_SLAB_MIB=%s: expected a whole number of MiB from 1 to 1024",
                    getenv("PB_CUDA_SLAB_MIB"));
}

/* A switch in the environment: 0 is off, all else on; `otherwise` when it is not set. */
static bool switched(const char *variable, bool otherwise) {
    const char *value = getenv(variable);
    return value == NULL ? otherwise : strcmp(value, "0") != 0;
}

static pb_status open_parts(context *c, int algorithm) {
    int n = 0;
    PB_RETURN(check_environment());
    PB_RETURN(count_devices(&n));
    PB_CUDA(pb_api_device_open(0, &c->cuda.info));
    PB_CUDA(pb_api_stream_new(&c->cuda.stream));
    PB_CUDA(pb_api_stream_new(&c->cuda.side));
    for (int i = 0; i < 3; i++) PB_CUDA(pb_api_event_new(&c->cuda.mark[i]));
    c->cuda.plain = switched("PB_CUDA_PLAIN", false);
    PB_RETURN(pb_cuda_queue_new(&c->cuda, switched("PB_CUDA_GRAPHS", true)));
    PB_RETURN(pb_cuda_products_new(&c->cuda, algorithm));
    for (int i = 0; i < 2; i++) {
        PB_CUDA(pb_api_host_alloc(&c->staging[i], STAGING));
        PB_CUDA(pb_api_event_new(&c->free_again[i]));
    }
    return PB_OK;
}

static pb_status cuda_open(const pb_device_options *options, void **ctx) {
    *ctx = NULL;
    context *c = (context *)calloc(1, sizeof *c);
    if (c == NULL) return PB_ERROR(PB_E_OOM, "no host memory for the cuda device");
    c->unzeroed = options->separate;
    pb_status status = open_parts(c, options->algorithm);
    if (status == PB_OK) *ctx = c;
    else cuda_close(c);
    return status;
}

/* Set-up only: arenas do not grow in a steady step. */
static void *cuda_mem_alloc(void *ctx, size_t bytes) {
    context *c = (context *)ctx;
    void *p = NULL;
    if (pb_api_malloc(&p, bytes == 0 ? 1 : bytes) != 0) return NULL;
    if (c->unzeroed) return p;
    if (pb_api_zero(p, bytes, c->cuda.stream) == 0 && pb_api_stream_sync(c->cuda.stream) == 0) return p;
    (void)pb_api_free(p);
    return NULL;
}

static void cuda_mem_free(void *ctx, void *p, size_t bytes) {
    (void)ctx;
    (void)bytes;
    if (p != NULL) (void)pb_api_free(p);
}

/* Pinned, and at the same address on the device: plain memory, none that moves by itself. */
static void *cuda_host_alloc(void *ctx, size_t bytes) {
    void *p = NULL;
    (void)ctx;
    if (pb_api_host_alloc(&p, bytes == 0 ? 1 : bytes) != 0) return NULL;
    memset(p, 0, bytes);
    return p;
}

static void cuda_host_free(void *ctx, void *p, size_t bytes) {
    (void)ctx;
    (void)bytes;
    if (p != NULL) (void)pb_api_host_free(p);
}

/* The host's bytes are read before it returns: they wait in one of two pinned buffers until the copy has run. */
static pb_status cuda_put(void *ctx, void *dst, const void *host, size_t bytes) {
    context *c = (context *)ctx;
    PB_RETURN(pb_cuda_flush(&c->cuda));
    for (size_t at = 0; at < bytes; at += STAGING) {
        size_t n = bytes - at < STAGING ? bytes - at : STAGING;
        int t = c->turn;
        PB_CUDA(pb_api_event_sync(c->free_again[t]));
        memcpy(c->staging[t], (const char *)host + at, n);
        PB_CUDA(pb_api_copy((char *)dst + at, c->staging[t], n, PB_API_TO_DEVICE, c->cuda.stream));
        PB_CUDA(pb_api_event_record(c->free_again[t], c->cuda.stream, false));
        c->turn = 1 - t;
    }
    return PB_OK;
}

static pb_status cuda_get(void *ctx, void *host, const void *src, size_t bytes) {
    context *c = (context *)ctx;
    PB_RETURN(pb_cuda_flush(&c->cuda));
    for (size_t at = 0; at < bytes; at += STAGING) {
        size_t n = bytes - at < STAGING ? bytes - at : STAGING;
        int t = c->turn;
        PB_CUDA(pb_api_copy(c->staging[t], (const char *)src + at, n, PB_API_TO_HOST, c->cuda.stream));
        PB_CUDA(pb_api_stream_sync(c->cuda.stream));
        memcpy((char *)host + at, c->staging[t], n);
    }
    return PB_OK;
}

static pb_status cuda_zero(void *ctx, void *dst, size_t bytes) { return pb_cuda_zero(&((context *)ctx)->cuda, dst, bytes); }

static pb_status cuda_copy(void *ctx, void *dst, const void *src, size_t bytes) {
    return pb_cuda_copy(&((context *)ctx)->cuda, dst, src, bytes);
}

static pb_status cuda_sync(void *ctx) {
    context *c = (context *)ctx;
    PB_RETURN(pb_cuda_flush(&c->cuda));
    PB_CUDA(pb_api_stream_sync(c->cuda.stream));
    return PB_OK;
}

static pb_status cuda_event_new(void *ctx, void **event) {
    (void)ctx;
    PB_CUDA(pb_api_event_new(event));
    return PB_OK;
}

static void cuda_event_free(void *ctx, void *event) {
    (void)pb_cuda_forget_event(&((context *)ctx)->cuda, event);
    (void)pb_api_event_free(event);
}

static pb_status cuda_event_record(void *ctx, void *event) {
    return pb_cuda_enqueue_record(&((context *)ctx)->cuda, event);
}

static pb_status cuda_event_elapsed(void *ctx, void *a, void *b, double *ns) {
    context *c = (context *)ctx;
    PB_RETURN(pb_cuda_flush(&c->cuda));
    /* Not by the events: one that is a node of a graph counts as reached from an earlier launch until it is recorded again. */
    PB_CUDA(pb_api_stream_sync(c->cuda.stream));
    PB_CUDA(pb_api_event_elapsed(a, b, ns));
    return PB_OK;
}

static pb_status cuda_step_begin(void *ctx, bool whole) {
    return pb_cuda_step_begin(&((context *)ctx)->cuda, whole);
}
static pb_status cuda_step_end(void *ctx) { return pb_cuda_step_end(&((context *)ctx)->cuda); }

/* bf16 has arithmetic in hardware from compute capability 8.0 on; a plan without a machine assumes one. */
static bool cuda_fast_dtype(void *ctx, pb_dtype dtype) {
    const context *c = (const context *)ctx;
    return dtype == PB_F32 || (dtype == PB_BF16 && (c == NULL || c->cuda.info.major >= 8));
}

static bool cuda_memory_used(void *ctx, uint64_t *bytes) {
    size_t unused = 0, total = 0;
    (void)ctx;
    if (pb_api_memory(&unused, &total) != 0) return false;
    *bytes = total - unused;
    return true;
}

/* What the environment changed, "" mostly. */
static void describe_switches(const context *c, char *text, size_t cap) {
    int mib = 0;
    (void)pb_cuda_slab_mib(&mib);
    int n = snprintf(text, cap, "%s", c->cuda.plain ? "; own kernels plain (PB_CUDA_PLAIN)" : "");
    if (mib != PB_CUDA_SLAB_MIB) snprintf(text + n, cap - (size_t)n, "; slabs of %d MiB (PB_CUDA_SLAB_MIB)", mib);
}

/* What a record must know to be read years later: products have TF32 off. */
static void cuda_describe(void *ctx, char *text, size_t cap) {
    const context *c = (const context *)ctx;
    const pb_api_device *i = &c->cuda.info;
    char switches[96];
    int lt = 0;
    (void)pb_api_lt_version(&lt);
    describe_switches(c, switches, sizeof switches);
    snprintf(text, cap,
             "%s, compute capability %d.%d, %d multiprocessors, %zu MiB; driver %d.%d, runtime %d.%d, cuBLASLt %d.%d.%d; "
             "f32 products without TF32, bf16 with f32 sums, workspace %zu MiB; " PB_DEVICE_BUS "%s; steps: %s%s",
             i->name, i->major, i->minor, i->sms, i->memory_bytes >> 20, i->driver / 1000, i->driver % 1000 / 10,
             i->runtime / 1000, i->runtime % 1000 / 10, lt / 10000, lt / 100 % 100, lt % 100,
             PB_CUDA_PRODUCT_WORKSPACE >> 20, i->bus[0] != 0 ? i->bus : "?", pb_cuda_queue_mode(&c->cuda),
             switches);
}

extern "C" const pb_kernel_set *const pb_cuda_kernels_registry[];

static pb_backend backend_of(void) {
    pb_backend b = {};
    b.name = "cuda";
    b.computes = true;
    b.mem_alloc = cuda_mem_alloc;
    b.mem_free = cuda_mem_free;
    b.host_alloc = cuda_host_alloc;
    b.host_free = cuda_host_free;
    b.open = cuda_open;
    b.close = cuda_close;
    b.put = cuda_put;
    b.get = cuda_get;
    b.zero = cuda_zero;
    b.copy = cuda_copy;
    b.sync = cuda_sync;
    b.event_new = cuda_event_new;
    b.event_free = cuda_event_free;
    b.event_record = cuda_event_record;
    b.event_elapsed = cuda_event_elapsed;
    b.step_begin = cuda_step_begin;
    b.step_end = cuda_step_end;
    b.memory_used = cuda_memory_used;
    b.describe = cuda_describe;
    b.fast_dtype = cuda_fast_dtype;
    b.kernels = pb_cuda_kernels_registry;
    return b;
}

__attribute__((visibility("default"))) const pb_cuda_plugin_info *pb_cuda_plugin(void) {
    static const pb_backend backend = backend_of();
    static const pb_cuda_plugin_info info = {PB_CUDA_PLUGIN_ABI, pb_cuda_plugin_args_bytes(), &backend};
    return &info;
}
