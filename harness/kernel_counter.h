/* Instructions that a piece of this thread's code executes: counted by the processor (perf_event),
 * by callgrind, when this process runs under it, or one by one (harness/kernel_step.h). Linux on x86-64; elsewhere nothing can be
 * counted. Test: tests/test_kernel_count.c. */
#ifndef PB_HARNESS_KERNEL_COUNTER_H
#define PB_HARNESS_KERNEL_COUNTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef enum pb_gauge {
    PB_GAUGE_AUTO,      /* perf_event where the machine has it, else callgrind */
    PB_GAUGE_PERF,
    PB_GAUGE_CALLGRIND,
    PB_GAUGE_STEP,
    PB_GAUGES
} pb_gauge;

/* Where callgrind, started by us, puts its counts: the value of its --callgrind-out-file. */
#define PB_CALLGRIND_PART "PB_CALLGRIND_PART"

/* "auto", "perf", "callgrind", "step". */
const char *pb_gauge_name(pb_gauge gauge);

typedef struct pb_counter pb_counter;

/* Can the processor count for us? Else `why` says what refused. */
bool pb_counter_has_perf(char why[160]);
/* Could this build count under callgrind, and does it run there now? */
bool pb_counter_has_callgrind(void);
bool pb_counter_in_callgrind(void);

/* AUTO is not accepted; CALLGRIND only inside it. PB_E_ENV says what is missing. */
pb_status pb_counter_open(pb_gauge gauge, pb_counter **out);
/* Any event of perf_event_open(2), counted in user mode: what PB_GAUGE_PERF does with instructions.
 * Machines without hardware counters still have those of the system. */
pb_status pb_counter_open_event(uint32_t type, uint64_t config, pb_counter **out);
void pb_counter_close(pb_counter *c);

/* Count what this thread executes from start to stop. */
pb_status pb_counter_start(pb_counter *c);
pb_status pb_counter_stop(pb_counter *c, double *count);
/* The gauge and its version, "perf_event", "step" or "callgrind-3.19.0" (that after the first stop). */
const char *pb_counter_name(const pb_counter *c);

#endif
