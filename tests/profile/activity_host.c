/* CUPTI's activity API without a GPU, in the place of libcupti: every range of an external id launches one kernel of 100 ns.
 * As the headers say, an external correlation record comes only in front of the record of an API call: without one of the API
 * kinds there is none. */
#include <cupti.h>
#include <stdlib.h>
#include <string.h>

#include "tests/profile/cupti_host.h"

enum { MOST = 4096, KINDS = 64 };

static struct {
    CUpti_BuffersCallbackRequestFunc requested;
    CUpti_BuffersCallbackCompleteFunc completed;
    bool on[KINDS];
    uint64_t open, launched[MOST]; /* external ids, in order */
    int n, flushed;
    size_t dropped; /* records: told once, as CUPTI does */
} activity;

void pb_cupti_activity_reset(void) { memset(&activity, 0, sizeof activity); }
void pb_cupti_activity_drop(size_t n) { activity.dropped = n; }
int pb_cupti_activity_on(void) {
    int n = 0;
    for (int i = 0; i < KINDS; i++) n += activity.on[i];
    return n;
}

#define CALL()                               \
    do {                                     \
        int code_ = pb_cupti_host_call();    \
        if (code_ != 0) return (CUptiResult)code_; \
    } while (0)

CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc requested,
                                           CUpti_BuffersCallbackCompleteFunc completed) {
    CALL();
    activity.requested = requested;
    activity.completed = completed;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) {
    CALL();
    activity.on[kind] = true;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityDisable(CUpti_ActivityKind kind) {
    CALL();
    activity.on[kind] = false;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityPushExternalCorrelationId(CUpti_ExternalCorrelationKind kind, uint64_t id) {
    (void)kind;
    activity.open = id;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityPopExternalCorrelationId(CUpti_ExternalCorrelationKind kind, uint64_t *last) {
    (void)kind;
    *last = activity.open;
    if (activity.n < MOST) activity.launched[activity.n++] = activity.open;
    return CUPTI_SUCCESS;
}

static size_t put(uint8_t *to, const void *record, size_t bytes) {
    memcpy(to, record, bytes);
    return bytes;
}

CUptiResult cuptiActivityFlushAll(uint32_t flag) {
    (void)flag;
    CALL();
    uint8_t *data = NULL;
    size_t size = 0, most = 0, at = 0;
    bool api = activity.on[CUPTI_ACTIVITY_KIND_RUNTIME] || activity.on[CUPTI_ACTIVITY_KIND_DRIVER];
    if (activity.flushed == activity.n) return CUPTI_SUCCESS;
    activity.requested(&data, &size, &most);
    if (data == NULL) return CUPTI_SUCCESS;
    for (int i = activity.flushed; i < activity.n; i++) {
        uint32_t id = (uint32_t)i + 1;
        CUpti_ActivityExternalCorrelation link = {.kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION,
                                                  .externalKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0,
                                                  .externalId = activity.launched[i],
                                                  .correlationId = id};
        CUpti_ActivityAPI call = {.kind = CUPTI_ACTIVITY_KIND_RUNTIME, .correlationId = id};
        CUpti_ActivityKernel10 kernel = {.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         .start = 1000 * (uint64_t)id,
                                         .end = 1000 * (uint64_t)id + 100,
                                         .correlationId = id,
                                         .name = "kernel"};
        if (api && activity.on[CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION]) at += put(data + at, &link, sizeof link);
        if (api) at += put(data + at, &call, sizeof call);
        if (activity.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]) at += put(data + at, &kernel, sizeof kernel);
    }
    activity.flushed = activity.n;
    activity.completed(NULL, 0, data, size, at);
    return CUPTI_SUCCESS;
}

static size_t size_of(const CUpti_Activity *record) {
    switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: return sizeof(CUpti_ActivityExternalCorrelation);
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: return sizeof(CUpti_ActivityKernel10);
    default: return sizeof(CUpti_ActivityAPI);
    }
}

CUptiResult cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid, CUpti_Activity **record) {
    CALL();
    uint8_t *next = *record == NULL ? buffer : (uint8_t *)*record + size_of(*record);
    if (next >= buffer + valid) return CUPTI_ERROR_MAX_LIMIT_REACHED;
    *record = (CUpti_Activity *)(void *)next;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext context, uint32_t stream, size_t *dropped) {
    (void)context;
    (void)stream;
    CALL();
    *dropped = activity.dropped;
    activity.dropped = 0;
    return CUPTI_SUCCESS;
}
