/* Matrix products: row-major calls in cuBLASLt's column-major words, the cache of what its heuristics chose, and an own
 * kernel for what it does not do.
 *
 * c = a b row by row is c^T = b^T a^T column by column: the library's A is our b, its m our columns. Its bias runs along m,
 * as ours does. */
#include "kernels/cuda/gemm.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/lane.cuh"
#include "kernels/cuda/queue.h"

#define BUCKETS 512
#define TILE 16

typedef struct entry {
    struct entry *next;
    pb_api_product key;
    bool found, fused; /* the library can; it adds the bias too */
    void *desc, *layout_a, *layout_b, *layout_d;
    pb_api_algo algo;
} entry;

struct pb_cuda_products {
    void *lt;
    int algorithm; /* which of the proposed ones */
    bool gelu; /* epilogues with GELU are worth asking for */
    entry *bucket[BUCKETS];
};

static void entry_free(entry *e) {
    if (e == NULL) return;
    if (e->layout_d != NULL) (void)pb_api_lt_layout_free(e->layout_d);
    if (e->layout_b != NULL) (void)pb_api_lt_layout_free(e->layout_b);
    if (e->layout_a != NULL) (void)pb_api_lt_layout_free(e->layout_a);
    if (e->desc != NULL) (void)pb_api_lt_desc_free(e->desc);
    free(e);
}

void pb_cuda_products_free(pb_cuda *cuda) {
    pb_cuda_products *p = cuda->products;
    if (p == NULL) return;
    for (int i = 0; i < BUCKETS; i++) {
        while (p->bucket[i] != NULL) {
            entry *e = p->bucket[i];
            p->bucket[i] = e->next;
            entry_free(e);
        }
    }
    if (p->lt != NULL) (void)pb_api_lt_free(p->lt);
    free(p);
    cuda->products = NULL;
}

pb_status pb_cuda_products_new(pb_cuda *cuda, int algorithm) {
    cuda->products = (pb_cuda_products *)calloc(1, sizeof *cuda->products);
    if (cuda->products == NULL) return PB_ERROR(PB_E_OOM, "no host memory for the cuda device's products");
    cuda->products->algorithm = algorithm;
    /* Elsewhere a product that ends in GELU is reported to take longer than the two alone. */
    const char *epilogue = getenv("PB_CUDA_EPILOGUE");
    cuda->products->gelu = (cuda->info.major == 9 || cuda->info.major == 10) && !(epilogue != NULL && strcmp(epilogue, "0") == 0);
    PB_CUDA(pb_api_lt_new(&cuda->products->lt));
    return PB_OK;
}

pb_status pb_cuda_product_run(pb_cuda *cuda, const pb_cuda_product *p) {
    if (p->bias != NULL) PB_CUDA(pb_api_lt_desc_bias(p->desc, p->bias));
    if (p->aux != NULL) PB_CUDA(pb_api_lt_desc_aux(p->desc, p->aux));
    PB_CUDA(pb_api_lt_matmul(cuda->products->lt, p->desc, p->alpha, p->a, p->layout_a, p->b, p->layout_b, p->beta, p->d,
                             p->layout_d, p->algo, p->ws, PB_CUDA_PRODUCT_WORKSPACE, cuda->stream));
    return PB_OK;
}

/* --- the cache ------------------------------------------------------------------------------------ */

static pb_status describe(pb_cuda *cuda, entry *e, char *ws) {
    const pb_api_product *p = &e->key;
    PB_CUDA(pb_api_lt_desc_new(&e->desc, p));
    PB_CUDA(pb_api_lt_layout_new(&e->layout_a, p->ab, p->trans_a ? p->k : p->m, p->trans_a ? p->m : p->k, p->lda));
    PB_CUDA(pb_api_lt_layout_new(&e->layout_b, p->ab, p->trans_b ? p->n : p->k, p->trans_b ? p->k : p->n, p->ldb));
    PB_CUDA(pb_api_lt_layout_new(&e->layout_d, p->d, p->m, p->n, p->ldd));
    /* The heuristics look at these addresses too: aligned as the real ones will be, never read. */
    if (p->bias) PB_CUDA(pb_api_lt_desc_bias(e->desc, ws + p->align_bias));
    if (p->ld_aux != 0) PB_CUDA(pb_api_lt_desc_aux(e->desc, ws + 16));
    PB_CUDA(pb_api_lt_heuristic(cuda->products->lt, e->desc, e->layout_a, e->layout_b, e->layout_d, p,
                                PB_CUDA_PRODUCT_WORKSPACE, cuda->products->algorithm, &e->algo, &e->found));
    e->fused = e->found && p->bias;
    return PB_OK;
}

static uint64_t hash_of(const pb_api_product *p) {
    const unsigned char *b = (const unsigned char *)p;
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < sizeof *p; i++) h = (h ^ b[i]) * 1099511628211u;
    return h ^ (h >> 29);
}

