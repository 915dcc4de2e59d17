/* AdamW with full and with 8-bit moments and the global gradient norm, over all tensors of a call in one
 * launch (several when the list is longer than a launch's parameters). */
#include "kernels/core/quant.h"
#include "kernels/cuda/list.cuh"

static int how_of(pb_tensor t, int width) {
    return (uintptr_t)t.data % ((size_t)width * pb_dtype_size(t.dtype)) == 0;
}

/* --- AdamW ----------------------------------------------------------------------------------- */

#define ADAMW_PIECE (16 * PB_CHUNK_THREADS) /* elements */

struct adamw_entry {
    float *w;
    const float *g;
    float *m, *v;
    void *copy;
    int64_t n;
    float lr, decay; /* decay: 1 - lr * weight_decay */
    int32_t first;
    int16_t wide, copy_f32;
};

struct adamw_rule {
    float beta1, rest1, beta2, rest2, eps;
    float step_factor, root_factor; /* 1/(1-beta1^t), 1/sqrt(1-beta2^t) */
    float unused;                   /* no padding: parameters are compared byte by byte */
    const float *grad_scale;        /* or NULL */
};

typedef pb_list<adamw_entry, sizeof(adamw_rule)> adamw_list;

static adamw_rule rule_of(double beta1, double beta2, double eps, int64_t step, pb_tensor grad_scale) {
    adamw_rule r = {};
    r.beta1 = (float)beta1;
    r.rest1 = (float)(1.0 - beta1);
    r.beta2 = (float)beta2;
    r.rest2 = (float)(1.0 - beta2);
    r.eps = (float)eps;
    r.step_factor = (float)(1.0 / (1.0 - pow(beta1, (double)step)));
    r.root_factor = (float)(1.0 / sqrt(1.0 - pow(beta2, (double)step)));
    r.grad_scale = static_cast<const float *>(grad_scale.data);
    return r;
}

__device__ __forceinline__ float adamw_weight(const adamw_rule &r, float w, float m, float v, float lr,
                                              float decay) {
    return w * decay - lr * (m * r.step_factor) / (sqrtf(v) * r.root_factor + r.eps);
}

/* Loshchilov & Hutter 2019, as torch.optim.AdamW. Idea: a block takes a piece of 4096 elements, each
 * thread four chunks of 16 bytes of four arrays, so that 64 bytes a thread are under way. Bytes: 28 an
 * element (w, m, v twice, g once), 30 with the bf16 copy. FLOPs: 14. */
static __global__ void __launch_bounds__(PB_CHUNK_THREADS)
    adamw_kernel(const __grid_constant__ adamw_list list, adamw_rule r) {
    const adamw_entry &e = list.at[pb_list_find(list, (int32_t)blockIdx.x)];
    const float scale = r.grad_scale != NULL ? *r.grad_scale : 1.0f;
    int64_t from = (int64_t)((int32_t)blockIdx.x - e.first) * ADAMW_PIECE;
    for (int i = 0; i < ADAMW_PIECE / 4 / PB_CHUNK_THREADS; i++) {
        int64_t at = from + ((int64_t)i * PB_CHUNK_THREADS + threadIdx.x) * 4;
        int n = pb_clip(e.n, at, 4);
        float w[4], g[4], m[4], v[4];
        if (n == 0) return;
        pb_chunk_load<4>(e.w + at, n, e.wide, w);
        pb_chunk_load<4>(e.g + at, n, e.wide, g);
        pb_chunk_load<4>(e.m + at, n, e.wide, m);
        pb_chunk_load<4>(e.v + at, n, e.wide, v);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float gk = g[k] * scale;
            m[k] = r.beta1 * m[k] + r.rest1 * gk;
            v[k] = r.beta2 * v[k] + r.rest2 * (gk * gk);
            w[k] = adamw_weight(r, w[k], m[k], v[k], e.lr, e.decay);
        }
        pb_chunk_store<4>(e.w + at, n, e.wide, w);
        pb_chunk_store<4>(e.m + at, n, e.wide, m);
        pb_chunk_store<4>(e.v + at, n, e.wide, v);
        if (e.copy == NULL) continue;
        if (e.copy_f32)
            pb_chunk_store<4>(static_cast<float *>(e.copy) + at, n, e.wide, w);
        else
            pb_chunk_store<4>(static_cast<pb_bf16 *>(e.copy) + at, n, e.wide, w);
    }
}

