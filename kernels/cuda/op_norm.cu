/* LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019) with dropout and the residual sum in
 * front of them.
 *
 * A row lives in registers between its one read and its one write: K chunks a thread, TX threads a
 * row. Short rows get a warp each, so that reductions are shuffles alone; longer ones a block. Rows too
 * long for registers are read again for each pass (they come back from the L2 cache). Variance in two
 * passes: sum of squares minus square of sum would cancel. */
#include "kernels/cuda/columns.cuh"

#define ROW_THREADS 128 /* of a block that holds several rows */
#define LONG_THREADS 1024

/* --- a row and its threads -------------------------------------------------------------------- */

/* TX x TY threads, TY rows at once; k chunks a thread, 0 = the row does not fit. */
struct row_shape {
    int tx, ty, k;
};

static row_shape row_shape_of(int64_t cols, int width) {
    int64_t chunks = pb_max64(1, pb_ceil_div(cols, width));
    row_shape s = {LONG_THREADS, 1, 0};
    if (chunks <= 4 * PB_WARP) {
        s.k = chunks <= PB_WARP ? 1 : chunks <= 2 * PB_WARP ? 2 : 4;
        s.tx = PB_WARP;
        s.ty = ROW_THREADS / PB_WARP;
    } else if (chunks <= 1024) { /* two chunks a thread, at most 512 threads */
        s.k = 2;
        s.tx = (int)(pb_ceil_div(pb_ceil_div(chunks, 2), PB_WARP) * PB_WARP);
    }
    return s;
}

/* Sums of a and b over the threads of a row; all of them get both. slots: shared, 2 x 32 floats, unused
 * when the row has one warp. */
__device__ __forceinline__ void row_sums(float *a, float *b, float *slots) {
#pragma unroll
    for (int d = PB_WARP / 2; d > 0; d /= 2) {
        *a += __shfl_xor_sync(PB_ALL_LANES, *a, d);
        *b += __shfl_xor_sync(PB_ALL_LANES, *b, d);
    }
    if (blockDim.x == PB_WARP) return;
    int warps = (int)blockDim.x / PB_WARP, warp = (int)threadIdx.x / PB_WARP;
    if (threadIdx.x % PB_WARP == 0) {
        slots[warp] = *a;
        slots[PB_WARP + warp] = *b;
    }
    __syncthreads();
    *a = 0.0f;
    *b = 0.0f;
    for (int i = 0; i < warps; i++) {
        *a += slots[i];
        *b += slots[PB_WARP + i];
    }
    __syncthreads();
}

__device__ __forceinline__ float row_sum(float a, float *slots) {
    float none = 0.0f;
    row_sums(&a, &none, slots);
    return a;
}

/* --- forward --------------------------------------------------------------------------------- */

template <typename T> struct fwd_row {
    pb_view<const T> x, res;
    pb_view<T> sum, y;
    const T *gamma, *beta;
    float *mean, *rstd;
    int64_t rows, cols;
    pb_mask mask;
    float eps;
    int wide;
};

/* s := D(x) + res for n elements from (row, col). */
template <int V, typename T>
__device__ __forceinline__ void fwd_sum(const fwd_row<T> &a, int64_t row, int64_t col, int n,
                                        float (&s)[V]) {
    pb_chunk_load<V>(a.x.at(row, col), n, a.wide, s);
    pb_chunk_drop<V>(a.mask, (uint64_t)(row * a.cols + col), s);
    if (a.res.data != NULL) {
        float r[V];
        pb_chunk_load<V>(a.res.at(row, col), n, a.wide, r);
#pragma unroll
        for (int k = 0; k < V; k++) s[k] += r[k];
    }
}

/* y := (s - mean) rstd gamma + beta, and the sum where it is kept. */
template <int V, bool LAYER, typename T>
__device__ __forceinline__ void fwd_write(const fwd_row<T> &a, int64_t row, int64_t col, int n,
                                          float mean, float rstd, float (&s)[V]) {
    float g[V], b[V];
    if (a.sum.data != NULL) pb_chunk_store<V>(a.sum.at(row, col), n, a.wide, s);
    pb_chunk_load<V>(a.gamma + col, n, a.wide, g);
    if (LAYER) pb_chunk_load<V>(a.beta + col, n, a.wide, b);
#pragma unroll
    for (int k = 0; k < V; k++) {
        s[k] = (s[k] - mean) * rstd * g[k];
        if (LAYER) s[k] += b[k];
    }
    pb_chunk_store<V>(a.y.at(row, col), n, a.wide, s);
}

