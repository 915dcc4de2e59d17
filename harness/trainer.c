/* One run, from a resolved configuration to a record. Order: verify the ops, predict, build, train,
 * evaluate, measure, save, profile. Whatever goes wrong becomes the record's status and reason;
 * what was measured until then stays in it. Test: tests/test_trainer.c, and tests/test_laws.c for
 * what every method must satisfy. */
#include "harness/trainer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/environment.h"
#include "harness/trainer_impl.h"

#define PROGRESS_NS 100000000

pb_status pb_trainer_batch(void *user, int64_t i, const pb_host_batch **out) {
    return pb_loader_batch(((pb_trainer *)user)->loader, i, out);
}

void pb_trainer_drop_peaks(pb_trainer *t) { pb_device_mem_reset_peaks(t->session.dev); }

void pb_trainer_take_peaks(pb_trainer *t) {
    pb_device *dev = t->session.dev;
    if (dev == NULL) return;
    for (int m = 0; m < PB_MEM_COUNT; m++) {
        uint64_t peak = pb_device_mem_peak(dev, (pb_mem)m);
        if (t->peak[m] < peak) t->peak[m] = peak;
    }
    uint64_t total = pb_device_mem_peak_total(dev);
    if (t->peak_total < total) t->peak_total = total;
    pb_device_mem_reset_peaks(dev);
}

void pb_trainer_progress(pb_trainer *t, const char *phase, int64_t step, int64_t steps, double loss,
                         bool always) {
    int64_t now_ns = pb_now_ns();
    if (t->options->progress == NULL || (!always && now_ns - t->last_progress_ns < PROGRESS_NS))
        return;
    t->last_progress_ns = now_ns;
    pb_progress_event event = {.phase = phase, .step = step, .steps = steps, .loss = loss};
    double seconds = 0.0, examples = 0.0;
    for (int64_t i = t->done > 16 ? t->done - 16 : 0; i < t->done; i++) {
        seconds += t->series[PB_SERIES_STEP][i];
        examples += t->series[PB_SERIES_EXAMPLES][i];
    }
    if (seconds > 0.0) event.examples_per_s = examples / seconds;
    t->options->progress(t->options->user, &event);
}

pb_status pb_trainer_stopped(const pb_trainer *t, const char *doing) {
    const volatile int *stop = t->options->stop;
    if (stop == NULL || *stop == 0) return PB_OK;
    return PB_ERROR(PB_E_INTERRUPTED,
                    "stopped by signal %d in %s, after step %" PRId64 " of %" PRId64, *stop, doing,
                    t->done, t->steps);
}

/* --- set-up --- */

static pb_status verify_ops(pb_trainer *t) {
    const pb_run_config *run = t->run;
    bool passed = false;
    char what[256];
    PB_RETURN(pb_verify_ops(run->device, t->options->threads, &t->assets->config, run->dtype,
                            pb_dataset_classes(t->assets->data), &passed, what, sizeof what));
    pb_copy(t->record->verified, sizeof t->record->verified, passed ? "passed" : "incorrect");
    if (passed) return PB_OK;
    return PB_ERROR(PB_E_CHECK, "this device computes wrongly: %s", what);
}

static pb_status predict(pb_trainer *t) {
    PB_RETURN(pb_run_predict(t->run, t->assets, t->options->threads, 0.0, 0.0, &t->prediction));
    return pb_check_budget(t->prediction.bytes, t->prediction.total, t->options->memory_budget);
}

