/* One run: build, train, time, evaluate, merge, measure, fill the record. Step order, fixed: before_step -> zero gradients
 * -> [forward, backward] per micro-batch -> loss_term -> gradient norm and NaN guard -> optimizer -> after_step -> log. */
#ifndef PB_HARNESS_TRAINER_H
#define PB_HARNESS_TRAINER_H

#include "harness/assets.h"

/* Progress of one run, sent to the display. phase: "load", "train", "eval", "time". */
typedef struct pb_progress_event {
    const char *phase;
    int64_t step, steps;
    double loss, examples_per_s;
} pb_progress_event;

typedef struct pb_run_options {
    int threads;
    uint64_t memory_budget;
    const char *out_dir;   /* the run's folder: adapter.safetensors goes there; NULL = keep nothing */
    bool keep_adapter;     /* default: the file is written, measured and kept */
    bool profile;          /* the table of the traced steps, roofs, out_dir/trace.json */
    bool counters;         /* and one more step under the GPU's hardware counters; implies profile */
    void (*progress)(void *user, const pb_progress_event *event);
    void *user;
    int64_t fail_alloc;       /* tests: the n-th arena growth of the run's device fails; 0 = never */
    const volatile int *stop; /* non-zero (a signal number): stop at the next step, status interrupted */
} pb_run_options;

/* Predicted memory (by pb_mem, and total) and work of one optimizer step, from the same calls on a plan device; no weight
 * is held. `seconds_per_step` uses measured rates when given (> 0 FLOP/s, bytes/s). */
typedef struct pb_prediction {
    uint64_t bytes[PB_MEM_COUNT], total;
    pb_work step;
    int64_t params_total, params_trainable;
    double seconds_per_step;
} pb_prediction;
pb_status pb_run_predict(const pb_run_config *run, const pb_assets *assets, int threads, double flops_per_s,
                         double bytes_per_s, pb_prediction *out);
/* The same without rates, for a GPU whose backend is not at hand: the workspaces are those of the backend that run->device
 * names, but a paged optimizer's state lies in a memory beside the device's and is not part of the total. */
pb_status pb_run_predict_beside(const pb_run_config *run, const pb_assets *assets, int threads, pb_prediction *out);

/* Runs it in this process and fills `record` (also when it fails: status and reason; then PB_OK is still returned when the
 * record says what happened). */
pb_status pb_run_execute(const pb_run_config *run, const pb_assets *assets, const pb_run_options *options,
                         pb_record *record);

#endif
