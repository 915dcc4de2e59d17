/* 4-bit codes of blocks: absmax in registers, then the codes of x / absmax, from the L1 cache.
 *
 * A code is the number of thresholds that x exceeds (FP4: of |x|, then a table and the sign).
 * AVX-512: the line from -1 to 1 is cut into 31 cells so that no cell has two thresholds; one
 * multiply-add leaves the cell's number in the lowest bits of its result, and a permute each finds
 * the thresholds below the cell and the one within it: seven instructions for 16 values, load to
 * rank. The cell of a threshold is worked out in the same way, so that rounding cannot matter. AVX2: the
 * thresholds as a search tree, four permutes and comparisons for 8 values. Values are taken
 * apart into even and odd ones, which is the order of the halves of a byte.
 * Bytes: 2 or 4 read and 1/2 written per element. */
#include <math.h>

#include "kernels/core/quant.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/cpu_quant.h"

#define CELL_SCALE 15.4f         /* -1..1 to 1..31 */
#define CELL_ROUND 8388624.0f    /* 2^23 + 16: what is added to it is rounded to a whole number */

static const int32_t fp4_by_rank[8] = {0, 1, 6, 7, 4, 5, 2, 3};

static float at(pb_dtype dtype, const void *x, int64_t i) {
    return dtype == PB_F32 ? ((const float *)x)[i] : pb_widen(((const uint16_t *)x)[i]);
}

/* Elements done.. of a block: the vector versions leave what does not fill their width. */
static float rest_absmax(pb_dtype dtype, const void *x, int64_t done, int64_t n, float most) {
    for (; done < n; done++) {
        float size = fabsf(at(dtype, x, done));
        most = size > most ? size : most;
    }
    return most;
}

static void rest_codes(pb_code code, pb_dtype dtype, const void *x, float inverse, int64_t done,
                       int64_t n, uint8_t *codes) {
    for (; done < n; done += 2) {
        int high = pb_code_encode(code, at(dtype, x, done) * inverse);
        int low = done + 1 < n ? pb_code_encode(code, at(dtype, x, done + 1) * inverse) : 0;
        codes[done / 2] = (uint8_t)(high << 4 | low);
    }
}

static void blocks_plain(const pb_cpu_code4 *c, pb_dtype dtype, const void *x, int64_t n,
                         int64_t block, uint8_t *codes, float *absmax) {
    int64_t size = (int64_t)pb_dtype_size(dtype);
    for (int64_t from = 0; from < n; from += block) {
        const char *here = (const char *)x + from * size;
        int64_t m = pb_min64(block, n - from);
        float most = rest_absmax(dtype, here, 0, m, 0.0f);
        rest_codes(c->code, dtype, here, pb_quant_inverse(most), 0, m, codes + from / 2);
        absmax[from / block] = most;
    }
}

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_X86 1
#define INLINE static inline __attribute__((always_inline))

/* --- AVX-512: 32 elements at a time ---------------------------------------------------------- */

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

AVX512 INLINE __m512i cell_of(__m512 v) {
    return _mm512_castps_si512(
        _mm512_fmadd_ps(v, _mm512_set1_ps(CELL_SCALE), _mm512_set1_ps(CELL_ROUND)));
}

AVX512 static void cells(pb_cpu_code4 *c) {
    int32_t cell[16];
    _mm512_storeu_si512(cell, cell_of(_mm512_loadu_ps(c->sorted)));
    for (int k = 0; k < 32; k++) {
        c->within[k] = INFINITY;
        c->below[k] = 0;
    }
    for (int i = 0; i < 15; i++) {
        if (c->sorted[i] > 1.0f) continue; /* never exceeded */
        int at_cell = c->sorted[i] < -1.0f ? 0 : cell[i] & 31;
        c->within[at_cell] = c->sorted[i];
        for (int k = at_cell + 1; k < 32; k++) c->below[k]++;
    }
}

AVX512 INLINE __m512i rank16(const pb_cpu_code4 *c, __m512 v) {
    __m512i cell = cell_of(v);
    __m512 within = _mm512_permutex2var_ps(_mm512_loadu_ps(c->within), cell,
                                           _mm512_loadu_ps(c->within + 16));
    __m512i below = _mm512_permutex2var_epi32(_mm512_loadu_si512(c->below), cell,
                                              _mm512_loadu_si512(c->below + 16));
    return _mm512_mask_add_epi32(below, _mm512_cmp_ps_mask(v, within, _CMP_GT_OQ), below,
                                 _mm512_set1_epi32(1));
}

AVX512 INLINE __m512i code16(const pb_cpu_code4 *c, const bool fp4, __m512 v) {
    if (!fp4) return rank16(c, v);
    __m512i by_rank = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)fp4_by_rank));
    __m512i code = _mm512_permutexvar_epi32(rank16(c, _mm512_abs_ps(v)), by_rank);
    return _mm512_mask_or_epi32(code, _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ), code,
                                _mm512_set1_epi32(8));
}

