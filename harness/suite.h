/* Suites: one JSON file that says what to run; expanded into resolved runs. Grammar and defaults:
 * harness/suites/README.md.
 *
 * A resolved configuration names everything that can change a run's result, so that its hash is the
 * run's identity; what cannot (threads, progress, where files lie) is not part of it: data and
 * model enter by name and sha256. */
#ifndef PB_HARNESS_SUITE_H
#define PB_HARNESS_SUITE_H

#include "base/json.h"
#include "base/status.h"
#include "kernels/core/tensor.h"
#include "methods/method.h"
#include "results/record.h"

typedef enum pb_schedule {
    PB_SCHEDULE_LINEAR,
    PB_SCHEDULE_COSINE,
    PB_SCHEDULE_CONSTANT
} pb_schedule;
typedef enum pb_optimizer { PB_OPT_ADAMW, PB_OPT_ADAMW8 } pb_optimizer;

#define PB_CHECKPOINT_ALL INT32_MAX

/* A batch of latency passes: so many sequences of exactly this length. */
typedef struct pb_infer_shape {
    int batch, length;
} pb_infer_shape;
#define PB_INFER_SHAPES 12

/* What a run is to the tuning of its suite (results/SCHEMA.md, `phase` and `tuning`). */
typedef struct pb_run_origin {
    char phase[8]; /* "" = plain, "trial", "final" */
    char row[64];  /* the row's label in the suite */
    char why[12];  /* trial: "grid", "extend", "refine"; final: "" */
    char edge[8];  /* final: "none", "low", "high", "cliff" */
    int trial;     /* number of the trial, or of the chosen one, from 1 */
    int64_t rank;  /* chosen by the tuning, 0 = not */
    bool lr_open;  /* planned only: the value is not known yet */
} pb_run_origin;

/* One run, resolved: every default filled in. Strings are owned by the suite. */
typedef struct pb_run_config {
    char suite[64], label[64];
    const pb_method *method;
    pb_json *method_params; /* as given in the suite (method->describe gives the defaults) */
    char model[1024];       /* folder, or a shape name for random weights ("shape:llama-3.2-1b") */
    char data_name[64];     /* registered source, or "" */
    char data_dir[1024];    /* folder of JSON Lines, or "" */
    char device[32];        /* "cpu" */
    pb_dtype dtype;
    uint64_t seed;
    double lr;
    int64_t steps; /* optimizer steps; from "epochs" when given (then known after the data are read;
                      0 until) */
    double epochs; /* 0 = steps given */
    int64_t batch, accumulate;
    int64_t checkpoint; /* layers that keep only their input for backward; PB_CHECKPOINT_ALL, 0 = none */
    pb_schedule schedule;
    double warmup; /* < 1: share of steps; >= 1: steps */
    pb_optimizer optimizer;
    bool paged; /* its state in the host's memory where the device has its own */
    double beta1, beta2, eps, weight_decay, clip;           /* clip 0 = none */
    double hidden_dropout, attention_dropout, head_dropout; /* < 0 = the model's */
    int64_t max_len, limit[3]; /* examples per split: train, valid, test; 0 = all */
    uint64_t subsample_seed;
    int64_t eval_batch;
    int64_t eval_every;    /* validation every n steps during training; 0 = at the end only */
    bool before;           /* the test split before training, too */
    int64_t train_eval;    /* training examples whose loss is evaluated at the end */
    char general_name[64], general_dir[1024]; /* text for the measure of forgetting: as data_* */
    char general_sha256[PB_SHA256_HEX];       /* of the folder's files */
    int64_t general_examples;                 /* 0 = not measured */
    int64_t infer_repeats; /* latency passes, merged and unmerged */
    int64_t shape_repeats; /* the same of each of infer_shapes; 0 = infer_repeats */
    pb_infer_shape infer_shapes[PB_INFER_SHAPES];
    int n_infer_shapes;
    int64_t gradients;     /* gradient norms of the method's parts every n steps; 0 = never */
    int64_t weights;       /* change of the query matrices every n steps and at the end; 0 = never */
    bool cuts;             /* test data also with the adapter cut to its first 1, 2, ... components */
    bool skip_test;        /* a trial: nothing of the test split is evaluated or timed */
    bool deterministic;
    pb_run_origin origin; /* no part of the identity: where the run stands in a tuned suite */
} pb_run_config;

