/* Philox4x32-10 (Salmon et al. 2011) for 32 blocks at a time, equal to pb_philox.
 *
 * A 64-bit lane holds one 32-bit word of one block in its lower half; the upper half is garbage
 * that the 32 x 32 -> 64 bit multiply ignores. A round is then 2 multiplies, 2 shifts and 2
 * three-way xors for 8 blocks (AVX-512) or 4 (AVX2). Four or two such groups go side by side,
 * since a round's latency is twice what its instructions take. In a run of blocks whose upper 32
 * bits are equal the first round changes half of the words only, the second leaves a product as it
 * was: the compiler takes what is the same for all out of the loop, five of 60 instructions. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_X86 1
#endif

#define M0 0xD2511F53u
#define M1 0xCD9E8D57u
#define W0 0x9E3779B9u
#define W1 0xBB67AE85u
#define SET 32 /* blocks drawn together */

/* Draws `sets` times 32 blocks from `block` on, whose upper 32 bits are taken to be equal; what of
 * the last set is beyond that is garbage. */
typedef void (*run_fn)(uint64_t key, uint64_t stream, uint64_t block, int64_t sets, uint32_t *out);
/* 32 blocks whose numbers are given. */
typedef void (*list_fn)(uint64_t key, uint64_t stream, const uint64_t block[SET],
                        uint32_t out[4 * SET]);
typedef struct philox {
    run_fn run;
    list_fn list;
} philox;

#ifdef HAVE_X86
static inline long long bits(uint64_t x) {
    long long v;
    memcpy(&v, &x, sizeof v);
    return v;
}

#define AVX512 __attribute__((target("avx512f")))

/* Word w of the 8 blocks of group g is c[w][g]. Lanes 0 2 4 6 1 3 5 7 hold blocks 0 to 7, so that
 * the words of neighbours, put together, are neighbours in memory. */
AVX512 static inline __attribute__((always_inline)) void
draw_avx512(uint64_t key, __m512i c[4][4], uint32_t out[4 * SET]) {
    const __m512i m0 = _mm512_set1_epi64(M0), m1 = _mm512_set1_epi64(M1);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    PB_UNROLL
    for (int round = 0; round < 10; round++, k0 += W0, k1 += W1) {
        __m512i kv0 = _mm512_set1_epi64(k0), kv1 = _mm512_set1_epi64(k1);
        PB_UNROLL
        for (int g = 0; g < 4; g++) {
            __m512i p0 = _mm512_mul_epu32(c[0][g], m0), p1 = _mm512_mul_epu32(c[2][g], m1);
            c[0][g] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), c[1][g], kv0, 0x96);
            c[2][g] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), c[3][g], kv1, 0x96);
            c[1][g] = p1;
            c[3][g] = p0;
        }
    }
    PB_UNROLL
    for (int g = 0; g < 4; g++) { /* words 0 1 and 2 3 of each block side by side */
        __m512i a = _mm512_mask_shuffle_epi32(c[0][g], 0xaaaa, c[1][g], _MM_PERM_CCAA);
        __m512i b = _mm512_mask_shuffle_epi32(c[2][g], 0xaaaa, c[3][g], _MM_PERM_CCAA);
        _mm512_storeu_si512(out + 32 * g, _mm512_unpacklo_epi64(a, b));
        _mm512_storeu_si512(out + 32 * g + 16, _mm512_unpackhi_epi64(a, b));
    }
}

AVX512 static void run_avx512(uint64_t key, uint64_t stream, uint64_t block, int64_t sets,
                              uint32_t *out) {
    const __m512i lane = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    const __m512i upper = _mm512_set1_epi64(bits(block >> 32));
    const __m512i s0 = _mm512_set1_epi64(bits(stream)), s1 = _mm512_set1_epi64(bits(stream >> 32));
    for (int64_t i = 0; i < sets; i++, block += SET, out += 4 * SET) {
        __m512i c[4][4];
        PB_UNROLL
        for (int g = 0; g < 4; g++) {
            c[0][g] = _mm512_add_epi64(_mm512_set1_epi64(bits(block + 8 * (uint64_t)g)), lane);
            c[1][g] = upper;
            c[2][g] = s0;
            c[3][g] = s1;
        }
        draw_avx512(key, c, out);
    }
}

AVX512 static void list_avx512(uint64_t key, uint64_t stream, const uint64_t block[SET],
                               uint32_t out[4 * SET]) {
    const __m512i lane = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    __m512i c[4][4];
    PB_UNROLL
    for (int g = 0; g < 4; g++) {
        c[0][g] = _mm512_permutexvar_epi64(lane, _mm512_loadu_si512(block + 8 * g));
        c[1][g] = _mm512_srli_epi64(c[0][g], 32);
        c[2][g] = _mm512_set1_epi64(bits(stream));
        c[3][g] = _mm512_set1_epi64(bits(stream >> 32));
    }
    draw_avx512(key, c, out);
}

