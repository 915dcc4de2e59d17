/* The speed of a training step on random tokens: no data set, no record. What `peftbench bench
 * step` prints. */
#ifndef PB_HARNESS_BENCH_STEP_H
#define PB_HARNESS_BENCH_STEP_H

#include "harness/suite.h"
#include "kernels/core/device.h"
#include "models/config.h"

/* What the timed steps run under: what tracing costs is the time beside that of PB_BENCH_UNTRACED. */
typedef enum pb_bench_trace {
    PB_BENCH_UNTRACED, /* nothing; a few traced steps come after them */
    PB_BENCH_OPS,      /* a tracer, every op handed over on its own, as in a profile */
    PB_BENCH_NODES,    /* a tracer beside steps as they are: on a GPU the nodes of a graph are recorded */
} pb_bench_trace;

typedef struct pb_bench_step_options {
    const char *
        model; /* a folder (its weights are used), a shape name, or "shape:NAME" (random weights) */
    const pb_method *method;
    const pb_json *params; /* the method's; may be NULL */
    const char *device;    /* NULL = "cpu" */
    int threads;
    uint64_t memory_budget;
    pb_dtype dtype;
    pb_optimizer optimizer;
    int64_t batch, min_len,
        max_len; /* tokens per sequence, uniform in [min_len, max_len]; min_len 0 = max_len */
    int64_t accumulate;    /* 0 = 1 */
    int64_t classes;       /* of an encoder's head; 0 = 2 */
    int64_t steps, warmup; /* timed steps, and steps before them; 0 = 10 and 3 */
    int64_t checkpoint;    /* layers that keep only their input */
    bool dropout;          /* the model's own dropout; false = none */
    pb_bench_trace trace;
    uint64_t seed;
    const volatile int *stop; /* may be NULL */
} pb_bench_step_options;

typedef struct pb_bench_step_result {
    double *step_s; /* [steps], each timed step; free with pb_bench_step_free */
    int64_t steps;
    /* Medians: of whole steps on the host's clock, and of the device's intervals in them. */
    double median_s, p10_s, p90_s, forward_s, backward_s, optimizer_s;
    double examples_per_s, tokens_per_s;                               /* at the median */
    int64_t tokens;                                                    /* per step */
    double flops;                                                      /* of products, per step */
    double flops_per_s;                                                /* at the median */
    double product_share; /* of a step's time: traced products, and the traced step; with CUPTI the timed one */
    double gemm_limit;  /* FLOP/s of this model's largest layer alone, measured here, same dtype and
                           rows */
    double limit_share; /* flops_per_s / gemm_limit */
    double op_s[PB_OP_COUNT]; /* traced seconds per step by op */
    double mfu;               /* -1: the device's peak is not known */
    double idle_share;        /* of the same time: nothing ran on the device */
    char tracer[16], no_cupti[256]; /* what traced, and on a GPU why it was not CUPTI */
    uint64_t trace_records, trace_dropped; /* of the traced steps: under a tracer those that are timed; shares and op_s are 0 then */
    uint64_t peak[PB_MEM_COUNT], peak_total;
    uint64_t predicted_total; /* of one step on the device's plan */
    uint64_t device_bytes;    /* of a GPU's memory, as its driver says, since the device was opened; 0 = nobody says */
    uint64_t head_bytes, logits_bytes; /* of a decoder: workspace that head and loss take at most, without what a product may
                                        * use; all logits of a step in f32 */
    int64_t params_total, params_trainable;
    uint64_t growths; /* arena growths in the timed steps: 0 */
} pb_bench_step_result;

/* Bytes by purpose of one step, on the device's plan; nothing is computed and no weight held. */
pb_status pb_bench_step_predict(const pb_bench_step_options *options, uint64_t bytes[PB_MEM_COUNT], uint64_t *total);
/* PB_E_OOM, PB_E_UNSUPPORTED etc. as the device says. With a memory budget the step is predicted first and refused with
 * the numbers (PB_E_OOM) when it does not fit. */
pb_status pb_bench_step(const pb_bench_step_options *options, pb_bench_step_result *out);
void pb_bench_step_free(pb_bench_step_result *result);

#endif
