/* Attention over packed sequences: checks what the tensor-core kernels ask for, launches them or their
 * plain twin. The ideas stand with the kernels (attention_mma.cuh, attention_plain.cuh). */
#include <math.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/cuda.h"

static attn_mat mat_of(pb_tensor t) { return attn_mat{t.data, t.stride}; }

static attn_params fwd_params(const pb_attention_fwd_args *a) {
    attn_params p = {};
    p.q = mat_of(a->q);
    p.k = mat_of(a->k);
    p.v = mat_of(a->v);
    p.o = mat_of(a->o);
    p.lse = (float *)a->lse.data;
    p.cu = (const int32_t *)a->cu.data;
    p.rows = pb_rows(a->q);
    p.max_len = a->max_len;
    p.heads = (int)a->heads;
    p.kv_heads = (int)a->kv_heads;
    p.head_dim = (int)a->head_dim;
    p.sequences = (int)a->sequences;
    p.scale = (float)a->scale;
    p.causal = a->causal;
    p.mask = pb_mask_of(a->drop);
    return p;
}

static attn_params bwd_params(const pb_attention_bwd_args *a, void *ws) {
    pb_attention_fwd_args f = {};
    f.q = a->q;
    f.k = a->k;
    f.v = a->v;
    f.o = a->o;
    f.lse = a->lse;
    f.cu = a->cu;
    f.heads = a->heads;
    f.kv_heads = a->kv_heads;
    f.head_dim = a->head_dim;
    f.sequences = a->sequences;
    f.max_len = a->max_len;
    f.scale = a->scale;
    f.causal = a->causal;
    f.drop = a->drop;
    attn_params p = fwd_params(&f);
    p.d_o = mat_of(a->d_o);
    p.dq = mat_of(a->dq);
    p.dk = mat_of(a->dk);
    p.dv = mat_of(a->dv);
    p.delta = (float *)ws;
    return p;
}

/* Rows of 16-byte pieces. */
static bool in_pieces(pb_tensor t) {
    return ((uintptr_t)t.data & 15) == 0 && (pb_rows(t) <= 1 || t.stride % 8 == 0);
}

static bool has_mma(const pb_cuda *cuda, pb_dtype dtype, int64_t head_dim, size_t shared) {
    return dtype == PB_BF16 && cuda->info.major >= 8 && !cuda->plain && shared <= cuda->info.shared_optin &&
           (head_dim == 32 || head_dim == 64 || head_dim == 128);
}

bool pb_cuda_attention_fwd_mma(const pb_cuda *cuda, const pb_attention_fwd_args *a) {
    return has_mma(cuda, a->q.dtype, a->head_dim, attn_fwd_shared((int)a->head_dim)) &&
           in_pieces(a->q) && in_pieces(a->k) && in_pieces(a->v) && in_pieces(a->o);
}

bool pb_cuda_attention_bwd_mma(const pb_cuda *cuda, const pb_attention_bwd_args *a) {
    size_t dq = attn_dq_shared((int)a->head_dim), dkv = attn_dkv_shared((int)a->head_dim);
    return has_mma(cuda, a->q.dtype, a->head_dim, dq > dkv ? dq : dkv) && in_pieces(a->q) &&
           in_pieces(a->k) && in_pieces(a->v) && in_pieces(a->d_o) && in_pieces(a->dq) &&
           in_pieces(a->dk) && in_pieces(a->dv);
}

/* One thread block per block of rows, head and sequence. */
static pb_status grid_of(attn_params *p, int rows, int heads, int64_t *n) {
    p->blocks = (int)pb_ceil_div(p->max_len, rows);
    *n = (int64_t)p->blocks * heads * p->sequences;
    if (*n <= 0x7fffffff) return PB_OK;
    return PB_ERROR(
        PB_E_UNSUPPORTED,
        "cuda: attention over %d sequences of up to %lld rows with %d heads is more than one "
        "launch can hold; use smaller batches",
        p->sequences, (long long)p->max_len, heads);
}

