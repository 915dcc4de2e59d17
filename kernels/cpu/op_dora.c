/* DoRA (Liu et al. 2024): row norms of W + s B A without forming it, and the exact gradient of the
 * ablation.
 *
 * ||W_j + s b_j A||^2 = w2_j + 2 s b_j . (W A^T)_j + s^2 b_j (A A^T) b_j^T: two products of FLOPs 2
 * r out in and 2 r^2 in, then r^2 per row, in double because the terms may nearly cancel. */
#include <math.h>

#include "kernels/cpu/cpu_gemm.h"
#include "kernels/cpu/cpu_quant.h"

#define SLAB_BYTES ((int64_t)2 << 20)

static pb_status no_f64(const char *op) {
    return PB_ERROR(PB_E_UNSUPPORTED, "cpu: %s has no f64 kernel", op);
}

typedef struct dora_ws {
    float *wa, *aa, *b; /* [out,r], [r,r], [out,r]: B in f32 */
    double *wide;       /* A A^T [r, r rounded up to 16] */
    void *slab;     /* decoded rows of W */
    void *scratch;
    int64_t slab_rows;
    size_t bytes;
} dora_ws;

static int64_t padded(int64_t r) { return pb_ceil_div(r, PB_LANES) * PB_LANES; }

static dora_ws dora_layout(const pb_device *dev, const pb_dora_norm_args *a, char *base) {
    dora_ws w = {0};
    int64_t out = pb_weight_out(a->w), in = pb_weight_in(a->w), r = pb_rows(a->a);
    int64_t size = (int64_t)pb_dtype_size(a->a.dtype);
    if (a->w.quant != NULL) {
        w.slab_rows = pb_min64(out, pb_max64(16, SLAB_BYTES / pb_max64(1, in * size) / 16 * 16));
    }
    size_t wa = pb_align64((size_t)(out * r) * sizeof(float)),
           aa = pb_align64((size_t)(r * r) * sizeof(float));
    size_t slab = pb_align64((size_t)(w.slab_rows * in * size));
    size_t wide = pb_align64((size_t)(r * padded(r)) * sizeof(double));
    w.bytes = wide + wa + aa + wa + slab + pb_cpu_gemm_workspace(dev);
    if (base != NULL) {
        w.wide = (double *)(void *)base;
        base += wide;
        w.wa = (float *)(void *)base;
        w.aa = (float *)(void *)(base + wa);
        w.b = (float *)(void *)(base + wa + aa);
        w.slab = base + wa + aa + wa;
        w.scratch = base + wa + aa + wa + slab;
    }
    return w;
}

static size_t dora_norm_workspace(const pb_device *dev, const void *args) {
    return dora_layout(dev, args, NULL).bytes;
}

static pb_cpu_product times_at(const pb_dora_norm_args *a, int64_t rows, int64_t lda) {
    pb_cpu_product p = {
        .m = rows, .n = pb_rows(a->a), .k = pb_cols(a->a), .lda = lda, .ldb = a->a.stride};
    p.ldc = p.n;
    p.tb = true;
    p.alpha = 1.0f;
    p.ab = a->a.dtype;
    p.c = PB_F32;
    p.bias_dtype = PB_F32;
    return p;
}

/* wa := W A^T, row blocks of W decoded as they are needed. */
static pb_status weight_times_at(pb_cpu *cpu, const pb_dora_norm_args *a, const dora_ws *w) {
    int64_t out = pb_weight_out(a->w), in = pb_weight_in(a->w);
    if (a->w.quant == NULL) {
        pb_cpu_product p = times_at(a, out, a->w.dense.stride);
        return pb_cpu_gemm(cpu, &p, a->w.dense.data, a->a.data, NULL, w->wa, w->scratch);
    }
    int64_t size = (int64_t)pb_dtype_size(a->a.dtype);
    for (int64_t from = 0; from < out; from += w->slab_rows) {
        int64_t rows = pb_min64(w->slab_rows, out - from);
        int threads = pb_cpu_threads_for(cpu, rows * in);
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t j = 0; j < rows; j++) {
            pb_cpu_dequant4(a->w.quant, (from + j) * in, in, a->a.dtype,
                            (char *)w->slab + j * in * size);
        }
        pb_cpu_product p = times_at(a, rows, in);
        PB_RETURN(pb_cpu_gemm(cpu, &p, w->slab, a->a.data, NULL, w->wa + from * p.n, w->scratch));
    }
    return PB_OK;
}

