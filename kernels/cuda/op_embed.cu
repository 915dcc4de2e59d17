/* Gradients of embedding tables: rows of dy are added to the rows of a table in token order, without
 * atomic sums.
 *
 * 1. Tokens are sorted by their row, stably: the place of a token is the number of tokens before it in
 *    that order, counted against all others (integer additions: exact in any order).
 * 2. Sorted tokens are cut into pieces of 32. A warp adds one piece: what starts and ends in it goes into
 *    the table, what crosses its ends into `parts`.
 * 3. A warp whose piece starts a longer run adds the parts of the pieces behind it, in order.
 * So a word that fills half the batch costs no more than others, and the bits depend on the batch alone. */
#include <limits.h>

#include "kernels/cuda/chunk.cuh"

#define SORT_THREADS 256
#define SORT_SPAN 4096 /* tokens that a block counts against: a multiple of SORT_THREADS */
#define PIECE PB_WARP  /* sorted tokens of a piece */
#define PIECE_WARPS 4  /* pieces of a block */
#define BATCH 4        /* rows of dy under way at once */

/* --- sorting ---------------------------------------------------------------------------------- */

/* place[i] += tokens among `span` others that come before token i. FLOPs: n^2 comparisons of integers in
 * all. Bytes: n from the cache for each block. */
static __global__ void __launch_bounds__(SORT_THREADS)
    embed_place_kernel(const int32_t *key, int32_t *place, int64_t n) {
    __shared__ int32_t tile[SORT_THREADS];
    int64_t here = (int64_t)blockIdx.x * SORT_THREADS, i = here + threadIdx.x;
    int64_t first = (int64_t)blockIdx.y * SORT_SPAN, end = first + SORT_SPAN < n ? first + SORT_SPAN : n;
    int32_t mine = i < n ? key[i] : 0;
    int count = 0;
    for (int64_t base = first; base < end; base += SORT_THREADS) {
        __syncthreads();
        tile[threadIdx.x] = base + threadIdx.x < n ? key[base + threadIdx.x] : INT_MAX;
        __syncthreads();
        if (base < here) { /* whole tiles before: equal keys count */
#pragma unroll 16
            for (int j = 0; j < SORT_THREADS; j++) count += tile[j] <= mine;
        } else if (base > here) {
#pragma unroll 16
            for (int j = 0; j < SORT_THREADS; j++) count += tile[j] < mine;
        } else {
            for (int j = 0; j < SORT_THREADS; j++)
                count += tile[j] < mine || (tile[j] == mine && j < (int)threadIdx.x);
        }
    }
    if (i < n) atomicAdd(&place[i], count);
}

static __global__ void __launch_bounds__(SORT_THREADS)
    embed_order_kernel(const int32_t *key, const int32_t *place, int32_t *order, int32_t *sorted, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * SORT_THREADS + threadIdx.x;
    if (i >= n) return;
    order[place[i]] = (int32_t)i;
    sorted[place[i]] = key[i];
}

/* --- adding ----------------------------------------------------------------------------------- */

/* Sorted tokens; order and key NULL: all belong to row 0, as they come. */
struct sorted_tokens {
    const int32_t *order, *key;
    int64_t n;
    __device__ __forceinline__ int32_t key_at(int64_t i) const { return key != NULL ? key[i] : 0; }
    __device__ __forceinline__ int64_t order_at(int64_t i) const { return order != NULL ? order[i] : i; }
};

/* parts[piece][2][ld]: 0 = the end of a run that began before the piece, 1 = what goes on behind it. */
struct piece_parts {
    float *at;
    int64_t ld;
    __device__ __forceinline__ float *of(int64_t piece, int which, int64_t col) const {
        return at + (2 * piece + which) * ld + col;
    }
};

template <int V> __device__ __forceinline__ void clear(float (&x)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) x[k] = 0.0f;
}

template <int V> __device__ __forceinline__ void add(float (&x)[V], const float (&y)[V]) {
#pragma unroll
    for (int k = 0; k < V; k++) x[k] += y[k];
}

template <int V>
__device__ __forceinline__ void add_to_row(pb_view<float> table, int64_t row, int64_t col, int n, bool wide,
                                           const float (&sum)[V]) {
    float old[V];
    pb_chunk_load<V>(table.at(row, col), n, wide, old);
    add<V>(old, sum);
    pb_chunk_store<V>(table.at(row, col), n, wide, old);
}

/* Idea: see the head, step 2. Bytes: dy once, each row of the table that occurs twice. FLOPs: 1 an
 * element. */
