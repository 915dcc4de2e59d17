/* The step benchmark: the trainer's session on a fixed random batch. Weights do not matter for
 * time, and random ones need no file. Test: tests/test_trainer.c. */
#include "harness/bench_step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/profile/mfu.h"
#include "harness/profile/profile.h"
#include "harness/queue_time.h"
#include "harness/trainer_impl.h"

typedef struct bench {
    const pb_bench_step_options *o;
    pb_model_config config;
    pb_safetensors *weights;
    pb_session session;
    pb_synthetic batch;
    int64_t warmup, steps;
    pb_profile *profile; /* that the timed steps fill; may be NULL */
    double *series[4]; /* step, forward, backward, optimizer */
} bench;

static pb_status open_model(bench *b) {
    const char *name = b->o->model;
    if (pb_is_dir(name)) {
        PB_RETURN(pb_model_config_load(name, &b->config));
        return pb_safetensors_open(name, &b->weights);
    }
    return pb_model_shape(strncmp(name, "shape:", 6) == 0 ? name + 6 : name, &b->config);
}

static int64_t or_default(int64_t value, int64_t otherwise) {
    return value > 0 ? value : otherwise;
}

/* A budget that is too small is refused from the plan of a step, before anything is built; bytes: what the arenas will hold. */
static pb_status check_budget(bench *b, pb_session_spec spec, uint64_t bytes[PB_MEM_COUNT]) {
    pb_status status = PB_OK;
    pb_session plan = {0};
    pb_step_result result;
    char device[64];
    snprintf(device, sizeof device, "plan:%.50s", spec.device);
    spec.device = device;
    spec.device_options.memory_budget = 0;
    PB_TRY(pb_session_open(&plan, &spec));
    PB_TRY(pb_session_step(&plan, 0, pb_synthetic_source, &b->batch, &result));
    for (int m = 0; m < PB_MEM_COUNT; m++) bytes[m] = pb_device_mem_peak(plan.dev, (pb_mem)m);
    PB_TRY(pb_check_budget(bytes, pb_device_mem_peak_total(plan.dev), b->o->memory_budget));
done:
    pb_session_close(&plan);
    return status;
}

static pb_status open_session(bench *b, const char *device, uint64_t budget) {
    const pb_bench_step_options *o = b->o;
    int64_t classes = or_default(o->classes, 2);
    int64_t min_len = or_default(o->min_len, o->max_len);
    double dropout = o->dropout ? -1.0 : 0.0;
    if (o->batch < 1 || o->max_len < 2 || min_len > o->max_len) {
        return PB_ERROR(
            PB_E_INPUT,
            "batch %lld and lengths %lld to %lld: expected a batch of at least 1 and 2 tokens",
            (long long)o->batch, (long long)min_len, (long long)o->max_len);
    }
    PB_RETURN(
        pb_synthetic_new(&b->config, classes, o->batch, min_len, o->max_len, o->seed, &b->batch));
    const pb_host_batch *hb = &b->batch.batch;
    pb_session_spec spec = {
        .device = device,
        .device_options = {.threads = o->threads, .memory_budget = budget},
        .config = &b->config,
        .weights = b->weights,
        .method = o->method,
        .method_params = o->params,
        .where = o->method != NULL ? o->method->name : "bench step",
        .model = {.dtype = o->dtype,
                  .checkpoint = o->checkpoint,
                  .classes = b->config.causal ? 0 : classes,
                  .hidden_dropout = dropout,
                  .attention_dropout = dropout,
                  .head_dropout = dropout},
        .optim = {.kind = o->optimizer,
                  .schedule = PB_SCHEDULE_CONSTANT,
                  .lr = 1e-6,
                  .beta1 = 0.9,
                  .beta2 = 0.999,
                  .eps = 1e-8,
                  .clip = 1.0,
                  .steps = b->warmup + b->steps},
        .seed = o->seed,
        .accumulate = or_default(o->accumulate, 1),
        .train = {.rows = hb->rows,
                  .sequences = hb->sequences,
                  .max_len = hb->max_len,
                  .targets = hb->targets},
    };
    uint64_t bytes[PB_MEM_COUNT];
    if (budget > 0) {
        PB_RETURN(check_budget(b, spec, bytes));
        spec.reserve = bytes; /* one block each: what lies idle between blocks is within no budget */
    }
    pb_status status = pb_session_open(&b->session, &spec);
    b->session.spec.reserve = NULL;
    return status;
}