static pb_status adamw_launch(pb_cuda *cuda, adamw_list *list, const adamw_rule &r) {
    dim3 grid = pb_grid(list->pieces);
    pb_status status = PB_LAUNCH(cuda, adamw_kernel, grid, PB_CHUNK_THREADS, 0, *list, r);
    list->n = list->pieces = 0;
    return status;
}

static adamw_entry adamw_entry_of(const pb_adamw_item *it) {
    adamw_entry e = {};
    e.w = static_cast<float *>(it->w.data);
    e.g = static_cast<const float *>(it->g.data);
    e.m = static_cast<float *>(it->m.data);
    e.v = static_cast<float *>(it->v.data);
    e.copy = it->copy.data;
    e.n = pb_numel(it->w);
    e.lr = (float)it->lr;
    e.decay = (float)(1.0 - it->lr * it->weight_decay);
    e.copy_f32 = it->copy.dtype == PB_F32;
    e.wide = how_of(it->w, 4) && how_of(it->g, 4) && how_of(it->m, 4) && how_of(it->v, 4) &&
             how_of(it->copy, 4);
    return e;
}

/* --- its moments in the host's memory ---------------------------------------------------------- */

/* The paged optimizer (Dettmers et al. 2023, sec. 3) without managed memory: m and v of large tensors
 * lie in pinned host memory and pass through two pages on the device. The side stream brings the next
 * page and takes the last one back while the main stream works on the current one:
 *
 *     side:  in 0 | in 1 | (0 done) out 0, in 2 | (1 done) out 1, in 3 | ...
 *     main:   (0 in) step 0  |  (1 in) step 1  | ...
 *
 * Tensors below PAGE_MIN are read and written where they are, over the bus: copies would be too small.
 * Bytes over the bus: 8 an element each way. */
#define PAGE_ELEMENTS ((int64_t)1 << 20)
#define PAGE_MIN      100000 /* as bitsandbytes */

static bool is_paged(const pb_device *dev, const pb_adamw_item *it) {
    return pb_device_pages_optimizer(dev) && pb_numel(it->w) >= PAGE_MIN;
}

static size_t adamw_workspace(const pb_device *dev, const void *args) {
    const pb_adamw_args *a = static_cast<const pb_adamw_args *>(args);
    int64_t most = 0;
    for (int i = 0; i < a->n; i++) {
        if (is_paged(dev, &a->items[i])) most = pb_max64(most, pb_numel(a->items[i].w));
    }
    return (size_t)(4 * pb_ceil_div(pb_min64(most, PAGE_ELEMENTS), 16) * 16) * sizeof(float);
}

struct pager {
    pb_cuda *cuda;
    adamw_rule rule;
    float *page[2]; /* m, and v behind it */
    int64_t size;   /* elements of m */
    int turn;
    /* The page before, which goes back once its step is done. */
    const adamw_entry *last;
    int64_t last_at, last_n;
};

static pb_status page_out(pager *p) {
    if (p->last == NULL) return PB_OK;
    float *page = p->page[1 - p->turn];
    size_t bytes = (size_t)p->last_n * sizeof(float);
    void *side = p->cuda->side;
    PB_CUDA(pb_api_stream_wait(side, p->cuda->mark[1 - p->turn]));
    PB_CUDA(pb_api_copy(p->last->m + p->last_at, page, bytes, PB_API_TO_HOST, side));
    PB_CUDA(pb_api_copy(p->last->v + p->last_at, page + p->size, bytes, PB_API_TO_HOST, side));
    p->last = NULL;
    return PB_OK;
}