__device__ __forceinline__ int clip_chunk(int64_t cols, int64_t col, int width) {
    int64_t left = cols - col;
    return left >= width ? width : left > 0 ? (int)left : 0;
}

/* Idea: see above. Bytes: x, res, sum, y once (of those that are there), gamma and beta from the L1
 * cache. FLOPs: 7 an element (LAYER), 4 (RMS). The sum may lie in x or res: a row is read whole before
 * it is written. */
template <typename T, int K, bool LAYER>
__global__ void __launch_bounds__(K == 2 ? 512 : ROW_THREADS, 1) norm_fwd_kernel(fwd_row<T> a) {
    constexpr int V = pb_vec_n<T>();
    __shared__ float slots[2 * PB_WARP];
    for (int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; row < a.rows;
         row += (int64_t)gridDim.x * blockDim.y) {
        float s[K][V], mean = 0.0f, square = 0.0f;
#pragma unroll
        for (int k = 0; k < K; k++) {
            int64_t col = ((int64_t)k * blockDim.x + threadIdx.x) * V;
            int n = clip_chunk(a.cols, col, V);
#pragma unroll
            for (int j = 0; j < V; j++) s[k][j] = 0.0f;
            if (n > 0) fwd_sum<V>(a, row, col, n, s[k]);
        }
        if (LAYER) {
#pragma unroll
            for (int k = 0; k < K; k++) {
#pragma unroll
                for (int j = 0; j < V; j++) mean += s[k][j]; /* zeros behind the end */
            }
            mean = row_sum(mean, slots) / (float)a.cols;
        }
#pragma unroll
        for (int k = 0; k < K; k++) {
            int n = clip_chunk(a.cols, ((int64_t)k * blockDim.x + threadIdx.x) * V, V);
#pragma unroll
            for (int j = 0; j < V; j++) {
                float d = s[k][j] - mean;
                square += j < n ? d * d : 0.0f;
            }
        }
        float rstd = 1.0f / sqrtf(row_sum(square, slots) / (float)a.cols + a.eps);
        if (threadIdx.x == 0) {
            if (LAYER) a.mean[row] = mean;
            a.rstd[row] = rstd;
        }
#pragma unroll
        for (int k = 0; k < K; k++) {
            int64_t col = ((int64_t)k * blockDim.x + threadIdx.x) * V;
            int n = clip_chunk(a.cols, col, V);
            if (n > 0) fwd_write<V, LAYER>(a, row, col, n, mean, rstd, s[k]);
        }
    }
}

/* Rows of any length, a block each: three passes, the later ones from the cache. */
template <typename T, bool LAYER>
__global__ void __launch_bounds__(LONG_THREADS) norm_fwd_long_kernel(fwd_row<T> a) {
    constexpr int V = pb_vec_n<T>();
    __shared__ float slots[2 * PB_WARP];
    const int64_t step = (int64_t)blockDim.x * V;
    for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
        float s[V], mean = 0.0f, square = 0.0f;
        if (LAYER) {
            for (int64_t col = (int64_t)threadIdx.x * V; col < a.cols; col += step) {
                fwd_sum<V>(a, row, col, clip_chunk(a.cols, col, V), s);
                for (int j = 0; j < V; j++) mean += j < clip_chunk(a.cols, col, V) ? s[j] : 0.0f;
            }
            mean = row_sum(mean, slots) / (float)a.cols;
        }
        for (int64_t col = (int64_t)threadIdx.x * V; col < a.cols; col += step) {
            int n = clip_chunk(a.cols, col, V);
            fwd_sum<V>(a, row, col, n, s);
#pragma unroll
            for (int j = 0; j < V; j++) square += j < n ? (s[j] - mean) * (s[j] - mean) : 0.0f;
        }
        float rstd = 1.0f / sqrtf(row_sum(square, slots) / (float)a.cols + a.eps);
        if (threadIdx.x == 0) {
            if (LAYER) a.mean[row] = mean;
            a.rstd[row] = rstd;
        }
        for (int64_t col = (int64_t)threadIdx.x * V; col < a.cols; col += step) {
            int n = clip_chunk(a.cols, col, V);
            fwd_sum<V>(a, row, col, n, s);
            fwd_write<V, LAYER>(a, row, col, n, mean, rstd, s);
        }
    }
}

