/* The low-rank branch y += scale ((D(x) A^T) .* e) B^T and its gradients (Hu et al. 2021).
 *
 * What needs dropout's mask is own work (lowrank.cuh): D(x) A^T forward, dA and dx backward, each from one pass over x.
 * Products without a mask are the library's, added into y, dx and the gradients by their beta: y += (h .* e) B^T moves
 * y once in and once out, which is the least there is. Sums over tokens are cut into slices by shapes alone and added in
 * order. Elsewhere (f32, odd sizes, ranks over 128, older architectures) D(x) and dh A pass through the workspace: the plain
 * twin. FLOPs: forward 2 N r (in + out), backward 4 N r (in + out). */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/lane.cuh"
#include "kernels/cuda/lowrank.cuh"

#define THREADS     256
#define RANK_MAX    128
#define SLICES_MAX  16
#define BLOCKS_WANT 512 /* thread blocks that fill a large device */
#ifndef PB_PLAIN_BYTES /* of f32 values of x's size in the workspace of the plain way; tests have several turns with less */
#define PB_PLAIN_BYTES ((int64_t)8 << 20)
#endif

static pb_tensor matrix(void *data, pb_dtype dtype, int64_t rows, int64_t cols, int64_t stride) {
    pb_tensor t = {};
    t.data = data;
    t.dtype = dtype;
    t.ndim = 2;
    t.dim[0] = rows;
    t.dim[1] = cols;
    t.stride = stride;
    return t;
}

/* Ranks the kernels are made for. */
static int rank_tile(int64_t r) { return r <= 16 ? 16 : r <= 32 ? 32 : r <= 64 ? 64 : 128; }

static bool in_pieces(pb_tensor t) {
    return ((uintptr_t)t.data & 15) == 0 && (pb_rows(t) <= 1 || t.stride % 8 == 0);
}

/* By shapes only, so that a plan knows the workspace; whether strides and the device allow it is seen at run time. */
static bool may_fuse(pb_drop drop, pb_dtype dtype, int64_t in, int64_t r) {
    return drop.p > 0.0f && dtype == PB_BF16 && in % 8 == 0 && r <= RANK_MAX;
}
static bool can_fuse(const pb_cuda *cuda, pb_tensor x, pb_tensor a, size_t shared) {
    return cuda->info.major >= 8 && !cuda->plain && shared <= cuda->info.shared_optin && in_pieces(x) &&
           in_pieces(a);
}

/* Tokens that the plain way takes at once: what it stores of the size of x stays small. */
static int64_t plain_rows(int64_t n, int64_t in) {
    return pb_min64(n, pb_max64(64, PB_PLAIN_BYTES / pb_max64(1, in * 4) / 64 * 64));
}

/* --- small kernels -------------------------------------------------------------------------------- */

/* u [n, in] := D(x), x's first element being number `first` of the mask. One thread four elements of a row where `by4`:
 * one Philox block. Bytes: x and u once. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    lowrank_mask_kernel(const T *x, int64_t stride, T *u, int64_t n, int64_t in, int64_t first,
                        pb_mask m, bool by4) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (by4) {
        if (4 * i >= n * in) return;
        float f[4];
        pb_mask_factors4(m, (uint64_t)(first / 4 + i), f);
        int64_t row = 4 * i / in, col = 4 * i % in;
        for (int k = 0; k < 4; k++)
            pb_store(u + 4 * i + k, f[k] * pb_load(x + row * stride + col + k));
    } else if (i < n * in) {
        pb_store(u + i, pb_mask_factor(m, (uint64_t)(first + i)) * pb_load(x + i / in * stride + i % in));
    }
}

/* dx [n, in] := beta dx + mask .* t, t f32 without gaps. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    lowrank_unmask_kernel(const float *t, T *dx, int64_t stride, int64_t n, int64_t in,
                          int64_t first, pb_mask m, float beta) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n * in) return;
    float f = pb_mask_factor(m, (uint64_t)(first + i));
    T *to = dx + i / in * stride + i % in;
    pb_store(to, f * t[i] + (beta != 0.0f ? beta * pb_load(to) : 0.0f));
}

/* h := sum of the slices, rounded to T. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    lowrank_h_kernel(const float *part, int slices, T *h, int64_t stride, int64_t n, int64_t r) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n * r) return;
    float sum = 0.0f;
    for (int s = 0; s < slices; s++) sum += part[s * n * r + i];
    pb_store(h + i / r * stride + i % r, sum);
}

/* to [n, width] := from [n, r] .* e (e NULL: a copy), zeros in the columns behind r. */
template <typename S, typename T>
static __global__ void __launch_bounds__(THREADS)
    lowrank_scale_kernel(const S *from, int64_t stride, const T *e, T *to, int64_t n, int64_t r,
                         int64_t width) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n * width) return;
    int64_t row = i / width, k = i % width;
    float v = k < r ? pb_load(from + row * stride + k) : 0.0f;
    if (e != NULL && k < r) v *= pb_load(e + k);
    pb_store(to + i, v);
}

