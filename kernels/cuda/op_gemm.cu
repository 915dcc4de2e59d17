/* Products of dense matrices and linear layers: cuBLASLt (gemm.cu), over 4-bit weights linear4.cu. The bias goes into the
 * product's epilogue, and in bf16 so do GELU's tanh form behind a layer and its derivative in front of one: that saves a
 * pass over what is four times as wide as the model. FLOPs 2 M N K. */
#include "kernels/cuda/act.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/linear4.h"

static size_t product_workspace(const pb_device *dev, const void *args) {
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

/* c = a w^T + bias, or a w. */
static pb_gemm_args layer_product(pb_tensor a, pb_tensor w, pb_tensor bias, pb_tensor c, bool transpose) {
    pb_gemm_args g = {};
    g.a = a;
    g.b = w;
    g.c = c;
    g.bias = bias;
    g.trans_b = !transpose;
    g.alpha = 1.0;
    return g;
}

static pb_status linear_run(pb_device *dev, const void *args, void *ws) {
    const pb_linear_args *l = (const pb_linear_args *)args;
    if (l->x.dtype == PB_F64) return pb_cuda_no_f64("linear");
    if (l->w.quant != NULL) return pb_cuda_linear4(pb_cuda_of(dev), l, ws);
    pb_gemm_args g = layer_product(l->x, l->w.dense, l->bias, l->y, l->transpose);
    g.beta = l->beta;
    return pb_cuda_gemm(pb_cuda_of(dev), &g, ws);
}

static pb_status linear_gelu_run(pb_device *dev, const void *args, void *ws) {
    const pb_linear_gelu_args *l = (const pb_linear_gelu_args *)args;
    pb_cuda *cuda = pb_cuda_of(dev);
    bool done = false;
    if (l->x.dtype == PB_F64) return pb_cuda_no_f64("linear_gelu");
    pb_gemm_args g = layer_product(l->x, l->w, l->bias, l->y, false);
    PB_RETURN(pb_cuda_gemm_epilogue(cuda, &g, PB_API_GELU, l->pre, ws, &done));
    if (done) return PB_OK;
    if (pb_has(l->pre)) g.c = l->pre;
    PB_RETURN(pb_cuda_gemm(cuda, &g, ws));
    pb_act_fwd_args act = {};
    act.act = PB_ACT_GELU_TANH;
    act.x = g.c;
    act.y = l->y;
    return pb_cuda_act_fwd(cuda, &act);
}

static pb_status gelu_linear_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_gelu_linear_bwd_args *l = (const pb_gelu_linear_bwd_args *)args;
    pb_cuda *cuda = pb_cuda_of(dev);
    bool done = false;
    if (l->dy.dtype == PB_F64) return pb_cuda_no_f64("gelu_linear_bwd");
    pb_tensor no_bias = {};
    pb_gemm_args g = layer_product(l->dy, l->w, no_bias, l->dx, true);
    PB_RETURN(pb_cuda_gemm_epilogue(cuda, &g, PB_API_GELU_GRAD, l->pre, ws, &done));
    if (done) return PB_OK;
    PB_RETURN(pb_cuda_gemm(cuda, &g, ws));
    pb_act_bwd_args act = {};
    act.act = PB_ACT_GELU_TANH;
    act.x = l->pre;
    act.dy = l->dx;
    act.dx = l->dx;
    return pb_cuda_act_bwd(cuda, &act);
}

static const pb_kernel kernels[] = {
    {PB_OP_gemm, "cublaslt", product_workspace, gemm_run},
    {PB_OP_linear, "cublaslt", linear_workspace, linear_run},
    {PB_OP_linear_gelu, "cublaslt", product_workspace, linear_gelu_run},
    {PB_OP_gelu_linear_bwd, "cublaslt", product_workspace, gelu_linear_bwd_run},
};
PB_CUDA_KERNELS(gemm) = {kernels, sizeof kernels / sizeof *kernels};