/* `key` has no bytes between its fields that were not zeroed. */
static pb_status lookup(pb_cuda *cuda, const pb_api_product *key, char *ws, entry **out) {
    entry **head = &cuda->products->bucket[hash_of(key) % BUCKETS];
    for (entry *e = *head; e != NULL; e = e->next) {
        if (memcmp(&e->key, key, sizeof *key) == 0) {
            *out = e;
            return PB_OK;
        }
    }
    entry *e = (entry *)calloc(1, sizeof *e);
    if (e == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a product's description");
    memcpy(&e->key, key, sizeof *key);
    pb_status status = describe(cuda, e, ws);
    if (status != PB_OK) {
        entry_free(e);
        return status;
    }
    e->next = *head;
    *head = e;
    *out = e;
    return PB_OK;
}

static int alignment(const void *p, int64_t ld, pb_dtype dtype) {
    uintptr_t bits = (uintptr_t)p | (uintptr_t)((size_t)ld * pb_dtype_size(dtype));
    return bits % 16 == 0 ? 16 : bits % 8 == 0 ? 8 : bits % 4 == 0 ? 4 : 2;
}

static pb_api_dtype api_dtype(pb_dtype dtype) { return dtype == PB_F32 ? PB_API_F32 : PB_API_BF16; }

/* A row of which there is only one may have any stride: the library wants one that fits. */
static int64_t leading(pb_tensor t) { return pb_max64(t.stride, pb_max64(pb_cols(t), 1)); }

static void key_of(const pb_gemm_args *g, pb_api_product *p) {
    memset(p, 0, sizeof *p);
    p->m = pb_cols(g->c);
    p->n = pb_rows(g->c);
    p->k = g->trans_a ? pb_rows(g->a) : pb_cols(g->a);
    p->lda = leading(g->b);
    p->ldb = leading(g->a);
    p->ldd = leading(g->c);
    p->trans_a = g->trans_b;
    p->trans_b = g->trans_a;
    p->ab = api_dtype(g->a.dtype);
    p->d = api_dtype(g->c.dtype);
    p->align_a = alignment(g->b.data, p->lda, g->b.dtype);
    p->align_b = alignment(g->a.data, p->ldb, g->a.dtype);
    p->align_d = alignment(g->c.data, p->ldd, g->c.dtype);
    p->bias = pb_has(g->bias);
    p->bias_dtype = p->bias ? api_dtype(g->bias.dtype) : PB_API_F32;
    p->align_bias = p->bias ? alignment(g->bias.data, 0, g->bias.dtype) : 0;
}

/* --- own kernels: rare shapes ---------------------------------------------------------------------- */

template <typename T> __device__ inline float wide_or_zero(const T *p, bool there) { return there ? pb_load(p) : 0.0f; }

/* c = alpha op(a) op(b) + beta c + bias by tiles of 16 x 16 in shared memory, sums in f32 in the order of k. For empty sums
 * and for strides that the library does not take. FLOPs 2 M N K, bytes (M + N) K / 16 + M N. */
template <typename T, typename C, typename B>
static __global__ void product_kernel(const T *a, const T *b, const B *bias, C *c, int64_t m, int64_t n, int64_t k,
                                      int64_t lda, int64_t ldb, int64_t ldc, int ta, int tb, float alpha, float beta) {
    __shared__ float as[TILE][TILE + 1], bs[TILE][TILE + 1];
    int64_t row = (int64_t)blockIdx.y * TILE + threadIdx.y, col = (int64_t)blockIdx.x * TILE + threadIdx.x;
    float sum = 0.0f;
    for (int64_t from = 0; from < k; from += TILE) {
        int64_t ka = from + threadIdx.x, kb = from + threadIdx.y;
        as[threadIdx.y][threadIdx.x] = wide_or_zero(ta ? a + ka * lda + row : a + row * lda + ka, row < m && ka < k);
        bs[threadIdx.y][threadIdx.x] = wide_or_zero(tb ? b + col * ldb + kb : b + kb * ldb + col, col < n && kb < k);
        __syncthreads();
        for (int i = 0; i < TILE; i++) sum += as[threadIdx.y][i] * bs[i][threadIdx.x];
        __syncthreads();
    }
    if (row >= m || col >= n) return;
    C *at = c + row * ldc + col;
    float v = alpha * sum;
    if (beta != 0.0f) v += beta * pb_load(at);
    if (bias != NULL) v += pb_load(bias + col);
    pb_store(at, v);
}

/* c += bias, row by row: where the library does not add this type of bias. */
template <typename C, typename B>
static __global__ void bias_kernel(C *c, const B *bias, int64_t rows, int64_t cols, int64_t ldc) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, row = i / cols, col = i % cols;
    if (row >= rows) return;
    pb_store(c + row * ldc + col, pb_load(c + row * ldc + col) + pb_load(bias + col));
}

