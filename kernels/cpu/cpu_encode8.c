/* Nearest entry of an ascending 256-entry map for many values, equal to pb_dynamic_encode: the last
 * entry <= x by eight halvings, then its upper neighbour if that is nearer (a tie stays below).
 *
 * AVX-512: the whole map lies in 16 registers. The first four halvings look into every 16th entry
 * (one permute), a lookup in all 256 is eight two-register permutes and seven blends: about 6
 * instructions per value. AVX2: gathers. */
#include "kernels/core/quant.h"
#include "kernels/cpu/cpu_quant.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_X86 1

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

AVX512 static inline __attribute__((always_inline)) __m512 lookup(const __m512 map[16],
                                                                  __m512i index) {
    __m512 v[8];
    for (int i = 0; i < 8; i++)
        v[i] = _mm512_permutex2var_ps(map[2 * i], index, map[2 * i + 1]); /* low five bits */
    __mmask16 b5 = _mm512_test_epi32_mask(index, _mm512_set1_epi32(32));
    __mmask16 b6 = _mm512_test_epi32_mask(index, _mm512_set1_epi32(64));
    __mmask16 b7 = _mm512_test_epi32_mask(index, _mm512_set1_epi32(128));
    for (int i = 0; i < 4; i++) v[i] = _mm512_mask_blend_ps(b5, v[2 * i], v[2 * i + 1]);
    for (int i = 0; i < 2; i++) v[i] = _mm512_mask_blend_ps(b6, v[2 * i], v[2 * i + 1]);
    return _mm512_mask_blend_ps(b7, v[0], v[1]);
}

/* Lanes where b - a < d - c in double. */
AVX512 static inline __attribute__((always_inline)) __mmask16 nearer(__m512 a, __m512 b, __m512 c,
                                                                     __m512 d) {
    __mmask8 m[2];
    for (int h = 0; h < 2; h++) {
        __m512d x[4];
        const __m512 in[4] = {a, b, c, d};
        for (int i = 0; i < 4; i++) {
            x[i] = _mm512_cvtps_pd(h == 0 ? _mm512_castps512_ps256(in[i])
                                          : _mm512_extractf32x8_ps(in[i], 1));
        }
        m[h] = _mm512_cmp_pd_mask(_mm512_sub_pd(x[1], x[0]), _mm512_sub_pd(x[3], x[2]), _CMP_LT_OQ);
    }
    return (__mmask16)(m[0] | m[1] << 8);
}

AVX512 static int64_t encode_avx512(const float *map, const float *x, float inverse, uint8_t *code,
                                    int64_t n) {
    __m512 m[16],
        every16 = _mm512_i32gather_ps(
            _mm512_slli_epi32(
                _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 4),
            map, 4);
    for (int i = 0; i < 16; i++) m[i] = _mm512_loadu_ps(map + 16 * i);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(inverse));
        __m512i lo = _mm512_setzero_si512();
        for (int step = 8; step > 0; step /= 2) {
            __m512i next = _mm512_add_epi32(lo, _mm512_set1_epi32(step));
            lo = _mm512_mask_mov_epi32(
                lo, _mm512_cmp_ps_mask(_mm512_permutexvar_ps(next, every16), v, _CMP_LE_OQ), next);
        }
        lo = _mm512_slli_epi32(lo, 4);
        for (int step = 8; step > 0; step /= 2) {
            __m512i next = _mm512_add_epi32(lo, _mm512_set1_epi32(step));
            lo =
                _mm512_mask_mov_epi32(lo, _mm512_cmp_ps_mask(lookup(m, next), v, _CMP_LE_OQ), next);
        }
        __m512i hi =
            _mm512_min_epi32(_mm512_add_epi32(lo, _mm512_set1_epi32(1)), _mm512_set1_epi32(255));
        __m512i best = _mm512_mask_mov_epi32(lo, nearer(v, lookup(m, hi), lookup(m, lo), v), hi);
        _mm_storeu_si128((__m128i *)(void *)(code + i), _mm512_cvtepi32_epi8(best));
    }
    return i;
}

#define AVX2 __attribute__((target("avx2")))

AVX2 static int64_t encode_avx2(const float *map, const float *x, float inverse, uint8_t *code,
                                int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(inverse));
        __m256i lo = _mm256_setzero_si256();
        for (int step = 128; step > 0; step /= 2) {
            __m256i next = _mm256_add_epi32(lo, _mm256_set1_epi32(step));
            __m256 below = _mm256_cmp_ps(_mm256_i32gather_ps(map, next, 4), v, _CMP_LE_OQ);
            lo = _mm256_blendv_epi8(lo, next, _mm256_castps_si256(below));
        }
        int32_t at[8];
        float value[8];
        _mm256_storeu_si256((__m256i *)(void *)at, lo);
        _mm256_storeu_ps(value, v);
        for (int k = 0; k < 8; k++) {
            int32_t hi = at[k] < 255 ? at[k] + 1 : 255;
            double below = (double)value[k] - (double)map[at[k]],
                   above = (double)map[hi] - (double)value[k];
            code[i + k] = (uint8_t)(above < below ? hi : at[k]);
        }
    }
    return i;
}
#endif

void pb_cpu_encode8(const float *map, const float *x, float inverse, uint8_t *code, int64_t n) {
    int64_t done = 0;
#ifdef HAVE_X86
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw")) {
        done = encode_avx512(map, x, inverse, code, n);
    } else if (__builtin_cpu_supports("avx2")) {
        done = encode_avx2(map, x, inverse, code, n);
    }
#endif
    for (; done < n; done++) code[done] = (uint8_t)pb_dynamic_encode(map, x[done] * inverse);
}
