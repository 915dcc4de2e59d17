/* What the program and the shared object with the CUPTI tracer agree on; opened at run time by tracer_cupti.c. The object
 * finds the program's functions (pb_profile_span, pb_error_set, ...) in the program, which exports them. */
#ifndef PB_HARNESS_PROFILE_CUPTI_PLUGIN_H
#define PB_HARNESS_PROFILE_CUPTI_PLUGIN_H

#include "harness/profile/profile.h"

#define PB_CUPTI_PLUGIN_ABI 4u
#define PB_CUPTI_PLUGIN_SYMBOL "pb_cupti_plugin"
#define PB_CUPTI_PLUGIN_FILE "libpeftbench_cupti.so"

typedef struct pb_cupti_plugin_info {
    uint32_t abi, profile_bytes; /* sizeof(pb_profile): another profile.h is seen here */
    const pb_tracer *tracer;
    const pb_counter_reader *counters;
    const pb_memory_recorder *memory;
} pb_cupti_plugin_info;
const pb_cupti_plugin_info *pb_cupti_plugin(void);

#endif
