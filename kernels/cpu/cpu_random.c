/* Philox4x32-10 (Salmon et al. 2011) for several blocks at a time, equal to pb_philox.
 *
 * A 64-bit lane holds one 32-bit word of one block in its lower half; the upper half is garbage
 * that the 32 x 32 -> 64 bit multiply ignores. A round is then 2 multiplies, 2 shifts and 2
 * three-way xors for 8 blocks (AVX-512) or 4 (AVX2). */
#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_X86 1
#endif

#define M0 0xD2511F53u
#define M1 0xCD9E8D57u
#define W0 0x9E3779B9u
#define W1 0xBB67AE85u

#ifdef HAVE_X86
static long long bits(uint64_t x) {
    long long v;
    memcpy(&v, &x, sizeof v);
    return v;
}

/* 16 blocks whose numbers are given, as two independent groups of 8. */
__attribute__((target("avx512f"))) static void
draw16_avx512(uint64_t key, uint64_t stream, const uint64_t block[16], uint32_t out[64]) {
    const __m512i m0 = _mm512_set1_epi64(M0), m1 = _mm512_set1_epi64(M1),
                  low = _mm512_set1_epi64(0xffffffff);
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    __m512i c0[2], c1[2], c2[2], c3[2];
    for (int g = 0; g < 2; g++) {
        c0[g] = _mm512_loadu_si512(block + 8 * g);
        c1[g] = _mm512_srli_epi64(c0[g], 32);
        c2[g] = _mm512_set1_epi64(bits(stream));
        c3[g] = _mm512_set1_epi64(bits(stream >> 32));
    }
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        __m512i kv0 = _mm512_set1_epi64(k0), kv1 = _mm512_set1_epi64(k1);
        for (int g = 0; g < 2; g++) {
            __m512i p0 = _mm512_mul_epu32(c0[g], m0), p1 = _mm512_mul_epu32(c2[g], m1);
            c0[g] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), c1[g], kv0, 0x96);
            c2[g] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), c3[g], kv1, 0x96);
            c1[g] = p1;
            c3[g] = p0;
        }
        k0 += W0;
        k1 += W1;
    }
    for (int g = 0; g < 2; g++) {
        /* Words 0, 1 and 2, 3 of each block side by side, then the pairs of a block. */
        __m512i a = _mm512_or_si512(_mm512_and_si512(c0[g], low), _mm512_slli_epi64(c1[g], 32));
        __m512i b = _mm512_or_si512(_mm512_and_si512(c2[g], low), _mm512_slli_epi64(c3[g], 32));
        __m512i even = _mm512_unpacklo_epi64(a, b), odd = _mm512_unpackhi_epi64(a, b);
        _mm512_storeu_si512(out + 32 * g, _mm512_permutex2var_epi64(even, first, odd));
        _mm512_storeu_si512(out + 32 * g + 16, _mm512_permutex2var_epi64(even, second, odd));
    }
}