/* The same with two groups of 4 (16 registers hold no more), lanes 0 2 1 3. */
#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __attribute__((always_inline)) void draw_avx2(uint64_t key, __m256i c[4][2],
                                                                 uint32_t out[SET]) {
    const __m256i m0 = _mm256_set1_epi64x(M0), m1 = _mm256_set1_epi64x(M1);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    PB_UNROLL
    for (int round = 0; round < 10; round++, k0 += W0, k1 += W1) {
        __m256i kv0 = _mm256_set1_epi64x(k0), kv1 = _mm256_set1_epi64x(k1);
        PB_UNROLL
        for (int g = 0; g < 2; g++) {
            __m256i p0 = _mm256_mul_epu32(c[0][g], m0), p1 = _mm256_mul_epu32(c[2][g], m1);
            c[0][g] = _mm256_xor_si256(_mm256_srli_epi64(p1, 32), _mm256_xor_si256(c[1][g], kv0));
            c[2][g] = _mm256_xor_si256(_mm256_srli_epi64(p0, 32), _mm256_xor_si256(c[3][g], kv1));
            c[1][g] = p1;
            c[3][g] = p0;
        }
    }
    PB_UNROLL
    for (int g = 0; g < 2; g++) {
        __m256i a = _mm256_blend_epi32(c[0][g], _mm256_slli_epi64(c[1][g], 32), 0xaa);
        __m256i b = _mm256_blend_epi32(c[2][g], _mm256_slli_epi64(c[3][g], 32), 0xaa);
        __m256i *to = (__m256i *)(void *)(out + 16 * g);
        _mm256_storeu_si256(to, _mm256_unpacklo_epi64(a, b));
        _mm256_storeu_si256(to + 1, _mm256_unpackhi_epi64(a, b));
    }
}

AVX2 static void run_avx2(uint64_t key, uint64_t stream, uint64_t block, int64_t sets,
                          uint32_t *out) {
    const __m256i lane = _mm256_setr_epi64x(0, 2, 1, 3);
    const __m256i upper = _mm256_set1_epi64x(bits(block >> 32));
    const __m256i s0 = _mm256_set1_epi64x(bits(stream)),
                  s1 = _mm256_set1_epi64x(bits(stream >> 32));
    for (int64_t i = 0; i < 4 * sets; i++, block += 8, out += 32) {
        __m256i at = _mm256_add_epi64(_mm256_set1_epi64x(bits(block)), lane);
        __m256i c[4][2] = {{at, _mm256_add_epi64(at, _mm256_set1_epi64x(4))},
                           {upper, upper},
                           {s0, s0},
                           {s1, s1}};
        draw_avx2(key, c, out);
    }
}

AVX2 static void list_avx2(uint64_t key, uint64_t stream, const uint64_t block[SET],
                           uint32_t out[4 * SET]) {
    const __m256i s0 = _mm256_set1_epi64x(bits(stream)),
                  s1 = _mm256_set1_epi64x(bits(stream >> 32));
    for (int i = 0; i < SET; i += 8) {
        __m256i c[4][2];
        for (int g = 0; g < 2; g++) {
            const __m256i *from = (const __m256i *)(const void *)(block + i + 4 * g);
            c[0][g] = _mm256_permute4x64_epi64(_mm256_loadu_si256(from), 0xd8);
            c[1][g] = _mm256_srli_epi64(c[0][g], 32);
            c[2][g] = s0;
            c[3][g] = s1;
        }
        draw_avx2(key, c, out + 4 * i);
    }
}
#endif

static void run_plain(uint64_t key, uint64_t stream, uint64_t block, int64_t sets, uint32_t *out) {
    for (int64_t i = 0; i < sets * SET; i++) {
        pb_u32x4 r = pb_philox(key, stream, block + (uint64_t)i);
        memcpy(out + 4 * i, r.v, sizeof r.v);
    }
}

static void list_plain(uint64_t key, uint64_t stream, const uint64_t block[SET],
                       uint32_t out[4 * SET]) {
    for (int i = 0; i < SET; i++) {
        pb_u32x4 r = pb_philox(key, stream, block[i]);
        memcpy(out + 4 * i, r.v, sizeof r.v);
    }
}

static philox generator(void) {
#ifdef HAVE_X86
    if (pb_cpu_has_avx512()) return (philox){run_avx512, list_avx512};
    if (pb_cpu_has_avx2()) return (philox){run_avx2, list_avx2};
#endif
    return (philox){run_plain, list_plain};
}

/* A whole set whose rest is thrown away is cheaper than one block after the other. */
void pb_cpu_random(uint64_t key, uint64_t stream, uint64_t block, int64_t n_blocks, uint32_t *out) {
    run_fn run = generator().run;
    while (n_blocks > 0) {
        int64_t same = (int64_t)(UINT64_C(1) << 32) - (int64_t)(uint32_t)block;
        int64_t n = pb_min64(n_blocks, same), whole = n / SET;
        run(key, stream, block, whole, out);
        if (n % SET != 0) {
            uint32_t last[4 * SET];
            run(key, stream, block + (uint64_t)(whole * SET), 1, last);
            memcpy(out + whole * 4 * SET, last, (size_t)(n % SET) * 16);
        }
        block += (uint64_t)n;
        n_blocks -= n;
        out += 4 * n;
    }
}

/* Short rows share a set of blocks: row after row is put on the list, and each full set is drawn at
 * once. */
void pb_cpu_random_rows(uint64_t key, uint64_t stream, uint64_t first, uint64_t pitch, int64_t rows,
                        int64_t n, uint32_t *out, int64_t ld) {
    list_fn list = generator().list;
    uint64_t at[SET] = {0};
    uint32_t r[4 * SET], *to[SET] = {0};
    int64_t skip[SET] = {0}, count[SET] = {0};
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
            if (used < SET && (index < end || row + 1 < rows)) continue;
            list(key, stream, at, r);
            for (int k = 0; k < used; k++) {
                for (int64_t j = 0; j < count[k]; j++) to[k][j] = r[4 * k + skip[k] + j];
            }
            used = 0;
        }
    }
}
