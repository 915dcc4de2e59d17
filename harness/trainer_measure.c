/* What is measured on the trained model apart from training itself: latency merged and unmerged,
 * the adapter file, and last, because it trains on, where the time of a step goes. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/profile/mfu.h"
#include "harness/profile/profile.h"
#include "harness/trainer_impl.h"

/* --- latency --- */

typedef struct latency {
    pb_loader *loader;
    const pb_host_batch *batch;
    pb_batch_buffers buffers;
    pb_event *begin, *end;
    int64_t targets, repeats;
    double *seconds, *loss[2]; /* loss: unmerged, merged */
} latency;

static pb_status latency_new(pb_trainer *t, latency *l) {
    pb_session *s = &t->session;
    pb_loader_options options = {
        .batch = t->run->batch, .shuffle = false, .row_round = PB_ROW_ROUND};
    pb_loader_bounds bounds;
    PB_RETURN(pb_loader_new(t->assets->data, PB_TEST, &options, &l->loader));
    PB_RETURN(pb_loader_bound(l->loader, 1, &bounds));
    PB_RETURN(pb_batch_buffers_new(s, &bounds, &l->buffers));
    PB_RETURN(pb_loader_batch(l->loader, 0, &l->batch));
    PB_RETURN(pb_event_new(s->dev, &l->begin));
    PB_RETURN(pb_event_new(s->dev, &l->end));
    l->targets = pb_batch_targets(s, l->batch);
    l->repeats = t->run->infer_repeats;
    l->seconds = calloc((size_t)l->repeats, sizeof(double));
    for (int i = 0; i < 2; i++) {
        l->loss[i] = calloc((size_t)l->targets + 1, sizeof(double));
        if (l->loss[i] == NULL)
            return PB_ERROR(PB_E_OOM, "no host memory for %" PRId64 " losses", l->targets);
    }
    return l->seconds != NULL
               ? PB_OK
               : PB_ERROR(PB_E_OOM, "no host memory for %" PRId64 " times", l->repeats);
}

static void latency_free(latency *l) {
    pb_event_free(l->begin);
    pb_event_free(l->end);
    pb_loader_free(l->loader);
    free(l->seconds);
    free(l->loss[0]);
    free(l->loss[1]);
}

/* One pass to warm up (its losses are kept), then the timed ones; loading the batch is not timed.
 */
static pb_status time_passes(pb_trainer *t, latency *l, const char *name, double *loss) {
    pb_session *s = &t->session;
    pb_pass pass = pb_session_eval_pass(s);
    pb_batch batch;
    char sample[96], metric[96];
    PB_RETURN(pb_eval_batch(s, &l->buffers, (pb_tensor){0}, l->batch, loss, NULL));
    PB_RETURN(pb_batch_put(s, &l->buffers, l->batch, &batch));
    pb_tensor out = pb_first(l->buffers.loss, l->targets);
    for (int64_t i = 0; i < l->repeats; i++) {
        double ns = 0.0;
        PB_RETURN(pb_event_record(l->begin));
        PB_RETURN(pb_model_forward(s->model, &pass, &batch, out, (pb_tensor){0}));
        PB_RETURN(pb_event_record(l->end));
        PB_RETURN(pb_event_elapsed(l->begin, l->end, &ns));
        l->seconds[i] = ns * 1e-9;
    }
    snprintf(sample, sizeof sample, "time/infer/%s", name);
    snprintf(metric, sizeof metric, "time/infer/%s/median", name);
    PB_RETURN(pb_record_sample(t->record, sample, l->seconds, l->repeats));
    return pb_record_derived(t->record, metric, "median", sample);
}

static pb_status merged_passes(pb_trainer *t, latency *l) {
    const pb_method *method = t->run->method;
    pb_session *s = &t->session;
    double worst = 0.0;
    PB_RETURN(method->merge(s->self, s->dev));
    PB_RETURN(time_passes(t, l, "merged", l->loss[1]));
    PB_RETURN(pb_trainer_quality_merged(t));
    PB_RETURN(method->unmerge(s->self, s->dev));
    for (int64_t i = 0; i < l->targets; i++)
        worst = fmax(worst, fabs(l->loss[0][i] - l->loss[1][i]));
    if (!isfinite(worst))
        return pb_record_warn(t->record, "merging gives losses that are not finite");
    return pb_record_metric(t->record, "check/merge/max_nll_diff", worst, "nats", -1, l->targets,
                            "");
}

