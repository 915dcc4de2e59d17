/* What the program and the shared object with the CUDA backend agree on. The program opens the object at run time
 * (backend_cuda.c), so that it starts and computes on machines without a driver, a GPU or the toolkit.
 *
 * The object finds the program's own functions (pb_error_set, pb_code_table, ...) in the program, which exports them. */
#ifndef PB_KERNELS_CUDA_PLUGIN_H
#define PB_KERNELS_CUDA_PLUGIN_H

#include "kernels/core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Changes with every change of backend.h, ops.h or this file that moves a field. */
#define PB_CUDA_PLUGIN_ABI 2u
#define PB_CUDA_PLUGIN_SYMBOL "pb_cuda_plugin"
#define PB_CUDA_PLUGIN_FILE "libpeftbench_cuda.so"

typedef struct pb_cuda_plugin_info {
    uint32_t abi;
    uint32_t args_bytes;       /* sum of the sizes of all args structs: another ops.h is seen here */
    const pb_backend *backend;
} pb_cuda_plugin_info;

static inline uint32_t pb_cuda_plugin_args_bytes(void) {
    uint32_t sum = (uint32_t)(sizeof(pb_backend) + sizeof(pb_kernel) + sizeof(pb_device_options));
#define X(name) sum += (uint32_t)sizeof(pb_##name##_args);
    PB_OPS(X)
#undef X
    return sum;
}

/* The one symbol the program looks up. */
const pb_cuda_plugin_info *pb_cuda_plugin(void);

#ifdef __cplusplus
}
#endif
#endif