static pb_status check_sizes(int64_t heads, int64_t head_dim, int64_t sequences, int64_t max_len,
                             int64_t rows) {
    const int64_t most = 0x7fffffff;
    if (heads <= 65535 && head_dim <= 65536 && sequences < most && max_len <= most - 65536 &&
        rows <= most)
        return PB_OK;
    return PB_ERROR(
        PB_E_UNSUPPORTED,
        "cuda: attention with %lld heads of %lld, %lld sequences of up to %lld, %lld rows",
        (long long)heads, (long long)head_dim, (long long)sequences, (long long)max_len,
        (long long)rows);
}

template <typename T>
static pb_status zero_tails(pb_cuda *cuda, const attn_params &p, int n, const pb_tensor *t,
                            float *lse) {
    attn_tails w = {};
    for (int i = 0; i < n; i++) {
        w.mat[i] = mat_of(t[i]);
        w.cols[i] = pb_cols(t[i]);
    }
    w.lse = lse;
    return PB_LAUNCH(cuda, (attention_zero_tails<T>), pb_grid(TAIL_BLOCKS, n), PLAIN_THREADS, 0, p,
                     w);
}

/* --- forward ---------------------------------------------------------------------------------- */

template <int D>
static pb_status fwd_mma(pb_cuda *cuda, attn_params p) {
    int64_t n = 0;
    size_t shared = attn_fwd_shared(D);
    PB_RETURN(grid_of(&p, ATTN_ROWS * ATTN_FWD_MT(D), p.heads, &n));
    PB_CUDA(pb_api_set_shared((const void *)attention_fwd_mma<D>, shared));
    return PB_LAUNCH(cuda, (attention_fwd_mma<D>), pb_grid(n), ATTN_THREADS, shared, p);
}

template <typename T, int NC>
static pb_status fwd_plain(pb_cuda *cuda, attn_params p) {
    int64_t n = 0;
    PB_RETURN(grid_of(&p, PLAIN_ROWS, p.heads, &n));
    return PB_LAUNCH(cuda, (attention_fwd_plain<T, NC>),
                     pb_grid(n, pb_ceil_div(p.head_dim, PLAIN_OUT)), PLAIN_THREADS, 0, p);
}

template <typename T>
static pb_status fwd_any(pb_cuda *cuda, const attn_params &p) {
    if (p.head_dim <= 64) return fwd_plain<T, 2>(cuda, p);
    return p.head_dim <= 128 ? fwd_plain<T, 4>(cuda, p) : fwd_plain<T, 8>(cuda, p);
}

pb_status pb_cuda_attention_fwd(pb_cuda *cuda, const pb_attention_fwd_args *a, bool mma) {
    PB_RETURN(check_sizes(a->heads, a->head_dim, a->sequences, a->max_len, pb_rows(a->q)));
    attn_params p = fwd_params(a);
    PB_RETURN(a->q.dtype == PB_BF16 ? zero_tails<pb_bf16>(cuda, p, 1, &a->o, p.lse)
                                    : zero_tails<float>(cuda, p, 1, &a->o, p.lse));
    if (!mma) return a->q.dtype == PB_BF16 ? fwd_any<pb_bf16>(cuda, p) : fwd_any<float>(cuda, p);
    if (p.head_dim == 32) return fwd_mma<32>(cuda, p);
    return p.head_dim == 64 ? fwd_mma<64>(cuda, p) : fwd_mma<128>(cuda, p);
}

static pb_status attention_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_attention_fwd_args *a = (const pb_attention_fwd_args *)args;
    pb_cuda *cuda = pb_cuda_of(dev);
    (void)ws;
    if (a->q.dtype == PB_F64) return pb_cuda_no_f64("attention_fwd");
    return pb_cuda_attention_fwd(cuda, a, pb_cuda_attention_fwd_mma(cuda, a));
}

/* --- backward --------------------------------------------------------------------------------- */