/* part[slice, k] := sum of dq .* h over the slice's tokens: 32 ranks by 8 rows of threads. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    lowrank_de_kernel(const float *dq, const T *h, int64_t stride, int64_t n, int64_t r, int slices,
                      float *part) {
    __shared__ float sums[8][32];
    int64_t k = (int64_t)blockIdx.x * 32 + threadIdx.x % 32;
    int64_t from = n * blockIdx.y / slices, to = n * (blockIdx.y + 1) / slices;
    int y = (int)threadIdx.x / 32;
    float sum = 0.0f;
    for (int64_t i = from + y; i < to && k < r; i += 8)
        sum += dq[i * r + k] * pb_load(h + i * stride + k);
    sums[y][threadIdx.x % 32] = sum;
    __syncthreads();
    if (y != 0 || k >= r) return;
    sum = 0.0f;
    for (int i = 0; i < 8; i++) sum += sums[i][threadIdx.x];
    part[(int64_t)blockIdx.y * r + k] = sum;
}

/* to [rows, cols] += the slices of part, in order. */
static __global__ void __launch_bounds__(THREADS)
    lowrank_add_kernel(const float *part, int slices, float *to, int64_t stride, int64_t rows,
                       int64_t cols) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= rows * cols) return;
    float sum = 0.0f;
    for (int s = 0; s < slices; s++) sum += part[s * rows * cols + i];
    to[i / cols * stride + i % cols] += sum;
}

static dim3 grid_for(int64_t n) { return pb_grid(pb_ceil_div(n, THREADS)); }

/* u := D(x) for rows [row, row + rows). */
static pb_status mask_x(pb_cuda *cuda, pb_tensor x, int64_t row, int64_t rows, pb_drop drop,
                        pb_tensor u) {
    int64_t in = pb_cols(x);
    bool by4 = in % 4 == 0;
    pb_status status = PB_OK;
    PB_WITH_REAL(x.dtype, T,
                 status = PB_LAUNCH(
                     cuda, (lowrank_mask_kernel<T>), grid_for(by4 ? rows * in / 4 : rows * in),
                     THREADS, 0, (const T *)x.data + row * x.stride, x.stride, (T *)u.data, rows,
                     in, row * in, pb_mask_of(drop), by4));
    return status;
}

/* to [n, width] := from .* e in T; from is T or f32. */
static pb_status scale_rank(pb_cuda *cuda, pb_tensor from, pb_tensor e, pb_tensor to,
                            int64_t width) {
    int64_t n = pb_rows(from), r = pb_cols(from);
    dim3 grid = grid_for(n * width);
    if (to.dtype == PB_F32)
        return PB_LAUNCH(cuda, (lowrank_scale_kernel<float, float>), grid, THREADS, 0,
                         (const float *)from.data, from.stride, (const float *)e.data,
                         (float *)to.data, n, r, width);
    if (from.dtype == PB_F32)
        return PB_LAUNCH(cuda, (lowrank_scale_kernel<float, pb_bf16>), grid, THREADS, 0,
                         (const float *)from.data, from.stride, (const pb_bf16 *)e.data,
                         (pb_bf16 *)to.data, n, r, width);
    return PB_LAUNCH(cuda, (lowrank_scale_kernel<pb_bf16, pb_bf16>), grid, THREADS, 0,
                     (const pb_bf16 *)from.data, from.stride, (const pb_bf16 *)e.data,
                     (pb_bf16 *)to.data, n, r, width);
}

