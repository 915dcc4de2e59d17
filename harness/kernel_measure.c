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
#include "harness/kernel_judge.h"
#include "harness/queue_time.h"

#define MOST_SAMPLES 2000
#define LINE 64
#define SWEEP ((size_t)256 << 20) /* where lines cannot be flushed: more than caches hold */
#define BATCH_S 100e-6
#define BATCH_BYTES 268435456.0

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
    c.layer.stream = 0;
    size_t n = (size_t)l->cases->n + 1;
    pb_kernel_case *items = realloc(l->cases->items, n * sizeof *items);
    if (!items) return PB_ERROR(PB_E_OOM, "no memory for %zu cases", n);
    items[n - 1] = c;
    l->cases->items = items;
    l->cases->n++;
    return PB_OK;
}

pb_status pb_kernel_cases_add(pb_kernel_cases *cases, const char *model, int64_t rows,
                              pb_dtype dtype, pb_layer_rank most, const char *filter) {
    pb_status status = PB_OK;
    pb_layer layer;
    const char *name = strncmp(model, "shape:", 6) == 0 ? model + 6 : model;
    listing l = {.cases = cases, .model = name, .filter = filter};
    pb_device *plan = NULL;
    PB_TRY(pb_layer_sizes(model, rows, &layer));
    layer.dtype = dtype;
    PB_TRY(pb_device_open("plan:cpu", NULL, &plan));
    layer.dev = plan;
    layer.visit = list_case;
    layer.user = &l;
    for (int g = 0; g < pb_layer_groups(); g++) {
        if (pb_layer_group_rank(g) > most) continue;
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

/* ---- a run ---- */

/* One copy of the op's tensors, and its arguments for them. */
typedef struct set {
    pb_layer *layer;
    const void *args;
    int index; /* of the visit in this copy's walk */
} set;

typedef struct run {
    const pb_kernel_case *def;
    pb_kernel_way way;
    pb_queue_clock clock;  /* of a device with a queue of its own; none on the host */
    pb_tensor flush;       /* there: what is written to empty its caches; none when hot */
    pb_contents start, want; /* the reference's, before and after */
    bool wrote[PB_LAYER_TENSORS];
    set sets[PB_KERNEL_BATCH];
    int depth, n_sets; /* depth: walks within each other, now */
    pb_kernel_result *out;
} run;

/* Is this visit the case? */
static bool is_case(run *r) { return r->sets[r->depth].index++ == r->def->index; }

static pb_status run_reference(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    run *r = layer->user;
    (void)shape;
    if (!is_case(r)) return PB_OK;
    PB_RETURN(pb_contents_take(layer, &r->start));
    if (r->way.unchecked) return PB_OK;
    PB_RETURN(pb_op_run(layer->dev, op, args));
    return pb_contents_take(layer, &r->want);
}

/* ---- samples ---- */

/* Flushing takes longer than idle threads wait before they sleep: the op must not pay for that. */
static int wake(const pb_device *dev) {
    int awake = 0, threads = pb_device_threads(dev);
#pragma omp parallel num_threads(threads) reduction(+ : awake)
    awake++;
    return awake;
}

static pb_status call_sets(const run *r, int n_sets) {
    for (int i = 0; i < n_sets; i++)
        PB_RETURN(pb_op_run(r->sets[i].layer->dev, r->def->op, r->sets[i].args));
    return PB_OK;
}

typedef struct sample {
    double ns, cycles; /* of all calls; cycles NaN when not read */
} sample;

static pb_status sample_on_host(const run *r, int n_sets, sample *s) {
    pb_device *dev = r->sets[0].layer->dev;
    for (int i = 0; i < n_sets && !r->way.hot; i++) evict_tensors(r->sets[i].layer);
    if (wake(dev) < 1) return PB_ERROR(PB_E_BUG, "no thread woke");
    pb_kernel_clock_begin(r->way.clock);
    int64_t from = pb_now_ns();
    PB_RETURN(call_sets(r, n_sets));
    PB_RETURN(pb_device_sync(dev));
    s->ns = (double)(pb_now_ns() - from);
    s->cycles = pb_kernel_clock_end(r->way.clock, s->ns * 1e-9);
    return PB_OK;
}

/* The first n_sets sets of a run. */
typedef struct sets_of {
    const run *run;
    int n;
} sets_of;

static pb_status call_these(void *user) {
    const sets_of *s = user;
    return call_sets(s->run, s->n);
}

static pb_status sample_in_queue(const run *r, int n_sets, sample *s) {
    pb_device *dev = r->sets[0].layer->dev;
    sets_of these = {r, n_sets};
    if (pb_has(r->flush)) PB_RETURN(pb_device_zero(dev, r->flush));
    PB_RETURN(pb_queue_time(dev, &r->clock, call_these, &these, &s->ns));
    s->cycles = pb_kernel_clock_end(r->way.clock, s->ns * 1e-9);
    return PB_OK;
}

/* Seconds and cycles of one call, of one on each of the sets in turn. */
static pb_status one_sample(const run *r, int n_sets, double *seconds, double *cycles) {
    sample s = {.ns = 0};
    for (int i = 0; i < n_sets; i++)
        PB_RETURN(pb_contents_put(r->sets[i].layer, &r->start, r->wrote));
    if (r->clock.begin) {
        PB_RETURN(sample_in_queue(r, n_sets, &s));
    } else {
        PB_RETURN(sample_on_host(r, n_sets, &s));
    }
    *seconds = fmax(s.ns, 1) * 1e-9 / n_sets;
    *cycles = s.cycles / n_sets;
    return PB_OK;
}

static pb_status take_samples(run *r) {
    pb_kernel_result *out = r->out;
    int64_t begin = pb_now_ns(), n = 0;
    double inside = 0;
    bool counted = true;
    out->samples = calloc(MOST_SAMPLES, sizeof *out->samples);
    out->cycles = calloc(MOST_SAMPLES, sizeof *out->cycles);
    if (!out->samples || !out->cycles) return PB_ERROR(PB_E_OOM, "no memory for samples");
    while (n < MOST_SAMPLES) {
        double passed = (double)(pb_now_ns() - begin) * 1e-9;
        bool late = passed > PB_KERNEL_LIMIT_S || (r->way.limit_s > 0 && passed > r->way.limit_s);
        if (n >= PB_KERNEL_SAMPLES && inside >= PB_KERNEL_SECONDS) break;
        if (n >= PB_KERNEL_LEAST && late) break;
        PB_RETURN(one_sample(r, r->n_sets, &out->samples[n], &out->cycles[n]));
        counted = counted && out->cycles[n] > 0;
        inside += out->samples[n++] * r->n_sets;
    }
    if (!counted) { /* one that was lost to another profiler makes the median another thing */
        free(out->cycles);
        out->cycles = NULL;
    }
    out->n = n;
    out->batch = r->n_sets;
    out->spent_s = (double)(pb_now_ns() - begin) * 1e-9;
    return PB_OK;
}

/* Warm-ups on one set, then how many the batch takes: as many as make it last 100 us, and no more than
 * 256 MiB hold. */
static pb_status choose_sets(run *r) {
    double least = INFINITY, seconds = 0, cycles = 0, bytes = 0;
    const pb_layer *layer = r->sets[0].layer;
    for (int i = 0; i < PB_KERNEL_WARMUPS; i++) {
        PB_RETURN(one_sample(r, 1, &seconds, &cycles));
        least = fmin(least, seconds);
    }
    for (int i = 0; i < layer->n_tensors; i++) bytes += (double)pb_bytes(layer->tensors[i]);
    double n = fmin(fmin(BATCH_S / fmax(least, 1e-7), PB_KERNEL_BATCH), BATCH_BYTES / (bytes + 1));
    r->n_sets = least < PB_KERNEL_SHORT_S && n >= 2 ? (int)n : 1;
    return PB_OK;
}

/* What was timed is what was checked. */
static pb_status compare_timed(run *r) {
    pb_status status = PB_OK;
    pb_contents timed = {.n = 0};
    char hex[PB_SHA256_HEX];
    for (int i = 0; i < r->n_sets && !r->out->wrong; i++) {
        PB_TRY(pb_contents_take(r->sets[i].layer, &timed));
        PB_TRY(hash_written(&r->start, &timed, hex));
        if (strcmp(hex, r->out->sha256) == 0) continue;
        r->out->wrong = true;
        pb_copy(r->out->why, sizeof r->out->why, "the timed output is not the one that was checked");
    }
done:
    pb_contents_free(&timed);
    return status;
}

/* ---- the subject ---- */

static pb_status measure_sets(run *r);

/* The case in a further copy of its tensors. */
static pb_status one_more_set(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    run *r = layer->user;
    (void)op;
    (void)shape;
    if (!is_case(r)) return PB_OK;
    r->sets[r->depth].layer = layer;
    r->sets[r->depth].args = args;
    PB_RETURN(pb_contents_put(layer, &r->start, NULL));
    return measure_sets(r);
}

/* Walks within walks until there are enough sets; the innermost one samples. */
static pb_status measure_sets(run *r) {
    if (r->depth + 1 == r->n_sets) {
        PB_RETURN(take_samples(r));
        return compare_timed(r);
    }
    pb_layer layer = r->def->layer;
    layer.dev = r->sets[0].layer->dev;
    layer.visit = one_more_set;
    layer.user = r;
    r->sets[++r->depth].index = 0;
    pb_status status = pb_layer_walk(&layer, r->def->group);
    r->depth--;
    return status;
}

/* The first call: the one that is compared with the reference. */
static pb_status check_call(run *r, const pb_layer *layer, const void *args) {
    pb_status status = PB_OK;
    pb_contents got = {.n = 0};
    pb_kernel_verdict verdict = {.wrong = false};
    PB_TRY(pb_op_run(layer->dev, r->def->op, args));
    PB_TRY(pb_contents_take(layer, &got));
    PB_TRY(hash_written(&r->start, &got, r->out->sha256));
    for (int i = 0; i < got.n; i++) r->wrote[i] = pb_contents_differ(&r->start, &got, i);
    if (r->way.unchecked) goto done;
    PB_TRY(pb_kernel_judge(r->def->op, args, layer, &r->start, &r->want, &got, &verdict));
    r->out->worst = verdict.worst;
    r->out->wrong = verdict.wrong;
    memcpy(r->out->why, verdict.why, sizeof r->out->why);
done:
    pb_contents_free(&r->want);
    pb_contents_free(&got);
    return status;
}

static pb_status run_subject(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    run *r = layer->user;
    pb_kernel_result *out = r->out;
    (void)shape;
    if (!is_case(r)) return PB_OK;
    if (op != r->def->op || layer->n_tensors != r->start.n)
        return PB_ERROR(PB_E_BUG, "%s is not the case that the table lists", r->def->name);
    const char *variant = pb_op_variant(layer->dev, op);
    pb_copy(out->variant, sizeof out->variant, variant ? variant : "");
    r->sets[0].layer = layer;
    r->sets[0].args = args;
    PB_RETURN(pb_contents_put(layer, &r->start, NULL));
    PB_RETURN(check_call(r, layer, args));
    if (out->wrong) return PB_OK;
    PB_RETURN(choose_sets(r));
    return measure_sets(r);
}

static pb_status walk(run *r, pb_device *dev, pb_layer_visit visit) {
    pb_layer layer = r->def->layer;
    layer.dev = dev;
    layer.visit = visit;
    layer.user = r;
    r->depth = 0;
    r->sets[0] = (set){.index = 0};
    return pb_layer_walk(&layer, r->def->group);
}

static pb_status open_queue(run *r, pb_device *dev) {
    PB_RETURN(pb_queue_clock_new(dev, &r->clock));
    if (r->way.hot) return PB_OK;
    return pb_alloc1(dev, PB_MEM_DATA, PB_U8, PB_KERNEL_FLUSH, &r->flush);
}

pb_status pb_kernel_measure(const pb_kernel_case *c, pb_device *ref, pb_device *dev,
                            pb_kernel_way way, pb_kernel_result *out) {
    pb_status status = PB_OK;
    run r = {.def = c, .way = way, .out = out};
    bool host = strcmp(pb_device_name(dev), "cpu") == 0 || strcmp(pb_device_name(dev), "ref") == 0;
    pb_mark mark = pb_device_mark(dev, PB_MEM_DATA);
    *out = (pb_kernel_result){.n = 0};
    if (!host && strcmp(pb_device_name(dev), "cuda") != 0)
        return PB_ERROR(PB_E_UNSUPPORTED, "kernels are measured on cpu and cuda devices, not on %s",
                        pb_device_name(dev));
    PB_TRY(walk(&r, ref, run_reference));
    if (!host) PB_TRY(open_queue(&r, dev));
    PB_TRY(walk(&r, dev, run_subject));
done:
    pb_queue_clock_free(&r.clock);
    pb_device_rewind(dev, PB_MEM_DATA, mark);
    pb_contents_free(&r.start);
    pb_contents_free(&r.want);
    if (status != PB_OK) pb_kernel_result_free(out);
    return status;
}

void pb_kernel_result_free(pb_kernel_result *result) {
    free(result->samples);
    free(result->cycles);
    *result = (pb_kernel_result){.n = 0};
}
