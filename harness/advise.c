/* Plans of every method, what fits and what would make it fit. Test: tests/test_advise.c. */
#include "harness/advise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/rates.h"

enum { LEAST_LENGTH = 16, BATCH_CAP = 65536, TOKEN_CAP = 1 << 22, MOST_PARTS = 4096 };

/* ---- one plan ---- */

static double steps_of(const pb_advise_request *r, const pb_advise_setting *s) {
    double steps = r->epochs * (double)r->examples / ((double)s->batch * (double)s->accumulate);
    return fmax(1, ceil(steps - 1e-9));
}

static void run_of(const pb_advise_request *r, const pb_method *method, const pb_json *params,
                   const pb_advise_setting *s, pb_run_config *run) {
    *run = (pb_run_config){.method = method,
                           .method_params = (pb_json *)(uintptr_t)params,
                           .dtype = r->dtype,
                           .seed = 1,
                           .lr = 1e-4,
                           .steps = (int64_t)fmin(steps_of(r, s), 1e6),
                           .batch = s->batch,
                           .accumulate = s->accumulate,
                           .checkpoint = s->checkpoint ? PB_CHECKPOINT_ALL : 0,
                           .paged = s->paged,
                           .optimizer = s->adamw8 ? PB_OPT_ADAMW8 : PB_OPT_ADAMW,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .eps = 1e-8,
                           .clip = 1,
                           .hidden_dropout = -1,
                           .attention_dropout = -1,
                           .head_dropout = -1,
                           .max_len = s->length};
    pb_copy(run->label, sizeof run->label, method->name);
    pb_copy(run->device, sizeof run->device, r->stand_in ? "cpu" : r->device);
}

static bool same(const pb_advise_setting *a, const pb_advise_setting *b) {
    return a->batch == b->batch && a->accumulate == b->accumulate && a->length == b->length &&
           a->checkpoint == b->checkpoint && a->adamw8 == b->adamw8 &&
           a->paged == b->paged;
}

static bool recall(const pb_plan_cache *c, const pb_method *method, const char *params, const pb_advise_setting *s,
                   pb_prediction *out) {
    for (int i = 0; c && i < c->n; i++) {
        if (c->plan[i].method != method || !same(&c->plan[i].s, s) || strcmp(c->plan[i].params, params) != 0) continue;
        *out = c->plan[i].p;
        return true;
    }
    return false;
}

/* Takes params. A full cache remembers no more. */
static void remember(pb_plan_cache *c, const pb_method *method, char *params, const pb_advise_setting *s,
                     const pb_prediction *p) {
    if (!c || c->n == (int)(sizeof c->plan / sizeof c->plan[0])) {
        free(params);
        return;
    }
    c->plan[c->n].method = method;
    c->plan[c->n].params = params;
    c->plan[c->n].s = *s;
    c->plan[c->n++].p = *p;
}

void pb_plan_cache_clear(pb_plan_cache *c) {
    for (int i = 0; c && i < c->n; i++) free(c->plan[i].params);
    if (c) c->n = 0;
}

pb_status pb_advise_predict(const pb_advise_request *r, const pb_method *method,
                            const pb_json *params, const pb_advise_setting *s, pb_prediction *out,
                            bool *applies) {
    pb_run_config run;
    pb_assets assets = {.config = r->config};
    char *key = params ? pb_json_print(params, false) : strdup("");
    if (!key) return PB_ERROR(PB_E_OOM, "no memory for the parameters of %s", method->name);
    *applies = true;
    if (recall(r->cache, method, key, s, out)) {
        free(key);
        return PB_OK;
    }
    run_of(r, method, params, s, &run);
    pb_copy(assets.model_name, sizeof assets.model_name, r->config.name);
    pb_status status = r->stand_in ? pb_run_predict_beside(&run, &assets, 1, out)
                                   : pb_run_predict(&run, &assets, 1, 0, 0, out);
    if (status == PB_OK) {
        remember(r->cache, method, key, s, out);
        return PB_OK;
    }
    free(key);
    if (status != PB_E_UNSUPPORTED && status != PB_E_INPUT) return status; /* a rank too large, say */
    *applies = false;
    return PB_OK;
}

/* ---- the largest that fits ---- */

typedef struct probe {
    pb_advise *a;
    pb_advice *row;
    pb_advise_setting s;
    bool length; /* what grows: the length in steps of LEAST_LENGTH, or the batch */
    uint64_t bytes;
    pb_prediction p;
} probe;

