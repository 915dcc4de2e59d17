/* The tracer that works on every device: an event before and after each op. On a CPU, where an enqueued op has already run,
 * that is the clock; on a GPU the events run in the queue and add a little to every op. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/profile/profile.h"
#include "kernels/ops.h"

enum { BLOCK = 512 };

typedef struct seen {
    const char *op, *name[PB_SCOPE_COUNT]; /* live as long as the model */
    pb_work work;
    pb_event *begin, *end;
    int step;
} seen;

/* Entries never move: the events of a block are made when it is. */
typedef struct block {
    struct block *next;
    seen list[BLOCK];
    int n;
} block;

typedef struct host_trace {
    pb_device *dev;
    pb_profile *profile;
    block *first, *last;
    pb_event *start;
    int depth;
    pb_status failed; /* the first thing that went wrong while observing */
    char message[256];
} host_trace;

static pb_status add_block(host_trace *t) {
    block *b = calloc(1, sizeof *b);
    if (b == NULL) return PB_ERROR(PB_E_OOM, "no host memory for %d events", 2 * BLOCK);
    if (t->last != NULL) t->last->next = b;
    else t->first = b;
    t->last = b;
    for (int i = 0; i < BLOCK; i++) {
        PB_RETURN(pb_event_new(t->dev, &b->list[i].begin));
        PB_RETURN(pb_event_new(t->dev, &b->list[i].end));
    }
    return PB_OK;
}

static void free_trace(host_trace *t) {
    for (block *b = t->first, *next = NULL; b != NULL; b = next) {
        next = b->next;
        for (int i = 0; i < BLOCK; i++) {
            pb_event_free(b->list[i].begin);
            pb_event_free(b->list[i].end);
        }
        free(b);
    }
    pb_event_free(t->start);
    free(t);
}

static pb_status note_begin(host_trace *t, const char *op, const pb_work *work) {
    if (t->last == NULL || t->last->n == BLOCK) PB_RETURN(add_block(t));
    seen *s = &t->last->list[t->last->n++];
    s->op = op;
    s->work = *work;
    s->step = t->profile->steps;
    for (int i = 0; i < PB_SCOPE_COUNT; i++)
        s->name[i] = pb_device_scope_name(t->dev, (pb_scope)i);
    return pb_event_record(s->begin);
}

/* An op inside an op counts for the outer one. */
static void observe(void *user, const char *op, bool begin, const pb_work *work) {
    host_trace *t = user;
    pb_status status = t->failed;
    if (begin && t->depth++ == 0 && status == PB_OK) status = note_begin(t, op, work);
    if (!begin && --t->depth == 0 && status == PB_OK)
        status = pb_event_record(t->last->list[t->last->n - 1].end);
    if (status == PB_OK || t->failed != PB_OK) return;
    t->failed = status;
    strncpy(t->message, pb_error_message(), sizeof t->message - 1);
}

static pb_status host_begin(pb_device *dev, pb_profile *profile, void **trace) {
    pb_status status = PB_OK;
    host_trace *t = calloc(1, sizeof *t);
    *trace = NULL;
    if (t == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a trace");
    t->dev = dev;
    t->profile = profile;
    pb_copy(profile->counters.reason, sizeof profile->counters.reason,
            "the host tracer reads no hardware counters");
    PB_TRY(add_block(t));
    PB_TRY(pb_event_new(dev, &t->start));
    PB_TRY(pb_event_record(t->start));
    pb_device_observe(dev, observe, t);
    *trace = t;
    t = NULL;
done:
    if (t != NULL) free_trace(t);
    return status;
}

/* "linear (onednn)"; transfers have no variant. */
static void kernel_name(const host_trace *t, const char *op, char *out, size_t cap) {
    const char *variant = NULL;
    for (int i = 0; i < PB_OP_COUNT && variant == NULL; i++) {
        if (strcmp(pb_op_name((pb_op)i), op) == 0) variant = pb_op_variant(t->dev, (pb_op)i);
    }
    if (variant != NULL) snprintf(out, cap, "%s (%s)", op, variant);
    else snprintf(out, cap, "%s", op);
}

static pb_status to_span(host_trace *t, const seen *s, int64_t op) {
    char kernel[96];
    pb_profile *p = t->profile;
    pb_span span = {.step = s->step, .op = op, .work = s->work};
    const char *const names[PB_BY_COUNT] = {kernel, s->op, s->name[PB_SCOPE_SITE],
                                            s->name[PB_SCOPE_PART], s->name[PB_SCOPE_PHASE]};
    kernel_name(t, s->op, kernel, sizeof kernel);
    PB_RETURN(pb_event_elapsed(t->start, s->begin, &span.start_ns));
    PB_RETURN(pb_event_elapsed(s->begin, s->end, &span.ns));
    for (int by = 0; by < PB_BY_COUNT; by++) {
        span.name[by] = pb_profile_name(p, (pb_by)by, names[by]);
        if (span.name[by] < 0) return PB_ERROR(PB_E_OOM, "no host memory for a name");
    }
    p->records++;
    if (!(span.ns > 0.0)) p->no_time++;
    return pb_profile_span(p, &span);
}

static pb_status host_end(void *trace) {
    pb_status status = PB_OK;
    host_trace *t = trace;
    int64_t op = 0;
    int step = -1;
    pb_device_observe(t->dev, NULL, NULL);
    if (t->failed != PB_OK) PB_FAIL(t->failed, "tracing failed: %s", t->message);
    PB_TRY(pb_device_sync(t->dev));
    for (const block *b = t->first; b != NULL; b = b->next) {
        for (int i = 0; i < b->n; i++) {
            if (b->list[i].step != step) op = 0;
            step = b->list[i].step;
            PB_TRY(to_span(t, &b->list[i], op++));
            if (op > t->profile->ops_in_step) t->profile->ops_in_step = op;
        }
    }
done:
    free_trace(t);
    return status;
}

const pb_tracer pb_tracer_host = {.name = "host", .begin = host_begin, .end = host_end};
