/* LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019) with the residual sum and dropout
 * in front.
 *
 * Forward: a row goes through an f32 buffer that stays in the L1 cache: sum, mean, centred squares,
 * output; memory is crossed once. Backward: two dot products and one output pass per row; dgamma
 * and dbeta are summed over runs of rows, then over the runs in order. */
#include <math.h>

#include "kernels/cpu/cpu.h"

#define ROWS 16     /* rows of a piece */
#define RUNS_MAX 32 /* partial sums of dgamma, dbeta */

static pb_status no_f64(const char *op) {
    return PB_ERROR(PB_E_UNSUPPORTED, "cpu: %s has no f64 kernel", op);
}

PB_CLONES static void apply(float *y, const float *x, float mean, float rstd, const float *gamma,
                            const float *beta, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
}

static int64_t row_floats(int64_t cols) {
    return (int64_t)(pb_align64((size_t)cols * sizeof(float)) / sizeof(float));
}

/* --- forward --------------------------------------------------------------------------------- */

/* Shared: gamma, beta in f32. Per thread: one row. */
static size_t norm_fwd_workspace(const pb_device *dev, const void *args) {
    const pb_norm_fwd_args *a = args;
    return (size_t)((2 + pb_device_threads(dev)) * row_floats(pb_cols(a->x))) * sizeof(float);
}

PB_CLONES static void plus_bf16(float *s, const uint16_t *x, const uint16_t *res, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) s[i] = pb_widen(x[i]) + pb_widen(res[i]);
}

/* s = x + res of bf16 without dropout, widened as they are added; else false. */
static bool sum_bf16(const pb_norm_fwd_args *a, int64_t row, int64_t col, int64_t n, float *s) {
    if (a->x.dtype != PB_BF16 || !pb_has(a->res) || a->res.dtype != PB_BF16 || a->drop.p > 0.0f)
        return false;
    plus_bf16(s, pb_cpu_in_bf16(a->x, row * a->x.stride + col, n),
              pb_cpu_in_bf16(a->res, row * a->res.stride + col, n), n);
    return true;
}

static void sum_block(const pb_norm_fwd_args *a, int64_t row, int64_t col, int64_t n, float *s) {
    float xb[PB_CPU_BLOCK], rb[PB_CPU_BLOCK];
    if (sum_bf16(a, row, col, n, s)) return;
    const float *x = pb_cpu_in(a->x, row * a->x.stride + col, n, xb);
    const float *res = pb_has(a->res) ? pb_cpu_in(a->res, row * a->res.stride + col, n, rb) : NULL;
    if (a->drop.p > 0.0f) {
        pb_cpu_drop_apply(a->drop, (uint64_t)(row * pb_cols(a->x) + col), n, x, s);
        x = s;
    }
    if (res != NULL) {
        pb_cpu_plus(s, x, res, n);
    } else if (x != s) {
        memcpy(s, x, (size_t)n * sizeof *s);
    }
}

/* s = D(x) + res for one row, in f32; the stored sum is rounded, the statistics are not. */
static void sum_row(const pb_norm_fwd_args *a, int64_t row, float *s, bool past) {
    int64_t cols = pb_cols(a->x);
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j);
        sum_block(a, row, j, n, s + j);
        if (pb_has(a->sum)) {
            int64_t at = row * a->sum.stride + j;
            if (a->sum.dtype == PB_F32 && !past)
                memcpy((float *)a->sum.data + at, s + j, (size_t)n * sizeof *s);
            pb_cpu_done_past(a->sum, at, n, s + j, past);
        }
    }
}

static void norm_row(const pb_norm_fwd_args *a, int64_t row, float *s, const float *gamma,
                     const float *beta, bool past) {
    float yb[PB_CPU_BLOCK], mean = 0.0f;
    int64_t cols = pb_cols(a->x);
    sum_row(a, row, s, past);
    if (a->norm == PB_NORM_LAYER) {
        mean = pb_cpu_sum(s, cols) / (float)cols;
        if (pb_has(a->mean)) ((float *)a->mean.data)[row] = mean;
    }
    float var = pb_cpu_centred_squares(s, mean, cols) / (float)cols;
    float rstd = 1.0f / sqrtf(var + (float)a->eps);
    if (pb_has(a->rstd)) ((float *)a->rstd.data)[row] = rstd;
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j), at = row * a->y.stride + j;
        float *y = pb_cpu_out_past(a->y, at, yb, past);
        apply(y, s + j, mean, rstd, gamma + j, beta + j, n);
        pb_cpu_done_past(a->y, at, n, y, past);
    }
}