static pb_status page_step(pager *p, const adamw_entry *e, int64_t at, int64_t n) {
    pb_cuda *cuda = p->cuda;
    float *page = p->page[p->turn];
    size_t bytes = (size_t)n * sizeof(float);
    adamw_list list = {};
    adamw_entry part = *e;
    PB_CUDA(pb_api_copy(page, e->m + at, bytes, PB_API_TO_DEVICE, cuda->side));
    PB_CUDA(pb_api_copy(page + p->size, e->v + at, bytes, PB_API_TO_DEVICE, cuda->side));
    PB_CUDA(pb_api_event_record(cuda->mark[2], cuda->side, false));
    PB_CUDA(pb_api_stream_wait(cuda->stream, cuda->mark[2]));
    PB_RETURN(page_out(p)); /* behind this page's way in: the bus is free while the step runs */
    part.w += at;
    part.g += at;
    part.m = page;
    part.v = page + p->size;
    part.n = n;
    if (e->copy != NULL) part.copy = static_cast<char *>(e->copy) + at * (e->copy_f32 ? 4 : 2);
    PB_ASSERT(pb_list_add(&list, part, pb_ceil_div(n, ADAMW_PIECE)));
    PB_RETURN(adamw_launch(cuda, &list, p->rule));
    PB_RETURN(pb_cuda_flush(cuda)); /* a launch may wait on a tape */
    PB_CUDA(pb_api_event_record(cuda->mark[p->turn], cuda->stream, false));
    p->last = e;
    p->last_at = at;
    p->last_n = n;
    p->turn = 1 - p->turn;
    return PB_OK;
}

static pb_status page_item(pager *p, const pb_adamw_item *it) {
    adamw_entry e = adamw_entry_of(it);
    for (int64_t at = 0; at < e.n; at += PAGE_ELEMENTS)
        PB_RETURN(page_step(p, &e, at, pb_min64(PAGE_ELEMENTS, e.n - at)));
    return page_out(p);
}

/* The pages are the op's workspace: the side stream starts after what used it before, and what uses it
 * next starts after the side stream. */
static pb_status adamw_pages(pb_device *dev, const pb_adamw_args *a, const adamw_rule &r, float *ws) {
    pb_cuda *cuda = pb_cuda_of(dev);
    pager p = {};
    p.cuda = cuda;
    p.rule = r;
    p.size = (int64_t)(adamw_workspace(dev, a) / sizeof(float) / 4);
    if (p.size == 0) return PB_OK;
    p.page[0] = ws;
    p.page[1] = ws + 2 * p.size;
    PB_RETURN(pb_cuda_flush(cuda));
    PB_CUDA(pb_api_event_record(cuda->mark[2], cuda->stream, false));
    PB_CUDA(pb_api_stream_wait(cuda->side, cuda->mark[2]));
    for (int i = 0; i < a->n; i++) {
        if (is_paged(dev, &a->items[i])) PB_RETURN(page_item(&p, &a->items[i]));
    }
    PB_CUDA(pb_api_event_record(cuda->mark[2], cuda->side, false));
    PB_CUDA(pb_api_stream_wait(cuda->stream, cuda->mark[2]));
    return PB_OK;
}

static pb_status adamw_run(pb_device *dev, const void *args, void *ws) {
    const pb_adamw_args *a = static_cast<const pb_adamw_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    adamw_rule r = rule_of(a->beta1, a->beta2, a->eps, a->step, a->grad_scale);
    adamw_list list = {};
    for (int i = 0; i < a->n; i++) {
        if (a->items[i].w.dtype == PB_F64 || (pb_has(a->items[i].copy) && a->items[i].copy.dtype == PB_F64))
            return pb_cuda_no_f64("adamw");
    }
    for (int i = 0; i < a->n; i++) {
        adamw_entry e = adamw_entry_of(&a->items[i]);
        int64_t pieces = pb_ceil_div(e.n, ADAMW_PIECE);
        if (pieces == 0 || is_paged(dev, &a->items[i])) continue;
        if (pb_list_add(&list, e, pieces)) continue;
        PB_RETURN(adamw_launch(cuda, &list, r));
        PB_ASSERT(pb_list_add(&list, e, pieces));
    }
    PB_RETURN(adamw_launch(cuda, &list, r));
    return adamw_pages(dev, a, r, static_cast<float *>(ws));
}