/* c := alpha op(a) op(b) + beta c; ws as in gemm.h. */
static pb_status product(pb_cuda *cuda, void *ws, pb_tensor a, bool ta, pb_tensor b, bool tb,
                         pb_tensor c, double alpha, double beta) {
    pb_gemm_args g = {};
    g.a = a;
    g.b = b;
    g.c = c;
    g.trans_a = ta;
    g.trans_b = tb;
    g.alpha = alpha;
    g.beta = beta;
    return pb_cuda_gemm(cuda, &g, ws);
}

/* --- forward -------------------------------------------------------------------------------------- */

typedef struct fwd_ws {
    void *u, *he, *product;
    float *part; /* shares u's memory: one or the other */
    int slices;
    size_t bytes;
} fwd_ws;

static fwd_ws fwd_layout(const pb_lowrank_args *a, char *base) {
    fwd_ws w = {};
    int64_t n = pb_rows(a->x), in = pb_cols(a->x), r = pb_rows(a->a);
    size_t size = pb_dtype_size(a->x.dtype), part = 0,
           u = a->drop.p > 0.0f ? (size_t)(plain_rows(n, in) * in) * size : 0;
    char *at = base;
    w.slices = 1;
    if (may_fuse(a->drop, a->x.dtype, in, r)) {
        int64_t blocks = pb_max64(1, pb_ceil_div(n, LOWRANK_ROWS));
        w.slices = (int)pb_max64(
            1, pb_min64(pb_min64(SLICES_MAX, BLOCKS_WANT / blocks), in / (4 * LOWRANK_COLS)));
        part = (size_t)(w.slices * n * r) * sizeof(float);
    }
    w.u = pb_cuda_take(&at, u > part ? u : part);
    w.part = (float *)w.u;
    if (pb_has(a->e)) w.he = pb_cuda_take(&at, (size_t)(n * r) * size);
    w.product = pb_cuda_take(&at, PB_CUDA_PRODUCT_BYTES);
    w.bytes = (size_t)(at - base);
    return w;
}

static size_t lowrank_workspace(const pb_device *dev, const void *args) {
    (void)dev;
    return fwd_layout((const pb_lowrank_args *)args, NULL).bytes;
}

template <int RT>
static pb_status xa_as(pb_cuda *cuda, const lowrank_params &p) {
    dim3 grid = pb_grid(pb_ceil_div(p.n, LOWRANK_ROWS), p.slices);
    PB_CUDA(pb_api_set_shared((const void *)lowrank_xa_mma<RT>, lowrank_fwd_shared(RT)));
    return PB_LAUNCH(cuda, (lowrank_xa_mma<RT>), grid, LOWRANK_THREADS, lowrank_fwd_shared(RT), p);
}

static pb_status fused_h(pb_cuda *cuda, const pb_lowrank_args *a, const fwd_ws *w) {
    lowrank_params p = {};
    p.x = (const uint16_t *)a->x.data;
    p.x_stride = a->x.stride;
    p.a = (const uint16_t *)a->a.data;
    p.a_stride = a->a.stride;
    p.n = pb_rows(a->x);
    p.in = pb_cols(a->x);
    p.rank = pb_rows(a->a);
    p.part = w->part;
    p.slices = w->slices;
    p.mask = pb_mask_of(a->drop);
    switch (rank_tile(p.rank)) {
    case 16:
        PB_RETURN(xa_as<16>(cuda, p));
        break;
    case 32:
        PB_RETURN(xa_as<32>(cuda, p));
        break;
    case 64:
        PB_RETURN(xa_as<64>(cuda, p));
        break;
    default:
        PB_RETURN(xa_as<128>(cuda, p));
        break;
    }
    return PB_LAUNCH(cuda, (lowrank_h_kernel<pb_bf16>), grid_for(p.n * p.rank), THREADS, 0,
                     (const float *)w->part, w->slices, (pb_bf16 *)a->h.data, a->h.stride, p.n,
                     p.rank);
}