static pb_status own_product(pb_cuda *cuda, const pb_gemm_args *g) {
    int64_t m = pb_rows(g->c), n = pb_cols(g->c), k = g->trans_a ? pb_rows(g->a) : pb_cols(g->a);
    int64_t down = pb_ceil_div(m, TILE), most = 65535;
    pb_status status = PB_OK;
    for (int64_t from = 0; from < down && status == PB_OK; from += most) {
        int64_t row = from * TILE, rows = pb_min64(m - row, most * TILE);
        int64_t a_at = g->trans_a ? row : row * g->a.stride;
        PB_WITH_REAL(g->a.dtype, T, PB_WITH_REAL(g->c.dtype, C, PB_WITH_REAL(g->bias.dtype, B,
            status = PB_LAUNCH(cuda, (product_kernel<T, C, B>),
                               pb_grid(pb_ceil_div(n, TILE), pb_ceil_div(rows, TILE)), dim3(TILE, TILE), 0,
                               (const T *)g->a.data + a_at, g->b.data, g->bias.data, (C *)g->c.data + row * g->c.stride,
                               rows, n, k, g->a.stride, g->b.stride, g->c.stride, g->trans_a ? 1 : 0, g->trans_b ? 1 : 0,
                               (float)g->alpha, (float)g->beta))));
    }
    return status;
}

static pb_status add_bias(pb_cuda *cuda, const pb_gemm_args *g) {
    int64_t rows = pb_rows(g->c), cols = pb_cols(g->c);
    pb_status status = PB_OK;
    PB_WITH_REAL(g->c.dtype, C, PB_WITH_REAL(g->bias.dtype, B,
        status = PB_LAUNCH(cuda, (bias_kernel<C, B>), pb_grid(pb_ceil_div(rows * cols, 256)), 256, 0, g->c.data,
                           g->bias.data, rows, cols, g->c.stride)));
    return status;
}

static void without_bias(pb_api_product *key) {
    key->bias = false;
    key->bias_dtype = PB_API_F32;
    key->align_bias = 0;
}

static pb_status enqueue(pb_cuda *cuda, const pb_gemm_args *g, entry *e, void *aux, void *ws) {
    pb_cuda_product p = {};
    p.desc = e->desc;
    p.layout_a = e->layout_a;
    p.layout_b = e->layout_b;
    p.layout_d = e->layout_d;
    p.algo = &e->algo;
    p.alpha = (float)g->alpha;
    p.beta = (float)g->beta;
    p.a = g->b.data;
    p.b = g->a.data;
    p.bias = e->fused ? g->bias.data : NULL;
    p.d = g->c.data;
    p.aux = aux;
    p.ws = ws;
    return pb_cuda_enqueue_product(cuda, &p);
}

static char *own_workspace(void *ws) { return (char *)pb_align256((size_t)(uintptr_t)ws); }

pb_status pb_cuda_gemm(pb_cuda *cuda, const pb_gemm_args *g, void *ws) {
    pb_api_product key;
    char *own = own_workspace(ws);
    entry *e = NULL;
    if (pb_numel(g->c) == 0) return PB_OK;
    key_of(g, &key);
    if (key.k == 0) return own_product(cuda, g);
    /* A bias of another type than the result is no combination that the library documents. */
    if (key.bias && key.bias_dtype != key.d) without_bias(&key);
    PB_RETURN(lookup(cuda, &key, own, &e));
    if (!e->found && key.bias) {
        without_bias(&key);
        PB_RETURN(lookup(cuda, &key, own, &e));
    }
    if (!e->found) return own_product(cuda, g);
    PB_RETURN(enqueue(cuda, g, e, NULL, own));
    return pb_has(g->bias) && !e->fused ? add_bias(cuda, g) : PB_OK;
}

pb_status pb_cuda_gemm_epilogue(pb_cuda *cuda, const pb_gemm_args *g, pb_api_epilogue epilogue, pb_tensor aux, void *ws,
                                bool *done) {
    pb_api_product key;
    char *own = own_workspace(ws);
    entry *e = NULL;
    *done = false;
    if (!cuda->products->gelu || pb_numel(g->c) == 0) return PB_OK;
    if (g->c.dtype != PB_BF16) return PB_OK; /* f32 is the mode of parity: own functions */
    key_of(g, &key);
    key.epilogue = epilogue;
    if (pb_has(aux)) {
        key.ld_aux = leading(aux);
        if (key.ld_aux % 8 != 0 || (uintptr_t)aux.data % 16 != 0) return PB_OK;
    }
    if (key.k == 0 || (key.bias && key.bias_dtype != key.d)) return PB_OK;
    PB_RETURN(lookup(cuda, &key, own, &e));
    if (!e->found) return PB_OK;
    *done = true;
    return enqueue(cuda, g, e, aux.data, own);
}
