/* Activations, SwiGLU (Shazeer 2020) and dropout: one pass over memory in chunks of 16 bytes, f32
 * arithmetic. bf16 moves half the bytes, so that its arithmetic must be short to stay bound by memory:
 * exp and 1/x then come from the special function unit (2^-21 relative, far below the 2^-9 of a bf16).
 * f32 is the mode of parity and uses the exact functions. */
#include "kernels/cuda/act.h"
#include "kernels/cuda/chunk.cuh"

/* --- arithmetic ------------------------------------------------------------------------------ */

template <typename T> struct act_math {
    static __device__ __forceinline__ float exp(float x) { return expf(x); }
    static __device__ __forceinline__ float inverse(float x) { return 1.0f / x; }
};
#ifdef __CUDACC__
template <> struct act_math<pb_bf16> {
    static __device__ __forceinline__ float exp(float x) { return __expf(x); }
    static __device__ __forceinline__ float inverse(float x) { return __fdividef(1.0f, x); }
};
#endif

/* exp(-x) overflows to inf below -88, and 1/inf is the right 0. */
template <typename T> __device__ __forceinline__ float sigmoid(float x) {
    return act_math<T>::inverse(1.0f + act_math<T>::exp(-x));
}

/* The normal distribution function and its density. With z = |x|/sqrt2: Phi(-|x|) = erfc(z)/2, and
 * erfc(z) = exp(-z^2) t P(t), t = 1/(1+0.35z), the polynomial of the cpu backend (cpu_math.h): about
 * 20 instructions, no branch. */
template <typename T> __device__ __forceinline__ float phi(float x, float *density) {
    float e = act_math<T>::exp(-0.5f * x * x), t = act_math<T>::inverse(1.0f + 0.24748737f * fabsf(x));
    float p = 0.036654728387307614f;
    p = p * t - 0.1495435378932083f;
    p = p * t + 0.15964122141293324f;
    p = p * t + 0.0010456044562295874f;
    p = p * t + 0.06340511805001514f;
    p = p * t + 0.15855468541223883f;
    p = p * t + 0.14691578247354395f;
    p = p * t + 0.18880639799813229f;
    p = p * t + 0.19703073783104041f;
    p = p * t + 0.19748926639842815f;
    float tail = 0.5f * (t * p) * e;
    *density = 0.3989422804f * e;
    return x < 0.0f ? tail : 1.0f - tail;
}

template <typename T, int ACT> __device__ __forceinline__ float act_value(float x) {
    float density;
    if (ACT == PB_ACT_GELU) return x * phi<T>(x, &density);
    if (ACT == PB_ACT_GELU_TANH) /* 0.5 x (1 + tanh v) = x sigmoid(2v), v = sqrt(2/pi) (x + 0.044715 x^3) */
        return x * sigmoid<T>(x * (1.5957691216f + 0.0713548162726f * (x * x)));
    if (ACT == PB_ACT_RELU) return x < 0.0f ? 0.0f : x;
    return x * sigmoid<T>(x);
}

/* Beyond |x| = 16 the gate of GELU is 0 or 1 and its slope 0: the clamp keeps x^2 finite. */
template <typename T, int ACT> __device__ __forceinline__ float act_slope(float x) {
    if (ACT == PB_ACT_GELU) {
        float density, p = phi<T>(x, &density);
        return p + x * density;
    }
    if (ACT == PB_ACT_GELU_TANH) {
        float c = x > 16.0f ? 16.0f : x;
        c = c < -16.0f ? -16.0f : c;
        float s = sigmoid<T>(c * (1.5957691216f + 0.0713548162726f * (c * c)));
        return s + c * s * (1.0f - s) * (1.5957691216f + 0.2140644488178f * (c * c));
    }
    float s = sigmoid<T>(x);
    return s * (1.0f + x * (1.0f - s));
}

/* --- kernels --------------------------------------------------------------------------------- */

/* y = act(x). Idea: a chunk a thread. Bytes: x and y once. FLOPs: about 10 an element. Source:
 * Hendrycks & Gimpel 2016 (GELU). In place is fine: a chunk is read before it is written. */
template <typename T, int ACT>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    act_fwd_kernel(pb_view<const T> x, pb_view<T> y, pb_chunks g) {
    constexpr int V = pb_vec_n<T>();
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        float v[V];
        pb_chunk_load<V>(x.at(c.row, c.col), c.n, g.wide, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = act_value<T, ACT>(v[k]);
        pb_chunk_store<V>(y.at(c.row, c.col), c.n, g.wide, v);
    }
}

/* dx = act'(x) .* dy. Bytes: x, dy, dx once. FLOPs: about 14 an element. */
template <typename T, int ACT>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    act_bwd_kernel(pb_view<const T> x, pb_view<const T> dy, pb_view<T> dx, pb_chunks g) {
    constexpr int V = pb_vec_n<T>();
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        float v[V], d[V];
        pb_chunk_load<V>(x.at(c.row, c.col), c.n, g.wide, v);
        pb_chunk_load<V>(dy.at(c.row, c.col), c.n, g.wide, d);
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (ACT == PB_ACT_RELU)
                d[k] = v[k] > 0.0f ? d[k] : 0.0f;
            else
                d[k] *= act_slope<T, ACT>(v[k]);
        }
        pb_chunk_store<V>(dx.at(c.row, c.col), c.n, g.wide, d);
    }
}

