/* The low-rank branch y += scale ((D(x) A^T) .* e) B^T and its gradients (Hu et al. 2021).
 *
 * Token rows are cut into chunks of 128. All steps of a chunk run in one task, so that x, h and y of
 * the chunk stay in the L2 cache: x, dy and dx cross memory once. Products are oneDNN's;
 * accumulation into y and dx is part of the product. Sums over tokens (dA, dB, de) go to at most 16
 * partial results, one per run of chunks, which are then added in order. Where the CPU has tile
 * registers bf16 goes another way within a chunk: cpu_lowrank_tiles.c. FLOPs: forward 2 N r (in +
 * out), backward 4 N r (in + out). */
#include "kernels/cpu/cpu_gemm.h"
#include "kernels/cpu/cpu_lowrank.h"
#include "kernels/cpu/cpu_tiles.h"

#define CHUNK 128
#define SLOTS_MAX 16
#define SLOT_BYTES ((int64_t)16 << 20) /* all partial results together, as far as 4 slots allow */

static pb_cpu_product product(int64_t m, int64_t n, int64_t k, pb_dtype ab, pb_dtype c) {
    return (pb_cpu_product){
        .m = m, .n = n, .k = k, .ab = ab, .c = c, .alpha = 1.0f, .bias_dtype = PB_F32};
}

static int64_t chunk_rows(int64_t n, int64_t chunk) { return pb_min64(CHUNK, n - chunk * CHUNK); }

/* out[rows, r] (contiguous, T) := a[rows, r] .* e, a with its own stride. */
static void scale_rank(pb_tensor a, int64_t row, int64_t rows, pb_tensor e, pb_tensor out) {
    float ab[PB_CPU_BLOCK], eb[PB_CPU_BLOCK], ob[PB_CPU_BLOCK];
    int64_t r = pb_cols(a);
    for (int64_t j = 0; j < r; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, r - j);
        const float *ep = pb_has(e) ? pb_cpu_in(e, j, n, eb) : NULL;
        for (int64_t i = 0; i < rows; i++) {
            const float *ap = pb_cpu_in(a, (row + i) * a.stride + j, n, ab);
            float *op = pb_cpu_out(out, i * r + j, ob);
            if (ep != NULL) {
                pb_cpu_mul(op, ap, ep, n);
            } else if (op != ap) {
                memcpy(op, ap, (size_t)n * sizeof *op);
            }
            pb_cpu_done(out, i * r + j, n, op);
        }
    }
}

static pb_tensor view(void *data, pb_dtype dtype, int64_t rows, int64_t cols) {
    return (pb_tensor){
        .data = data, .dtype = dtype, .ndim = 2, .dim = {rows, cols}, .stride = cols};
}

/* B may be columns of a larger matrix (DyLoRA's first ones): it is copied then, since oneDNN
 * multiplies by whole rows six times as fast. Room for the copy, the same at every rank of one B. */
static size_t packed_bytes(pb_tensor b) {
    return pb_align64((size_t)(pb_rows(b) * b.stride) * pb_dtype_size(b.dtype));
}

static pb_tensor pack(pb_tensor b, void *to) {
    if (b.stride == pb_cols(b)) return b;
    size_t row = (size_t)pb_cols(b) * pb_dtype_size(b.dtype);
    for (int64_t i = 0; i < pb_rows(b); i++)
        memcpy((char *)to + (size_t)i * row, pb_cpu_at(b, i * b.stride), row);
    return view(to, b.dtype, pb_rows(b), pb_cols(b));
}

/* --- forward --------------------------------------------------------------------------------- */

typedef struct fwd_ws { /* of one thread */
    char *u, *he, *scratch;
} fwd_ws;

