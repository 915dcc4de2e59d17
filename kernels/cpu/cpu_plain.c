/* Matrix products by plain loops: what remains when oneDNN has no kernel (bf16 on a CPU without
 * AVX-512) or the sum is empty. Blocks of op(a) and op(b) are converted to f32 tiles on the stack;
 * FLOPs 2mnk, one pass over b per 32 rows. */
#include "kernels/cpu/cpu_gemm.h"

enum { MB = 32, NB = 64, KB = 64 };

typedef struct tiles {
    float a[MB][KB], b[KB][NB], acc[MB][NB];
} tiles;

static float at(const void *p, int64_t i, pb_dtype type) {
    return type == PB_F32 ? ((const float *)p)[i] : pb_widen(((const uint16_t *)p)[i]);
}

/* tile[i][j] = op(x)[row+i][col+j], zero outside of rows x cols. */
static void load_tile(float *tile, int64_t tile_cols, const void *x, pb_dtype type, int64_t ld,
                      bool trans, int64_t row, int64_t col, int64_t rows, int64_t cols,
                      int64_t tile_rows) {
    for (int64_t i = 0; i < tile_rows; i++) {
        for (int64_t j = 0; j < tile_cols; j++) {
            bool in = i < rows && j < cols;
            int64_t k = trans ? (col + j) * ld + row + i : (row + i) * ld + col + j;
            tile[i * tile_cols + j] = in ? at(x, k, type) : 0.0f;
        }
    }
}

PB_CLONES static void multiply(tiles *t, int64_t rows, int64_t depth) {
    for (int64_t i = 0; i < rows; i++) {
        float *restrict acc = t->acc[i];
        for (int64_t k = 0; k < depth; k++) {
            float x = t->a[i][k];
            for (int j = 0; j < NB; j++) acc[j] += x * t->b[k][j];
        }
    }
}

static void store(const pb_cpu_product *p, const tiles *t, int64_t row, int64_t col, int64_t rows,
                  int64_t cols, const void *bias, void *c) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) {
            int64_t at_c = (row + i) * p->ldc + col + j;
            float v = p->alpha * t->acc[i][j];
            if (p->beta != 0.0f) v += p->beta * at(c, at_c, p->c);
            if (p->bias) v += at(bias, col + j, p->bias_dtype);
            if (p->c == PB_F32) {
                ((float *)c)[at_c] = v;
            } else {
                ((uint16_t *)c)[at_c] = pb_narrow(v);
            }
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
            memset(t.acc, 0, sizeof t.acc);
            for (int64_t k = 0; k < p->k; k += KB) {
                int64_t depth = pb_min64(KB, p->k - k);
                load_tile(&t.a[0][0], KB, a, p->ab, p->lda, p->ta, row, k, rows, depth, MB);
                load_tile(&t.b[0][0], NB, b, p->ab, p->ldb, p->tb, k, col, depth, cols, KB);
                multiply(&t, rows, depth);
            }
            store(p, &t, row, col, rows, cols, bias, c);
        }
    }
}
