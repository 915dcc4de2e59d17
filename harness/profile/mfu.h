/* How much of a GPU's published peak the model's own arithmetic reaches. Test: tests/test_profile.c. */
#ifndef PB_HARNESS_PROFILE_MFU_H
#define PB_HARNESS_PROFILE_MFU_H

#include "harness/trainer_session.h"
#include "results/record.h"

typedef struct pb_mfu {
    bool known;
    double value;            /* -1 when not known */
    double peak_flops_per_s; /* 0 = unknown device */
    double flops_per_token;  /* 4 N with a frozen base, 6 N when it is trained */
} pb_mfu;

/* FLOP/s of the GPU that a driver (or pb_device_describe) calls so, in products of the dtype; 0 when it is unknown. */
double pb_gpu_peak_flops(const char *device, pb_dtype dtype);
pb_mfu pb_mfu_of(const pb_session *s, double tokens, double step_s);
/* Into the record's `profile` (which must exist), and the metric work/mfu where it is known. */
pb_status pb_mfu_record(const pb_mfu *mfu, pb_record *r);

#endif
