/* Private to harness/cli_kernels*.c. */
#ifndef PB_HARNESS_CLI_KERNELS_H
#define PB_HARNESS_CLI_KERNELS_H

#include "harness/cli.h"
#include "harness/gpu_state.h"
#include "harness/kernel_measure.h"
#include "harness/kernel_saved.h"
#include "harness/machine_state.h"

/* What the command line asks for. */
typedef struct pb_kernels_request {
    const char *model, *filter, *save, *budget;
    const char *device; /* "cpu" (NULL: the same), "cuda" */
    int cache;          /* 0 cold, 1 hot */
    bool device_given, cache_given; /* on the command line */
    int dtype, format;  /* dtype: 0 f32, 1 bf16, -1 not given */
    int gauge;         /* pb_gauge */
    int64_t rows, threads, processes;
    double budget_s; /* of all processes together; 0 = none */
    bool unchecked, anchors, all, allow_unclear, stored, aa, instructions;
    const char *junit, *markdown, *revisions, *baseline, *history, *plots;
    double below; /* per cent of the roof; 0 = all */
} pb_kernels_request;

/* The table's cases that the request names. */
pb_status pb_kernels_cases(const pb_kernels_request *q, pb_kernel_cases *cases);

/* The same request as options of a process of its own, but for the filter and the budget. */
typedef struct pb_kernels_options {
    const char *argv[20]; /* NULL-terminated */
    char numbers[2][32];
} pb_kernels_options;
void pb_kernels_child_options(const pb_kernels_request *q, pb_kernels_options *out);

/* kernels run: exit status 5 when a result is wrong. */
pb_status pb_kernels_run(pb_cli *cli, const pb_kernels_request *q);
/* What it measures, in this process or in q->processes fresh ones of which the first is checked; *run is read
 * from *root. */
pb_status pb_kernels_measure(const pb_kernels_request *q, struct cJSON **root, pb_saved_run *run,
                             pb_machine_report *machine);

/* How the process was placed, and a line for everything that makes times differ. */
pb_status pb_kernels_print_machine(const pb_machine_report *machine);

/* The clock while kernels ran, as it was read (pb_saved_run.cycles_by), with advice where it moved; what the
 * GPU said. Nothing where nothing is known. */
pb_status pb_kernels_print_clock(const char *by, double mhz_least, double mhz_most,
                                 const pb_gpu_report *gpu);

/* The table of a run; with q->below only what falls short of that share of its roof, worst first, with
 * what is known of the reason. */
pb_status pb_kernels_print(const pb_kernels_request *q, const pb_saved_run *run);
/* What pb_kernels_print_clock says, of a saved run, with all lines of noise that it holds. */
pb_status pb_kernels_print_saved(const pb_saved_run *run);
/* The lines as a list `advice`, which is added to o. */
bool pb_kernels_add_advice(struct cJSON *o, pb_text *lines);
/* kernels show FILE, plot FILE DIR: of a saved run; trend FILE: of a history. */
pb_status pb_kernels_show(const pb_kernels_request *q, const char *path);
pb_status pb_kernels_plot(const char *path, const char *dir);
pb_status pb_kernels_draw(const pb_saved_run *run, const char *dir);
pb_status pb_kernels_trend(const pb_kernels_request *q, const char *path);

/* A file of what was measured, or failed to be: the failure is said at once and keeps neither the other
 * files nor stdout from being written. *first: the first one's status. At the end all_written says that
 * there was one. */
void pb_kernels_written(pb_status *first, pb_status next);
pb_status pb_kernels_all_written(pb_status first);

/* Set the exit code by the worst verdict. Builds, programs, revisions: */
pb_status pb_kernels_compare(pb_cli *cli, const pb_kernels_request *q, const char *a,
                             const char *b);
/* Saved runs; b NULL = a run made now by this program as A was, and kept in q->save. Only kernels that
 * q->filter holds. */
pb_status pb_kernels_compare_stored(pb_cli *cli, const pb_kernels_request *q, const char *a,
                                    const char *b);

/* Sets the exit code where there is a baseline. */
pb_status pb_kernels_count(pb_cli *cli, const pb_kernels_request *q);

#endif
