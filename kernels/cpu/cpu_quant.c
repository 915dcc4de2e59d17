/* Decoding of 4-bit blocks: value = table[code] * absmax, rounded to the wanted dtype.
 *
 * The 16 values are scaled (and rounded) once for each block of 64 elements; then a code is a
 * lookup in a register: one vpermps for 16 f32, one vpermw for 32 bf16 (AVX-512), vpermps pairs or
 * byte shuffles (AVX2). Bytes: 1/2 read and 4 or 2 written per element. */
#include "kernels/cpu/cpu_quant.h"

#include <stdlib.h>

#include "kernels/cpu/cpu_isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_X86 1
#endif

typedef struct lut {
    float f[16];
    uint16_t h[32]; /* twice, for a 32-entry shuffle */
} lut;

static int code_at(const uint8_t *codes, int64_t i) {
    return (i & 1) ? codes[i / 2] & 15 : codes[i / 2] >> 4;
}

static void scale_plain(const float *table, float absmax, bool half, lut *t) {
    for (int c = 0; c < 16; c++) t->f[c] = table[c] * absmax;
    for (int c = 0; half && c < 16; c++) t->h[c] = t->h[c + 16] = pb_narrow(t->f[c]);
}

/* n elements from an even element number on; the vector versions return how many they did (a
 * multiple of their width). */
#ifdef HAVE_X86
/* pb_narrow of 16 values. */
__attribute__((target("avx512f,avx512bw,avx512vl"))) static void
scale_avx512(const float *table, float absmax, bool half, lut *t) {
    __m512 f = _mm512_mul_ps(_mm512_loadu_ps(table), _mm512_set1_ps(absmax));
    _mm512_storeu_ps(t->f, f);
    if (!half) return;
    __m512i u = _mm512_castps_si512(f), high = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40));
    __m256i h = _mm512_cvtepi32_epi16(rounded);
    _mm512_storeu_si512(t->h, _mm512_inserti64x4(_mm512_castsi256_si512(h), h, 1));
}

__attribute__((target("avx512f,avx512bw,avx512vl"))) static int64_t
f32_avx512(const lut *t, const uint8_t *codes, int64_t n, float *dst) {
    __m512 table = _mm512_loadu_ps(t->f);
    const __m128i low = _mm_set1_epi8(15);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)(codes + i / 2));
        __m128i hi = _mm_and_si128(_mm_srli_epi16(b, 4), low), lo = _mm_and_si128(b, low);
        __m512i idx = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(hi, lo));
        _mm512_storeu_ps(dst + i, _mm512_permutexvar_ps(idx, table));
    }
    return i;
}

__attribute__((target("avx512f,avx512bw,avx512vl"))) static int64_t
bf16_avx512(const lut *t, const uint8_t *codes, int64_t n, uint16_t *dst) {
    __m512i table = _mm512_loadu_si512(t->h);
    const __m128i low = _mm_set1_epi8(15);
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(codes + i / 2));
        __m128i hi = _mm_and_si128(_mm_srli_epi16(b, 4), low), lo = _mm_and_si128(b, low);
        __m256i both = _mm256_set_m128i(_mm_unpackhi_epi8(hi, lo), _mm_unpacklo_epi8(hi, lo));
        _mm512_storeu_si512(dst + i, _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(both), table));
    }
    return i;
}

__attribute__((target("avx2"))) static int64_t f32_avx2(const lut *t, const uint8_t *codes,
                                                        int64_t n, float *dst) {
    __m256 t0 = _mm256_loadu_ps(t->f), t1 = _mm256_loadu_ps(t->f + 8);
    const __m128i low = _mm_set1_epi8(15);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        int32_t word;
        memcpy(&word, codes + i / 2, sizeof word);
        __m128i b = _mm_cvtsi32_si128(word);
        __m128i hi = _mm_and_si128(_mm_srli_epi16(b, 4), low), lo = _mm_and_si128(b, low);
        __m256i idx = _mm256_cvtepu8_epi32(_mm_unpacklo_epi8(hi, lo));
        __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(idx, 28)); /* sign bit = code >= 8 */
        __m256 v = _mm256_blendv_ps(_mm256_permutevar8x32_ps(t0, idx),
                                    _mm256_permutevar8x32_ps(t1, idx), upper);
        _mm256_storeu_ps(dst + i, v);
    }
    return i;
}

