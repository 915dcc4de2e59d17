/* What `run` was asked for. Private to harness/cli_run*.c. */
#ifndef PB_HARNESS_CLI_RUN_H
#define PB_HARNESS_CLI_RUN_H

#include "harness/runner.h"

typedef struct pb_run_request {
    pb_suite_overrides over;
    int64_t seeds, threads;
    uint64_t budget;
    const char *out;
    int dtype, format; /* indices of choices; dtype -1 = not given */
    bool dry_run, again, profile, counters, no_report, json;
} pb_run_request;

/* Prints every run with its predicted memory and time; PB_E_CHECK when one is over the budget. */
pb_status pb_run_dry(const pb_suite *suite, const pb_run_request *request);

#endif
