/* The cache of compiled products and the splitting of one product into pieces. */
#include "kernels/cpu/cpu_gemm.h"

#include <omp.h>
#include <stdlib.h>

#include "kernels/cpu/cpu_dnnl.h"

#define PRIM_ARGS 6             /* a, b, c, bias, scratch, scale */
#define PRIMS_MAX 1024          /* then the cache starts anew */
#define PIECE (8.0 * (1 << 20)) /* multiply-adds worth a piece of their own, */
#define PIECES_MAX 64           /* up to this many pieces */
#define ROWS_WHOLE 128 /* rows and */
#define K_WHOLE 3072   /* depth of products cut along rows alone: see whole_columns */
#define K_STEP 256     /* sums over token rows are cut here: few shapes, whatever the batch */

struct pb_cpu_prim {
    pb_cpu_product key;
    dnnl_primitive_t prim;           /* NULL: plain loops */
    int bias_arg;                    /* oneDNN's argument number of the bias */
    dnnl_memory_t (*mem)[PRIM_ARGS]; /* per thread */
    int threads;
};

static uint64_t mix(uint64_t h, uint64_t x) {
    h ^= x + 0x9E3779B97F4A7C15u + (h << 6) + (h >> 2);
    return h * 0xBF58476D1CE4E5B9u;
}

static uint64_t key_hash(const pb_cpu_product *p) {
    union {
        float f[2];
        uint64_t u;
    } s = {{p->alpha, p->beta}};
    uint64_t flags = (uint64_t)p->ta | (uint64_t)p->tb << 1 | (uint64_t)p->bias << 2 |
                     (uint64_t)p->ab << 8 | (uint64_t)p->c << 16 | (uint64_t)p->bias_dtype << 24;
    uint64_t h = mix(flags, s.u);
    h = mix(mix(mix(h, (uint64_t)p->m), (uint64_t)p->n), (uint64_t)p->k);
    h = mix(mix(mix(h, (uint64_t)p->lda), (uint64_t)p->ldb), (uint64_t)p->ldc);
    return h ^ (h >> 29);
}

static bool key_equal(const pb_cpu_product *a, const pb_cpu_product *b) {
    return a->m == b->m && a->n == b->n && a->k == b->k && a->lda == b->lda && a->ldb == b->ldb &&
           a->ldc == b->ldc && !(a->alpha != b->alpha) && !(a->beta != b->beta) && a->ta == b->ta &&
           a->tb == b->tb && a->ab == b->ab && a->c == b->c && a->bias == b->bias &&
           (!a->bias || a->bias_dtype == b->bias_dtype);
}

int pb_cpu_single_enter(void) {
    int saved = omp_get_max_threads();
    omp_set_num_threads(1);
    return saved;
}

void pb_cpu_single_leave(int saved) { omp_set_num_threads(saved); }

/* --- building -------------------------------------------------------------------------------- */

static void prim_free(pb_cpu_prim *p) {
    if (p == NULL) return;
    for (int t = 0; p->mem != NULL && t < p->threads; t++) {
        for (int i = 0; i < PRIM_ARGS; i++) {
            if (p->mem[t][i] != NULL) dnnl_memory_destroy(p->mem[t][i]);
        }
    }
    free(p->mem);
    if (p->prim != NULL) dnnl_primitive_destroy(p->prim);
    free(p);
}

void pb_cpu_prims_free(pb_cpu *cpu) {
    for (size_t i = 0; i < cpu->prims_cap; i++) prim_free(cpu->prims[i]);
    free(cpu->prims);
    cpu->prims = NULL;
    cpu->prims_cap = cpu->prims_n = 0;
}

static dnnl_data_type_t dnnl_type(pb_dtype t) { return t == PB_BF16 ? dnnl_bf16 : dnnl_f32; }

static bool describe(dnnl_memory_desc_t *md, int64_t rows, int64_t cols, pb_dtype type, int64_t ld,
                     bool trans) {
    return pb_dnnl_matrix(md, rows, cols, dnnl_type(type), trans ? 1 : ld, trans ? ld : 1);
}

typedef struct descs {
    dnnl_memory_desc_t a, b, c, bias, scale; /* scale: the argument for alpha, if there is one */
} descs;

static bool describe_all(const pb_cpu_product *p, descs *d) {
    return describe(&d->a, p->m, p->k, p->ab, p->lda, p->ta) &&
           describe(&d->b, p->k, p->n, p->ab, p->ldb, p->tb) &&
           describe(&d->c, p->m, p->n, p->c, p->ldc, false) &&
           (!p->bias || describe(&d->bias, 1, p->n, p->bias_dtype, p->n, false));
}

