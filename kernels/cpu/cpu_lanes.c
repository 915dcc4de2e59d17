/* cpu_lanes_impl.h for three instruction sets, and the choice between them. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif
#include "kernels/cpu/cpu_lanes.h"

#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/cpu_math.h"

typedef struct pb_small { /* what stays the same within one small product */
    int64_t k, row, col, ldb, ldc;
    bool add;
} pb_small;

#define CHAINS 4

typedef float pb_v4 __attribute__((vector_size(16)));
typedef uint32_t pb_v4u __attribute__((vector_size(16)));

#define WIDTH 4
#define ROWS 6
#define TARGET
#if defined(__x86_64__)
#define STORE_PAST(p, v) _mm_stream_ps((float *)(void *)(p), (__m128)(v))
#define LARGER(a, b) (vec) _mm_max_ps(a, b)
#else
#define STORE_PAST(p, v) memcpy(p, &(v), sizeof(v))
#define LARGER(a, b) FN(larger)(a, b)
#endif
#define FN(name) name##_base
#include "kernels/cpu/cpu_lanes_impl.h"
#undef WIDTH
#undef ROWS
#undef TARGET
#undef STORE_PAST
#undef LARGER
#undef FN

#if defined(__x86_64__)
#define WIDTH 8
#define ROWS 6
#define TARGET __attribute__((target("avx2,fma")))
#define STORE_PAST(p, v) _mm256_stream_ps((float *)(void *)(p), (__m256)(v))
#define LARGER(a, b) (vec) _mm256_max_ps(a, b)
#define FN(name) name##_avx2
#include "kernels/cpu/cpu_lanes_impl.h"
#undef WIDTH
#undef ROWS
#undef TARGET
#undef STORE_PAST
#undef LARGER
#undef FN

#define WIDTH 16
#define ROWS 8
#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
#define STORE_PAST(p, v) _mm512_stream_ps((float *)(void *)(p), (__m512)(v))
#define LARGER(a, b) (vec) _mm512_max_ps(a, b)
#define FN(name) name##_avx512
#include "kernels/cpu/cpu_lanes_impl.h"

#define CALL(name, ...)                               \
    (pb_cpu_has_avx512() ? name##_avx512(__VA_ARGS__) \
     : pb_cpu_has_avx2() ? name##_avx2(__VA_ARGS__)   \
                         : name##_base(__VA_ARGS__))
#else
#define CALL(name, ...) name##_base(__VA_ARGS__)
#endif

float pb_cpu_sum(const float *x, int64_t n) { return CALL(sum, x, n); }
float pb_cpu_dot(const float *x, const float *y, int64_t n) { return CALL(dot, x, y, n); }
float pb_cpu_centred_squares(const float *x, float mean, int64_t n) {
    return CALL(centred_squares, x, mean, n);
}
float pb_cpu_max(const float *x, int64_t n) { return CALL(max, x, n); }
float pb_cpu_absmax(const float *x, int64_t n) { return CALL(absmax, x, n); }
double pb_cpu_sum_double(const float *x, int64_t n) { return CALL(sum_double, x, n); }

#if defined(__x86_64__)
/* A third of the instructions that whole numbers take. The CPU takes denormal numbers for 0, which an
 * exact copy must not: a line that has one goes the other way. */
#define BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512bf16")))

BF16 static inline __attribute__((always_inline)) void narrow_line(uint16_t *dst, __m512 a,
                                                                   __m512 b) {
    enum { denormal = 0x20 };
    if (_mm512_fpclass_ps_mask(a, denormal) | _mm512_fpclass_ps_mask(b, denormal)) {
        float line[32];
        _mm512_storeu_ps(line, a);
        _mm512_storeu_ps(line + 16, b);
        for (int k = 0; k < 32; k++) dst[k] = pb_narrow(line[k]);
    } else {
        __m512bh h = _mm512_cvtne2ps_pbh(b, a);
        memcpy(dst, &h, sizeof h);
    }
}

BF16 static void narrow_lines(uint16_t *dst, const float *src, int64_t n) {
    for (int64_t i = 0; i < n; i += 32)
        narrow_line(dst + i, _mm512_loadu_ps(src + i), _mm512_loadu_ps(src + i + 16));
}

BF16 static inline __attribute__((always_inline)) __m512 widen16(const uint16_t *src) {
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)src);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

BF16 void pb_cpu_blend_lines(uint16_t *y, const float *x, float alpha, float beta, int64_t n) {
    __m512 av = _mm512_set1_ps(alpha), bv = _mm512_set1_ps(beta);
    for (int64_t i = 0; i < n; i += 32) {
        __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + i + 16);
        __m512 ya = bv, yb = bv; /* beta 0: y is not read */
        if (beta != 0.0f) {
            ya = _mm512_mul_ps(bv, widen16(y + i));
            yb = _mm512_mul_ps(bv, widen16(y + i + 16));
        }
        __m512bh h = _mm512_cvtne2ps_pbh(_mm512_fmadd_ps(av, b, yb), _mm512_fmadd_ps(av, a, ya));
        memcpy(y + i, &h, sizeof h);
    }
}
#endif

