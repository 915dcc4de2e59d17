/* What the files of the suite reader share. Private to harness/suite*.c. */
#ifndef PB_HARNESS_SUITE_IMPL_H
#define PB_HARNESS_SUITE_IMPL_H

#include "harness/suite.h"

#define PB_SUITE_MAX_SEEDS 1000
#define PB_SUITE_MAX_LR 100
#define PB_SUITE_MAX_ROWS 1000

typedef enum pb_dtype_choice { PB_DTYPE_F32, PB_DTYPE_BF16, PB_DTYPE_AUTO } pb_dtype_choice;

/* One entry of "runs" before it is expanded: `run` holds every setting but seed, lr and dtype. */
typedef struct pb_suite_row {
    pb_run_config run;
    pb_dtype_choice dtype;
    double lr[PB_SUITE_MAX_LR];
    int n_lr;
    uint64_t seeds[PB_SUITE_MAX_SEEDS];
    int n_seeds;
} pb_suite_row;

typedef struct pb_suite_source {
    const char *where; /* how messages call the file */
    char *dir;         /* its folder: relative folders in it start there */
    char title[256];
    bool profile;
    pb_suite_row defaults; /* the top level, overrides applied */
    pb_suite_row *rows;    /* all of "runs" */
    int n_rows;
} pb_suite_source;

/* Reads a parsed file. Method parameters keep pointing into `root`. Free rows and dir. */
pb_status pb_suite_parse(const pb_json *root, const pb_suite_overrides *overrides,
                         pb_suite_source *source);

/* A model as suite or command line name it: "shape:NAME", a folder, or a name under
 * HOME/.cache/models. base: where relative folders start, NULL = here. */
pb_status pb_suite_model(const char *where, const char *model, const char *base, char out[1024]);

#endif
