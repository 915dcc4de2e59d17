/* Rows of bf16 as the second operand of tile products. Included by files alone whose code runs
 * where the CPU is known to have AVX-512 with bf16. */
#ifndef PB_KERNELS_CPU_TILE_ROWS_H
#define PB_KERNELS_CPU_TILE_ROWS_H

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define HELPER static inline __attribute__((always_inline)) TARGET

/* lo and hi halves of 32 numbers of each row, side by side. */
HELPER void pair_up(uint32_t *dst, int64_t apart, __m512i a, __m512i b) {
    const __m512i alternate =
        _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                         37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i behind = _mm512_add_epi16(alternate, _mm512_set1_epi16(16));
    _mm512_storeu_si512(dst, _mm512_permutex2var_epi16(a, alternate, b));
    _mm512_storeu_si512(dst + apart, _mm512_permutex2var_epi16(a, behind, b));
}

#endif
