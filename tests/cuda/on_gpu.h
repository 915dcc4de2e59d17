/* Some tests run on the host's stand-in here and, told so by PB_TEST_GPU=1 (tests/gpu/run_all.sh), on a GPU there. What they must
 * not do there is to test the stand-in once more and pass. */
#ifndef PB_TESTS_CUDA_ON_GPU_H
#define PB_TESTS_CUDA_ON_GPU_H

#include <stdlib.h>

#include "kernels/core/device.h"
#include "tests/support.h"

static inline bool pb_test_on_gpu(void) { return getenv("PB_TEST_GPU") != NULL; }

/* After every opening of a device. */
static inline void pb_assert_gpu(const pb_device *dev) {
    char text[512];
    if (!pb_test_on_gpu() || strcmp(pb_device_name(dev), "cuda") != 0) return;
    pb_device_describe(dev, text, sizeof text);
    ck_assert_msg(strstr(text, "stand-in") == NULL, "PB_TEST_GPU is set, but the device is the host: %s", text);
}

#endif