/* y = silu(gate) .* up. Bytes: gate, up, y once. FLOPs: 11 an element. */
template <typename T>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    swiglu_fwd_kernel(pb_view<const T> gate, pb_view<const T> up, pb_view<T> y, pb_chunks g) {
    constexpr int V = pb_vec_n<T>();
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        float a[V], u[V];
        pb_chunk_load<V>(gate.at(c.row, c.col), c.n, g.wide, a);
        pb_chunk_load<V>(up.at(c.row, c.col), c.n, g.wide, u);
#pragma unroll
        for (int k = 0; k < V; k++) u[k] *= a[k] * sigmoid<T>(a[k]);
        pb_chunk_store<V>(y.at(c.row, c.col), c.n, g.wide, u);
    }
}

/* dup = dy silu(gate), dgate = dy up silu'(gate). dgate may be dy. Bytes: five operands once. FLOPs:
 * 16 an element. */
template <typename T>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    swiglu_bwd_kernel(pb_view<const T> gate, pb_view<const T> up, pb_view<const T> dy, pb_view<T> dgate,
                      pb_view<T> dup, pb_chunks g) {
    constexpr int V = pb_vec_n<T>();
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        float a[V], u[V], d[V];
        pb_chunk_load<V>(gate.at(c.row, c.col), c.n, g.wide, a);
        pb_chunk_load<V>(up.at(c.row, c.col), c.n, g.wide, u);
        pb_chunk_load<V>(dy.at(c.row, c.col), c.n, g.wide, d);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float s = sigmoid<T>(a[k]), slope = s * (1.0f + a[k] * (1.0f - s));
            float to_gate = d[k] * u[k] * slope;
            u[k] = d[k] * (a[k] * s);
            d[k] = to_gate;
        }
        pb_chunk_store<V>(dgate.at(c.row, c.col), c.n, g.wide, d);
        pb_chunk_store<V>(dup.at(c.row, c.col), c.n, g.wide, u);
    }
}

/* y = D(x) + beta y. Idea: the mask of an element is a function of its index (Salmon et al. 2011), so
 * that it is drawn again in backward and never stored. Bytes: x and y once, y twice with beta. Philox:
 * about 20 integer operations an element. */
template <typename T>
__global__ void __launch_bounds__(PB_CHUNK_THREADS)
    dropout_kernel(pb_view<const T> x, pb_view<T> y, pb_chunks g, pb_mask mask, float beta) {
    constexpr int V = pb_vec_n<T>();
    PB_FOR_CHUNKS(i, g) {
        pb_chunk c = pb_chunk_at<V>(g, i);
        float v[V];
        pb_chunk_load<V>(x.at(c.row, c.col), c.n, g.wide, v);
        pb_chunk_drop<V>(mask, (uint64_t)(c.row * g.cols + c.col), v);
        pb_chunk_mix<V>(y.at(c.row, c.col), c.n, g.wide, beta, v);
        pb_chunk_store<V>(y.at(c.row, c.col), c.n, g.wide, v);
    }
}

/* --- ops ------------------------------------------------------------------------------------- */

template <typename OP, typename A>
static pb_status run_real(pb_cuda *cuda, pb_dtype dtype, const A *a) {
    if (dtype == PB_F32) return OP::template as<float>(cuda, a);
    return OP::template as<pb_bf16>(cuda, a);
}

template <int ACT> struct act_fwd {
    template <typename T> static pb_status as(pb_cuda *cuda, const pb_act_fwd_args *a) {
        const pb_tensor all[] = {a->x, a->y};
        pb_chunks g = pb_chunks_of(a->x, pb_vec_n<T>(), all, 2);
        return PB_LAUNCH(cuda, (act_fwd_kernel<T, ACT>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                         pb_view_of<const T>(a->x), pb_view_of<T>(a->y), g);
    }
};

pb_status pb_cuda_act_fwd(pb_cuda *cuda, const pb_act_fwd_args *a) {
    switch (a->act) {
    case PB_ACT_GELU: return run_real<act_fwd<PB_ACT_GELU>>(cuda, a->x.dtype, a);
    case PB_ACT_GELU_TANH: return run_real<act_fwd<PB_ACT_GELU_TANH>>(cuda, a->x.dtype, a);
    case PB_ACT_RELU: return run_real<act_fwd<PB_ACT_RELU>>(cuda, a->x.dtype, a);
    default: return run_real<act_fwd<PB_ACT_SILU>>(cuda, a->x.dtype, a);
    }
}

static pb_status act_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_act_fwd_args *a = static_cast<const pb_act_fwd_args *>(args);
    (void)ws;
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("act_fwd");
    return pb_cuda_act_fwd(pb_cuda_of(dev), a);
}

