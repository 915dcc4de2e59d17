/* Products of dense matrices and linear layers: cuBLASLt (gemm.cu), over 4-bit weights linear4.cu. The bias goes into the
 * product's epilogue. FLOPs 2 M N K. */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/linear4.h"

static size_t gemm_workspace(const pb_device *dev, const void *args) {
    (void)dev;
    (void)args;
    return PB_CUDA_PRODUCT_BYTES;
}

static pb_status gemm_run(pb_device *dev, const void *args, void *ws) {
    const pb_gemm_args *g = (const pb_gemm_args *)args;
    if (g->a.dtype == PB_F64) return pb_cuda_no_f64("gemm");
    return pb_cuda_gemm(pb_cuda_of(dev), g, ws);
}

static size_t linear_workspace(const pb_device *dev, const void *args) {
    const pb_linear_args *l = (const pb_linear_args *)args;
    (void)dev;
    return l->w.quant != NULL ? pb_cuda_linear4_workspace(l) : PB_CUDA_PRODUCT_BYTES;
}

static pb_status linear_run(pb_device *dev, const void *args, void *ws) {
    const pb_linear_args *l = (const pb_linear_args *)args;
    if (l->x.dtype == PB_F64) return pb_cuda_no_f64("linear");
    if (l->w.quant != NULL) return pb_cuda_linear4(pb_cuda_of(dev), l, ws);
    pb_gemm_args g = {};
    g.a = l->x;
    g.b = l->w.dense;
    g.c = l->y;
    g.bias = l->bias;
    g.trans_b = !l->transpose;
    g.alpha = 1.0;
    g.beta = l->beta;
    return pb_cuda_gemm(pb_cuda_of(dev), &g, ws);
}

static const pb_kernel kernels[] = {
    {PB_OP_gemm, "cublaslt", gemm_workspace, gemm_run},
    {PB_OP_linear, "cublaslt", linear_workspace, linear_run},
};
PB_CUDA_KERNELS(gemm) = {kernels, sizeof kernels / sizeof *kernels};
