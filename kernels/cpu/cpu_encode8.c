/* Nearest entry of an 8-bit dynamic map for many values, equal to pb_dynamic_encode.
 *
 * From zero upwards the middles between entries lie in eight runs of equal distances: zero with the
 * smallest decade, one run for each further decade, and 1. So the nearest entry to a magnitude is
 * floor(a x + b) of its run, but for values so near to a middle between two entries that rounding
 * decides: those (1 of 2000) are encoded one by one, ties among them.
 *
 * The run comes from the exponent and one border (two permutes) with AVX-512, from seven
 * comparisons with AVX2; a, b and the run's last entry are permutes. About 25 instructions for 16
 * values, 40 for 8. */
#include <math.h>

#include "kernels/core/quant.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/cpu_quant.h"

#define RUNS PB_CPU_RUNS8
#define NEAR 0x1p-12f /* of a x + b to a whole number; it is wrong by less than 2^-14 */

/* The largest f32 below the middle; between runs the middle itself is no f32, so that there are no ties. */
static float border(float low, float high) {
    double middle = ((double)low + (double)high) / 2.0;
    float f = (float)middle;
    return (double)f > middle ? nextafterf(f, 0.0f) : f;
}

void pb_cpu_code8_of(const float *map, pb_cpu_code8 *c) {
    c->map = map;
    c->zero = map[0] < 0.0f ? 127 : 0;
    const float *v = map + c->zero;
    int lo = 0, n = c->zero > 0 ? 1 : 2;
    for (int r = 0; r < RUNS; r++, n *= 2) {
        int hi = r == 0 ? n : r == RUNS - 1 ? lo : lo + n - 1;
        double a = hi > lo ? (hi - lo) / ((double)v[hi] - (double)v[lo]) : 0.0;
        c->above[r] = r > 0 ? border(v[lo - 1], v[lo]) : -1.0f;
        c->a[r] = (float)a;
        c->b[r] = (float)(hi > lo ? lo + 1 - a * ((double)v[lo] + (double)v[lo + 1]) / 2.0
                                  : lo + 0.5);
        c->last[r] = (float)hi + 0.5f;
        lo = hi + 1;
    }
    c->above[RUNS] = INFINITY;
    for (int e = 0; e < 32; e++) { /* 2^(e-31) <= x < 2^(e-30) */
        int r = 0;
        while (c->above[r + 1] < ldexpf(1.0f, e - 31)) r++;
        c->run[e] = e > 0 ? r : 0;
        c->border[e] = c->above[c->run[e] + 1];
    }
}

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_X86 1

static void one_by_one(const pb_cpu_code8 *c, const float *x, float inverse, unsigned which,
                       uint8_t *code) {
    for (int k = 0; which != 0; k++, which >>= 1) {
        if (which & 1) code[k] = (uint8_t)pb_dynamic_encode(c->map, x[k] * inverse);
    }
}

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