static pb_status take_series(pb_trainer *t) {
    int64_t every = t->run->eval_every;
    t->cap_curve = every > 0 ? t->steps / every + 2 : 0;
    for (int i = 0; i < PB_SERIES_COUNT; i++) {
        t->series[i] = calloc((size_t)t->steps, sizeof(double));
        if (t->series[i] == NULL)
            return PB_ERROR(PB_E_OOM, "no host memory for %" PRId64 " steps", t->steps);
    }
    for (int i = 0; i < PB_CURVE_COUNT; i++) {
        t->curve[i] = calloc((size_t)t->cap_curve + 1, sizeof(double));
        if (t->curve[i] == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a curve");
    }
    return PB_OK;
}

pb_status pb_trainer_open(pb_trainer *t) {
    pb_session_spec spec;
    PB_RETURN(predict(t));
    PB_RETURN(pb_run_spec(t->run, t->assets, t->options->threads, &spec, &t->loader));
    spec.reserve = t->prediction.bytes;
    spec.device_options.memory_budget = t->options->memory_budget;
    spec.device_options.fail_alloc = t->options->fail_alloc;
    t->steps = spec.optim.steps;
    return pb_session_open(&t->session, &spec);
}

/* Which GPU the run is on; what it did there follows at the end (describe_device). */
static pb_status name_gpu(pb_trainer *t) {
    char text[512];
    pb_device_describe(t->session.dev, text, sizeof text);
    return pb_environment_add_gpu(t->record->environment, text);
}

static pb_status set_up(pb_trainer *t) {
    PB_RETURN(pb_trainer_record_identity(t));
    PB_RETURN(pb_trainer_memory(t));
    pb_trainer_progress(t, "load", 0, 1, 0.0, true);
    PB_RETURN(verify_ops(t));
    PB_RETURN(pb_trainer_open(t));
    PB_RETURN(name_gpu(t));
    PB_RETURN(pb_trainer_record_order(t));
    PB_RETURN(take_series(t));
    return pb_trainer_record_identity(t);
}

/* --- training --- */

static void keep(pb_trainer *t, int64_t step, const pb_step_result *r, pb_work before) {
    pb_work after = pb_device_work(t->session.dev);
    t->work.flops += after.flops - before.flops;
    t->work.flops_else += after.flops_else - before.flops_else;
    t->work.bytes += after.bytes - before.bytes;
    t->work.ops += after.ops - before.ops;
    t->series[PB_SERIES_FORWARD][step] = r->forward_s;
    t->series[PB_SERIES_BACKWARD][step] = r->backward_s;
    t->series[PB_SERIES_OPTIM][step] = r->optimizer_s;
    t->series[PB_SERIES_STEP][step] = r->step_s;
    t->series[PB_SERIES_EXAMPLES][step] = (double)r->sequences;
    t->series[PB_SERIES_TOKENS][step] = (double)r->tokens;
    t->series[PB_SERIES_LR][step] = pb_optim_lr(t->session.optim, step);
    t->series[PB_SERIES_NORM][step] = r->norm;
    t->done = step + 1;
}

/* Evaluation in the middle: its memory is no part of the training peak. */
static pb_status curve_point(pb_trainer *t, int64_t step) {
    if (t->cap_curve == 0 || step % t->run->eval_every != 0 || step == t->steps) return PB_OK;
    pb_trainer_take_peaks(t);
    pb_status status = pb_trainer_curve_point(t, step);
    pb_trainer_drop_peaks(t);
    PB_RETURN(status);
    return PB_OK;
}

static pb_status train(pb_trainer *t) {
    pb_device *dev = t->session.dev;
    for (int64_t step = 0; step < t->steps; step++) {
        pb_step_result result;
        PB_RETURN(pb_trainer_stopped(t, "training"));
        PB_RETURN(curve_point(t, step));
        pb_work before = pb_device_work(dev);
        uint64_t growths = pb_device_growths(dev);
        PB_RETURN(pb_session_step(&t->session, step, pb_trainer_batch, t, &result));
        t->growths += pb_device_growths(dev) - growths;
        keep(t, step, &result, before);
        PB_RETURN(pb_trainer_gradient(t, step));
        PB_RETURN(pb_trainer_weights(t, step));
        pb_trainer_progress(t, "train", step + 1, t->steps, result.loss, step + 1 == t->steps);
    }
    pb_trainer_take_peaks(t);
    return PB_OK;
}

/* --- after training --- */

static pb_status method_report(pb_trainer *t) {
    const pb_method *method = t->run->method;
    if (method->report == NULL) return PB_OK;
    t->record->report = cJSON_CreateObject();
    if (t->record->report == NULL)
        return PB_ERROR(PB_E_OOM, "no host memory for the method's report");
    return method->report(t->session.self, t->session.dev, t->record->report);
}

static pb_status profile(pb_trainer *t) {
    pb_status status = pb_trainer_profile(t);
    if (status != PB_E_DIVERGED) return status;
    return pb_record_warn(t->record, "no profile: %s", pb_error_message());
}

static pb_status execute(pb_trainer *t) {
    PB_RETURN(set_up(t));
    PB_RETURN(pb_trainer_general_before(t));
    PB_RETURN(pb_trainer_quality_before(t));
    PB_RETURN(pb_trainer_weights_before(t));
    PB_RETURN(train(t));
    PB_RETURN(pb_trainer_record_training(t));
    PB_RETURN(pb_trainer_record_gradient(t));
    PB_RETURN(pb_trainer_record_weights(t));
    PB_RETURN(pb_trainer_record_memory(t));
    PB_RETURN(pb_trainer_adapter(t));
    PB_RETURN(method_report(t));
    PB_RETURN(pb_trainer_quality(t));
    PB_RETURN(pb_trainer_general_after(t));
    PB_RETURN(pb_trainer_record_curve(t));
    PB_RETURN(pb_trainer_latency(t));
    PB_RETURN(pb_trainer_latency_grid(t));
    PB_RETURN(pb_trainer_quant(t));
    return profile(t);
}

static pb_run_status run_status_of(pb_status status) {
    if (status == PB_OK) return PB_RUN_OK;
    if (status == PB_E_OOM) return PB_RUN_OOM;
    if (status == PB_E_DIVERGED) return PB_RUN_DIVERGED;
    if (status == PB_E_INTERRUPTED) return PB_RUN_INTERRUPTED;
    return PB_RUN_FAILED;
}

/* The GPU and how it was used, after the fact: steps that fell back to eager say so. */
static pb_status describe_device(pb_trainer *t) {
    char text[512];
    if (t->session.dev == NULL || t->record->environment == NULL) return PB_OK;
    pb_device_describe(t->session.dev, text, sizeof text);
    if (text[0] == 0 || pb_json_add_str(t->record->environment, "accelerator", text)) return PB_OK;
    return PB_ERROR(PB_E_OOM, "no host memory for the description of the device");
}

/* What a run that ended early has measured; a second failure here changes nothing. */
static void salvage(pb_trainer *t) {
    pb_record *r = t->record;
    pb_trainer_take_peaks(t);
    bool ok = true;
    if (pb_record_find_sample(r, "loss/train") == NULL) ok = pb_trainer_record_training(t) == PB_OK;
    if (ok && r->n_memory == 0 && t->session.dev != NULL) ok = pb_trainer_record_memory(t) == PB_OK;
    if (ok && pb_record_find_sample(r, "curve/step") == NULL)
        ok = pb_trainer_record_curve(t) == PB_OK;
    if (!ok) pb_error_clear();
}

pb_status pb_run_execute(const pb_run_config *run, const pb_assets *assets,
                         const pb_run_options *options, pb_record *record) {
    pb_trainer t = {
        .run = run, .assets = assets, .options = options, .record = record, .best_variant = -1};
    if (assets->data == NULL) return PB_ERROR(PB_E_INPUT, "%s: a run needs a data set", run->label);
    pb_utc_now(record->started);
    pb_status status = execute(&t);
    if (status == PB_OK) status = describe_device(&t);
    record->status = run_status_of(status);
    if (status != PB_OK) {
        size_t bad = 0;
        snprintf(record->reason, sizeof record->reason, "%.380s (%.120s)", pb_error_message(),
                 pb_error_trace());
        if (!pb_utf8_valid(record->reason, strlen(record->reason), &bad)) record->reason[bad] = 0;
        salvage(&t);
    }
    pb_utc_now(record->ended);
    pb_session_close(&t.session);
    pb_loader_free(t.loader);
    for (int i = 0; i < PB_SERIES_COUNT; i++) free(t.series[i]);
    for (int i = 0; i < PB_CURVE_COUNT; i++) free(t.curve[i]);
    free(t.general_embeddings);
    pb_gradient_log_free(&t.gradient);
    pb_weight_log_free(&t.weights);
    if (record->run_id[0] == 0) return status; /* nothing to identify a record by */
    pb_error_clear();
    return PB_OK;
}