template <typename T, bool LAYER>
static pb_status norm_fwd_rows(pb_cuda *cuda, const fwd_row<T> &a, row_shape s) {
    dim3 block((unsigned)s.tx, (unsigned)s.ty);
    dim3 grid = pb_grid(pb_min64(pb_ceil_div(a.rows, s.ty), 64 * (int64_t)cuda->info.sms));
    switch (s.k) {
    case 1: return PB_LAUNCH(cuda, (norm_fwd_kernel<T, 1, LAYER>), grid, block, 0, a);
    case 2: return PB_LAUNCH(cuda, (norm_fwd_kernel<T, 2, LAYER>), grid, block, 0, a);
    case 4: return PB_LAUNCH(cuda, (norm_fwd_kernel<T, 4, LAYER>), grid, block, 0, a);
    default: return PB_LAUNCH(cuda, (norm_fwd_long_kernel<T, LAYER>), grid, block, 0, a);
    }
}

template <typename T> static pb_status norm_fwd_as(pb_cuda *cuda, const pb_norm_fwd_args *f) {
    constexpr int V = pb_vec_n<T>();
    const pb_tensor all[] = {f->x, f->res, f->sum, f->y, f->gamma, f->beta};
    fwd_row<T> a = {};
    a.x = pb_view_of<const T>(f->x);
    a.res = pb_view_of<const T>(f->res);
    a.sum = pb_view_of<T>(f->sum);
    a.y = pb_view_of<T>(f->y);
    a.gamma = static_cast<const T *>(f->gamma.data);
    a.beta = static_cast<const T *>(f->beta.data);
    a.mean = static_cast<float *>(f->mean.data);
    a.rstd = static_cast<float *>(f->rstd.data);
    a.rows = pb_rows(f->x);
    a.cols = pb_cols(f->x);
    a.mask = pb_mask_of(f->drop);
    a.eps = (float)f->eps;
    a.wide = (int)pb_chunks_by_row(f->x, V, all, 6).wide;
    row_shape s = row_shape_of(a.cols, V);
    if (f->norm == PB_NORM_LAYER) return norm_fwd_rows<T, true>(cuda, a, s);
    return norm_fwd_rows<T, false>(cuda, a, s);
}

static pb_status norm_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_norm_fwd_args *a = static_cast<const pb_norm_fwd_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("norm_fwd");
    return a->x.dtype == PB_F32 ? norm_fwd_as<float>(cuda, a) : norm_fwd_as<pb_bf16>(cuda, a);
}

/* --- backward -------------------------------------------------------------------------------- */

template <typename T> struct bwd_row {
    pb_view<const T> dy, sum;
    pb_view<T> dx;
    const T *gamma;
    const float *mean, *rstd;
    float *part; /* [2][runs][cols]: dgamma, dbeta of each run of rows */
    int64_t rows, cols, run_rows;
    float beta_dx;
    int wide;
};

/* dx := rstd (g - mean_g - xhat mean_gx) + beta dx for one chunk; g = dy gamma. */
template <int V, bool LAYER, typename T>
__device__ __forceinline__ void bwd_write(const bwd_row<T> &a, int64_t row, int64_t col, int n,
                                          const float (&g)[V], const float (&xhat)[V], float mean_g,
                                          float mean_gx, float rstd) {
    float d[V];
#pragma unroll
    for (int j = 0; j < V; j++) {
        d[j] = g[j] - xhat[j] * mean_gx;
        if (LAYER) d[j] -= mean_g;
        d[j] *= rstd;
    }
    pb_chunk_mix<V>(a.dx.at(row, col), n, a.wide, a.beta_dx, d);
    pb_chunk_store<V>(a.dx.at(row, col), n, a.wide, d);
}

/* xhat and g = dy gamma of one chunk; zeros behind the end give zeros in every sum. */
template <int V, bool LAYER, typename T>
__device__ __forceinline__ void bwd_terms(const pb_raw<T, V> &x, const pb_raw<T, V> &dy,
                                          const float (&gamma)[V], float mean, float rstd,
                                          float (&xhat)[V], float (&g)[V]) {
    pb_unpack<V>(x, xhat);
    pb_unpack<V>(dy, g);
#pragma unroll
    for (int j = 0; j < V; j++) {
        xhat[j] = (LAYER ? xhat[j] - mean : xhat[j]) * rstd;
        g[j] *= gamma[j];
    }
}

