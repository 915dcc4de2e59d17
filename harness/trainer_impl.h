/* What the files of the trainer share. Private to harness/. */
#ifndef PB_HARNESS_TRAINER_IMPL_H
#define PB_HARNESS_TRAINER_IMPL_H

#include "harness/evaluate.h"
#include "harness/profile/profile.h"
#include "harness/trainer.h"
#include "harness/trainer_session.h"

/* --- set-up: trainer_spec.c --- */

/* A run as a session sees it, and its loader of training batches (NULL when the assets hold no
 * data: the largest batch is then `batch` sequences of max_len tokens). PB_E_INPUT when model, data
 * and settings do not go together. */
pb_status pb_run_spec(const pb_run_config *run, const pb_assets *assets, int threads,
                      pb_session_spec *spec, pb_loader **loader);

/* PB_E_OOM with the bytes of every purpose when `total` is above the budget (0 = none). */
pb_status pb_check_budget(const uint64_t bytes[PB_MEM_COUNT], uint64_t total, uint64_t budget);

/* --- state of one run --- */

/* One host array per step, all `steps` long. */
enum {
    PB_SERIES_STEP,
    PB_SERIES_FORWARD,
    PB_SERIES_BACKWARD,
    PB_SERIES_OPTIM,
    PB_SERIES_EXAMPLES,
    PB_SERIES_TOKENS,
    PB_SERIES_LR,
    PB_SERIES_NORM,
    PB_SERIES_LOSS,
    PB_SERIES_TERM,
    PB_SERIES_COUNT
};
/* Validation during training, one entry per evaluation. */
enum { PB_CURVE_STEP, PB_CURVE_NLL, PB_CURVE_ACCURACY, PB_CURVE_COUNT };

/* Gradient norms by part ("lora_a", "lora_b", and "norm" for all together) at the measured steps. */
#define PB_GRADIENT_PARTS 12
typedef struct pb_gradient_log {
    char name[PB_GRADIENT_PARTS][40];
    int n_parts;
    double *step, *norm[PB_GRADIENT_PARTS];
    int64_t n, cap;
} pb_gradient_log;

/* Change of the query matrices, one entry per matrix and checkpoint. */
enum {
    PB_WEIGHTS_STEP,
    PB_WEIGHTS_LAYER,
    PB_WEIGHTS_MAGNITUDE,
    PB_WEIGHTS_DIRECTION,
    PB_WEIGHTS_COUNT
};
typedef struct pb_weight_log {
    const pb_site **site; /* the model's */
    double **before;      /* [n_sites]: each [out,in], before training */
    int n_sites;
    double *value[PB_WEIGHTS_COUNT];
    int64_t n, cap;
} pb_weight_log;

typedef struct pb_trainer {
    const pb_run_config *run;
    const pb_assets *assets;
    const pb_run_options *options;
    pb_record *record;
    pb_session session;
    pb_loader *loader;
    pb_prediction prediction;
    int64_t steps, done;
    double *series[PB_SERIES_COUNT];
    double *curve[PB_CURVE_COUNT];
    int64_t n_curve, cap_curve;
    pb_gradient_log gradient;
    pb_weight_log weights;
    /* highest arena use while training, evaluation left out */
    uint64_t peak[PB_MEM_COUNT], peak_total;
    pb_work work;     /* of all training steps */
    uint64_t growths; /* of the arenas during training steps */
    int64_t last_progress_ns;
    int best_variant; /* -1 = the method has none */
    pb_memory_seen memory_seen; /* of the memory pass */
    double general_nll, *general_embeddings; /* before training; an encoder's [n_general, C] */
    int64_t n_general;
} pb_trainer;

/* Prediction, budget, session and loader: what holds the run's memory. */
pb_status pb_trainer_open(pb_trainer *t);
/* Allocations by purpose, of a profiled run on a GPU; before the run's own device is opened. Fails only with PB_E_INTERRUPTED
 * and when there is no process to be had. trainer_memory.c */
pb_status pb_trainer_memory(pb_trainer *t);
/* The pass itself, in this process. */
pb_status pb_trainer_memory_steps(const pb_trainer *t, const pb_memory_recorder *recorder, pb_memory_seen *out);

