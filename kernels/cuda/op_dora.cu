/* DoRA (Liu et al. 2024): row norms of W + s B A without forming it, and the exact gradient of the ablation.
 *
 * ||W_j + s b_j A||^2 = w2_j + 2 s b_j . (W A^T)_j + s^2 b_j (A A^T) b_j^T: two products of FLOPs 2 r out in and 2 r^2 in
 * by the library, then r^2 per row, in double because the terms may nearly cancel. Bytes: W once (4-bit: its codes; decoded
 * slabs are meant to stay in the L2 cache), against three passes over out x in when W + s B A is formed. */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/lane.cuh"
#include "kernels/cuda/quant.h"

#define THREADS 128

typedef struct dora_ws {
    pb_tensor wa, aa, slab; /* M [out,r], [r,r]; decoded rows of W */
    void *product;
    size_t bytes;
} dora_ws;

static pb_tensor matrix(void *data, pb_dtype dtype, int64_t rows, int64_t cols) {
    pb_tensor t = {};
    t.data = data;
    t.dtype = dtype;
    t.ndim = 2;
    t.dim[0] = rows;
    t.dim[1] = cols;
    t.stride = cols;
    return t;
}

static dora_ws dora_layout(const pb_dora_norm_args *a, char *base) {
    dora_ws w = {};
    int64_t out = pb_weight_out(a->w), in = pb_weight_in(a->w), r = pb_rows(a->a);
    char *at = base;
    w.wa = matrix(pb_cuda_take(&at, (size_t)(out * r) * sizeof(float)), PB_F32, out, r);
    w.aa = matrix(pb_cuda_take(&at, (size_t)(r * r) * sizeof(float)), PB_F32, r, r);
    if (a->w.quant != NULL) {
        void *slab = pb_cuda_take(&at, pb_cuda_slab_bytes(a->w.quant, a->a.dtype, false));
        w.slab = matrix(slab, a->a.dtype, pb_cuda_slab(a->w.quant, a->a.dtype, false), in);
    }
    w.product = pb_cuda_take(&at, PB_CUDA_PRODUCT_BYTES);
    w.bytes = (size_t)(at - base);
    return w;
}

static size_t dora_norm_workspace(const pb_device *dev, const void *args) {
    (void)dev;
    return dora_layout((const pb_dora_norm_args *)args, NULL).bytes;
}

/* c := x A^T */
static pb_status times_at(pb_cuda *cuda, const pb_dora_norm_args *a, const dora_ws *w, pb_tensor x, pb_tensor c) {
    pb_gemm_args g = {};
    g.a = x;
    g.b = a->a;
    g.c = c;
    g.trans_b = true;
    g.alpha = 1.0;
    return pb_cuda_gemm(cuda, &g, w->product);
}

static pb_status weight_times_at(pb_cuda *cuda, const pb_dora_norm_args *a, const dora_ws *w) {
    const pb_quant4 *q = a->w.quant;
    if (q == NULL) return times_at(cuda, a, w, a->w.dense, w->wa);
    for (int64_t from = 0; from < q->out; from += pb_rows(w->slab)) {
        int64_t rows = pb_min64(pb_rows(w->slab), q->out - from);
        pb_tensor slab = pb_rows_of(w->slab, 0, rows);
        PB_RETURN(pb_cuda_dequant4(cuda, q, from, rows, 0, q->in, slab));
        PB_RETURN(times_at(cuda, a, w, slab, pb_rows_of(w->wa, from, rows)));
    }
    return PB_OK;
}

