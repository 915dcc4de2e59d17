/* The CUPTI tracer: switches activity records on, numbers the ops, and turns what comes back into spans.
 *
 * Buffers come from a pool and go back to a list: the callbacks do nothing else, for they run on CUPTI's own thread. No
 * lock of ours is held while CUPTI is called. Records are parsed once the device is idle and CUPTI has flushed: the
 * flush does not wait for the device. */
#include <cupti.h>
#include <nvtx3/nvToolsExt.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/profile/cupti/activity.h"
#include "harness/profile/cupti/common.h"
#include "harness/profile/cupti/plugin.h"

enum { BUFFER_BYTES = 8 << 20 };

static const CUpti_ActivityKind kinds[] = {
    CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,     CUPTI_ACTIVITY_KIND_MEMCPY,
    CUPTI_ACTIVITY_KIND_MEMSET,                CUPTI_ACTIVITY_KIND_MEMORY2,
    CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_ACTIVITY_KIND_OVERHEAD,
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

typedef struct buffer {
    struct buffer *next;
    uint8_t *data;
    size_t valid;
} buffer;

/* CUPTI's callbacks carry no user pointer: the one state that they share. */
static struct {
    pthread_mutex_t lock;
    buffer *full, *last, *out; /* out: given to CUPTI and not yet back */
    uint64_t refused; /* requests without memory */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void CUPTIAPI requested(uint8_t **data, size_t *size, size_t *max_records) {
    buffer *b = calloc(1, sizeof *b);
    *size = 0;
    *data = NULL;
    *max_records = 0;
    if (b != NULL) b->data = aligned_alloc(8, BUFFER_BYTES);
    pthread_mutex_lock(&pool.lock);
    if (b == NULL || b->data == NULL) {
        pool.refused++;
        free(b);
    } else {
        b->next = pool.out;
        pool.out = b;
        *data = b->data;
        *size = BUFFER_BYTES;
    }
    pthread_mutex_unlock(&pool.lock);
}

static void CUPTIAPI completed(CUcontext context, uint32_t stream, uint8_t *data, size_t size, size_t valid) {
    (void)context;
    (void)stream;
    (void)size;
    pthread_mutex_lock(&pool.lock);
    for (buffer **p = &pool.out; *p != NULL; p = &(*p)->next) {
        buffer *b = *p;
        if (b->data != data) continue;
        *p = b->next;
        b->next = NULL;
        b->valid = valid;
        if (pool.last != NULL) pool.last->next = b;
        else pool.full = b;
        pool.last = b;
        break;
    }
    pthread_mutex_unlock(&pool.lock);
}

static buffer *take_full(void) {
    pthread_mutex_lock(&pool.lock);
    buffer *list = pool.full;
    pool.full = pool.last = NULL;
    pthread_mutex_unlock(&pool.lock);
    return list;
}

static void free_list(buffer *b) {
    for (buffer *next = NULL; b != NULL; b = next) {
        next = b->next;
        free(b->data);
        free(b);
    }
}

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
    free_list(take_full());
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
    PB_TRY(pb_cupti_check(cuptiActivityRegisterCallbacks(requested, completed), "cuptiActivityRegisterCallbacks"));
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
    buffer *list = NULL;
    size_t dropped = 0;
    pb_device_observe(t->dev, NULL, NULL);
    PB_TRY(pb_device_sync(t->dev));
    PB_TRY(pb_cupti_check(cuptiActivityFlushAll(0), "cuptiActivityFlushAll"));
    switch_off(t);
    PB_TRY(pb_cupti_check(cuptiActivityFlushAll(1), "cuptiActivityFlushAll"));
    /* Reading resets the count: this is the one place that does. */
    if (cuptiActivityGetNumDroppedRecords(NULL, 0, &dropped) == CUPTI_SUCCESS) t->profile->dropped += dropped;
    pthread_mutex_lock(&pool.lock);
    t->profile->dropped += pool.refused;
    pool.refused = 0;
    pthread_mutex_unlock(&pool.lock);
    list = take_full();
    for (buffer *b = list; b != NULL; b = b->next) PB_TRY(pb_cupti_parse(&log, b->data, b->valid));
    if (t->failed) PB_FAIL(PB_E_OOM, "no host memory for a list of %lld ops", (long long)t->n);
    PB_TRY(pb_cupti_spans(&log, t->ops, t->n, t->profile));
    t->profile->memory.peak = (uint64_t)log.peak_bytes;
    t->profile->memory.known = pb_cupti_device_memory(&t->profile->memory.used, &t->profile->memory.capacity);
done:
    free_list(list);
    pb_cupti_log_free(&log);
    free_trace(t);
    return status;
}

static const pb_tracer tracer = {.name = "cupti", .begin = cupti_begin, .end = cupti_end};

__attribute__((visibility("default"))) const pb_cupti_plugin_info *pb_cupti_plugin(void) {
    static const pb_cupti_plugin_info info = {PB_CUPTI_PLUGIN_ABI, sizeof(pb_profile), &tracer,
                                              &pb_cupti_counter_reader};
    return &info;
}