static size_t fwd_layout(const pb_lowrank_args *a, int64_t thread, char *base, fwd_ws *out) {
    size_t size = pb_dtype_size(a->x.dtype);
    int64_t rows = pb_min64(CHUNK, pb_rows(a->x));
    size_t u = a->drop.p > 0.0f ? pb_align64((size_t)(rows * pb_cols(a->x)) * size) : 0;
    size_t he = pb_has(a->e) ? pb_align64((size_t)(rows * pb_cols(a->h)) * size) : 0;
    size_t all = u + he + PB_CPU_SCRATCH;
    if (base != NULL) {
        out->u = base + (size_t)thread * all;
        out->he = out->u + u;
        out->scratch = out->he + he;
    }
    return all;
}

static bool fwd_tiles(const pb_cpu *cpu, const pb_lowrank_args *a) {
    return pb_lowrank_tiles_serve(cpu, a->x.dtype, pb_cols(a->x), pb_cols(a->y), pb_cols(a->h));
}

static size_t lowrank_workspace(const pb_device *dev, const void *args) {
    const pb_lowrank_args *a = args;
    if (fwd_tiles(pb_cpu_of(dev), a))
        return pb_lowrank_pack_bytes(pb_cols(a->x), pb_cols(a->y)) +
               (size_t)pb_device_threads(dev) * pb_lowrank_tiles_fwd_bytes(a);
    return packed_bytes(a->b) + (size_t)pb_device_threads(dev) * fwd_layout(a, 0, NULL, NULL);
}

typedef struct fwd_prims {
    pb_cpu_prim *h, *y;
} fwd_prims;

static pb_status fwd_compile(pb_cpu *cpu, const pb_lowrank_args *a, int64_t rows, fwd_prims *out) {
    int64_t in = pb_cols(a->x), r = pb_cols(a->h);
    pb_cpu_product h = product(rows, r, in, a->x.dtype, a->h.dtype);
    h.lda = a->drop.p > 0.0f ? in : a->x.stride;
    h.ldb = a->a.stride;
    h.ldc = a->h.stride;
    h.tb = true;
    PB_RETURN(pb_cpu_prim_get(cpu, &h, &out->h));
    pb_cpu_product y = product(rows, pb_cols(a->y), r, a->x.dtype, a->y.dtype);
    y.lda = pb_has(a->e) ? r : a->h.stride;
    y.ldb = a->b.stride;
    y.ldc = a->y.stride;
    y.tb = true;
    y.alpha = (float)a->scale;
    y.beta = 1.0f;
    return pb_cpu_prim_get(cpu, &y, &out->y);
}

static bool fwd_chunk(pb_cpu *cpu, const pb_lowrank_args *a, const fwd_prims *prims, int64_t chunk,
                      char *ws) {
    int64_t row = chunk * CHUNK, rows = chunk_rows(pb_rows(a->x), chunk);
    int t = (int)pb_cpu_thread();
    fwd_ws w = {0};
    (void)fwd_layout(a, t, ws, &w);
    const void *u = pb_cpu_at(a->x, row * a->x.stride);
    if (a->drop.p > 0.0f) {
        pb_cpu_drop_rows(a->drop, a->x, row, rows, w.u);
        u = w.u;
    }
    void *h = pb_cpu_at(a->h, row * a->h.stride);
    if (!pb_cpu_prim_run(cpu, prims->h, t, u, a->a.data, NULL, h, w.scratch)) return false;
    if (pb_has(a->e)) {
        scale_rank(a->h, row, rows, a->e, view(w.he, a->h.dtype, rows, pb_cols(a->h)));
        h = w.he;
    }
    return pb_cpu_prim_run(cpu, prims->y, t, h, a->b.data, NULL, pb_cpu_at(a->y, row * a->y.stride),
                           w.scratch);
}

static pb_status failed_product(void) {
    return PB_ERROR(PB_E_ENV, "oneDNN failed in a low-rank product");
}

