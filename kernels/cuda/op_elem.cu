/* Sums, scales and casts: axpby, scale_cols, coldot, reduce, fill_uniform. One pass over memory each. */
#include "kernels/cuda/columns.cuh"

/* --- y = alpha x + beta y -------------------------------------------------------------------- */

/* Idea: a chunk a thread; of two dtypes the wider one gives the 16 bytes. Bytes: x and y once, y twice
 * with beta. FLOPs: 1 to 3 an element. y may be x. */
template <typename X, typename Y>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    axpby_kernel(pb_view<const X> x, pb_view<Y> y, pb_chunks g, float alpha, float beta) {
    constexpr int V = 16 / (int)(sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y));
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        float v[V];
        pb_chunk_load<V>(x.at(c.row, c.col), c.n, g.wide, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] *= alpha;
        pb_chunk_mix<V>(y.at(c.row, c.col), c.n, g.wide, beta, v);
        pb_chunk_store<V>(y.at(c.row, c.col), c.n, g.wide, v);
    }
}

template <typename X, typename Y> static pb_status axpby_as(pb_cuda *cuda, const pb_axpby_args *a) {
    const pb_tensor all[] = {a->x, a->y};
    pb_chunks g = pb_chunks_of(a->x, 16 / (int)(sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y)), all, 2);
    return PB_LAUNCH(cuda, (axpby_kernel<X, Y>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                     pb_view_of<const X>(a->x), pb_view_of<Y>(a->y), g, (float)a->alpha, (float)a->beta);
}

static pb_status axpby_run(pb_device *dev, const void *args, void *ws) {
    const pb_axpby_args *a = static_cast<const pb_axpby_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64 || a->y.dtype == PB_F64) return pb_cuda_no_f64("axpby");
    if (a->x.dtype == PB_F32)
        return a->y.dtype == PB_F32 ? axpby_as<float, float>(cuda, a) : axpby_as<float, pb_bf16>(cuda, a);
    return a->y.dtype == PB_F32 ? axpby_as<pb_bf16, float>(cuda, a) : axpby_as<pb_bf16, pb_bf16>(cuda, a);
}

/* --- y = x .* c + bias + beta y -------------------------------------------------------------- */

/* Idea: as above; c and bias come from the L1 cache. Bytes: x and y once, y twice with beta. FLOPs: 2
 * to 4 an element. C: dtype of c, B: of bias. y may be x without beta. */
template <typename T, typename C, typename B>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    scale_cols_kernel(pb_view<const T> x, const C *scale, const B *bias, pb_view<T> y, pb_chunks g,
                      float beta) {
    constexpr int V = pb_vec_n<T>();
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        float v[V], s[V], b[V];
        pb_chunk_load<V>(x.at(c.row, c.col), c.n, g.wide, v);
        pb_chunk_load<V>(scale + c.col, c.n, g.wide, s);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] *= s[k];
        if (bias != NULL) {
            pb_chunk_load<V>(bias + c.col, c.n, g.wide, b);
#pragma unroll
            for (int k = 0; k < V; k++) v[k] += b[k];
        }
        pb_chunk_mix<V>(y.at(c.row, c.col), c.n, g.wide, beta, v);
        pb_chunk_store<V>(y.at(c.row, c.col), c.n, g.wide, v);
    }
}

