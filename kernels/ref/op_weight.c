/* 4-bit storage, norms of stored weights, DoRA. */
#include <math.h>

#include "kernels/core/quant.h"
#include "kernels/ref/ref.h"

/* Second level: absmax - mean(absmax) in 8 bits, blocks of 256. METHODS 5.3, Dettmers et al. 2023
 * sec. 3. */
static void quantize_absmax(const pb_quant4 *q, pb_tensor src) {
    int64_t n = q->out * q->in, blocks = (n + q->block - 1) / q->block;
    uint8_t *codes = q->absmax_q.data;
    double sum = 0.0;
    float inverse = 0.0f;
    for (int pass = 0; pass < 3; pass++) {
        for (int64_t b = 0; b < blocks; b++) {
            float absmax = 0.0f;
            for (int64_t i = b * q->block; i < n && i < (b + 1) * q->block; i++) {
                absmax = fmaxf(absmax, fabsf((float)ref_get(src, i / q->in, i % q->in)));
            }
            float v = pass == 0 ? 0.0f : absmax - (float)ref_at(q->offset, 0);
            if (pass == 0) sum += (double)absmax;
            if (pass == 1) {
                float old = b % PB_QUANT8_BLOCK == 0
                                ? 0.0f
                                : (float)ref_at(q->absmax2, b / PB_QUANT8_BLOCK);
                ref_put(q->absmax2, b / PB_QUANT8_BLOCK, (double)fmaxf(old, fabsf(v)));
            }
            if (pass == 2) {
                inverse = pb_quant_inverse((float)ref_at(q->absmax2, b / PB_QUANT8_BLOCK));
                codes[b] = (uint8_t)pb_dynamic_encode(pb_dynamic_map_signed(), v * inverse);
            }
        }
        if (pass == 0)
            ref_put(q->offset, 0, (double)(float)(blocks > 0 ? sum / (double)blocks : 0.0));
    }
}

/* First level: codes of w * (1/absmax) with the exact absmax of the block, also under double
 * quantisation. */
static pb_status quantize4(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_quantize4_args *a = args;
    const pb_quant4 *q = &a->q;
    int64_t n = q->out * q->in;
    uint8_t *codes = q->codes.data;
    for (int64_t from = 0; from < n; from += q->block) {
        int64_t to = from + q->block < n ? from + q->block : n;
        float absmax = 0.0f;
        for (int64_t i = from; i < to; i++) {
            absmax = fmaxf(absmax, fabsf((float)ref_get(a->src, i / q->in, i % q->in)));
        }
        if (!q->double_quant) ref_put(q->absmax, from / q->block, (double)absmax);
        float inverse = pb_quant_inverse(absmax);
        for (int64_t i = from; i < to; i++) {
            int code = pb_code_encode(q->code,
                                      (float)ref_get(a->src, i / q->in, i % q->in) * inverse);
            codes[i / 2] = (uint8_t)(i % 2 == 0 ? code << 4 : codes[i / 2] | code);
        }
    }
    if (q->double_quant) quantize_absmax(q, a->src);
    return PB_OK;
}

static pb_status dequantize4(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_dequantize4_args *a = args;
    for (int64_t j = 0; j < a->q.out; j++) {
        for (int64_t i = 0; i < a->q.in; i++)
            ref_set(a->dst, j, i, (double)ref_dequant(&a->q, j * a->q.in + i));
    }
    return PB_OK;
}

static pb_status weight_norm2(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_weight_norm2_args *a = args;
    for (int64_t j = 0; j < pb_weight_out(a->w); j++) {
        double sum = 0.0;
        for (int64_t i = 0; i < pb_weight_in(a->w); i++)
            sum += ref_weight(a->w, j, i) * ref_weight(a->w, j, i);
        ref_put(a->y, j, sum);
    }
    return PB_OK;
}

/* The definition itself, element by element; w2 is not needed for that. */
static pb_status dora_norm(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_dora_norm_args *a = args;
    for (int64_t j = 0; j < pb_weight_out(a->w); j++) {
        double sum = 0.0;
        for (int64_t i = 0; i < pb_weight_in(a->w); i++) {
            double ba = 0.0;
            for (int64_t k = 0; k < pb_rows(a->a); k++)
                ba += ref_get(a->b, j, k) * ref_get(a->a, k, i);
            double v = ref_weight(a->w, j, i) + a->scale * ba;
            sum += v * v;
        }
        ref_put(a->n, j, sqrt(sum));
        ref_put(a->c, j, ref_at(a->m, j) / sqrt(sum));
    }
    return PB_OK;
}

static pb_status dora_exact(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_dora_exact_args *a = args;
    for (int64_t j = 0; j < pb_rows(a->g); j++) {
        double m = ref_at(a->m, j), n = ref_at(a->n, j), dot = 0.0;
        for (int64_t i = 0; i < pb_cols(a->g); i++)
            dot += ref_get(a->g, j, i) * ref_get(a->v, j, i);
        for (int64_t i = 0; i < pb_cols(a->g); i++) {
            ref_set(a->g, j, i,
                    m / n * (ref_get(a->g, j, i) - dot * ref_get(a->v, j, i) / (n * n)));
        }
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_quantize4, "plain", NULL, quantize4},
    {PB_OP_dequantize4, "plain", NULL, dequantize4},
    {PB_OP_weight_norm2, "plain", NULL, weight_norm2},
    {PB_OP_dora_norm, "plain", NULL, dora_norm},
    {PB_OP_dora_exact, "plain", NULL, dora_exact},
};
const pb_kernel_set pb_kernels_ref_weight = REF_SET(kernels);
