/* Set-up of a training on a device and its step. What a step may not do: take memory, depend on the
 * clock or on anything but its arguments. Test: tests/test_trainer.c, tests/test_laws.c. */
#include "harness/trainer_session.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/text.h"

pb_tensor pb_first(pb_tensor vector, int64_t n) {
    PB_ASSERT(vector.ndim == 1);
    return pb_rows_of(vector, 0, n);
}

static pb_tensor element(pb_tensor vector, int64_t i) {
    PB_ASSERT(vector.ndim == 1);
    return pb_rows_of(vector, i, 1);
}

pb_pass pb_session_eval_pass(const pb_session *s) {
    return (pb_pass){
        .dev = s->dev, .dtype = s->spec.model.dtype, .train = false, .seed = s->spec.seed};
}

pb_status pb_batch_buffers_new(pb_session *s, const pb_loader_bounds *bounds,
                               pb_batch_buffers *out) {
    pb_device *dev = s->dev;
    bool causal = s->spec.config->causal;
    int64_t targets = causal ? bounds->targets : bounds->sequences;
    pb_dtype M = pb_params_master(pb_model_params(s->model));
    *out = (pb_batch_buffers){0};
    PB_RETURN(pb_alloc1(dev, PB_MEM_DATA, PB_I32, bounds->rows, &out->ids));
    PB_RETURN(pb_alloc1(dev, PB_MEM_DATA, PB_I32, bounds->rows, &out->positions));
    PB_RETURN(pb_alloc1(dev, PB_MEM_DATA, PB_I32, bounds->sequences + 1, &out->cu));
    PB_RETURN(pb_alloc1(dev, PB_MEM_DATA, PB_I32, targets, &out->target));
    PB_RETURN(pb_alloc1(dev, PB_MEM_DATA, M, targets, &out->loss));
    if (causal) PB_RETURN(pb_alloc1(dev, PB_MEM_DATA, PB_I32, targets, &out->loss_rows));
    return PB_OK;
}

int64_t pb_batch_targets(const pb_session *s, const pb_host_batch *hb) {
    return s->spec.config->causal ? hb->targets : hb->sequences;
}

static pb_status put_i32(pb_device *dev, pb_tensor buffer, const int32_t *host, int64_t n,
                         pb_tensor *view) {
    *view = pb_first(buffer, n);
    return pb_device_put(dev, *view, host, (size_t)n * sizeof *host);
}

pb_status pb_batch_put(pb_session *s, const pb_batch_buffers *buffers, const pb_host_batch *hb,
                       pb_batch *out) {
    *out = (pb_batch){.sequences = hb->sequences,
                      .rows = hb->rows,
                      .tokens = hb->tokens,
                      .max_len = hb->max_len,
                      .targets = pb_batch_targets(s, hb)};
    PB_RETURN(put_i32(s->dev, buffers->ids, hb->ids, hb->rows, &out->ids));
    PB_RETURN(put_i32(s->dev, buffers->positions, hb->positions, hb->rows, &out->positions));
    PB_RETURN(put_i32(s->dev, buffers->cu, hb->cu, hb->sequences + 1, &out->cu));
    PB_RETURN(put_i32(s->dev, buffers->target, hb->target, out->targets, &out->target));
    if (pb_has(buffers->loss_rows)) {
        PB_RETURN(
            put_i32(s->dev, buffers->loss_rows, hb->loss_rows, out->targets, &out->loss_rows));
    }
    return PB_OK;
}

/* --- open and close --- */

static int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

static pb_status open_device(pb_session *s) {
    PB_RETURN(pb_device_open(s->spec.device, &s->spec.device_options, &s->dev));
    for (int m = 0; s->spec.reserve != NULL && m < PB_MEM_COUNT; m++) {
        PB_RETURN(pb_device_reserve(s->dev, (pb_mem)m, s->spec.reserve[m]));
    }
    return PB_OK;
}

