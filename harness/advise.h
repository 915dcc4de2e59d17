/* What to run on a GPU: for every method its memory (planned, not estimated: the trainer's own steps on a plan device), what
 * fits, how long it takes at best and with the efficiency that this program was measured at, and what the records say about
 * its quality. No figure here comes from a formula about a method. Private to harness/. */
#ifndef PB_HARNESS_ADVISE_H
#define PB_HARNESS_ADVISE_H

#include "harness/gpus.h"
#include "harness/trainer.h"

/* How a method is run. batch x accumulate stays what was asked for as long as it can. */
typedef struct pb_advise_setting {
    int64_t batch, accumulate, length;
    bool checkpoint, adamw8, paged; /* paged: of no effect where the plan's device is a CPU */
} pb_advise_setting;

/* Plans that were made already, for requests that differ in the GPU's memory alone. */
typedef struct pb_plan_cache {
    int n;
    struct {
        const pb_method *method;
        pb_advise_setting s;
        pb_prediction p;
    } plan[512];
} pb_plan_cache;

typedef struct pb_advise_request {
    pb_model_config config;
    const char *model; /* as the suite file will name it */
    const char *device;  /* whose plan is made: "cpu" */
    const pb_gpu *gpu; /* NULL: no time is predicted */
    uint64_t memory, reserve; /* of the GPU; kept free for driver and context */
    int64_t examples, length, batch, rank; /* rank 0 = each method's own default */
    double epochs, time_s;           /* time_s 0 = no limit */
    pb_dtype dtype;
    bool brief;          /* only fit, time, quality and choice: no limits, rules or suite */
    pb_plan_cache *cache; /* of this model; NULL = none */
    const char *records; /* folder with records and calibrations; NULL = none */
} pb_advise_request;

/* Difference to LoRA in points of test accuracy, on the records' own model and data. */
typedef struct pb_advise_quality {
    bool known;
    int n_sizes;            /* different numbers of training examples that the records hold */
    double mean, low, high; /* 95 % over seeds; low = high = NaN with one seed */
    int n_seeds;
    char where[256]; /* "quick: all-MiniLM-L6-v2 on wordnet" */
} pb_advise_quality;

/* Share of the roofline (max of FLOPs and bytes over the rates) that this program reaches. */
typedef struct pb_efficiency {
    bool known, on_this_gpu;
    double low, mid, high;
    int n;           /* calibrated steps behind it */
    double method[32]; /* the mean of each registered method's own steps; 0 = none */
    char what[256]; /* one sentence: what it rests on */
} pb_efficiency;

typedef struct pb_advice {
    const pb_method *method;
    pb_json *params;      /* owned */
    bool applies;         /* false: nothing to train on this model */
    char why_not[256];
    pb_advise_setting asked, use; /* use: the smallest change that fits, when `fits` */
    pb_prediction asked_p, use_p;
    bool fits_asked, fits;
    uint64_t missing;     /* bytes that the setting asked for lacks */
    uint64_t least;       /* !fits: bytes that even the smallest setting needs */
    char change[160];     /* "activation checkpointing, batch 2 x 8"; "" = none */
    int64_t max_batch, max_length; /* with `use`: at its length; at batch 1 */
    double steps, least_s, low_s, mid_s, high_s; /* whole training; 0 = unknown */
    bool in_time;
    pb_advise_quality quality;
} pb_advice;

typedef struct pb_rule {
    char rule[96], verdict[24], numbers[400]; /* "agrees", "not needed", "contradicted", "unknown", "does not apply" */
} pb_rule;

typedef struct pb_advise {
    pb_advise_request request;
    uint64_t usable;
    pb_efficiency efficiency;
    pb_advice *rows;
    int n_rows, chosen; /* -1: nothing fits */
    char reason[512];
    pb_rule rules[3];
    char *suite; /* JSON text of a suite that would test it */
    int n_plans; /* predictions made */
} pb_advise;

/* Free it also after a failure. */
pb_status pb_advise_make(const pb_advise_request *request, pb_advise *out);
void pb_advise_free(pb_advise *a);

/* --- parts --- */

/* Memory and work of one setting. *applies false: the method has nothing to train here, or its parameters do not go with
 * the model; the error message says what and stays. */
pb_status pb_advise_predict(const pb_advise_request *r, const pb_method *method, const pb_json *params,
                            const pb_advise_setting *s, pb_prediction *out, bool *applies);
/* {"rank": r} under the name the method has for it; PB_OK with {} when it has none or r is 0. */
pb_status pb_advise_params(const pb_method *method, int64_t rank, pb_json **out);
/* Fills quality of every row from the records below `dir`. */
pb_status pb_advise_quality_of(const char *dir, pb_advice *rows, int n);
/* From calibration-*.json below `dir`. */
pb_status pb_advise_efficiency(const char *dir, const pb_gpu *gpu, pb_efficiency *out);
/* Times steps of every method here (about a minute on two cores) and writes a calibration file. */
pb_status pb_advise_calibrate(const char *device, int threads, const char *path);
/* Chooses, explains, answers the rules, writes the suite. */
pb_status pb_advise_conclude(pb_advise *a);

/* The budget map: for each model and memory the method that wins, with the setting it needs. Draws
 * budget_map.svg and .png into dir and writes budget_map.json there. */
pb_status pb_advise_map(const pb_advise_request *request, const char *dir, FILE *paths);

#endif
