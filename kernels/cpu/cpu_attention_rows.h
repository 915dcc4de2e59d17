/* Rows of bf16 of one head, packed for tile products (cpu_tiles.h) and stored from f32. Included by
 * cpu_attention_tiles.c alone, where the CPU is known to have AVX-512 with bf16. */
#ifndef PB_KERNELS_CPU_ATTENTION_ROWS_H
#define PB_KERNELS_CPU_ATTENTION_ROWS_H

#include "kernels/cpu/cpu_attention.h"
#include "kernels/cpu/cpu_tile_rows.h"
#include "kernels/cpu/cpu_tiles.h"

static int64_t pad32(int64_t n) { return pb_ceil_div(n, PB_TILE) * PB_TILE; }

typedef struct rows { /* of one head */
    const uint16_t *at;
    int64_t ld, n;
} rows;

static rows rows_of(pb_tensor t, int64_t first, int64_t n, int64_t head, int64_t dim) {
    return (rows){(const uint16_t *)t.data + first * t.stride + head * dim, t.stride, n};
}

/* dst[padded, dim] := the rows and zeros. */
static void copy_rows(uint16_t *dst, rows r, int64_t dim, int64_t padded) {
    for (int64_t i = 0; i < r.n; i++)
        memcpy(dst + i * dim, r.at + i * r.ld, (size_t)dim * sizeof *dst);
    memset(dst + r.n * dim, 0, (size_t)((padded - r.n) * dim) * sizeof *dst);
}

/* dst[padded/2, dim] := pairs of rows, zeros behind. */
TARGET static void pair_rows(uint32_t *dst, rows r, int64_t dim, int64_t padded) {
    for (int64_t i = 0; i < padded; i += 2) {
        const uint16_t *at = r.at + i * r.ld;
        for (int64_t d = 0; d < dim; d += 32) {
            __m512i a = i < r.n ? _mm512_loadu_si512(at + d) : _mm512_setzero_si512();
            __m512i b = i + 1 < r.n ? _mm512_loadu_si512(at + r.ld + d) : _mm512_setzero_si512();
            pair_up(dst + i / 2 * dim + d, 16, a, b);
        }
    }
}

/* dst[dim/2, 32] := pairs of columns: the second operand of a product with the
 * transpose. */
static void pair_columns(uint32_t *dst, rows r, int64_t dim) {
    if (r.n <= PB_LANES) memset(dst, 0, (size_t)(dim / 2 * PB_QUERIES) * sizeof *dst);
    pb_cpu_transpose((float *)dst, PB_QUERIES, (const float *)(const void *)r.at, r.ld / 2, r.n,
                     dim / 2);
}

/* dst[dim, 2 ld] := the transpose, with `pairs` [padded/2, dim] as made by
 * pair_rows. */
static void transpose_pairs(uint16_t *dst, int64_t ld, const uint32_t *pairs, int64_t dim,
                            int64_t padded) {
    pb_cpu_transpose((float *)(void *)dst, ld, (const float *)pairs, dim, padded / 2, dim);
}

/* n rows of dim numbers, times a factor per row (or NULL), rounded. */
TARGET static void store_rows(pb_tensor t, int64_t first, int64_t n, int64_t head, int64_t dim,
                              const float *src, const float *factor) {
    uint16_t *to = (uint16_t *)t.data + first * t.stride + head * dim;
    for (int64_t i = 0; i < n; i++) {
        __m512 f = _mm512_set1_ps(factor != NULL ? factor[i] : 1.0f);
        for (int64_t d = 0; d < dim; d += 32) {
            const float *from = src + i * dim + d;
            __m512 lo = _mm512_mul_ps(f, _mm512_loadu_ps(from));
            __m512 hi = _mm512_mul_ps(f, _mm512_loadu_ps(from + 16));
            _mm512_storeu_si512(to + i * t.stride + d, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
        }
    }
}

#endif