/* Elements 0, 2, .. and 1, 3, .. of 32. */
AVX512 INLINE void load32(pb_dtype dtype, const void *x, int64_t i, __m512 *even, __m512 *odd) {
    if (dtype == PB_F32) {
        const __m512i pick = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26,
                                               28, 30);
        __m512 a = _mm512_loadu_ps((const float *)x + i),
               b = _mm512_loadu_ps((const float *)x + i + 16);
        *even = _mm512_permutex2var_ps(a, pick, b);
        *odd = _mm512_permutex2var_ps(a, _mm512_or_si512(pick, _mm512_set1_epi32(1)), b);
    } else {
        __m512i both = _mm512_loadu_si512((const uint16_t *)x + i);
        *even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
        *odd = _mm512_castsi512_ps(
            _mm512_and_si512(both, _mm512_set1_epi32((int32_t)0xffff0000u)));
    }
}

AVX512 INLINE void blocks_avx512(const pb_cpu_code4 *c, const bool fp4, const pb_dtype dtype,
                                 const void *x, int64_t n, int64_t block, uint8_t *codes,
                                 float *absmax) {
    __m512 even, odd;
    for (int64_t from = 0; from < n; from += block) {
        const void *here = (const char *)x + from * (dtype == PB_F32 ? 4 : 2);
        int64_t m = pb_min64(block, n - from), i = 0;
        pb_cpu_fetch((uintptr_t)here + PB_CPU_AHEAD, (size_t)m * (dtype == PB_F32 ? 4 : 2));
        __m512 a = _mm512_setzero_ps(), b = a; /* a maximum with NaN is its second operand */
        for (; i + 32 <= m; i += 32) {
            load32(dtype, here, i, &even, &odd);
            a = _mm512_max_ps(_mm512_abs_ps(even), a);
            b = _mm512_max_ps(_mm512_abs_ps(odd), b);
        }
        float most = rest_absmax(dtype, here, i, m, _mm512_reduce_max_ps(_mm512_max_ps(a, b)));
        float inverse = pb_quant_inverse(most);
        __m512 by = _mm512_set1_ps(inverse);
        /* The inverse of an absmax below 2^-128 is infinite, and infinite numbers have no cell. */
        for (i = 0; inverse < INFINITY && i + 32 <= m; i += 32) {
            load32(dtype, here, i, &even, &odd);
            __m512i high = code16(c, fp4, _mm512_mul_ps(even, by)),
                    low = code16(c, fp4, _mm512_mul_ps(odd, by));
            _mm_storeu_si128(
                (__m128i *)(void *)(codes + (from + i) / 2),
                _mm512_cvtepi32_epi8(_mm512_or_si512(_mm512_slli_epi32(high, 4), low)));
        }
        rest_codes(c->code, dtype, here, inverse, i, m, codes + from / 2);
        absmax[from / block] = most;
    }
}

/* --- AVX2: 16 elements at a time ------------------------------------------------------------- */

#define AVX2 __attribute__((target("avx2")))

/* Node k has the children 2k and 2k + 1: 1; 2, 3; 4 .. 7 lie in one register, 8 .. 15 in another;
 * permutes take the lowest three bits. */
AVX2 INLINE __m256i rank8(const pb_cpu_code4 *c, __m256 v) {
    __m256 top = _mm256_loadu_ps(c->tree), leaves = _mm256_loadu_ps(c->tree + 8);
    __m256i k = _mm256_set1_epi32(1);
    for (int level = 0; level < 4; level++) {
        __m256 node = _mm256_permutevar8x32_ps(level < 3 ? top : leaves, k);
        __m256i more = _mm256_castps_si256(_mm256_cmp_ps(v, node, _CMP_GT_OQ));
        k = _mm256_sub_epi32(_mm256_add_epi32(k, k), more);
    }
    return _mm256_and_si256(k, _mm256_set1_epi32(15));
}

AVX2 INLINE __m256i code8(const pb_cpu_code4 *c, const bool fp4, __m256 v) {
    if (!fp4) return rank8(c, v);
    __m256i by_rank = _mm256_loadu_si256((const void *)fp4_by_rank);
    __m256i rank = rank8(c, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v));
    __m256i minus = _mm256_castps_si256(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ));
    return _mm256_or_si256(_mm256_permutevar8x32_epi32(by_rank, rank),
                           _mm256_and_si256(minus, _mm256_set1_epi32(8)));
}

AVX2 INLINE __m256 two_loads(const float *low, const float *high) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}

AVX2 INLINE void load16(pb_dtype dtype, const void *x, int64_t i, __m256 *even, __m256 *odd) {
    if (dtype == PB_F32) {
        const float *p = (const float *)x + i;
        __m256 a = two_loads(p, p + 8), b = two_loads(p + 4, p + 12);
        *even = _mm256_shuffle_ps(a, b, 0x88);
        *odd = _mm256_shuffle_ps(a, b, 0xdd);
    } else {
        __m256i both = _mm256_loadu_si256((const void *)((const uint16_t *)x + i));
        *even = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
        *odd = _mm256_castsi256_ps(
            _mm256_and_si256(both, _mm256_set1_epi32((int32_t)0xffff0000u)));
    }
}

