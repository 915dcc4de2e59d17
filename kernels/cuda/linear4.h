/* The linear op over a 4-bit weight, for op_gemm.cu and for the tests. Private to kernels/cuda. */
#ifndef PB_KERNELS_CUDA_LINEAR4_H
#define PB_KERNELS_CUDA_LINEAR4_H

#include "kernels/cuda/cuda.h"

size_t pb_cuda_linear4_workspace(const pb_linear_args *l);
pb_status pb_cuda_linear4(pb_cuda *cuda, const pb_linear_args *l, void *ws);

/* The fused product for at most 16 tokens (no transpose): on tensor cores where pb_cuda_linear4_mma says they can. */
bool pb_cuda_linear4_mma(const pb_cuda *cuda, const pb_linear_args *l);
pb_status pb_cuda_linear4_few(pb_cuda *cuda, const pb_linear_args *l, bool mma);

#endif
