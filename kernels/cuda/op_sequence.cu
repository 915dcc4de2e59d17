/* Embeddings, rotary positions, pooling and row moves: copies and short sums, bound by memory. */
#include "kernels/cuda/chunk.cuh"

/* --- embedding, forward ----------------------------------------------------------------------- */

/* y[n] = word[id] + pos[position] + type[kind]. Idea: a chunk a thread; ids come from the cache. Bytes:
 * each row of each table and y once. FLOPs: 2 an element. */
template <typename T>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    embed_fwd_kernel(pb_view<const T> word, pb_view<const T> pos, pb_view<const T> type, const int32_t *ids,
                     const int32_t *positions, const int32_t *types, pb_view<T> y, pb_chunks g) {
    constexpr int V = pb_vec_n<T>();
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        float v[V], more[V];
        pb_chunk_load<V>(word.at(ids[c.row], c.col), c.n, g.wide, v);
        if (pos.data != NULL) {
            pb_chunk_load<V>(pos.at(positions[c.row], c.col), c.n, g.wide, more);
#pragma unroll
            for (int k = 0; k < V; k++) v[k] += more[k];
        }
        if (type.data != NULL) {
            pb_chunk_load<V>(type.at(types != NULL ? types[c.row] : 0, c.col), c.n, g.wide, more);
#pragma unroll
            for (int k = 0; k < V; k++) v[k] += more[k];
        }
        pb_chunk_store<V>(y.at(c.row, c.col), c.n, g.wide, v);
    }
}

static const int32_t *ints(pb_tensor t) { return static_cast<const int32_t *>(t.data); }

template <typename T> static pb_status embed_fwd_as(pb_cuda *cuda, const pb_embed_fwd_args *a) {
    const pb_tensor all[] = {a->y, a->word, a->pos, a->type};
    pb_chunks g = pb_chunks_by_row(a->y, pb_vec_n<T>(), all, 4);
    return PB_LAUNCH(cuda, (embed_fwd_kernel<T>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                     pb_view_of<const T>(a->word), pb_view_of<const T>(a->pos),
                     pb_view_of<const T>(a->type), ints(a->ids), ints(a->positions), ints(a->types),
                     pb_view_of<T>(a->y), g);
}

static pb_status embed_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_embed_fwd_args *a = static_cast<const pb_embed_fwd_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->y.dtype == PB_F64) return pb_cuda_no_f64("embed_fwd");
    return a->y.dtype == PB_F32 ? embed_fwd_as<float>(cuda, a) : embed_fwd_as<pb_bf16>(cuda, a);
}

/* --- rotary positions (Su et al. 2021) ------------------------------------------------------- */

#define ROPE_HEADS 4 /* heads that share a thread's angles */

/* cos and sin of position * freq, as on the cpu: the angle is reduced in double, angle = n pi/2 + r with
 * |r| <= pi/4, then Taylor polynomials (remainders below 1e-8) and the quadrant by sign changes. */
__device__ __forceinline__ void rope_angle(double position, float freq, float sign, float *c, float *s) {
    double angle = position * (double)freq;
    double turns = rint(angle * 0.63661977236758134308);
    float r = (float)((angle - turns * 1.57079632679489655800) - turns * 6.12323399573676603587e-17);
    float r2 = r * r;
    float sine = r + r * r2 *
                         (-1.0f / 6.0f +
                          r2 * (1.0f / 120.0f + r2 * (-1.0f / 5040.0f + r2 * (1.0f / 362880.0f))));
    float cosine =
        1.0f + r2 * (-0.5f + r2 * (1.0f / 24.0f + r2 * (-1.0f / 720.0f + r2 * (1.0f / 40320.0f))));
    unsigned quadrant = (unsigned)((long long)turns & 3);
    float a = (quadrant & 1u) ? sine : cosine, b = (quadrant & 1u) ? cosine : sine;
    *c = (quadrant == 1u || quadrant == 2u) ? -a : a;
    *s = sign * (quadrant >= 2u ? -b : b);
}

/* Idea: a thread turns one chunk of pairs (j, j + half) of four heads, so that angles are worked out
 * once for them; nothing is kept in tables. Bytes: x twice. FLOPs: 6 a pair, about 40 an angle. */