/* A pb_batch_source: the run's training batches. user = pb_trainer. */
pb_status pb_trainer_batch(void *user, int64_t i, const pb_host_batch **out);
/* Steps at the start that the medians leave out: 3, fewer in short runs. */
int64_t pb_warmup_samples(int64_t steps);
/* Folds the arenas' peaks into peak[]; then peaks count from now. */
void pb_trainer_take_peaks(pb_trainer *t);
void pb_trainer_drop_peaks(pb_trainer *t);
/* At most about ten events a second reach the caller unless `always`. */
void pb_trainer_progress(pb_trainer *t, const char *phase, int64_t step, int64_t steps, double loss,
                         bool always);
pb_status pb_trainer_stopped(const pb_trainer *t, const char *doing);

/* trainer_quality.c: the test split before the first step (suite key eval.before), outside time and training
 * memory. */
pb_status pb_trainer_quality_before(pb_trainer *t);
/* Validation, test and training subset of every variant; the best variant by validation stays
 * selected. */
pb_status pb_trainer_quality(pb_trainer *t);
/* The test split again with the adapter folded into 4-bit weights: its own quality, for requantising
 * loses something. */
pb_status pb_trainer_quality_merged(pb_trainer *t);
/* Forgetting (trainer_general.c); nothing without general text. */
pb_status pb_trainer_general_before(pb_trainer *t);
pb_status pb_trainer_general_after(pb_trainer *t);
/* Validation in the middle of training. */
pb_status pb_trainer_curve_point(pb_trainer *t, int64_t step);
/* Latency unmerged and merged, agreement of both, adapter file, profile by op. trainer_measure.c */
pb_status pb_trainer_latency(pb_trainer *t);
/* The same over the run's own shapes of batches, beside the base model. trainer_latency.c (one pass:
 * forward_timer.h) */
pb_status pb_trainer_latency_grid(pb_trainer *t);
pb_status pb_trainer_adapter(pb_trainer *t);
pb_status pb_trainer_profile(pb_trainer *t);
/* Samples and metrics of training, memory, model and data set descriptions. trainer_record.c */
pb_status pb_trainer_record_identity(pb_trainer *t);
pb_status pb_trainer_record_order(pb_trainer *t);
pb_status pb_trainer_record_training(pb_trainer *t);
pb_status pb_trainer_record_memory(pb_trainer *t);
pb_status pb_trainer_record_curve(pb_trainer *t);

/* Sample `tag`, and the metric "how" of it under metric_tag with the unit and direction of the
 * tag's family. */
pb_status pb_record_derived(pb_record *r, const char *metric_tag, const char *how,
                            const char *sample_tag);
/* A metric with the unit and direction of its tag's family. */
pb_status pb_record_known(pb_record *r, const char *tag, double value, int64_t n);

/* --- gradients of the method's parameters: trainer_gradient.c --- */

/* Behind a step: norms before clipping, by the last part of the parameters' names. */
pb_status pb_trainer_gradient(pb_trainer *t, int64_t step);
pb_status pb_trainer_record_gradient(pb_trainer *t);
/* The norm over all of them; the last step's gradients still stand there. */
pb_status pb_trainer_record_last_gradient(pb_trainer *t);
void pb_gradient_log_free(pb_gradient_log *log);

/* --- change of the query matrices: trainer_weights.c --- */

/* Of a matrix [out,in]: mean over its rows (output features) of | |after| - |before| | and of
 * 1 - cos(after, before); 0 for a row of zeros, which has no direction. */
void pb_weight_change(const double *before, const double *after, int64_t out, int64_t in,
                      double *magnitude, double *direction);
/* The weights that training starts from; then behind a step, every run->weights steps and the last. */
pb_status pb_trainer_weights_before(pb_trainer *t);
pb_status pb_trainer_weights(pb_trainer *t, int64_t step);
pb_status pb_trainer_record_weights(pb_trainer *t);
void pb_weight_log_free(pb_weight_log *log);

/* --- what 4 bits do to the base model: trainer_quant.c --- */

/* Nothing unless the base model is quantised. Opens a device of its own for the plain weights, so it
 * comes when memory has been measured. */
pb_status pb_trainer_quant(pb_trainer *t);

/* --- checks --- */

/* Runs the ops of a layer of this model on `device` and on the reference with the same random
 * inputs, few rows. *passed false: `what` says which op, where and how far. */
pb_status pb_verify_ops(const char *device, int threads, const pb_model_config *config,
                        pb_dtype dtype, int64_t classes, bool *passed, char *what, size_t cap);

/* True for ops whose time is a matrix product of weights and activations. */
bool pb_op_is_product(pb_op op);

#endif
