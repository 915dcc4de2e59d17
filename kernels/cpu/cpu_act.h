/* Activations for ops of other files. Private to kernels/cpu. */
#ifndef PB_KERNELS_CPU_CPU_ACT_H
#define PB_KERNELS_CPU_CPU_ACT_H

#include "kernels/cpu/cpu.h"

/* As the ops act_fwd and act_bwd (kernels/ops.h), f32 or bf16. */
void pb_cpu_act_fwd(const pb_cpu *cpu, const pb_act_fwd_args *a);
void pb_cpu_act_bwd(const pb_cpu *cpu, const pb_act_bwd_args *a);

#endif
