/* Attention's two implementations, for op_attention.cu and for the tests that compare them. */
#ifndef PB_KERNELS_CUDA_ATTENTION_H
#define PB_KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/cuda.h"

/* True when the tensor-core kernels can run this call: bf16, head_dim 32, 64 or 128, rows in pieces of
 * 16 bytes, sm_80 or later with the shared memory they need. */
bool pb_cuda_attention_fwd_mma(const pb_cuda *cuda, const pb_attention_fwd_args *a);
bool pb_cuda_attention_bwd_mma(const pb_cuda *cuda, const pb_attention_bwd_args *a);

/* mma: with the tensor-core kernels (only where they can run), else with the plain ones. ws: f32
 * [rows * heads]. */
pb_status pb_cuda_attention_fwd(pb_cuda *cuda, const pb_attention_fwd_args *a, bool mma);
pb_status pb_cuda_attention_bwd(pb_cuda *cuda, const pb_attention_bwd_args *a, void *ws, bool mma);

#endif
