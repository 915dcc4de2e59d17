/* Sums, scales and casts: axpby, scale_cols, coldot, reduce, fill_uniform. One pass over memory
 * each. */
#include "kernels/cpu/cpu.h"

PB_CLONES static void axpby(float *y, const float *x, float alpha, float beta, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i] + beta * y[i];
}

static pb_status no_f64(const char *op) {
    return PB_ERROR(PB_E_UNSUPPORTED, "cpu: %s has no f64 kernel", op);
}

static void axpby_piece(const pb_axpby_args *a, pb_cpu_piece p, bool past) {
    float xb[PB_CPU_BLOCK], yb[PB_CPU_BLOCK], alpha = (float)a->alpha, beta = (float)a->beta;
    for (int64_t j = 0; j < p.n; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, p.n - j), col = p.col + j,
                at = p.row * a->y.stride + col;
        const float *x = pb_cpu_in(a->x, p.row * a->x.stride + col, n, xb);
        float *y = pb_cpu_out_past(a->y, at, yb, past);
        if (beta != 0.0f) {
            if (a->y.dtype != PB_F32) (void)pb_cpu_in(a->y, at, n, yb);
            axpby(y, x, alpha, beta, n);
        } else if (alpha != 1.0f) {
            pb_cpu_scale(y, x, alpha, n);
        } else if (y != x) {
            memmove(y, x, (size_t)n * sizeof *y);
        }
        pb_cpu_done_past(a->y, at, n, y, past);
    }
}

static pb_status axpby_run(pb_device *dev, const void *args, void *ws) {
    const pb_axpby_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64 || a->y.dtype == PB_F64) return no_f64("axpby");
    pb_cpu_grid g = pb_cpu_grid_of(a->x, pb_contiguous(a->x) && pb_contiguous(a->y));
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->x));
    bool past = a->beta == 0.0 && pb_cpu_past(cpu, a->y);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < g.n; i++) axpby_piece(a, pb_cpu_piece_of(g, i), past);
        pb_cpu_past_end();
    }
    return PB_OK;
}

/* --- y = x .* c + bias + beta y -------------------------------------------------------------- */

PB_CLONES static void scale_add(float *y, const float *x, const float *c, const float *bias,
                                int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * c[i] + bias[i];
}

PB_CLONES static void scale_add_blend(float *y, const float *x, const float *c, const float *bias,
                                      float beta, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] * c[i] + bias[i]) + beta * y[i];
}

/* Rows [row, row+rows), columns in blocks whose scale and bias stay in f32 on the stack. */
static void scale_cols_rows(const pb_scale_cols_args *a, int64_t row, int64_t rows, bool past) {
    float cb[PB_CPU_BLOCK], bb[PB_CPU_BLOCK], xb[PB_CPU_BLOCK], yb[PB_CPU_BLOCK],
        beta = (float)a->beta;
    int64_t cols = pb_cols(a->x);
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j);
        const float *c = pb_cpu_in(a->c, j, n, cb), *bias = bb;
        if (pb_has(a->bias)) {
            bias = pb_cpu_in(a->bias, j, n, bb);
        } else {
            memset(bb, 0, sizeof bb);
        }
        for (int64_t i = row; i < row + rows; i++) {
            int64_t at = i * a->y.stride + j;
            const float *x = pb_cpu_in(a->x, i * a->x.stride + j, n, xb);
            float *y = pb_cpu_out_past(a->y, at, yb, past);
            if (beta != 0.0f) {
                if (a->y.dtype != PB_F32) (void)pb_cpu_in(a->y, at, n, yb);
                scale_add_blend(y, x, c, bias, beta, n);
            } else {
                scale_add(y, x, c, bias, n);
            }
            pb_cpu_done_past(a->y, at, n, y, past);
        }
    }
}

static pb_status scale_cols_run(pb_device *dev, const void *args, void *ws) {
    const pb_scale_cols_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64) return no_f64("scale_cols");
    int64_t rows = pb_rows(a->x), step = 16, pieces = pb_ceil_div(rows, step);
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->x));
    bool past = a->beta == 0.0 && pb_cpu_past(cpu, a->y);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < pieces; i++)
            scale_cols_rows(a, i * step, pb_min64(step, rows - i * step), past);
        pb_cpu_past_end();
    }
    return PB_OK;
}

/* --- y[j] += sum_n a b / div ----------------------------------------------------------------- */

#define DOT_COLS 512 /* most columns of one task. Columns are independent: their split may follow the threads */
#define DOT_ROWS 32 /* rows summed before their sum joins the total: keeps rounding errors apart \
                     */

PB_CLONES static void add_products(float *s, const float *a, const float *b, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) s[i] += a[i] * b[i];
}

