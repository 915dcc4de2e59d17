/* The roofs of this machine's CPU, measured: what single kernels are compared with, and the anchors by
 * which two saved runs know that the machine is still the same. Not the roofs of a traced step
 * (harness/profile/roofs.c): those are what this program's own kernels reach on any device, and what
 * is under test here must not be its own measure. Test: tests/test_kernel_stored.c. */
#ifndef PB_HARNESS_CPU_ROOFS_H
#define PB_HARNESS_CPU_ROOFS_H

#include "kernels/core/device.h"

#define PB_ROOF_SAMPLES 7

/* Of a CPU, or of a device with a queue of its own (no vector units, no caches there). */
typedef struct pb_cpu_roofs {
    double samples_s[3][PB_ROOF_SAMPLES]; /* the copy, the library's product in f32 and in bf16 */
    bool measured[3];      /* false for a product that the library does not have on this CPU */
    double bytes_per_s;    /* 2 copy_bytes / least: what is read and what is written; 0 = none */
    double flops_per_s[2]; /* f32, bf16 */
    double ops_per_s;      /* f32 operations of the vector units, a multiply-add is one */
    int64_t copy_bytes, side;
    bool streams; /* the copy's stores go past the caches: that was the faster of the two ways */
} pb_cpu_roofs;

/* Bytes of all last-level caches that the system names, each once; 32 MiB when it names none. The
 * folder is /sys/devices/system/cpu, or NULL for it. */
int64_t pb_last_cache_bytes(const char *folder);

/* A copy, one slice a thread, between two buffers that together hold twice the last-level caches (64
 * MiB to 1 GiB each), every slice first touched by its thread: by memcpy and by stores past the caches,
 * and the faster of the two counts. Square products of the library with side 1024 (2048 from 9 threads
 * on), called once for all threads. Multiply-adds in registers. Rates are of the fastest sample, after a
 * warm-up: a roof is what the machine can do, which somebody else's turn on a core hides and never
 * raises. threads 0 = all cores. */
pb_status pb_cpu_roofs_measure(int threads, pb_cpu_roofs *out);

/* The least of PB_ROOF_SAMPLES. */
double pb_roof_least(const double *samples);

/* Of a device with a queue: a copy of copy_bytes within its memory (512 MiB unless named) and square
 * products of its gemm, which is its library's (side 8192 unless named), between events. */
pb_status pb_device_roofs_measure(pb_device *dev, int64_t copy_bytes, int64_t side,
                                  pb_cpu_roofs *out);

#endif