static pb_status timed_steps(bench *b, pb_bench_step_result *out) {
    pb_device *dev = b->session.dev;
    pb_work before = {0};
    uint64_t growths = 0;
    for (int64_t i = 0; i < b->warmup + b->steps; i++) {
        pb_step_result r;
        if (b->o->stop != NULL && *b->o->stop != 0)
            return PB_ERROR(PB_E_INTERRUPTED, "stopped by a signal");
        if (i == b->warmup) {
            before = pb_device_work(dev);
            growths = pb_device_growths(dev);
        }
        PB_RETURN(pb_session_step(&b->session, i, pb_synthetic_source, &b->batch, &r));
        if (b->profile != NULL) PB_RETURN(pb_profile_step(b->profile, r.step_s));
        if (i < b->warmup) continue;
        b->series[0][i - b->warmup] = r.step_s;
        b->series[1][i - b->warmup] = r.forward_s;
        b->series[2][i - b->warmup] = r.backward_s;
        b->series[3][i - b->warmup] = r.optimizer_s;
        out->tokens = r.tokens;
    }
    out->growths = pb_device_growths(dev) - growths;
    out->flops = (pb_device_work(dev).flops - before.flops) / (double)b->steps;
    for (int m = 0; m < PB_MEM_COUNT; m++) out->peak[m] = pb_device_mem_peak(dev, (pb_mem)m);
    out->peak_total = pb_device_mem_peak_total(dev);
    return PB_OK;
}

/* As timed_steps, all of them in one trace. Without an observer the device hands its steps over as ever. */
static pb_status timed_in_trace(bench *b, pb_bench_step_result *out) {
    pb_status status = PB_OK, ended = PB_OK;
    pb_profile profile = {0};
    const pb_tracer *tracer = NULL;
    void *trace = NULL;
    PB_TRY(pb_trace_begin(b->session.dev, &profile, &tracer, &trace, out->no_cupti));
    pb_copy(out->tracer, sizeof out->tracer, tracer->name);
    if (b->o->trace == PB_BENCH_NODES) pb_device_observe(b->session.dev, NULL, NULL);
    b->profile = &profile;
    status = timed_steps(b, out);
    b->profile = NULL;
    ended = tracer->end(trace);
    if (status == PB_OK) status = ended;
    out->trace_records = profile.records;
    out->trace_dropped = profile.dropped;
done:
    pb_profile_free(&profile);
    return status;
}

static pb_status traced_steps(bench *b, pb_bench_step_result *out) {
    enum { STEPS = 3 };
    pb_status status = PB_OK, ended = PB_OK;
    pb_profile profile = {0};
    const pb_tracer *tracer = NULL;
    void *trace = NULL;
    double total_s = 0.0, products_s = 0.0, busy_s = 0.0;
    PB_TRY(pb_trace_begin(b->session.dev, &profile, &tracer, &trace, out->no_cupti));
    pb_copy(out->tracer, sizeof out->tracer, tracer->name);
    for (int i = 0; i < STEPS; i++) {
        pb_step_result r;
        PB_TRY(pb_session_step(&b->session, b->warmup + b->steps - 1, pb_synthetic_source,
                               &b->batch, &r));
        total_s += r.step_s;
        PB_TRY(pb_profile_step(&profile, r.step_s));
    }
    ended = tracer->end(trace);
    trace = NULL;
    PB_TRY(ended);
    out->trace_records = profile.records;
    out->trace_dropped = profile.dropped;
    for (int op = 0; op < PB_OP_COUNT; op++) {
        double seconds = pb_profile_op_seconds(&profile, pb_op_name((pb_op)op));
        out->op_s[op] = seconds / STEPS;
        if (pb_op_is_product((pb_op)op)) products_s += seconds;
    }
    PB_TRY(pb_profile_busy(&profile, &busy_s));
    /* CUPTI's times are the kernels' own, but its steps are handed over op by op: the steps that count are the timed ones. */
    if (strcmp(tracer->name, pb_tracer_cupti.name) == 0) {
        PB_TRY(pb_derive("median", b->series[0], b->steps, &total_s));
        total_s *= STEPS;
    }
    if (total_s > 0.0) {
        out->product_share = products_s / total_s;
        out->idle_share = busy_s < total_s ? 1.0 - busy_s / total_s : 0.0;
    }
done:
    if (trace != NULL && tracer->end(trace) != PB_OK) pb_error_frame(__FILE__, __LINE__);
    pb_profile_free(&profile);
    return status;
}

