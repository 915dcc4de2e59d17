/* Private to harness/cli_claims*.c: what was asked for. */
#ifndef PB_HARNESS_CLI_CLAIMS_H
#define PB_HARNESS_CLI_CLAIMS_H

#include "harness/cli.h"
#include "reports/claims.h"

typedef struct claims_request {
    const char *out, *only; /* only: ids, comma-separated */
    int64_t threads, steps, seeds;
    int scale, format, fail_on; /* indices of choices; scale -1 = not given */
} claims_request;

typedef struct selection {
    pb_claim_file *all;
    const pb_claim_file **chosen;
    int n_all, n;
} selection;

/* Makes the runs that are missing in the suites that the chosen claims name, each suite once, in order of appearance;
 * all_rows: of the whole suite, else of the rows they read. *any: a suite was there to run. */
pb_status pb_claims_run_missing(pb_cli *cli, const selection *s, const claims_request *q, bool all_rows, bool *any);

/* Verdicts for a terminal (cli_claims_print.c): of each claim its verdict and why, of each part the finding, what it
 * says, what was seen and wanted, and notes. results: as pb_claims_check gives them. */
pb_status pb_claims_print(const pb_json *results, FILE *out);

#endif