/* dst[cols] := t as f32, or zeros without a tensor. */
static void vector_f32(pb_tensor t, int64_t cols, float *dst) {
    if (!pb_has(t)) {
        memset(dst, 0, (size_t)cols * sizeof *dst);
    } else if (t.dtype == PB_F32) {
        memcpy(dst, t.data, (size_t)cols * sizeof *dst);
    } else {
        pb_cpu_widen(dst, t.data, cols);
    }
}

static pb_status norm_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_norm_fwd_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->x.dtype == PB_F64) return no_f64("norm_fwd");
    int64_t rows = pb_rows(a->x), cols = pb_cols(a->x), row_size = row_floats(cols);
    float *gamma = ws, *beta = gamma + row_size, *buffers = beta + row_size;
    vector_f32(a->gamma, cols, gamma);
    vector_f32(a->beta, cols, beta);
    int64_t pieces = pb_ceil_div(rows, ROWS);
    int threads = pb_cpu_threads_for(cpu, rows * cols);
    bool past = pb_cpu_past(cpu, a->y);
#pragma omp parallel num_threads(threads)
    {
        float *s = buffers + pb_cpu_thread() * row_size;
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < pieces; i++) {
            for (int64_t r = i * ROWS; r < pb_min64(rows, (i + 1) * ROWS); r++)
                norm_row(a, r, s, gamma, beta, past);
        }
        pb_cpu_past_end();
    }
    return PB_OK;
}

/* --- backward -------------------------------------------------------------------------------- */

typedef struct bwd_split {
    int64_t rows, cols, row_size, runs, run_rows;
    bool sums; /* dgamma or dbeta wanted */
} bwd_split;

static bwd_split bwd_split_of(const pb_norm_bwd_args *a) {
    bwd_split s = {.rows = pb_rows(a->dy), .cols = pb_cols(a->dy)};
    s.row_size = row_floats(s.cols);
    s.run_rows = pb_max64(ROWS, pb_ceil_div(pb_ceil_div(s.rows, RUNS_MAX), ROWS) * ROWS);
    s.runs = pb_ceil_div(s.rows, s.run_rows);
    s.sums = pb_has(a->dgamma) || pb_has(a->dbeta);
    return s;
}

/* Shared: gamma; per run: dgamma, dbeta; per thread: g = dy .* gamma, xhat. */
static size_t norm_bwd_workspace(const pb_device *dev, const void *args) {
    bwd_split s = bwd_split_of(args);
    int64_t vectors = 1 + (s.sums ? 2 * s.runs : 0) + 2 * pb_device_threads(dev);
    return (size_t)(vectors * s.row_size) * sizeof(float);
}

/* xhat = (x - mean) rstd, g = dy gamma; adds to dgamma, dbeta (or NULL). */
PB_CLONES static void bwd_terms(float *xhat, float *g, const float *x, const float *dy,
                                const float *gamma, float mean, float rstd, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        xhat[i] = (x[i] - mean) * rstd;
        g[i] = dy[i] * gamma[i];
    }
}

PB_CLONES static void bwd_terms_bf16(float *xhat, float *g, const uint16_t *x, const uint16_t *dy,
                                     const float *gamma, float mean, float rstd, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        xhat[i] = (pb_widen(x[i]) - mean) * rstd;
        g[i] = pb_widen(dy[i]) * gamma[i];
    }
}

PB_CLONES static void bwd_params_bf16(float *dgamma, float *dbeta, const uint16_t *dy,
                                      const float *xhat, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        dgamma[i] += pb_widen(dy[i]) * xhat[i];
        dbeta[i] += pb_widen(dy[i]);
    }
}

PB_CLONES static void bwd_params(float *dgamma, float *dbeta, const float *dy, const float *xhat,
                                 int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        dgamma[i] += dy[i] * xhat[i];
        dbeta[i] += dy[i];
    }
}

PB_CLONES static void bwd_apply(float *dx, const float *g, const float *xhat, float mean_g,
                                float mean_gx, float rstd, float beta, int64_t n) {
    if (beta != 0.0f) {
        PB_IVDEP
        for (int64_t i = 0; i < n; i++)
            dx[i] = rstd * (g[i] - mean_g - xhat[i] * mean_gx) + beta * dx[i];
    } else {
        PB_IVDEP
        for (int64_t i = 0; i < n; i++) dx[i] = rstd * (g[i] - mean_g - xhat[i] * mean_gx);
    }
}