static pb_status build_model(pb_session *s) {
    pb_session_spec *spec = &s->spec;
    pb_model_options *m = &spec->model;
    m->max_rows = max_i64(spec->train.rows, spec->eval.rows);
    m->max_sequences = max_i64(spec->train.sequences, spec->eval.sequences);
    m->max_len = max_i64(spec->train.max_len, spec->eval.max_len);
    m->seed = spec->seed;
    if (m->max_len > spec->config->P) {
        return PB_ERROR(PB_E_INPUT,
                        "a sequence has %" PRId64 " tokens, the model has %" PRId64
                        " positions; set max_len",
                        m->max_len, spec->config->P);
    }
    if (spec->method != NULL) {
        PB_RETURN(spec->method->create(spec->method_params, spec->where, &s->self));
        if (spec->method->storage != NULL) m->storage = spec->method->storage(s->self);
    }
    PB_RETURN(pb_model_new(s->dev, spec->config, m, spec->weights, &s->model));
    if (spec->method == NULL) return PB_OK;
    return pb_model_attach(s->model, spec->method, s->self, spec->seed, spec->optim.steps);
}

static pb_status build_training(pb_session *s) {
    pb_session_spec *spec = &s->spec;
    pb_params *params = pb_model_params(s->model);
    pb_dtype M = pb_params_master(params);
    PB_RETURN(pb_optim_new(s->dev, params, &spec->optim, &s->optim));
    PB_RETURN(pb_batch_buffers_new(s, &spec->train, &s->buffers));
    PB_RETURN(pb_alloc1(s->dev, PB_MEM_DATA, M, spec->optim.steps, &s->loss_log));
    PB_RETURN(pb_alloc1(s->dev, PB_MEM_DATA, M, spec->optim.steps, &s->term_log));
    int n = (int)(4 + 3 * spec->accumulate);
    s->events = calloc((size_t)n, sizeof(pb_event *));
    if (s->events == NULL) return PB_ERROR(PB_E_OOM, "no host memory for %d events", n);
    s->n_events = n;
    for (int i = 0; i < n; i++) PB_RETURN(pb_event_new(s->dev, &s->events[i]));
    return PB_OK;
}

pb_status pb_session_open(pb_session *s, const pb_session_spec *spec) {
    *s = (pb_session){.spec = *spec};
    PB_RETURN(open_device(s));
    PB_RETURN(build_model(s));
    if (!spec->no_optim) PB_RETURN(build_training(s));
    return PB_OK;
}

void pb_session_close(pb_session *s) {
    for (int i = 0; i < s->n_events; i++) pb_event_free(s->events[i]);
    free(s->events);
    pb_optim_free(s->optim);
    pb_model_free(s->model);
    if (s->spec.method != NULL && s->self != NULL) s->spec.method->destroy(s->self);
    pb_device_close(s->dev);
    *s = (pb_session){0};
}

/* --- one step --- */

/* Events: 0 start, 1 gradients ready, 2 backward done, 3 end; 4+3m, 5+3m, 6+3m: micro-batch m in,
 * forward, backward. */
enum { EV_START, EV_READY, EV_UPDATE, EV_END, EV_MICRO };

static pb_status seconds_between(const pb_session *s, int a, int b, double *sum_s) {
    double ns = 0.0;
    PB_RETURN(pb_event_elapsed(s->events[a], s->events[b], &ns));
    *sum_s += ns * 1e-9;
    return PB_OK;
}

/* A plan's time is the planned one. */
static pb_status read_times(const pb_session *s, int64_t from_ns, pb_step_result *out) {
    PB_RETURN(pb_device_sync(s->dev));
    if (pb_device_computes(s->dev)) out->step_s = (double)(pb_now_ns() - from_ns) * 1e-9;
    else PB_RETURN(seconds_between(s, EV_START, EV_END, &out->step_s));
    PB_RETURN(seconds_between(s, EV_START, EV_READY, &out->optimizer_s));
    for (int m = 0; m < (int)s->spec.accumulate; m++) {
        int e = EV_MICRO + 3 * m;
        PB_RETURN(seconds_between(s, e, e + 1, &out->forward_s));
        PB_RETURN(seconds_between(s, e + 1, e + 2, &out->backward_s));
    }
    return seconds_between(s, EV_UPDATE, EV_END, &out->optimizer_s);
}

/* Losses are divided by the targets of the whole step, so that accumulation equals one larger
 * batch. */
static pb_status count_targets(const pb_session *s, int64_t step, pb_batch_source source,
                               void *user, int64_t *n) {
    *n = 0;
    for (int64_t m = 0; m < s->spec.accumulate; m++) {
        const pb_host_batch *hb = NULL;
        PB_RETURN(source(user, step * s->spec.accumulate + m, &hb));
        *n += pb_batch_targets(s, hb);
    }
    if (*n > 0) return PB_OK;
    return PB_ERROR(PB_E_INPUT,
                    "step %" PRId64 ": no token of its examples has a loss; raise max_len", step);
}

