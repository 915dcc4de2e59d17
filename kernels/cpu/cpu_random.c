/* Philox4x32-10 (Salmon et al. 2011) for several blocks at a time, equal to pb_philox.
 *
 * A 64-bit lane holds one 32-bit word of one block in its lower half; the upper half is garbage that the 32 x 32 -> 64 bit
 * multiply ignores. A round is then 2 multiplies, 2 shifts and 2 three-way xors for 8 blocks (AVX-512) or 4 (AVX2). */
#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_X86 1
#endif

#define M0 0xD2511F53u
#define M1 0xCD9E8D57u
#define W0 0x9E3779B9u
#define W1 0xBB67AE85u

static void plain(uint64_t key, uint64_t stream, uint64_t block, int64_t n, uint32_t *out) {
    for (int64_t i = 0; i < n; i++) {
        pb_u32x4 r = pb_philox(key, stream, block + (uint64_t)i);
        memcpy(out + 4 * i, r.v, sizeof r.v);
    }
}

#ifdef HAVE_X86
static long long bits(uint64_t x) {
    long long v;
    memcpy(&v, &x, sizeof v);
    return v;
}

/* 16 blocks per turn, as two independent groups of 8. Returns how many blocks it did. */
__attribute__((target("avx512f"))) static int64_t random_avx512(uint64_t key, uint64_t stream, uint64_t block, int64_t n,
                                                                uint32_t *out) {
    const __m512i m0 = _mm512_set1_epi64(M0), m1 = _mm512_set1_epi64(M1), low = _mm512_set1_epi64(0xffffffff);
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512i c0[2], c1[2], c2[2], c3[2];
        for (int g = 0; g < 2; g++) {
            __m512i at = _mm512_add_epi64(_mm512_set1_epi64(bits(block + (uint64_t)(i + 8 * g))),
                                          _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
            c0[g] = at;
            c1[g] = _mm512_srli_epi64(at, 32);
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
            _mm512_storeu_si512(out + 4 * i + 32 * g, _mm512_permutex2var_epi64(even, first, odd));
            _mm512_storeu_si512(out + 4 * i + 32 * g + 16, _mm512_permutex2var_epi64(even, second, odd));
        }
    }
    return i;
}

/* 8 blocks per turn, as two groups of 4. */
__attribute__((target("avx2"))) static int64_t random_avx2(uint64_t key, uint64_t stream, uint64_t block, int64_t n,
                                                           uint32_t *out) {
    const __m256i m0 = _mm256_set1_epi64x(M0), m1 = _mm256_set1_epi64x(M1), low = _mm256_set1_epi64x(0xffffffff);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i c0[2], c1[2], c2[2], c3[2];
        for (int g = 0; g < 2; g++) {
            __m256i at = _mm256_add_epi64(_mm256_set1_epi64x(bits(block + (uint64_t)(i + 4 * g))),
                                          _mm256_setr_epi64x(0, 1, 2, 3));
            c0[g] = at;
            c1[g] = _mm256_srli_epi64(at, 32);
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
            __m256i even = _mm256_unpacklo_epi64(a, b), odd = _mm256_unpackhi_epi64(a, b); /* blocks 0 2 and 1 3 */
            __m256i *to = (__m256i *)(void *)(out + 4 * i + 16 * g);
            _mm256_storeu_si256(to, _mm256_permute2x128_si256(even, odd, 0x20));
            _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(even, odd, 0x31));
        }
    }
    return i;
}
#endif

/* What is left over is drawn in a full group whose rest is thrown away: cheaper than one block after the other. */
void pb_cpu_random(uint64_t key, uint64_t stream, uint64_t block, int64_t n_blocks, uint32_t *out) {
    int64_t done = 0;
#ifdef HAVE_X86
    bool avx512 = __builtin_cpu_supports("avx512f");
    if (avx512 || __builtin_cpu_supports("avx2")) {
        uint32_t last[64];
        done = avx512 ? random_avx512(key, stream, block, n_blocks, out) : random_avx2(key, stream, block, n_blocks, out);
        int64_t left = n_blocks - done;
        if (left >= 2) {
            uint64_t from = block + (uint64_t)done;
            (void)(avx512 ? random_avx512(key, stream, from, 16, last) : random_avx2(key, stream, from, 16, last));
            memcpy(out + 4 * done, last, (size_t)left * 16);
            done = n_blocks;
        }
    }
#endif
    plain(key, stream, block + (uint64_t)done, n_blocks - done, out + 4 * done);
}
