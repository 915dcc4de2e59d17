/* Cases of the kernel table small enough for tests, and devices to measure them on. */
#ifndef PB_TESTS_KERNEL_LAB_H
#define PB_TESTS_KERNEL_LAB_H

#include "harness/kernel_measure.h"

/* The cases of a model's layer with this in their names, at a width of 64 and a vocabulary of 512;
 * queries share keys as in the model. Free with pb_kernel_cases_free. */
pb_kernel_cases kernel_lab_cases(const char *model, int64_t rows, pb_dtype dtype, pb_layer_rank most,
                                 const char *filter);
pb_device *kernel_lab_device(const char *backend, int threads);

#endif
