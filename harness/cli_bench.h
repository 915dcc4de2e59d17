/* The benchmarks. Private to harness/cli_bench*.c. */
#ifndef PB_HARNESS_CLI_BENCH_H
#define PB_HARNESS_CLI_BENCH_H

#include "harness/bench_step.h"
#include "harness/cli.h"

typedef struct pb_bench_request {
    const char *model, *shape, *methods, *params, *device, *batches, *lengths, *out;
    int dtype, optimizer, format, trace;
    int64_t batch, min_len, max_len, accumulate, steps, warmup, threads, rows, rank, algorithms;
    uint64_t budget;
    bool checkpoint;
} pb_bench_request;

/* dtype as asked: 0 f32, 1 bf16, 2 auto (the device decides). */
pb_status pb_bench_dtype(const pb_bench_request *q, pb_dtype *out);
pb_status pb_bench_ops(const pb_bench_request *q);
pb_status pb_bench_infer(const pb_bench_request *q);

#endif