static void fwd_in_tiles(const pb_cpu *cpu, const pb_lowrank_args *a, char *ws) {
    int64_t n = pb_rows(a->x), chunks = pb_ceil_div(n, CHUNK);
    int threads = chunks == 1 ? 1 : cpu->threads;
    pb_lowrank_pack p = pb_lowrank_pack_fwd(a, ws);
    char *threads_ws = ws + pb_lowrank_pack_bytes(p.k, p.n);
    size_t bytes = pb_lowrank_tiles_fwd_bytes(a);
#pragma omp parallel num_threads(threads)
    {
        pb_cpu_tiles_begin();
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < chunks; i++)
            pb_lowrank_tiles_fwd(a, &p, i * CHUNK, chunk_rows(n, i),
                                 threads_ws + (size_t)pb_cpu_thread() * bytes);
        pb_cpu_tiles_end();
    }
}

static pb_status lowrank_run(pb_device *dev, const void *args, void *ws) {
    pb_lowrank_args packed = *(const pb_lowrank_args *)args, *a = &packed;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->x.dtype == PB_F64) return PB_ERROR(PB_E_UNSUPPORTED, "cpu: lowrank has no f64 kernel");
    int64_t n = pb_rows(a->x), chunks = pb_ceil_div(n, CHUNK);
    if (n == 0) return PB_OK;
    if (fwd_tiles(cpu, a)) {
        fwd_in_tiles(cpu, a, ws);
        return PB_OK;
    }
    char *threads_ws = (char *)ws + packed_bytes(a->b);
    a->b = pack(a->b, ws);
    fwd_prims full = {0}, last = {0};
    pb_cpu_prims_begin(cpu);
    PB_RETURN(fwd_compile(cpu, a, chunk_rows(n, 0), &full));
    PB_RETURN(fwd_compile(cpu, a, chunk_rows(n, chunks - 1), &last));
    int failed = 0, threads = chunks == 1 ? 1 : cpu->threads, saved = pb_cpu_single_enter();
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < chunks; i++) {
        if (!fwd_chunk(cpu, a, i == chunks - 1 ? &last : &full, i, threads_ws)) {
#pragma omp atomic write
            failed = 1;
        }
    }
    pb_cpu_single_leave(saved);
    return failed ? failed_product() : PB_OK;
}

/* --- backward -------------------------------------------------------------------------------- */

typedef struct bwd_sizes {
    int64_t n, in, out, r, chunks, slots, slot_floats;
    bool drop, want_a, want_b, want_e, want_x;
} bwd_sizes;

static bwd_sizes bwd_sizes_of(const pb_lowrank_bwd_args *a) {
    bwd_sizes s = {
        .n = pb_rows(a->x), .in = pb_cols(a->x), .out = pb_cols(a->dy), .r = pb_cols(a->h)};
    s.drop = a->drop.p > 0.0f;
    s.want_a = pb_has(a->da);
    s.want_b = pb_has(a->db);
    s.want_e = pb_has(a->de);
    s.want_x = pb_has(a->dx);
    s.chunks = pb_ceil_div(s.n, CHUNK);
    int64_t floats =
        (s.want_a ? s.r * s.in : 0) + (s.want_b ? s.r * s.out : 0) + (s.want_e ? s.r : 0);
    s.slot_floats = (int64_t)(pb_align64((size_t)floats * sizeof(float)) / sizeof(float));
    int64_t fit = floats == 0 ? SLOTS_MAX : SLOT_BYTES / (floats * (int64_t)sizeof(float));
    s.slots = pb_min64(s.chunks, pb_min64(SLOTS_MAX, pb_max64(4, fit)));
    return s;
}

typedef struct bwd_ws { /* of one thread; dq, dx and the dropout factors f32, the others T */
    char *u, *he, *dh;
    float *dq, *dx, *keep;
    char *scratch;
} bwd_ws;