/* The best of a few products [rows,C] x [FF,C]^T: what this machine can do for this model at this dtype. In a queue of its
 * own the host's part must not count: some in a row. */
static pb_status measure_limit(bench *b, double *flops_per_s) {
    pb_status status = PB_OK;
    pb_device *dev = b->session.dev;
    pb_queue_clock clock = {0};
    int in_row = pb_device_queues(dev) ? 8 : 1;
    pb_mark mark = pb_device_mark(dev, PB_MEM_WORK);
    int64_t rows = b->batch.batch.rows, C = b->config.C, FF = b->config.FF;
    pb_dtype T = b->o->dtype;
    pb_linear_args a = {0};
    PB_TRY(pb_queue_clock_new(dev, &clock));
    PB_TRY(pb_alloc2(dev, PB_MEM_WORK, T, rows, C, &a.x));
    PB_TRY(pb_alloc2(dev, PB_MEM_WORK, T, FF, C, &a.w.dense));
    PB_TRY(pb_alloc2(dev, PB_MEM_WORK, T, rows, FF, &a.y));
    PB_TRY(pb_fill_uniform(dev, &(pb_fill_uniform_args){.x = a.x, .lo = -1, .hi = 1, .key = 1}));
    PB_TRY(
        pb_fill_uniform(dev, &(pb_fill_uniform_args){.x = a.w.dense, .lo = -1, .hi = 1, .key = 2}));
    double best_ns = 0.0, sum_ns = 0.0;
    for (int i = 0; i < 200 && (i < 5 || sum_ns < 2e8); i++) {
        double ns = 0.0;
        PB_TRY(pb_queue_time_op(dev, &clock, PB_OP_linear, &a, in_row, &ns));
        sum_ns += ns * in_row;
        if (i == 0 || ns < best_ns) best_ns = ns;
    }
    *flops_per_s = best_ns > 0.0 ? 2e9 * (double)rows * (double)C * (double)FF / best_ns : 0.0;
done:
    pb_queue_clock_free(&clock);
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    return status;
}

static pb_status summarise(bench *b, pb_bench_step_result *out) {
    double *median[4] = {&out->median_s, &out->forward_s, &out->backward_s, &out->optimizer_s};
    for (int i = 0; i < 4; i++) PB_RETURN(pb_derive("median", b->series[i], b->steps, median[i]));
    PB_RETURN(pb_derive("p10", b->series[0], b->steps, &out->p10_s));
    PB_RETURN(pb_derive("p90", b->series[0], b->steps, &out->p90_s));
    out->params_total = pb_params_elements(pb_model_params(b->session.model), false);
    out->params_trainable = pb_params_elements(pb_model_params(b->session.model), true);
    if (!(out->median_s > 0.0)) return PB_OK;
    double examples = (double)b->batch.batch.sequences * (double)b->session.spec.accumulate;
    out->examples_per_s = examples / out->median_s;
    out->tokens_per_s = (double)out->tokens / out->median_s;
    out->flops_per_s = out->flops / out->median_s;
    out->limit_share = out->gemm_limit > 0.0 ? out->flops_per_s / out->gemm_limit : 0.0;
    out->mfu = pb_mfu_of(&b->session, (double)out->tokens, out->median_s).value;
    return PB_OK;
}

static const char *device_of(const pb_bench_step_options *o) {
    return o->device != NULL ? o->device : "cpu";
}

/* --- memory --- */

/* Workspace that head and loss take to what is held already; an op's own scratch is taken behind its begin. */
typedef struct head_watch {
    pb_device *dev;
    uint64_t before, most;
} head_watch;

static void watch_head(void *user, const char *op, bool begin, const pb_work *work) {
    head_watch *w = user;
    (void)op, (void)work;
    uint64_t now = pb_device_mem_now(w->dev, PB_MEM_WORK);
    if (strcmp(pb_device_scope_name(w->dev, PB_SCOPE_SITE), "head") != 0) {
        if (!begin) w->before = now;
    } else if (begin && now > w->before && now - w->before > w->most) {
        w->most = now - w->before;
    }
}

