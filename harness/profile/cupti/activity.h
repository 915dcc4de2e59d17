/* CUPTI's activity records into spans: no call into a driver, so that canned buffers test it. Private to the plug-in.
 *
 * A record is tied to the op that launched it by its correlation id, and that to the op's number by an external correlation
 * record (number pushed before the op, popped behind it). CUPTI puts those in front of records of API calls, so that calls are
 * recorded too. */
#ifndef PB_HARNESS_PROFILE_CUPTI_ACTIVITY_H
#define PB_HARNESS_PROFILE_CUPTI_ACTIVITY_H

#include "harness/profile/profile.h"

/* An op as the observer saw it; its external id is its index + 1. */
typedef struct pb_cupti_op {
    const char *op, *scope[PB_SCOPE_COUNT];
    pb_work work;
    int step;
    int64_t at; /* in its step, from 0 */
} pb_cupti_op;

/* Something that ran on the device. */
typedef struct pb_cupti_run {
    char *name; /* owned */
    uint64_t start_ns, end_ns;
    uint32_t correlation;
} pb_cupti_run;

typedef struct pb_cupti_link {
    uint32_t correlation;
    uint64_t external;
} pb_cupti_link;

/* An allocation, or its end (bytes 0 then). */
typedef struct pb_cupti_memory {
    uint64_t address, bytes, at_ns;
    int64_t order; /* of the records, for equal times */
    bool taken, device; /* device: in the GPU's own memory */
} pb_cupti_memory;

typedef struct pb_cupti_log {
    pb_cupti_run *runs;
    pb_cupti_link *links;
    pb_cupti_memory *memory;
    int64_t n_runs, cap_runs, n_links, cap_links, n_memory, cap_memory;
    uint64_t records, no_time, unknown; /* unknown: kinds that nobody asked for */
    uint64_t overhead_ns;
} pb_cupti_log;

/* Adds every record of a buffer of `bytes` valid bytes. PB_E_ENV when CUPTI cannot read it. */
pb_status pb_cupti_parse(pb_cupti_log *log, uint8_t *buffer, size_t bytes);
/* Spans in the order of their start, counted from the first; an op's work is shared among its runs by time. */
pb_status pb_cupti_spans(pb_cupti_log *log, const pb_cupti_op *ops, int64_t n_ops, pb_profile *profile);
/* A block of an arena, as the device knows it. */
typedef struct pb_cupti_block {
    uint64_t address, bytes;
    pb_mem mem;
} pb_cupti_block;
/* Adds the memory records up in the order of their times: seen[], other, peak, and unmatched blocks. Sorts the log's list. */
pb_status pb_cupti_memory_totals(pb_cupti_log *log, const pb_cupti_block *blocks, int n_blocks, pb_memory_seen *out);
void pb_cupti_log_free(pb_cupti_log *log);

#endif
