/* Conversions, dropout and elementwise helpers that the op files share. */
#include "kernels/cpu/cpu.h"

PB_CLONES void pb_cpu_widen(float *dst, const uint16_t *src, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) dst[i] = pb_widen(src[i]);
}

PB_CLONES static void narrow(uint16_t *dst, const float *src, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) dst[i] = pb_narrow(src[i]);
}

void pb_cpu_narrow(uint16_t *dst, const float *src, int64_t n) {
    int64_t done = pb_cpu_narrow_lines(dst, src, n);
    narrow(dst + done, src + done, n - done);
}

void pb_cpu_done_past(pb_tensor t, int64_t at, int64_t n, const float *buf, bool past) {
    uint16_t half[PB_CPU_BLOCK];
    if (!past) {
        pb_cpu_done(t, at, n, buf);
    } else if (t.dtype == PB_F32) {
        pb_cpu_store_past((float *)t.data + at, buf, (size_t)n * sizeof *buf);
    } else {
        for (int64_t i = 0; i < n; i += PB_CPU_BLOCK) {
            int64_t m = pb_min64(PB_CPU_BLOCK, n - i);
            pb_cpu_narrow(half, buf + i, m);
            pb_cpu_store_past((uint16_t *)t.data + at + i, half, (size_t)m * sizeof *half);
        }
    }
}

PB_CLONES void pb_cpu_mul(float *y, const float *a, const float *b, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

PB_CLONES void pb_cpu_plus(float *y, const float *a, const float *b, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

PB_CLONES void pb_cpu_scale(float *y, const float *a, float factor, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = factor * a[i];
}

PB_CLONES void pb_cpu_add_bf16(float *y, const uint16_t *a, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] += pb_widen(a[i]);
}

/* --- dropout --------------------------------------------------------------------------------- */

PB_CLONES static void factors(float *factor, const uint32_t *r, int64_t n, uint32_t threshold,
                              float keep) {
    for (int64_t i = 0; i < n; i++) factor[i] = r[i] >= threshold ? keep : 0.0f;
}

/* The random bits of n elements, in r, which has room for 4 more. */
static const uint32_t *draws(pb_drop drop, uint64_t first, int64_t n, uint32_t *r) {
    int64_t skip = (int64_t)(first % 4);
    pb_cpu_random(drop.key, drop.stream, first / 4, pb_ceil_div(skip + n, 4), r);
    return r + skip;
}

void pb_cpu_drop_factors(pb_drop drop, uint64_t first, int64_t n, float *factor) {
    if (!(drop.p > 0.0f)) {
        for (int64_t i = 0; i < n; i++) factor[i] = 1.0f;
        return;
    }
    uint32_t r[PB_CPU_BLOCK + 4], threshold = pb_dropout_threshold(drop.p);
    float keep = 1.0f / (1.0f - drop.p);
    for (int64_t i = 0; i < n; i += PB_CPU_BLOCK) {
        int64_t m = pb_min64(PB_CPU_BLOCK, n - i);
        factors(factor + i, draws(drop, first + (uint64_t)i, m, r), m, threshold, keep);
    }
}

void pb_cpu_drop_factor_rows(pb_drop drop, uint64_t first, uint64_t pitch, int64_t rows, int64_t n,
                             float *factor, int64_t ld) {
    uint32_t r[PB_CPU_BLOCK], threshold = pb_dropout_threshold(drop.p);
    float keep = 1.0f / (1.0f - drop.p);
    if (n > PB_CPU_BLOCK / 8) {
        for (int64_t i = 0; i < rows; i++)
            pb_cpu_drop_factors(drop, first + (uint64_t)i * pitch, n, factor + i * ld);
        return;
    }
    int64_t step = n > 0 ? PB_CPU_BLOCK / n : rows;
    for (int64_t i = 0; i < rows; i += step) {
        int64_t m = pb_min64(step, rows - i);
        pb_cpu_random_rows(drop.key, drop.stream, first + (uint64_t)i * pitch, pitch, m, n, r, n);
        for (int64_t k = 0; k < m; k++)
            factors(factor + (i + k) * ld, r + k * n, n, threshold, keep);
    }
}

PB_CLONES static void dropped(float *y, const float *x, const uint32_t *r, int64_t n,
                              uint32_t threshold, float keep) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * (r[i] >= threshold ? keep : 0.0f);
}

void pb_cpu_drop_apply(pb_drop drop, uint64_t first, int64_t n, const float *x, float *out) {
    if (!(drop.p > 0.0f)) {
        if (out != x) memcpy(out, x, (size_t)n * sizeof *out);
        return;
    }
    uint32_t r[PB_CPU_BLOCK + 4], threshold = pb_dropout_threshold(drop.p);
    float keep = 1.0f / (1.0f - drop.p);
    for (int64_t i = 0; i < n; i += PB_CPU_BLOCK) {
        int64_t m = pb_min64(PB_CPU_BLOCK, n - i);
        dropped(out + i, x + i, draws(drop, first + (uint64_t)i, m, r), m, threshold, keep);
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
