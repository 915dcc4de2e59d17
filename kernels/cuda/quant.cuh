/* Decoding of 4-bit blocks on the device: value = table[code] * absmax, absmax = map[q] * absmax2 + offset
 * under double quantisation, each step rounded to f32 as on the CPU (no fused multiply-add). */
#ifndef PB_KERNELS_CUDA_QUANT_CUH
#define PB_KERNELS_CUDA_QUANT_CUH

#include "kernels/core/quant.h"
#include "kernels/cuda/lane.cuh"

/* Tables travel as kernel parameters: they stand in constant memory, are the host's own, and need no set-up. */
typedef struct quant_map {
    float v[256];
} quant_map;

typedef struct quant_view {
    const uint8_t *codes, *absmax_q;
    const float *absmax, *absmax2, *offset; /* absmax NULL: double quantisation */
    int64_t out, in;
    int block;
    float table[16];
    int unused; /* no padding: parameters are compared byte by byte */
} quant_view;
static_assert(sizeof(quant_view) == 7 * 8 + 18 * 4, "padding");

static inline quant_view quant_view_of(const pb_quant4 *q) {
    quant_view v = {};
    v.codes = (const uint8_t *)q->codes.data;
    v.absmax_q = (const uint8_t *)q->absmax_q.data;
    v.absmax = q->double_quant ? NULL : (const float *)q->absmax.data;
    v.absmax2 = (const float *)q->absmax2.data;
    v.offset = (const float *)q->offset.data;
    v.out = q->out;
    v.in = q->in;
    v.block = q->block;
    for (int i = 0; i < 16; i++) v.table[i] = pb_code_table(q->code)[i];
    return v;
}
static inline quant_map quant_map_signed(void) {
    quant_map m;
    for (int i = 0; i < 256; i++) m.v[i] = pb_dynamic_map_signed()[i];
    return m;
}

/* Host: may a thread take 8 elements of a row at once (4 bytes of codes, one block)? */
static inline bool quant_by_8(const pb_quant4 *q, int64_t from) {
    return q->in % 8 == 0 && q->block % 8 == 0 && from % 8 == 0 &&
           ((uintptr_t)q->codes.data & 15) == 0;
}

/* The code's 16 values in shared memory lie in 16 banks, so lookups by 32 lanes never conflict (constant memory serves
 * one address at a time). The map stays in constant memory: the lanes of a warp ask for few entries of it. */
typedef struct quant_tables {
    float code[16];
} quant_tables;

/* Ends with a barrier. */
static __device__ __forceinline__ void quant_tables_fill(quant_tables *s, const quant_view &v) {
    if (threadIdx.x < 16) s->code[threadIdx.x] = v.table[threadIdx.x];
    __syncthreads();
}

static __device__ __forceinline__ float quant_absmax(const quant_view &v, const quant_map &m,
                                                     int64_t block) {
    if (v.absmax != NULL) return v.absmax[block];
    return __fadd_rn(__fmul_rn(m.v[v.absmax_q[block]], v.absmax2[block / 256]), v.offset[0]);
}

/* Block of element i: a shift for the usual 64. */
static __device__ __forceinline__ int64_t quant_block(const quant_view &v, int64_t i) {
    return v.block == 64 ? i >> 6 : i / v.block;
}

/* Element i of the flattened matrix in f32. */
static __device__ __forceinline__ float quant_value(const quant_view &v, const quant_map &m,
                                                    const quant_tables *s, int64_t i) {
    unsigned byte = v.codes[i >> 1];
    return s->code[(i & 1) == 0 ? byte >> 4 : byte & 15u] * quant_absmax(v, m, quant_block(v, i));
}

/* Eight values out of four bytes of codes as loaded (element 0 in the high nibble of the lowest byte). */
static __device__ __forceinline__ void quant_eight(const quant_tables *s, uint32_t word,
                                                   float absmax, float (&out)[8]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        unsigned byte = word >> (8 * i);
        out[2 * i] = s->code[byte >> 4 & 15u] * absmax;
        out[2 * i + 1] = s->code[byte & 15u] * absmax;
    }
}

/* As a layer sees it: rounded to the compute dtype. */
template <typename T>
static __device__ __forceinline__ float quant_rounded(float v) {
    return pb_wide(pb_narrow<T>(v));
}

#endif