static size_t bwd_layout(const pb_lowrank_bwd_args *a, const bwd_sizes *s, int64_t thread,
                         char *base, bwd_ws *out) {
    size_t size = pb_dtype_size(a->x.dtype), rows = (size_t)pb_min64(CHUNK, s->n);
    size_t u = s->drop && s->want_a ? pb_align64(rows * (size_t)s->in * size) : 0;
    size_t rank = pb_align64(rows * (size_t)s->r * size),
           dq = pb_align64(rows * (size_t)s->r * sizeof(float));
    size_t dx = s->drop && s->want_x ? pb_align64(rows * (size_t)s->in * sizeof(float)) : 0;
    size_t keep = s->drop ? pb_align64(rows * (size_t)s->in * sizeof(float)) : 0;
    size_t all = u + 2 * rank + dq + dx + keep + PB_CPU_SCRATCH;
    if (base != NULL) {
        out->u = base + (size_t)thread * all;
        out->he = out->u + u;
        out->dh = out->he + rank;
        out->dq = (float *)(void *)(out->dh + rank);
        out->dx = (float *)(void *)((char *)out->dq + dq);
        out->keep = (float *)(void *)((char *)out->dx + dx);
        out->scratch = (char *)out->keep + keep;
    }
    return all;
}

static size_t slots_bytes(const bwd_sizes *s) {
    return (size_t)(s->slots * s->slot_floats) * sizeof(float);
}

static bool bwd_tiles(const pb_cpu *cpu, const pb_lowrank_bwd_args *a, const bwd_sizes *s) {
    return pb_lowrank_tiles_serve(cpu, a->x.dtype, s->in, s->out, s->r);
}

static size_t lowrank_bwd_workspace(const pb_device *dev, const void *args) {
    const pb_lowrank_bwd_args *a = args;
    bwd_sizes s = bwd_sizes_of(a);
    if (bwd_tiles(pb_cpu_of(dev), a, &s))
        return pb_lowrank_pack_bytes(s.out, s.in) + slots_bytes(&s) +
               (size_t)pb_device_threads(dev) * pb_lowrank_tiles_bwd_bytes(a);
    size_t of_threads = (size_t)pb_device_threads(dev) * bwd_layout(a, &s, 0, NULL, NULL);
    return packed_bytes(a->b) + slots_bytes(&s) + of_threads;
}

typedef struct bwd_prims {
    pb_cpu_prim *dq, *dx, *da[2], *db[2]; /* [1]: adds to the slot */
} bwd_prims;

static pb_status bwd_compile(pb_cpu *cpu, const pb_lowrank_bwd_args *a, const bwd_sizes *s,
                             int64_t rows, bwd_prims *out) {
    pb_dtype type = a->x.dtype;
    pb_cpu_product p = product(rows, s->r, s->out, type, PB_F32); /* dq = scale dy B */
    p.lda = a->dy.stride;
    p.ldb = a->b.stride;
    p.ldc = s->r;
    p.alpha = (float)a->scale;
    PB_RETURN(pb_cpu_prim_get(cpu, &p, &out->dq));
    for (int add = 0; add < 2; add++) {
        p = product(s->r, s->in, rows, type, PB_F32); /* da = dh^T u */
        p.ta = true;
        p.lda = s->r;
        p.ldb = s->drop ? s->in : a->x.stride;
        p.ldc = s->in;
        p.beta = (float)add;
        if (s->want_a) PB_RETURN(pb_cpu_prim_get(cpu, &p, &out->da[add]));
        p = product(s->r, s->out, rows, type, PB_F32); /* db^T = scale (h .* e)^T dy */
        p.ta = true;
        p.lda = s->r;
        p.ldb = a->dy.stride;
        p.ldc = s->out;
        p.alpha = (float)a->scale;
        p.beta = (float)add;
        if (s->want_b) PB_RETURN(pb_cpu_prim_get(cpu, &p, &out->db[add]));
    }
    if (!s->want_x) return PB_OK;
    p = product(rows, s->in, s->r, type, s->drop ? PB_F32 : type); /* dx = dh A */
    p.lda = s->r;
    p.ldb = a->a.stride;
    p.ldc = s->drop ? s->in : a->dx.stride;
    p.beta = s->drop ? 0.0f : (float)a->beta_dx;
    return pb_cpu_prim_get(cpu, &p, &out->dx);
}

