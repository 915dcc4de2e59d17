/* Products of dense matrices and linear layers over dense weights: cuBLASLt (gemm.cu). The bias goes into the product's
 * epilogue. FLOPs 2 M N K. */
#include "kernels/cuda/gemm.h"

static pb_status gemm_run(pb_device *dev, const void *args, void *ws) {
    const pb_gemm_args *g = (const pb_gemm_args *)args;
    (void)ws;
    if (g->a.dtype == PB_F64) return pb_cuda_no_f64("gemm");
    return pb_cuda_gemm(pb_cuda_of(dev), g);
}

static size_t linear_workspace(const pb_device *dev, const void *args) {
    (void)dev;
    (void)args;
    return 0;
}

static pb_status linear_run(pb_device *dev, const void *args, void *ws) {
    const pb_linear_args *l = (const pb_linear_args *)args;
    (void)ws;
    if (l->x.dtype == PB_F64) return pb_cuda_no_f64("linear");
    if (l->w.quant != NULL) return PB_ERROR(PB_E_UNSUPPORTED, "cuda: linear over 4-bit weights has no kernel");
    pb_gemm_args g = {};
    g.a = l->x;
    g.b = l->w.dense;
    g.c = l->y;
    g.bias = l->bias;
    g.trans_b = !l->transpose;
    g.alpha = 1.0;
    g.beta = l->beta;
    return pb_cuda_gemm(pb_cuda_of(dev), &g);
}

static const pb_kernel kernels[] = {
    {PB_OP_gemm, "cublaslt", NULL, gemm_run},
    {PB_OP_linear, "cublaslt", linear_workspace, linear_run},
};
PB_CUDA_KERNELS(gemm) = {kernels, sizeof kernels / sizeof *kernels};
