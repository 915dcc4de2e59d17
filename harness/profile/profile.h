/* Where the time of training steps goes: spans of device time, each with the kernel, op, site, part and phase it belongs to.
 *
 * A tracer fills a pb_profile while it watches a device; there are three: none, host (events around every op, on any
 * device) and CUPTI (every kernel, copy and fill of a GPU, through the plug-in). Everything behind it is one: rows, the
 * record, the Chrome trace. Tracing is a pass of its own, after timing and after the memory was measured.
 * Test: tests/test_profile.c. */
#ifndef PB_HARNESS_PROFILE_PROFILE_H
#define PB_HARNESS_PROFILE_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/core/device.h"
#include "results/profile_table.h"
#include "results/record.h"

/* What a span can be asked for. Order and names as in the record's table (results/SCHEMA.md). */
typedef enum pb_by {
    PB_BY_KERNEL, /* "linear (onednn)"; on a GPU the kernel's own name */
    PB_BY_OP,     /* "linear", "copy"; "" = launched outside every op */
    PB_BY_SITE,   /* "layers.3.attn.q" */
    PB_BY_PART,   /* "base_product", "low_rank" */
    PB_BY_PHASE,  /* "forward", "backward", "optimizer"; "load" is no part of a step's time */
    PB_BY_COUNT
} pb_by;
const char *pb_by_name(pb_by by);

/* Distinct names in the order of their first use. */
typedef struct pb_names {
    char **name;
    int n, cap;
} pb_names;

typedef struct pb_span {
    int name[PB_BY_COUNT]; /* indices into the profile's names */
    int step;              /* which traced step, from 0 */
    int64_t op;            /* which op of the step, from 0; -1 = launched outside every op */
    double start_ns, ns;   /* from the start of the trace */
    pb_work work;          /* analytic; of an op with several kernels each has its share by time */
    double counted[PB_COUNT_COUNT]; /* of the op in the counted step, shared in the same way */
} pb_span;

/* Hardware counters of a step like the traced ones; most machines refuse them: then the reason says why. */
typedef struct pb_counters {
    bool available;
    char reason[256];
    int64_t ranges;  /* operations counted */
    int passes;      /* how often the step ran for them */
} pb_counters;

/* What the device's own records say about memory (CUPTI); zero elsewhere. */
typedef struct pb_device_memory {
    bool known;
    uint64_t peak;           /* highest sum of allocations made while tracing: 0 in a steady step */
    uint64_t used, capacity; /* the whole device's, as the driver says */
    uint64_t arenas;         /* what the arenas held then, for comparison */
} pb_device_memory;

/* Every allocation of a process that takes the run's memory and a few steps, from CUPTI's records since before the device was
 * opened; beside it what the arenas and the driver say. Bytes. */
typedef struct pb_memory_seen {
    bool known;
    char reason[256]; /* why not */
    uint64_t records, dropped;
    uint64_t seen[PB_MEM_COUNT];   /* recorded allocations that are blocks of this arena */
    uint64_t blocks[PB_MEM_COUNT]; /* the same blocks as the arena knows them: must be equal */
    uint64_t taken[PB_MEM_COUNT];  /* the arena's peak: what of its blocks was handed out */
    uint64_t other;                /* device memory of no arena: what the libraries allocate for themselves */
    uint64_t peak;                 /* highest sum of all device memory */
    uint64_t used, capacity;       /* the whole device's, as the driver says; 0 = unknown */
} pb_memory_seen;

enum { PB_UNTRACED = 5 };

typedef struct pb_profile {
    char tracer[16]; /* "none", "host", "cupti" */
    pb_names names[PB_BY_COUNT];
    pb_span *spans;
    int64_t n_spans, cap_spans;
    int64_t ops_in_step;                    /* the most that a traced step had */
    int steps;                              /* traced so far */
    double *step_s;                         /* [steps] */
    double untraced_s[PB_UNTRACED];         /* the same step just before, without a tracer, as it is timed otherwise */
    int untraced;                           /* how often; 0 = it was not */
    uint64_t records, dropped, no_time;     /* of the tracer; host: one record per span */
    double overhead_s;                      /* that the tracer says it cost */
    pb_counters counters;
    pb_device_memory memory;
    pb_memory_seen memory_seen; /* of the memory pass, filled by whoever ran it */
} pb_profile;

void pb_profile_free(pb_profile *p);
/* The index of a name, added when it is new; -1 when memory ran out. */
int pb_profile_name(pb_profile *p, pb_by by, const char *name);
pb_status pb_profile_span(pb_profile *p, const pb_span *span);
/* Ends traced step number p->steps. */
pb_status pb_profile_step(pb_profile *p, double seconds);

/* --- rows ---------------------------------------------------------------------------------------------------------- */

/* All spans with the same names, added up. */
typedef struct pb_profile_row {
    int name[PB_BY_COUNT];
    int64_t calls;
    double seconds;
    pb_work work;
    double counted[PB_COUNT_COUNT];
} pb_profile_row;
/* In the order of first appearance; malloc'ed. */
pb_status pb_profile_rows(const pb_profile *p, pb_profile_row **rows, int64_t *n);