/* xhat and g of columns [col, col+n), and what they add to dgamma and dbeta (or NULL). */
static void bwd_block(const pb_norm_bwd_args *a, int64_t row, int64_t col, int64_t n,
                      const float *gamma, float mean, float rstd, float *xhat, float *g,
                      float *dgamma, float *dbeta) {
    float xb[PB_CPU_BLOCK], db[PB_CPU_BLOCK];
    int64_t at = row * a->sum.stride + col, dy_at = row * a->dy.stride + col;
    if (a->sum.dtype == PB_BF16 && a->dy.dtype == PB_BF16) {
        const uint16_t *x = pb_cpu_in_bf16(a->sum, at, n), *dy = pb_cpu_in_bf16(a->dy, dy_at, n);
        bwd_terms_bf16(xhat, g, x, dy, gamma, mean, rstd, n);
        if (dgamma != NULL) bwd_params_bf16(dgamma, dbeta, dy, xhat, n);
    } else {
        const float *x = pb_cpu_in(a->sum, at, n, xb), *dy = pb_cpu_in(a->dy, dy_at, n, db);
        bwd_terms(xhat, g, x, dy, gamma, mean, rstd, n);
        if (dgamma != NULL) bwd_params(dgamma, dbeta, dy, xhat, n);
    }
}

static void norm_bwd_row(const pb_norm_bwd_args *a, int64_t row, int64_t cols, const float *gamma,
                         float *g, float *xhat, float *dgamma, float *dbeta, bool past) {
    float xb[PB_CPU_BLOCK], beta = (float)a->beta_dx;
    bool layer = a->norm == PB_NORM_LAYER;
    float mean = layer ? ((const float *)a->mean.data)[row] : 0.0f,
          rstd = ((const float *)a->rstd.data)[row];
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j);
        bwd_block(a, row, j, n, gamma + j, mean, rstd, xhat + j, g + j,
                  dgamma != NULL ? dgamma + j : NULL, dbeta != NULL ? dbeta + j : NULL);
    }
    float mean_g = layer ? pb_cpu_sum(g, cols) / (float)cols : 0.0f;
    float mean_gx = pb_cpu_dot(g, xhat, cols) / (float)cols;
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j), at = row * a->dx.stride + j;
        float *dx = pb_cpu_out_past(a->dx, at, xb, past);
        if (beta != 0.0f && a->dx.dtype != PB_F32) (void)pb_cpu_in(a->dx, at, n, xb);
        bwd_apply(dx, g + j, xhat + j, mean_g, mean_gx, rstd, beta, n);
        pb_cpu_done_past(a->dx, at, n, dx, past);
    }
}

static pb_status norm_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_norm_bwd_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->dy.dtype == PB_F64) return no_f64("norm_bwd");
    bwd_split s = bwd_split_of(a);
    float *gamma = ws, *sums = gamma + s.row_size,
          *buffers = sums + (s.sums ? 2 * s.runs * s.row_size : 0);
    vector_f32(a->gamma, s.cols, gamma);
    int threads = pb_cpu_threads_for(cpu, s.rows * s.cols);
    bool past = a->beta_dx == 0.0 && pb_cpu_past(cpu, a->dx);
#pragma omp parallel num_threads(threads)
    {
        float *g = buffers + 2 * pb_cpu_thread() * s.row_size, *xhat = g + s.row_size;
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < s.runs; i++) {
            float *dgamma = s.sums ? sums + 2 * i * s.row_size : NULL,
                  *dbeta = s.sums ? dgamma + s.row_size : NULL;
            if (s.sums) memset(dgamma, 0, (size_t)(2 * s.row_size) * sizeof *dgamma);
            for (int64_t r = i * s.run_rows; r < pb_min64(s.rows, (i + 1) * s.run_rows); r++)
                norm_bwd_row(a, r, s.cols, gamma, g, xhat, dgamma, dbeta, past);
        }
        pb_cpu_past_end();
    }
    for (int64_t i = 0; s.sums && i < s.runs; i++) {
        const float *run = sums + 2 * i * s.row_size;
        if (pb_has(a->dgamma)) pb_cpu_add(a->dgamma.data, run, s.cols);
        if (pb_has(a->dbeta)) pb_cpu_add(a->dbeta.data, run + s.row_size, s.cols);
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_norm_fwd, "vector", norm_fwd_workspace, norm_fwd_run},
    {PB_OP_norm_bwd, "vector", norm_bwd_workspace, norm_bwd_run},
};
const pb_kernel_set pb_kernels_cpu_norm = {kernels, sizeof kernels / sizeof *kernels};
