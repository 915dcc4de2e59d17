/* What tests ask of the stand-in for CUPTI: range profiler and host API (cupti_host.cpp), activity API (activity_host.c). */
#ifndef PB_TESTS_PROFILE_CUPTI_HOST_H
#define PB_TESTS_PROFILE_CUPTI_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void pb_cupti_host_reset(void); /* everything as at the start */
uint64_t pb_cupti_host_calls(void);
/* The n-th call from now (1 = the next) gives `code`; 0 = none. */
void pb_cupti_host_fail_at(uint64_t n, int code);
bool pb_cupti_host_failed(void);
int pb_cupti_host_call(void); /* counts a call: 0, or the code that it must give */
/* Profiler initialized, host objects, range profilers, sessions started: what was not given back. */
int64_t pb_cupti_host_live(void);
const char *pb_cupti_host_misuse(void); /* the first call against the order of the headers, "" */

void pb_cupti_host_passes(int n);             /* that the metrics need (1) */
void pb_cupti_host_drop(int n);               /* ranges lost when decoding */
void pb_cupti_host_chip(const char *name);    /* "GH100"; "GB202" has other names for DRAM traffic */
void pb_cupti_host_supported(bool yes);       /* does the device allow profiling? (yes) */
void pb_cupti_host_rename(int range, const char *name); /* decoded under another name; NULL = none */
void pb_cupti_host_spoil(int range, double value);      /* its first value; -1 = none */
void pb_cupti_activity_reset(void);
void pb_cupti_activity_drop(size_t n); /* activity records that the next question says were lost */
int pb_cupti_activity_on(void); /* activity kinds that are enabled */
/* What range number `at` of a pass counts for metric m. */
double pb_cupti_host_value(int64_t at, int m);

#ifdef __cplusplus
}
#endif
#endif
