/* DoRA (Liu et al. 2024): row norms of W + s B A without forming it, and the exact gradient of the
 * ablation.
 *
 * ||W_j + s b_j A||^2 = w2_j + 2 s b_j . (W A^T)_j + s^2 b_j (A A^T) b_j^T: two products of FLOPs 2
 * r out in and 2 r^2 in, then r^2 per row, in double because the terms may nearly cancel. W is read
 * once, 32 rows at a time, decoded or widened in the L1 or L2 cache; bf16 is multiplied in tile
 * registers where the CPU has them, everything else in f32. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_quant.h"
#include "kernels/cpu/cpu_tiles.h"

#define BLOCK PB_TILE /* rows of W of a task */
#define FEW 8         /* rows that a product in f32 holds in registers */

static pb_status no_f64(const char *op) {
    return PB_ERROR(PB_E_UNSUPPORTED, "cpu: %s has no f64 kernel", op);
}

typedef struct dora_ws {
    int64_t ld;         /* r rounded up to whole vectors or tiles */
    float *af, *at;     /* A in f32 [r, in]; transposed [in, ld] */
    uint32_t *pairs;    /* A^T in pairs of rows [in/2, ld], for tiles; or NULL */
    float *wa, *aa, *b; /* W A^T [out rounded up, ld], A A^T [r, ld]; B in f32 [out, r] */
    double *aa_double;
    char *slabs;        /* [BLOCK, in] of each thread */
    size_t slab_bytes, bytes;
} dora_ws;

static dora_ws dora_layout(const pb_device *dev, const pb_dora_norm_args *a, char *base) {
    int64_t out = pb_weight_out(a->w), in = pb_weight_in(a->w), r = pb_rows(a->a);
    bool tiles = pb_cpu_of(dev)->tiles && a->a.dtype == PB_BF16 && in % PB_TILE == 0;
    char *take = base;
    dora_ws w = {.ld = r <= PB_LANES ? PB_LANES : pb_ceil_div(r, PB_TILE) * PB_TILE};
    w.af = pb_cpu_take(&take, (size_t)(r * in) * sizeof(float));
    w.at = pb_cpu_take(&take, (size_t)(in * w.ld) * sizeof(float));
    if (tiles) w.pairs = pb_cpu_take(&take, (size_t)(in / 2 * w.ld) * sizeof(uint32_t));
    w.wa = pb_cpu_take(&take, (size_t)((out + BLOCK) * w.ld) * sizeof(float));
    w.aa = pb_cpu_take(&take, (size_t)(r * w.ld) * sizeof(float));
    w.aa_double = pb_cpu_take(&take, (size_t)(r * w.ld) * sizeof(double));
    w.b = pb_cpu_take(&take, (size_t)(out * r) * sizeof(float));
    w.slab_bytes = pb_align64((size_t)(BLOCK * in) * sizeof(float));
    w.slabs = pb_cpu_take(&take, (size_t)pb_device_threads(dev) * w.slab_bytes);
    w.bytes = (size_t)(take - base);
    return w;
}

static size_t dora_norm_workspace(const pb_device *dev, const void *args) {
    return dora_layout(dev, args, NULL).bytes;
}

/* A in the forms that the products want. */
static void pack_a(const pb_dora_norm_args *a, const dora_ws *w) {
    int64_t r = pb_rows(a->a), in = pb_cols(a->a);
    for (int64_t k = 0; k < r; k++) {
        float *row = w->af + k * in;
        const float *from = pb_cpu_in(a->a, k * a->a.stride, in, row);
        if (from != row) memcpy(row, from, (size_t)in * sizeof *row);
    }
    memset(w->at, 0, (size_t)(in * w->ld) * sizeof *w->at);
    pb_cpu_transpose(w->at, w->ld, w->af, in, r, in);
    if (w->pairs == NULL) return;
    memset(w->pairs, 0, (size_t)(in / 2 * w->ld) * sizeof *w->pairs);
    for (int64_t k = 0; k < r; k++) {
        const uint16_t *row = (const uint16_t *)a->a.data + k * a->a.stride;
        for (int64_t i = 0; i < in; i += 2)
            w->pairs[i / 2 * w->ld + k] = row[i] | (uint32_t)row[i + 1] << 16;
    }
}

/* Rows [j, j+n) of W A^T in f32, a few at a time, so that reading and multiplying take turns often. */
static void block_f32(const pb_dora_norm_args *a, const dora_ws *w, int64_t j, int64_t n,
                      float *slab) {
    int64_t in = pb_weight_in(a->w);
    for (int64_t i = 0; i < n; i += FEW) {
        int64_t m = pb_min64(FEW, n - i), ld = in;
        const float *rows = slab;
        for (int64_t k = 0; k < m; k++) {
            const float *row = pb_cpu_weight_row(a->w, j + i + k, slab + k * in);
            if (k == 0 && row != slab) { /* all are where they are stored */
                rows = row;
                ld = a->w.dense.stride;
            }
        }
        pb_cpu_small_product(m, w->ld, in, rows, ld, 1, w->at, w->ld, w->wa + (j + i) * w->ld,
                             w->ld, false);
    }
}

