/* Conversions, random numbers, dropout and small sums that the op files share. */
#include "kernels/cpu/cpu.h"

PB_CLONES void pb_cpu_widen(float *dst, const uint16_t *src, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) dst[i] = pb_widen(src[i]);
}

PB_CLONES void pb_cpu_narrow(uint16_t *dst, const float *src, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) dst[i] = pb_narrow(src[i]);
}

PB_CLONES void pb_cpu_mul(float *y, const float *a, const float *b, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

PB_CLONES void pb_cpu_add(float *y, const float *a, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] += a[i];
}

PB_CLONES float pb_cpu_sum(const float *x, int64_t n) {
    pb_v16 s = {0};
    int64_t i = 0;
    for (; i + PB_LANES <= n; i += PB_LANES) s += pb_ld(x + i);
    if (i < n) s += pb_ld_part(x + i, n - i);
    return pb_hsum(&s);
}

PB_CLONES float pb_cpu_dot(const float *x, const float *y, int64_t n) {
    pb_v16 s = {0};
    int64_t i = 0;
    for (; i + PB_LANES <= n; i += PB_LANES) s += pb_ld(x + i) * pb_ld(y + i);
    if (i < n) s += pb_ld_part(x + i, n - i) * pb_ld_part(y + i, n - i);
    return pb_hsum(&s);
}

/* --- Philox4x32-10, 16 blocks at a time ----------------------------------------------------------------------------- */

/* High and low half of 32 x 32 bits in each lane. */
PB_INLINE void mul_hi_lo(const pb_v16u *a, uint32_t m, pb_v16u *hi, pb_v16u *lo) {
    typedef uint64_t v8 __attribute__((vector_size(64)));
    v8 even = (v8)*a & 0xffffffffu, odd = (v8)*a >> 32;
    even *= m;
    odd *= m;
    *hi = (pb_v16u)((even >> 32) | (odd & 0xffffffff00000000u));
    *lo = (pb_v16u)((even & 0xffffffffu) | (odd << 32));
}

/* 64 numbers: out[4*i+j] = word j of block+i. The counter's upper half may change inside the group. */
PB_INLINE void philox16(uint64_t key, uint64_t stream, uint64_t block, uint32_t *out) {
    const pb_v16u iota = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    pb_v16u c0 = (uint32_t)block + iota, zero = {0};
    pb_v16u c1 = (zero + (uint32_t)(block >> 32)) - (pb_v16u)(c0 < iota);
    pb_v16u c2 = zero + (uint32_t)stream, c3 = zero + (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        pb_v16u h0, l0, h1, l1;
        mul_hi_lo(&c0, 0xD2511F53u, &h0, &l0);
        mul_hi_lo(&c2, 0xCD9E8D57u, &h1, &l1);
        c0 = h1 ^ c1 ^ k0;
        c2 = h0 ^ c3 ^ k1;
        c1 = l1;
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    uint32_t w[4][16];
    memcpy(w[0], &c0, sizeof c0);
    memcpy(w[1], &c1, sizeof c1);
    memcpy(w[2], &c2, sizeof c2);
    memcpy(w[3], &c3, sizeof c3);
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 4; j++) out[4 * i + j] = w[j][i];
    }
}

PB_CLONES void pb_cpu_random(uint64_t key, uint64_t stream, uint64_t block, int64_t n_blocks, uint32_t *out) {
    int64_t i = 0;
    for (; i + 16 <= n_blocks; i += 16) philox16(key, stream, block + (uint64_t)i, out + 4 * i);
    if (i < n_blocks) {
        uint32_t last[64];
        philox16(key, stream, block + (uint64_t)i, last);
        memcpy(out + 4 * i, last, (size_t)(4 * (n_blocks - i)) * sizeof *out);
    }
}

/* --- dropout ------------------------------------------------------------------------------------------------------------ */

PB_CLONES static void factors(float *factor, const uint32_t *r, int64_t n, uint32_t threshold, float keep) {
    for (int64_t i = 0; i < n; i++) factor[i] = r[i] >= threshold ? keep : 0.0f;
}

void pb_cpu_drop_factors(pb_drop drop, uint64_t first, int64_t n, float *factor) {
    if (!(drop.p > 0.0f)) {
        for (int64_t i = 0; i < n; i++) factor[i] = 1.0f;
        return;
    }
    uint32_t r[PB_CPU_BLOCK + 4], threshold = pb_dropout_threshold(drop.p);
    float keep = 1.0f / (1.0f - drop.p);
    for (int64_t i = 0; i < n; i += PB_CPU_BLOCK) {
        uint64_t at = first + (uint64_t)i;
        int64_t m = pb_min64(PB_CPU_BLOCK, n - i), skip = (int64_t)(at % 4);
        pb_cpu_random(drop.key, drop.stream, at / 4, pb_ceil_div(skip + m, 4), r);
        factors(factor + i, r + skip, m, threshold, keep);
    }
}

void pb_cpu_drop_apply(pb_drop drop, uint64_t first, int64_t n, const float *x, float *out) {
    float factor[PB_CPU_BLOCK];
    if (!(drop.p > 0.0f)) {
        if (out != x) memcpy(out, x, (size_t)n * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < n; i += PB_CPU_BLOCK) {
        int64_t m = pb_min64(PB_CPU_BLOCK, n - i);
        pb_cpu_drop_factors(drop, first + (uint64_t)i, m, factor);
        pb_cpu_mul(out + i, x + i, factor, m);
    }
}

void pb_cpu_drop_rows(pb_drop drop, pb_tensor x, int64_t row, int64_t rows, void *u) {
    float xb[PB_CPU_BLOCK], ub[PB_CPU_BLOCK];
    int64_t cols = pb_cols(x);
    pb_tensor to = {.data = u, .dtype = x.dtype, .ndim = 2, .dim = {rows, cols}, .stride = cols};
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
            int64_t n = pb_min64(PB_CPU_BLOCK, cols - j), at = i * cols + j;
            const float *xp = pb_cpu_in(x, (row + i) * x.stride + j, n, xb);
            float *up = pb_cpu_out(to, at, ub);
            pb_cpu_drop_apply(drop, (uint64_t)((row + i) * cols + j), n, xp, up);
            pb_cpu_done(to, at, n, up);
        }
    }
}
