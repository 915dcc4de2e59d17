/* Checking and timing of one kernel: harness/kernel_measure.h. */
#include "harness/kernel_measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "base/text.h"
#include "harness/kernel_contents.h"

#define MOST_SAMPLES 2000
#define LINE 64
#define SWEEP ((size_t)256 << 20) /* where lines cannot be flushed: more than caches hold */

/* ---- the table ---- */

typedef struct listing {
    pb_kernel_cases *cases;
    const char *model, *filter;
    int group, index;
} listing;

bool pb_kernel_case_holds(const char *name, const char *filter) {
    char part[sizeof ((pb_kernel_case *)0)->name];
    if (!filter) return true;
    for (const char *p = filter; p;) {
        size_t len = strcspn(p, "|");
        if (len > 0 && len < sizeof part) {
            snprintf(part, sizeof part, "%.*s", (int)len, p);
            if (strstr(name, part)) return true;
        }
        p = p[len] ? p + len + 1 : NULL;
    }
    return false;
}

static pb_status list_case(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    listing *l = layer->user;
    pb_kernel_case c = {.group = l->group, .index = l->index++, .op = op};
    c.work = pb_op_work(op, args);
    pb_copy(c.shape, sizeof c.shape, shape);
    snprintf(c.name, sizeof c.name, "%s/%s/%s/%s", l->model, pb_op_name(op), shape,
             pb_dtype_name(layer->dtype));
    if (!pb_kernel_case_holds(c.name, l->filter)) return PB_OK;
    c.layer = *layer;
    c.layer.dev = NULL;
    c.layer.user = NULL;
    c.layer.n_tensors = 0;
    size_t n = (size_t)l->cases->n + 1;
    pb_kernel_case *items = realloc(l->cases->items, n * sizeof *items);
    if (!items) return PB_ERROR(PB_E_OOM, "no memory for %zu cases", n);
    items[n - 1] = c;
    l->cases->items = items;
    l->cases->n++;
    return PB_OK;
}

pb_status pb_kernel_cases_add(pb_kernel_cases *cases, const char *model, int64_t rows,
                              pb_dtype dtype, const char *filter) {
    pb_status status = PB_OK;
    const int64_t most = INT64_C(1) << 24;
    pb_layer layer;
    const char *name = strncmp(model, "shape:", 6) == 0 ? model + 6 : model;
    listing l = {.cases = cases, .model = name, .filter = filter};
    pb_device *plan = NULL;
    PB_TRY(pb_layer_sizes(model, rows, &layer));
    if (layer.V * layer.C > most) layer.V = most / layer.C;
    layer.dtype = dtype;
    PB_TRY(pb_device_open("plan:cpu", NULL, &plan));
    layer.dev = plan;
    layer.visit = list_case;
    layer.user = &l;
    for (int g = 0; g < PB_LAYER_GROUPS; g++) {
        l.group = g;
        l.index = 0;
        PB_TRY(pb_layer_walk(&layer, g));
    }
done:
    pb_device_close(plan);
    return status;
}

void pb_kernel_cases_free(pb_kernel_cases *cases) {
    free(cases->items);
    *cases = (pb_kernel_cases){0};
}

/* ---- caches ---- */

void pb_cache_evict(const void *data, size_t bytes) {
#if defined(__x86_64__)
    const char *p = data;
    for (size_t i = 0; i < bytes; i += LINE) _mm_clflush(p + i);
    if (bytes > 0) _mm_clflush(p + bytes - 1);
    _mm_mfence();
#else
    volatile char *sweep = malloc(SWEEP);
    (void)data;
    (void)bytes;
    for (size_t i = 0; sweep && i < SWEEP; i += LINE) sweep[i] = (char)i;
    free((void *)(uintptr_t)sweep);
#endif
}

static void evict_tensors(const pb_layer *layer) {
#if defined(__x86_64__)
    for (int i = 0; i < layer->n_tensors; i++)
        pb_cache_evict(layer->tensors[i].data, pb_bytes(layer->tensors[i]));
#else
    (void)layer;
    pb_cache_evict(NULL, 0);
#endif
}

/* ---- what was written ---- */