/* The same in tiles: whole blocks, what is beyond the last row is of no use. */
static void block_tiles(const pb_dora_norm_args *a, const dora_ws *w, int64_t j, int64_t n,
                        uint16_t *slab) {
    int64_t in = pb_weight_in(a->w), ld = in;
    const uint16_t *rows = slab;
    if (a->w.quant != NULL) {
        for (int64_t i = 0; i < n; i++)
            pb_cpu_dequant4(a->w.quant, (j + i) * in, in, PB_BF16, slab + i * in);
    } else if (n == BLOCK) {
        ld = a->w.dense.stride;
        rows = (const uint16_t *)a->w.dense.data + j * ld;
        for (int64_t i = 0; i < n; i++)
            pb_cpu_fetch((uintptr_t)(rows + i * ld) + PB_CPU_AHEAD, (size_t)in * sizeof *rows);
    } else {
        for (int64_t i = 0; i < n; i++)
            memcpy(slab + i * in, pb_cpu_at(a->w.dense, (j + i) * a->w.dense.stride),
                   (size_t)in * sizeof *slab);
    }
    if (rows == slab) memset(slab + n * in, 0, (size_t)((BLOCK - n) * in) * sizeof *slab);
    pb_cpu_tile_product(BLOCK, w->ld, in, rows, ld, w->pairs, w->ld, w->wa + j * w->ld, w->ld,
                        false);
}

/* b_j . (W A^T)_j and b_j (A A^T) b_j^T, b_j given in f32; 16 columns of A A^T at a time. */
PB_CLONES static void dora_sums(const float *b, const float *wa, const double *aa, int64_t r,
                                int64_t ld, double *cross, double *square) {
    *cross = *square = 0.0;
    for (int64_t k = 0; k < r; k += PB_LANES) {
        double row[PB_LANES] = {0};
        for (int64_t i = 0; i < r; i++) {
            double bi = (double)b[i];
            for (int64_t c = 0; c < PB_LANES; c++) row[c] += bi * aa[i * ld + k + c];
        }
        for (int64_t c = 0; c < pb_min64(PB_LANES, r - k); c++) {
            *cross += (double)b[k + c] * (double)wa[k + c];
            *square += (double)b[k + c] * row[c];
        }
    }
}

static void dora_row(const pb_dora_norm_args *a, const dora_ws *w, int64_t j, int64_t r) {
    double s = a->scale, cross, square;
    const float *b = pb_cpu_in(a->b, j * a->b.stride, r, w->b + j * r);
    dora_sums(b, w->wa + j * w->ld, w->aa_double, r, w->ld, &cross, &square);
    double n2 = (double)((const float *)a->w2.data)[j] + 2.0 * s * cross + s * s * square;
    float n = (float)sqrt(n2 > 0.0 ? n2 : (n2 <= 0.0 ? 0.0 : n2)); /* NaN passes */
    ((float *)a->n.data)[j] = n;
    ((float *)a->c.data)[j] = ((const float *)a->m.data)[j] / n;
}

static pb_status dora_norm_run(pb_device *dev, const void *args, void *ws) {
    const pb_dora_norm_args *a = args;
    if (a->a.dtype == PB_F64) return no_f64("dora_norm");
    dora_ws w = dora_layout(dev, a, ws);
    int64_t out = pb_weight_out(a->w), in = pb_weight_in(a->w), r = pb_rows(a->a);
    pack_a(a, &w);
    pb_cpu_small_product(r, w.ld, in, w.af, in, 1, w.at, w.ld, w.aa, w.ld, false);
    for (int64_t i = 0; i < r * w.ld; i++) w.aa_double[i] = (double)w.aa[i];
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), out * in);
#pragma omp parallel num_threads(threads)
    {
        void *slab = w.slabs + (size_t)pb_cpu_thread() * w.slab_bytes;
        if (w.pairs != NULL) pb_cpu_tiles_begin();
#pragma omp for schedule(static)
        for (int64_t j = 0; j < out; j += BLOCK) {
            int64_t n = pb_min64(BLOCK, out - j);
            if (w.pairs != NULL) block_tiles(a, &w, j, n, slab);
            else block_f32(a, &w, j, n, slab);
            for (int64_t i = j; i < j + n; i++) dora_row(a, &w, i, r);
        }
        if (w.pairs != NULL) pb_cpu_tiles_end();
    }
    return PB_OK;
}

/* g_j := (m_j/n_j) (g_j - (g_j . v_j) v_j / n_j^2), eq. 6 of the paper. */
PB_CLONES static void exact_row(float *g, const float *v, float scale, float along, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) g[i] = scale * (g[i] - along * v[i]);
}

static pb_status dora_exact_run(pb_device *dev, const void *args, void *ws) {
    const pb_dora_exact_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->g.dtype == PB_F64) return no_f64("dora_exact");
    int64_t rows = pb_rows(a->g), cols = pb_cols(a->g);
    int threads = pb_cpu_threads_for(cpu, rows * cols);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t j = 0; j < rows; j++) {
        float *g = (float *)a->g.data + j * a->g.stride;
        const float *v = (const float *)a->v.data + j * a->v.stride;
        double n = (double)((const float *)a->n.data)[j], m = (double)((const float *)a->m.data)[j];
        double dot = (double)pb_cpu_dot(g, v, cols);
        exact_row(g, v, (float)(m / n), (float)(dot / (n * n)), cols);
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_dora_norm, "tiles or vector", dora_norm_workspace, dora_norm_run},
    {PB_OP_dora_exact, "vector", NULL, dora_exact_run},
};
const pb_kernel_set pb_kernels_cpu_dora = {kernels, sizeof kernels / sizeof *kernels};