template <int ACT> struct act_bwd {
    template <typename T> static pb_status as(pb_cuda *cuda, const pb_act_bwd_args *a) {
        const pb_tensor all[] = {a->x, a->dy, a->dx};
        pb_chunks g = pb_chunks_of(a->x, pb_vec_n<T>(), all, 3);
        return PB_LAUNCH(cuda, (act_bwd_kernel<T, ACT>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                         pb_view_of<const T>(a->x), pb_view_of<const T>(a->dy),
                     pb_view_of<T>(a->dx), g);
    }
};

pb_status pb_cuda_act_bwd(pb_cuda *cuda, const pb_act_bwd_args *a) {
    switch (a->act) {
    case PB_ACT_GELU: return run_real<act_bwd<PB_ACT_GELU>>(cuda, a->x.dtype, a);
    case PB_ACT_GELU_TANH: return run_real<act_bwd<PB_ACT_GELU_TANH>>(cuda, a->x.dtype, a);
    case PB_ACT_RELU: return run_real<act_bwd<PB_ACT_RELU>>(cuda, a->x.dtype, a);
    default: return run_real<act_bwd<PB_ACT_SILU>>(cuda, a->x.dtype, a);
    }
}

static pb_status act_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_act_bwd_args *a = static_cast<const pb_act_bwd_args *>(args);
    (void)ws;
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("act_bwd");
    return pb_cuda_act_bwd(pb_cuda_of(dev), a);
}

template <typename T> static pb_status swiglu_fwd_as(pb_cuda *cuda, const pb_swiglu_fwd_args *a) {
    const pb_tensor all[] = {a->gate, a->up, a->y};
    pb_chunks g = pb_chunks_of(a->y, pb_vec_n<T>(), all, 3);
    return PB_LAUNCH(cuda, (swiglu_fwd_kernel<T>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                     pb_view_of<const T>(a->gate), pb_view_of<const T>(a->up), pb_view_of<T>(a->y), g);
}

static pb_status swiglu_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_swiglu_fwd_args *a = static_cast<const pb_swiglu_fwd_args *>(args);
    (void)ws;
    if (a->y.dtype == PB_F64) return pb_cuda_no_f64("swiglu_fwd");
    pb_cuda *cuda = pb_cuda_of(dev);
    return a->y.dtype == PB_F32 ? swiglu_fwd_as<float>(cuda, a) : swiglu_fwd_as<pb_bf16>(cuda, a);
}

template <typename T> static pb_status swiglu_bwd_as(pb_cuda *cuda, const pb_swiglu_bwd_args *a) {
    const pb_tensor all[] = {a->gate, a->up, a->dy, a->dgate, a->dup};
    pb_chunks g = pb_chunks_of(a->dy, pb_vec_n<T>(), all, 5);
    return PB_LAUNCH(cuda, (swiglu_bwd_kernel<T>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                     pb_view_of<const T>(a->gate), pb_view_of<const T>(a->up), pb_view_of<const T>(a->dy),
                     pb_view_of<T>(a->dgate), pb_view_of<T>(a->dup), g);
}

static pb_status swiglu_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_swiglu_bwd_args *a = static_cast<const pb_swiglu_bwd_args *>(args);
    (void)ws;
    if (a->dy.dtype == PB_F64) return pb_cuda_no_f64("swiglu_bwd");
    pb_cuda *cuda = pb_cuda_of(dev);
    return a->dy.dtype == PB_F32 ? swiglu_bwd_as<float>(cuda, a) : swiglu_bwd_as<pb_bf16>(cuda, a);
}

template <typename T> static pb_status dropout_as(pb_cuda *cuda, const pb_dropout_args *a) {
    const pb_tensor all[] = {a->x, a->y};
    pb_chunks g = pb_chunks_of(a->x, pb_vec_n<T>(), all, 2);
    return PB_LAUNCH(cuda, (dropout_kernel<T>), pb_chunk_grid(cuda, g.n), PB_CHUNK_THREADS, 0,
                     pb_view_of<const T>(a->x), pb_view_of<T>(a->y), g, pb_mask_of(a->drop),
                     (float)a->beta);
}

static pb_status dropout_run(pb_device *dev, const void *args, void *ws) {
    const pb_dropout_args *a = static_cast<const pb_dropout_args *>(args);
    (void)ws;
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("dropout");
    pb_cuda *cuda = pb_cuda_of(dev);
    return a->x.dtype == PB_F32 ? dropout_as<float>(cuda, a) : dropout_as<pb_bf16>(cuda, a);
}

static const pb_kernel kernels[] = {
    {PB_OP_act_fwd, "vector", NULL, act_fwd_run},
    {PB_OP_act_bwd, "vector", NULL, act_bwd_run},
    {PB_OP_swiglu_fwd, "vector", NULL, swiglu_fwd_run},
    {PB_OP_swiglu_bwd, "vector", NULL, swiglu_bwd_run},
    {PB_OP_dropout, "vector", NULL, dropout_run},
};
PB_CUDA_KERNELS(act) = {kernels, (int)(sizeof kernels / sizeof *kernels)};
