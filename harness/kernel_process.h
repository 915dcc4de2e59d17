/* `kernels run` in a process of its own, and the folder for what it writes. */
#ifndef PB_HARNESS_KERNEL_PROCESS_H
#define PB_HARNESS_KERNEL_PROCESS_H

#include <stdbool.h>

#include "base/json.h"

/* A folder in $TMPDIR (/tmp), made and removed with what is in it. */
typedef struct pb_kernel_folder {
    char path[512], samples[544], log[544];
} pb_kernel_folder;
pb_status pb_kernel_folder_open(pb_kernel_folder *f);
void pb_kernel_folder_close(pb_kernel_folder *f); /* a zeroed one is fine */

/* The CUDA backend that `program` opens: $PB_CUDA_PLUGIN, else the one beside it. PB_E_ENV when there is none. */
pb_status pb_kernel_backend(const char *program, char out[1024]);

typedef struct pb_kernel_process {
    const char *program;
    const char *const *options; /* model, rows, threads, ..., NULL-terminated; or NULL */
    const char *filter;         /* NULL = all cases */
    double budget_s;            /* for its samples; 0 = none */
    bool check;                 /* against the reference, with roofs */
    bool anchors;               /* roofs without the check */
    int *code;                  /* where its exit status goes, also when it fails; or NULL */
} pb_kernel_process;

/* What it saved, also where results are wrong. PB_E_ENV with the end of what it said when it
 * fails. */
pb_status pb_kernel_process_run(const pb_kernel_process *p, const pb_kernel_folder *f,
                                pb_json **out);
/* What `kernels run` says once no case is left: what fails from there on is no kernel's doing. */
#define PB_KERNELS_MEASURED "all measured"
/* After a failure: the case that the process had announced last ("3 of 10: NAME"), "" when it had
 * not come to one or was through with all, and the last line that it said. */
void pb_kernel_process_last(const pb_kernel_folder *f, char name[160], char line[160]);
/* Its table of cases, as `kernels list` prints it with the options: an array of objects with a
 * name. */
pb_status pb_kernel_process_list(const pb_kernel_process *p, const pb_kernel_folder *f,
                                 pb_json **out);
/* What one call of each case executes, into f->samples: `kernels count` with the options, in the
 * way of `gauge` ("perf", "callgrind"). */
pb_status pb_kernel_process_count(const pb_kernel_process *p, const char *gauge,
                                  const pb_kernel_folder *f);

#endif