pb_status pb_trainer_latency(pb_trainer *t) {
    pb_status status = PB_OK;
    const pb_method *method = t->run->method;
    latency l = {0};
    if (t->run->skip_test || t->run->infer_repeats < 1 ||
        pb_dataset_size(t->assets->data, PB_TEST) < 1)
        return PB_OK;
    pb_mark mark = pb_device_mark(t->session.dev, PB_MEM_DATA);
    pb_trainer_progress(t, "time", 0, 2, 0.0, true);
    PB_TRY(latency_new(t, &l));
    if (l.targets == 0) {
        PB_TRY(pb_record_warn(t->record, "the first test batch has no target token: no latency"));
        goto done;
    }
    PB_TRY(time_passes(t, &l, "unmerged", l.loss[0]));
    PB_TRY(
        pb_record_metric(t->record, "time/infer/tokens", (double)l.batch->tokens, "1", 0, 1, ""));
    if (method->mergeable && method->merge != NULL && method->unmerge != NULL)
        PB_TRY(merged_passes(t, &l));
done:
    latency_free(&l);
    pb_device_rewind(t->session.dev, PB_MEM_DATA, mark);
    return status;
}

/* --- the adapter file --- */

static pb_status metadata_new(const pb_trainer *t, pb_json **out) {
    pb_status status = PB_OK;
    pb_json *meta = cJSON_CreateObject(), *params = cJSON_CreateObject();
    char *text = NULL;
    if (meta == NULL || params == NULL)
        PB_FAIL(PB_E_OOM, "no host memory for the adapter's metadata");
    PB_TRY(t->run->method->describe(t->session.self, params));
    text = pb_json_print(params, false);
    if (text == NULL || !pb_json_add_str(meta, "method", t->run->method->name) ||
        !pb_json_add_str(meta, "method_params", text) ||
        !pb_json_add_str(meta, "base_model", t->assets->model_name) ||
        !pb_json_add_str(meta, "base_sha256", t->assets->model_sha256) ||
        !pb_json_add_str(meta, "run_id", t->record->run_id)) {
        PB_FAIL(PB_E_OOM, "no host memory for the adapter's metadata");
    }
    *out = meta;
    meta = NULL;
done:
    free(text);
    pb_json_free(meta);
    pb_json_free(params);
    return status;
}

pb_status pb_trainer_adapter(pb_trainer *t) {
    pb_status status = PB_OK;
    pb_json *meta = NULL;
    uint64_t bytes = 0;
    if (t->options->out_dir == NULL) return PB_OK;
    char *path = pb_path_join(t->options->out_dir, "adapter.safetensors");
    if (path == NULL) PB_FAIL(PB_E_OOM, "no host memory for a path");
    PB_TRY(metadata_new(t, &meta));
    PB_TRY(pb_make_dirs(t->options->out_dir));
    PB_TRY(pb_model_save_adapter(t->session.model, path, meta, &bytes));
    if (!t->options->keep_adapter && unlink(path) != 0)
        PB_FAIL(PB_E_IO, "%s: cannot be removed", path);
    PB_TRY(pb_record_known(t->record, "size/adapter_file", (double)bytes, 1));
done:
    free(path);
    pb_json_free(meta);
    return status;
}

/* --- where the time goes --- */

bool pb_op_is_product(pb_op op) {
    return op == PB_OP_gemm || op == PB_OP_linear || op == PB_OP_linear_gelu ||
           op == PB_OP_gelu_linear_bwd || op == PB_OP_lowrank || op == PB_OP_lowrank_bwd;
}

/* The last step as it ran in training, before a tracer slows it. The first two times it may be captured anew: not timed. */
static pb_status untraced_steps(pb_trainer *t, double seconds[PB_UNTRACED]) {
    enum { FIRST = 2 };
    for (int i = 0; i < FIRST + PB_UNTRACED; i++) {
        pb_step_result r;
        PB_RETURN(pb_trainer_stopped(t, "the profile"));
        PB_RETURN(pb_session_step(&t->session, t->steps - 1, pb_trainer_batch, t, &r));
        if (i >= FIRST) seconds[i - FIRST] = r.step_s;
    }
    return PB_OK;
}

/* The last step again, a few times, its update included: nothing is evaluated or saved after this. Where the device has a queue
 * of its own, tracing changes how a step is handed over: there also without. */