/* --- 8-bit moments (Dettmers et al. 2022) ---------------------------------------------------- */

#define ADAM8_WARPS (PB_CHUNK_THREADS / PB_WARP)

struct adamw8_entry {
    float *w;
    const float *g;
    void *copy;
    uint8_t *m, *v;
    float *m_absmax, *v_absmax;
    int64_t n;
    float lr, decay;
    int32_t first;
    int16_t wide, copy_f32;
};

struct adamw8_rule {
    adamw_rule f32;
    double beta1, rest1, beta2, rest2;
    float map_m[256], map_v[256]; /* ascending values of the codes */
};

typedef pb_list<adamw8_entry, sizeof(adamw8_rule)> adamw8_list;

/* One map in shared memory. cut: the tree of a binary search, its root at 1, the children of k at 2k and
 * 2k+1, so that the first five levels lie in different banks. */
struct code_map {
    float value[256], cut[256];
};

/* Thread i prepares entry i. A value between entries i and i+1 takes the nearer one, a tie the lower
 * (pb_dynamic_encode): it takes i+1 when it is above the middle. The middle is exact in double; rounded
 * down to f32 it decides alike for every f32. */
__device__ __forceinline__ void prepare_map(code_map *to, const float *map, int i) {
    to->value[i] = map[i];
    if (i == 255) return;
    double middle = ((double)map[i] + (double)map[i + 1]) * 0.5;
    float cut = (float)middle;
    if ((double)cut > middle) cut = nextafterf(cut, -INFINITY);
    int level = 7, place = i + 1; /* i + 1 = odd * 2^(7 - level) */
    while ((place & 1) == 0) {
        place >>= 1;
        level--;
    }
    to->cut[(1 << level) + (place >> 1)] = cut;
}

__device__ __forceinline__ unsigned encode8(const code_map &map, float x) {
    unsigned k = 1;
#pragma unroll
    for (int level = 0; level < 8; level++) k = 2 * k + (x > map.cut[k] ? 1u : 0u);
    return k - 256; /* NaN: 0 */
}

__device__ __forceinline__ uint32_t load_codes(const uint8_t *p, int n, bool wide) {
    if (wide && n == 4) return *reinterpret_cast<const pb_pack<4> *>(p)->word;
    uint32_t out = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        if (k < n) out |= (uint32_t)p[k] << (8 * k);
    }
    return out;
}
__device__ __forceinline__ void store_codes(uint8_t *p, int n, bool wide, uint32_t codes) {
    if (wide && n == 4) {
        reinterpret_cast<pb_pack<4> *>(p)->word[0] = codes;
        return;
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
        if (k < n) p[k] = (uint8_t)(codes >> (8 * k));
    }
}

/* x[8] of a warp's block of 256 as codes; returns the block's absmax. */
__device__ __forceinline__ float encode_block(const code_map &map, const float (&x)[2][4], uint32_t code[2]) {
    float most = 0.0f;
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int k = 0; k < 4; k++) most = fmaxf(most, fabsf(x[h][k]));
    }
    most = pb_warp_max(most);
    float inverse = pb_quant_inverse(most);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        code[h] = 0;
#pragma unroll
        for (int k = 0; k < 4; k++) code[h] |= encode8(map, x[h][k] * inverse) << (8 * k);
    }
    return most;
}

