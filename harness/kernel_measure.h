/* One kernel alone: is it right, how long does it take from cold caches. What `peftbench kernels`
 * prints. Test: tests/test_kernels.c.
 *
 * The cases are the ops of a model's layer (harness/layer_ops.h). Each runs first on the reference
 * device, then on the device under test from the same bytes; every tensor must agree as
 * harness/kernel_judge.h says. Before every sample whatever the op wrote is put back, the op's tensors
 * leave the caches and the device's threads are woken, so that a sample starts as the checked call did
 * and as an op inside a training step does; after the last one the output must have the bytes of the
 * checked call: what was timed is what was checked. What is not a tensor stays warm: the op's code, its
 * workspace, compiled products, the translations of addresses.
 *
 * A call of less than 20 us is timed in batches: one call after the other, each on tensors of its own,
 * all of which left the caches. */
#ifndef PB_HARNESS_KERNEL_MEASURE_H
#define PB_HARNESS_KERNEL_MEASURE_H

#include "base/hash.h"
#include "harness/kernel_clock.h"
#include "harness/layer_ops.h"

#define PB_KERNEL_WARMUPS 5
#define PB_KERNEL_SAMPLES 60    /* at least, */
#define PB_KERNEL_SECONDS 0.2   /* at least, unless the time limit ends it */
#define PB_KERNEL_LEAST 3       /* however little time there is; fewer than the above is told */
#define PB_KERNEL_LIMIT_S 5.0   /* of one kernel's samples */
#define PB_KERNEL_SHORT_S 20e-6 /* calls below this come in batches */
#define PB_KERNEL_BATCH 16      /* of at most so many */

/* A case of the table, before it is run. */
typedef struct pb_kernel_case {
    char name[160]; /* "minilm/gemm/2048 x 384 x 384/f32": what --filter and comparisons go by */
    char shape[64];
    int group, index; /* in the walk of its layer */
    pb_layer layer;   /* sizes and dtype; no device */
    pb_op op;
    pb_work work; /* analytic */
} pb_kernel_case;

typedef struct pb_kernel_cases {
    pb_kernel_case *items;
    int n;
} pb_kernel_cases;

/* Appends the cases of a model ("shape:minilm", a folder) up to a rank whose names hold `filter`, or
 * one of its parts between '|' (NULL = all). */
pb_status pb_kernel_cases_add(pb_kernel_cases *cases, const char *model, int64_t rows,
                              pb_dtype dtype, pb_layer_rank most, const char *filter);
void pb_kernel_cases_free(pb_kernel_cases *cases);

/* Is `filter`, or one of its parts between '|', in the name? NULL holds all. */
bool pb_kernel_case_holds(const char *name, const char *filter);

typedef struct pb_kernel_result {
    double *samples; /* seconds, [n]; free with pb_kernel_result_free */
    double *cycles;  /* [n], of one call as the samples are; NULL when they were not read */
    int64_t n;
    int batch;      /* calls in a sample, which is the time of one */
    double spent_s; /* on the samples, putting back and flushing included */
    char variant[64];
    char sha256[PB_SHA256_HEX]; /* of everything that the op wrote */
    double worst;               /* largest error as a fraction of what is allowed */
    bool wrong;
    char why[160]; /* of wrong */
} pb_kernel_result;

typedef struct pb_kernel_way {
    bool unchecked; /* the reference only makes the inputs: for callers that hold the hash of a checked
                       output of the same binary */
    bool hot;       /* nothing is flushed: what fits the caches is still there from the call before */
    double limit_s; /* above 0: ends the samples earlier, after PB_KERNEL_LEAST of them */
    pb_kernel_clock *clock; /* reads cycles; or NULL */
} pb_kernel_way;

/* Checks and times one case on `dev` ("cpu", "ref" or "cuda"; PB_E_UNSUPPORTED for others); `ref` is the
 * reference device. A wrong result is a result, not an error; it is not timed.
 *
 * On a device with a queue of its own the time is that between two events in it, and the caches are
 * flushed by writing PB_KERNEL_FLUSH bytes, more than twice any L2 cache so far; the host hands the calls
 * over while that runs, a batch as one graph. */
#define PB_KERNEL_FLUSH (INT64_C(256) << 20)
pb_status pb_kernel_measure(const pb_kernel_case *c, pb_device *ref, pb_device *dev,
                            pb_kernel_way way, pb_kernel_result *out);
void pb_kernel_result_free(pb_kernel_result *result);

/* Takes bytes out of the CPU's caches. */
void pb_cache_evict(const void *data, size_t bytes);

#endif