/* b_j . (W A^T)_j and b_j (A A^T) b_j^T, b_j given in f32; 16 columns of A A^T at a time. */
PB_CLONES static void dora_sums(const float *b, const float *wa, const double *aa, int64_t r,
                                int64_t ld, double *cross, double *square) {
    *cross = *square = 0.0;
    for (int64_t k = 0; k < r; k += PB_LANES) {
        double row[PB_LANES] = {0};
        for (int64_t i = 0; i < r; i++) {
            double bi = (double)b[i];
            for (int64_t c = 0; c < PB_LANES; c++) row[c] += bi * aa[i * ld + k + c];
        }
        for (int64_t c = 0; c < pb_min64(PB_LANES, r - k); c++) {
            *cross += (double)b[k + c] * (double)wa[k + c];
            *square += (double)b[k + c] * row[c];
        }
    }
}

static void dora_row(const pb_dora_norm_args *a, const dora_ws *w, int64_t j, int64_t r) {
    double s = a->scale, cross, square;
    const float *b = pb_cpu_in(a->b, j * a->b.stride, r, w->b + j * r);
    dora_sums(b, w->wa + j * r, w->wide, r, padded(r), &cross, &square);
    double n2 = (double)((const float *)a->w2.data)[j] + 2.0 * s * cross + s * s * square;
    float n = (float)sqrt(n2 > 0.0 ? n2 : (n2 <= 0.0 ? 0.0 : n2)); /* NaN passes */
    ((float *)a->n.data)[j] = n;
    ((float *)a->c.data)[j] = ((const float *)a->m.data)[j] / n;
}

static pb_status dora_norm_run(pb_device *dev, const void *args, void *ws) {
    const pb_dora_norm_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->a.dtype == PB_F64) return no_f64("dora_norm");
    dora_ws w = dora_layout(dev, a, ws);
    int64_t out = pb_weight_out(a->w), r = pb_rows(a->a);
    PB_RETURN(weight_times_at(cpu, a, &w));
    pb_cpu_product p = times_at(a, r, a->a.stride);
    PB_RETURN(pb_cpu_gemm(cpu, &p, a->a.data, a->a.data, NULL, w.aa, w.scratch));
    for (int64_t i = 0; i < r; i++) {
        for (int64_t k = 0; k < padded(r); k++)
            w.wide[i * padded(r) + k] = k < r ? (double)w.aa[i * r + k] : 0.0;
    }
    int threads = pb_cpu_threads_for(cpu, out * r * r);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t j = 0; j < out; j++) dora_row(a, &w, j, r);
    return PB_OK;
}

/* g_j := (m_j/n_j) (g_j - (g_j . v_j) v_j / n_j^2), eq. 6 of the paper. */
PB_CLONES static void exact_row(float *g, const float *v, float scale, float along, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) g[i] = scale * (g[i] - along * v[i]);
}

static pb_status dora_exact_run(pb_device *dev, const void *args, void *ws) {
    const pb_dora_exact_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->g.dtype == PB_F64) return no_f64("dora_exact");
    int64_t rows = pb_rows(a->g), cols = pb_cols(a->g);
    int threads = pb_cpu_threads_for(cpu, rows * cols);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t j = 0; j < rows; j++) {
        float *g = (float *)a->g.data + j * a->g.stride;
        const float *v = (const float *)a->v.data + j * a->v.stride;
        double n = (double)((const float *)a->n.data)[j], m = (double)((const float *)a->m.data)[j];
        double dot = (double)pb_cpu_dot(g, v, cols);
        exact_row(g, v, (float)(m / n), (float)(dot / (n * n)), cols);
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_dora_norm, "onednn", dora_norm_workspace, dora_norm_run},
    {PB_OP_dora_exact, "vector", NULL, dora_exact_run},
};
const pb_kernel_set pb_kernels_cpu_dora = {kernels, sizeof kernels / sizeof *kernels};
