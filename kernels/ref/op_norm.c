/* LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019), with the dropout and residual in
 * front of them. */
#include <math.h>

#include "kernels/ref/ref.h"

static double summed(const pb_norm_fwd_args *a, int64_t n, int64_t c) {
    double x = ref_get(a->x, n, c) * ref_keep(a->drop, n * pb_cols(a->x) + c);
    return x + (pb_has(a->res) ? ref_get(a->res, n, c) : 0.0);
}

/* x, res, sum, y [N,C]; statistics of the sum before it is rounded for storage. */
static pb_status norm_fwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_norm_fwd_args *a = args;
    bool layer = a->norm == PB_NORM_LAYER;
    int64_t cols = pb_cols(a->x);
    for (int64_t n = 0; n < pb_rows(a->x); n++) {
        double mean = 0.0, square = 0.0;
        for (int64_t c = 0; layer && c < cols; c++) mean += summed(a, n, c) / (double)cols;
        for (int64_t c = 0; c < cols; c++) {
            double d = summed(a, n, c) - mean;
            square += d * d / (double)cols;
        }
        double rstd = 1.0 / sqrt(square + a->eps);
        if (layer) ref_put(a->mean, n, mean);
        ref_put(a->rstd, n, rstd);
        for (int64_t c = 0; c < cols; c++) {
            double s = summed(a, n, c), beta = layer ? ref_at(a->beta, c) : 0.0;
            ref_set(a->y, n, c, (s - mean) * rstd * ref_at(a->gamma, c) + beta);
            if (pb_has(a->sum)) ref_set(a->sum, n, c, s);
        }
    }
    return PB_OK;
}

static double normalised(const pb_norm_bwd_args *a, int64_t n, int64_t c) {
    double mean = a->norm == PB_NORM_LAYER ? ref_at(a->mean, n) : 0.0;
    return (ref_get(a->sum, n, c) - mean) * ref_at(a->rstd, n);
}

/* dgamma[c] += sum_n dy xhat; dbeta[c] += sum_n dy. Before dx, which may overwrite dy. */
static void norm_bwd_params(const pb_norm_bwd_args *a) {
    for (int64_t c = 0; c < pb_cols(a->dy); c++) {
        double dgamma = 0.0, dbeta = 0.0;
        for (int64_t n = 0; n < pb_rows(a->dy); n++) {
            dgamma += ref_get(a->dy, n, c) * normalised(a, n, c);
            dbeta += ref_get(a->dy, n, c);
        }
        if (pb_has(a->dgamma)) ref_add(a->dgamma, 0, c, dgamma);
        if (pb_has(a->dbeta)) ref_add(a->dbeta, 0, c, dbeta);
    }
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma; without mean(g) for RMS. */
static pb_status norm_bwd(pb_device *dev, const void *args, void *ws) {
    (void)dev;
    (void)ws;
    const pb_norm_bwd_args *a = args;
    int64_t cols = pb_cols(a->dy);
    norm_bwd_params(a);
    for (int64_t n = 0; n < pb_rows(a->dy); n++) {
        double mean_g = 0.0, mean_gx = 0.0;
        for (int64_t c = 0; c < cols; c++) {
            double g = ref_get(a->dy, n, c) * ref_at(a->gamma, c);
            if (a->norm == PB_NORM_LAYER) mean_g += g / (double)cols;
            mean_gx += g * normalised(a, n, c) / (double)cols;
        }
        for (int64_t c = 0; c < cols; c++) {
            double g = ref_get(a->dy, n, c) * ref_at(a->gamma, c);
            double d = ref_at(a->rstd, n) * (g - mean_g - normalised(a, n, c) * mean_gx);
            ref_mix(a->dx, n, c, a->beta_dx, d);
        }
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_norm_fwd, "plain", NULL, norm_fwd},
    {PB_OP_norm_bwd, "plain", NULL, norm_bwd},
};
const pb_kernel_set pb_kernels_ref_norm = REF_SET(kernels);