PB_CLONES static void de_add(float *de, const float *dq, const float *h, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) de[i] += dq[i] * h[i];
}

PB_CLONES static void blend(float *y, const float *x, const float *keep, float beta, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * keep[i] + beta * y[i];
}

/* u = keep .* x for the rows of a chunk, rounded to T. */
static void u_masked(const pb_lowrank_bwd_args *a, int64_t row, int64_t rows, const float *keep,
                     void *u) {
    float xb[PB_CPU_BLOCK], ub[PB_CPU_BLOCK];
    int64_t in = pb_cols(a->x);
    pb_tensor to = view(u, a->x.dtype, rows, in);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < in; j += PB_CPU_BLOCK) {
            int64_t n = pb_min64(PB_CPU_BLOCK, in - j);
            float *up = pb_cpu_out(to, i * in + j, ub);
            pb_cpu_mul(up, pb_cpu_in(a->x, (row + i) * a->x.stride + j, n, xb), keep + i * in + j,
                       n);
            pb_cpu_done(to, i * in + j, n, up);
        }
    }
}

/* dx = beta dx + keep .* t for the rows of a chunk. */
static void dx_masked(const pb_lowrank_bwd_args *a, int64_t row, int64_t rows, const float *keep,
                      float *t) {
    float xb[PB_CPU_BLOCK];
    int64_t in = pb_cols(a->x);
    float beta = (float)a->beta_dx;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < in; j += PB_CPU_BLOCK) {
            int64_t n = pb_min64(PB_CPU_BLOCK, in - j), at = (row + i) * a->dx.stride + j;
            float *tp = t + i * in + j, *y = pb_cpu_out(a->dx, at, xb);
            if (beta != 0.0f) {
                if (a->dx.dtype != PB_F32) (void)pb_cpu_in(a->dx, at, n, xb);
                blend(y, tp, keep + i * in + j, beta, n);
            } else {
                pb_cpu_mul(y, tp, keep + i * in + j, n);
            }
            pb_cpu_done(a->dx, at, n, y);
        }
    }
}

static bool bwd_chunk(pb_cpu *cpu, const pb_lowrank_bwd_args *a, const bwd_sizes *s,
                      const bwd_prims *prims, int64_t chunk, bool add, float *slot,
                      const bwd_ws *w) {
    int64_t row = chunk * CHUNK, rows = chunk_rows(s->n, chunk);
    int t = (int)pb_cpu_thread();
    const void *dy = pb_cpu_at(a->dy, row * a->dy.stride), *u = pb_cpu_at(a->x, row * a->x.stride);
    pb_dtype type = a->x.dtype;
    float *da = slot, *db = da + (s->want_a ? s->r * s->in : 0),
          *de = db + (s->want_b ? s->r * s->out : 0);
    if (!pb_cpu_prim_run(cpu, prims->dq, t, dy, a->b.data, NULL, w->dq, w->scratch)) return false;
    if (s->want_e) {
        float hb[PB_CPU_BLOCK];
        if (!add) memset(de, 0, (size_t)s->r * sizeof *de);
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < s->r; j += PB_CPU_BLOCK) {
                int64_t n = pb_min64(PB_CPU_BLOCK, s->r - j);
                de_add(de + j, w->dq + i * s->r + j,
                       pb_cpu_in(a->h, (row + i) * a->h.stride + j, n, hb), n);
            }
        }
    }
    scale_rank(view(w->dq, PB_F32, rows, s->r), 0, rows, a->e, view(w->dh, type, rows, s->r));
    if (s->want_b) {
        scale_rank(a->h, row, rows, a->e, view(w->he, type, rows, s->r));
        if (!pb_cpu_prim_run(cpu, prims->db[add], t, w->he, dy, NULL, db, w->scratch)) return false;
    }
    /* One mask for u and for dx. Rows follow each other without gaps in the numbering of elements.
     */
    if (s->drop) pb_cpu_drop_factors(a->drop, (uint64_t)(row * s->in), rows * s->in, w->keep);
    if (s->want_a) {
        if (s->drop) {
            u_masked(a, row, rows, w->keep, w->u);
            u = w->u;
        }
        if (!pb_cpu_prim_run(cpu, prims->da[add], t, w->dh, u, NULL, da, w->scratch)) return false;
    }
    if (!s->want_x) return true;
    void *dx = s->drop ? (void *)w->dx : pb_cpu_at(a->dx, row * a->dx.stride);
    if (!pb_cpu_prim_run(cpu, prims->dx, t, w->dh, a->a.data, NULL, dx, w->scratch)) return false;
    if (s->drop) dx_masked(a, row, rows, w->keep, w->dx);
    return true;
}

