/* What a GPU does beside a measurement, as its driver's library tells it (NVML, opened at run time): clocks,
 * power, temperature, why the clock is held down, who else computes there. Test:
 * tests/test_gpu_state.c, with a stand-in for the library. */
#ifndef PB_HARNESS_GPU_STATE_H
#define PB_HARNESS_GPU_STATE_H

#include <stdint.h>

#include "base/json.h"
#include "base/text.h"

typedef struct pb_gpu_report {
    int64_t looks;                  /* 0: nothing else is known */
    double sm_mhz_least, sm_mhz_most; /* clock of the multiprocessors; NaN when not told, as all below */
    double sm_mhz_limit;            /* the highest that the GPU has */
    double memory_mhz_least, memory_mhz_most;
    double watts_most, watts_limit; /* drawn; enforced */
    double celsius_most;
    uint64_t reasons;               /* of clocks held down: every bit that a look saw, as NVML numbers them */
    int64_t processes_most;         /* that compute there, this one too; -1 = not told */
    char driver[32];                /* version, "" = not told */
} pb_gpu_report;

typedef struct pb_gpu_watch pb_gpu_watch;

/* library: NULL = $PB_NVML, else libnvidia-ml.so.1. bus: "0000:18:00.0", or "" for the only GPU; PB_E_ENV
 * without the library, the GPU, or with several and no bus. */
pb_status pb_gpu_watch_open(const char *library, const char *bus, pb_gpu_watch **out);
void pb_gpu_watch_close(pb_gpu_watch *w); /* NULL is fine */

/* The multiprocessors' clock now, in Hz, also noted; NaN when it is not told. */
double pb_gpu_watch_clock_hz(pb_gpu_watch *w);
/* Everything, now; for right after a kernel's samples. */
void pb_gpu_watch_look(pb_gpu_watch *w);
/* What was seen since the last call, or since it was opened. */
pb_gpu_report pb_gpu_watch_report(pb_gpu_watch *w);

pb_gpu_report pb_gpu_report_none(void);
/* {"sm_mhz_least": 1980, ..., "clocks_held_for": ["power cap"]}; what is not known is left out. */
pb_status pb_gpu_report_json(const pb_gpu_report *r, pb_json *o);
/* Adds what such an object says. PB_E_INPUT names what is not as it should be. */
pb_status pb_gpu_report_add(const pb_json *o, const char *where, pb_gpu_report *sum);
/* A line for everything that makes times of that GPU differ, with what helps. */
void pb_gpu_advice(const pb_gpu_report *r, pb_text *lines);

#endif