static pb_status weigh(probe *q, int64_t n) {
    bool applies = true;
    if (q->length) q->s.length = n * LEAST_LENGTH;
    else q->s.batch = n;
    PB_RETURN(pb_advise_predict(&q->a->request, q->row->method, q->row->params, &q->s, &q->p, &applies));
    q->a->n_plans++;
    q->bytes = q->p.total;
    return PB_OK;
}

/* Just beyond where the line through (low, low_bytes) and (n, bytes) meets the budget, but at most 64 n: the first ones may
 * hide under a workspace. */
static int64_t beyond(uint64_t budget, int64_t low, uint64_t low_bytes, int64_t n, uint64_t bytes) {
    if (bytes <= low_bytes) return 64 * n;
    double each = (double)(bytes - low_bytes) / (double)(n - low);
    return n + 1 + (int64_t)fmin((double)(budget - bytes) / each, 63 * (double)n);
}

/* The largest n in [1, cap] whose plan fits, 0 when none does. Memory is nearly linear in n: a few
 * interpolations find it, and its successor is proved not to fit. */
static pb_status largest(probe *q, int64_t cap, int64_t *out) {
    uint64_t budget = q->a->usable, low_bytes = 0, high_bytes = 0;
    int64_t low = 1, high = 0;
    *out = 0;
    PB_RETURN(weigh(q, 1));
    if (q->bytes > budget) return PB_OK;
    low_bytes = q->bytes;
    for (int64_t n = 2; low < cap;) {
        if (n > cap) n = cap;
        PB_RETURN(weigh(q, n));
        if (q->bytes > budget) {
            high = n;
            high_bytes = q->bytes;
            break;
        }
        int64_t next = beyond(budget, low, low_bytes, n, q->bytes);
        low = n;
        low_bytes = q->bytes;
        n = next;
    }
    for (int turn = 0; high > low + 1; turn++) {
        double share = (double)(budget - low_bytes) / (double)(high_bytes - low_bytes);
        int64_t n = turn < 6 ? low + (int64_t)(share * (double)(high - low)) : (low + high) / 2;
        if (n <= low) n = low + 1;
        if (n >= high) n = high - 1;
        PB_RETURN(weigh(q, n));
        if (q->bytes > budget) {
            high = n;
            high_bytes = q->bytes;
        } else {
            low = n;
            low_bytes = q->bytes;
        }
    }
    *out = low;
    return PB_OK;
}

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

static pb_status limits(pb_advise *a, pb_advice *row) {
    probe q = {.a = a, .row = row, .s = row->use};
    q.s.accumulate = 1;
    PB_RETURN(largest(&q, lesser(BATCH_CAP, TOKEN_CAP / row->use.length), &row->max_batch));
    q.s = row->use;
    q.s.batch = q.s.accumulate = 1;
    q.length = true;
    int64_t blocks = 0;
    PB_RETURN(largest(&q, lesser(a->request.config.P, TOKEN_CAP) / LEAST_LENGTH, &blocks));
    row->max_length = blocks * LEAST_LENGTH;
    return PB_OK;
}

/* ---- the smallest change that fits ---- */

static pb_status try_setting(pb_advise *a, pb_advice *row, const pb_advise_setting *s) {
    bool applies = true;
    pb_prediction p;
    PB_RETURN(pb_advise_predict(&a->request, row->method, row->params, s, &p, &applies));
    a->n_plans++;
    if (row->least == 0 || p.total < row->least) row->least = p.total;
    if (p.total > a->usable) return PB_OK;
    row->fits = true;
    row->use = *s;
    row->use_p = p;
    return PB_OK;
}

/* The most equal parts of a batch that a suite may have as micro-batches. */
static int64_t most_parts(int64_t all) {
    int64_t d = lesser(all, MOST_PARTS);
    while (all % d) d--;
    return d;
}

/* Smaller micro-batches, as many more of them, without a rest: the optimizer sees the same batch. */
static pb_status try_batches(pb_advise *a, pb_advice *row, pb_advise_setting s) {
    bool applies = true;
    pb_prediction p;
    const int64_t all = s.batch * s.accumulate, most = most_parts(all);
    pb_advise_setting least = s;
    least.batch = all / most;
    least.accumulate = most;
    PB_RETURN(pb_advise_predict(&a->request, row->method, row->params, &least, &p, &applies));
    a->n_plans++;
    if (p.total < row->least) row->least = p.total;
    if (p.total > a->usable) return PB_OK;
    for (int64_t parts = 2; parts <= most && !row->fits; parts++) {
        if (all % parts) continue;
        s.batch = all / parts;
        s.accumulate = parts;
        PB_RETURN(try_setting(a, row, &s));
    }
    return PB_OK;
}

