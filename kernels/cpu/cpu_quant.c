/* Decoding of 4-bit blocks: value = table[code] * absmax, rounded to the wanted dtype.
 *
 * The 16 values are scaled (and rounded) once for each block of 64 elements; then a code is a
 * lookup in a register: one vpermps for 16 f32, one vpermw for 32 bf16 (AVX-512, whole blocks),
 * vpermps pairs or byte shuffles (AVX2). Bytes: 1/2 read and 4 or 2 written per element. */
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

#ifdef HAVE_X86
/* --- whole blocks of a multiple of 64 elements ----------------------------------------------- */

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

/* pb_narrow of 16 values, twice: a lookup takes the lowest five bits of an index. */
AVX512 static inline __m512i rounded_twice(__m512 f) {
    __m512i u = _mm512_castps_si512(f), high = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40));
    __m256i h = _mm512_cvtepi32_epi16(rounded);
    return _mm512_inserti64x4(_mm512_castsi256_si512(h), h, 1);
}

/* Of a byte the upper four bits are the earlier element. Bytes are put in the order in which
 * unpacking within quarters of a register makes neighbours of what was looked up for the upper and
 * for the lower bits. Bits above those of an index are ignored. */
AVX512 static void blocks_bf16(const float *table, const float *absmax, int64_t blocks,
                               int64_t block, const uint8_t *codes, uint16_t *dst) {
    const __m512 values = _mm512_loadu_ps(table);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (int64_t b = 0; b < blocks; b++) {
        __m512i t = rounded_twice(_mm512_mul_ps(values, _mm512_set1_ps(absmax[b])));
        for (int64_t i = 0; i < block; i += 64, codes += 32, dst += 64) {
            __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)codes);
            __m512i w = _mm512_cvtepu8_epi16(_mm256_permutevar8x32_epi32(bytes, order));
            __m512i even = _mm512_permutexvar_epi16(_mm512_srli_epi16(w, 4), t),
                    odd = _mm512_permutexvar_epi16(w, t);
            _mm512_storeu_si512(dst, _mm512_unpacklo_epi16(even, odd));
            _mm512_storeu_si512(dst + 32, _mm512_unpackhi_epi16(even, odd));
        }
    }
}

AVX512 static void blocks_f32(const float *table, const float *absmax, int64_t blocks,
                              int64_t block, const uint8_t *codes, float *dst) {
    const __m512 values = _mm512_loadu_ps(table);
    const __m128i order = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    for (int64_t b = 0; b < blocks; b++) {
        __m512 t = _mm512_mul_ps(values, _mm512_set1_ps(absmax[b]));
        for (int64_t i = 0; i < block; i += 32, codes += 16, dst += 32) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)codes);
            __m512i w = _mm512_cvtepu8_epi32(_mm_shuffle_epi8(bytes, order));
            __m512 even = _mm512_permutexvar_ps(_mm512_srli_epi32(w, 4), t),
                   odd = _mm512_permutexvar_ps(w, t);
            _mm512_storeu_ps(dst, _mm512_unpacklo_ps(even, odd));
            _mm512_storeu_ps(dst + 16, _mm512_unpackhi_ps(even, odd));
        }
    }
}

/* --- n elements from an even element number on: how many they did, a multiple of their width -- */

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
    if (i % 2 == 0 && pb_cpu_has_avx2()) {
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

static float absmax_of(const pb_quant4 *q, int64_t block, const float *map) {
    if (!q->double_quant) return ((const float *)q->absmax.data)[block];
    uint8_t code = ((const uint8_t *)q->absmax_q.data)[block];
    float scale = ((const float *)q->absmax2.data)[block / 256];
    return map[code] * scale + *(const float *)q->offset.data;
}

#define BATCH 16 /* blocks decoded together */

/* Decodes some of the whole blocks from element i to `end`: how many elements. 0 where another way
 * must be gone. */
static int64_t decode_blocks(const pb_quant4 *q, const float *table, const float *map, int64_t i,
                             int64_t end, pb_dtype dtype, void *dst) {
#ifdef HAVE_X86
    int64_t block = q->block, n = pb_min64(BATCH, (end - i) / block);
    if (i % block != 0 || block % 64 != 0 || !pb_cpu_has_avx512()) return 0;
    float absmax[BATCH];
    for (int64_t b = 0; b < n; b++) absmax[b] = absmax_of(q, i / block + b, map);
    const uint8_t *codes = (const uint8_t *)q->codes.data + i / 2;
    if (dtype == PB_F32) {
        blocks_f32(table, absmax, n, block, codes, dst);
    } else {
        blocks_bf16(table, absmax, n, block, codes, dst);
    }
    return n * block;
#else
    (void)q, (void)table, (void)map, (void)i, (void)end, (void)dtype, (void)dst;
    return 0;
#endif
}

void pb_cpu_dequant4(const pb_quant4 *q, int64_t first, int64_t n, pb_dtype dtype, void *dst) {
    const float *table = pb_code_table(q->code), *map = pb_dynamic_map_signed();
    int64_t end = first + n, done = 0;
    for (int64_t i = first; i < end; i += done) {
        void *to = (char *)dst + (i - first) * (int64_t)pb_dtype_size(dtype);
        done = decode_blocks(q, table, map, i, end, dtype, to);
        if (done > 0) continue;
        lut t;
        int64_t block = i / q->block;
        done = pb_min64(end, (block + 1) * q->block) - i;
        scale_plain(table, absmax_of(q, block, map), dtype != PB_F32, &t);
        decode_run(&t, q->codes.data, i, done, dtype, to);
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