template <typename T, typename C, typename B>
static pb_status scale_cols_as(pb_cuda *cuda, const pb_scale_cols_args *a) {
    constexpr int V = pb_vec_n<T>();
    const pb_tensor all[] = {a->x, a->y, a->c, a->bias};
    pb_chunks g = pb_chunks_by_row(a->x, V, all, 4);
    return PB_LAUNCH(cuda, (scale_cols_kernel<T, C, B>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                     pb_view_of<const T>(a->x), static_cast<const C *>(a->c.data),
                     static_cast<const B *>(a->bias.data), pb_view_of<T>(a->y), g, (float)a->beta);
}

static pb_status scale_cols_run(pb_device *dev, const void *args, void *ws) {
    const pb_scale_cols_args *a = static_cast<const pb_scale_cols_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("scale_cols");
    bool wide_c = a->c.dtype == PB_F32, wide_b = pb_has(a->bias) ? a->bias.dtype == PB_F32 : wide_c;
    if (a->x.dtype == PB_F32) return scale_cols_as<float, float, float>(cuda, a);
    if (wide_c && wide_b) return scale_cols_as<pb_bf16, float, float>(cuda, a);
    if (wide_c) return scale_cols_as<pb_bf16, float, pb_bf16>(cuda, a);
    if (wide_b) return scale_cols_as<pb_bf16, pb_bf16, float>(cuda, a);
    return scale_cols_as<pb_bf16, pb_bf16, pb_bf16>(cuda, a);
}

/* --- y[j] += sum_n a b / div ----------------------------------------------------------------- */

static size_t coldot_workspace(const pb_device *dev, const void *args) {
    const pb_coldot_args *a = static_cast<const pb_coldot_args *>(args);
    (void)dev;
    int width = (int)(16 / pb_dtype_size(a->a.dtype));
    return (size_t)pb_column_floats(pb_rows(a->a), pb_cols(a->a), width) * sizeof(float);
}

template <typename T> static pb_status coldot_as(pb_cuda *cuda, const pb_coldot_args *a, float *ws) {
    const float *div = static_cast<const float *>(a->div.data);
    float *y = static_cast<float *>(a->y.data);
    if (pb_has(a->b))
        return pb_column_sums<T, PB_COLUMN_AB>(cuda, a->a, a->b, NULL, NULL, div, y, ws);
    return pb_column_sums<T, PB_COLUMN_A>(cuda, a->a, a->b, NULL, NULL, div, y, ws);
}

static pb_status coldot_run(pb_device *dev, const void *args, void *ws) {
    const pb_coldot_args *a = static_cast<const pb_coldot_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    if (a->a.dtype == PB_F64) return pb_cuda_no_f64("coldot");
    float *part = static_cast<float *>(ws);
    return a->a.dtype == PB_F32 ? coldot_as<float>(cuda, a, part) : coldot_as<pb_bf16>(cuda, a, part);
}

/* --- sum of all elements --------------------------------------------------------------------- */

#define REDUCE_BLOCKS 1056

static int64_t reduce_blocks(const pb_reduce_args *a) {
    int width = (int)(16 / pb_dtype_size(a->x.dtype));
    int64_t chunks = pb_chunks_of(a->x, width, &a->x, 1).n;
    return pb_min64(REDUCE_BLOCKS, pb_ceil_div(chunks, 4 * PB_CHUNK_THREADS));
}

/* part[block] := the block's sum of x or x^2. Idea: chunks are summed in f32, chunks of a thread,
 * threads and blocks in double, all in an order that depends on the shape alone. Bytes: x once. FLOPs:
 * 1 or 2 an element. */
template <typename T, bool SQUARE>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    reduce_parts_kernel(pb_view<const T> x, pb_chunks g, double *part) {
    constexpr int V = pb_vec_n<T>();
    __shared__ double slots[PB_WARP];
    double sum = 0.0;
#pragma unroll 4
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        float v[V], s = 0.0f;
        pb_chunk_load<V>(x.at(c.row, c.col), c.n, g.wide, v);
#pragma unroll
        for (int k = 0; k < V; k++) s += SQUARE ? v[k] * v[k] : v[k];
        sum += (double)s;
    }
    sum = pb_block_sum64(sum, slots);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

/* y := beta y + alpha (sum of parts). One block. */
static __global__ void __launch_bounds__(PB_CHUNK_THREADS)
    reduce_total_kernel(const double *part, int64_t n, float *y, double alpha, double beta) {
    __shared__ double slots[PB_WARP];
    double sum = pb_block_sum64(pb_strided_sum64(part, n), slots);
    if (threadIdx.x != 0) return;
    double old = beta != 0.0 ? beta * (double)y[0] : 0.0;
    y[0] = (float)(old + alpha * sum);
}

static size_t reduce_workspace(const pb_device *dev, const void *args) {
    (void)dev;
    return (size_t)reduce_blocks(static_cast<const pb_reduce_args *>(args)) * sizeof(double);
}

template <typename T> static pb_status reduce_as(pb_cuda *cuda, const pb_reduce_args *a, double *part) {
    pb_chunks g = pb_chunks_of(a->x, pb_vec_n<T>(), &a->x, 1);
    dim3 grid = pb_grid(reduce_blocks(a));
    pb_view<const T> x = pb_view_of<const T>(a->x);
    if (a->square)
        return PB_LAUNCH(cuda, (reduce_parts_kernel<T, true>), grid, PB_CHUNK_THREADS, 0, x, g, part);
    return PB_LAUNCH(cuda, (reduce_parts_kernel<T, false>), grid, PB_CHUNK_THREADS, 0, x, g, part);
}

static pb_status reduce_run(pb_device *dev, const void *args, void *ws) {
    const pb_reduce_args *a = static_cast<const pb_reduce_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    double *part = static_cast<double *>(ws);
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("reduce");
    if (a->x.dtype == PB_F32)
        PB_RETURN(reduce_as<float>(cuda, a, part));
    else
        PB_RETURN(reduce_as<pb_bf16>(cuda, a, part));
    return PB_LAUNCH(cuda, reduce_total_kernel, 1, PB_CHUNK_THREADS, 0, part, reduce_blocks(a),
                     static_cast<float *>(a->y.data), a->alpha, a->beta);
}

/* --- random numbers -------------------------------------------------------------------------- */

/* x[i] = lo + span u01(i), rounded as on the cpu: no fused multiply-add. Idea: a thread draws the
 * Philox blocks of one chunk (Salmon et al. 2011). Bytes: x once. */
template <typename T>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    fill_uniform_kernel(pb_view<T> x, pb_chunks g, uint64_t key, uint64_t stream, float lo, float span) {
    constexpr int V = pb_vec_n<T>();
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        float v[V];
#pragma unroll
        for (int k = 0; k < V; k += 4) {
            pb_u32x4 r = pb_philox(key, stream, (uint64_t)(c.col + k) / 4);
#pragma unroll
            for (int j = 0; j < 4; j++) v[k + j] = pb_plus(lo, pb_times(span, pb_u01(r.v[j])));
        }
        pb_chunk_store<V>(x.at(c.row, c.col), c.n, g.wide, v);
    }
}