template <typename T>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    rope_kernel(pb_view<T> x, const float *inv_freq, const int32_t *positions, pb_chunks g, int64_t heads,
                int64_t groups, float sign) {
    constexpr int V = pb_vec_n<T>();
    const int64_t half = g.cols;
    PB_FOR_CHUNKS(i, g) { /* "row" of g: row of x and group of heads */
        pb_chunk c = pb_chunk_at<V>(g, i);
        int64_t row = c.row / groups, first = c.row % groups * ROPE_HEADS;
        int64_t last = first + ROPE_HEADS < heads ? first + ROPE_HEADS : heads;
        float cosine[V], sine[V];
#pragma unroll
        for (int k = 0; k < V; k++) {
            cosine[k] = 1.0f;
            sine[k] = 0.0f;
            if (k < c.n)
                rope_angle((double)positions[row], inv_freq[c.col + k], sign, &cosine[k], &sine[k]);
        }
        for (int64_t h = first; h < last; h++) {
            float a[V], b[V];
            T *pa = x.at(row, 2 * h * half + c.col), *pb = pa + half;
            pb_chunk_load<V>(pa, c.n, g.wide, a);
            pb_chunk_load<V>(pb, c.n, g.wide, b);
#pragma unroll
            for (int k = 0; k < V; k++) {
                float turned = a[k] * cosine[k] - b[k] * sine[k];
                b[k] = b[k] * cosine[k] + a[k] * sine[k];
                a[k] = turned;
            }
            pb_chunk_store<V>(pa, c.n, g.wide, a);
            pb_chunk_store<V>(pb, c.n, g.wide, b);
        }
    }
}

template <typename T> static pb_status rope_as(pb_cuda *cuda, const pb_rope_args *a) {
    constexpr int V = pb_vec_n<T>();
    int64_t half = pb_numel(a->inv_freq), groups = pb_ceil_div(a->heads, ROPE_HEADS);
    pb_chunks g = pb_chunks_by_row(a->x, V, &a->x, 1);
    g.rows *= groups;
    g.cols = half;
    g.per_row = pb_ceil_div(half, V);
    g.n = g.rows * g.per_row;
    g.wide = g.wide && half % V == 0;
    return PB_LAUNCH(cuda, (rope_kernel<T>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                     pb_view_of<T>(a->x), static_cast<const float *>(a->inv_freq.data),
                     ints(a->positions), g, a->heads, groups, a->inverse ? -1.0f : 1.0f);
}

static pb_status rope_run(pb_device *dev, const void *args, void *ws) {
    const pb_rope_args *a = static_cast<const pb_rope_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("rope");
    return a->x.dtype == PB_F32 ? rope_as<float>(cuda, a) : rope_as<pb_bf16>(cuda, a);
}

/* --- pooling --------------------------------------------------------------------------------- */

#define POOL_WARPS 8

/* y[s] = mean, first or last row of sequence s; zeros for an empty one. Idea: a block sums 32 V columns
 * of a sequence, each warp every eighth row, the warps in order. Bytes: x once (mean). */
template <typename T>
__global__ void __launch_bounds__(PB_WARP *POOL_WARPS)
    pool_fwd_kernel(pb_pool pool, pb_view<const T> x, const int32_t *cu, pb_view<T> y, int64_t cols,
                    int64_t tiles, bool wide) {
    constexpr int V = pb_vec_n<T>();
    __shared__ float sums[POOL_WARPS][V][PB_WARP];
    int64_t s = blockIdx.x / tiles, col = (blockIdx.x % tiles * PB_WARP + threadIdx.x) * V;
    int64_t from = cu[s], to = cu[s + 1];
    int n = cols - col >= V ? V : cols > col ? (int)(cols - col) : 0;
    float sum[V];
#pragma unroll
    for (int k = 0; k < V; k++) sum[k] = 0.0f;
    if (pool != PB_POOL_MEAN && to > from) {
        from = pool == PB_POOL_CLS ? from : to - 1;
        to = from + 1;
    }
#pragma unroll 4
    for (int64_t row = from + threadIdx.y; n > 0 && row < to; row += POOL_WARPS) {
        float v[V];
        pb_chunk_load<V>(x.at(row, col), n, wide, v);
#pragma unroll
        for (int k = 0; k < V; k++) sum[k] += v[k];
    }
#pragma unroll
    for (int k = 0; k < V; k++) sums[threadIdx.y][k][threadIdx.x] = sum[k];
    __syncthreads();
    if (threadIdx.y != 0 || n == 0) return;
    float factor = to > from ? 1.0f / (float)(to - from) : 0.0f;
#pragma unroll
    for (int k = 0; k < V; k++) {
        sum[k] = 0.0f;
        for (int w = 0; w < POOL_WARPS; w++) sum[k] += sums[w][k][threadIdx.x];
        sum[k] *= factor;
    }
    pb_chunk_store<V>(y.at(s, col), n, wide, sum);
}

/* dx[row] = its sequence's dy (times 1/length for the mean), or zeros. Idea: a chunk a thread, the
 * sequence by binary search in cu. Bytes: dx once, dy from the cache. */
template <typename T>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    pool_bwd_kernel(pb_pool pool, pb_view<const T> dy, const int32_t *cu, int64_t sequences, pb_view<T> dx,
                    pb_chunks g) {
    constexpr int V = pb_vec_n<T>();
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        int64_t lo = -1, hi = sequences; /* cu[lo] <= row < cu[hi]; -1: before the first */
        float v[V], factor = 0.0f;
        while (hi - lo > 1) {
            int64_t mid = (lo + hi) / 2;
            if (cu[mid] <= c.row)
                lo = mid;
            else
                hi = mid;
        }
        bool inside = lo >= 0 && c.row < cu[lo + 1];
        if (inside) {
            int64_t from = cu[lo], to = cu[lo + 1];
            if (pool == PB_POOL_MEAN) factor = 1.0f / (float)(to - from);
            if (pool == PB_POOL_CLS && c.row == from) factor = 1.0f;
            if (pool == PB_POOL_LAST && c.row == to - 1) factor = 1.0f;
        }
        if (factor != 0.0f) {
            pb_chunk_load<V>(dy.at(lo, c.col), c.n, g.wide, v);
#pragma unroll
            for (int k = 0; k < V; k++) v[k] *= factor;
        } else {
#pragma unroll
            for (int k = 0; k < V; k++) v[k] = 0.0f;
        }
        pb_chunk_store<V>(dx.at(c.row, c.col), c.n, g.wide, v);
    }
}