static pb_status hash_written(const pb_contents *before, const pb_contents *after,
                              char hex[PB_SHA256_HEX]) {
    pb_sha256 *h = NULL;
    PB_RETURN(pb_sha256_new(&h));
    for (int i = 0; i < before->n; i++)
        if (pb_contents_differ(before, after, i))
            pb_sha256_add(h, after->bytes[i], pb_bytes(after->tensor[i]));
    pb_sha256_end(h, hex);
    return PB_OK;
}

/* ---- right or wrong ---- */

static double value_at(const pb_contents *c, int i, int64_t k) {
    const void *p = c->bytes[i];
    switch (c->tensor[i].dtype) {
        case PB_F32: return (double)((const float *)p)[k];
        case PB_F64: return ((const double *)p)[k];
        case PB_BF16: return (double)pb_bf16_to_f32(((const uint16_t *)p)[k]);
        case PB_I32: return (double)((const int32_t *)p)[k];
        default: return (double)((const unsigned char *)p)[k];
    }
}

static double longest_side(const pb_contents *c) {
    int64_t longest = 1;
    for (int i = 0; i < c->n; i++) {
        int64_t rows = pb_rows(c->tensor[i]), cols = pb_cols(c->tensor[i]);
        if (rows > longest) longest = rows;
        if (cols > longest) longest = cols;
    }
    return (double)longest;
}

static void judge_reals(const pb_contents *got, const pb_contents *want, int i, double relative,
                        pb_kernel_result *r) {
    int64_t n = pb_numel(want->tensor[i]);
    double top = 0;
    for (int64_t k = 0; k < n; k++) {
        double w = fabs(value_at(want, i, k));
        if (isfinite(w)) top = fmax(top, w);
    }
    for (int64_t k = 0; k < n; k++) {
        double g = value_at(got, i, k), w = value_at(want, i, k);
        if (g == w || (isnan(g) && isnan(w))) continue;
        double used = fabs(g - w) / (relative * top);
        if (used <= r->worst) continue;
        r->worst = isnan(used) ? INFINITY : used;
        if (used <= 1) continue;
        r->wrong = true;
        snprintf(r->why, sizeof r->why, "tensor %d, element %lld is %.9g; the reference is %.9g", i,
                 (long long)k, g, w);
        if (isnan(used)) return;
    }
}

static void judge_codes(const pb_contents *got, const pb_contents *want, int i,
                        pb_kernel_result *r) {
    int64_t n = pb_numel(want->tensor[i]), differ = 0;
    for (int64_t k = 0; k < n; k++) differ += value_at(got, i, k) != value_at(want, i, k);
    double used = (double)differ / (1e-3 * (double)n);
    r->worst = fmax(r->worst, used);
    if (used <= 1) return;
    r->wrong = true;
    snprintf(r->why, sizeof r->why, "tensor %d: %lld of %lld codes are not the reference's", i,
             (long long)differ, (long long)n);
}

static void judge(const pb_contents *got, const pb_contents *want, pb_dtype dtype,
                  pb_kernel_result *r) {
    const double f32 = 0x1p-24;
    double own = dtype == PB_BF16 ? 0x1p-8 : f32;
    double relative = 4 * own + 8 * f32 * sqrt(longest_side(want));
    for (int i = 0; i < want->n && !r->wrong; i++) {
        pb_dtype t = want->tensor[i].dtype;
        if (!pb_contents_differ(want, got, i)) continue;
        if (t == PB_F32 || t == PB_BF16 || t == PB_F64)
            judge_reals(got, want, i, relative, r);
        else
            judge_codes(got, want, i, r);
    }
}

/* ---- a run ---- */

typedef struct run {
    const pb_kernel_case *def;
    int index;
    bool check;
    double limit_s;
    pb_contents start, want; /* the reference's, before and after */
    pb_kernel_result *out;
} run;

static pb_status run_reference(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    run *r = layer->user;
    (void)shape;
    if (r->index++ != r->def->index) return PB_OK;
    PB_RETURN(pb_contents_take(layer, &r->start));
    if (!r->check) return PB_OK;
    PB_RETURN(pb_op_run(layer->dev, op, args));
    return pb_contents_take(layer, &r->want);
}