/* Columns of a block's rows to its run's part: dgamma first, then dbeta. Several rows at once: their
 * sums are added in order through shared memory. */
template <int K, int V, typename T>
__device__ __forceinline__ void bwd_part(const bwd_row<T> &a, int64_t run, int64_t runs, int which,
                                         const float (&sum)[K][V], float *shared) {
    float *part = a.part + ((int64_t)which * runs + run) * a.cols;
    if (blockDim.y == 1) {
#pragma unroll
        for (int k = 0; k < K; k++) {
            int64_t col = ((int64_t)k * blockDim.x + threadIdx.x) * V;
#pragma unroll
            for (int j = 0; j < V; j++) {
                if (col + j < a.cols) part[col + j] = sum[k][j];
            }
        }
        return;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; k++) {
#pragma unroll
        for (int j = 0; j < V; j++)
            shared[((int)threadIdx.y * K * V + k * V + j) * PB_WARP + (int)threadIdx.x] = sum[k][j];
    }
    __syncthreads();
    for (int e = (int)threadIdx.y; e < K * V; e += (int)blockDim.y) {
        int64_t col = ((int64_t)(e / V) * PB_WARP + threadIdx.x) * V + e % V;
        float total = 0.0f;
        for (int w = 0; w < (int)blockDim.y; w++)
            total += shared[(w * K * V + e) * PB_WARP + (int)threadIdx.x];
        if (col < a.cols) part[col] = total;
    }
}

/* Idea: dy and the sum stay in registers as they came (16 bytes a chunk) between the two dot products of
 * a row and its output; with PARAMS the thread's own columns of dgamma and dbeta are summed over a run
 * of rows. Bytes: dy, sum, dx once (dx twice with beta), and 8 bytes a column and run. FLOPs: 9 an
 * element, 12 with PARAMS. dx may be dy. */
template <typename T, int K, bool LAYER, bool PARAMS>
__global__ void __launch_bounds__(K == 2 ? 512 : ROW_THREADS, 1) norm_bwd_kernel(bwd_row<T> a) {
    constexpr int V = pb_vec_n<T>();
    __shared__ float slots[2 * PB_WARP];
    PB_DYNAMIC_SHARED(float, columns);
    float dgamma[K][V], dbeta[K][V];
    if (PARAMS) {
#pragma unroll
        for (int k = 0; k < K; k++) {
#pragma unroll
            for (int j = 0; j < V; j++) dgamma[k][j] = dbeta[k][j] = 0.0f;
        }
    }
    int64_t first = (int64_t)blockIdx.x * a.run_rows;
    int64_t end = first + a.run_rows < a.rows ? first + a.run_rows : a.rows;
    for (int64_t row = first + threadIdx.y; row < end; row += blockDim.y) {
        pb_raw<T, V> x[K], dy[K];
        float mean = LAYER ? a.mean[row] : 0.0f, rstd = a.rstd[row], sum_g = 0.0f, sum_gx = 0.0f;
#pragma unroll
        for (int k = 0; k < K; k++) {
            int64_t col = ((int64_t)k * blockDim.x + threadIdx.x) * V;
            int n = clip_chunk(a.cols, col, V);
            x[k] = pb_load_raw<V>(a.sum.at(row, col), n, a.wide);
            dy[k] = pb_load_raw<V>(a.dy.at(row, col), n, a.wide);
        }
#pragma unroll
        for (int k = 0; k < K; k++) {
            int64_t col = ((int64_t)k * blockDim.x + threadIdx.x) * V;
            float gamma[V], xhat[V], g[V];
            pb_chunk_load<V>(a.gamma + col, clip_chunk(a.cols, col, V), a.wide, gamma);
            bwd_terms<V, LAYER>(x[k], dy[k], gamma, mean, rstd, xhat, g);
#pragma unroll
            for (int j = 0; j < V; j++) {
                if (LAYER) sum_g += g[j];
                sum_gx += g[j] * xhat[j];
            }
            if (PARAMS) {
                pb_unpack<V>(dy[k], g);
#pragma unroll
                for (int j = 0; j < V; j++) {
                    dgamma[k][j] += g[j] * xhat[j];
                    dbeta[k][j] += g[j];
                }
            }
        }
        row_sums(&sum_g, &sum_gx, slots);
        float mean_g = sum_g / (float)a.cols, mean_gx = sum_gx / (float)a.cols;
#pragma unroll
        for (int k = 0; k < K; k++) {
            int64_t col = ((int64_t)k * blockDim.x + threadIdx.x) * V;
            int n = clip_chunk(a.cols, col, V);
            float gamma[V], xhat[V], g[V];
            if (n == 0) continue;
            pb_chunk_load<V>(a.gamma + col, n, a.wide, gamma);
            bwd_terms<V, LAYER>(x[k], dy[k], gamma, mean, rstd, xhat, g);
            bwd_write<V, LAYER>(a, row, col, n, g, xhat, mean_g, mean_gx, rstd);
        }
    }
    if (!PARAMS) return;
    bwd_part<K, V>(a, blockIdx.x, gridDim.x, 0, dgamma, columns);
    if (LAYER) bwd_part<K, V>(a, blockIdx.x, gridDim.x, 1, dbeta, columns);
}