static void coldot_cols(const pb_coldot_args *c, int64_t col, int64_t n) {
    float total[DOT_COLS] = {0}, ab[DOT_COLS], bb[DOT_COLS], db[DOT_COLS];
    int64_t rows = pb_rows(c->a);
    for (int64_t i = 0; i < rows; i += DOT_ROWS) {
        float part[DOT_COLS] = {0};
        for (int64_t k = i; k < pb_min64(rows, i + DOT_ROWS); k++) {
            const float *x = pb_cpu_in(c->a, k * c->a.stride + col, n, ab);
            if (pb_has(c->b)) {
                add_products(part, x, pb_cpu_in(c->b, k * c->b.stride + col, n, bb), n);
            } else {
                pb_cpu_add(part, x, n);
            }
        }
        pb_cpu_add(total, part, n);
    }
    float *y = (float *)c->y.data + col;
    const float *div = pb_has(c->div) ? pb_cpu_in(c->div, col, n, db) : NULL;
    for (int64_t j = 0; j < n; j++) y[j] += div != NULL ? total[j] / div[j] : total[j];
}

static pb_status coldot_run(pb_device *dev, const void *args, void *ws) {
    const pb_coldot_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->y.dtype == PB_F64) return no_f64("coldot");
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->a));
    int64_t cols = pb_cols(a->a);
    int64_t width = pb_min64(DOT_COLS, pb_ceil_div(pb_ceil_div(cols, threads), 32) * 32);
    int64_t pieces = cols > 0 ? pb_ceil_div(cols, width) : 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < pieces; i++)
        coldot_cols(a, i * width, pb_min64(width, cols - i * width));
    return PB_OK;
}

/* --- sum of all elements --------------------------------------------------------------------- */

static size_t reduce_workspace(const pb_device *dev, const void *args) {
    const pb_reduce_args *a = args;
    (void)dev;
    return (size_t)pb_cpu_grid_of(a->x, pb_contiguous(a->x)).n * sizeof(double);
}

static pb_status reduce_run(pb_device *dev, const void *args, void *ws) {
    const pb_reduce_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->x.dtype == PB_F64) return no_f64("reduce");
    pb_cpu_grid g = pb_cpu_grid_of(a->x, pb_contiguous(a->x));
    double *part = ws;
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->x));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < g.n; i++) {
        pb_cpu_piece p = pb_cpu_piece_of(g, i);
        float xb[PB_CPU_BLOCK];
        part[i] = 0.0;
        for (int64_t j = 0; j < p.n; j += PB_CPU_BLOCK) {
            int64_t n = pb_min64(PB_CPU_BLOCK, p.n - j);
            const float *x = pb_cpu_in(a->x, p.row * a->x.stride + p.col + j, n, xb);
            part[i] += (double)(a->square ? pb_cpu_dot(x, x, n) : pb_cpu_sum(x, n));
        }
    }
    double sum = 0.0;
    for (int64_t i = 0; i < g.n; i++) sum += part[i];
    float *y = a->y.data;
    double old = a->beta != 0.0 ? a->beta * (double)y[0] : 0.0;
    y[0] = (float)(old + a->alpha * sum);
    return PB_OK;
}

/* --- random numbers -------------------------------------------------------------------------- */

PB_CLONES static void uniform(float *x, const uint32_t *r, float lo, float span, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        x[i] = lo + span * ((float)(int32_t)(r[i] >> 8) * (1.0f / 16777216.0f));
}

static void fill_piece(const pb_fill_uniform_args *a, pb_cpu_piece p, int64_t cols, bool past) {
    float xb[PB_CPU_BLOCK];
    uint32_t r[PB_CPU_BLOCK + 4];
    for (int64_t j = 0; j < p.n; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, p.n - j), at = p.row * a->x.stride + p.col + j;
        uint64_t first = (uint64_t)(p.row * cols + p.col + j);
        int64_t skip = (int64_t)(first % 4);
        pb_cpu_random(a->key, a->stream, first / 4, pb_ceil_div(skip + n, 4), r);
        float *x = pb_cpu_out_past(a->x, at, xb, past);
        uniform(x, r + skip, (float)a->lo, (float)(a->hi - a->lo), n);
        pb_cpu_done_past(a->x, at, n, x, past);
    }
}

static pb_status fill_uniform_run(pb_device *dev, const void *args, void *ws) {
    const pb_fill_uniform_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64) return no_f64("fill_uniform");
    pb_cpu_grid g = pb_cpu_grid_of(a->x, pb_contiguous(a->x));
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->x));
    bool past = pb_cpu_past(cpu, a->x);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < g.n; i++) fill_piece(a, pb_cpu_piece_of(g, i), g.cols, past);
        pb_cpu_past_end();
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_axpby, "vector", NULL, axpby_run},
    {PB_OP_scale_cols, "vector", NULL, scale_cols_run},
    {PB_OP_coldot, "vector", NULL, coldot_run},
    {PB_OP_reduce, "vector", reduce_workspace, reduce_run},
    {PB_OP_fill_uniform, "vector", NULL, fill_uniform_run},
};
const pb_kernel_set pb_kernels_cpu_elem = {kernels, sizeof kernels / sizeof *kernels};