template <typename T> static pb_status pool_fwd_as(pb_cuda *cuda, const pb_pool_fwd_args *a) {
    constexpr int V = pb_vec_n<T>();
    const pb_tensor all[] = {a->x, a->y};
    int64_t tiles = pb_ceil_div(pb_cols(a->y), PB_WARP * V);
    return PB_LAUNCH(cuda, (pool_fwd_kernel<T>), pb_grid(pb_rows(a->y) * tiles), dim3(PB_WARP, POOL_WARPS),
                     0, a->pool, pb_view_of<const T>(a->x), ints(a->cu), pb_view_of<T>(a->y),
                     pb_cols(a->y), tiles, pb_chunks_by_row(a->y, V, all, 2).wide);
}

static pb_status pool_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_pool_fwd_args *a = static_cast<const pb_pool_fwd_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->y.dtype == PB_F64) return pb_cuda_no_f64("pool_fwd");
    return a->y.dtype == PB_F32 ? pool_fwd_as<float>(cuda, a) : pool_fwd_as<pb_bf16>(cuda, a);
}

template <typename T> static pb_status pool_bwd_as(pb_cuda *cuda, const pb_pool_bwd_args *a) {
    const pb_tensor all[] = {a->dx, a->dy};
    pb_chunks g = pb_chunks_by_row(a->dx, pb_vec_n<T>(), all, 2);
    return PB_LAUNCH(cuda, (pool_bwd_kernel<T>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0, a->pool,
                     pb_view_of<const T>(a->dy), ints(a->cu), pb_rows(a->dy), pb_view_of<T>(a->dx), g);
}

static pb_status pool_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_pool_bwd_args *a = static_cast<const pb_pool_bwd_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->dx.dtype == PB_F64) return pb_cuda_no_f64("pool_bwd");
    return a->dx.dtype == PB_F32 ? pool_bwd_as<float>(cuda, a) : pool_bwd_as<pb_bf16>(cuda, a);
}

