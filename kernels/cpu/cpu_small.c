/* A block of 8 x 32 results is kept in 16 vector registers; per k two vectors of b are loaded and 8 values of a are
 * broadcast: 16 multiply-adds for 10 loads. 2mnk FLOPs. Each result is one sum in the order of k, whatever the blocking.
 * Multiply-adds may be fused here, so that results may differ in the last bits between CPUs with and without FMA. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif
#include "kernels/cpu/cpu_small.h"

typedef struct operands {
    const float *a, *b;
    float *c;
    int64_t k, row, col, ldb, ldc;
    bool add;
} operands;

/* mr, nv are constants at every use: the loops over them unroll. */
PB_INLINE void micro(const int mr, const int nv, const operands *o, const float *a, const float *b, float *c) {
    pb_v16 acc[8][2];
    PB_UNROLL
    for (int i = 0; i < mr; i++) {
        PB_UNROLL
        for (int j = 0; j < nv; j++) acc[i][j] = o->add ? pb_ld(c + i * o->ldc + PB_LANES * j) : pb_splat(0.0f);
    }
    for (int64_t k = 0; k < o->k; k++) {
        pb_v16 bv[2];
        PB_UNROLL
        for (int j = 0; j < nv; j++) bv[j] = pb_ld(b + k * o->ldb + PB_LANES * j);
        PB_UNROLL
        for (int i = 0; i < mr; i++) {
            float x = a[i * o->row + k * o->col];
            PB_UNROLL
            for (int j = 0; j < nv; j++) acc[i][j] += x * bv[j];
        }
    }
    PB_UNROLL
    for (int i = 0; i < mr; i++) {
        PB_UNROLL
        for (int j = 0; j < nv; j++) pb_st(c + i * o->ldc + PB_LANES * j, acc[i][j]);
    }
}

PB_INLINE void panel(const int nv, const operands *o, int64_t m, int64_t from) {
    const float *b = o->b + from;
    int64_t i = 0;
    for (; i + 8 <= m; i += 8) micro(8, nv, o, o->a + i * o->row, b, o->c + i * o->ldc + from);
    for (; i + 4 <= m; i += 4) micro(4, nv, o, o->a + i * o->row, b, o->c + i * o->ldc + from);
    for (; i + 2 <= m; i += 2) micro(2, nv, o, o->a + i * o->row, b, o->c + i * o->ldc + from);
    for (; i < m; i++) micro(1, nv, o, o->a + i * o->row, b, o->c + i * o->ldc + from);
}

PB_CLONES void pb_cpu_small_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t row, int64_t col,
                                    const float *b, int64_t ldb, float *c, int64_t ldc, bool add) {
    operands o = {a, b, c, k, row, col, ldb, ldc, add};
    int64_t j = 0;
    for (; j + 2 * PB_LANES <= n; j += 2 * PB_LANES) panel(2, &o, m, j);
    for (; j < n; j += PB_LANES) panel(1, &o, m, j);
}

/* --- transpose ------------------------------------------------------------------------------------------------------------ */

#define LOW(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

/* 16 vectors of 16: in four steps neighbours at distance 8, 4, 2, 1 exchange halves. */
PB_INLINE void transpose16(pb_v16 v[16]) {
    pb_v16 t[16];
    PB_UNROLL
    for (int i = 0; i < 8; i++) {
        t[i] = LOW(v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        t[i + 8] = LOW(v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
    PB_UNROLL
    for (int i = 0; i < 16; i++) {
        if (i & 4) continue;
        v[i] = LOW(t[i], t[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
        v[i + 4] = LOW(t[i], t[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    }
    PB_UNROLL
    for (int i = 0; i < 16; i++) {
        if (i & 2) continue;
        t[i] = LOW(v[i], v[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
        t[i + 2] = LOW(v[i], v[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
    PB_UNROLL
    for (int i = 0; i < 16; i += 2) {
        v[i] = LOW(t[i], t[i + 1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
        v[i + 1] = LOW(t[i], t[i + 1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    }
}

PB_CLONES void pb_cpu_transpose(float *dst, int64_t ld, const float *src, int64_t ld_src, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows; i += PB_LANES) {
        int64_t have = pb_min64(PB_LANES, rows - i);
        for (int64_t j = 0; j < cols; j += PB_LANES) {
            pb_v16 v[PB_LANES];
            int64_t width = pb_min64(PB_LANES, cols - j);
            for (int r = 0; r < PB_LANES; r++) {
                const float *at = src + (i + r) * ld_src + j;
                v[r] = r >= have ? pb_splat(0.0f) : width == PB_LANES ? pb_ld(at) : pb_ld_part(at, width);
            }
            transpose16(v);
            for (int64_t c = 0; c < width; c++) pb_st(dst + (j + c) * ld + i, v[c]);
        }
    }
}