/* Rows of any length, a block each: dy and the sum are read twice. */
template <typename T, bool LAYER>
__global__ void __launch_bounds__(LONG_THREADS) norm_bwd_long_kernel(bwd_row<T> a) {
    constexpr int V = pb_vec_n<T>();
    __shared__ float slots[2 * PB_WARP];
    const int64_t step = (int64_t)blockDim.x * V;
    for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
        float mean = LAYER ? a.mean[row] : 0.0f, rstd = a.rstd[row], sum_g = 0.0f, sum_gx = 0.0f;
        float mean_g = 0.0f, mean_gx = 0.0f;
        for (int pass = 0; pass < 2; pass++) {
            for (int64_t col = (int64_t)threadIdx.x * V; col < a.cols; col += step) {
                int n = clip_chunk(a.cols, col, V);
                float gamma[V], xhat[V], g[V];
                pb_chunk_load<V>(a.gamma + col, n, a.wide, gamma);
                bwd_terms<V, LAYER>(pb_load_raw<V>(a.sum.at(row, col), n, a.wide),
                                    pb_load_raw<V>(a.dy.at(row, col), n, a.wide), gamma, mean, rstd,
                                    xhat, g);
                if (pass == 1) {
                    bwd_write<V, LAYER>(a, row, col, n, g, xhat, mean_g, mean_gx, rstd);
                    continue;
                }
#pragma unroll
                for (int j = 0; j < V; j++) {
                    sum_g += g[j];
                    sum_gx += g[j] * xhat[j];
                }
            }
            if (pass == 1) break;
            row_sums(&sum_g, &sum_gx, slots);
            mean_g = sum_g / (float)a.cols;
            mean_gx = sum_gx / (float)a.cols;
        }
    }
}

/* Runs of rows with a sum of parameters each: as many as keep an H200 busy, but 4 rows a warp at least. */
#define RUN_THREADS 135168 /* 132 multiprocessors, 1024 threads each */

static int64_t run_rows_of(int64_t rows, row_shape s) {
    int64_t runs = pb_min64(RUN_THREADS / (s.tx * s.ty), pb_ceil_div(rows, 4 * s.ty));
    return pb_max64(s.ty, pb_ceil_div(pb_ceil_div(rows, pb_max64(runs, 1)), s.ty) * s.ty);
}

static bool wants_params(const pb_norm_bwd_args *a) { return pb_has(a->dgamma) || pb_has(a->dbeta); }

static size_t norm_bwd_workspace(const pb_device *dev, const void *args) {
    const pb_norm_bwd_args *a = static_cast<const pb_norm_bwd_args *>(args);
    (void)dev;
    if (!wants_params(a)) return 0;
    int width = (int)(16 / pb_dtype_size(a->dy.dtype));
    int64_t rows = pb_rows(a->dy), cols = pb_cols(a->dy), floats = pb_column_floats(rows, cols, width);
    row_shape s = row_shape_of(cols, width);
    if (s.k > 0) floats = 2 * pb_ceil_div(rows, run_rows_of(rows, s)) * cols;
    return (size_t)floats * sizeof(float);
}

template <typename T, bool LAYER, bool PARAMS>
static pb_status norm_bwd_rows(pb_cuda *cuda, const bwd_row<T> &a, row_shape s) {
    dim3 block((unsigned)s.tx, (unsigned)s.ty), grid = pb_grid(pb_ceil_div(a.rows, a.run_rows));
    size_t shared = PARAMS && s.ty > 1 ? (size_t)(s.tx * s.ty * s.k) * 16 / sizeof(T) * sizeof(float) : 0;
    switch (s.k) {
    case 1: return PB_LAUNCH(cuda, (norm_bwd_kernel<T, 1, LAYER, PARAMS>), grid, block, shared, a);
    case 2: return PB_LAUNCH(cuda, (norm_bwd_kernel<T, 2, LAYER, PARAMS>), grid, block, shared, a);
    default: return PB_LAUNCH(cuda, (norm_bwd_kernel<T, 4, LAYER, PARAMS>), grid, block, shared, a);
    }
}

