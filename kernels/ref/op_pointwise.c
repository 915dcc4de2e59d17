/* Activations, dropout, linear combinations, column and whole-tensor reductions. */
#include <math.h>

#include "kernels/ref/ref.h"

#define SQRT_HALF      0.70710678118654752440
#define INV_SQRT_2PI   0.39894228040143267794
#define SQRT_2_OVER_PI 0.79788456080286535588
#define TANH_CUBE      0.044715 /* Hendrycks & Gimpel 2016 */

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

double ref_act(pb_act act, double x) {
    switch (act) {
    case PB_ACT_GELU: return 0.5 * x * (1.0 + erf(x * SQRT_HALF));
    case PB_ACT_GELU_TANH:
        return 0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + TANH_CUBE * x * x * x)));
    case PB_ACT_RELU: return x > 0.0 || isnan(x) ? x : 0.0;
    default: return x * sigmoid(x);
    }
}

double ref_act_slope(pb_act act, double x) {
    double t = 0.0;
    switch (act) {
    case PB_ACT_GELU:
        return 0.5 * (1.0 + erf(x * SQRT_HALF)) + x * INV_SQRT_2PI * exp(-0.5 * x * x);
    case PB_ACT_GELU_TANH:
        t = tanh(SQRT_2_OVER_PI * (x + TANH_CUBE * x * x * x));
        return 0.5 * (1.0 + t) +
               0.5 * x * (1.0 - t * t) * SQRT_2_OVER_PI * (1.0 + 3.0 * TANH_CUBE * x * x);
    case PB_ACT_RELU: return x > 0.0 ? 1.0 : 0.0;
    default: return sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
    }
}

static pb_status act_fwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_act_fwd_args *a = args;
    for (int64_t n = 0; n < pb_rows(a->x); n++) {
        for (int64_t c = 0; c < pb_cols(a->x); c++)
            ref_set(a->y, n, c, ref_act(a->act, ref_get(a->x, n, c)));
    }
    return PB_OK;
}

static pb_status act_bwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_act_bwd_args *a = args;
    for (int64_t n = 0; n < pb_rows(a->x); n++) {
        for (int64_t c = 0; c < pb_cols(a->x); c++) {
            ref_set(a->dx, n, c, ref_act_slope(a->act, ref_get(a->x, n, c)) * ref_get(a->dy, n, c));
        }
    }
    return PB_OK;
}

static pb_status swiglu_fwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_swiglu_fwd_args *a = args;
    for (int64_t n = 0; n < pb_rows(a->gate); n++) {
        for (int64_t c = 0; c < pb_cols(a->gate); c++) {
            ref_set(a->y, n, c,
                    ref_act(PB_ACT_SILU, ref_get(a->gate, n, c)) * ref_get(a->up, n, c));
        }
    }
    return PB_OK;
}

static pb_status swiglu_bwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_swiglu_bwd_args *a = args;
    for (int64_t n = 0; n < pb_rows(a->gate); n++) {
        for (int64_t c = 0; c < pb_cols(a->gate); c++) {
            double g = ref_get(a->gate, n, c), u = ref_get(a->up, n, c), dy = ref_get(a->dy, n, c);
            ref_set(a->dup, n, c, dy * ref_act(PB_ACT_SILU, g));
            ref_set(a->dgate, n, c, dy * u * ref_act_slope(PB_ACT_SILU, g));
        }
    }
    return PB_OK;
}

static pb_status dropout(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_dropout_args *a = args;
    int64_t cols = pb_cols(a->x);
    for (int64_t n = 0; n < pb_rows(a->x); n++) {
        for (int64_t c = 0; c < cols; c++) {
            ref_mix(a->y, n, c, a->beta, ref_get(a->x, n, c) * ref_keep(a->drop, n * cols + c));
        }
    }
    return PB_OK;
}

static pb_status axpby(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_axpby_args *a = args;
    for (int64_t n = 0; n < pb_rows(a->x); n++) {
        for (int64_t c = 0; c < pb_cols(a->x); c++)
            ref_mix(a->y, n, c, a->beta, a->alpha * ref_get(a->x, n, c));
    }
    return PB_OK;
}

static pb_status scale_cols(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_scale_cols_args *a = args;
    for (int64_t n = 0; n < pb_rows(a->x); n++) {
        for (int64_t c = 0; c < pb_cols(a->x); c++) {
            double bias = pb_has(a->bias) ? ref_at(a->bias, c) : 0.0;
            ref_mix(a->y, n, c, a->beta, ref_get(a->x, n, c) * ref_at(a->c, c) + bias);
        }
    }
    return PB_OK;
}

static pb_status coldot(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_coldot_args *a = args;
    for (int64_t c = 0; c < pb_cols(a->a); c++) {
        double sum = 0.0;
        for (int64_t n = 0; n < pb_rows(a->a); n++) {
            sum += ref_get(a->a, n, c) * (pb_has(a->b) ? ref_get(a->b, n, c) : 1.0);
        }
        ref_add(a->y, 0, c, pb_has(a->div) ? sum / ref_at(a->div, c) : sum);
    }
    return PB_OK;
}

static pb_status reduce(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_reduce_args *a = args;
    double sum = 0.0;
    for (int64_t n = 0; n < pb_rows(a->x); n++) {
        for (int64_t c = 0; c < pb_cols(a->x); c++) {
            double v = ref_get(a->x, n, c);
            sum += a->square ? v * v : v;
        }
    }
    ref_mix(a->y, 0, 0, a->beta, a->alpha * sum);
    return PB_OK;
}

static pb_status fill_uniform(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_fill_uniform_args *a = args;
    for (int64_t i = 0; i < pb_numel(a->x); i++) {
        double u = (double)pb_u01(pb_random_u32(a->key, a->stream, (uint64_t)i));
        ref_put(a->x, i, a->lo + (a->hi - a->lo) * u);
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_act_fwd, "plain", NULL, act_fwd},
    {PB_OP_act_bwd, "plain", NULL, act_bwd},
    {PB_OP_swiglu_fwd, "plain", NULL, swiglu_fwd},
    {PB_OP_swiglu_bwd, "plain", NULL, swiglu_bwd},
    {PB_OP_dropout, "plain", NULL, dropout},
    {PB_OP_axpby, "plain", NULL, axpby},
    {PB_OP_scale_cols, "plain", NULL, scale_cols},
    {PB_OP_coldot, "plain", NULL, coldot},
    {PB_OP_reduce, "plain", NULL, reduce},
    {PB_OP_fill_uniform, "plain", NULL, fill_uniform},
};
const pb_kernel_set pb_kernels_ref_pointwise = REF_SET(kernels);