static void forget_all(descs *d) {
    pb_dnnl_forget(&d->a);
    pb_dnnl_forget(&d->b);
    pb_dnnl_forget(&d->c);
    pb_dnnl_forget(&d->bias);
    pb_dnnl_forget(&d->scale);
}

/* Our bias is not scaled by alpha: where oneDNN scales its own, the bias is added afterwards. */
static bool attributes(const pb_cpu_product *p, descs *d, dnnl_primitive_attr_t *out,
                       int *bias_arg) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    bool late_bias = PB_DNNL_SCALES_BIAS && p->bias && p->alpha != 1.0f;
    bool ok =
        dnnl_primitive_attr_create(&attr) == dnnl_success &&
        dnnl_post_ops_create(&ops) == dnnl_success &&
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success;
    if (ok && p->alpha != 1.0f) ok = pb_dnnl_scale(attr, p->alpha, &d->scale);
    if (ok && p->beta != 0.0f) ok = pb_dnnl_sum(ops, p->beta);
    if (ok && late_bias) {
        ok = dnnl_post_ops_append_binary(ops, dnnl_binary_add, pb_dnnl_look(&d->bias)) ==
             dnnl_success;
    }
    if (ok) ok = dnnl_primitive_attr_set_post_ops(attr, ops) == dnnl_success;
    if (ops != NULL) dnnl_post_ops_destroy(ops);
    if (!ok && attr != NULL) dnnl_primitive_attr_destroy(attr);
    *bias_arg = late_bias ? DNNL_ARG_ATTR_MULTIPLE_POST_OP(p->beta != 0.0f ? 1 : 0) | DNNL_ARG_SRC_1
                          : DNNL_ARG_BIAS;
    *out = ok ? attr : NULL;
    return ok;
}

static bool make_memories(pb_cpu *cpu, pb_cpu_prim *prim, const pb_dnnl_view md[PRIM_ARGS]) {
    prim->threads = cpu->threads;
    prim->mem = calloc((size_t)cpu->threads, sizeof *prim->mem);
    if (prim->mem == NULL) return false;
    for (int t = 0; t < cpu->threads; t++) {
        for (int i = 0; i < PRIM_ARGS; i++) {
            if (md[i] != NULL && dnnl_memory_create(&prim->mem[t][i], md[i], cpu->engine,
                                                    DNNL_MEMORY_NONE) != dnnl_success) {
                return false;
            }
        }
    }
    return true;
}

/* False: oneDNN cannot, or wants too much scratch; the caller falls back. */
static bool compile(pb_cpu *cpu, const pb_cpu_product *p, pb_cpu_prim *prim) {
    descs d = {0};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    bool ok = describe_all(p, &d) && attributes(p, &d, &attr, &prim->bias_arg);
    pb_dnnl_view a = pb_dnnl_look(&d.a), b = pb_dnnl_look(&d.b), c = pb_dnnl_look(&d.c);
    pb_dnnl_view bias = pb_dnnl_look(&d.bias);
    if (ok) {
        bool late_bias = prim->bias_arg != DNNL_ARG_BIAS;
        ok = pb_dnnl_matmul(&pd, cpu->engine, a, b, late_bias ? NULL : bias, c, attr);
    }
    if (ok) {
        pb_dnnl_view scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        const pb_dnnl_view md[PRIM_ARGS] = {a, b, c, bias, scratch, pb_dnnl_look(&d.scale)};
        ok = scratch != NULL && dnnl_memory_desc_get_size(scratch) <= PB_CPU_SCRATCH &&
             dnnl_primitive_create(&prim->prim, pd) == dnnl_success && make_memories(cpu, prim, md);
    }
    if (pd != NULL) dnnl_primitive_desc_destroy(pd);
    if (attr != NULL) dnnl_primitive_attr_destroy(attr);
    forget_all(&d);
    return ok;
}

static bool for_onednn(const pb_cpu *cpu, const pb_cpu_product *p) {
    return p->m > 0 && p->n > 0 && p->k > 0 && (p->ab == PB_F32 || cpu->bf16_products);
}

static pb_cpu_prim *prim_new(pb_cpu *cpu, const pb_cpu_product *p) {
    pb_cpu_prim *prim = calloc(1, sizeof *prim);
    if (prim == NULL) return NULL;
    prim->key = *p;
    int saved = pb_cpu_single_enter();
    if (for_onednn(cpu, p) && !compile(cpu, p, prim)) {
        prim_free(prim);
        prim = calloc(1, sizeof *prim);
        if (prim != NULL) prim->key = *p;
    }
    pb_cpu_single_leave(saved);
    return prim;
}

/* --- table ----------------------------------------------------------------------------------- */

