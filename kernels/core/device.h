/* A device: memory by purpose, one in-order queue of operations, events.
 *
 * Operations are asynchronous: they are enqueued and run in order; pb_device_get and pb_device_sync wait. On the CPU
 * backends an enqueued operation has already run. All memory is handed out by arenas, one per purpose (pb_mem), so that
 * the peak of each arena *is* the memory table of a run. Backends: "ref" (double accumulators, never optimised, the only
 * one with f64), "cpu", "cuda", and "plan:<backend>", which computes nothing and counts everything: the same calls on it predict
 * memory by purpose, FLOPs and bytes of a run without holding a single weight. */
#ifndef PB_KERNELS_CORE_DEVICE_H
#define PB_KERNELS_CORE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a byte is for. Names as in the records: pb_mem_name. */
typedef enum pb_mem {
    PB_MEM_BASE,    /* "base": pretrained weights in their storage dtype (dense or 4-bit codes) */
    PB_MEM_QUANT,   /* "quant_constants": absmax and double-quantisation constants */
    PB_MEM_ADAPTER, /* "adapter": weights a method or the task head adds, in the compute dtype */
    PB_MEM_MASTER,  /* "master": f32 copies of trainable weights when the compute dtype is bf16 */
    PB_MEM_GRAD,    /* "gradient": gradients of trainable weights */
    PB_MEM_OPTIM,   /* "optimizer": optimizer state */
    PB_MEM_ACT,     /* "activation": what forward saves for backward */
    PB_MEM_WORK,    /* "workspace": temporaries of a layer or an op */
    PB_MEM_DATA,    /* "data": batches and logs on the device */
    PB_MEM_COUNT
} pb_mem;
const char *pb_mem_name(pb_mem mem);

typedef struct pb_device pb_device;

typedef struct pb_device_options {
    int threads;            /* CPU threads; 0 = all online cores */
    uint64_t memory_budget; /* bytes over all arenas; an allocation beyond it is PB_E_OOM with the numbers; 0 = none */
    int64_t fail_alloc;     /* tests: the n-th arena growth fails with PB_E_OOM (1-based); 0 = never. When set, arenas
                             * grow by one request at a time, so that n counts requests, not chunks */
    bool page_optimizer;    /* PB_MEM_OPTIM lies in the host's pinned memory where the device has a memory of its own; it
                             * then counts neither in the total nor against the budget. No effect elsewhere. */
    int algorithm;          /* benchmarks: matrix products take this one of those that a GPU's library proposes, from 0 = the one
                             * it thinks the best; where there are fewer, the last. No effect elsewhere. */
    bool separate;          /* tests (also by PB_MEMORY_SEPARATE in the environment): every tensor has an allocation of
                             * exactly its size, and a GPU's memory is not zeroed beforehand: a memory checker then sees what
                             * leaves a tensor and what is read before it was written. Counts stay the same; reserves do nothing */
    bool own_memory;        /* of a plan: as if the backend had a memory of its own beside the host's, where it has none */
} pb_device_options;

/* Opens "ref", "cpu", "cuda" or "plan:<one of these>". options NULL = defaults. PB_E_INPUT for an unknown name (names the
 * known ones), PB_E_ENV and why when the backend cannot run here. */
pb_status pb_device_open(const char *backend, const pb_device_options *options, pb_device **out);
/* What a device says about itself. A backend that keeps hold of a driver is opened in a process of its own: a process that
 * has opened a GPU cannot fork children that use it. Errors as pb_device_open. */
typedef struct pb_device_facts {
    int threads;
    bool fast_bf16;
    char text[512]; /* pb_device_describe */
} pb_device_facts;
pb_status pb_device_probe(const char *backend, const pb_device_options *options, pb_device_facts *out);
void pb_device_close(pb_device *dev); /* waits, then frees every arena; NULL is fine */

const char *pb_device_name(const pb_device *dev); /* as given to open */
bool pb_device_computes(const pb_device *dev);    /* false on plan devices: values read back are zeros */
int pb_device_threads(const pb_device *dev);
/* The hardware and its libraries in one line, "" where the backend has nothing to add to the host's description. */
void pb_device_describe(const pb_device *dev, char *text, size_t cap);
/* Comes before a GPU's place on the bus in that line, by which its driver's tools know it ("0000:18:00.0", "?"). */
#define PB_DEVICE_BUS "bus "
/* True when PB_MEM_OPTIM is in the host's memory (options.page_optimizer on a device that can). */
bool pb_device_pages_optimizer(const pb_device *dev);
/* True when operations wait in a queue of the device's own, with events of its own clock: time lies between events there, where
 * on other devices a call has run when it returns. */
bool pb_device_queues(const pb_device *dev);
/* True when the dtype has arithmetic in hardware here (bf16: AVX512-BF16 or AMX). */
bool pb_device_fast_dtype(const pb_device *dev, pb_dtype dtype);

/* --- memory ------------------------------------------------------------------------------------------------------ */

/* A contiguous, 64-byte aligned, zero-filled tensor from the arena. Freed with the device, or by a rewind. */
pb_status pb_device_alloc(pb_device *dev, pb_mem mem, pb_dtype dtype, int ndim, const int64_t *dim, pb_tensor *out);
pb_status pb_alloc1(pb_device *dev, pb_mem mem, pb_dtype dtype, int64_t n, pb_tensor *out);
pb_status pb_alloc2(pb_device *dev, pb_mem mem, pb_dtype dtype, int64_t rows, int64_t cols, pb_tensor *out);
/* As pb_alloc2 but the content is undefined (workspace and activations that are fully written anyway). */
pb_status pb_alloc2_raw(pb_device *dev, pb_mem mem, pb_dtype dtype, int64_t rows, int64_t cols, pb_tensor *out);

