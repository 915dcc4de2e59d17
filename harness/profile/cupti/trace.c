/* The CUPTI tracer: switches activity records on, numbers the ops, and turns what comes back into spans. Records are parsed
 * once the device is idle and CUPTI has flushed: the flush does not wait for the device. */
#include <cupti.h>
#include <nvtx3/nvToolsExt.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/profile/cupti/activity.h"
#include "harness/profile/cupti/buffers.h"
#include "harness/profile/cupti/common.h"
#include "harness/profile/cupti/plugin.h"

/* The API kinds are here for their external correlation records alone: CUPTI writes none without them. Libraries launch
 * through the driver's API too. */
static const CUpti_ActivityKind kinds[] = {
    CUPTI_ACTIVITY_KIND_RUNTIME,               CUPTI_ACTIVITY_KIND_DRIVER,
    CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,     CUPTI_ACTIVITY_KIND_MEMCPY,
    CUPTI_ACTIVITY_KIND_MEMSET,                CUPTI_ACTIVITY_KIND_MEMORY2,
    CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_ACTIVITY_KIND_OVERHEAD,
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

/* --- the trace --- */

typedef struct cupti_trace {
    pb_device *dev;
    pb_profile *profile;
    pb_cupti_op *ops;
    int64_t n, cap;
    int depth, enabled; /* the first `enabled` kinds are on */
    bool failed;
} cupti_trace;

static bool note_op(cupti_trace *t, const char *op, const pb_work *work) {
    if (t->n == t->cap) {
        int64_t cap = t->cap > 0 ? 2 * t->cap : 4096;
        pb_cupti_op *bigger = realloc(t->ops, (size_t)cap * sizeof *bigger);
        if (bigger == NULL) return false;
        t->ops = bigger;
        t->cap = cap;
    }
    const pb_cupti_op *last = t->n > 0 ? &t->ops[t->n - 1] : NULL;
    bool same_step = last != NULL && last->step == t->profile->steps;
    pb_cupti_op *o = &t->ops[t->n++];
    *o = (pb_cupti_op){
        .op = op, .work = *work, .step = t->profile->steps, .at = same_step ? last->at + 1 : 0};
    for (int i = 0; i < PB_SCOPE_COUNT; i++) o->scope[i] = pb_device_scope_name(t->dev, (pb_scope)i);
    return true;
}

/* Every op is a range of its own, for CUPTI by number and for NVTX by name. */
static void observe(void *user, const char *op, bool begin, const pb_work *work) {
    cupti_trace *t = user;
    if (begin && t->depth++ > 0) return;
    if (!begin && --t->depth > 0) return;
    if (begin) {
        char range[192];
        t->failed = !note_op(t, op, work) || t->failed;
        (void)cuptiActivityPushExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, (uint64_t)t->n);
        snprintf(range, sizeof range, "%s %s %s", op, pb_device_scope_name(t->dev, PB_SCOPE_SITE),
                 pb_device_scope_name(t->dev, PB_SCOPE_PART));
        nvtxRangePushA(range);
        return;
    }
    uint64_t last = 0;
    nvtxRangePop();
    (void)cuptiActivityPopExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &last);
}

static void switch_off(cupti_trace *t) {
    pb_device_observe(t->dev, NULL, NULL);
    for (int i = 0; i < t->enabled; i++) (void)cuptiActivityDisable(kinds[i]);
    t->enabled = 0;
}

static void free_trace(cupti_trace *t) {
    switch_off(t);
    pb_cupti_buffers_free(pb_cupti_buffers_take());
    free(t->ops);
    free(t);
}

static pb_status cupti_begin(pb_device *dev, pb_profile *profile, void **trace) {
    pb_status status = PB_OK;
    cupti_trace *t = calloc(1, sizeof *t);
    *trace = NULL;
    if (t == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a trace");
    t->dev = dev;
    t->profile = profile;
    PB_TRY(pb_cupti_check_version());
    PB_TRY(pb_device_sync(dev));
    PB_TRY(pb_cupti_buffers_register());
    for (; t->enabled < N_KINDS; t->enabled++)
        PB_TRY(pb_cupti_check(cuptiActivityEnable(kinds[t->enabled]), "cuptiActivityEnable"));
    pb_device_observe(dev, observe, t);
    *trace = t;
    t = NULL;
done:
    if (t != NULL) free_trace(t);
    return status;
}

static pb_status cupti_end(void *trace) {
    pb_status status = PB_OK;
    cupti_trace *t = trace;
    pb_cupti_log log = {0};
    pb_memory_seen seen = {0};
    pb_cupti_buffer *list = NULL;
    pb_device_observe(t->dev, NULL, NULL);
    PB_TRY(pb_device_sync(t->dev));
    PB_TRY(pb_cupti_check(cuptiActivityFlushAll(0), "cuptiActivityFlushAll"));
    switch_off(t);
    PB_TRY(pb_cupti_check(cuptiActivityFlushAll(1), "cuptiActivityFlushAll"));
    t->profile->dropped += pb_cupti_buffers_dropped();
    list = pb_cupti_buffers_take();
    for (pb_cupti_buffer *b = list; b != NULL; b = b->next) PB_TRY(pb_cupti_parse(&log, b->data, b->valid));
    if (t->failed) PB_FAIL(PB_E_OOM, "no host memory for a list of %lld ops", (long long)t->n);
    PB_TRY(pb_cupti_spans(&log, t->ops, t->n, t->profile));
    PB_TRY(pb_cupti_memory_totals(&log, NULL, 0, &seen));
    t->profile->memory.peak = seen.peak;
    t->profile->memory.known = pb_cupti_device_memory(&t->profile->memory.used, &t->profile->memory.capacity);
done:
    pb_cupti_buffers_free(list);
    pb_cupti_log_free(&log);
    free_trace(t);
    return status;
}

static const pb_tracer tracer = {.name = "cupti", .begin = cupti_begin, .end = cupti_end};

__attribute__((visibility("default"))) const pb_cupti_plugin_info *pb_cupti_plugin(void) {
    static const pb_cupti_plugin_info info = {PB_CUPTI_PLUGIN_ABI, sizeof(pb_profile), &tracer,
                                              &pb_cupti_counter_reader, &pb_cupti_memory_recorder};
    return &info;
}