/* The same as four groups of 4. */
__attribute__((target("avx2"))) static void
draw16_avx2(uint64_t key, uint64_t stream, const uint64_t block[16], uint32_t out[64]) {
    const __m256i m0 = _mm256_set1_epi64x(M0), m1 = _mm256_set1_epi64x(M1),
                  low = _mm256_set1_epi64x(0xffffffff);
    for (int half = 0; half < 2; half++) {
        __m256i c0[2], c1[2], c2[2], c3[2];
        for (int g = 0; g < 2; g++) {
            c0[g] = _mm256_loadu_si256((const __m256i *)(const void *)(block + 8 * half + 4 * g));
            c1[g] = _mm256_srli_epi64(c0[g], 32);
            c2[g] = _mm256_set1_epi64x(bits(stream));
            c3[g] = _mm256_set1_epi64x(bits(stream >> 32));
        }
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        for (int round = 0; round < 10; round++) {
            __m256i kv0 = _mm256_set1_epi64x(k0), kv1 = _mm256_set1_epi64x(k1);
            for (int g = 0; g < 2; g++) {
                __m256i p0 = _mm256_mul_epu32(c0[g], m0), p1 = _mm256_mul_epu32(c2[g], m1);
                c0[g] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1[g]), kv0);
                c2[g] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3[g]), kv1);
                c1[g] = p1;
                c3[g] = p0;
            }
            k0 += W0;
            k1 += W1;
        }
        for (int g = 0; g < 2; g++) {
            __m256i a = _mm256_or_si256(_mm256_and_si256(c0[g], low), _mm256_slli_epi64(c1[g], 32));
            __m256i b = _mm256_or_si256(_mm256_and_si256(c2[g], low), _mm256_slli_epi64(c3[g], 32));
            __m256i even = _mm256_unpacklo_epi64(a, b),
                    odd = _mm256_unpackhi_epi64(a, b); /* blocks 0 2 and 1 3 */
            __m256i *to = (__m256i *)(void *)(out + 32 * half + 16 * g);
            _mm256_storeu_si256(to, _mm256_permute2x128_si256(even, odd, 0x20));
            _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(even, odd, 0x31));
        }
    }
}
#endif

static void draw16_plain(uint64_t key, uint64_t stream, const uint64_t block[16],
                         uint32_t out[64]) {
    for (int i = 0; i < 16; i++) {
        pb_u32x4 r = pb_philox(key, stream, block[i]);
        memcpy(out + 4 * i, r.v, sizeof r.v);
    }
}

typedef void (*draw16_fn)(uint64_t key, uint64_t stream, const uint64_t block[16],
                          uint32_t out[64]);

static draw16_fn draw16(void) {
#ifdef HAVE_X86
    if (__builtin_cpu_supports("avx512f")) return draw16_avx512;
    if (__builtin_cpu_supports("avx2")) return draw16_avx2;
#endif
    return draw16_plain;
}

void pb_cpu_random(uint64_t key, uint64_t stream, uint64_t block, int64_t n_blocks, uint32_t *out) {
    draw16_fn draw = draw16();
    for (int64_t i = 0; i < n_blocks; i += 16) {
        uint64_t at[16];
        uint32_t last[64];
        for (int k = 0; k < 16; k++) at[k] = block + (uint64_t)(i + k);
        if (n_blocks - i >= 16) {
            draw(key, stream, at, out + 4 * i);
        } else { /* a full group whose rest is thrown away is cheaper than one block after the other
                  */
            draw(key, stream, at, last);
            memcpy(out + 4 * i, last, (size_t)(n_blocks - i) * 16);
        }
    }
}

/* Short rows share a group of 16 blocks: row after row is put on the list, and each full group is
 * drawn at once. */
void pb_cpu_random_rows(uint64_t key, uint64_t stream, uint64_t first, uint64_t pitch, int64_t rows,
                        int64_t n, uint32_t *out, int64_t ld) {
    draw16_fn draw = draw16();
    uint64_t at[16] = {0};
    uint32_t r[64], *to[16] = {0};
    int64_t skip[16] = {0}, count[16] = {0};
    int used = 0;
    for (int64_t row = 0; row < rows; row++) {
        uint64_t index = first + (uint64_t)row * pitch, end = index + (uint64_t)n;
        while (index < end) {
            uint64_t next = (index / 4 + 1) * 4;
            at[used] = index / 4;
            skip[used] = (int64_t)(index % 4);
            count[used] = (int64_t)((next < end ? next : end) - index);
            to[used] = out + row * ld + (int64_t)(index - (end - (uint64_t)n));
            index += (uint64_t)count[used++];
            if (used < 16 && (index < end || row + 1 < rows)) continue;
            draw(key, stream, at, r);
            for (int k = 0; k < used; k++) {
                for (int64_t j = 0; j < count[k]; j++) to[k][j] = r[4 * k + skip[k] + j];
            }
            used = 0;
        }
    }
}