/* Latency passes over each of infer_shapes. */
static inline int64_t pb_run_shape_repeats(const pb_run_config *run) {
    return run->shape_repeats > 0 ? run->shape_repeats : run->infer_repeats;
}

/* How learning rates (and ranks) are chosen: harness/suites/README.md, "Tuning". */
typedef enum pb_tune_strategy { PB_TUNE_GRID, PB_TUNE_HALVING } pb_tune_strategy;
#define PB_TUNE_MAX_VALUES 64
#define PB_TUNE_MAX_SEEDS 16
#define PB_TUNE_FINAL_SEEDS 5 /* the least that a file may name */
#define PB_TUNE_MAX_RANKS 8

/* A row of a tuned suite: `run` holds every setting but seed, rate and rank. */
typedef struct pb_tune_row {
    pb_run_config run;
    double lr[PB_TUNE_MAX_VALUES]; /* the grid, rising */
    int n_lr;
    int64_t rank[PB_TUNE_MAX_RANKS]; /* tried besides; n_ranks 0 = the row's own parameters */
    pb_json *params[PB_TUNE_MAX_RANKS]; /* the row's parameters at each rank; owned by the suite */
    int n_ranks;
    uint64_t seeds[1000]; /* of the final comparison */
    int n_seeds;
} pb_tune_row;

typedef struct pb_tune {
    pb_tune_strategy strategy;
    int64_t trials; /* of every row, each with every tuning seed */
    bool extend;    /* beyond the grid when its edge is best */
    uint64_t seeds[PB_TUNE_MAX_SEEDS];
    int n_seeds;
    pb_tune_row *rows;
    int n_rows;
} pb_tune;

/* A latency suite times forward passes on random tokens instead of training. */
#define PB_LATENCY_MAX 16
typedef struct pb_latency {
    int64_t batch[PB_LATENCY_MAX], length[PB_LATENCY_MAX];
    int n_batch, n_length;
    int64_t repeats;
} pb_latency;

typedef struct pb_suite {
    char name[64]; /* the results folder: overrides that change settings are part of it
                      ("quick-steps8") */
    char title[256];
    char file[512]; /* where it was read, for messages */
    bool profile;   /* records hold the table of a traced pass; moves no result, so no part of a run's identity */
    pb_run_config *runs; /* of a tuned suite: what it will do, with placeholders (origin.lr_open) */
    int n_runs;
    bool drop_adapters; /* adapter files are measured and removed */
    pb_tune *tune;      /* NULL = rates stand in the suite */
    bool is_latency;
    pb_latency latency;
    char (*suites)[64]; /* a collection: the suites it runs, in this order; it has no runs itself */
    int n_suites;
    void *storage;
} pb_suite;

/* What the command line may override. Zero / NULL = as the suite says. */
typedef struct pb_suite_overrides {
    const char *model, *data, *dtype, *device; /* data: source name or folder */
    const char *methods; /* comma-separated labels or method names: only these rows */
    int seeds;           /* number of seeds: the first n of 1, 2, 3, ... */
    int64_t steps, batch, max_len;
    bool checkpoint; /* every layer */
    bool has_lr;
    double lr;
} pb_suite_overrides;

/* name: "quick" (harness/suites/quick.json) or a path ending in .json. Unknown keys, values out of
 * range, unknown methods are PB_E_INPUT with file, place and the nearest known name. dtype "auto"
 * resolves through the device (bf16 where the CPU has it in hardware). */
pb_status pb_suite_load(const char *name, const pb_suite_overrides *overrides, pb_suite *out);
void pb_suite_free(pb_suite *suite);
/* Names of the suites that ship, sorted; free with pb_names_free. */
pb_status pb_suite_names(char ***names, size_t *n);

/* Where the project lies (.cache, harness/suites): PB_HOME, else the source folder this was built
 * from. */
const char *pb_home(void);
/* Names without folders, as records show them: the last part of a path, "shape:NAME", a source. */
void pb_run_model_name(const pb_run_config *run, char *out, size_t cap);
void pb_run_data_name(const pb_run_config *run, char *out, size_t cap);

/* The resolved configuration as JSON (method parameters with their defaults), without machine
 * paths. model_sha and data_sha as the loaders gave them. */
pb_status pb_run_config_json(const pb_run_config *run, const char *model_sha, const char *data_sha,
                             pb_json **out);

#endif