/* Idea: a warp takes blocks of 256 elements, eight a lane: decode, step, absmax by shuffles, encode by a
 * search tree in shared memory. Moments are worked out in double without fused operations, as on the
 * cpu, so that both store the same codes; the weight in f32. Bytes: 16 an element (w twice, g, codes
 * twice), 18 with the bf16 copy. FLOPs: 30 and 16 look-ups. */
static __global__ void __launch_bounds__(PB_CHUNK_THREADS)
    adamw8_kernel(const __grid_constant__ adamw8_list list, const __grid_constant__ adamw8_rule r) {
    __shared__ code_map map_m, map_v;
    prepare_map(&map_m, r.map_m, (int)threadIdx.x);
    prepare_map(&map_v, r.map_v, (int)threadIdx.x);
    __syncthreads();
    const int lane = (int)threadIdx.x % PB_WARP;
    const double scale = r.f32.grad_scale != NULL ? (double)*r.f32.grad_scale : 1.0;
    for (int64_t piece = (int64_t)blockIdx.x * ADAM8_WARPS + threadIdx.x / PB_WARP; piece < list.pieces;
         piece += (int64_t)gridDim.x * ADAM8_WARPS) {
        const adamw8_entry &e = list.at[pb_list_find(list, (int32_t)piece)];
        int64_t block = piece - e.first;
        float m_absmax = e.m_absmax[block], v_absmax = e.v_absmax[block], m[2][4], v[2][4];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int64_t at = block * PB_QUANT8_BLOCK + h * 128 + lane * 4;
            int n = pb_clip(e.n, at, 4);
            float w[4], g[4];
            uint32_t mc = load_codes(e.m + at, n, e.wide), vc = load_codes(e.v + at, n, e.wide);
            pb_chunk_load<4>(e.w + at, n, e.wide, w);
            pb_chunk_load<4>(e.g + at, n, e.wide, g);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                double gk = pb_times((double)g[k], scale);
                double mk = (double)(map_m.value[mc >> (8 * k) & 255] * m_absmax);
                double vk = (double)(map_v.value[vc >> (8 * k) & 255] * v_absmax);
                mk = pb_plus(pb_times(r.beta1, mk), pb_times(r.rest1, gk));
                vk = pb_plus(pb_times(r.beta2, vk), pb_times(pb_times(r.rest2, gk), gk));
                m[h][k] = k < n ? (float)mk : 0.0f;
                v[h][k] = k < n ? (float)vk : 0.0f;
                w[k] = adamw_weight(r.f32, w[k], m[h][k], v[h][k], e.lr, e.decay);
            }
            pb_chunk_store<4>(e.w + at, n, e.wide, w);
            if (e.copy != NULL && e.copy_f32)
                pb_chunk_store<4>(static_cast<float *>(e.copy) + at, n, e.wide, w);
            if (e.copy != NULL && !e.copy_f32)
                pb_chunk_store<4>(static_cast<pb_bf16 *>(e.copy) + at, n, e.wide, w);
        }
        uint32_t mc[2], vc[2];
        m_absmax = encode_block(map_m, m, mc);
        v_absmax = encode_block(map_v, v, vc);
        /* The warp's lanes have all read the old absmax: they met in the maximum. */
        if (lane == 0) {
            e.m_absmax[block] = m_absmax;
            e.v_absmax[block] = v_absmax;
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int64_t at = block * PB_QUANT8_BLOCK + h * 128 + lane * 4;
            int n = pb_clip(e.n, at, 4);
            store_codes(e.m + at, n, e.wide, mc[h]);
            store_codes(e.v + at, n, e.wide, vc[h]);
        }
    }
}

static pb_status adamw8_launch(pb_cuda *cuda, adamw8_list *list, const adamw8_rule &r) {
    int64_t blocks = pb_min64(pb_ceil_div(list->pieces, ADAM8_WARPS), 8 * (int64_t)cuda->info.sms);
    pb_status status = PB_LAUNCH(cuda, adamw8_kernel, pb_grid(blocks), PB_CHUNK_THREADS, 0, *list, r);
    list->n = list->pieces = 0;
    return status;
}

