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

/* One row: everything with the same five names, over all traced steps. */
typedef struct pb_profile_line {
    const char *name[PB_KEY_COUNT]; /* point into the record */
    double calls, seconds, flops, flops_else, bytes;
} pb_profile_line;

typedef struct pb_profile_table {
    pb_profile_line *lines;
    int64_t n;
    int steps;
    double step_s; /* mean of the traced steps */
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
} pb_profile_sum;
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
} pb_profile_mean;
pb_status pb_profile_row_sums(const pb_row *row, pb_profile_group by, pb_profile_mean *out);
void pb_profile_mean_free(pb_profile_mean *m);
double pb_profile_mean_of(const pb_profile_mean *m, const char *name); /* seconds; 0 when absent */

#endif
