/* Two builds of the program, kernel by kernel: fresh processes of both, in random order within
 * every pair, into the regression gate (reports/gate.h). What `peftbench kernels compare` prints.
 * Test: tests/test_kernel_compare.c. */
#ifndef PB_HARNESS_KERNEL_COMPARE_H
#define PB_HARNESS_KERNEL_COMPARE_H

#include "base/text.h"
#include "reports/gate.h"

typedef struct pb_compare_request {
    const char *a, *b;          /* build folders with a peftbench in them, or programs */
    const char *const *options; /* of `kernels run`, NULL-terminated: model, rows, threads, ... */
    const char *filter;         /* NULL = all cases */
    uint64_t key;               /* of the order */
} pb_compare_request;

typedef struct pb_compared {
    char name[160];
    char wrong[160]; /* "" when right */
    double time[2][PB_GATE_STAGES][PB_GATE_PROCESSES]; /* medians; sides are A, B; 0 = none */
    char sha256[2][65]; /* of the checked outputs */
    int in[2];          /* processes that had this case */
    pb_gate_result result;
} pb_compared;

typedef struct pb_comparison_of_builds {
    pb_compared *kernels;
    int n;
    char sha256[2][65]; /* of the programs */
} pb_comparison_of_builds;

/* Runs both; a kernel whose output is wrong, or differs between processes of a build, is WRONG; one
 * that only one of them has is INCOMPARABLE. PB_E_ENV when a program does not run, with the end of
 * what it said. Free with pb_comparison_of_builds_free. */
pb_status pb_compare_builds(const pb_compare_request *request, pb_comparison_of_builds *out);
void pb_comparison_of_builds_free(pb_comparison_of_builds *c);

/* One test case per kernel: a failure whatever does not exit with 0; an unclear one is skipped when
 * that is allowed. */
pb_status pb_compared_junit(const pb_comparison_of_builds *c, bool allow_unclear, pb_text *out);
/* A table for a pull request. */
pb_status pb_compared_markdown(const pb_comparison_of_builds *c, pb_text *out);

#endif