static size_t slot_of(pb_cpu_prim *const *table, size_t cap, const pb_cpu_product *p) {
    size_t i = (size_t)key_hash(p) & (cap - 1);
    while (table[i] != NULL && !key_equal(&table[i]->key, p)) i = (i + 1) & (cap - 1);
    return i;
}

static bool grow(pb_cpu *cpu) {
    size_t cap = cpu->prims_cap == 0 ? 256 : 2 * cpu->prims_cap;
    pb_cpu_prim **table = calloc(cap, sizeof *table);
    if (table == NULL) return false;
    for (size_t i = 0; i < cpu->prims_cap; i++) {
        if (cpu->prims[i] != NULL) table[slot_of(table, cap, &cpu->prims[i]->key)] = cpu->prims[i];
    }
    free(cpu->prims);
    cpu->prims = table;
    cpu->prims_cap = cap;
    return true;
}

void pb_cpu_prims_begin(pb_cpu *cpu) {
    if (cpu->prims_n >= PRIMS_MAX) pb_cpu_prims_free(cpu);
}

pb_status pb_cpu_prim_get(pb_cpu *cpu, const pb_cpu_product *p, pb_cpu_prim **out) {
    *out = NULL;
    if (2 * (cpu->prims_n + 1) > cpu->prims_cap && !grow(cpu)) {
        return PB_ERROR(PB_E_OOM, "no host memory for the table of compiled products");
    }
    size_t i = slot_of(cpu->prims, cpu->prims_cap, p);
    if (cpu->prims[i] == NULL) {
        cpu->prims[i] = prim_new(cpu, p);
        if (cpu->prims[i] == NULL)
            return PB_ERROR(PB_E_OOM, "no host memory for a compiled product");
        cpu->prims_n++;
    }
    *out = cpu->prims[i];
    return PB_OK;
}

bool pb_cpu_prim_run(pb_cpu *cpu, pb_cpu_prim *prim, int thread, const void *a, const void *b,
                     const void *bias, void *c, void *scratch) {
    if (prim->prim == NULL) {
        pb_cpu_plain_product(&prim->key, a, b, bias, c);
        return true;
    }
    /* oneDNN takes all handles as void *; sources are not written. */
    union {
        const void *in;
        void *out;
    } at[PRIM_ARGS] = {{.in = a},    {.in = b},        {.out = c},
                     {.in = bias}, {.out = scratch}, {.in = &prim->key.alpha}};
    const int arg[PRIM_ARGS] = {DNNL_ARG_SRC,   DNNL_ARG_WEIGHTS,    DNNL_ARG_DST,
                                prim->bias_arg, DNNL_ARG_SCRATCHPAD, PB_DNNL_ARG_SCALE};
    dnnl_exec_arg_t args[PRIM_ARGS];
    int n = 0;
    for (int i = 0; i < PRIM_ARGS; i++) {
        dnnl_memory_t mem = prim->mem[thread][i];
        if (mem == NULL) continue;
        if (dnnl_memory_set_data_handle(mem, at[i].out) != dnnl_success) return false;
        args[n++] = (dnnl_exec_arg_t){arg[i], mem};
    }
    return dnnl_primitive_execute(prim->prim, cpu->streams[thread], n, args) == dnnl_success;
}

/* --- splitting ------------------------------------------------------------------------------- */

typedef struct split {
    int64_t m, n, k;    /* size of a full piece */
    int64_t nm, nn, nk; /* number of pieces */
} split;

static int64_t round_up(int64_t x, int64_t to) { return pb_ceil_div(x, to) * to; }

/* oneDNN 2.6 runs bf16 through its tile kernels (AMX) only when the stored rows of the second
 * operand and of the result are whole, and through a slower path otherwise: such products are cut
 * along rows alone. Beyond K_WHOLE they would want more than PB_CPU_SCRATCH (128 bytes per k). */
static bool whole_columns(const pb_cpu_product *p) {
    return p->ab == PB_BF16 && p->m >= ROWS_WHOLE && p->k <= K_WHOLE;
}

/* From the shape only. Rows in pieces of about 128 (256 for tall products, whose second operand
 * should be read less often); columns too when that gives too few pieces, but not narrower than
 * pays for packing them. K is cut only for sums over token rows, into f32. */