static adamw8_entry adamw8_entry_of(const pb_adamw8_item *it) {
    adamw8_entry e = {};
    e.w = static_cast<float *>(it->w.data);
    e.g = static_cast<const float *>(it->g.data);
    e.copy = it->copy.data;
    e.m = static_cast<uint8_t *>(it->m.data);
    e.v = static_cast<uint8_t *>(it->v.data);
    e.m_absmax = static_cast<float *>(it->m_absmax.data);
    e.v_absmax = static_cast<float *>(it->v_absmax.data);
    e.n = pb_numel(it->w);
    e.lr = (float)it->lr;
    e.decay = (float)(1.0 - it->lr * it->weight_decay);
    e.copy_f32 = it->copy.dtype == PB_F32;
    e.wide = how_of(it->w, 4) && how_of(it->g, 4) && how_of(it->m, 4) && how_of(it->v, 4) &&
             how_of(it->copy, 4);
    return e;
}

static pb_status adamw8_run(pb_device *dev, const void *args, void *ws) {
    const pb_adamw8_args *a = static_cast<const pb_adamw8_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    adamw8_rule r = {};
    adamw8_list list = {};
    (void)ws;
    for (int i = 0; i < a->n; i++) {
        if (a->items[i].w.dtype == PB_F64 || (pb_has(a->items[i].copy) && a->items[i].copy.dtype == PB_F64))
            return pb_cuda_no_f64("adamw8");
    }
    r.f32 = rule_of(a->beta1, a->beta2, a->eps, a->step, a->grad_scale);
    r.beta1 = a->beta1;
    r.rest1 = 1.0 - a->beta1;
    r.beta2 = a->beta2;
    r.rest2 = 1.0 - a->beta2;
    memcpy(r.map_m, pb_dynamic_map_signed(), sizeof r.map_m);
    memcpy(r.map_v, pb_dynamic_map_unsigned(), sizeof r.map_v);
    for (int i = 0; i < a->n; i++) {
        adamw8_entry e = adamw8_entry_of(&a->items[i]);
        int64_t pieces = pb_ceil_div(e.n, PB_QUANT8_BLOCK);
        if (pieces == 0) continue;
        if (pb_list_add(&list, e, pieces)) continue;
        PB_RETURN(adamw8_launch(cuda, &list, r));
        PB_ASSERT(pb_list_add(&list, e, pieces));
    }
    return adamw8_launch(cuda, &list, r);
}

/* --- gradient norm --------------------------------------------------------------------------- */

#define NORM_PIECE (32 * PB_CHUNK_THREADS) /* elements of a row */
#define NORM_TOTAL 1024

struct norm_entry {
    const float *g;
    int64_t stride, cols, per_row; /* pieces of a row */
    int32_t first, wide;
};
typedef pb_list<norm_entry, 8> norm_list;

static norm_entry norm_entry_of(pb_tensor t) {
    norm_entry e = {};
    bool flat = pb_contiguous(t);
    e.g = static_cast<const float *>(t.data);
    e.cols = flat ? pb_numel(t) : pb_cols(t);
    e.stride = flat ? e.cols : t.stride;
    e.per_row = pb_ceil_div(e.cols, NORM_PIECE);
    e.wide = how_of(t, 4) && (flat || e.stride % 4 == 0);
    return e;
}

static int64_t norm_pieces_of(pb_tensor t) {
    norm_entry e = norm_entry_of(t);
    return (pb_contiguous(t) ? 1 : pb_rows(t)) * e.per_row;
}

/* part[piece] := sum of squares. Idea: a block takes 8192 elements, a thread 8 chunks at once; chunks in
 * f32, their sums in double, in a fixed order. Bytes: every gradient once. FLOPs: 2 an element. */