__attribute__((target("avx2"))) static int64_t bf16_avx2(const lut *t, const uint8_t *codes,
                                                         int64_t n, uint16_t *dst) {
    uint8_t first[16], second[16];
    for (int i = 0; i < 16; i++) {
        first[i] = (uint8_t)(t->h[i] & 255u);
        second[i] = (uint8_t)(t->h[i] >> 8);
    }
    __m128i t0 = _mm_loadu_si128((const __m128i *)(const void *)first);
    __m128i t1 = _mm_loadu_si128((const __m128i *)(const void *)second);
    const __m128i low = _mm_set1_epi8(15);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)(codes + i / 2));
        __m128i hi = _mm_and_si128(_mm_srli_epi16(b, 4), low), lo = _mm_and_si128(b, low);
        __m128i idx = _mm_unpacklo_epi8(hi, lo);
        __m128i v0 = _mm_shuffle_epi8(t0, idx), v1 = _mm_shuffle_epi8(t1, idx);
        _mm_storeu_si128((__m128i *)(void *)(dst + i), _mm_unpacklo_epi8(v0, v1));
        _mm_storeu_si128((__m128i *)(void *)(dst + i + 8), _mm_unpackhi_epi8(v0, v1));
    }
    return i;
}
#endif

/* Elements [i, i+n) of one block. */
static void decode_run(const lut *t, const uint8_t *codes, int64_t i, int64_t n, pb_dtype dtype,
                       void *dst) {
    float *f = dst;
    uint16_t *h = dst;
    int64_t done = 0;
#ifdef HAVE_X86
    if (i % 2 == 0 && pb_cpu_has_avx512()) {
        done = dtype == PB_F32 ? f32_avx512(t, codes + i / 2, n, f)
                               : bf16_avx512(t, codes + i / 2, n, h);
    } else if (i % 2 == 0 && pb_cpu_has_avx2()) {
        done =
            dtype == PB_F32 ? f32_avx2(t, codes + i / 2, n, f) : bf16_avx2(t, codes + i / 2, n, h);
    }
#endif
    if (dtype == PB_F32) {
        for (; done < n; done++) f[done] = t->f[code_at(codes, i + done)];
    } else {
        for (; done < n; done++) h[done] = t->h[code_at(codes, i + done)];
    }
}

static float absmax_of(const pb_quant4 *q, int64_t block) {
    if (!q->double_quant) return ((const float *)q->absmax.data)[block];
    uint8_t code = ((const uint8_t *)q->absmax_q.data)[block];
    float scale = ((const float *)q->absmax2.data)[block / 256];
    return pb_dynamic_map_signed()[code] * scale + *(const float *)q->offset.data;
}

void pb_cpu_dequant4(const pb_quant4 *q, int64_t first, int64_t n, pb_dtype dtype, void *dst) {
    const float *table = pb_code_table(q->code);
    int64_t i = first, end = first + n;
    for (int64_t block = first / q->block; i < end; block++) {
        int64_t stop = pb_min64(end, (block + 1) * q->block);
        float absmax = absmax_of(q, block);
        lut t;
#ifdef HAVE_X86
        if (pb_cpu_has_avx512()) {
            scale_avx512(table, absmax, dtype != PB_F32, &t);
        } else {
            scale_plain(table, absmax, dtype != PB_F32, &t);
        }
#else
        scale_plain(table, absmax, dtype != PB_F32, &t);
#endif
        decode_run(&t, q->codes.data, i, stop - i, dtype,
                   (char *)dst + (i - first) * (int64_t)pb_dtype_size(dtype));
        i = stop;
    }
}

const float *pb_cpu_weight_row(pb_weight w, int64_t j, float *buf) {
    if (w.quant == NULL) return pb_cpu_in(w.dense, j * w.dense.stride, w.dense.dim[1], buf);
    int64_t in = w.quant->in;
    if (w.quant->compute == PB_F32) {
        pb_cpu_dequant4(w.quant, j * in, in, PB_F32, buf);
        return buf;
    }
    uint16_t half[PB_CPU_BLOCK];
    for (int64_t i = 0; i < in; i += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, in - i);
        pb_cpu_dequant4(w.quant, j * in + i, n, PB_BF16, half);
        pb_cpu_widen(buf + i, half, n);
    }
    return buf;
}
