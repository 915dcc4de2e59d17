/* Sums over the rows of a matrix, column by column, in a fixed order: coldot and the gradients of a
 * norm's parameters.
 *
 * Rows are cut into runs by shape alone. A block sums one run of 32 V columns: each of its 8 warps
 * takes every eighth row, and the warps' sums are added in order. A second launch adds the runs, again
 * in a fixed order. So the bits depend neither on scheduling nor on the size of the GPU. */
#ifndef PB_KERNELS_CUDA_COLUMNS_CUH
#define PB_KERNELS_CUDA_COLUMNS_CUH

#include "kernels/cuda/chunk.cuh"

#define PB_COLUMNS_WARPS 8
#define PB_COLUMNS_BLOCKS 1056 /* that the first launch aims at: 8 for each SM of an H200 */
#define PB_COLUMNS_TOTAL 32 /* rows of the block that adds the runs */

struct pb_column_runs {
    int64_t tiles, runs, run_rows;
};

static inline pb_column_runs pb_column_runs_of(int64_t rows, int64_t cols, int width) {
    pb_column_runs r = {pb_ceil_div(cols, PB_WARP * width), 0, 0};
    int64_t runs = pb_ceil_div(PB_COLUMNS_BLOCKS, pb_max64(r.tiles, 1));
    runs = pb_max64(1, pb_min64(runs, pb_ceil_div(rows, 4 * PB_COLUMNS_WARPS)));
    r.run_rows = pb_max64(1, pb_ceil_div(rows, runs));
    r.runs = pb_ceil_div(rows, r.run_rows);
    return r;
}

/* floats of workspace */
static inline int64_t pb_column_floats(int64_t rows, int64_t cols, int width) {
    return pb_column_runs_of(rows, cols, width).runs * cols;
}

enum pb_column_term { PB_COLUMN_A, PB_COLUMN_AB, PB_COLUMN_NORM };

/* part[run][col] := sum over the run's rows of a, a b, or a (b - mean) rstd. Idea: a thread owns V
 * columns, 8 rows are under way at once. Bytes: a and b once. FLOPs: 1 to 4 an element. */
template <typename T, int TERM>
__global__ void __launch_bounds__(PB_WARP *PB_COLUMNS_WARPS)
    column_parts_kernel(pb_view<const T> a, pb_view<const T> b, const float *mean, const float *rstd,
                        float *part, int64_t rows, int64_t cols, int64_t run_rows, bool wide) {
    constexpr int V = pb_vec_n<T>();
    __shared__ float sums[PB_COLUMNS_WARPS][V][PB_WARP];
    int64_t col = ((int64_t)blockIdx.x * PB_WARP + threadIdx.x) * V, run = blockIdx.y;
    int64_t end = (run + 1) * run_rows < rows ? (run + 1) * run_rows : rows;
    int n = cols - col >= V ? V : cols > col ? (int)(cols - col) : 0;
    float sum[V];
#pragma unroll
    for (int k = 0; k < V; k++) sum[k] = 0.0f;
    if (n > 0) {
#pragma unroll 4
        for (int64_t row = run * run_rows + threadIdx.y; row < end; row += PB_COLUMNS_WARPS) {
            float x[V], y[V];
            pb_chunk_load<V>(a.at(row, col), n, wide, x);
            if (TERM != PB_COLUMN_A) pb_chunk_load<V>(b.at(row, col), n, wide, y);
            float m = 0.0f, r = 1.0f;
            if (TERM == PB_COLUMN_NORM) {
                if (mean != NULL) m = mean[row];
                r = rstd[row];
            }
#pragma unroll
            for (int k = 0; k < V; k++) {
                if (TERM == PB_COLUMN_A) sum[k] += x[k];
                if (TERM == PB_COLUMN_AB) sum[k] += x[k] * y[k];
                if (TERM == PB_COLUMN_NORM) sum[k] += x[k] * ((y[k] - m) * r);
            }
        }
    }
#pragma unroll
    for (int k = 0; k < V; k++) sums[threadIdx.y][k][threadIdx.x] = sum[k];
    __syncthreads();
    /* Warp w adds columns k = w of every lane. */
    for (int k = (int)threadIdx.y; k < V; k += PB_COLUMNS_WARPS) {
        float total = 0.0f;
#pragma unroll
        for (int w = 0; w < PB_COLUMNS_WARPS; w++) total += sums[w][k][threadIdx.x];
        if (col + k < cols) part[run * cols + col + k] = total;
    }
}

/* y[col] += (sum of part[run][col] over runs) / div[col]; div may be NULL. Idea: 32 columns a block,
 * each of 32 warps adds every 32nd run, then the warps in order. */
static __global__ void __launch_bounds__(PB_WARP *PB_COLUMNS_TOTAL)
    column_total_kernel(const float *part, int64_t runs, int64_t cols, const float *div, float *y) {
    __shared__ float sums[PB_COLUMNS_TOTAL][PB_WARP];
    int64_t col = (int64_t)blockIdx.x * PB_WARP + threadIdx.x;
    float sum = 0.0f;
    if (col < cols) {
        for (int64_t run = threadIdx.y; run < runs; run += PB_COLUMNS_TOTAL)
            sum += part[run * cols + col];
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || col >= cols) return;
    float total = 0.0f;
    for (int w = 0; w < PB_COLUMNS_TOTAL; w++) total += sums[w][threadIdx.x];
    y[col] += div != NULL ? total / div[col] : total;
}

static inline pb_status pb_column_total(pb_cuda *cuda, const float *part, int64_t runs, int64_t cols,
                                        const float *div, float *y) {
    return PB_LAUNCH(cuda, column_total_kernel, pb_grid(pb_ceil_div(cols, PB_WARP)),
                     dim3(PB_WARP, PB_COLUMNS_TOTAL), 0, part, runs, cols, div, y);
}

/* y += column sums of the term / div. ws: pb_column_floats floats. b, mean, rstd as the term needs. */
template <typename T, int TERM>
static pb_status pb_column_sums(pb_cuda *cuda, pb_tensor a, pb_tensor b, const float *mean,
                                const float *rstd, const float *div, float *y, float *ws) {
    constexpr int V = pb_vec_n<T>();
    const pb_tensor all[] = {a, b};
    int64_t rows = pb_rows(a), cols = pb_cols(a);
    pb_column_runs r = pb_column_runs_of(rows, cols, V);
    bool wide = pb_chunks_by_row(a, V, all, 2).wide;
    if (rows == 0 || cols == 0) return PB_OK;
    PB_RETURN(PB_LAUNCH(cuda, (column_parts_kernel<T, TERM>), pb_grid(r.tiles, r.runs),
                        dim3(PB_WARP, PB_COLUMNS_WARPS), 0, pb_view_of<const T>(a),
                        pb_view_of<const T>(b), mean, rstd, ws, rows, cols, r.run_rows, wide));
    return pb_column_total(cuda, ws, r.runs, cols, div, y);
}

#endif
