/* Vectorised encoders of the cpu backend against the one definition of the codes (kernels/core/quant.h), where rounding
 * decides: every value within a few units of a border, ties, both signs, values that are no numbers, short and odd blocks. */
#include <math.h>
#include <stdlib.h>

#include "kernels/core/quant.h"
#include "kernels/ops.h"
#include "tests/support.h"

#define BLOCK PB_QUANT8_BLOCK

static pb_device *dev;

static void *made(pb_dtype dtype, int64_t rows, int64_t cols, pb_tensor *t) {
    pb_assert_ok(pb_alloc2(dev, PB_MEM_DATA, dtype, rows, cols, t));
    return t->data;
}

/* The float `units` above f. */
static float moved(float f, int units) {
    int32_t bits;
    memcpy(&bits, &f, sizeof bits);
    bits = bits < 0 ? INT32_MIN - bits : bits;
    bits += units;
    bits = bits < 0 ? INT32_MIN - bits : bits;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* --- 8 bits: moments that one step from zero makes, m = g and v = g * g ----------------------- */

/* Every block ends with 1, its absmax, so that codes are those of the values themselves. */
static void check8(const float *x, int64_t n, bool second) {
    int64_t blocks = n / (BLOCK - 1) + 1, size = blocks * BLOCK;
    pb_tensor w, g, m, v, ma, va;
    made(PB_F32, 1, size, &w);
    float *gp = made(PB_F32, 1, size, &g);
    uint8_t *mp = made(PB_U8, 1, size, &m), *vp = made(PB_U8, 1, size, &v);
    made(PB_F32, 1, blocks, &ma);
    made(PB_F32, 1, blocks, &va);
    memset(mp, 0, (size_t)size);
    memset(vp, 0, (size_t)size);
    for (int64_t i = 0; i < blocks; i++) ((float *)ma.data)[i] = ((float *)va.data)[i] = 0.0f;
    for (int64_t i = 0; i < size; i++) {
        ((float *)w.data)[i] = 0.0f;
        int64_t k = i / BLOCK * (BLOCK - 1) + i % BLOCK;
        gp[i] = i % BLOCK == BLOCK - 1 ? 1.0f : k < n ? x[k] : 0.0f;
    }
    pb_adamw8_item item = {.w = w, .g = g, .m = m, .v = v, .m_absmax = ma, .v_absmax = va};
    pb_assert_ok(pb_adamw8(dev, &(pb_adamw8_args){.items = &item, .n = 1, .eps = 1.0, .step = 1}));
    const float *map = second ? pb_dynamic_map_unsigned() : pb_dynamic_map_signed();
    for (int64_t i = 0; i < size; i++) {
        float value = second ? (float)((double)gp[i] * (double)gp[i]) : gp[i];
        int got = second ? vp[i] : mp[i], want = pb_dynamic_encode(map, value);
        ck_assert_msg(got == want, "%.9g is encoded as %d, expected %d", (double)value, got, want);
    }
}

START_TEST(codes_of_moments_are_the_nearest_entries) {
    enum { UNITS = 40, MAX = 2 * 255 * (2 * UNITS + 1) + 200000 };
    float *x = malloc(MAX * sizeof *x);
    ck_assert_ptr_nonnull(x);
    pb_assert_ok(pb_device_open("cpu", NULL, &dev));
    for (int second = 0; second < 2; second++) {
        const float *map = second ? pb_dynamic_map_unsigned() : pb_dynamic_map_signed();
        int64_t n = 0;
        for (int i = 0; i < 255; i++) {
            double middle = ((double)map[i] + (double)map[i + 1]) / 2.0;
            float border = (float)(second ? sqrt(middle) : middle);
            for (int u = -UNITS; u <= UNITS; u++) x[n++] = moved(border, u);
        }
        for (int i = 0; i < 100000; i++) { /* all sizes, from below the smallest entry on */
            x[n++] = ldexpf(1.0f + (float)(i % 1000) / 1000.0f, -1 - i / 3125);
            if (!second) x[n] = -x[n - 1], n++;
        }
        check8(x, n, second);
    }
    pb_device_close(dev);
    free(x);
}
END_TEST

/* --- 4 bits ----------------------------------------------------------------------------------- */

/* x in blocks: codes and absmax; `gap`: numbers behind each row of src. */
static void check4(pb_code code, pb_dtype dtype, const float *x, int64_t rows, int64_t cols, int64_t gap, int block) {
    pb_tensor store, src;
    pb_quant4 q;
    int64_t n = rows * cols;
    made(dtype, rows, cols + gap, &store);
    src = store;
    src.dim[1] = cols;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i / cols * (cols + gap) + i % cols;
        if (dtype == PB_F32) ((float *)store.data)[at] = x[i];
        if (dtype == PB_BF16) {
            uint32_t bits;
            memcpy(&bits, &x[i], sizeof bits);
            ((uint16_t *)store.data)[at] = (uint16_t)(bits >> 16); /* x is a bf16 */
        }
    }
    pb_assert_ok(pb_quant4_alloc(dev, code, block, false, dtype, rows, cols, &q));
    pb_assert_ok(pb_quantize4(dev, &(pb_quantize4_args){.src = src, .q = q}));
    const uint8_t *codes = q.codes.data;
    for (int64_t from = 0; from < n; from += block) {
        int64_t to = from + block < n ? from + block : n;
        float most = 0.0f;
        for (int64_t i = from; i < to; i++) most = fmaxf(most, fabsf(x[i]));
        ck_assert(((const float *)q.absmax.data)[from / block] == most);
        for (int64_t i = from; i < to; i++) {
            int got = i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4;
            int want = pb_code_encode(code, x[i] * pb_quant_inverse(most));
            ck_assert_msg(got == want, "%s, block %d, element %lld: %.9g of %.9g is encoded as %d, expected %d",
                          pb_code_name(code), block, (long long)i, (double)x[i], (double)most, got, want);
        }
    }
    if (n % 2) ck_assert((codes[n / 2] & 15) == 0);
}