static __global__ void __launch_bounds__(PB_CHUNK_THREADS)
    norm_parts_kernel(const __grid_constant__ norm_list list, double *part) {
    __shared__ double slots[PB_WARP];
    const norm_entry &e = list.at[pb_list_find(list, (int32_t)blockIdx.x)];
    int64_t piece = (int32_t)blockIdx.x - e.first, row = piece / e.per_row;
    const float *g = e.g + row * e.stride;
    int64_t from = (piece - row * e.per_row) * NORM_PIECE;
    double sum = 0.0;
#pragma unroll
    for (int i = 0; i < NORM_PIECE / 4 / PB_CHUNK_THREADS; i++) {
        int64_t at = from + ((int64_t)i * PB_CHUNK_THREADS + threadIdx.x) * 4;
        float x[4], s = 0.0f;
        pb_chunk_load<4>(g + at, pb_clip(e.cols, at, 4), e.wide, x);
#pragma unroll
        for (int k = 0; k < 4; k++) s += x[k] * x[k];
        sum += (double)s;
    }
    sum = pb_block_sum64(sum, slots);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

/* norm, and the factor that clips to max_norm. One block. A NaN norm gives a NaN factor, so that
 * divergence stays visible. */
static __global__ void __launch_bounds__(NORM_TOTAL)
    norm_total_kernel(const double *part, int64_t n, float *norm, float *coef, double max_norm) {
    __shared__ double slots[PB_WARP];
    double sum = pb_block_sum64(pb_strided_sum64(part, n), slots);
    if (threadIdx.x != 0) return;
    double root = sqrt(sum), factor = max_norm / (root + 1e-6);
    *norm = (float)root;
    *coef = max_norm <= 0.0 || factor > 1.0 ? 1.0f : (float)factor;
}

static size_t grad_norm_workspace(const pb_device *dev, const void *args) {
    const pb_grad_norm_args *a = static_cast<const pb_grad_norm_args *>(args);
    int64_t pieces = 0;
    (void)dev;
    for (int i = 0; i < a->n; i++) pieces += norm_pieces_of(a->grads[i]);
    return (size_t)pieces * sizeof(double);
}

static pb_status norm_launch(pb_cuda *cuda, norm_list *list, double **part) {
    pb_status status =
        PB_LAUNCH(cuda, norm_parts_kernel, pb_grid(list->pieces), PB_CHUNK_THREADS, 0, *list, *part);
    *part += list->pieces;
    list->n = list->pieces = 0;
    return status;
}

static pb_status grad_norm_run(pb_device *dev, const void *args, void *ws) {
    const pb_grad_norm_args *a = static_cast<const pb_grad_norm_args *>(args);
    pb_cuda *cuda = pb_cuda_of(dev);
    double *part = static_cast<double *>(ws);
    int64_t total = (int64_t)(grad_norm_workspace(dev, args) / sizeof(double));
    norm_list list = {};
    if (a->norm.dtype == PB_F64) return pb_cuda_no_f64("grad_norm");
    for (int i = 0; i < a->n; i++) {
        norm_entry e = norm_entry_of(a->grads[i]);
        int64_t pieces = norm_pieces_of(a->grads[i]);
        if (pieces == 0) continue;
        if (pb_list_add(&list, e, pieces)) continue;
        PB_RETURN(norm_launch(cuda, &list, &part));
        PB_ASSERT(pb_list_add(&list, e, pieces));
    }
    PB_RETURN(norm_launch(cuda, &list, &part));
    return PB_LAUNCH(cuda, norm_total_kernel, 1, NORM_TOTAL, 0, ws, total, a->norm.data, a->coef.data,
                     a->max_norm);
}

static const pb_kernel kernels[] = {
    {PB_OP_adamw, "vector", adamw_workspace, adamw_run},
    {PB_OP_adamw8, "vector", NULL, adamw8_run},
    {PB_OP_grad_norm, "vector", grad_norm_workspace, grad_norm_run},
};
PB_CUDA_KERNELS(optim) = {kernels, (int)(sizeof kernels / sizeof *kernels)};
