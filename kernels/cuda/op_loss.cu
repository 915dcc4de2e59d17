/* Softmax cross-entropy. The rows of a chunk of targets come one after another through models/head.c,
 * so that the logits of a batch never exist together.
 *
 * A block takes a row. One pass finds maximum, its index and the sum of exponentials together: each
 * thread keeps a running maximum and rescales its sum when it grows ("online softmax", Milakov &
 * Gimelshein 2018). A second pass writes the gradient; it finds the row in the L2 cache as long as
 * those under way fit there. Bytes: logits once or twice, dlogits once. FLOPs: 4 an element, 7 with
 * gradient.
 *
 * A bf16 gradient may begin where its row of f32 logits does: it is half as long, so that what a turn of the loop writes lies
 * among the logits that all threads have read, once they have all read those of this turn. */
#include "kernels/cuda/chunk.cuh"

#define LOSS_THREADS 512

/* A running maximum with the lowest index that has it, and sum of exp(x - most). */
struct online {
    float most, sum;
    int64_t at;
};

/* What exponents are taken from: with no finite maximum yet, exp(-inf - 0) is the right 0. */
__device__ __forceinline__ float base_of(float most) { return most == -INFINITY ? 0.0f : most; }

/* a := both. Equal maxima keep the lower index. NaN sums stay NaN. */
__device__ __forceinline__ void merge(online *a, const online &b) {
    float most = b.most > a->most ? b.most : a->most;
    if (b.most > a->most || (b.most == a->most && b.at < a->at)) a->at = b.at;
    a->sum = a->sum * (a->most == most ? 1.0f : expf(a->most - most)) +
             b.sum * (b.most == most ? 1.0f : expf(b.most - most));
    a->most = most;
}

/* Chunks of a row whose first element need not be aligned: chunk i holds columns i V - skip .., so that
 * all but the first and the last are whole and aligned. */
template <typename T, int V> __device__ __forceinline__ int row_skip(const T *row) {
    return (int)((uintptr_t)row / sizeof(T) % V);
}

template <typename T, typename D, bool GRADIENT>
__global__ void __launch_bounds__(LOSS_THREADS)
    cross_entropy_kernel(pb_view<const T> logits, const int32_t *target, float *loss, int32_t *pred,
                         pb_view<D> dlogits, int64_t rows, int64_t cols, float scale) {
    constexpr int V = pb_vec_n<T>();
    __shared__ online slots[PB_WARP];
    const int lane = (int)threadIdx.x % PB_WARP, warps = (int)blockDim.x / PB_WARP;
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const T *row = logits.at(r, 0);
        int skip = row_skip<T, V>(row);
        online o = {-INFINITY, 0.0f, cols};
        for (int64_t from = (int64_t)threadIdx.x * V - skip; from < cols; from += (int64_t)blockDim.x * V) {
            float x[V], most = -INFINITY;
            int low = from < 0 ? (int)-from : 0, high = cols - from < V ? (int)(cols - from) : V;
            if (low == 0) {
                pb_chunk_load<V>(row + from, high, true, x);
            } else {
#pragma unroll
                for (int k = 0; k < V; k++) x[k] = k >= low && k < high ? pb_load(row + from + k) : 0.0f;
            }
#pragma unroll
            for (int k = V - 1; k >= 0; k--) { /* downwards: the lowest index wins */
                if (k < low || k >= high) x[k] = -INFINITY;
                if (x[k] >= most && k >= low && k < high) {
                    most = x[k];
                    if (most > o.most) o.at = from + k;
                }
            }
            if (most > o.most) {
                o.sum *= expf(o.most - most);
                o.most = most;
            }
            float base = base_of(o.most);
#pragma unroll
            for (int k = 0; k < V; k++) o.sum += expf(x[k] - base);
        }
#pragma unroll
        for (int d = PB_WARP / 2; d > 0; d /= 2) {
            online other;
            other.most = __shfl_xor_sync(PB_ALL_LANES, o.most, d);
            other.sum = __shfl_xor_sync(PB_ALL_LANES, o.sum, d);
            other.at = __shfl_xor_sync(PB_ALL_LANES, o.at, d);
            merge(&o, other);
        }
        if (lane == 0) slots[threadIdx.x / PB_WARP] = o;
        __syncthreads();
        o = slots[0];
        for (int w = 1; w < warps; w++) merge(&o, slots[w]);
        int32_t wanted = target[r];
        if (threadIdx.x == 0) {
            /* A row of NaN or -inf only has no maximum: index 0, loss NaN. */
            double value = log((double)o.sum) + (double)o.most -
                           (wanted >= 0 ? (double)pb_load(row + wanted) : 0.0);
            loss[r] = wanted >= 0 ? (float)value : 0.0f;
            pred[r] = o.at < cols ? (int32_t)o.at : 0;
        }
        __syncthreads(); /* slots are read, and the target's logit before its gradient may replace it */
        if (!GRADIENT) continue;
        D *out = dlogits.at(r, 0);
        bool same = row_skip<D, V>(out) == skip;
        float inverse = 1.0f / o.sum, base = base_of(o.most);
        for (int64_t turn = -skip; turn < cols; turn += (int64_t)blockDim.x * V) {
            float x[V];
            int64_t from = turn + (int64_t)threadIdx.x * V;
            int low = from < 0 ? (int)-from : 0, high = cols - from < V ? (int)(cols - from) : V;
            if (low == 0 && from < cols) {
                pb_chunk_load<V>(row + from, high, true, x);
            } else {
#pragma unroll
                for (int k = 0; k < V; k++) x[k] = k >= low && k < high ? pb_load(row + from + k) : 0.0f;
            }
            if (sizeof(D) < sizeof(T)) __syncthreads();
#pragma unroll
            for (int k = 0; k < V; k++) {
                float p = expf(x[k] - base) * inverse;
                if (from + k == wanted) p -= 1.0f;
                x[k] = wanted < 0 ? 0.0f : scale * p;
            }
            if (low == 0 && from < cols) {
                pb_chunk_store<V>(out + from, high, same, x);
            } else {
#pragma unroll
                for (int k = 0; k < V; k++) {
                    if (k >= low && k < high) pb_store(out + from + k, x[k]);
                }
            }
        }
    }
}

