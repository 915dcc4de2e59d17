/* Products of dense matrices, and linear layers whose weight is dense or 4-bit.
 *
 * A 4-bit weight is decoded into workspace in slabs and multiplied from there: for y = x W^T a slab
 * is a block of rows of W (columns of y), for dx = dy W a block of columns of W, so that every
 * element of the result is summed in one product. */
#include "kernels/cpu/cpu_act.h"
#include "kernels/cpu/cpu_gemm.h"
#include "kernels/cpu/cpu_quant.h"

#define SLAB_BYTES ((int64_t)8 << 20)

static pb_status no_f64(const char *op) {
    return PB_ERROR(PB_E_UNSUPPORTED, "cpu: %s has no f64 kernel", op);
}

static size_t gemm_workspace(const pb_device *dev, const void *args) {
    (void)args;
    return pb_cpu_gemm_workspace(dev);
}

static pb_status gemm_run(pb_device *dev, const void *args, void *ws) {
    const pb_gemm_args *g = args;
    if (g->a.dtype == PB_F64) return no_f64("gemm");
    pb_cpu_product p = {
        .m = pb_rows(g->c), .n = pb_cols(g->c), .k = g->trans_a ? pb_rows(g->a) : pb_cols(g->a)};
    p.lda = g->a.stride;
    p.ldb = g->b.stride;
    p.ldc = g->c.stride;
    p.alpha = (float)g->alpha;
    p.beta = (float)g->beta;
    p.ta = g->trans_a;
    p.tb = g->trans_b;
    p.ab = g->a.dtype;
    p.c = g->c.dtype;
    p.bias = pb_has(g->bias);
    p.bias_dtype = p.bias ? g->bias.dtype : PB_F32;
    return pb_cpu_gemm(pb_cpu_of(dev), &p, g->a.data, g->b.data, g->bias.data, g->c.data, ws);
}

/* --- linear ---------------------------------------------------------------------------------- */

/* Rows (or columns) of W in a slab: all when they fit, else a multiple of 64. */
static int64_t slab_of(const pb_linear_args *l) {
    const pb_quant4 *q = l->w.quant;
    int64_t along = l->transpose ? q->in : q->out, across = l->transpose ? q->out : q->in;
    int64_t fit = SLAB_BYTES / pb_max64(1, across * (int64_t)pb_dtype_size(l->x.dtype));
    if (along <= fit) return along;
    return pb_min64(along, pb_max64(64, fit / 64 * 64));
}

static size_t linear_workspace(const pb_device *dev, const void *args) {
    const pb_linear_args *l = args;
    size_t bytes = pb_cpu_gemm_workspace(dev);
    if (l->w.quant == NULL) return bytes;
    int64_t across = l->transpose ? l->w.quant->out : l->w.quant->in;
    return bytes + pb_align64((size_t)(slab_of(l) * across) * pb_dtype_size(l->x.dtype));
}

static pb_cpu_product linear_product(const pb_linear_args *l) {
    pb_cpu_product p = {.m = pb_rows(l->x), .n = pb_cols(l->y), .k = pb_cols(l->x), .alpha = 1.0f};
    p.lda = l->x.stride;
    p.ldc = l->y.stride;
    p.beta = (float)l->beta;
    p.tb = !l->transpose;
    p.ab = l->x.dtype;
    p.c = l->y.dtype;
    p.bias = pb_has(l->bias);
    p.bias_dtype = p.bias ? l->bias.dtype : PB_F32;
    return p;
}

/* w := rows [from, from+n) of W, or columns, which become the n columns of w. */
static void decode_slab(const pb_cpu *cpu, const pb_linear_args *l, int64_t from, int64_t n,
                        void *w) {
    const pb_quant4 *q = l->w.quant;
    int64_t rows = l->transpose ? q->out : n, cols = l->transpose ? n : q->in;
    int64_t size = (int64_t)pb_dtype_size(l->x.dtype);
    int threads = pb_cpu_threads_for(cpu, rows * cols);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t j = 0; j < rows; j++) {
        int64_t first = l->transpose ? j * q->in + from : (from + j) * q->in;
        pb_cpu_dequant4(q, first, cols, l->x.dtype, (char *)w + j * cols * size);
    }
}

static pb_status linear_quant(pb_cpu *cpu, const pb_linear_args *l, char *ws, size_t scratch) {
    pb_cpu_product p = linear_product(l);
    int64_t size = (int64_t)pb_dtype_size(l->x.dtype), slab = slab_of(l), along = p.n;
    void *w = ws + scratch;
    for (int64_t at = 0; at < along; at += slab) {
        p.n = pb_min64(slab, along - at);
        p.ldb = l->transpose ? p.n : p.k;
        decode_slab(cpu, l, at, p.n, w);
        const char *bias =
            p.bias ? (const char *)l->bias.data + at * (int64_t)pb_dtype_size(l->bias.dtype) : NULL;
        PB_RETURN(pb_cpu_gemm(cpu, &p, l->x.data, w, bias, (char *)l->y.data + at * size, ws));
    }
    return PB_OK;
}

static pb_status linear_run(pb_device *dev, const void *args, void *ws) {
    const pb_linear_args *l = args;
    if (l->x.dtype == PB_F64) return no_f64("linear");
    if (l->w.quant != NULL) return linear_quant(pb_cpu_of(dev), l, ws, pb_cpu_gemm_workspace(dev));
    pb_cpu_product p = linear_product(l);
    p.ldb = l->w.dense.stride;
    return pb_cpu_gemm(pb_cpu_of(dev), &p, l->x.data, l->w.dense.data, l->bias.data, l->y.data, ws);
}

/* --- linear with GELU: the product, then the activation -------------------------------------- */

static pb_status linear_gelu_run(pb_device *dev, const void *args, void *ws) {
    const pb_linear_gelu_args *l = args;
    pb_tensor sum = pb_has(l->pre) ? l->pre : l->y;
    pb_linear_args linear = {.x = l->x, .y = sum, .bias = l->bias, .w = {.dense = l->w}};
    pb_act_fwd_args act = {.act = PB_ACT_GELU_TANH, .x = sum, .y = l->y};
    if (l->x.dtype == PB_F64) return no_f64("linear_gelu");
    PB_RETURN(linear_run(dev, &linear, ws));
    pb_cpu_act_fwd(pb_cpu_of(dev), &act);
    return PB_OK;
}

static pb_status gelu_linear_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_gelu_linear_bwd_args *l = args;
    pb_linear_args linear = {.x = l->dy, .y = l->dx, .w = {.dense = l->w}, .transpose = true};
    pb_act_bwd_args act = {.act = PB_ACT_GELU_TANH, .x = l->pre, .dy = l->dx, .dx = l->dx};
    if (l->dy.dtype == PB_F64) return no_f64("gelu_linear_bwd");
    PB_RETURN(linear_run(dev, &linear, ws));
    pb_cpu_act_bwd(pb_cpu_of(dev), &act);
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_gemm, "onednn", gemm_workspace, gemm_run},
    {PB_OP_linear, "onednn", linear_workspace, linear_run},
    {PB_OP_linear_gelu, "onednn", gemm_workspace, linear_gelu_run},
    {PB_OP_gelu_linear_bwd, "onednn", gemm_workspace, gelu_linear_bwd_run},
};
const pb_kernel_set pb_kernels_cpu_gemm = {kernels, sizeof kernels / sizeof *kernels};
