/* GPUs by name: harness/gpus.def as a table. Published figures; nothing in it was measured. */
#ifndef PB_HARNESS_GPUS_H
#define PB_HARNESS_GPUS_H

#include <stdbool.h>

#include "base/status.h"

typedef struct pb_gpu {
    const char *name;   /* "h200" */
    const char *driver; /* a part of the name that the driver gives the card */
    double memory_gib, gb_per_s, bf16_tflops, f32_tflops; /* bf16_tflops 0: no bf16 in hardware */
    /* What the rates follow from (gpus.def says how); tensor_ghz, gbit_per_pin 0: not known. */
    int sms, f32_lanes;
    double boost_ghz;
    int tensor_fma;
    double tensor_ghz;
    int bus_bits;
    double gbit_per_pin;
    int pcie; /* generation, 16 lanes */
    const char *source;
} pb_gpu;

const pb_gpu *pb_gpu_table(int *n);
/* Bytes a second and way between host and card, at most. */
double pb_gpu_host_bytes_per_s(const pb_gpu *gpu);
/* PB_E_INPUT names the nearest known one and all of them. */
pb_status pb_gpu_find(const char *name, const pb_gpu **out);

/* Is it this card that a text names which is or begins with the driver's name for it (pb_device_describe)? The whole card: no
 * slice of one (MIG); and no namesake ("A10G", "RTX 3060 Ti", "GH200"), whose rates are others. */
bool pb_gpu_is(const pb_gpu *gpu, const char *text);

#endif