static pb_status micro_step(pb_session *s, int64_t step, int64_t micro, const pb_host_batch *hb,
                            double scale, bool first) {
    int e = EV_MICRO + 3 * (int)micro;
    pb_pass pass = {.dev = s->dev,
                    .dtype = s->spec.model.dtype,
                    .train = true,
                    .seed = s->spec.seed,
                    .step = step,
                    .micro = micro};
    pb_batch batch;
    int64_t targets = pb_batch_targets(s, hb);
    pb_device_scope(s->dev, PB_SCOPE_PHASE, "load");
    if (targets > 0) PB_RETURN(pb_batch_put(s, &s->buffers, hb, &batch));
    PB_RETURN(pb_event_record(s->events[e]));
    pb_device_scope(s->dev, PB_SCOPE_PHASE, "forward");
    if (targets > 0) {
        PB_RETURN(pb_model_forward(s->model, &pass, &batch, pb_first(s->buffers.loss, targets),
                                   (pb_tensor){0}));
    }
    PB_RETURN(pb_event_record(s->events[e + 1]));
    pb_device_scope(s->dev, PB_SCOPE_PHASE, "backward");
    if (targets > 0) {
        PB_RETURN(pb_model_backward(s->model, &pass, &batch, scale));
        pb_reduce_args log = {.x = pb_first(s->buffers.loss, targets),
                              .y = element(s->loss_log, step),
                              .alpha = scale,
                              .beta = first ? 0.0 : 1.0};
        pb_device_scope(s->dev, PB_SCOPE_SITE, "head");
        pb_device_scope(s->dev, PB_SCOPE_PART, "loss");
        PB_RETURN(pb_reduce(s->dev, &log));
    }
    return pb_event_record(s->events[e + 2]);
}

/* Nothing is updated when loss or gradients are not finite. */
static pb_status update(pb_session *s, int64_t step, double *loss, double *norm) {
    const pb_method *method = s->spec.method;
    PB_RETURN(pb_event_record(s->events[EV_UPDATE]));
    pb_device_scope(s->dev, PB_SCOPE_PHASE, "optimizer");
    pb_device_scope(s->dev, PB_SCOPE_PART, "loss");
    PB_RETURN(pb_read_scalar(s->dev, element(s->loss_log, step), loss));
    if (!isfinite(*loss)) return pb_optim_diverged(s->optim, step, "the loss", *loss);
    if (method != NULL && method->loss_term != NULL) {
        PB_RETURN(method->loss_term(s->self, s->dev, element(s->term_log, step)));
    }
    pb_device_scope(s->dev, PB_SCOPE_SITE, "");
    PB_RETURN(pb_optim_step(s->optim, step, norm));
    if (method != NULL && method->after_step != NULL) {
        PB_RETURN(method->after_step(s->self, s->dev, step, pb_optim_grad_scale(s->optim)));
    }
    pb_device_scope(s->dev, PB_SCOPE_PHASE, "");
    return pb_event_record(s->events[EV_END]);
}

static pb_status run_step(pb_session *s, int64_t step, pb_batch_source source, void *user,
                          int64_t total, pb_step_result *out) {
    const pb_method *method = s->spec.method;
    int64_t accumulate = s->spec.accumulate;
    bool first = true;
    PB_RETURN(pb_event_record(s->events[EV_START]));
    pb_device_scope(s->dev, PB_SCOPE_PHASE, "optimizer");
    if (method != NULL && method->before_step != NULL)
        PB_RETURN(method->before_step(s->self, step));
    pb_device_scope(s->dev, PB_SCOPE_PART, "zero_gradients");
    PB_RETURN(pb_params_zero_grads(pb_model_params(s->model)));
    PB_RETURN(pb_event_record(s->events[EV_READY]));
    for (int64_t m = 0; m < accumulate; m++) {
        const pb_host_batch *hb = NULL;
        PB_RETURN(source(user, step * accumulate + m, &hb));
        PB_RETURN(micro_step(s, step, m, hb, 1.0 / (double)total, first));
        first = first && pb_batch_targets(s, hb) == 0;
        out->sequences += hb->sequences;
        out->tokens += hb->tokens;
    }
    out->targets = total;
    return update(s, step, &out->loss, &out->norm);
}

