/* Activations: one pass over memory, f32 arithmetic. */
#include "kernels/cuda/lane.cuh"

#define THREADS 256

template <int ACT> __device__ inline float act_of(float x) {
    if (ACT == PB_ACT_GELU) return 0.5f * x * erfcf(-0.70710678f * x);
    if (ACT == PB_ACT_GELU_TANH) {
        float v = x * (1.5957691216f + 0.0713548162726f * (x * x));
        return x / (1.0f + expf(-v));
    }
    if (ACT == PB_ACT_RELU) return x < 0.0f ? 0.0f : x;
    return x / (1.0f + expf(-x));
}

/* y = act(x). Idea: one thread an element, rows on the grid's second axis. Bytes: x and y once. */
template <typename T, int ACT>
__global__ void act_fwd_kernel(const T *x, T *y, int64_t cols, int64_t x_stride, int64_t y_stride) {
    int64_t col = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (col >= cols) return;
    pb_store(y + row * y_stride + col, act_of<ACT>(pb_load(x + row * x_stride + col)));
}

template <int ACT> static pb_status act_fwd_as(pb_cuda *cuda, const pb_act_fwd_args *a) {
    bool flat = pb_contiguous(a->x) && pb_contiguous(a->y);
    int64_t rows = flat ? 1 : pb_rows(a->x), cols = flat ? pb_numel(a->x) : pb_cols(a->x);
    pb_status status = PB_OK;
    PB_WITH_REAL(a->x.dtype, T,
                 status = PB_LAUNCH(cuda, (act_fwd_kernel<T, ACT>), pb_grid(pb_ceil_div(cols, THREADS), rows), THREADS,
                                    0, a->x.data, a->y.data, cols, a->x.stride, a->y.stride));
    return status;
}

static pb_status act_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_act_fwd_args *a = (const pb_act_fwd_args *)args;
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("act_fwd");
    switch (a->act) {
    case PB_ACT_GELU: return act_fwd_as<PB_ACT_GELU>(cuda, a);
    case PB_ACT_GELU_TANH: return act_fwd_as<PB_ACT_GELU_TANH>(cuda, a);
    case PB_ACT_RELU: return act_fwd_as<PB_ACT_RELU>(cuda, a);
    default: return act_fwd_as<PB_ACT_SILU>(cuda, a);
    }
}

static const pb_kernel kernels[] = {
    {PB_OP_act_fwd, "plain", NULL, act_fwd_run},
};
PB_CUDA_KERNELS(act) = {kernels, sizeof kernels / sizeof *kernels};
