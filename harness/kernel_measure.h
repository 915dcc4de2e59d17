/* One kernel alone: is it right, how long does it take from cold caches. What `peftbench kernels`
 * prints. Test: tests/test_kernels.c.
 *
 * The cases are the ops of a model's layer (harness/layer_ops.h). Each runs first on the reference
 * device, then on the device under test from the same bytes; every tensor must agree. Before every
 * sample whatever the op wrote is put back and the op's tensors leave the caches, so that a sample
 * starts as the checked call did and as an op inside a training step does; after the last one the
 * output must have the bytes of the checked call: what was timed is what was checked. */
#ifndef PB_HARNESS_KERNEL_MEASURE_H
#define PB_HARNESS_KERNEL_MEASURE_H

#include "base/hash.h"
#include "harness/layer_ops.h"

#define PB_KERNEL_WARMUPS 5
#define PB_KERNEL_SAMPLES 60    /* at least, */
#define PB_KERNEL_SECONDS 0.2   /* at least, unless the time limit ends it */
#define PB_KERNEL_LIMIT_S 5.0   /* of one kernel's samples */

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

/* Appends the cases of a model ("shape:minilm", a folder) whose names hold `filter`, or one of its
 * parts between '|' (NULL = all).
 * Vocabularies are cut where a table of embeddings would pass 64 MiB of f32. */
pb_status pb_kernel_cases_add(pb_kernel_cases *cases, const char *model, int64_t rows,
                              pb_dtype dtype, const char *filter);
void pb_kernel_cases_free(pb_kernel_cases *cases);

/* Is `filter`, or one of its parts between '|', in the name? NULL holds all. */
bool pb_kernel_case_holds(const char *name, const char *filter);

typedef struct pb_kernel_result {
    double *samples; /* seconds, [n]; free with pb_kernel_result_free */
    int64_t n;
    char variant[64];
    char sha256[PB_SHA256_HEX]; /* of everything that the op wrote */
    double worst;               /* largest error as a fraction of what is allowed */
    bool wrong;
    char why[160]; /* of wrong */
} pb_kernel_result;

/* Checks and times one case on `dev`, a CPU device (PB_E_UNSUPPORTED for others: their caches are
 * not flushed here); `ref` is the reference device. limit_s > 0 ends the samples earlier, after
 * three of them. A wrong result is a result, not an error; it is not timed. Without `check` the
 * reference only makes the inputs: for callers that hold the hash of a checked output of the same
 * binary. Errors of more than
 *     (4 u_T + 8 u_f32 sqrt(longest side of a tensor)) max |reference|
 * are wrong, u the unit roundoff; so are over 0.1 % of whole numbers or codes that differ. */
pb_status pb_kernel_measure(const pb_kernel_case *c, pb_device *ref, pb_device *dev, bool check,
                            double limit_s, pb_kernel_result *out);
void pb_kernel_result_free(pb_kernel_result *result);

/* Takes bytes out of the CPU's caches. */
void pb_cache_evict(const void *data, size_t bytes);

#endif