#define REDUCE_COLS 128 /* columns of the partial results summed in one task */

/* The partial results of all slots, added in slot order, for columns [from, from+n) of one of the
 * two factors: `at` = where it starts in a slot, `width` = its columns there. */
static void reduce_cols(const bwd_sizes *s, const float *slots, int64_t at, int64_t width,
                        int64_t k, int64_t from, int64_t n, float *sum) {
    for (int64_t i = 0; i < s->slots; i++) {
        pb_cpu_add(sum, slots + i * s->slot_floats + at + k * width + from, n);
    }
}

static void reduce_a(const pb_lowrank_bwd_args *a, const bwd_sizes *s, const float *slots,
                     int64_t from) {
    int64_t n = pb_min64(REDUCE_COLS, s->in - from);
    for (int64_t k = 0; k < s->r; k++) {
        reduce_cols(s, slots, 0, s->in, k, from, n, (float *)a->da.data + k * a->da.stride + from);
    }
}

/* The slots hold db transposed: its columns are summed in a row and written back in place. */
static void reduce_b(const pb_lowrank_bwd_args *a, const bwd_sizes *s, const float *slots,
                     int64_t from) {
    int64_t n = pb_min64(REDUCE_COLS, s->out - from), at = s->want_a ? s->r * s->in : 0;
    float *db = (float *)a->db.data + from * a->db.stride, sum[REDUCE_COLS];
    for (int64_t k = 0; k < s->r; k++) {
        for (int64_t j = 0; j < n; j++) sum[j] = db[j * a->db.stride + k];
        reduce_cols(s, slots, at, s->out, k, from, n, sum);
        for (int64_t j = 0; j < n; j++) db[j * a->db.stride + k] = sum[j];
    }
}

static void reduce_e(const pb_lowrank_bwd_args *a, const bwd_sizes *s, const float *slots) {
    int64_t at = (s->want_a ? s->r * s->in : 0) + (s->want_b ? s->r * s->out : 0);
    reduce_cols(s, slots, at, s->r, 0, 0, s->r, a->de.data);
}

/* Sums of all slots, by threads that are in a parallel region. */
static void reduce_all(const pb_lowrank_bwd_args *a, const bwd_sizes *s, const float *slots) {
    int64_t tasks_a = s->want_a ? pb_ceil_div(s->in, REDUCE_COLS) : 0;
    int64_t tasks_b = s->want_b ? pb_ceil_div(s->out, REDUCE_COLS) : 0;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < tasks_a + tasks_b + (s->want_e ? 1 : 0); i++) {
        if (i < tasks_a) reduce_a(a, s, slots, i * REDUCE_COLS);
        else if (i < tasks_a + tasks_b) reduce_b(a, s, slots, (i - tasks_a) * REDUCE_COLS);
        else reduce_e(a, s, slots);
    }
}

