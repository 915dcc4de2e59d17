/* The profile of a record as a table: where the time of the traced steps went (results/SCHEMA.md, Profile). The names stand
 * in the record's `profile` object, the columns are samples, so that a changed byte is found like any other. */
#ifndef PB_RESULTS_PROFILE_TABLE_H
#define PB_RESULTS_PROFILE_TABLE_H

#include "results/group.h"

typedef enum pb_profile_key {
    PB_KEY_KERNEL,
    PB_KEY_OP,
    PB_KEY_SITE,
    PB_KEY_PART,
    PB_KEY_PHASE,
    PB_KEY_COUNT
} pb_profile_key;
const char *pb_profile_key_name(pb_profile_key key); /* "kernel", "op", ... */

/* What hardware counters count where they were read (columns profile/table/counted_*): the one-pass set of CUPTI's range
 * profiler. */
typedef enum pb_count {
    PB_COUNT_NS,            /* time under the profiler */
    PB_COUNT_DRAM_READ,     /* bytes from and to the GPU's memory */
    PB_COUNT_DRAM_WRITTEN,
    PB_COUNT_L2,            /* bytes that the L2 cache moved */
    PB_COUNT_TENSOR,        /* instructions of the tensor pipe */
    PB_COUNT_TENSOR_CYCLES, /* that the pipe was busy, added over the multiprocessors */
    PB_COUNT_CYCLES,        /* that passed on a multiprocessor */
    PB_COUNT_COUNT
} pb_count;
const char *pb_count_name(pb_count count); /* "dram_read", ... */

/* One row: everything with the same five names, over all traced steps. */
typedef struct pb_profile_line {
    const char *name[PB_KEY_COUNT]; /* point into the record */
    double calls, seconds, flops, flops_else, bytes;
    double counted[PB_COUNT_COUNT]; /* zero when the table has no counters */
} pb_profile_line;

typedef struct pb_profile_table {
    pb_profile_line *lines;
    int64_t n;
    int steps;
    double step_s; /* mean of the traced steps */
    bool counted;  /* there are hardware counters */
} pb_profile_table;

/* PB_OK with n = 0 when the record holds no profile. Needs the samples' values. PB_E_INPUT names the column, line and what
 * was expected: the columns must be equally long, names must exist, calls be whole and at least 1, the rest not negative. */
pb_status pb_profile_table_read(const pb_record *r, pb_profile_table *out);
void pb_profile_table_free(pb_profile_table *t);

/* Time that counts: "load" happens between steps. */
bool pb_profile_in_step(const pb_profile_line *line);
/* "layers.3" of "layers.3.attn.q"; the site itself outside the layers; "-" for none. cap >= 64. */
void pb_profile_layer(const char *site, char *out, size_t cap);

/* Lines added up by one key (or by layer), "load" left out, the largest time first. */
typedef struct pb_profile_sum {
    char name[96]; /* "other" for lines without this name */
    double calls, seconds, flops, flops_else, bytes; /* per step */
    double counted[PB_COUNT_COUNT];                  /* the same */
} pb_profile_sum;
/* Bytes from and to the GPU's memory: counted, or the least traffic where no counters were read. */
double pb_profile_traffic(const pb_profile_sum *s, bool counted);
typedef enum pb_profile_group {
    PB_GROUP_KERNEL,
    PB_GROUP_OP,
    PB_GROUP_SITE,
    PB_GROUP_PART,
    PB_GROUP_PHASE,
    PB_GROUP_LAYER
} pb_profile_group;
/* malloc'ed. */
pb_status pb_profile_sums(const pb_profile_table *t, pb_profile_group by, pb_profile_sum **out, int *n);

/* The mean over a row's finished runs that hold a profile; n_runs 0 and n 0 when none does. Needs the samples' values. */
typedef struct pb_profile_mean {
    pb_profile_sum *sums; /* per step, the largest time first */
    int n, n_runs;
    double step_s;
    bool counted; /* every one of the runs has counters */
} pb_profile_mean;
pb_status pb_profile_row_sums(const pb_row *row, pb_profile_group by, pb_profile_mean *out);
void pb_profile_mean_free(pb_profile_mean *m);
double pb_profile_mean_of(const pb_profile_mean *m, const char *name); /* seconds; 0 when absent */

#endif
