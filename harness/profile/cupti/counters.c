/* The counter reader of the plug-in: every op of a step is a range named by its number. Test: tests/profile/test_counters.c.
 *
 * The device is idle when a range begins and when it ends, so that a range holds the work of its op and of no other, on
 * whatever stream it runs. That makes the step slow; its times are not used but for counted_ns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/profile/cupti/common.h"
#include "harness/profile/cupti/range.h"

_Static_assert((int)PB_CUPTI_METRICS == (int)PB_COUNT_COUNT, "the metrics are those of pb_count");

/* A call of range.h, checked; `what` must be there. */
#define PB_RANGE_CALL(call)                       \
    do {                                          \
        int code_ = (call);                       \
        PB_RETURN(pb_cupti_check(code_, what));   \
    } while (0)

typedef struct counter_reader {
    pb_device *dev;
    pb_cupti_range *range;
    pb_counted *list; /* [cap], from the first pass */
    int64_t n, cap, first_n;
    int depth, passes;
    pb_status failed; /* the first thing that went wrong while observing */
    char message[256];
} counter_reader;

static void reader_free(void *reader) {
    counter_reader *r = reader;
    if (r == NULL) return;
    pb_device_observe(r->dev, NULL, NULL);
    pb_cupti_range_close(r->range);
    free(r->list);
    free(r);
}

static pb_status reader_open(pb_device *dev, int64_t ops, void **reader) {
    pb_status status = PB_OK;
    void *context = NULL;
    int device = 0;
    const char *what = "";
    counter_reader *r = calloc(1, sizeof *r);
    *reader = NULL;
    if (r == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a counter reader");
    r->dev = dev;
    r->cap = ops > 0 ? ops : 1;
    r->list = calloc((size_t)r->cap, sizeof *r->list);
    if (r->list == NULL) PB_FAIL(PB_E_OOM, "no host memory for %lld ranges", (long long)ops);
    PB_TRY(pb_cupti_check_version());
    PB_TRY(pb_cupti_current(&context, &device));
    PB_TRY(pb_device_sync(dev));
    int code = pb_cupti_range_open(context, device, (size_t)r->cap, &r->range, &what);
    PB_TRY(pb_cupti_check(code, what));
    *reader = r;
    r = NULL;
done:
    reader_free(r);
    return status;
}

static pb_status begin_range(counter_reader *r, const char *op) {
    char name[32];
    const char *what = "";
    if (r->n == r->cap)
        return PB_ERROR(PB_E_ENV, "the counted step has more operations than the traced ones (%lld)",
                        (long long)r->cap);
    pb_counted *c = &r->list[r->n];
    *c = (pb_counted){.op = op};
    for (int i = 0; i < PB_SCOPE_COUNT; i++) c->scope[i] = pb_device_scope_name(r->dev, (pb_scope)i);
    snprintf(name, sizeof name, "%lld", (long long)r->n++);
    PB_RETURN(pb_device_sync(r->dev));
    PB_RANGE_CALL(pb_cupti_range_push(r->range, name, &what));
    return PB_OK;
}

static pb_status end_range(counter_reader *r) {
    const char *what = "";
    PB_RETURN(pb_device_sync(r->dev));
    PB_RANGE_CALL(pb_cupti_range_pop(r->range, &what));
    return PB_OK;
}

/* An op inside an op counts for the outer one. After a failure nothing more is pushed. */
static void observe(void *user, const char *op, bool begin, const pb_work *work) {
    counter_reader *r = user;
    pb_status status = PB_OK;
    (void)work;
    if (begin && r->depth++ == 0 && r->failed == PB_OK) status = begin_range(r, op);
    if (!begin && --r->depth == 0 && r->failed == PB_OK) status = end_range(r);
    if (status == PB_OK) return;
    r->failed = status;
    pb_copy(r->message, sizeof r->message, pb_error_message());
}

static pb_status pass_begin(void *reader) {
    counter_reader *r = reader;
    const char *what = "";
    r->n = 0;
    r->depth = 0;
    PB_RETURN(pb_device_sync(r->dev));
    PB_RANGE_CALL(pb_cupti_range_start(r->range, &what));
    pb_device_observe(r->dev, observe, r);
    return PB_OK;
}

static pb_status pass_end(void *reader, bool *again) {
    counter_reader *r = reader;
    const char *what = "";
    bool all = false;
    pb_device_observe(r->dev, NULL, NULL);
    if (r->failed != PB_OK) return PB_ERROR(PB_E_ENV, "%s", r->message);
    PB_RETURN(pb_device_sync(r->dev));
    PB_RANGE_CALL(pb_cupti_range_stop(r->range, &all, &what));
    if (r->passes++ == 0) r->first_n = r->n;
    if (r->n != r->first_n)
        return PB_ERROR(PB_E_ENV, "pass %d had %lld operations, the first one %lld", r->passes,
                        (long long)r->n, (long long)r->first_n);
    *again = !all;
    return PB_OK;
}

/* One range into the op that its name says. */
static pb_status read_range(counter_reader *r, size_t i, unsigned char *seen) {
    const char *name = NULL, *what = "";
    char *end = NULL;
    double values[PB_CUPTI_METRICS] = {0};
    PB_RANGE_CALL(pb_cupti_range_value(r->range, i, &name, values, &what));
    long long op = name != NULL && *name != 0 ? strtoll(name, &end, 10) : -1;
    if (op < 0 || op >= r->n || *end != 0 || seen[op])
        return PB_ERROR(PB_E_ENV, "CUPTI gives a range '%.40s' that nobody asked for", name != NULL ? name : "");
    seen[op] = 1;
    for (int c = 0; c < PB_CUPTI_METRICS; c++) {
        if (!isfinite(values[c]) || values[c] < 0.0)
            return PB_ERROR(PB_E_ENV, "CUPTI gives %g for %s of range %lld", values[c],
                            pb_count_name((pb_count)c), op);
        r->list[op].value[c] = values[c];
    }
    return PB_OK;
}

static pb_status reader_read(void *reader, const pb_counted **list, int64_t *n) {
    pb_status status = PB_OK;
    counter_reader *r = reader;
    size_t ranges = 0, dropped = 0;
    const char *what = "";
    unsigned char *seen = calloc((size_t)r->n + 1, 1);
    if (seen == NULL) PB_FAIL(PB_E_OOM, "no host memory to read counters");
    int code = pb_cupti_range_decode(r->range, &ranges, &dropped, &what);
    PB_TRY(pb_cupti_check(code, what));
    if (dropped > 0 || ranges != (size_t)r->n)
        PB_FAIL(PB_E_ENV, "CUPTI counted %zu of %lld ranges and dropped %zu", ranges, (long long)r->n, dropped);
    for (size_t i = 0; i < ranges; i++) PB_TRY(read_range(r, i, seen));
    *list = r->list;
    *n = r->n;
done:
    free(seen);
    return status;
}

const pb_counter_reader pb_cupti_counter_reader = {.name = "cupti",
                                                   .open = reader_open,
                                                   .pass_begin = pass_begin,
                                                   .pass_end = pass_end,
                                                   .read = reader_read,
                                                   .free = reader_free};