/* One step on the plan of the device. */
static pb_status plan_step(const pb_bench_step_options *options, uint64_t bytes[PB_MEM_COUNT], uint64_t *total,
                           uint64_t *head) {
    pb_status status = PB_OK;
    bench b = {.o = options, .warmup = 0, .steps = 1};
    char plan[80];
    pb_step_result r;
    const char *device = device_of(options);
    snprintf(plan, sizeof plan, "%s%.60s", strncmp(device, "plan:", 5) == 0 ? "" : "plan:", device);
    *total = 0;
    PB_TRY(open_model(&b));
    PB_TRY(open_session(&b, plan, 0));
    head_watch watch = {.dev = b.session.dev};
    pb_device_observe(b.session.dev, watch_head, &watch);
    PB_TRY(pb_session_step(&b.session, 0, pb_synthetic_source, &b.batch, &r));
    pb_device_observe(b.session.dev, NULL, NULL);
    *head = b.config.causal ? watch.most : 0;
    for (int m = 0; m < PB_MEM_COUNT; m++) bytes[m] = pb_device_mem_peak(b.session.dev, (pb_mem)m);
    *total = pb_device_mem_peak_total(b.session.dev);
done:
    pb_session_close(&b.session);
    pb_synthetic_free(&b.batch);
    pb_safetensors_close(b.weights);
    return status;
}

pb_status pb_bench_step_predict(const pb_bench_step_options *options, uint64_t bytes[PB_MEM_COUNT],
                                uint64_t *total) {
    uint64_t head = 0;
    return plan_step(options, bytes, total, &head);
}

/* What the driver says of a GPU that is open and holds nothing of ours: its context stays when the device is closed. */
static pb_status used_before(const bench *b, uint64_t *bytes) {
    pb_device *dev = NULL;
    *bytes = 0;
    if (strncmp(device_of(b->o), "cuda", 4) != 0) return PB_OK;
    PB_RETURN(pb_device_open(device_of(b->o), NULL, &dev));
    if (!pb_device_memory_used(dev, bytes)) *bytes = 0;
    pb_device_close(dev);
    return PB_OK;
}

pb_status pb_bench_step(const pb_bench_step_options *options, pb_bench_step_result *out) {
    pb_status status = PB_OK;
    uint64_t bytes[PB_MEM_COUNT], before = 0, used = 0;
    bench b = {.o = options,
               .warmup = or_default(options->warmup, 3),
               .steps = or_default(options->steps, 10)};
    *out = (pb_bench_step_result){.mfu = -1.0};
    for (int i = 0; i < 4; i++) {
        b.series[i] = calloc((size_t)b.steps, sizeof(double));
        if (b.series[i] == NULL)
            PB_FAIL(PB_E_OOM, "no host memory for %lld times", (long long)b.steps);
    }
    PB_TRY(open_model(&b));
    PB_TRY(plan_step(options, bytes, &out->predicted_total, &out->head_bytes));
    PB_TRY(used_before(&b, &before));
    PB_TRY(open_session(&b, device_of(options), options->memory_budget));
    if (b.config.causal) out->logits_bytes = 4 * (uint64_t)b.batch.batch.targets * (uint64_t)b.config.V;
    if (options->trace == PB_BENCH_UNTRACED) PB_TRY(timed_steps(&b, out));
    else PB_TRY(timed_in_trace(&b, out));
    if (pb_device_memory_used(b.session.dev, &used) && used > before) out->device_bytes = used - before;
    PB_TRY(measure_limit(&b, &out->gemm_limit)); /* before a tracer is attached: it may slow the process down for good */
    if (options->trace == PB_BENCH_UNTRACED) PB_TRY(traced_steps(&b, out));
    PB_TRY(summarise(&b, out));
    out->steps = b.steps;
    out->step_s = b.series[0];
    b.series[0] = NULL;
done:
    pb_session_close(&b.session);
    pb_synthetic_free(&b.batch);
    pb_safetensors_close(b.weights);
    for (int i = 0; i < 4; i++) free(b.series[i]);
    return status;
}

void pb_bench_step_free(pb_bench_step_result *result) {
    free(result->step_s);
    *result = (pb_bench_step_result){0};
}
