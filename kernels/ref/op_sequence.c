/* Embedding, rotary positions, pooling, row moves, cross-entropy. */
#include <math.h>

#include "kernels/ref/ref.h"

static int64_t type_of(pb_tensor types, int64_t n) { return pb_has(types) ? ref_int(types, n) : 0; }

static pb_status embed_fwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_embed_fwd_args *a = args;
    for (int64_t n = 0; n < pb_rows(a->y); n++) {
        for (int64_t c = 0; c < pb_cols(a->y); c++) {
            double v = ref_get(a->word, ref_int(a->ids, n), c);
            if (pb_has(a->pos)) v += ref_get(a->pos, ref_int(a->positions, n), c);
            if (pb_has(a->type)) v += ref_get(a->type, type_of(a->types, n), c);
            ref_set(a->y, n, c, v);
        }
    }
    return PB_OK;
}

static pb_status embed_bwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_embed_bwd_args *a = args;
    for (int64_t n = 0; n < pb_rows(a->dy); n++) {
        for (int64_t c = 0; c < pb_cols(a->dy); c++) {
            double v = ref_get(a->dy, n, c);
            if (pb_has(a->dword)) ref_add(a->dword, ref_int(a->ids, n), c, v);
            if (pb_has(a->dpos)) ref_add(a->dpos, ref_int(a->positions, n), c, v);
            if (pb_has(a->dtype)) ref_add(a->dtype, type_of(a->types, n), c, v);
        }
    }
    return PB_OK;
}

/* Pair (j, j + half) of each head turns by position * inv_freq[j]. */
static pb_status rope(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_rope_args *a = args;
    int64_t half = pb_numel(a->inv_freq);
    for (int64_t n = 0; n < pb_rows(a->x); n++) {
        for (int64_t head = 0; head < a->heads; head++) {
            for (int64_t j = 0; j < half; j++) {
                int64_t at = head * 2 * half + j;
                double angle = (double)ref_int(a->positions, n) * ref_at(a->inv_freq, j);
                double x = ref_get(a->x, n, at), y = ref_get(a->x, n, at + half);
                double s = a->inverse ? -sin(angle) : sin(angle);
                ref_set(a->x, n, at, x * cos(angle) - y * s);
                ref_set(a->x, n, at + half, y * cos(angle) + x * s);
            }
        }
    }
    return PB_OK;
}

/* Weight of row n in the pooled row of its sequence [from, to). */
static double pool_weight(pb_pool pool, int64_t n, int64_t from, int64_t to) {
    if (pool == PB_POOL_MEAN) return 1.0 / (double)(to - from);
    return n == (pool == PB_POOL_CLS ? from : to - 1) ? 1.0 : 0.0;
}

static pb_status pool_fwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_pool_fwd_args *a = args;
    for (int64_t s = 0; s < pb_rows(a->y); s++) {
        int64_t from = ref_int(a->cu, s), to = ref_int(a->cu, s + 1);
        for (int64_t c = 0; c < pb_cols(a->y); c++) {
            double sum = 0.0;
            for (int64_t n = from; n < to; n++) {
                double w = pool_weight(a->pool, n, from, to);
                if (w != 0.0) sum += w * ref_get(a->x, n, c);
            }
            ref_set(a->y, s, c, sum);
        }
    }
    return PB_OK;
}

static pb_status pool_bwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_pool_bwd_args *a = args;
    for (int64_t n = 0; n < pb_rows(a->dx); n++) {
        for (int64_t c = 0; c < pb_cols(a->dx); c++) ref_set(a->dx, n, c, 0.0);
    }
    for (int64_t s = 0; s < pb_rows(a->dy); s++) {
        int64_t from = ref_int(a->cu, s), to = ref_int(a->cu, s + 1);
        for (int64_t n = from; n < to; n++) {
            double w = pool_weight(a->pool, n, from, to);
            for (int64_t c = 0; w != 0.0 && c < pb_cols(a->dx); c++)
                ref_set(a->dx, n, c, w * ref_get(a->dy, s, c));
        }
    }
    return PB_OK;
}

static pb_status gather_rows(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_gather_rows_args *a = args;
    for (int64_t i = 0; i < pb_rows(a->y); i++) {
        for (int64_t c = 0; c < pb_cols(a->y); c++)
            ref_set(a->y, i, c, ref_get(a->x, ref_int(a->idx, i), c));
    }
    return PB_OK;
}

static pb_status scatter_rows(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_scatter_rows_args *a = args;
    for (int64_t n = 0; n < pb_rows(a->y); n++) {
        for (int64_t c = 0; c < pb_cols(a->y); c++) ref_set(a->y, n, c, 0.0);
    }
    for (int64_t i = 0; i < pb_rows(a->x); i++) {
        for (int64_t c = 0; c < pb_cols(a->x); c++)
            ref_set(a->y, ref_int(a->idx, i), c, ref_get(a->x, i, c));
    }
    return PB_OK;
}

static pb_status cross_entropy(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_cross_entropy_args *a = args;
    for (int64_t r = 0; r < pb_rows(a->logits); r++) {
        int64_t best = 0, target = ref_int(a->target, r);
        for (int64_t v = 1; v < pb_cols(a->logits); v++) {
            if (ref_get(a->logits, r, v) > ref_get(a->logits, r, best)) best = v;
        }
        double most = ref_get(a->logits, r, best), sum = 0.0;
        for (int64_t v = 0; v < pb_cols(a->logits); v++)
            sum += exp(ref_get(a->logits, r, v) - most);
        ((int32_t *)a->pred.data)[r] = (int32_t)best;
        ref_put(a->loss, r, target < 0 ? 0.0 : log(sum) + most - ref_get(a->logits, r, target));
        for (int64_t v = 0; pb_has(a->dlogits) && v < pb_cols(a->logits); v++) {
            double p = exp(ref_get(a->logits, r, v) - most) / sum;
            ref_set(a->dlogits, r, v,
                    target < 0 ? 0.0 : a->scale * (p - (v == target ? 1.0 : 0.0)));
        }
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_embed_fwd, "plain", NULL, embed_fwd},
    {PB_OP_embed_bwd, "plain", NULL, embed_bwd},
    {PB_OP_rope, "plain", NULL, rope},
    {PB_OP_pool_fwd, "plain", NULL, pool_fwd},
    {PB_OP_pool_bwd, "plain", NULL, pool_bwd},
    {PB_OP_gather_rows, "plain", NULL, gather_rows},
    {PB_OP_scatter_rows, "plain", NULL, scatter_rows},
    {PB_OP_cross_entropy, "plain", NULL, cross_entropy},
};
const pb_kernel_set pb_kernels_ref_sequence = REF_SET(kernels);