/* The chunks of slot i are [first, first of i + 1). */
static int64_t first_chunk(const bwd_sizes *s, int64_t i) { return i * s->chunks / s->slots; }

static void bwd_in_tiles(const pb_cpu *cpu, const pb_lowrank_bwd_args *a, const bwd_sizes *s,
                         char *ws) {
    int threads = s->slots == 1 ? 1 : cpu->threads;
    pb_lowrank_pack p = pb_lowrank_pack_bwd(a, ws);
    float *slots = (float *)(void *)(ws + pb_lowrank_pack_bytes(p.k, p.n));
    char *threads_ws = (char *)slots + slots_bytes(s);
    size_t bytes = pb_lowrank_tiles_bwd_bytes(a);
#pragma omp parallel num_threads(threads)
    {
        pb_cpu_tiles_begin();
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < s->slots; i++) {
            int64_t from = first_chunk(s, i) * CHUNK, to = first_chunk(s, i + 1) * CHUNK;
            float *da = slots + i * s->slot_floats, *db = da + (s->want_a ? s->r * s->in : 0),
                  *de = db + (s->want_b ? s->r * s->out : 0);
            pb_lowrank_tiles_bwd(a, &p, from, pb_min64(s->n, to) - from, s->want_a ? da : NULL,
                                 s->want_b ? db : NULL, s->want_e ? de : NULL,
                                 threads_ws + (size_t)pb_cpu_thread() * bytes);
        }
        pb_cpu_tiles_end();
        reduce_all(a, s, slots);
    }
}

static pb_status lowrank_bwd_run(pb_device *dev, const void *args, void *ws) {
    pb_lowrank_bwd_args packed = *(const pb_lowrank_bwd_args *)args, *a = &packed;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->x.dtype == PB_F64)
        return PB_ERROR(PB_E_UNSUPPORTED, "cpu: lowrank_bwd has no f64 kernel");
    bwd_sizes s = bwd_sizes_of(a);
    if (s.n == 0) return PB_OK;
    if (bwd_tiles(cpu, a, &s)) {
        bwd_in_tiles(cpu, a, &s, ws);
        return PB_OK;
    }
    float *slots = (float *)(void *)((char *)ws + packed_bytes(a->b));
    a->b = pack(a->b, ws);
    bwd_prims full = {0}, last = {0};
    pb_cpu_prims_begin(cpu);
    PB_RETURN(bwd_compile(cpu, a, &s, chunk_rows(s.n, 0), &full));
    PB_RETURN(bwd_compile(cpu, a, &s, chunk_rows(s.n, s.chunks - 1), &last));
    char *threads_ws = (char *)slots + slots_bytes(&s);
    int failed = 0, threads = s.slots == 1 ? 1 : cpu->threads, saved = pb_cpu_single_enter();
#pragma omp parallel num_threads(threads)
    {
        bwd_ws w = {0};
        (void)bwd_layout(a, &s, pb_cpu_thread(), threads_ws, &w);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < s.slots; i++) {
            int64_t from = first_chunk(&s, i), to = first_chunk(&s, i + 1);
            for (int64_t c = from; c < to; c++) {
                const bwd_prims *p = c == s.chunks - 1 ? &last : &full;
                if (!bwd_chunk(cpu, a, &s, p, c, c > from, slots + i * s.slot_floats, &w)) {
#pragma omp atomic write
                    failed = 1;
                }
            }
        }
        reduce_all(a, &s, slots);
    }
    pb_cpu_single_leave(saved);
    return failed ? failed_product() : PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_lowrank, "tiles or onednn", lowrank_workspace, lowrank_run},
    {PB_OP_lowrank_bwd, "tiles or onednn", lowrank_bwd_workspace, lowrank_bwd_run},
};
const pb_kernel_set pb_kernels_cpu_lowrank = {kernels, sizeof kernels / sizeof *kernels};
