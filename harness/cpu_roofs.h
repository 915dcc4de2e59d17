/* The roofs of this machine's CPU, measured: what single kernels are compared with, and the anchors by
 * which two saved runs know that the machine is still the same. Not the roofs of a traced step
 * (harness/profile/roofs.c): those are what this program's own kernels reach on any device, and what
 * is under test here must not be its own measure. */
#ifndef PB_HARNESS_CPU_ROOFS_H
#define PB_HARNESS_CPU_ROOFS_H

#include "kernels/core/device.h"

#define PB_ROOF_SAMPLES 7

typedef struct pb_cpu_roofs {
    double samples_s[3][PB_ROOF_SAMPLES]; /* the copy, the library's product in f32 and in bf16 */
    double bytes_per_s;    /* 2 copy_bytes / median: what is read and what is written */
    double flops_per_s[2]; /* f32, bf16 */
    int64_t copy_bytes, side;
} pb_cpu_roofs;

/* Bytes of the last-level cache that the system names; 32 MiB when it names none. */
int64_t pb_last_cache_bytes(void);

/* A copy by memcpy, one slice a thread, between two buffers that together hold twice the last-level
 * cache (64 MiB to 1 GiB each), and square products of the library with side 1024 (2048 from 9
 * threads on). Rates are of the median sample, after a warm-up. threads 0 = all cores. */
pb_status pb_cpu_roofs_measure(int threads, pb_cpu_roofs *out);

#endif