template <typename T>
static pb_status fill_uniform_as(pb_cuda *cuda, const pb_fill_uniform_args *a) {
    pb_chunks g = pb_chunks_of(a->x, pb_vec_n<T>(), &a->x, 1);
    return PB_LAUNCH(cuda, (fill_uniform_kernel<T>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                     pb_view_of<T>(a->x), g, a->key, a->stream, (float)a->lo, (float)(a->hi - a->lo));
}

static pb_status fill_uniform_run(pb_device *dev, const void *args, void *ws) {
    const pb_fill_uniform_args *a = static_cast<const pb_fill_uniform_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("fill_uniform");
    return a->x.dtype == PB_F32 ? fill_uniform_as<float>(cuda, a) : fill_uniform_as<pb_bf16>(cuda, a);
}

static const pb_kernel kernels[] = {
    {PB_OP_axpby, "vector", NULL, axpby_run},
    {PB_OP_scale_cols, "vector", NULL, scale_cols_run},
    {PB_OP_coldot, "vector", coldot_workspace, coldot_run},
    {PB_OP_reduce, "vector", reduce_workspace, reduce_run},
    {PB_OP_fill_uniform, "vector", NULL, fill_uniform_run},
};
PB_CUDA_KERNELS(elem) = {kernels, (int)(sizeof kernels / sizeof *kernels)};