template <typename T>
__global__ void __launch_bounds__(PB_WARP *PIECE_WARPS)
    embed_pieces_kernel(sorted_tokens s, pb_view<const T> dy, pb_view<float> table, piece_parts parts,
                        int64_t cols, bool wide) {
    constexpr int V = pb_vec_n<T>();
    const int lane = (int)threadIdx.x;
    int64_t piece = (int64_t)blockIdx.x * PIECE_WARPS + threadIdx.y, first = piece * PIECE;
    if (first >= s.n) return; /* the whole warp */
    int64_t col = ((int64_t)blockIdx.y * PB_WARP + lane) * V;
    int n = cols - col >= V ? V : cols > col ? (int)(cols - col) : 0;
    int count = s.n - first < PIECE ? (int)(s.n - first) : PIECE;
    int32_t key = lane < count ? s.key_at(first + lane) : 0;
    int32_t order = lane < count ? (int32_t)s.order_at(first + lane) : 0;
    bool more = first + PIECE < s.n; /* a piece behind this one */
    int32_t behind = more ? s.key_at(first + PIECE) : 0;
    int32_t current = __shfl_sync(PB_ALL_LANES, key, 0);
    bool open = first > 0 && s.key_at(first - 1) == current;
    float sum[V];
    clear<V>(sum);
    for (int from = 0; from < count; from += BATCH) {
        pb_raw<T, V> rows[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int64_t row = __shfl_sync(PB_ALL_LANES, order, (from + j) % PB_WARP);
            rows[j] = pb_load_raw<V>(dy.at(row, col), from + j < count ? n : 0, wide);
        }
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int at = from + j;
            int32_t next = __shfl_sync(PB_ALL_LANES, key, (at + 1) % PB_WARP);
            float x[V];
            if (at >= count) continue;
            pb_unpack<V>(rows[j], x);
            add<V>(sum, x);
            bool goes_on = at + 1 < count ? next == current : more && behind == current;
            if (!goes_on) {
                if (n > 0 && open) pb_chunk_store<V>(parts.of(piece, 0, col), n, true, sum);
                if (n > 0 && !open) add_to_row<V>(table, current, col, n, wide, sum);
                clear<V>(sum);
                open = false;
            } else if (at + 1 == count && n > 0) {
                pb_chunk_store<V>(parts.of(piece, 1, col), n, true, sum);
            }
            current = next;
        }
    }
}

/* Step 3. Bytes: 8 a part. */
template <typename T>
__global__ void __launch_bounds__(PB_WARP *PIECE_WARPS)
    embed_runs_kernel(sorted_tokens s, pb_view<float> table, piece_parts parts, int64_t cols, bool wide) {
    constexpr int V = pb_vec_n<T>();
    int64_t piece = (int64_t)blockIdx.x * PIECE_WARPS + threadIdx.y, next = (piece + 1) * PIECE;
    int64_t col = ((int64_t)blockIdx.y * PB_WARP + threadIdx.x) * V;
    int n = cols - col >= V ? V : cols > col ? (int)(cols - col) : 0;
    if (next >= s.n || n == 0) return;
    int32_t key = s.key_at(next - 1);
    bool goes_on = s.key_at(next) == key, began_before = piece > 0 && s.key_at(piece * PIECE - 1) == key;
    if (!goes_on || began_before) return;
    float sum[V], x[V];
    pb_chunk_load<V>(parts.of(piece, 1, col), n, true, sum);
    int64_t q = piece + 1;
    /* Pieces that the run fills and goes on behind, eight at once where there are so many. */
    while ((q + 8) * PIECE < s.n && s.key_at((q + 8) * PIECE) == key) {
#pragma unroll
        for (int j = 0; j < 8; j++) {
            pb_chunk_load<V>(parts.of(q + j, 1, col), n, true, x);
            add<V>(sum, x);
        }
        q += 8;
    }
    while ((q + 1) * PIECE < s.n && s.key_at((q + 1) * PIECE) == key) {
        pb_chunk_load<V>(parts.of(q++, 1, col), n, true, x);
        add<V>(sum, x);
    }
    pb_chunk_load<V>(parts.of(q, 0, col), n, true, x);
    add<V>(sum, x);
    add_to_row<V>(table, key, col, n, wide, sum);
}

/* --- op --------------------------------------------------------------------------------------- */

struct embed_space {
    int32_t *place, *order, *sorted;
    piece_parts parts;
};