int64_t pb_cpu_narrow_lines(uint16_t *dst, const float *src, int64_t n) {
#if defined(__x86_64__)
    if (pb_cpu_has_avx512() && __builtin_cpu_supports("avx512bf16")) {
        narrow_lines(dst, src, n / 32 * 32);
        return n / 32 * 32;
    }
#endif
    return 0;
}

void pb_cpu_store_past(void *dst, const void *src, size_t bytes) {
    CALL(store_past, dst, src, bytes);
}

void pb_cpu_past_end(void) {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

float pb_cpu_softmax_row(float *s, int64_t keys, int64_t padded, float scale, float *max) {
    return CALL(softmax_row, s, keys, padded, scale, max);
}

void pb_cpu_probability_row(float *s, int64_t keys, int64_t padded, float scale, float lse) {
    CALL(probability_row, s, keys, padded, scale, lse);
}

void pb_cpu_score_gradient_row(float *dp, const float *p, int64_t padded, float scale) {
    CALL(score_gradient_row, dp, p, padded, scale);
}

void pb_cpu_small_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t row, int64_t col,
                          const float *b, int64_t ldb, float *c, int64_t ldc, bool add) {
    pb_small o = {k, row, col, ldb, ldc, add};
    CALL(small_product, &o, m, n, a, b, c);
}

/* --- transpose: blocks of 16 x 16 in registers, or of 4 x 4 ---------------------------------- */

#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

static void transpose4(float *dst, int64_t ld, const float *src, int64_t ld_src) {
    pb_v4 a, b, c, d;
    memcpy(&a, src, sizeof a);
    memcpy(&b, src + ld_src, sizeof b);
    memcpy(&c, src + 2 * ld_src, sizeof c);
    memcpy(&d, src + 3 * ld_src, sizeof d);
    pb_v4 ab = PICK(a, b, 0, 4, 1, 5), ab2 = PICK(a, b, 2, 6, 3, 7), cd = PICK(c, d, 0, 4, 1, 5),
          cd2 = PICK(c, d, 2, 6, 3, 7);
    pb_v4 out[4] = {PICK(ab, cd, 0, 1, 4, 5), PICK(ab, cd, 2, 3, 6, 7), PICK(ab2, cd2, 0, 1, 4, 5),
                    PICK(ab2, cd2, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++) memcpy(dst + i * ld, &out[i], sizeof out[i]);
}

/* rows, cols: at most 16; missing rows are zeros. */
static void block_base(float *dst, int64_t ld, const float *src, int64_t ld_src, int64_t rows,
                       int64_t cols) {
    for (int64_t i = 0; i < PB_LANES; i += 4) {
        int64_t j = 0;
        for (; i + 4 <= rows && j + 4 <= cols; j += 4)
            transpose4(dst + j * ld + i, ld, src + i * ld_src + j, ld_src);
        for (; j < cols; j++) {
            for (int64_t r = i; r < i + 4; r++)
                dst[j * ld + r] = r < rows ? src[r * ld_src + j] : 0.0f;
        }
    }
}

#if defined(__x86_64__)
typedef float v16 __attribute__((vector_size(64)));

/* In four steps rows at distance 8, 4, 2, 1 exchange halves, quarters, pairs, neighbours. */
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) static void
block_avx512(float *dst, int64_t ld, const float *src, int64_t ld_src, int64_t rows) {
    v16 v[16], t[16];
    PB_UNROLL
    for (int i = 0; i < 16; i++) {
        v[i] = (v16){0};
        if (i < rows) memcpy(&v[i], src + i * ld_src, sizeof v[i]);
    }
    PB_UNROLL
    for (int i = 0; i < 8; i++) {
        t[i] = PICK(v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        t[i + 8] =
            PICK(v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
    PB_UNROLL
    for (int i = 0; i < 16; i++) {
        if (i & 4) continue;
        v[i] = PICK(t[i], t[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
        v[i + 4] = PICK(t[i], t[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    }
    PB_UNROLL
    for (int i = 0; i < 16; i++) {
        if (i & 2) continue;
        t[i] = PICK(v[i], v[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
        t[i + 2] = PICK(v[i], v[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
    PB_UNROLL
    for (int i = 0; i < 16; i += 2) {
        v[i] = PICK(t[i], t[i + 1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
        v[i + 1] = PICK(t[i], t[i + 1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    }
    PB_UNROLL
    for (int i = 0; i < 16; i++) memcpy(dst + i * ld, &v[i], sizeof v[i]);
}
#endif

void pb_cpu_transpose(float *dst, int64_t ld, const float *src, int64_t ld_src, int64_t rows,
                      int64_t cols) {
    for (int64_t i = 0; i < rows; i += PB_LANES) {
        int64_t have = rows - i < PB_LANES ? rows - i : PB_LANES;
        for (int64_t j = 0; j < cols; j += PB_LANES) {
            int64_t width = cols - j < PB_LANES ? cols - j : PB_LANES;
            const float *from = src + i * ld_src + j;
            float *to = dst + j * ld + i;
#if defined(__x86_64__)
            if (width == PB_LANES && pb_cpu_has_avx512()) {
                block_avx512(to, ld, from, ld_src, have);
                continue;
            }
#endif
            block_base(to, ld, from, ld_src, have, width);
        }
    }
}
