/* CUPTI's range profiler behind a C API: cupti_profiler_host.h includes <string>, so its one user is counters.cpp. */
#ifndef PB_HARNESS_PROFILE_CUPTI_COUNTERS_H
#define PB_HARNESS_PROFILE_CUPTI_COUNTERS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a roofline needs in one pass on GH100: time, DRAM and L2 traffic, tensor pipe, cycles. NULL-terminated. */
extern const char *const pb_cupti_roofline_metrics[];

/* How many passes the metrics need on a chip ("GH100"); no GPU is needed. 0 = fine, else CUPTI's error code; `what` gets the
 * call that failed. */
int pb_cupti_passes(const char *chip, const char *const *metrics, size_t n, size_t *passes, const char **what);
/* The chips that this CUPTI knows, n <= cap copied (static storage). 0 or CUPTI's error code. */
int pb_cupti_chips(const char **names, size_t cap, size_t *n);

/* Whether counters may be read on this process's device: 0, or CUPTI's error code; `why`: one line with the remedy. */
int pb_cupti_counters_allowed(char *why, size_t cap);

/* "norm_fwd<float>" of a mangled name, without its parameters; malloc'ed. */
char *pb_cupti_demangled(const char *name);

#ifdef __cplusplus
}
#endif
#endif