static embed_space embed_space_of(const pb_embed_bwd_args *a, char **ws) {
    size_t ints = (size_t)pb_rows(a->dy) * sizeof(int32_t);
    embed_space s;
    s.place = static_cast<int32_t *>(pb_cuda_take(ws, ints));
    s.order = static_cast<int32_t *>(pb_cuda_take(ws, ints));
    s.sorted = static_cast<int32_t *>(pb_cuda_take(ws, ints));
    s.parts.ld = pb_ceil_div(pb_cols(a->dy), 8) * 8;
    size_t rows = 2 * (size_t)pb_ceil_div(pb_rows(a->dy), PIECE);
    s.parts.at = static_cast<float *>(pb_cuda_take(ws, rows * (size_t)s.parts.ld * sizeof(float)));
    return s;
}

static size_t embed_bwd_workspace(const pb_device *dev, const void *args) {
    char *end = NULL;
    (void)dev;
    (void)embed_space_of(static_cast<const pb_embed_bwd_args *>(args), &end);
    return (size_t)(uintptr_t)end;
}

/* table[key[i]] += dy[i]; key NULL: row 0. */
template <typename T>
static pb_status embed_table(pb_cuda *cuda, const embed_space &space, pb_tensor dy, const int32_t *key,
                             pb_tensor table) {
    constexpr int V = pb_vec_n<T>();
    int64_t n = pb_rows(dy), cols = pb_cols(dy), pieces = pb_ceil_div(n, PIECE);
    const pb_tensor all[] = {dy, table};
    bool wide = pb_chunks_by_row(dy, V, all, 2).wide;
    sorted_tokens s = {NULL, NULL, n};
    if (key != NULL) {
        int64_t blocks = pb_ceil_div(n, SORT_THREADS);
        PB_RETURN(pb_cuda_zero(cuda, space.place, (size_t)n * sizeof(int32_t)));
        PB_RETURN(PB_LAUNCH(cuda, embed_place_kernel, pb_grid(blocks, pb_ceil_div(n, SORT_SPAN)),
                            SORT_THREADS, 0, key, space.place, n));
        PB_RETURN(PB_LAUNCH(cuda, embed_order_kernel, pb_grid(blocks), SORT_THREADS, 0, key, space.place,
                            space.order, space.sorted, n));
        s.order = space.order;
        s.key = space.sorted;
    }
    dim3 grid = pb_grid(pb_ceil_div(pieces, PIECE_WARPS), pb_ceil_div(cols, PB_WARP * V));
    dim3 block(PB_WARP, PIECE_WARPS);
    PB_RETURN(PB_LAUNCH(cuda, (embed_pieces_kernel<T>), grid, block, 0, s, pb_view_of<const T>(dy),
                        pb_view_of<float>(table), space.parts, cols, wide));
    return PB_LAUNCH(cuda, (embed_runs_kernel<T>), grid, block, 0, s, pb_view_of<float>(table), space.parts,
                     cols, wide);
}

template <typename T>
static pb_status embed_bwd_as(pb_cuda *cuda, const pb_embed_bwd_args *a, const embed_space &space) {
    const int32_t *ids = static_cast<const int32_t *>(a->ids.data);
    const int32_t *positions = static_cast<const int32_t *>(a->positions.data);
    const int32_t *types = static_cast<const int32_t *>(a->types.data);
    if (pb_has(a->dword)) PB_RETURN(embed_table<T>(cuda, space, a->dy, ids, a->dword));
    if (pb_has(a->dpos)) PB_RETURN(embed_table<T>(cuda, space, a->dy, positions, a->dpos));
    if (pb_has(a->dtype)) PB_RETURN(embed_table<T>(cuda, space, a->dy, types, a->dtype));
    return PB_OK;
}

static pb_status embed_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_embed_bwd_args *a = static_cast<const pb_embed_bwd_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    char *cursor = static_cast<char *>(ws);
    if (a->dy.dtype == PB_F64) return pb_cuda_no_f64("embed_bwd");
    embed_space space = embed_space_of(a, &cursor);
    return a->dy.dtype == PB_F32 ? embed_bwd_as<float>(cuda, a, space) : embed_bwd_as<pb_bf16>(cuda, a, space);
}

static const pb_kernel kernels[] = {{PB_OP_embed_bwd, "sorted", embed_bwd_workspace, embed_bwd_run}};
PB_CUDA_KERNELS(embed) = {kernels, (int)(sizeof kernels / sizeof *kernels)};