static pb_status lowrank_run(pb_device *dev, const void *args, void *ws) {
    const pb_lowrank_args *a = (const pb_lowrank_args *)args;
    pb_cuda *cuda = pb_cuda_of(dev);
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("lowrank");
    int64_t n = pb_rows(a->x), in = pb_cols(a->x), r = pb_rows(a->a);
    if (n == 0) return PB_OK;
    fwd_ws w = fwd_layout(a, (char *)ws);
    if (may_fuse(a->drop, a->x.dtype, in, r) &&
        can_fuse(cuda, a->x, a->a, lowrank_fwd_shared(rank_tile(r)))) {
        PB_RETURN(fused_h(cuda, a, &w));
    } else {
        int64_t step = a->drop.p > 0.0f ? plain_rows(n, in) : n;
        for (int64_t row = 0; row < n; row += step) {
            int64_t rows = pb_min64(step, n - row);
            pb_tensor u = a->x;
            if (a->drop.p > 0.0f) {
                u = matrix(w.u, a->x.dtype, rows, in, in);
                PB_RETURN(mask_x(cuda, a->x, row, rows, a->drop, u));
            }
            PB_RETURN(product(cuda, w.product, u, false, a->a, true, pb_rows_of(a->h, row, rows),
                              1.0, 0.0));
        }
    }
    pb_tensor he = a->h;
    if (pb_has(a->e)) {
        he = matrix(w.he, a->x.dtype, n, r, r);
        PB_RETURN(scale_rank(cuda, a->h, a->e, he, r));
    }
    return product(cuda, w.product, he, false, a->b, true, a->y, a->scale, 1.0);
}

/* --- backward ------------------------------------------------------------------------------------- */

typedef struct bwd_ws {
    pb_tensor dq, dh, he; /* f32 [n,r]; T [n,r] with rows of `width`; T [n,r] */
    void *u, *product;    /* T [n,in]; the library's */
    float *t, *da, *de;   /* f32 [n,in]; slices of da (shares u and t's memory) and of de */
    int64_t width;
    int da_slices, de_slices;
    size_t bytes;
} bwd_ws;

static bwd_ws bwd_layout(const pb_lowrank_bwd_args *a, char *base) {
    bwd_ws w = {};
    int64_t n = pb_rows(a->x), in = pb_cols(a->x), r = pb_rows(a->a);
    size_t size = pb_dtype_size(a->x.dtype);
    bool drop = a->drop.p > 0.0f, fuse = may_fuse(a->drop, a->x.dtype, in, r);
    char *at = base;
    w.width = fuse ? rank_tile(r) : r;
    w.da_slices = w.de_slices = 1;
    w.dq = matrix(pb_cuda_take(&at, (size_t)(n * r) * sizeof(float)), PB_F32, n, r, r);
    w.dh = matrix(pb_cuda_take(&at, (size_t)(n * w.width) * size), a->x.dtype, n, r, w.width);
    if (pb_has(a->e) && pb_has(a->db))
        w.he = matrix(pb_cuda_take(&at, (size_t)(n * r) * size), a->x.dtype, n, r, r);
    if (pb_has(a->de)) {
        w.de_slices = (int)pb_max64(1, pb_min64(64, n / 128));
        w.de = (float *)pb_cuda_take(&at, (size_t)(w.de_slices * r) * sizeof(float));
    }
    w.product = pb_cuda_take(&at, PB_CUDA_PRODUCT_BYTES);
    char *shared = at; /* the fused way and the plain one do not meet */
    if (fuse && pb_has(a->da)) {
        int64_t blocks = pb_max64(1, pb_ceil_div(in, LOWRANK_COLS)),
                tiles = pb_max64(1, pb_ceil_div(n, LOWRANK_ROWS));
        w.da_slices =
            (int)pb_max64(1, pb_min64(pb_min64(SLICES_MAX, BLOCKS_WANT / blocks), tiles / 2));
        w.da = (float *)pb_cuda_take(&at, (size_t)(w.da_slices * r * in) * sizeof(float));
    }
    size_t fused = (size_t)(at - base);
    at = shared;
    if (drop && pb_has(a->da)) w.u = pb_cuda_take(&at, (size_t)(plain_rows(n, in) * in) * size);
    if (drop && pb_has(a->dx))
        w.t = (float *)pb_cuda_take(&at, (size_t)(plain_rows(n, in) * in) * sizeof(float));
    w.bytes = (size_t)(at - base) > fused ? (size_t)(at - base) : fused;
    return w;
}