/* Seconds in which at least one span ran, "load" left out: spans may overlap on a GPU. */
pb_status pb_profile_busy(const pb_profile *p, double *seconds);
/* Seconds of all spans of an op over all traced steps. */
double pb_profile_op_seconds(const pb_profile *p, const char *op);

/* --- tracers ------------------------------------------------------------------------------------------------------- */

typedef struct pb_tracer {
    const char *name;
    /* PB_E_ENV, with the reason, when it cannot run here. The profile is zero and outlives the trace. */
    pb_status (*begin)(pb_device *dev, pb_profile *profile, void **trace);
    /* Waits for the device and turns what was seen into spans; frees the trace also when it fails. */
    pb_status (*end)(void *trace);
} pb_tracer;
extern const pb_tracer pb_tracer_none, pb_tracer_host, pb_tracer_cupti;

/* CUPTI on "cuda" where it works, else host. *why_not (may be NULL): why not CUPTI, "" when it is. */
pb_status pb_trace_begin(pb_device *dev, pb_profile *profile, const pb_tracer **tracer, void **trace, char why_not[256]);

/* --- counters ------------------------------------------------------------------------------------------------------ */

/* An op of the counted step, in the order in which they were enqueued. */
typedef struct pb_counted {
    const char *op, *scope[PB_SCOPE_COUNT]; /* as the device gave them */
    double value[PB_COUNT_COUNT];
} pb_counted;
/* Gives every traced op what its counterpart counted. PB_E_ENV when the steps are not made of the same ops: nothing is
 * attributed then. */
pb_status pb_profile_count(pb_profile *p, const pb_counted *list, int64_t n);

/* Reads counters while a step runs, once per pass. Every function but free may fail with PB_E_ENV and the reason. */
typedef struct pb_counter_reader {
    const char *name;
    pb_status (*open)(pb_device *dev, int64_t ops_in_step, void **reader);
    pb_status (*pass_begin)(void *reader);
    /* *again: the counters need the same step once more. */
    pb_status (*pass_end)(void *reader, bool *again);
    /* What was counted, `n` ops; belongs to the reader. */
    pb_status (*read)(void *reader, const pb_counted **list, int64_t *n);
    void (*free)(void *reader); /* NULL is fine */
} pb_counter_reader;
/* CUPTI's, of the plug-in; PB_E_ENV and why when there is none or the device is no GPU. */
pb_status pb_counter_reader_find(pb_device *dev, const pb_counter_reader **out);

/* One more step under the reader, as often as it asks; `step` enqueues it. Counters that cannot be had are no error: the
 * profile then holds the reason. Only `step`'s own failure is returned. */
pb_status pb_profile_count_step(pb_profile *p, pb_device *dev, const pb_counter_reader *reader,
                                pb_status (*step)(void *user), void *user);

/* --- memory -------------------------------------------------------------------------------------------------------- */

typedef struct pb_memory_recorder {
    const char *name;
    /* Before the device is opened. PB_E_ENV, with the reason, when it cannot run here. */
    pb_status (*begin)(void **recorder);
    /* While the device is still open; fills all of `out` but taken[]. Frees the recorder also when it fails; dev NULL: only
     * that. */
    pb_status (*end)(void *recorder, pb_device *dev, pb_memory_seen *out);
} pb_memory_recorder;
/* CUPTI's, of the plug-in; PB_E_ENV and why when there is none. */
pb_status pb_memory_recorder_find(const pb_memory_recorder **out);

/* Runs `pass` in a process of its own (what a profiler does to a process stays with it), which must not have opened a GPU yet.
 * Whatever happens there, a crash or `limit_s` seconds without an end included, is a reason in `out`; PB_E_INTERRUPTED when
 * *stop became non-zero (NULL = never). */
pb_status pb_memory_pass(pb_status (*pass)(void *user, pb_memory_seen *out), void *user, int limit_s,
                         const volatile int *stop, pb_memory_seen *out);

/* --- what becomes of it -------------------------------------------------------------------------------------------- */

/* Metrics (profile/...), and with `table` the samples profile/table/... and the record's `profile` object. */
pb_status pb_profile_record(const pb_profile *p, bool table, pb_record *r);
/* Chrome's trace format (chrome://tracing, ui.perfetto.dev), written atomically. */
pb_status pb_profile_trace_json(const pb_profile *p, const char *path);

/* Measured on this device: bytes/s of y = x over arrays that fit no cache, FLOP/s of a large product in `dtype`; the best of
 * some repetitions. Needs workspace memory. */
typedef struct pb_roofs {
    double bytes_per_s[8], flops_per_s[8];
    int n;
} pb_roofs;
pb_status pb_roofs_measure(pb_device *dev, pb_dtype dtype, pb_roofs *out);
pb_status pb_roofs_record(const pb_roofs *roofs, pb_record *r);

#endif
