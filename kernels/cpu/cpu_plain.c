/* Matrix products by plain loops: what remains when oneDNN has no kernel (bf16 on a CPU without
 * AVX-512) or the sum is empty. Blocks of op(a) and op(b) are converted to f32 tiles on the stack;
 * FLOPs 2mnk, one pass over b per 32 rows. */
#include "kernels/cpu/cpu_gemm.h"

enum { MB = 32, NB = 64, KB = 64 };

typedef struct tiles {
    float a[MB][KB], b[KB][NB], acc[MB][NB];
} tiles;

/* n elements from x[at] on, as f32. */
static void load_row(float *dst, const void *x, pb_dtype type, int64_t at, int64_t n) {
    if (type == PB_F32) {
        memcpy(dst, (const float *)x + at, (size_t)n * sizeof *dst);
    } else {
        pb_cpu_widen(dst, (const uint16_t *)x + at, n);
    }
}

/* tile[i][j] = op(x)[row+i][col+j] for i < rows, j < cols, zero elsewhere. */
static void load_tile(float *tile, int64_t tile_rows, int64_t tile_cols, const void *x,
                      pb_dtype type, int64_t ld, bool trans, int64_t row, int64_t col, int64_t rows,
                      int64_t cols) {
    float stored[KB * NB]; /* rows of x as they lie in memory */
    if (rows < tile_rows || cols < tile_cols) {
        memset(tile, 0, (size_t)(tile_rows * tile_cols) * sizeof *tile);
    }
    if (!trans) {
        for (int64_t i = 0; i < rows; i++) {
            load_row(tile + i * tile_cols, x, type, (row + i) * ld + col, cols);
        }
        return;
    }
    for (int64_t j = 0; j < cols; j++) {
        load_row(stored + j * tile_rows, x, type, (col + j) * ld + row, rows);
    }
    pb_cpu_transpose(tile, tile_cols, stored, tile_rows, cols, rows);
}

/* v = alpha acc + beta old + bias */
PB_CLONES static void finish_row(float *v, const float *acc, float alpha, const float *old,
                                 float beta, const float *bias, int64_t n) {
    for (int64_t j = 0; j < n; j++) v[j] = (alpha * acc[j] + beta * old[j]) + bias[j];
}

static void store(const pb_cpu_product *p, const tiles *t, int64_t row, int64_t col, int64_t rows,
                  int64_t cols, const void *bias, void *c) {
    float v[NB], old[NB] = {0}, add[NB] = {0};
    if (p->bias) load_row(add, bias, p->bias_dtype, col, cols);
    for (int64_t i = 0; i < rows; i++) {
        int64_t at = (row + i) * p->ldc + col;
        if (p->beta != 0.0f) load_row(old, c, p->c, at, cols);
        finish_row(v, t->acc[i], p->alpha, old, p->beta, add, cols);
        if (p->c == PB_F32) {
            memcpy((float *)c + at, v, (size_t)cols * sizeof *v);
        } else {
            pb_cpu_narrow((uint16_t *)c + at, v, cols);
        }
    }
}

void pb_cpu_plain_product(const pb_cpu_product *p, const void *a, const void *b, const void *bias,
                          void *c) {
    tiles t;
    for (int64_t row = 0; row < p->m; row += MB) {
        int64_t rows = pb_min64(MB, p->m - row);
        for (int64_t col = 0; col < p->n; col += NB) {
            int64_t cols = pb_min64(NB, p->n - col);
            int64_t padded = pb_ceil_div(cols, PB_LANES) * PB_LANES;
            memset(t.acc, 0, sizeof t.acc);
            for (int64_t k = 0; k < p->k; k += KB) {
                int64_t depth = pb_min64(KB, p->k - k);
                load_tile(&t.a[0][0], MB, KB, a, p->ab, p->lda, p->ta, row, k, rows, depth);
                load_tile(&t.b[0][0], KB, NB, b, p->ab, p->ldb, p->tb, k, col, depth, cols);
                pb_cpu_small_product(rows, padded, depth, &t.a[0][0], KB, 1, &t.b[0][0], NB,
                                     &t.acc[0][0], NB, true);
            }
            store(p, &t, row, col, rows, cols, bias, c);
        }
    }
}
