/* The best rates of a device, measured: what a step's work is divided by for its least time. */
#ifndef PB_HARNESS_RATES_H
#define PB_HARNESS_RATES_H

#include "kernels/core/device.h"

typedef struct pb_rates {
    double flops_per_s, bytes_per_s;
} pb_rates;

/* What a training step can hope for at best. On the host a square product and a stream over 32 MiB, about a tenth of a second
 * each: a large last-level cache holds the 32 MiB, as it holds much of a small step. On a device with a queue of its own the
 * roofs of single kernels (pb_device_roofs_measure in harness/cpu_roofs.h). */
pb_status pb_rates_measure(const char *device, int threads, pb_dtype dtype, pb_rates *out);
/* max(flops / rate, bytes / rate); a rate of 0 leaves its part out. */
double pb_rates_seconds(pb_work work, double flops_per_s, double bytes_per_s);

#endif
