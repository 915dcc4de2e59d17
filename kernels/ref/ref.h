/* Element access of the reference kernels: any real dtype is read as a double and rounded once,
 * when it is stored. */
#ifndef PB_KERNELS_REF_REF_H
#define PB_KERNELS_REF_REF_H

#include "kernels/core/backend.h"

/* Element [r,c] of a tensor seen as rows x cols. */
static inline double ref_get(pb_tensor t, int64_t r, int64_t c) {
    int64_t i = r * t.stride + c;
    switch (t.dtype) {
    case PB_F32: return (double)((const float *)t.data)[i];
    case PB_BF16: return (double)pb_bf16_to_f32(((const uint16_t *)t.data)[i]);
    default: return ((const double *)t.data)[i];
    }
}

static inline void ref_set(pb_tensor t, int64_t r, int64_t c, double v) {
    int64_t i = r * t.stride + c;
    switch (t.dtype) {
    case PB_F32: ((float *)t.data)[i] = (float)v; break;
    case PB_BF16: ((uint16_t *)t.data)[i] = pb_f32_to_bf16((float)v); break;
    default: ((double *)t.data)[i] = v; break;
    }
}

/* Element i of a contiguous tensor of any shape. */
static inline double ref_at(pb_tensor t, int64_t i) { return ref_get(t, 0, i); }
static inline void ref_put(pb_tensor t, int64_t i, double v) { ref_set(t, 0, i, v); }
static inline int32_t ref_int(pb_tensor t, int64_t i) { return ((const int32_t *)t.data)[i]; }

/* beta * old + v. An output with beta 0 is never read: its old content may be anything. */
static inline void ref_mix(pb_tensor t, int64_t r, int64_t c, double beta, double v) {
    ref_set(t, r, c, beta != 0.0 ? beta * ref_get(t, r, c) + v : v);
}

static inline void ref_add(pb_tensor t, int64_t r, int64_t c, double v) {
    ref_set(t, r, c, ref_get(t, r, c) + v);
}

/* The factor of dropout: 0 or 1/(1-p). */
static inline double ref_keep(pb_drop drop, int64_t index) {
    if (drop.p == 0.0f) return 1.0;
    bool kept = pb_random_u32(drop.key, drop.stream, (uint64_t)index) >=
                pb_dropout_threshold(drop.p);
    return kept ? 1.0 / (1.0 - (double)drop.p) : 0.0;
}

/* absmax of one block, decoded from 8 bits where it is stored so. f32 arithmetic, as the format
 * demands. */
static inline float ref_absmax(const pb_quant4 *q, int64_t block) {
    if (!q->double_quant) return (float)ref_at(q->absmax, block);
    float value = pb_dynamic_map_signed()[((const uint8_t *)q->absmax_q.data)[block]];
    return value * (float)ref_at(q->absmax2, block / 256) + (float)ref_at(q->offset, 0);
}

/* Element i of the flattened matrix in f32, before any cast. */
static inline float ref_dequant(const pb_quant4 *q, int64_t i) {
    uint8_t byte = ((const uint8_t *)q->codes.data)[i / 2];
    int code = i % 2 == 0 ? byte >> 4 : byte & 15;
    return pb_code_table(q->code)[code] * ref_absmax(q, i / q->block);
}

/* W[j,i] as a layer sees it: dequantised values are cast to the compute dtype. */
static inline double ref_weight(pb_weight w, int64_t j, int64_t i) {
    if (w.quant == NULL) return ref_get(w.dense, j, i);
    float v = ref_dequant(w.quant, j * w.quant->in + i);
    return (double)(w.quant->compute == PB_BF16 ? pb_bf16_to_f32(pb_f32_to_bf16(v)) : v);
}

/* An activation and its derivative (op_pointwise.c). */
double ref_act(pb_act act, double x);
double ref_act_slope(pb_act act, double x);

#define REF_SET(list) \
    { .kernels = (list), .n = (int)(sizeof(list) / sizeof((list)[0])) }

#endif
