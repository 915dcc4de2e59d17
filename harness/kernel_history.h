/* The times of kernels from revision to revision: JSON Lines, one line a run, and where they
 * changed. Test: tests/test_kernel_history.c. */
#ifndef PB_HARNESS_KERNEL_HISTORY_H
#define PB_HARNESS_KERNEL_HISTORY_H

#include "harness/kernel_saved.h"
#include "reports/change.h"

#define PB_HISTORY_SCHEMA "peftbench-kernels-history-2"

/* Appends the run's medians (anchors too) and where it ran as one line; makes the file. PB_E_IO. */
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
    pb_json **environments; /* of the points: machine, system, build, libraries, variables */
    int n_points;
    int others; /* lines of other machines, devices, caches, or numbers of threads or processes, left out */
    pb_history_series *series;
    int n;
} pb_history;

/* The last PB_CHANGE_MOST points that are like the last line: same processor, cores, device, GPU, caches
 * (cold or hot; a line that does not say counts as cold), threads and number of processes. Compiler,
 * libraries and system may differ: a change of them is a change to be found. A committed revision that
 * comes again from the same compiler and libraries replaces its point, in the place where it was.
 * PB_E_INPUT with file and line for what is no history. Free with pb_history_free. */
pb_status pb_history_read(const char *path, pb_history *out);
void pb_history_free(pb_history *h);
/* What else differed where a series changed: lines as of pb_environment_differences. */
pb_status pb_history_differences(const pb_history *h, const pb_history_series *s, int change,
                                 pb_text *out);

#endif