/* Long rows: the parameters first, since dx may overwrite dy. */
template <typename T, bool LAYER>
static pb_status norm_bwd_long(pb_cuda *cuda, const pb_norm_bwd_args *b, const bwd_row<T> &a) {
    float *ws = a.part;
    if (pb_has(b->dgamma)) {
        PB_RETURN((pb_column_sums<T, PB_COLUMN_NORM>(cuda, b->dy, b->sum, a.mean, a.rstd, NULL,
                                                     static_cast<float *>(b->dgamma.data), ws)));
    }
    if (pb_has(b->dbeta)) {
        PB_RETURN((pb_column_sums<T, PB_COLUMN_A>(cuda, b->dy, pb_tensor(), NULL, NULL, NULL,
                                                  static_cast<float *>(b->dbeta.data), ws)));
    }
    dim3 grid = pb_grid(pb_min64(a.rows, 64 * (int64_t)cuda->info.sms));
    return PB_LAUNCH(cuda, (norm_bwd_long_kernel<T, LAYER>), grid, LONG_THREADS, 0, a);
}

template <typename T, bool LAYER>
static pb_status norm_bwd_as(pb_cuda *cuda, const pb_norm_bwd_args *b, float *ws) {
    constexpr int V = pb_vec_n<T>();
    const pb_tensor all[] = {b->dy, b->sum, b->dx, b->gamma};
    bwd_row<T> a = {};
    a.dy = pb_view_of<const T>(b->dy);
    a.sum = pb_view_of<const T>(b->sum);
    a.dx = pb_view_of<T>(b->dx);
    a.gamma = static_cast<const T *>(b->gamma.data);
    a.mean = LAYER ? static_cast<const float *>(b->mean.data) : NULL;
    a.rstd = static_cast<const float *>(b->rstd.data);
    a.part = ws;
    a.rows = pb_rows(b->dy);
    a.cols = pb_cols(b->dy);
    a.beta_dx = (float)b->beta_dx;
    a.wide = (int)pb_chunks_by_row(b->dy, V, all, 4).wide;
    row_shape s = row_shape_of(a.cols, V);
    if (s.k == 0) return norm_bwd_long<T, LAYER>(cuda, b, a);
    a.run_rows = s.ty;
    if (!wants_params(b)) return norm_bwd_rows<T, LAYER, false>(cuda, a, s);
    a.run_rows = run_rows_of(a.rows, s);
    PB_RETURN((norm_bwd_rows<T, LAYER, true>(cuda, a, s)));
    int64_t runs = pb_ceil_div(a.rows, a.run_rows);
    if (pb_has(b->dgamma))
        PB_RETURN(pb_column_total(cuda, ws, runs, a.cols, NULL, static_cast<float *>(b->dgamma.data)));
    if (!pb_has(b->dbeta)) return PB_OK;
    return pb_column_total(cuda, ws + runs * a.cols, runs, a.cols, NULL,
                           static_cast<float *>(b->dbeta.data));
}

static pb_status norm_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_norm_bwd_args *a = static_cast<const pb_norm_bwd_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    float *part = static_cast<float *>(ws);
    bool layer = a->norm == PB_NORM_LAYER, f32 = a->dy.dtype == PB_F32;
    if (a->dy.dtype == PB_F64) return pb_cuda_no_f64("norm_bwd");
    if (layer) return f32 ? norm_bwd_as<float, true>(cuda, a, part) : norm_bwd_as<pb_bf16, true>(cuda, a, part);
    return f32 ? norm_bwd_as<float, false>(cuda, a, part) : norm_bwd_as<pb_bf16, false>(cuda, a, part);
}

static const pb_kernel kernels[] = {
    {PB_OP_norm_fwd, "vector", NULL, norm_fwd_run},
    {PB_OP_norm_bwd, "vector", norm_bwd_workspace, norm_bwd_run},
};
PB_CUDA_KERNELS(norm) = {kernels, (int)(sizeof kernels / sizeof *kernels)};
