/* Decoding 4-bit weights, encoding 8-bit moments. Private to kernels/cpu. */
#ifndef PB_KERNELS_CPU_QUANT_H
#define PB_KERNELS_CPU_QUANT_H

#include "kernels/cpu/cpu.h"

/* dst[0..n) := elements first..first+n-1 of the flattened matrix, as dtype (f32 or bf16). One
 * thread. */
void pb_cpu_dequant4(const pb_quant4 *q, int64_t first, int64_t n, pb_dtype dtype, void *dst);

/* Row j of a stored weight as f32: its own memory, or decoded into buf (in floats; bf16 rounding of
 * compute kept). */
const float *pb_cpu_weight_row(pb_weight w, int64_t j, float *buf);

/* code[i] := index of the entry of the ascending 256-entry map nearest to x[i] * inverse, ties to
 * the lower one. */
void pb_cpu_encode8(const float *map, const float *x, float inverse, uint8_t *code, int64_t n);

#endif
