/* Device memory by purpose from CUPTI's records: an allocation belongs to the arena that has a block at its address, every
 * other one to the libraries. Tests: tests/profile/test_cupti.c. */
#include <cupti.h>
#include <stdlib.h>

#include "harness/profile/cupti/activity.h"
#include "harness/profile/cupti/buffers.h"
#include "harness/profile/cupti/common.h"

/* --- adding up --- */

static int by_time(const void *a, const void *b) {
    const pb_cupti_memory *x = a, *y = b;
    if (x->at_ns != y->at_ns) return x->at_ns < y->at_ns ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* The arena of a live allocation; PB_MEM_COUNT for none. */
static pb_mem owner(const pb_cupti_memory *m, const pb_cupti_block *blocks, int n) {
    for (int i = 0; i < n; i++)
        if (blocks[i].address == m->address) return blocks[i].mem;
    return PB_MEM_COUNT;
}

/* live[] holds what was taken and not given back yet. */
static void give_back(pb_cupti_memory *live, int64_t *n_live, uint64_t address, uint64_t *now) {
    for (int64_t i = *n_live - 1; i >= 0; i--) {
        if (live[i].address != address) continue;
        if (live[i].device) *now -= live[i].bytes;
        live[i] = live[--*n_live];
        return;
    } /* taken before the records began */
}

pb_status pb_cupti_memory_totals(pb_cupti_log *log, const pb_cupti_block *blocks, int n_blocks, pb_memory_seen *out) {
    uint64_t now = 0;
    int64_t n_live = 0;
    pb_cupti_memory *live = calloc((size_t)log->n_memory + 1, sizeof *live);
    if (live == NULL) return PB_ERROR(PB_E_OOM, "no host memory for %lld allocations", (long long)log->n_memory);
    if (log->n_memory > 0) qsort(log->memory, (size_t)log->n_memory, sizeof *log->memory, by_time);
    for (int64_t i = 0; i < log->n_memory; i++) {
        const pb_cupti_memory *m = &log->memory[i];
        if (!m->taken) {
            give_back(live, &n_live, m->address, &now);
            continue;
        }
        live[n_live++] = *m;
        if (m->device) now += m->bytes;
        if (now > out->peak) out->peak = now;
    }
    for (int64_t i = 0; i < n_live; i++) {
        pb_mem mem = owner(&live[i], blocks, n_blocks);
        if (mem != PB_MEM_COUNT) out->seen[mem] += live[i].bytes;
        else if (live[i].device) out->other += live[i].bytes;
    }
    free(live);
    return PB_OK;
}

/* --- the recorder --- */

typedef struct recorder {
    bool on;
} recorder;

static pb_status memory_begin(void **out) {
    pb_status status = PB_OK;
    recorder *r = calloc(1, sizeof *r);
    *out = NULL;
    if (r == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a recorder");
    PB_TRY(pb_cupti_check_version());
    PB_TRY(pb_cupti_buffers_register());
    PB_TRY(pb_cupti_check(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMORY2), "cuptiActivityEnable"));
    r->on = true;
    *out = r;
    r = NULL;
done:
    free(r);
    return status;
}

static pb_status list_blocks(const pb_device *dev, pb_cupti_block **out, int *n, pb_memory_seen *seen) {
    const void *data = NULL;
    uint64_t bytes = 0;
    *n = 0;
    for (int m = 0; m < PB_MEM_COUNT; m++)
        for (int i = 0; pb_device_block(dev, (pb_mem)m, i, &data, &bytes); i++) ++*n;
    *out = calloc((size_t)*n + 1, sizeof **out);
    if (*out == NULL) return PB_ERROR(PB_E_OOM, "no host memory for %d blocks", *n);
    *n = 0;
    for (int m = 0; m < PB_MEM_COUNT; m++)
        for (int i = 0; pb_device_block(dev, (pb_mem)m, i, &data, &bytes); i++) {
            (*out)[(*n)++] = (pb_cupti_block){.address = (uint64_t)(uintptr_t)data, .bytes = bytes, .mem = (pb_mem)m};
            seen->blocks[m] += bytes;
        }
    return PB_OK;
}

static pb_status memory_end(void *of, pb_device *dev, pb_memory_seen *out) {
    pb_status status = PB_OK;
    recorder *r = of;
    pb_cupti_log log = {0};
    pb_cupti_buffer *list = NULL;
    pb_cupti_block *blocks = NULL;
    int n = 0;
    if (dev == NULL) goto done;
    PB_TRY(pb_device_sync(dev));
    PB_TRY(pb_cupti_check(cuptiActivityFlushAll(1), "cuptiActivityFlushAll"));
    list = pb_cupti_buffers_take();
    for (pb_cupti_buffer *b = list; b != NULL; b = b->next) PB_TRY(pb_cupti_parse(&log, b->data, b->valid));
    PB_TRY(list_blocks(dev, &blocks, &n, out));
    PB_TRY(pb_cupti_memory_totals(&log, blocks, n, out));
    out->records = log.records;
    out->dropped = pb_cupti_buffers_dropped();
    if (!pb_cupti_device_memory(&out->used, &out->capacity)) out->used = out->capacity = 0;
    out->known = true;
done:
    if (r->on) (void)cuptiActivityDisable(CUPTI_ACTIVITY_KIND_MEMORY2);
    free(blocks);
    pb_cupti_buffers_free(list);
    pb_cupti_log_free(&log);
    free(r);
    return status;
}

const pb_memory_recorder pb_cupti_memory_recorder = {.name = "cupti", .begin = memory_begin, .end = memory_end};
