/* The private side of a device: what a backend provides. Included by kernels/ only. */
#ifndef PB_KERNELS_CORE_BACKEND_H
#define PB_KERNELS_CORE_BACKEND_H

#include "kernels/core/device.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One op on one backend. `args` points at the op's pb_<op>_args. */
typedef struct pb_kernel {
    pb_op op;
    const char *variant; /* "avx512", "onednn", "plain": goes into records */
    /* (optional) bytes of scratch this call needs, given to run as `ws` (64-byte aligned); default 0. Must depend on
     * shapes, dtypes and the device's thread count only, so that plan devices can ask it without data. */
    size_t (*workspace)(const pb_device *dev, const void *args);
    /* Enqueues the op. Shapes and dtypes were checked by the wrapper (kernels/ops.c). */
    pb_status (*run)(pb_device *dev, const void *args, void *ws);
} pb_kernel;

/* What a file kernels/<backend>/op_<family>.c defines: its kernels, `op` ascending or not, `n` of them. */
typedef struct pb_kernel_set {
    const pb_kernel *kernels;
    int n;
} pb_kernel_set;

typedef struct pb_backend pb_backend;
struct pb_backend {
    const char *name;
    bool computes;
    /* (optional) A backend whose code is loaded at run time gives the real one here, or PB_E_ENV and why it cannot be had;
     * everything but name and computes is then the real one's. `plan`: only its kernels' sizes are wanted. */
    pb_status (*resolve)(bool plan, const pb_backend **real);
    /* Zeroed memory or NULL. */
    void *(*mem_alloc)(void *ctx, size_t bytes);
    void (*mem_free)(void *ctx, void *p, size_t bytes);
    /* (optional, both or none) The host's memory as kernels and transfers of this device reach it: zeroed, or NULL. */
    void *(*host_alloc)(void *ctx, size_t bytes);
    void (*host_free)(void *ctx, void *p, size_t bytes);
    pb_status (*open)(const pb_device_options *options, void **ctx);
    void (*close)(void *ctx);
    /* Transfers go through the queue too. put has read the host's bytes when it returns; get waits. */
    pb_status (*put)(void *ctx, void *dst, const void *host, size_t bytes);
    pb_status (*get)(void *ctx, void *host, const void *src, size_t bytes);
    pb_status (*zero)(void *ctx, void *dst, size_t bytes);
    pb_status (*copy)(void *ctx, void *dst, const void *src, size_t bytes);
    pb_status (*sync)(void *ctx);
    /* (optional, all four or none) Marks in the backend's own queue. `record` enqueues one and does not wait; `elapsed` waits
     * for both and gives nanoseconds of the device's clock. Without them a record waits for the queue and reads the host's
     * clock, which is right where an enqueued operation has already run. */
    pb_status (*event_new)(void *ctx, void **event);
    void (*event_free)(void *ctx, void *event);
    pb_status (*event_record)(void *ctx, void *event);
    pb_status (*event_elapsed)(void *ctx, void *a, void *b, double *ns);
    /* (optional, both or none) Around a sequence that will come again, such as a training step: a backend may hold back what
     * is enqueued in between until somebody waits or the sequence ends, and hand it over in large pieces; `whole`: as one. */
    pb_status (*step_begin)(void *ctx, bool whole);
    pb_status (*step_end)(void *ctx);
    /* (optional) Bytes of the device's memory in use, everybody's, as its driver says; false when it does not. */
    bool (*memory_used)(void *ctx, uint64_t *bytes);
    /* (optional) One line about the hardware and the libraries, for records. */
    void (*describe)(void *ctx, char *text, size_t cap);
    /* (optional) ctx is NULL in a plan for a machine that is not this one. */
    bool (*fast_dtype)(void *ctx, pb_dtype dtype);
    const pb_kernel_set *const *kernels; /* generated table, NULL-terminated */
};

/* The backend's own context (threads, primitive caches). */
void *pb_device_context(const pb_device *dev);

#ifdef __cplusplus
}
#endif
#endif
