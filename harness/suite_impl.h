/* What the files of the suite reader share. Private to harness/suite*.c. */
#ifndef PB_HARNESS_SUITE_IMPL_H
#define PB_HARNESS_SUITE_IMPL_H

#include "harness/suite.h"

#define PB_SUITE_MAX_SEEDS 1000
#define PB_SUITE_MAX_LR 100
#define PB_SUITE_MAX_ROWS 1000
#define PB_SUITE_MAX_EXAMPLES 32
#define PB_SUITE_MAX_SUITES 64

typedef enum pb_dtype_choice { PB_DTYPE_F32, PB_DTYPE_BF16, PB_DTYPE_AUTO } pb_dtype_choice;

/* One entry of "runs" before it is expanded: `run` holds every setting but seed, lr and dtype. */
typedef struct pb_suite_row {
    pb_run_config run;
    pb_dtype_choice dtype;
    double lr[PB_SUITE_MAX_LR];
    int n_lr;
    uint64_t seeds[PB_SUITE_MAX_SEEDS];
    int n_seeds;
    double tune_lr[PB_TUNE_MAX_VALUES]; /* the grid of a tuned suite, rising */
    int n_tune_lr;
    int64_t tune_rank[PB_TUNE_MAX_RANKS];
    int n_tune_rank;
} pb_suite_row;

typedef struct pb_suite_source {
    const char *where; /* how messages call the file */
    const pb_json *root;
    char *dir;         /* its folder: relative folders in it start there */
    char title[256];
    bool profile;
    pb_suite_row defaults; /* the top level, overrides applied */
    pb_suite_row *rows;    /* all of "runs" */
    int n_rows;
    bool tuned;
    pb_tune tune; /* rows unused */
    int64_t examples[PB_SUITE_MAX_EXAMPLES]; /* of the training split: every row at each number */
    int n_examples;
    bool drop_adapters, is_latency;
    pb_latency latency;
    char suites[PB_SUITE_MAX_SUITES][64];
    int n_suites;
} pb_suite_source;

/* Reads a parsed file. Method parameters keep pointing into `root`. Free rows and dir. */
pb_status pb_suite_parse(const pb_json *root, const pb_suite_overrides *overrides,
                         pb_suite_source *source);

/* The blocks "tune" of the top level and of a row (suite_tune.c). */
pb_status pb_suite_read_tune(const pb_json *root, const char *where, pb_suite_source *s);
pb_status pb_suite_read_row_tune(const pb_json *row, const char *where, pb_suite_row *out);
/* After all rows are read: do grids and budget fit together? */
pb_status pb_suite_check_tune(const pb_suite_source *s);
/* The chosen rows into out->tune and the plan of its runs. */
pb_status pb_suite_expand_tune(const pb_suite_source *s, const bool *keep, bool fast_bf16,
                               pb_suite *out);
void pb_tune_free(pb_tune *tune);

/* The block "latency" (suite_latency.c). */
pb_status pb_suite_read_latency(const pb_json *root, const char *where, pb_suite_source *s);

/* An array of whole numbers from lo to hi, all different. */
pb_status pb_suite_read_counts(const pb_json *o, const char *where, const char *key, int64_t lo,
                               int64_t hi, int cap, int64_t *out, int *n);
/* An array of seeds. *n stays when the key is absent. */
pb_status pb_suite_read_seeds(const pb_json *o, const char *where, int cap, uint64_t *out, int *n);
/* label + tail in `cap` bytes, the label cut between characters when there is no room. */
void pb_suite_label(char *out, size_t cap, const char *label, const char *tail);

/* A model as suite or command line name it: "shape:NAME", a folder, or a name under
 * HOME/.cache/models. base: where relative folders start, NULL = here. */
pb_status pb_suite_model(const char *where, const char *model, const char *base, char out[1024]);

#endif
