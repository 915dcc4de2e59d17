/* Parsing and attribution of activity records. Structs of the CUDA 13 headers. Test: tests/test_cupti.c. */
#include "harness/profile/cupti/activity.h"

#include <cupti.h>
#include <stdlib.h>
#include <string.h>

#include "harness/profile/cupti/names.h"

static void *grown(void *array, int64_t n, int64_t *cap, size_t size) {
    if (n < *cap) return array;
    int64_t more = *cap > 0 ? 2 * *cap : 256;
    void *bigger = realloc(array, (size_t)more * size);
    if (bigger != NULL) *cap = more;
    return bigger;
}

void pb_cupti_log_free(pb_cupti_log *log) {
    for (int64_t i = 0; i < log->n_runs; i++) free(log->runs[i].name);
    free(log->runs);
    free(log->links);
    free(log->memory);
    *log = (pb_cupti_log){0};
}

/* --- records --- */

static pb_status add_run(pb_cupti_log *log, const char *name, uint64_t start_ns, uint64_t end_ns,
                         uint32_t correlation) {
    if (start_ns == 0 && end_ns == 0) { /* CUPTI's way to say that it has no times */
        log->no_time++;
        return PB_OK;
    }
    pb_cupti_run *bigger = grown(log->runs, log->n_runs, &log->cap_runs, sizeof *bigger);
    if (bigger == NULL) return PB_ERROR(PB_E_OOM, "no host memory for the trace");
    log->runs = bigger;
    char *own = pb_cupti_demangled(name);
    if (own == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a kernel's name");
    if (end_ns < start_ns) end_ns = start_ns;
    log->runs[log->n_runs++] = (pb_cupti_run){own, start_ns, end_ns, correlation};
    return PB_OK;
}

static const char *copy_name(uint8_t kind) {
    if (kind == CUPTI_ACTIVITY_MEMCPY_KIND_HTOD) return "copy host to device";
    if (kind == CUPTI_ACTIVITY_MEMCPY_KIND_DTOH) return "copy device to host";
    return "copy on device";
}

static pb_status add_link(pb_cupti_log *log, const CUpti_ActivityExternalCorrelation *e) {
    if (e->externalKind != CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0) return PB_OK;
    pb_cupti_link *bigger = grown(log->links, log->n_links, &log->cap_links, sizeof *bigger);
    if (bigger == NULL) return PB_ERROR(PB_E_OOM, "no host memory for the trace");
    log->links = bigger;
    log->links[log->n_links++] = (pb_cupti_link){e->correlationId, e->externalId};
    return PB_OK;
}

static pb_status add_memory(pb_cupti_log *log, const CUpti_ActivityMemory4 *m) {
    bool taken = m->memoryOperationType == CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_ALLOCATION;
    if (!taken && m->memoryOperationType != CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_RELEASE) return PB_OK;
    pb_cupti_memory *bigger = grown(log->memory, log->n_memory, &log->cap_memory, sizeof *bigger);
    if (bigger == NULL) return PB_ERROR(PB_E_OOM, "no host memory for the trace");
    log->memory = bigger;
    log->memory[log->n_memory] = (pb_cupti_memory){.address = m->address,
                                                   .bytes = taken ? m->bytes : 0,
                                                   .at_ns = m->timestamp,
                                                   .order = log->n_memory,
                                                   .taken = taken,
                                                   .device = m->memoryKind == CUPTI_ACTIVITY_MEMORY_KIND_DEVICE};
    log->n_memory++;
    return PB_OK;
}

static pb_status add_record(pb_cupti_log *log, CUpti_Activity *record) {
    log->records++;
    switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
        const CUpti_ActivityKernel10 *k = (const void *)record;
        return add_run(log, k->name != NULL ? k->name : "kernel without a name", k->start, k->end,
                       k->correlationId);
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
        const CUpti_ActivityMemcpy6 *m = (const void *)record;
        return add_run(log, copy_name(m->copyKind), m->start, m->end, m->correlationId);
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
        const CUpti_ActivityMemset4 *m = (const void *)record;
        return add_run(log, "fill", m->start, m->end, m->correlationId);
    }
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION:
        return add_link(log, (const void *)record);
    case CUPTI_ACTIVITY_KIND_MEMORY2:
        return add_memory(log, (const void *)record);
    case CUPTI_ACTIVITY_KIND_RUNTIME: /* asked for because of the links in front of them */
    case CUPTI_ACTIVITY_KIND_DRIVER: return PB_OK;
    case CUPTI_ACTIVITY_KIND_OVERHEAD: {
        const CUpti_ActivityOverhead3 *o = (const void *)record;
        if (o->end > o->start) log->overhead_ns += o->end - o->start;
        return PB_OK;
    }
    default:
        log->unknown++;
        return PB_OK;
    }
}

