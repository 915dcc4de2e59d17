/* The times of kernels from revision to revision: JSON Lines, one line a run, and where they changed.
 * Test: tests/test_kernel_history.c. */
#ifndef PB_HARNESS_KERNEL_HISTORY_H
#define PB_HARNESS_KERNEL_HISTORY_H

#include "harness/kernel_saved.h"
#include "reports/change.h"

#define PB_HISTORY_SCHEMA "peftbench-kernels-history-1"

/* Appends the run's medians (anchors too) as one line; makes the file. PB_E_IO. */
pb_status pb_history_append(const char *path, const pb_saved_run *run);

typedef struct pb_history_series {
    char name[160];                 /* a case, or "anchor/copy", ... */
    double seconds[PB_CHANGE_MOST]; /* one a point that has it */
    int point[PB_CHANGE_MOST];      /* which: index into revisions */
    int n, n_changes;
    pb_change changes[PB_CHANGE_MOST / PB_CHANGE_SEGMENT]; /* of log times; .at counts in seconds[] */
} pb_history_series;

typedef struct pb_history {
    char (*revisions)[48]; /* oldest first; "+" at the end: with changes that were not committed */
    int n_points;
    int others; /* lines of other machines or other numbers of threads, left out */
    pb_history_series *series;
    int n;
} pb_history;

/* The last PB_CHANGE_MOST points of the machine that the last line is from. A committed revision that
 * comes again replaces its point. PB_E_INPUT with file and line for what is no history. Free with
 * pb_history_free. */
pb_status pb_history_read(const char *path, pb_history *out);
void pb_history_free(pb_history *h);

#endif