static pb_status one_sample(pb_layer *layer, pb_op op, const void *args, double *seconds) {
    evict_tensors(layer);
    int64_t from = pb_now_ns();
    PB_RETURN(pb_op_run(layer->dev, op, args));
    PB_RETURN(pb_device_sync(layer->dev));
    *seconds = (double)(pb_now_ns() - from) * 1e-9;
    return PB_OK;
}

static pb_status take_samples(pb_layer *layer, pb_op op, const void *args, const run *r,
                              const pb_contents *wrote) {
    pb_kernel_result *out = r->out;
    int64_t begin = pb_now_ns(), n = 0;
    double seconds, inside = 0;
    out->samples = calloc(MOST_SAMPLES, sizeof *out->samples);
    if (!out->samples) return PB_ERROR(PB_E_OOM, "no memory for samples");
    for (int64_t i = -PB_KERNEL_WARMUPS; n < MOST_SAMPLES; i++) {
        double passed = (double)(pb_now_ns() - begin) * 1e-9;
        bool late = r->limit_s > 0 && passed > r->limit_s;
        if (n >= PB_KERNEL_SAMPLES && inside >= PB_KERNEL_SECONDS) break;
        if (n >= 3 && (late || passed > PB_KERNEL_LIMIT_S)) break;
        if (i < 0 && late) continue;
        PB_RETURN(pb_contents_put(layer, &r->start, wrote));
        PB_RETURN(one_sample(layer, op, args, &seconds));
        if (i < 0) continue;
        out->samples[n++] = seconds;
        inside += seconds;
    }
    out->n = n;
    return PB_OK;
}

static pb_status run_subject(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    pb_status status = PB_OK;
    run *r = layer->user;
    pb_kernel_result *out = r->out;
    pb_contents checked = {.n = 0}, timed = {.n = 0};
    char hex[PB_SHA256_HEX];
    (void)shape;
    if (r->index++ != r->def->index) return PB_OK;
    if (op != r->def->op || layer->n_tensors != r->start.n)
        return PB_ERROR(PB_E_BUG, "%s is not the case that the table lists", r->def->name);
    const char *variant = pb_op_variant(layer->dev, op);
    pb_copy(out->variant, sizeof out->variant, variant ? variant : "");
    PB_TRY(pb_contents_put(layer, &r->start, NULL));
    PB_TRY(pb_op_run(layer->dev, op, args));
    PB_TRY(pb_contents_take(layer, &checked));
    if (r->check) judge(&checked, &r->want, layer->dtype, out);
    PB_TRY(hash_written(&r->start, &checked, out->sha256));
    if (out->wrong) goto done;
    PB_TRY(take_samples(layer, op, args, r, &checked));
    PB_TRY(pb_contents_take(layer, &timed));
    PB_TRY(hash_written(&r->start, &timed, hex));
    if (strcmp(hex, out->sha256) != 0) {
        out->wrong = true;
        pb_copy(out->why, sizeof out->why, "the timed output is not the one that was checked");
    }
done:
    pb_contents_free(&checked);
    pb_contents_free(&timed);
    return status;
}

static pb_status walk(run *r, pb_device *dev, pb_layer_visit visit) {
    pb_layer layer = r->def->layer;
    layer.dev = dev;
    layer.visit = visit;
    layer.user = r;
    r->index = 0;
    return pb_layer_walk(&layer, r->def->group);
}

pb_status pb_kernel_measure(const pb_kernel_case *c, pb_device *ref, pb_device *dev, bool check,
                            double limit_s, pb_kernel_result *out) {
    pb_status status = PB_OK;
    run r = {.def = c, .check = check, .limit_s = limit_s, .out = out};
    *out = (pb_kernel_result){.n = 0};
    if (strcmp(pb_device_name(dev), "cpu") != 0 && strcmp(pb_device_name(dev), "ref") != 0)
        return PB_ERROR(PB_E_UNSUPPORTED, "kernels are measured on the cpu device, not on %s",
                        pb_device_name(dev));
    PB_TRY(walk(&r, ref, run_reference));
    PB_TRY(walk(&r, dev, run_subject));
done:
    pb_contents_free(&r.start);
    pb_contents_free(&r.want);
    if (status != PB_OK) pb_kernel_result_free(out);
    return status;
}

void pb_kernel_result_free(pb_kernel_result *result) {
    free(result->samples);
    *result = (pb_kernel_result){.n = 0};
}
