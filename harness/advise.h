/* What to run on a GPU: for every method its memory (planned, not estimated: the trainer's own steps on a plan device), what
 * fits, how long it takes at best and with the efficiency that this program was measured at, and what the records say about
 * its quality (advise_evidence.h). No figure here comes from a formula about a method. Private to harness/. */
#ifndef PB_HARNESS_ADVISE_H
#define PB_HARNESS_ADVISE_H

#include "harness/advise_evidence.h"
#include "harness/gpus.h"
#include "harness/trainer.h"

#define PB_ADVISE_SCALE 2.0 /* alpha / r where no record says: what every low-rank method but AdaLoRA has by itself */

/* How a method is run. batch x accumulate stays what was asked for as long as it can. */
typedef struct pb_advise_setting {
    int64_t batch, accumulate, length;
    bool checkpoint, adamw8, paged; /* paged: the optimizer's state lies in the host's memory; never on a CPU */
} pb_advise_setting;

/* Plans that were made already: of one method with these parameters in this setting. For requests of one model that differ
 * in the GPU's memory alone, and within one: limits, rules and suite ask for what was planned before. */
typedef struct pb_plan_cache {
    int n;
    struct {
        const pb_method *method;
        char *params; /* as JSON */
        pb_advise_setting s;
        pb_prediction p;
    } plan[512];
} pb_plan_cache;

typedef struct pb_advise_request {
    pb_model_config config;
    const char *model; /* a folder, a config.json, or the name of a shape */
    const char *data;  /* of the suite: a folder or a source; NULL = the first source that the model can learn */
    const char *device; /* that trains: "cuda"; whose plan is made, and the suite's */
    bool stand_in;      /* the device's backend is not at hand: the plan has the CPU's workspaces and a memory beside the host's */
    const pb_gpu *gpu; /* NULL: no time is predicted */
    uint64_t memory, reserve; /* of the GPU; kept free for driver and context */
    int64_t examples, length, batch;
    int64_t rank; /* 0 = that of the row whose quality is quoted, else the method's own */
    double epochs, time_s;           /* time_s 0 = no limit */
    pb_dtype dtype;
    bool brief;          /* only fit, time, quality and choice: no limits, rules or suite */
    pb_plan_cache *cache; /* of this model; NULL = pb_advise_make's own */
    const char *records; /* folder with records and calibrations; NULL = none */
    const pb_evidence *evidence; /* of these records, when they were read already; else NULL */
} pb_advise_request;

/* Share of the roofline (max of FLOPs and bytes over the rates) that this program reaches. */
typedef struct pb_efficiency {
    bool known, on_this_gpu;
    double low, mid, high;
    int n;           /* calibrated steps behind it */
    double method[32]; /* the mean of each registered method's own steps on this GPU; 0 = none: the middle of all. What
                          one method reaches more than another elsewhere says nothing here, and would decide */
    char what[512]; /* one sentence: what it rests on, with machine and day */
} pb_efficiency;

/* Does the training end within the time given? The whole range of what it may take decides, not its middle. */
typedef enum pb_in_time {
    PB_TOO_SLOW,        /* not at the low end either */
    PB_PERHAPS_IN_TIME, /* the limit lies within the range, or nothing is known but the least time */
    PB_IN_TIME          /* at the high end too, or there is no limit */
} pb_in_time;

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
    pb_in_time in_time; /* where it fits */
    bool left_out; /* would fit, perhaps in the time, but not with the suite's one setting for all rows */
    pb_advise_quality quality;
} pb_advice;

typedef struct pb_rule {
    char rule[96];
    char verdict[32]; /* "agrees", "as good, not chosen", "better, not chosen", "contradicted", "unknown", "does not fit",
                         "too slow", "does not apply"; "agrees on the method" and "contradicted on the method" where its
                         rank is in no record */
    char numbers[1600];
} pb_rule;

typedef struct pb_advise {
    pb_advise_request request;
    uint64_t usable;
    pb_efficiency efficiency;
    const pb_evidence *evidence; /* NULL = no record says anything of quality */
    pb_evidence *own_evidence;
    pb_plan_cache *own_cache;
    pb_advice *rows;
    int n_rows, chosen; /* -1: nothing fits */
    int best; /* of what fits in the time, the best mean in the records; -1: nothing is known */
    char reason[800];
    pb_rule rules[3];
    char *suite; /* JSON text of a suite that would test it */
    pb_advise_setting suite_setting; /* of all its rows */
    bool pages;  /* a paged optimizer frees memory of the device */
    int n_plans; /* predictions asked for */
} pb_advise;

/* Free it also after a failure. PB_E_INPUT for an unknown device, PB_E_ENV where its backend is not at hand and request does
 * not take a stand-in. */
pb_status pb_advise_make(const pb_advise_request *request, pb_advise *out);
void pb_advise_free(pb_advise *a);

/* --- parts --- */

/* Forgets the plans; the cache itself stays. NULL is accepted. */
void pb_plan_cache_clear(pb_plan_cache *c);

/* Memory and work of one setting. *applies false: the method has nothing to train here, or its parameters do not go with
 * the model; the error message says what and stays. */
pb_status pb_advise_predict(const pb_advise_request *r, const pb_method *method, const pb_json *params,
                            const pb_advise_setting *s, pb_prediction *out, bool *applies);
/* Smallest change that lets row->params fit with the batch and length asked for: fills all that concerns memory but the
 * largest batch and length. */
pb_status pb_advise_fit(pb_advise *a, pb_advice *row);
/* What differs: "checkpointing, batch 2 x 8"; "" = nothing. */
void pb_advise_describe(const pb_advise_setting *s, const pb_advise_setting *was, char out[160]);
/* quoted (NULL = none): a row's resolved parameters, as a record has them. rank > 0 replaces theirs (AdaLoRA starts at 1.5
 * times that). alpha / r becomes `scale`. PB_E_INPUT as the method's create. */
pb_status pb_advise_params(const pb_method *method, const pb_json *quoted, double scale, int64_t rank, pb_json **out);
/* From calibration-*.json in `dir`: those of this GPU; without any, the others'. */
pb_status pb_advise_efficiency(const char *dir, const pb_gpu *gpu, pb_efficiency *out);
/* What a calibration calls the machine: the name that records on this device hold (harness/environment.h). */
pb_status pb_advise_machine(const char *device, int threads, char out[96]);
/* Times steps of every method here (about a minute on two cores) and writes a calibration file. */
pb_status pb_advise_calibrate(const char *device, int threads, const char *path);
/* Chooses and explains. */
void pb_advise_choose(pb_advise *a);
/* Answers the rules of thumb. */
pb_status pb_advise_rules(pb_advise *a);
/* The suite that would test the advice, when something was chosen: one setting for all rows and equal tuning budgets. */
pb_status pb_advise_suite(pb_advise *a);

/* The budget map: for each model and memory the method that wins, with the setting it needs. Draws
 * budget_map.svg and .png into dir and writes budget_map.json there. */
pb_status pb_advise_map(const pb_advise_request *request, const char *dir, FILE *paths);

#endif