pb_status pb_cupti_parse(pb_cupti_log *log, uint8_t *buffer, size_t bytes) {
    CUpti_Activity *record = NULL;
    if (bytes == 0) return PB_OK;
    for (;;) {
        CUptiResult rc = cuptiActivityGetNextRecord(buffer, bytes, &record);
        if (rc == CUPTI_ERROR_MAX_LIMIT_REACHED) return PB_OK;
        if (rc != CUPTI_SUCCESS)
            return PB_ERROR(PB_E_ENV, "CUPTI cannot read an activity buffer of %zu bytes: error %d",
                            bytes, (int)rc);
        PB_RETURN(add_record(log, record));
    }
}

/* --- attribution --- */

static int by_correlation(const void *a, const void *b) {
    const pb_cupti_link *x = a, *y = b;
    return (x->correlation > y->correlation) - (x->correlation < y->correlation);
}

static int by_start(const void *a, const void *b) {
    const pb_cupti_run *x = a, *y = b;
    if (x->start_ns != y->start_ns) return x->start_ns < y->start_ns ? -1 : 1;
    return (x->correlation > y->correlation) - (x->correlation < y->correlation);
}

/* Index of the op that launched it, -1 for none. */
static int64_t op_of(const pb_cupti_log *log, const pb_cupti_run *run, int64_t n_ops) {
    pb_cupti_link key = {.correlation = run->correlation};
    const pb_cupti_link *found = NULL;
    if (log->n_links > 0)
        found = bsearch(&key, log->links, (size_t)log->n_links, sizeof key, by_correlation);
    if (found == NULL || found->external < 1 || found->external > (uint64_t)n_ops) return -1;
    return (int64_t)found->external - 1;
}

static pb_status add_span(pb_profile *p, const pb_cupti_run *run, const pb_cupti_op *op,
                          double share, double start_ns, int step) {
    const char *const names[PB_BY_COUNT] = {
        run->name, op != NULL ? op->op : "", op != NULL ? op->scope[PB_SCOPE_SITE] : "",
        op != NULL ? op->scope[PB_SCOPE_PART] : "", op != NULL ? op->scope[PB_SCOPE_PHASE] : ""};
    pb_span span = {.step = step,
                    .op = op != NULL ? op->at : -1,
                    .start_ns = start_ns,
                    .ns = (double)(run->end_ns - run->start_ns)};
    for (int by = 0; by < PB_BY_COUNT; by++) {
        span.name[by] = pb_profile_name(p, (pb_by)by, names[by]);
        if (span.name[by] < 0) return PB_ERROR(PB_E_OOM, "no host memory for a name");
    }
    if (op != NULL) {
        span.work.flops = op->work.flops * share;
        span.work.flops_else = op->work.flops_else * share;
        span.work.bytes = op->work.bytes * share;
    }
    return pb_profile_span(p, &span);
}

pb_status pb_cupti_spans(pb_cupti_log *log, const pb_cupti_op *ops, int64_t n_ops, pb_profile *p) {
    pb_status status = PB_OK;
    int step = 0;
    double *total = calloc((size_t)n_ops + 1, sizeof *total), *count = calloc((size_t)n_ops + 1, sizeof *count);
    if (total == NULL || count == NULL) PB_FAIL(PB_E_OOM, "no host memory for %lld ops", (long long)n_ops);
    if (log->n_links > 0)
        qsort(log->links, (size_t)log->n_links, sizeof *log->links, by_correlation);
    if (log->n_runs > 0) qsort(log->runs, (size_t)log->n_runs, sizeof *log->runs, by_start);
    for (int64_t i = 0; i < log->n_runs; i++) {
        int64_t op = op_of(log, &log->runs[i], n_ops);
        if (op < 0) continue;
        total[op] += (double)(log->runs[i].end_ns - log->runs[i].start_ns);
        count[op] += 1.0;
    }
    for (int64_t i = 0; i < log->n_runs; i++) {
        const pb_cupti_run *run = &log->runs[i];
        int64_t op = op_of(log, run, n_ops);
        double share = 0.0;
        if (op >= 0) {
            step = ops[op].step;
            share = total[op] > 0.0 ? (double)(run->end_ns - run->start_ns) / total[op] : 1.0 / count[op];
        }
        PB_TRY(add_span(p, run, op >= 0 ? &ops[op] : NULL, share,
                        (double)(run->start_ns - log->runs[0].start_ns), step));
    }
    for (int64_t i = 0; i < n_ops; i++)
        if (ops[i].at >= p->ops_in_step) p->ops_in_step = ops[i].at + 1;
    p->records = log->records;
    p->no_time = log->no_time;
    p->overhead_s = (double)log->overhead_ns * 1e-9;
done:
    free(total);
    free(count);
    return status;
}