pb_status pb_session_step(pb_session *s, int64_t step, pb_batch_source source, void *user,
                          pb_step_result *out) {
    int64_t total = 0;
    *out = (pb_step_result){0};
    PB_RETURN(count_targets(s, step, source, user, &total));
    int64_t from = pb_now_ns();
    PB_RETURN(pb_device_step_begin(s->dev));
    pb_status status = run_step(s, step, source, user, total, out);
    pb_status ended = pb_device_step_end(s->dev); /* a device does not stay in a step that failed */
    PB_RETURN(status);
    PB_RETURN(ended);
    return read_times(s, from, out);
}

/* --- batches that come from no data set --- */

static pb_status take_host_batch(const pb_loader_bounds *bounds, pb_synthetic *out) {
    size_t rows = (size_t)bounds->rows, sequences = (size_t)bounds->sequences,
           targets = (size_t)bounds->targets;
    if (targets < sequences) targets = sequences;
    *out = (pb_synthetic){0};
    int32_t *p = calloc(2 * rows + sequences + 1 + 2 * targets, sizeof *p);
    if (p == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a batch of %zu rows", rows);
    out->storage = p;
    out->batch = (pb_host_batch){.sequences = bounds->sequences,
                                 .tokens = bounds->rows,
                                 .rows = bounds->rows,
                                 .max_len = bounds->max_len,
                                 .targets = bounds->targets,
                                 .ids = p,
                                 .positions = p + rows,
                                 .cu = p + 2 * rows,
                                 .loss_rows = p + 2 * rows + sequences + 1,
                                 .target = p + 2 * rows + sequences + 1 + targets};
    return PB_OK;
}

pb_status pb_synthetic_of_bounds(const pb_loader_bounds *bounds, pb_synthetic *out) {
    return take_host_batch(bounds, out);
}

static void fill_synthetic(pb_host_batch *b, const pb_model_config *config, int64_t classes,
                           int64_t min_len, int64_t max_len, uint64_t seed) {
    uint64_t words = pb_random_stream("bench words", 0, 0),
             lengths = pb_random_stream("bench lengths", 0, 0);
    int64_t row = 0, target = 0, longest = 0;
    for (int64_t i = 0; i < b->sequences; i++) {
        int64_t len = min_len + (int64_t)pb_random_below(seed, lengths, (uint64_t)i,
                                                         (uint64_t)(max_len - min_len + 1));
        if (len > longest) longest = len;
        for (int64_t t = 0; t < len; t++, row++) {
            b->ids[row] = (int32_t)pb_random_below(seed, words, (uint64_t)row, (uint64_t)config->V);
            b->positions[row] = (int32_t)t;
            if (!config->causal || t == 0) continue;
            b->loss_rows[target] = (int32_t)row - 1;
            b->target[target++] = b->ids[row];
        }
        b->cu[i + 1] = (int32_t)row;
        if (!config->causal) b->target[target++] = (int32_t)(i % (classes > 0 ? classes : 1));
    }
    b->tokens = row;
    b->rows = (row + PB_ROW_ROUND - 1) / PB_ROW_ROUND * PB_ROW_ROUND;
    b->max_len = longest;
    b->targets = target;
}

pb_status pb_synthetic_new(const pb_model_config *config, int64_t classes, int64_t sequences,
                           int64_t min_len, int64_t max_len, uint64_t seed, pb_synthetic *out) {
    int64_t rows = (sequences * max_len + PB_ROW_ROUND - 1) / PB_ROW_ROUND * PB_ROW_ROUND;
    pb_loader_bounds bounds = {
        .rows = rows, .sequences = sequences, .max_len = max_len, .targets = rows};
    PB_RETURN(take_host_batch(&bounds, out));
    fill_synthetic(&out->batch, config, classes, min_len, max_len, seed);
    return PB_OK;
}

void pb_synthetic_free(pb_synthetic *b) {
    free(b->storage);
    *b = (pb_synthetic){0};
}

pb_status pb_synthetic_source(void *user, int64_t i, const pb_host_batch **out) {
    (void)i;
    *out = &((pb_synthetic *)user)->batch;
    return PB_OK;
}