template <typename T, typename D> static pb_status cross_entropy_as(pb_cuda *cuda, const pb_cross_entropy_args *a) {
    constexpr int V = pb_vec_n<T>();
    int64_t rows = pb_rows(a->logits), cols = pb_cols(a->logits);
    int64_t threads = pb_min64(LOSS_THREADS, pb_ceil_div(pb_ceil_div(cols + V, V), PB_WARP) * PB_WARP);
    dim3 grid = pb_grid(pb_min64(rows, 1 << 20)), block((unsigned)threads);
    pb_view<const T> logits = pb_view_of<const T>(a->logits);
    const int32_t *target = static_cast<const int32_t *>(a->target.data);
    float *loss = static_cast<float *>(a->loss.data);
    int32_t *pred = static_cast<int32_t *>(a->pred.data);
    pb_view<D> dlogits = pb_view_of<D>(a->dlogits);
    if (pb_has(a->dlogits)) {
        return PB_LAUNCH(cuda, (cross_entropy_kernel<T, D, true>), grid, block, 0, logits, target, loss, pred,
                         dlogits, rows, cols, (float)a->scale);
    }
    return PB_LAUNCH(cuda, (cross_entropy_kernel<T, D, false>), grid, block, 0, logits, target, loss, pred,
                     dlogits, rows, cols, 0.0f);
}

static pb_status cross_entropy_run(pb_device *dev, const void *args, void *ws) {
    const pb_cross_entropy_args *a = static_cast<const pb_cross_entropy_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->logits.dtype == PB_F64) return pb_cuda_no_f64("cross_entropy");
    if (a->logits.dtype == PB_BF16) return cross_entropy_as<pb_bf16, pb_bf16>(cuda, a);
    return pb_has(a->dlogits) && a->dlogits.dtype == PB_BF16 ? cross_entropy_as<float, pb_bf16>(cuda, a)
                                                            : cross_entropy_as<float, float>(cuda, a);
}

static const pb_kernel kernels[] = {{PB_OP_cross_entropy, "online", NULL, cross_entropy_run}};
PB_CUDA_KERNELS(loss) = {kernels, (int)(sizeof kernels / sizeof *kernels)};