static split split_of(const pb_cpu_product *p) {
    split s = {p->m, p->n, p->k, 1, 1, 1};
    double work = (double)p->m * (double)p->n * (double)p->k;
    if (p->ta && p->c == PB_F32 && p->k > K_STEP) s.k = K_STEP;
    if (work >= 1 << 20) {
        int64_t want =
            pb_max64(2, (int64_t)(work < PIECE * PIECES_MAX ? work / PIECE : PIECES_MAX));
        int64_t rows = p->m > 2048 ? 256 : 128, cols = p->ab == PB_BF16 ? 192 : 128;
        int64_t nm = pb_ceil_div(p->m, rows);
        bool whole = nm >= want || whole_columns(p);
        int64_t nn = whole ? 1 : pb_max64(1, pb_min64(pb_ceil_div(want, nm), p->n / cols));
        while (nm * nn % 4 != 0 && nm * 32 < p->m && nm < 16) nm++;
        s.m = round_up(pb_ceil_div(p->m, nm), 16);
        s.n = round_up(pb_ceil_div(p->n, nn), 64);
    }
    s.nm = pb_ceil_div(p->m, s.m);
    s.nn = pb_ceil_div(p->n, s.n);
    s.nk = pb_ceil_div(p->k, s.k);
    return s;
}

/* Compiled pieces: by [last row piece][last column piece][last k piece][first k piece]. */
typedef struct plan {
    split s;
    pb_cpu_prim *prim[2][2][2][2];
} plan;

static pb_status plan_make(pb_cpu *cpu, const pb_cpu_product *p, plan *out) {
    split s = out->s = split_of(p);
    for (int i = 0; i < 16; i++) {
        bool lm = i & 1, ln = i & 2, lk = i & 4, first = i & 8;
        /* Kinds of pieces that do not occur. */
        if ((!lm && s.nm == 1) || (!ln && s.nn == 1) || (!lk && s.nk == 1) || (!first && s.nk == 1))
            continue;
        if (first && lk && s.nk > 1) continue;
        pb_cpu_product q = *p;
        q.m = lm ? p->m - (s.nm - 1) * s.m : s.m;
        q.n = ln ? p->n - (s.nn - 1) * s.n : s.n;
        q.k = lk ? p->k - (s.nk - 1) * s.k : s.k;
        if (!first) {
            q.beta = 1.0f;
            q.bias = false;
        }
        PB_RETURN(pb_cpu_prim_get(cpu, &q, &out->prim[lm][ln][lk][first]));
    }
    return PB_OK;
}

static const void *offset(const void *base, int64_t elements, pb_dtype type) {
    return (const char *)base + elements * (int64_t)pb_dtype_size(type);
}

static bool run_piece(pb_cpu *cpu, const pb_cpu_product *p, const plan *pl, int64_t piece,
                      int thread, const void *a, const void *b, const void *bias, char *c,
                      void *scratch) {
    split s = pl->s;
    int64_t im = piece / s.nn, in = piece % s.nn;
    int64_t row = im * s.m, col = in * s.n;
    const void *bp = p->bias ? offset(bias, col, p->bias_dtype) : NULL;
    void *cp = c + (row * p->ldc + col) * (int64_t)pb_dtype_size(p->c);
    for (int64_t ik = 0; ik < s.nk; ik++) {
        int64_t k = ik * s.k;
        pb_cpu_prim *prim = pl->prim[im == s.nm - 1][in == s.nn - 1][ik == s.nk - 1][ik == 0];
        const void *ap = offset(a, p->ta ? k * p->lda + row : row * p->lda + k, p->ab);
        const void *wp = offset(b, p->tb ? col * p->ldb + k : k * p->ldb + col, p->ab);
        if (!pb_cpu_prim_run(cpu, prim, thread, ap, wp, bp, cp, scratch)) return false;
    }
    return true;
}

pb_status pb_cpu_gemm(pb_cpu *cpu, const pb_cpu_product *p, const void *a, const void *b,
                      const void *bias, void *c, void *scratch) {
    if (p->m == 0 || p->n == 0) return PB_OK;
    if (p->k == 0) {
        pb_cpu_plain_product(p, a, b, bias, c);
        return PB_OK;
    }
    pb_cpu_prims_begin(cpu);
    plan pl = {0};
    PB_RETURN(plan_make(cpu, p, &pl));
    int64_t pieces = pl.s.nm * pl.s.nn;
    int threads = pieces == 1 ? 1 : cpu->threads, failed = 0;
    int saved = pb_cpu_single_enter();
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < pieces; i++) {
        int t = omp_get_thread_num();
        if (!run_piece(cpu, p, &pl, i, t, a, b, bias, c,
                       (char *)scratch + (size_t)t * PB_CPU_SCRATCH)) {
#pragma omp atomic write
            failed = 1;
        }
    }
    pb_cpu_single_leave(saved);
    if (failed) {
        return PB_ERROR(PB_E_ENV, "oneDNN failed in a product of %lld x %lld x %lld",
                        (long long)p->m, (long long)p->n, (long long)p->k);
    }
    return PB_OK;
}
