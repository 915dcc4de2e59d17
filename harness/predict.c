/* Prediction: the trainer's own set-up and one step on a plan device, which counts and computes
 * nothing. No formula for any method or model exists here; what a new method needs is predicted the
 * moment it runs. Test: tests/test_laws.c. */
#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "harness/rates.h"
#include "harness/trainer_impl.h"

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

static pb_status one_step(pb_session *s, pb_prediction *out) {
    pb_status status = PB_OK;
    pb_synthetic batch = {0};
    pb_step_result result;
    pb_work before = pb_device_work(s->dev);
    PB_TRY(pb_synthetic_of_bounds(&s->spec.train, &batch));
    PB_TRY(pb_session_step(s, 0, pb_synthetic_source, &batch, &result));
    pb_work after = pb_device_work(s->dev);
    out->step = (pb_work){.flops = after.flops - before.flops,
                          .flops_else = after.flops_else - before.flops_else,
                          .bytes = after.bytes - before.bytes,
                          .ops = after.ops - before.ops};
done:
    pb_synthetic_free(&batch);
    return status;
}

#define SIMULATED_STEPS 512

static pb_status from_loader(void *user, int64_t i, const pb_host_batch **out) {
    return pb_loader_batch(user, i, out);
}

/* A method that draws the shape of each step (DyLoRA's rank) peaks where draw and batch together are largest: its peaks are
 * those of the run's own steps, batches and draws. Longer runs surely meet the largest of both within the first steps. */
static pb_status drawn_steps(pb_session *s, pb_loader *loader, int64_t steps) {
    pb_step_result result;
    pb_device_mem_reset_peaks(s->dev);
    for (int64_t step = 0; step < steps && step < SIMULATED_STEPS; step++)
        PB_RETURN(pb_session_step(s, step, from_loader, loader, &result));
    return PB_OK;
}

/* Without data every batch is the largest: the peak is that of the largest draw. */
static pb_status drawn_bounds(pb_session *s) {
    enum { DRAWS = 64 };
    pb_status status = PB_OK;
    pb_synthetic batch = {0};
    pb_step_result result;
    s->spec.accumulate = 1; /* one micro-batch has the peak of all */
    PB_TRY(pb_synthetic_of_bounds(&s->spec.train, &batch));
    for (int64_t step = 1; step < DRAWS && step < s->spec.optim.steps; step++)
        PB_TRY(pb_session_step(s, step, pb_synthetic_source, &batch, &result));
done:
    pb_synthetic_free(&batch);
    return status;
}

static pb_status predict(const pb_run_config *run, const pb_assets *assets, int threads, bool own_memory,
                         pb_prediction *out) {
    pb_status status = PB_OK;
    pb_session session = {0};
    pb_session_spec spec;
    pb_loader *loader = NULL;
    char device[sizeof run->device + 8];
    *out = (pb_prediction){0};
    PB_TRY(pb_run_spec(run, assets, threads, &spec, &loader));
    snprintf(device, sizeof device, "plan:%s", run->device);
    spec.device = device;
    spec.device_options.own_memory = own_memory;
    PB_TRY(pb_session_open(&session, &spec));
    uint64_t set_up[PB_MEM_COUNT], set_up_total = pb_device_mem_peak_total(session.dev);
    for (int m = 0; m < PB_MEM_COUNT; m++)
        set_up[m] = pb_device_mem_peak(session.dev, (pb_mem)m);
    PB_TRY(one_step(&session, out));
    if (run->method->before_step)
        PB_TRY(loader ? drawn_steps(&session, loader, spec.optim.steps) : drawn_bounds(&session));
    for (int m = 0; m < PB_MEM_COUNT; m++)
        out->bytes[m] = larger(set_up[m], pb_device_mem_peak(session.dev, (pb_mem)m));
    out->total = larger(set_up_total, pb_device_mem_peak_total(session.dev));
    out->params_total = pb_params_elements(pb_model_params(session.model), false);
    out->params_trainable = pb_params_elements(pb_model_params(session.model), true);
done:
    pb_session_close(&session);
    pb_loader_free(loader);
    return status;
}

pb_status pb_run_predict(const pb_run_config *run, const pb_assets *assets, int threads,
                         double flops_per_s, double bytes_per_s, pb_prediction *out) {
    PB_RETURN(predict(run, assets, threads, false, out));
    out->seconds_per_step = pb_rates_seconds(out->step, flops_per_s, bytes_per_s);
    return PB_OK;
}

pb_status pb_run_predict_beside(const pb_run_config *run, const pb_assets *assets, int threads, pb_prediction *out) {
    return predict(run, assets, threads, true, out);
}

pb_status pb_check_budget(const uint64_t bytes[PB_MEM_COUNT], uint64_t total, uint64_t budget) {
    pb_text parts = {0};
    if (budget == 0 || total <= budget) return PB_OK;
    for (int m = 0; m < PB_MEM_COUNT; m++) {
        if (bytes[m] == 0) continue;
        pb_text_add(&parts, "%s%s %.4g", parts.len ? ", " : "", pb_mem_name((pb_mem)m),
                    (double)bytes[m] / 1048576.0);
    }
    pb_status status =
        PB_ERROR(PB_E_OOM,
                 "training would need %" PRIu64 " bytes, the budget is %" PRIu64
                 " (MiB: %s); lower batch or max_len, checkpoint, or raise the budget",
                 total, budget, parts.data ? parts.data : "");
    pb_text_free(&parts);
    return status;
}
