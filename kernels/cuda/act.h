/* Activations for ops of other files. Private to kernels/cuda. */
#ifndef PB_KERNELS_CUDA_ACT_H
#define PB_KERNELS_CUDA_ACT_H

#include "kernels/cuda/cuda.h"

/* As the ops act_fwd and act_bwd (kernels/ops.h), f32 or bf16. Enqueue. */
pb_status pb_cuda_act_fwd(pb_cuda *cuda, const pb_act_fwd_args *a);
pb_status pb_cuda_act_bwd(pb_cuda *cuda, const pb_act_bwd_args *a);

#endif