/* The longest texts that fit in the smallest micro-batches. */
static pb_status try_lengths(pb_advise *a, pb_advice *row, pb_advise_setting s) {
    int64_t blocks = 0, all = s.batch * s.accumulate;
    s.accumulate = most_parts(all);
    s.batch = all / s.accumulate;
    probe q = {.a = a, .row = row, .s = s, .length = true};
    PB_RETURN(largest(&q, s.length / LEAST_LENGTH, &blocks));
    if (blocks < 1) {
        if (q.bytes < row->least) row->least = q.bytes;
        return PB_OK;
    }
    s.length = blocks * LEAST_LENGTH;
    if (row->fits && s.length <= row->use.length) return PB_OK;
    return try_setting(a, row, &s);
}

void pb_advise_describe(const pb_advise_setting *s, const pb_advise_setting *was, char out[160]) {
    const size_t cap = 160;
    size_t n = 0;
    const char *comma = "";
    *out = 0;
#define SAY(...)                                             \
    do {                                                     \
        n += (size_t)snprintf(out + n, cap - n, "%s", comma); \
        n += (size_t)snprintf(out + n, cap - n, __VA_ARGS__); \
        comma = ", ";                                        \
    } while (0)
    if (s->checkpoint && !was->checkpoint) SAY("checkpointing");
    if (s->adamw8 && !was->adamw8) SAY("8-bit optimizer");
    if (s->paged && !was->paged) SAY("paged optimizer");
    if (s->batch != was->batch) SAY("batch %lld x %lld", (long long)s->batch, (long long)s->accumulate);
    if (s->length != was->length) SAY("length %lld", (long long)s->length);
#undef SAY
}

/* What may be changed beside the batch, from what costs nothing but time to what changes the training: checkpointing and
 * paging keep its bits, moments in 8 bits do not. */