static size_t lowrank_bwd_workspace(const pb_device *dev, const void *args) {
    (void)dev;
    return bwd_layout((const pb_lowrank_bwd_args *)args, NULL).bytes;
}

static pb_status add_slices(pb_cuda *cuda, const float *part, int slices, pb_tensor to) {
    int64_t rows = pb_rows(to), cols = pb_cols(to);
    return PB_LAUNCH(cuda, lowrank_add_kernel, grid_for(rows * cols), THREADS, 0, part, slices,
                     (float *)to.data, to.stride, rows, cols);
}

static pb_status de_sum(pb_cuda *cuda, const pb_lowrank_bwd_args *a, const bwd_ws *w) {
    int64_t n = pb_rows(a->x), r = pb_rows(a->a);
    pb_status status = PB_OK;
    PB_WITH_REAL(a->h.dtype, T,
                 status = PB_LAUNCH(cuda, (lowrank_de_kernel<T>),
                                    pb_grid(pb_ceil_div(r, 32), w->de_slices), THREADS, 0,
                                    (const float *)w->dq.data, (const T *)a->h.data, a->h.stride, n,
                                    r, w->de_slices, w->de));
    return status != PB_OK ? status : add_slices(cuda, w->de, w->de_slices, a->de);
}

template <int RT>
static pb_status bwd_as(pb_cuda *cuda, const lowrank_params &p) {
    dim3 grid = pb_grid(pb_ceil_div(p.in, LOWRANK_COLS), p.slices);
    PB_CUDA(pb_api_set_shared((const void *)lowrank_bwd_mma<RT>, lowrank_bwd_shared(RT)));
    return PB_LAUNCH(cuda, (lowrank_bwd_mma<RT>), grid, LOWRANK_THREADS, lowrank_bwd_shared(RT), p);
}

static pb_status fused_da_dx(pb_cuda *cuda, const pb_lowrank_bwd_args *a, const bwd_ws *w) {
    lowrank_params p = {};
    p.x = (const uint16_t *)a->x.data;
    p.x_stride = a->x.stride;
    p.a = (const uint16_t *)a->a.data;
    p.a_stride = a->a.stride;
    p.dh = (const uint16_t *)w->dh.data;
    p.dh_stride = w->dh.stride;
    p.n = pb_rows(a->x);
    p.in = pb_cols(a->x);
    p.rank = pb_rows(a->a);
    p.dx = (uint16_t *)a->dx.data;
    p.dx_stride = a->dx.stride;
    p.beta = (float)a->beta_dx;
    p.part = pb_has(a->da) ? w->da : NULL;
    p.slices = w->da_slices;
    p.mask = pb_mask_of(a->drop);
    switch (rank_tile(p.rank)) {
    case 16:
        PB_RETURN(bwd_as<16>(cuda, p));
        break;
    case 32:
        PB_RETURN(bwd_as<32>(cuda, p));
        break;
    case 64:
        PB_RETURN(bwd_as<64>(cuda, p));
        break;
    default:
        PB_RETURN(bwd_as<128>(cuda, p));
        break;
    }
    return pb_has(a->da) ? add_slices(cuda, w->da, w->da_slices, a->da) : PB_OK;
}