AVX2 INLINE float largest8(__m256 v) {
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

AVX2 INLINE void blocks_avx2(const pb_cpu_code4 *c, const bool fp4, const pb_dtype dtype,
                             const void *x, int64_t n, int64_t block, uint8_t *codes,
                             float *absmax) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 even, odd;
    for (int64_t from = 0; from < n; from += block) {
        const void *here = (const char *)x + from * (dtype == PB_F32 ? 4 : 2);
        int64_t m = pb_min64(block, n - from), i = 0;
        pb_cpu_fetch((uintptr_t)here + PB_CPU_AHEAD, (size_t)m * (dtype == PB_F32 ? 4 : 2));
        __m256 a = _mm256_setzero_ps(), b = a;
        for (; i + 16 <= m; i += 16) {
            load16(dtype, here, i, &even, &odd);
            a = _mm256_max_ps(_mm256_andnot_ps(sign, even), a);
            b = _mm256_max_ps(_mm256_andnot_ps(sign, odd), b);
        }
        float most = rest_absmax(dtype, here, i, m, largest8(_mm256_max_ps(a, b)));
        float inverse = pb_quant_inverse(most);
        __m256 by = _mm256_set1_ps(inverse);
        for (i = 0; i + 16 <= m; i += 16) {
            load16(dtype, here, i, &even, &odd);
            __m256i high = code8(c, fp4, _mm256_mul_ps(even, by)),
                    low = code8(c, fp4, _mm256_mul_ps(odd, by));
            __m256i both = _mm256_or_si256(_mm256_slli_epi32(high, 4), low);
            __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(both),
                                            _mm256_extracti128_si256(both, 1));
            _mm_storel_epi64((__m128i *)(void *)(codes + (from + i) / 2),
                             _mm_packus_epi16(half, half));
        }
        rest_codes(c->code, dtype, here, inverse, i, m, codes + from / 2);
        absmax[from / block] = most;
    }
}

/* One function for each constant dtype and kind of code. */
#define FORM(name, target, body, fp4, dtype)                                                      \
    target static void name(const pb_cpu_code4 *c, const void *x, int64_t n, int64_t block,       \
                            uint8_t *codes, float *absmax) {                                      \
        body(c, fp4, dtype, x, n, block, codes, absmax);                                          \
    }
FORM(f32_avx512, AVX512, blocks_avx512, false, PB_F32)
FORM(bf16_avx512, AVX512, blocks_avx512, false, PB_BF16)
FORM(fp4_f32_avx512, AVX512, blocks_avx512, true, PB_F32)
FORM(fp4_bf16_avx512, AVX512, blocks_avx512, true, PB_BF16)
FORM(f32_avx2, AVX2, blocks_avx2, false, PB_F32)
FORM(bf16_avx2, AVX2, blocks_avx2, false, PB_BF16)
FORM(fp4_f32_avx2, AVX2, blocks_avx2, true, PB_F32)
FORM(fp4_bf16_avx2, AVX2, blocks_avx2, true, PB_BF16)

typedef void blocks_fn(const pb_cpu_code4 *c, const void *x, int64_t n, int64_t block,
                       uint8_t *codes, float *absmax);
static blocks_fn *const forms[2][2][2] = {{{f32_avx2, bf16_avx2}, {fp4_f32_avx2, fp4_bf16_avx2}},
                                          {{f32_avx512, bf16_avx512},
                                           {fp4_f32_avx512, fp4_bf16_avx512}}};
#endif

/* Thresholds in order into the nodes of a tree in order. */
static int plant(pb_cpu_code4 *c, int node, int next) {
    if (node > 15) return next;
    next = plant(c, 2 * node, next);
    c->tree[node] = c->sorted[next];
    return plant(c, 2 * node + 1, next + 1);
}

void pb_cpu_code4_of(pb_code code, pb_cpu_code4 *c) {
    int n = 0;
    const float *threshold = pb_code_thresholds(code, &n);
    *c = (pb_cpu_code4){.code = code};
    for (int i = 0; i < 16; i++) c->sorted[i] = i < n ? threshold[i] : INFINITY;
    plant(c, 1, 0);
#ifdef HAVE_X86
    if (pb_cpu_has_avx512()) cells(c);
#endif
}

void pb_cpu_encode4(const pb_cpu_code4 *c, pb_dtype dtype, const void *x, int64_t n, int64_t block,
                    uint8_t *codes, float *absmax) {
#ifdef HAVE_X86
    bool avx512 = pb_cpu_has_avx512();
    if (avx512 || pb_cpu_has_avx2()) {
        forms[avx512][c->code == PB_CODE_FP4][dtype == PB_BF16](c, x, n, block, codes, absmax);
        return;
    }
#endif
    blocks_plain(c, dtype, x, n, block, codes, absmax);
}