/* Stack discipline: everything allocated from the arena after the mark is given back to the arena (not to the system). */
typedef struct pb_mark {
    int64_t bytes;
} pb_mark;
pb_mark pb_device_mark(const pb_device *dev, pb_mem mem);
void pb_device_rewind(pb_device *dev, pb_mem mem, pb_mark mark);

/* Makes room for `bytes` at once (set-up), so that the arena is one block. */
pb_status pb_device_reserve(pb_device *dev, pb_mem mem, uint64_t bytes);

uint64_t pb_device_mem_now(const pb_device *dev, pb_mem mem);
uint64_t pb_device_mem_peak(const pb_device *dev, pb_mem mem);
uint64_t pb_device_mem_peak_total(const pb_device *dev); /* highest sum over all arenas at one instant */
void pb_device_mem_reset_peaks(pb_device *dev);          /* peaks := now */
/* Block i of an arena, from 0, as the backend gave it (in the device's memory, or the host's when paged); false behind the
 * last. Blocks stay until the device is closed. */
bool pb_device_block(const pb_device *dev, pb_mem mem, int i, const void **data, uint64_t *bytes);
/* Bytes of the device's own memory in use by everybody, as its driver says; false where there is no such memory or answer. */
bool pb_device_memory_used(const pb_device *dev, uint64_t *bytes);
/* How often an arena had to ask the system for memory: must not move in a steady training step. */
uint64_t pb_device_growths(const pb_device *dev);

/* --- data and time ----------------------------------------------------------------------------------------------- */

/* Host to device and back; `bytes` must be pb_bytes of the (contiguous) tensor. put has read the
 * host's bytes when it returns; get waits for the queue. */
pb_status pb_device_put(pb_device *dev, pb_tensor dst, const void *host, size_t bytes);
pb_status pb_device_get(pb_device *dev, void *host, pb_tensor src, size_t bytes);
/* From/to float or double arrays on the host whatever the tensor's floating dtype. Temporary host buffer only. */
pb_status pb_device_put_f32(pb_device *dev, pb_tensor dst, const float *host);
pb_status pb_device_put_f64(pb_device *dev, pb_tensor dst, const double *host);
pb_status pb_device_get_f64(pb_device *dev, double *host, pb_tensor src);
pb_status pb_device_zero(pb_device *dev, pb_tensor t);
/* Makes *run longer by `next`, both as they were allocated, so that one call zeroes them and the less than 64 bytes between
 * them, which are nobody's: when they have one dtype and `next` was put right behind *run in the same block of the arena. Else
 * false, and *run stays as it is. */
bool pb_device_join(const pb_device *dev, pb_mem mem, pb_tensor *run, pb_tensor next);
pb_status pb_device_copy(pb_device *dev, pb_tensor dst, pb_tensor src); /* same dtype and element count */
pb_status pb_device_sync(pb_device *dev);
/* Around a sequence of operations that will come again in much the same form, such as a training step: a device may hand it
 * over in large pieces, one while the next is written. Values, order and waits are as without; an observer sees every op run
 * where it is called, so with one the sequence is not held back. end also after a failure in between. */
pb_status pb_device_step_begin(pb_device *dev);
/* The same, handed over as one: between its operations the device never waits for the host. */
pb_status pb_device_step_begin_whole(pb_device *dev);
pb_status pb_device_step_end(pb_device *dev);

/* Recording enqueues a mark and does not wait; elapsed does. Freed before the device is closed. */
typedef struct pb_event pb_event;
pb_status pb_event_new(pb_device *dev, pb_event **out);
void pb_event_free(pb_event *event);
pb_status pb_event_record(pb_event *event);
/* Waits for both; nanoseconds from a to b. On a plan device: predicted time. */
pb_status pb_event_elapsed(const pb_event *a, const pb_event *b, double *ns);

/* --- accounting ---------------------------------------------------------------------------------------------------- */

/* Analytic work of everything enqueued so far (also on computing devices). */
typedef struct pb_work {
    double flops;      /* of matrix products */
    double flops_else; /* operations of everything else (core/cost.h) */
    double bytes;      /* least traffic: every operand once, one that is read and written twice */
    uint64_t ops;
} pb_work;
pb_work pb_device_work(const pb_device *dev);

/* Called around every op, for profilers: `op` is the op's name; begin = true before, false after. Transfers come as "zero",
 * "copy", "put" and "get" with their bytes as work. NULL removes it. While one is there, a device enqueues every op by itself
 * (no captured graphs), so that each can be seen. */
typedef void (*pb_op_observer)(void *user, const char *op, bool begin, const pb_work *work_of_op);
void pb_device_observe(pb_device *dev, pb_op_observer fn, void *user);
bool pb_device_observed(const pb_device *dev);

/* Where the ops that follow belong, outermost first: "forward", then "layers.3.attn.q", then "low_rank". A name holds until
 * the next one of its scope and ends those inside it; it is not copied and must outlive its use. "" = none. */
typedef enum pb_scope { PB_SCOPE_PHASE, PB_SCOPE_SITE, PB_SCOPE_PART, PB_SCOPE_COUNT } pb_scope;
void pb_device_scope(pb_device *dev, pb_scope scope, const char *name);
const char *pb_device_scope_name(const pb_device *dev, pb_scope scope);

#ifdef __cplusplus
}
#endif
#endif
