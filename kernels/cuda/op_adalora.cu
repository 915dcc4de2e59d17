/* AdaLoRA's importance and orthogonality (Zhang et al. 2023, sec. 3.2 and 3.1): small matrices, a launch
 * or two each. */
#include "kernels/cuda/columns.cuh"

#define RUN_ROWS 64 /* rows of a run, by column */

struct importance_view {
    pb_view<const float> w, g;
    pb_view<float> ibar, ubar;
    const float *grad_scale;
    float beta1, rest1, beta2, rest2;
    int64_t rows, cols;
};

/* Updates ibar and ubar of one element (eq. 9, 10); returns its s = ibar ubar (eq. 8). */
__device__ __forceinline__ float importance_of(const importance_view &a, float scale, int64_t row,
                                               int64_t col) {
    float *ibar = a.ibar.at(row, col), *ubar = a.ubar.at(row, col);
    float now = fabsf(*a.w.at(row, col) * *a.g.at(row, col) * scale);
    float ib = a.beta1 * *ibar + a.rest1 * now;
    float ub = a.beta2 * *ubar + a.rest2 * fabsf(now - ib);
    *ibar = ib;
    *ubar = ub;
    return ib * ub;
}

/* score[row] += mean of s over the row. Idea: a block a row (a rank of P or Q). Bytes: 24 an element (w,
 * g once; ibar, ubar twice). FLOPs: 12 an element. */
static __global__ void __launch_bounds__(PB_CHUNK_THREADS)
    importance_row_kernel(importance_view a, float *score) {
    __shared__ double slots[PB_WARP];
    float scale = a.grad_scale != NULL ? *a.grad_scale : 1.0f;
    for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
        double sum = 0.0;
        for (int64_t col = threadIdx.x; col < a.cols; col += blockDim.x)
            sum += (double)importance_of(a, scale, row, col);
        sum = pb_block_sum64(sum, slots);
        if (threadIdx.x == 0) score[row] += (float)(sum / (double)a.cols);
    }
}

/* part[run][col] := sum of s over a run of rows / rows. Idea: lanes are columns, each of 8 warps takes
 * every eighth row of the run, the warps in order. */
static __global__ void __launch_bounds__(PB_WARP *PB_COLUMNS_WARPS)
    importance_col_kernel(importance_view a, float *part) {
    __shared__ float sums[PB_COLUMNS_WARPS][PB_WARP];
    float scale = a.grad_scale != NULL ? *a.grad_scale : 1.0f, sum = 0.0f;
    int64_t col = (int64_t)blockIdx.y * PB_WARP + threadIdx.x, first = (int64_t)blockIdx.x * RUN_ROWS;
    int64_t end = first + RUN_ROWS < a.rows ? first + RUN_ROWS : a.rows;
    if (col < a.cols) {
        for (int64_t row = first + threadIdx.y; row < end; row += PB_COLUMNS_WARPS)
            sum += importance_of(a, scale, row, col);
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || col >= a.cols) return;
    float total = 0.0f;
    for (int w = 0; w < PB_COLUMNS_WARPS; w++) total += sums[w][threadIdx.x];
    part[blockIdx.x * a.cols + col] = total / (float)a.rows;
}

static size_t importance_workspace(const pb_device *dev, const void *args) {
    const pb_importance_args *a = static_cast<const pb_importance_args *>(args);
    (void)dev;
    if (!a->by_col) return 0;
    return (size_t)(pb_ceil_div(pb_rows(a->w), RUN_ROWS) * pb_cols(a->w)) * sizeof(float);
}

static pb_status importance_run(pb_device *dev, const void *args, void *ws) {
    const pb_importance_args *p = static_cast<const pb_importance_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    if (p->w.dtype == PB_F64) return pb_cuda_no_f64("importance");
    importance_view a;
    a.w = pb_view_of<const float>(p->w);
    a.g = pb_view_of<const float>(p->g);
    a.ibar = pb_view_of<float>(p->ibar);
    a.ubar = pb_view_of<float>(p->ubar);
    a.grad_scale = static_cast<const float *>(p->grad_scale.data);
    a.beta1 = (float)p->beta1;
    a.rest1 = (float)(1.0 - p->beta1);
    a.beta2 = (float)p->beta2;
    a.rest2 = (float)(1.0 - p->beta2);
    a.rows = pb_rows(p->w);
    a.cols = pb_cols(p->w);
    float *score = static_cast<float *>(p->score.data), *part = static_cast<float *>(ws);
    if (a.rows == 0 || a.cols == 0) return PB_OK;
    if (!p->by_col) {
        dim3 grid = pb_grid(pb_min64(a.rows, 1 << 20));
        return PB_LAUNCH(cuda, importance_row_kernel, grid, PB_CHUNK_THREADS, 0, a, score);
    }
    int64_t runs = pb_ceil_div(a.rows, RUN_ROWS);
    PB_RETURN(PB_LAUNCH(cuda, importance_col_kernel, pb_grid(runs, pb_ceil_div(a.cols, PB_WARP)),
                        dim3(PB_WARP, PB_COLUMNS_WARPS), 0, a, part));
    return pb_column_total(cuda, part, runs, a.cols, NULL, score);
}

/* gram -= I; f = ||gram||; loss += weight f; gram *= 2 weight / f. Idea: one block, the matrix is r x r.
 * Bytes: gram four times, from the cache after the first. FLOPs: 3 an element. A NaN norm makes a NaN
 * gradient. */
static __global__ void __launch_bounds__(PB_CHUNK_THREADS)
    orthogonality_kernel(pb_view<float> gram, int64_t r, float *loss, double weight) {
    __shared__ double slots[PB_WARP];
    double square = 0.0;
    for (int64_t i = threadIdx.x; i < r * r; i += blockDim.x) {
        float v = *gram.at(i / r, i % r) - (i / r == i % r ? 1.0f : 0.0f);
        square += (double)v * (double)v;
    }
    double norm = sqrt(pb_block_sum64(square, slots));
    float factor = (float)(norm <= 0.0 ? 0.0 : 2.0 * weight / norm);
    if (threadIdx.x == 0) loss[0] += (float)(weight * norm);
    for (int64_t i = threadIdx.x; i < r * r; i += blockDim.x) { /* the thread's own elements again */
        float *v = gram.at(i / r, i % r);
        *v = (*v - (i / r == i % r ? 1.0f : 0.0f)) * factor;
    }
}

static pb_status orthogonality_run(pb_device *dev, const void *args, void *ws) {
    const pb_orthogonality_args *a = static_cast<const pb_orthogonality_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->gram.dtype == PB_F64) return pb_cuda_no_f64("orthogonality");
    return PB_LAUNCH(cuda, orthogonality_kernel, 1, PB_CHUNK_THREADS, 0, pb_view_of<float>(a->gram),
                     pb_rows(a->gram), a->loss.data, a->weight);
}

static const pb_kernel kernels[] = {
    {PB_OP_importance, "plain", importance_workspace, importance_run},
    {PB_OP_orthogonality, "plain", NULL, orthogonality_run},
};
PB_CUDA_KERNELS(adalora) = {kernels, (int)(sizeof kernels / sizeof *kernels)};