/* A warp to a row j: lane k sums over columns of A A^T. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    dora_row_kernel(const T *b, int64_t stride, const float *wa, const float *aa, const float *w2,
                    const float *m, int r, int64_t out, double s, float *n, float *c) {
    int lane = (int)threadIdx.x & 31;
    int64_t j = (int64_t)blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5);
    if (j >= out) return;
    double cross = 0.0, square = 0.0;
    for (int k = lane; k < r; k += 32) {
        double bk = (double)pb_load(b + j * stride + k), row = 0.0;
        for (int i = 0; i < r; i++)
            row += (double)pb_load(b + j * stride + i) * (double)aa[(int64_t)i * r + k];
        cross += bk * (double)wa[j * r + k];
        square += bk * row;
    }
    for (int step = 16; step > 0; step /= 2) {
        cross += __shfl_xor_sync(PB_ALL_LANES, cross, step);
        square += __shfl_xor_sync(PB_ALL_LANES, square, step);
    }
    if (lane != 0) return;
    double n2 = (double)w2[j] + 2.0 * s * cross + s * s * square;
    float norm = (float)sqrt(n2 <= 0.0 ? 0.0 : n2); /* NaN passes */
    n[j] = norm;
    c[j] = m[j] / norm;
}

template <typename T>
static pb_status dora_rows(pb_cuda *cuda, const pb_dora_norm_args *a, const dora_ws *w) {
    int64_t out = pb_weight_out(a->w);
    return PB_LAUNCH(cuda, (dora_row_kernel<T>), pb_grid(pb_ceil_div(out, THREADS / 32)), THREADS,
                     0, (const T *)a->b.data, a->b.stride, (const float *)w->wa.data,
                     (const float *)w->aa.data, (const float *)a->w2.data, (const float *)a->m.data,
                     (int)pb_rows(a->a), out, a->scale, (float *)a->n.data, (float *)a->c.data);
}

static pb_status dora_norm_run(pb_device *dev, const void *args, void *ws) {
    const pb_dora_norm_args *a = (const pb_dora_norm_args *)args;
    pb_cuda *cuda = pb_cuda_of(dev);
    if (a->a.dtype == PB_F64) return pb_cuda_no_f64("dora_norm");
    dora_ws w = dora_layout(a, (char *)ws);
    PB_RETURN(weight_times_at(cuda, a, &w));
    PB_RETURN(times_at(cuda, a, &w, a->a, w.aa));
    return a->a.dtype == PB_F32 ? dora_rows<float>(cuda, a, &w) : dora_rows<pb_bf16>(cuda, a, &w);
}

/* g_j := (m_j/n_j) (g_j - (g_j . v_j) v_j / n_j^2), eq. 6 of the paper. A block to a row; the second pass over g and v
 * comes from the cache. Bytes: g twice, v once; FLOPs 5 per element. */
static __global__ void __launch_bounds__(THREADS)
    dora_exact_kernel(float *g, int64_t g_stride, const float *v, int64_t v_stride, const float *m,
                      const float *n, int64_t cols) {
    __shared__ float scratch[32];
    int64_t j = blockIdx.x;
    g += j * g_stride;
    v += j * v_stride;
    float dot = 0.0f;
    for (int64_t i = threadIdx.x; i < cols; i += THREADS) dot += g[i] * v[i];
    dot = pb_block_sum(dot, scratch);
    double mj = (double)m[j], nj = (double)n[j];
    float scale = (float)(mj / nj), along = (float)((double)dot / (nj * nj));
    for (int64_t i = threadIdx.x; i < cols; i += THREADS) g[i] = scale * (g[i] - along * v[i]);
}

static pb_status dora_exact_run(pb_device *dev, const void *args, void *ws) {
    const pb_dora_exact_args *a = (const pb_dora_exact_args *)args;
    (void)ws;
    if (a->g.dtype == PB_F64) return pb_cuda_no_f64("dora_exact");
    return PB_LAUNCH(pb_cuda_of(dev), dora_exact_kernel, pb_grid(pb_rows(a->g)), THREADS, 0,
                     (float *)a->g.data, a->g.stride, (const float *)a->v.data, a->v.stride,
                     (const float *)a->m.data, (const float *)a->n.data, pb_cols(a->g));
}

static const pb_kernel kernels[] = {
    {PB_OP_dora_norm, "cublaslt", dora_norm_workspace, dora_norm_run},
    {PB_OP_dora_exact, "plain", NULL, dora_exact_run},
};
PB_CUDA_KERNELS(dora) = {kernels, sizeof kernels / sizeof *kernels};