/* --- rows by index --------------------------------------------------------------------------- */

/* y[i] = x[index[i]], zeros where the index is negative. Bytes: y's rows read and written once. */
template <typename T>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    rows_kernel(pb_view<const T> x, const int32_t *index, pb_view<T> y, pb_chunks g) {
    constexpr int V = pb_vec_n<T>();
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        int32_t from = index[c.row];
        pb_raw<T, V> v = pb_load_raw<V>(from < 0 ? x.data : x.at(from, c.col), from < 0 ? 0 : c.n, g.wide);
        pb_store_raw<T, V>(y.at(c.row, c.col), c.n, g.wide, v);
    }
}

template <typename T>
static pb_status rows_as(pb_cuda *cuda, pb_tensor x, const int32_t *index, pb_tensor y) {
    const pb_tensor all[] = {y, x};
    pb_chunks g = pb_chunks_by_row(y, pb_vec_n<T>(), all, 2);
    return PB_LAUNCH(cuda, (rows_kernel<T>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                     pb_view_of<const T>(x), index, pb_view_of<T>(y), g);
}

static pb_status gather_rows_run(pb_device *dev, const void *args, void *ws) {
    const pb_gather_rows_args *a = static_cast<const pb_gather_rows_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("gather_rows");
    if (a->x.dtype == PB_F32) return rows_as<float>(cuda, a->x, ints(a->idx), a->y);
    return rows_as<pb_bf16>(cuda, a->x, ints(a->idx), a->y);
}

static __global__ void __launch_bounds__(PB_CHUNK_THREADS) no_source_kernel(int32_t *source, int64_t rows) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < rows) source[i] = -1;
}

/* source[index[i]] := i; the indices are distinct. */
static __global__ void __launch_bounds__(PB_CHUNK_THREADS)
    source_kernel(const int32_t *index, int32_t *source, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) source[index[i]] = (int32_t)i;
}

/* The source of each row of y. */
static size_t scatter_rows_workspace(const pb_device *dev, const void *args) {
    const pb_scatter_rows_args *a = static_cast<const pb_scatter_rows_args *>(args);
    (void)dev;
    return (size_t)pb_rows(a->y) * sizeof(int32_t);
}

/* As a gather through the inverse index, so that every row of y is written once: zeros first and rows
 * afterwards would write most of them twice. */
static pb_status scatter_rows_run(pb_device *dev, const void *args, void *ws) {
    const pb_scatter_rows_args *a = static_cast<const pb_scatter_rows_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    int32_t *source = static_cast<int32_t *>(ws);
    int64_t rows = pb_rows(a->y), n = pb_rows(a->x);
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("scatter_rows");
    PB_RETURN(PB_LAUNCH(cuda, no_source_kernel, pb_grid(pb_ceil_div(rows, PB_CHUNK_THREADS)),
                        PB_CHUNK_THREADS, 0, source, rows));
    PB_RETURN(PB_LAUNCH(cuda, source_kernel, pb_grid(pb_ceil_div(n, PB_CHUNK_THREADS)), PB_CHUNK_THREADS,
                        0, ints(a->idx), source, n));
    if (a->x.dtype == PB_F32) return rows_as<float>(cuda, a->x, source, a->y);
    return rows_as<pb_bf16>(cuda, a->x, source, a->y);
}

static const pb_kernel kernels[] = {
    {PB_OP_embed_fwd, "vector", NULL, embed_fwd_run},
    {PB_OP_rope, "vector", NULL, rope_run},
    {PB_OP_pool_fwd, "vector", NULL, pool_fwd_run},
    {PB_OP_pool_bwd, "vector", NULL, pool_bwd_run},
    {PB_OP_gather_rows, "vector", NULL, gather_rows_run},
    {PB_OP_scatter_rows, "vector", scatter_rows_workspace, scatter_rows_run},
};
PB_CUDA_KERNELS(sequence) = {kernels, (int)(sizeof kernels / sizeof *kernels)};