AVX512 static int64_t encode_avx512(const pb_cpu_code8 *c, const float *x, float inverse,
                                    uint8_t *code, int64_t n) {
    const __m512 border0 = _mm512_loadu_ps(c->border), border1 = _mm512_loadu_ps(c->border + 16);
    const __m512i run0 = _mm512_loadu_si512(c->run), run1 = _mm512_loadu_si512(c->run + 16);
    const __m512 a = _mm512_castps256_ps512(_mm256_loadu_ps(c->a)),
                 b = _mm512_castps256_ps512(_mm256_loadu_ps(c->b)),
                 last = _mm512_castps256_ps512(_mm256_loadu_ps(c->last));
    const __m512i zero = _mm512_set1_epi32(c->zero);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(inverse));
        __m512 size = _mm512_abs_ps(v);
        /* 96 + e; permutes take the lowest five bits */
        __m512i e = _mm512_max_epi32(_mm512_srli_epi32(_mm512_castps_si512(size), 23),
                                     _mm512_set1_epi32(96));
        __m512 at = _mm512_permutex2var_ps(border0, e, border1);
        __m512i run = _mm512_permutex2var_epi32(run0, e, run1);
        run = _mm512_mask_add_epi32(run, _mm512_cmp_ps_mask(size, at, _CMP_GT_OQ), run,
                                    _mm512_set1_epi32(1));
        __m512 t = _mm512_fmadd_ps(size, _mm512_permutexvar_ps(run, a),
                                   _mm512_permutexvar_ps(run, b));
        __m512 off = _mm512_abs_ps(_mm512_reduce_ps(t, _MM_FROUND_TO_NEAREST_INT));
        __mmask16 unsure = _mm512_cmp_ps_mask(off, _mm512_set1_ps(NEAR), _CMP_NGT_UQ);
        __m512i k = _mm512_cvttps_epi32(_mm512_min_ps(t, _mm512_permutexvar_ps(run, last)));
        __m512i to = _mm512_add_epi32(zero, k);
        to = _mm512_mask_sub_epi32(to, _mm512_movepi32_mask(_mm512_castps_si512(v)), zero, k);
        to = _mm512_max_epi32(to, _mm512_setzero_si512()); /* -1 has no entry */
        _mm_storeu_si128((__m128i *)(void *)(code + i), _mm512_cvtepi32_epi8(to));
        if (unsure) one_by_one(c, x + i, inverse, unsure, code + i);
    }
    return i;
}

#define AVX2 __attribute__((target("avx2")))

AVX2 static int64_t encode_avx2(const pb_cpu_code8 *c, const float *x, float inverse,
                                uint8_t *code, int64_t n) {
    const __m256 a = _mm256_loadu_ps(c->a), b = _mm256_loadu_ps(c->b),
                 last = _mm256_loadu_ps(c->last), sign = _mm256_set1_ps(-0.0f);
    const __m256i zero = _mm256_set1_epi32(c->zero);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(inverse));
        __m256 size = _mm256_andnot_ps(sign, v);
        __m256i run = _mm256_setzero_si256();
        for (int r = 1; r < RUNS; r++) {
            __m256 at = _mm256_set1_ps(c->above[r]);
            run = _mm256_sub_epi32(run, _mm256_castps_si256(_mm256_cmp_ps(size, at, _CMP_GT_OQ)));
        }
        __m256 t = _mm256_add_ps(_mm256_mul_ps(size, _mm256_permutevar8x32_ps(a, run)),
                                 _mm256_permutevar8x32_ps(b, run));
        __m256 off = _mm256_sub_ps(t, _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT));
        off = _mm256_andnot_ps(sign, off);
        __m256 unsure = _mm256_cmp_ps(off, _mm256_set1_ps(NEAR), _CMP_NGT_UQ);
        __m256i k =
            _mm256_cvttps_epi32(_mm256_min_ps(t, _mm256_permutevar8x32_ps(last, run)));
        __m256i minus = _mm256_srai_epi32(_mm256_castps_si256(v), 31);
        __m256i to =
            _mm256_add_epi32(zero, _mm256_sub_epi32(_mm256_xor_si256(k, minus), minus));
        __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(to), _mm256_extracti128_si256(to, 1));
        _mm_storel_epi64((__m128i *)(void *)(code + i), _mm_packus_epi16(half, half));
        unsigned which = (unsigned)_mm256_movemask_ps(unsure);
        if (which) one_by_one(c, x + i, inverse, which, code + i);
    }
    return i;
}
#endif

void pb_cpu_encode8(const pb_cpu_code8 *c, const float *x, float inverse, uint8_t *code,
                    int64_t n) {
    int64_t done = 0;
#ifdef HAVE_X86
    if (pb_cpu_has_avx512()) {
        done = encode_avx512(c, x, inverse, code, n);
    } else if (pb_cpu_has_avx2()) {
        done = encode_avx2(c, x, inverse, code, n);
    }
#endif
    for (; done < n; done++) code[done] = (uint8_t)pb_dynamic_encode(c->map, x[done] * inverse);
}
