/* GPUs by name: harness/gpus.def as a table. Published figures; nothing in it was measured. */
#ifndef PB_HARNESS_GPUS_H
#define PB_HARNESS_GPUS_H

#include "base/status.h"

typedef struct pb_gpu {
    const char *name;   /* "h200" */
    const char *driver; /* a part of the name that the driver gives the card */
    double memory_gib, gb_per_s, bf16_tflops, f32_tflops; /* bf16_tflops 0: no bf16 in hardware */
    const char *source;
} pb_gpu;

const pb_gpu *pb_gpu_table(int *n);
/* PB_E_INPUT names the nearest known one and all of them. */
pb_status pb_gpu_find(const char *name, const pb_gpu **out);

#endif