static const struct {
    bool checkpoint, paged, adamw8;
} changes[] = {{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {1, 1, 0}, {0, 0, 1}, {1, 0, 1}, {1, 1, 1}};
enum { N_CHANGES = sizeof changes / sizeof changes[0] };

/* The first of them that fits, as it is or in smaller micro-batches; where none does, shorter texts: as long as can be, with
 * moments in 8 bits only where these keep them longer. */
static pb_status mend(pb_advise *a, pb_advice *row) {
    pb_advise_setting s = row->asked;
    for (int i = 0; i < N_CHANGES && !row->fits; i++) {
        if (changes[i].paged && !a->pages) continue;
        s.checkpoint = changes[i].checkpoint;
        s.paged = changes[i].paged;
        s.adamw8 = changes[i].adamw8;
        if (i > 0) PB_RETURN(try_setting(a, row, &s));
        if (!row->fits) PB_RETURN(try_batches(a, row, s));
    }
    if (row->fits) return PB_OK;
    s.checkpoint = true;
    s.paged = a->pages;
    for (int eight = 0; eight < 2; eight++) {
        s.adamw8 = eight;
        PB_RETURN(try_lengths(a, row, s));
    }
    return PB_OK;
}

/* ---- a row ---- */

pb_status pb_advise_fit(pb_advise *a, pb_advice *row) {
    const pb_advise_request *r = &a->request;
    pb_json *params = row->params;
    *row = (pb_advice){.method = row->method, .params = params};
    row->asked = (pb_advise_setting){.batch = r->batch, .accumulate = 1, .length = r->length};
    PB_RETURN(pb_advise_predict(r, row->method, row->params, &row->asked, &row->asked_p,
                                &row->applies));
    a->n_plans++;
    if (!row->applies) {
        pb_copy(row->why_not, sizeof row->why_not, pb_error_message());
        pb_error_clear();
        return PB_OK;
    }
    row->least = row->asked_p.total;
    row->fits = row->fits_asked = row->asked_p.total <= a->usable;
    row->use = row->asked;
    row->use_p = row->asked_p;
    if (!row->fits) {
        row->missing = row->asked_p.total - a->usable;
        PB_RETURN(mend(a, row));
    }
    if (row->fits) pb_advise_describe(&row->use, &row->asked, row->change);
    return PB_OK;
}

static pb_in_time in_time(const pb_advise_request *r, const pb_advice *row) {
    double low = row->low_s > 0 ? row->low_s : row->least_s;
    if (r->time_s <= 0) return PB_IN_TIME;
    if (low > r->time_s) return PB_TOO_SLOW;
    return row->high_s > 0 && row->high_s <= r->time_s ? PB_IN_TIME : PB_PERHAPS_IN_TIME;
}

static void time_row(const pb_advise *a, pb_advice *row) {
    const pb_advise_request *r = &a->request;
    const pb_efficiency *e = &a->efficiency;
    row->steps = steps_of(r, &row->use);
    row->in_time = row->fits ? PB_IN_TIME : PB_TOO_SLOW;
    if (!r->gpu || !row->fits) return;
    double tflops = r->dtype == PB_BF16 && r->gpu->bf16_tflops > 0 ? r->gpu->bf16_tflops
                                                                   : r->gpu->f32_tflops;
    double work_s = row->steps * pb_rates_seconds(row->use_p.step, tflops * 1e12, r->gpu->gb_per_s * 1e9);
    /* Paged moments come and go once a step, both ways at a time, after the backward pass: nothing hides it. */
    double bus_s = row->use.paged ? row->steps * (double)row->use_p.bytes[PB_MEM_OPTIM] / pb_gpu_host_bytes_per_s(r->gpu) : 0;
    row->least_s = work_s + bus_s;
    if (e->known) {
        row->low_s = work_s / e->high + bus_s;
        double own = e->method[row - a->rows];
        row->mid_s = work_s / (own > 0 ? own : e->mid) + bus_s;
        row->high_s = work_s / e->low + bus_s;
    }
    row->in_time = in_time(r, row);
}

/* Can plans be made for the device, and does it page? */
static pb_status look_at_device(pb_advise *a) {
    const pb_advise_request *r = &a->request;
    pb_device_options options = {.threads = 1, .page_optimizer = true, .own_memory = r->stand_in};
    pb_device *dev = NULL;
    char plan[64];
    if (strncmp(r->device, "plan:", 5) == 0)
        return PB_ERROR(PB_E_INPUT, "--device: %s is a plan already; expected what would train, as cuda or cpu", r->device);
    snprintf(plan, sizeof plan, "plan:%.50s", r->stand_in ? "cpu" : r->device);
    PB_RETURN(pb_device_open(plan, &options, &dev));
    a->pages = pb_device_pages_optimizer(dev);
    pb_device_close(dev);
    return PB_OK;
}

static pb_status check_request(const pb_advise_request *r) {
    if (r->memory <= r->reserve)
        return PB_ERROR(PB_E_INPUT, "--gpu-memory: %llu bytes leave nothing beside --reserve %llu",
                        (unsigned long long)r->memory, (unsigned long long)r->reserve);
    if (r->length > r->config.P)
        return PB_ERROR(PB_E_INPUT, "--length: %lld tokens, but %s has %lld positions",
                        (long long)r->length, r->config.name, (long long)r->config.P);
    return PB_OK;
}

static pb_status make_row(pb_advise *a, const pb_method *method) {
    const pb_advise_request *r = &a->request;
    pb_advice *row = &a->rows[a->n_rows++];
    pb_advise_quality quality;
    double scale = pb_evidence_scale(a->evidence, PB_ADVISE_SCALE);
    row->method = method;
    pb_evidence_quality(a->evidence, method, &quality);
    PB_RETURN(pb_advise_params(method, quality.params, scale, r->rank, &row->params));
    PB_RETURN(pb_advise_fit(a, row));
    row->quality = quality;
    if (row->fits && !r->brief) PB_RETURN(limits(a, row));
    time_row(a, row);
    return PB_OK;
}

pb_status pb_advise_make(const pb_advise_request *request, pb_advise *out) {
    *out = (pb_advise){.request = *request, .chosen = -1, .best = -1};
    const pb_advise_request *r = &out->request;
    PB_RETURN(check_request(r));
    PB_RETURN(look_at_device(out));
    out->usable = r->memory - r->reserve;
    out->rows = calloc((size_t)pb_method_registry_count, sizeof *out->rows);
    if (!r->cache) out->request.cache = out->own_cache = calloc(1, sizeof *out->own_cache);
    if (!out->rows || !r->cache) return PB_ERROR(PB_E_OOM, "no memory for the rows of advice");
    if (!r->evidence) PB_RETURN(pb_evidence_load(r->records, &out->own_evidence));
    out->evidence = r->evidence ? r->evidence : out->own_evidence;
    PB_RETURN(pb_advise_efficiency(r->records, r->gpu, &out->efficiency));
    for (int i = 0; i < pb_method_registry_count; i++) PB_RETURN(make_row(out, pb_method_registry[i]));
    pb_advise_choose(out);
    if (r->brief) return PB_OK;
    PB_RETURN(pb_advise_rules(out));
    return pb_advise_suite(out);
}

void pb_advise_free(pb_advise *a) {
    for (int i = 0; i < a->n_rows; i++) pb_json_free(a->rows[i].params);
    free(a->rows);
    free(a->suite);
    pb_evidence_free(a->own_evidence);
    pb_plan_cache_clear(a->own_cache);
    free(a->own_cache);
    *a = (pb_advise){0};
}