static pb_status trace_steps(pb_trainer *t, pb_profile *profile) {
    enum { STEPS = 3 };
    pb_status status = PB_OK, ended = PB_OK;
    const pb_tracer *tracer = NULL;
    void *trace = NULL;
    char why_not[256];
    double untraced[PB_UNTRACED];
    bool queues = pb_device_queues(t->session.dev);
    if (queues) PB_RETURN(untraced_steps(t, untraced));
    PB_RETURN(pb_trace_begin(t->session.dev, profile, &tracer, &trace, why_not));
    for (int i = 0; i < STEPS; i++) {
        pb_step_result r;
        PB_TRY(pb_trainer_stopped(t, "the profile"));
        PB_TRY(pb_session_step(&t->session, t->steps - 1, pb_trainer_batch, t, &r));
        PB_TRY(pb_profile_step(profile, r.step_s));
    }
done:
    ended = tracer->end(trace);
    if (status != PB_OK) return status;
    PB_RETURN(ended);
    for (int i = 0; queues && i < PB_UNTRACED; i++) profile->untraced_s[profile->untraced++] = untraced[i];
    for (int m = 0; m < PB_MEM_COUNT; m++)
        profile->memory.arenas += pb_device_mem_now(t->session.dev, (pb_mem)m);
    if (why_not[0] != 0) return pb_record_warn(t->record, "no kernel trace: %s", why_not);
    return PB_OK;
}

static pb_status counted_step(void *user) {
    pb_trainer *t = user;
    pb_step_result r;
    PB_RETURN(pb_trainer_stopped(t, "the counters"));
    return pb_session_step(&t->session, t->steps - 1, pb_trainer_batch, t, &r);
}

/* Last of all: what a profiler has done to a process stays with it. */
static pb_status count_step(pb_trainer *t, pb_profile *profile) {
    const pb_counter_reader *reader = NULL;
    if (!t->options->counters) {
        pb_copy(profile->counters.reason, sizeof profile->counters.reason, "not asked for (--counters)");
        return PB_OK;
    }
    if (pb_counter_reader_find(t->session.dev, &reader) != PB_OK) {
        pb_copy(profile->counters.reason, sizeof profile->counters.reason, pb_error_message());
        pb_error_clear();
        return PB_OK;
    }
    return pb_profile_count_step(profile, t->session.dev, reader, counted_step, t);
}

static pb_status write_trace(pb_trainer *t, const pb_profile *profile) {
    pb_status status = PB_OK;
    if (t->options->out_dir == NULL) return PB_OK;
    char *path = pb_path_join(t->options->out_dir, "trace.json");
    if (path == NULL) PB_FAIL(PB_E_OOM, "no host memory for a path");
    PB_TRY(pb_make_dirs(t->options->out_dir));
    PB_TRY(pb_profile_trace_json(profile, path));
done:
    free(path);
    return status;
}

/* Without the room for the arrays there is no roof; the run is as good without it. */
static pb_status record_roofs(pb_trainer *t) {
    pb_roofs roofs;
    pb_status status = pb_roofs_measure(t->session.dev, t->run->dtype, &roofs);
    if (status == PB_OK) return pb_roofs_record(&roofs, t->record);
    if (status != PB_E_OOM) return status;
    return pb_record_warn(t->record, "no roofs measured: %s", pb_error_message());
}

/* Of the timed steps. */
static pb_status record_mfu(pb_trainer *t) {
    double tokens_per_s = pb_record_value(t->record, "time/train/tokens_per_s");
    if (!(tokens_per_s > 0.0)) return PB_OK;
    pb_mfu mfu = pb_mfu_of(&t->session, tokens_per_s, 1.0);
    return pb_mfu_record(&mfu, t->record);
}

pb_status pb_trainer_profile(pb_trainer *t) {
    pb_status status = PB_OK;
    pb_profile profile = {0};
    bool table = t->options->profile || t->options->counters;
    pb_trainer_progress(t, "time", 1, 2, 0.0, false);
    if (t->best_variant >= 0) PB_RETURN(t->run->method->select(t->session.self, -1));
    PB_TRY(trace_steps(t, &profile));
    PB_TRY(pb_trainer_record_last_gradient(t));
    if (table) {
        PB_TRY(write_trace(t, &profile));
        PB_TRY(record_roofs(t));
        PB_TRY(count_step(t, &profile));
    }
    profile.memory_seen = t->memory_seen;
    PB_TRY(pb_profile_record(&profile, table, t->record));
    if (table) PB_TRY(record_mfu(t));
done:
    pb_profile_free(&profile);
    return status;
}
