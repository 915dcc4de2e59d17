/* Decoding and encoding 4-bit weights, encoding 8-bit moments. Private to kernels/cpu. */
#ifndef PB_KERNELS_CPU_QUANT_H
#define PB_KERNELS_CPU_QUANT_H

#include "kernels/cpu/cpu.h"

/* dst[0..n) := elements first..first+n-1 of the flattened matrix, as dtype (f32 or bf16). One
 * thread. */
void pb_cpu_dequant4(const pb_quant4 *q, int64_t first, int64_t n, pb_dtype dtype, void *dst);

/* Row j of a stored weight as f32: its own memory, or decoded into buf (in floats; bf16 rounding of
 * compute kept). */
const float *pb_cpu_weight_row(pb_weight w, int64_t j, float *buf);

/* --- 4-bit codes ----------------------------------------------------------------------------- */

/* The thresholds of a code as the instruction sets want them (cpu_encode4.c). */
typedef struct pb_cpu_code4 {
    pb_code code;
    float sorted[16], tree[16]; /* infinity where there are fewer */
    float within[32];           /* the threshold in a cell of -1..1, or infinity */
    int32_t below[32];          /* how many lie in cells before it */
} pb_cpu_code4;

void pb_cpu_code4_of(pb_code code, pb_cpu_code4 *c);

/* Codes (from the first half of codes[0] on) and absmax of n elements in blocks; the last block may be
 * short. dtype: f32 or bf16. block is even. One thread. */
void pb_cpu_encode4(const pb_cpu_code4 *c, pb_dtype dtype, const void *x, int64_t n, int64_t block,
                    uint8_t *codes, float *absmax);

/* --- 8-bit codes of a dynamic map ------------------------------------------------------------ */

#define PB_CPU_RUNS8 8

/* What encoding takes of an ascending 256-entry map (cpu_encode8.c): for magnitudes above above[r],
 * up to above[r+1], the entry counted from zero is floor(a x + b), at most last. */
typedef struct pb_cpu_code8 {
    const float *map;
    int zero; /* the entry 0 */
    float above[PB_CPU_RUNS8 + 1], a[PB_CPU_RUNS8], b[PB_CPU_RUNS8], last[PB_CPU_RUNS8];
    float border[32]; /* of magnitudes in 2^(e-31) .. 2^(e-30): where the next run begins ... */
    int32_t run[32];  /* ... after this one; e = 0: all below */
} pb_cpu_code8;

/* map: pb_dynamic_map_signed or _unsigned, which must outlive c. */
void pb_cpu_code8_of(const float *map, pb_cpu_code8 *c);

/* code[i] := index of the entry nearest to x[i] * inverse, ties to the lower one. |x[i] * inverse|
 * is at most 1 but for rounding, or no number at all. */
void pb_cpu_encode8(const pb_cpu_code8 *c, const float *x, float inverse, uint8_t *code,
                    int64_t n);

#endif
