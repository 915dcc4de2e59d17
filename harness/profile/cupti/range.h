/* CUPTI's range profiler and its host API behind a C API: cupti_profiler_host.h includes <string>, so its one user is range.cpp.
 *
 * Ranges are named by the caller (user range), and the caller runs everything again when one pass is not enough (user replay):
 * a training step can be run again, and nothing of it has to be saved and restored. Every function returns 0 or CUPTI's code;
 * *what is then the call that failed. Nothing throws. */
#ifndef PB_HARNESS_PROFILE_CUPTI_RANGE_H
#define PB_HARNESS_PROFILE_CUPTI_RANGE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a roofline needs in one pass: time, DRAM and L2 traffic, tensor pipe, cycles; in the order of pb_count. Chips of
 * compute capability 12 have other names for DRAM traffic: sets are tried in order. NULL-terminated lists, and list of lists. */
#define PB_CUPTI_METRICS 7
extern const char *const *const pb_cupti_roofline_sets[];

/* How many passes a roofline set needs on a chip ("GH100"), and which set that was; no GPU is needed. */
int pb_cupti_passes(const char *chip, size_t *passes, size_t *set, const char **what);
/* The chips that this CUPTI knows, n <= cap copied (static storage). */
int pb_cupti_chips(const char **names, size_t cap, size_t *n, const char **what);

/* Counting on one device. */
typedef struct pb_cupti_range pb_cupti_range;

/* context: the CUcontext in which everything runs; up to n_ranges ranges in a pass. *out is NULL when it fails. */
int pb_cupti_range_open(void *context, int device, size_t n_ranges, pb_cupti_range **out, const char **what);
int pb_cupti_range_start(pb_cupti_range *r, const char **what);
int pb_cupti_range_push(pb_cupti_range *r, const char *name, const char **what);
int pb_cupti_range_pop(pb_cupti_range *r, const char **what);
/* *all: every pass has been run. */
int pb_cupti_range_stop(pb_cupti_range *r, bool *all, const char **what);
/* After the last pass: *n ranges are there, *dropped were lost. */
int pb_cupti_range_decode(pb_cupti_range *r, size_t *n, size_t *dropped, const char **what);
/* Range i < n: its name (CUPTI's; until close) and values[PB_CUPTI_METRICS]. */
int pb_cupti_range_value(pb_cupti_range *r, size_t i, const char **name, double *values, const char **what);
void pb_cupti_range_close(pb_cupti_range *r); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