template <int D>
static pb_status bwd_mma(pb_cuda *cuda, attn_params p) {
    int64_t n = 0;
    PB_RETURN(grid_of(&p, ATTN_ROWS, p.kv_heads, &n));
    PB_CUDA(pb_api_set_shared((const void *)attention_bwd_dkv_mma<D>, attn_dkv_shared(D)));
    PB_RETURN(PB_LAUNCH(cuda, (attention_bwd_dkv_mma<D>), pb_grid(n), ATTN_THREADS,
                        attn_dkv_shared(D), p));
    PB_RETURN(grid_of(&p, ATTN_ROWS, p.heads, &n));
    PB_CUDA(pb_api_set_shared((const void *)attention_bwd_dq_mma<D>, attn_dq_shared(D)));
    return PB_LAUNCH(cuda, (attention_bwd_dq_mma<D>), pb_grid(n), ATTN_THREADS, attn_dq_shared(D),
                     p);
}

template <typename T, int NC>
static pb_status bwd_plain(pb_cuda *cuda, attn_params p) {
    int64_t n = 0, outs = pb_ceil_div(p.head_dim, PLAIN_OUT);
    PB_RETURN(grid_of(&p, PLAIN_ROWS, p.kv_heads, &n));
    PB_RETURN(
        PB_LAUNCH(cuda, (attention_bwd_dkv_plain<T, NC>), pb_grid(n, outs), PLAIN_THREADS, 0, p));
    PB_RETURN(grid_of(&p, PLAIN_ROWS, p.heads, &n));
    return PB_LAUNCH(cuda, (attention_bwd_dq_plain<T, NC>), pb_grid(n, outs), PLAIN_THREADS, 0, p);
}

/* delta and zeros: what both ways need. */
template <typename T>
static pb_status bwd_start(pb_cuda *cuda, const pb_attention_bwd_args *a, const attn_params &p) {
    int64_t pairs = p.rows * p.heads;
    PB_RETURN(PB_LAUNCH(cuda, (attention_delta<T>), pb_grid(pb_ceil_div(pairs, PLAIN_THREADS / 32)),
                        PLAIN_THREADS, 0, p));
    const pb_tensor out[3] = {a->dq, a->dk, a->dv};
    return zero_tails<T>(cuda, p, 3, out, (float *)NULL);
}

template <typename T>
static pb_status bwd_any(pb_cuda *cuda, const attn_params &p) {
    if (p.head_dim <= 64) return bwd_plain<T, 2>(cuda, p);
    return p.head_dim <= 128 ? bwd_plain<T, 4>(cuda, p) : bwd_plain<T, 8>(cuda, p);
}

static size_t attention_bwd_workspace(const pb_device *dev, const void *args) {
    const pb_attention_bwd_args *a = (const pb_attention_bwd_args *)args;
    (void)dev;
    return (size_t)(pb_rows(a->q) * a->heads) * sizeof(float);
}

pb_status pb_cuda_attention_bwd(pb_cuda *cuda, const pb_attention_bwd_args *a, void *ws, bool mma) {
    PB_RETURN(check_sizes(a->heads, a->head_dim, a->sequences, a->max_len, pb_rows(a->q)));
    attn_params p = bwd_params(a, ws);
    bool half = a->q.dtype == PB_BF16;
    PB_RETURN(half ? bwd_start<pb_bf16>(cuda, a, p) : bwd_start<float>(cuda, a, p));
    if (!mma) return half ? bwd_any<pb_bf16>(cuda, p) : bwd_any<float>(cuda, p);
    if (p.head_dim == 32) return bwd_mma<32>(cuda, p);
    return p.head_dim == 64 ? bwd_mma<64>(cuda, p) : bwd_mma<128>(cuda, p);
}

static pb_status attention_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_attention_bwd_args *a = (const pb_attention_bwd_args *)args;
    pb_cuda *cuda = pb_cuda_of(dev);
    if (a->q.dtype == PB_F64) return pb_cuda_no_f64("attention_bwd");
    return pb_cuda_attention_bwd(cuda, a, ws, pb_cuda_attention_bwd_mma(cuda, a));
}

static const pb_kernel kernels[] = {
    {PB_OP_attention_fwd, "flash", NULL, attention_fwd_run},
    {PB_OP_attention_bwd, "flash", attention_bwd_workspace, attention_bwd_run},
};
PB_CUDA_KERNELS(attention) = {kernels, sizeof kernels / sizeof *kernels};
