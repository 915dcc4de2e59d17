/* Private to harness/cli_kernels*.c. */
#ifndef PB_HARNESS_CLI_KERNELS_H
#define PB_HARNESS_CLI_KERNELS_H

#include "harness/cli.h"

typedef struct pb_kernels_compare_request {
    const char *a, *b, *filter, *junit, *markdown;
    const char *const *options; /* for both programs, NULL-terminated */
    bool allow_unclear, json;
} pb_kernels_compare_request;

/* Sets the exit code by the worst verdict. */
pb_status pb_kernels_compare(pb_cli *cli, const pb_kernels_compare_request *q);

#endif