static float as_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    bits &= 0xffff0000u;
    memcpy(&f, &bits, sizeof f);
    return f;
}

START_TEST(codes_of_weights_are_those_of_the_thresholds) {
    enum { COLS = 157, ROWS = 37, N = ROWS * COLS };
    static const int blocks[] = {64, 32, 2, 6, 48, 100, 256, 4096};
    static float x[N], half[N];
    pb_assert_ok(pb_device_open("cpu", NULL, &dev));
    for (int code = 0; code < PB_CODE_COUNT; code++) {
        int n_thresholds = 0;
        const float *t = pb_code_thresholds((pb_code)code, &n_thresholds);
        for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
            for (int i = 0; i < N; i++) { /* thresholds and what is near, 1 somewhere in each block, zeros */
                float near = moved(t[i / 5 % n_thresholds], i % 5 - 2);
                float even = (float)(i * 7919 % 2001 - 1000) / 1000.0f;
                x[i] = i % 2 ? near : i % 6 == 0 ? -near : even;
                if (fabsf(x[i]) > 1.0f || i / 64 % 9 == 4) x[i] = i % 3 ? 0.0f : -0.0f;
                if (i % blocks[b] == i / blocks[b] % blocks[b] && i / 64 % 9 != 4) x[i] = i % 4 ? 1.0f : -1.0f;
                half[i] = as_bf16(x[i] * 3.3f);
            }
            for (int gap = 0; gap < 4; gap += 3) {
                check4((pb_code)code, PB_F32, x, ROWS, COLS, gap, blocks[b]);
                check4((pb_code)code, PB_BF16, half, ROWS, COLS, gap, blocks[b]);
            }
            check4((pb_code)code, PB_F32, x, 1, N, 0, blocks[b]);
            for (int i = 0; i < N; i++) half[i] = x[i] * 0x1p-130f; /* the inverse of the largest is infinite */
            check4((pb_code)code, PB_F32, half, 1, N, 0, blocks[b]);
        }
    }
    pb_device_close(dev);
}
END_TEST

int main(void) {
    Suite *s = suite_create("codes");
    TCase *t = pb_test_case(s, "cpu");
    tcase_add_test(t, codes_of_moments_are_the_nearest_entries);
    tcase_add_test(t, codes_of_weights_are_those_of_the_thresholds);
    return pb_run_suite(s);
}
