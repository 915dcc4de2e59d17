/* The encoders of 4-bit and 8-bit block-wise quantisation: one definition for every backend, so
 * that all store the same codes. Tables of values are in ops.h (pb_code_table, pb_dynamic_map_*).
 */
#ifndef PB_KERNELS_CORE_QUANT_H
#define PB_KERNELS_CORE_QUANT_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PB_QUANT8_BLOCK 256 /* elements per absmax of 8-bit blocks */

/* 15 ascending thresholds over x in [-1, 1] (FP4: 7, over |x|): a value equal to one goes to the
 * lower side. */
const float *pb_code_thresholds(pb_code code, int *n);

/* The code of x = w * (1.0f/absmax). NaN has no place here. */
int pb_code_encode(pb_code code, float x);

/* Index of the nearest entry of an ascending 256-entry map; a tie goes to the lower index. */
int pb_dynamic_encode(const float *map, float x);

/* 1/absmax, and 0 for an all-zero block, whose values then take the code of 0. */
static inline PB_HOST_DEVICE float pb_quant_inverse(float absmax) { return absmax > 0.0f ? 1.0f / absmax : 0.0f; }

#ifdef __cplusplus
}
#endif
#endif
