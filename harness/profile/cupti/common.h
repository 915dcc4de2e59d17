/* What the files of the CUPTI plug-in share. */
#ifndef PB_HARNESS_PROFILE_CUPTI_COMMON_H
#define PB_HARNESS_PROFILE_CUPTI_COMMON_H

#include "harness/profile/profile.h"

/* PB_E_ENV with the call, CUPTI's words for the code and, where there is one, the remedy. */
pb_status pb_cupti_check(int code, const char *call);
/* PB_E_ENV when another minor version is loaded than this was built for: structs grow, and would be read wrongly. */
pb_status pb_cupti_check_version(void);

/* The driver that the program has loaded already (driver.c). PB_E_ENV without one, or without a context in this thread. */
pb_status pb_cupti_current(void **context, int *device);
/* Of the whole device; false without a driver. */
bool pb_cupti_device_memory(uint64_t *used, uint64_t *capacity);

/* Hardware counters (counters.c). */
extern const pb_counter_reader pb_cupti_counter_reader;
/* Records of every allocation (memory.c). */
extern const pb_memory_recorder pb_cupti_memory_recorder;

#endif