/* Of rows [row, row + rows), under dropout. */
static pb_status plain_rows_da_dx(pb_cuda *cuda, const pb_lowrank_bwd_args *a, const bwd_ws *w,
                                  int64_t row, int64_t rows) {
    int64_t in = pb_cols(a->x);
    pb_tensor dh = pb_rows_of(w->dh, row, rows);
    if (pb_has(a->da)) {
        pb_tensor u = matrix(w->u, a->x.dtype, rows, in, in);
        PB_RETURN(mask_x(cuda, a->x, row, rows, a->drop, u));
        PB_RETURN(product(cuda, w->product, dh, true, u, false, a->da, 1.0, 1.0));
    }
    if (!pb_has(a->dx)) return PB_OK;
    PB_RETURN(product(cuda, w->product, dh, false, a->a, false,
                      matrix(w->t, PB_F32, rows, in, in), 1.0, 0.0));
    pb_status status = PB_OK;
    PB_WITH_REAL(a->dx.dtype, T,
                 status = PB_LAUNCH(cuda, (lowrank_unmask_kernel<T>), grid_for(rows * in), THREADS,
                                    0, (const float *)w->t, (T *)a->dx.data + row * a->dx.stride,
                                    a->dx.stride, rows, in, row * in, pb_mask_of(a->drop),
                                    (float)a->beta_dx));
    return status;
}

static pb_status plain_da_dx(pb_cuda *cuda, const pb_lowrank_bwd_args *a, const bwd_ws *w) {
    int64_t n = pb_rows(a->x), step = plain_rows(n, pb_cols(a->x));
    if (a->drop.p > 0.0f) {
        for (int64_t row = 0; row < n; row += step)
            PB_RETURN(plain_rows_da_dx(cuda, a, w, row, pb_min64(step, n - row)));
        return PB_OK;
    }
    if (pb_has(a->da))
        PB_RETURN(product(cuda, w->product, w->dh, true, a->x, false, a->da, 1.0, 1.0));
    if (!pb_has(a->dx)) return PB_OK;
    return product(cuda, w->product, w->dh, false, a->a, false, a->dx, 1.0, a->beta_dx);
}

static pb_status lowrank_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_lowrank_bwd_args *a = (const pb_lowrank_bwd_args *)args;
    pb_cuda *cuda = pb_cuda_of(dev);
    if (a->x.dtype == PB_F64) return pb_cuda_no_f64("lowrank_bwd");
    int64_t n = pb_rows(a->x), in = pb_cols(a->x), r = pb_rows(a->a);
    if (n == 0) return PB_OK;
    bwd_ws w = bwd_layout(a, (char *)ws);
    if (pb_has(a->db)) {
        pb_tensor he = a->h;
        if (pb_has(a->e)) {
            he = w.he;
            PB_RETURN(scale_rank(cuda, a->h, a->e, he, r));
        }
        PB_RETURN(product(cuda, w.product, a->dy, true, he, false, a->db, a->scale, 1.0));
    }
    if (!pb_has(a->da) && !pb_has(a->dx) && !pb_has(a->de)) return PB_OK;
    PB_RETURN(product(cuda, w.product, a->dy, false, a->b, false, w.dq, a->scale, 0.0));
    if (pb_has(a->de)) PB_RETURN(de_sum(cuda, a, &w));
    if (!pb_has(a->da) && !pb_has(a->dx)) return PB_OK;
    PB_RETURN(scale_rank(cuda, w.dq, a->e, w.dh, w.width));
    bool fused = may_fuse(a->drop, a->x.dtype, in, r) &&
                 can_fuse(cuda, a->x, a->a, lowrank_bwd_shared(rank_tile(r))) &&
                 (!pb_has(a->dx) || in_pieces(a->dx));
    return fused ? fused_da_dx(cuda, a, &w) : plain_da_dx(cuda, a, &w);
}

static const pb_kernel kernels[] = {
    {PB_OP_lowrank, "fused", lowrank_workspace, lowrank_run},
    {PB_OP_lowrank_bwd, "fused", lowrank_bwd_workspace, lowrank_bwd_run},
};
PB_CUDA_KERNELS(lowrank) = {kernels, sizeof kernels / sizeof *kernels};
