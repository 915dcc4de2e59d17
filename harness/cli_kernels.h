/* Private to harness/cli_kernels*.c. */
#ifndef PB_HARNESS_CLI_KERNELS_H
#define PB_HARNESS_CLI_KERNELS_H

#include "harness/cli.h"
#include "harness/kernel_measure.h"
#include "harness/machine_state.h"

/* What the command line asks for. */
typedef struct pb_kernels_request {
    const char *model, *filter, *save, *budget;
    int dtype, format; /* dtype: 0 f32, 1 bf16, -1 not given */
    int gauge;         /* pb_gauge */
    int64_t rows, threads, processes;
    double budget_s; /* 0 = none */
    bool unchecked, anchors, allow_unclear, stored, aa;
    const char *junit, *markdown, *revisions, *baseline;
} pb_kernels_request;

/* The table's cases that the request names. */
pb_status pb_kernels_cases(const pb_kernels_request *q, pb_kernel_cases *cases);

/* The same request as options of a process of its own. */
typedef struct pb_kernels_options {
    const char *argv[16]; /* NULL-terminated; without the filter */
    char numbers[3][32];
} pb_kernels_options;
void pb_kernels_child_options(const pb_kernels_request *q, pb_kernels_options *out);

/* kernels run: exit status 5 when a result is wrong. */
pb_status pb_kernels_run(pb_cli *cli, const pb_kernels_request *q);
/* What processes of `program` measure, first one checked, in one tree. */
pb_status pb_kernels_measure_processes(const pb_kernels_request *q, const char *program,
                                       int processes, struct cJSON **out);

/* How the process was placed, and a line for everything that makes times differ. */
pb_status pb_kernels_print_machine(const pb_machine_report *machine);

/* Set the exit code by the worst verdict. Builds, programs, revisions: */
pb_status pb_kernels_compare(pb_cli *cli, const pb_kernels_request *q, const char *a,
                             const char *b);
/* Saved runs; b NULL = a run made now by this program. */
pb_status pb_kernels_compare_stored(pb_cli *cli, const pb_kernels_request *q, const char *a,
                                    const char *b);

/* Sets the exit code where there is a baseline. */
pb_status pb_kernels_count(pb_cli *cli, const pb_kernels_request *q);

#endif
