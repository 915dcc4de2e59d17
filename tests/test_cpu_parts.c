/* What the kernels of the cpu backend are made of: the generator bit by bit, the
 * functions within their errors, on whatever instruction set runs here. */
#include <math.h>
#include <stdio.h>

#include "kernels/core/about.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_isa.h"
#include "tests/support.h"

#define KEY UINT64_C(0x123456789abcdef0)
#define STREAM UINT64_C(0xfedcba9876543210)
#define MOST 300 /* elements */

/* The tests are built with narrower forms, too: this one says which of them ran. */
START_TEST(the_build_says_how_wide_its_vectors_are) {
    const char *widest = PB_CPU_WIDEST >= 16 ? "avx512" : PB_CPU_WIDEST >= 8 ? "avx2" : "base";
    bool narrower = strcmp(pb_kernels_isa(), "base") == 0 ||
                    (PB_CPU_WIDEST >= 16 && strcmp(pb_kernels_isa(), "avx2") == 0);
    ck_assert_msg(narrower || strcmp(pb_kernels_isa(), widest) == 0, "%s", pb_kernels_isa());
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && PB_CPU_WIDEST >= 8)
        ck_assert_str_ne(pb_kernels_isa(), "base");
    fprintf(stderr, "kernels in %s\n", pb_kernels_isa());
}
END_TEST

START_TEST(a_run_draws_what_single_blocks_do) {
    const uint64_t starts[] = {0, 7, UINT32_MAX - 40, UINT32_MAX, (UINT64_C(5) << 32) - 70};
    static const int64_t counts[] = {1, 31, 32, 33, 64, MOST};
    uint32_t r[4 * MOST + 1];
    for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            int64_t n = 4 * counts[c];
            r[n] = 77;
            pb_cpu_random(KEY, STREAM, starts[s], counts[c], r);
            for (int64_t i = 0; i < n; i++)
                ck_assert_uint_eq(r[i], pb_random_u32(KEY, STREAM, 4 * starts[s] + (uint64_t)i));
            ck_assert_uint_eq(r[n], 77);
        }
    }
}
END_TEST

START_TEST(rows_draw_what_their_elements_do) {
    enum { ROWS = 13, LD = 24 };
    const uint64_t first = (UINT64_C(1) << 34) - 100; /* their blocks pass 2^32 */
    uint32_t r[ROWS * LD];
    for (int64_t n = 1; n <= 21; n++) {
        pb_cpu_random_rows(KEY, STREAM, first, 37, ROWS, n, r, LD);
        for (int64_t i = 0; i < ROWS; i++) {
            for (int64_t j = 0; j < n; j++)
                ck_assert_uint_eq(r[i * LD + j],
                                  pb_random_u32(KEY, STREAM, first + (uint64_t)(37 * i + j)));
        }
    }
}
END_TEST

START_TEST(the_largest_is_found_wherever_it_is) {
    float x[MOST] = {0};
    for (int n = 0; n < MOST; n += n < 70 ? 1 : 23) {
        for (int at = 0; at < n; at++) {
            for (int i = 0; i < n; i++) x[i] = i % 3 == 0 ? NAN : -2.0f - (float)i;
            x[at] = -1.0f;
            ck_assert_msg(pb_cpu_max(x, n) == -1.0f, "%d of %d", at, n);
        }
        for (int i = 0; i < n; i++) x[i] = -INFINITY;
        ck_assert(pb_cpu_max(x, n) == -INFINITY);
    }
}
END_TEST

/* |got - want| in units of want's last bit. */
static double ulps(float got, double want) {
    float f = fabsf((float)want);
    return fabs((double)got - want) / (double)(nextafterf(f, INFINITY) - f);
}

START_TEST(functions_keep_their_errors) {
    double e = 0.0, s = 0.0, q = 0.0, phi = 0.0;
    for (int i = -87300; i <= 88300; i++) {
        float x = (float)i * 1e-3f, density;
        double d = x, p = 0.5 * erfc(-d / sqrt(2.0));
        e = fmax(e, ulps(pb_exp(x), exp(d)));
        s = fmax(s, ulps(pb_sigmoid(x), 1.0 / (1.0 + exp(-d))));
        q = fmax(q, ulps(pb_reciprocal(expf(fabsf(x) * 0.9f)), 1.0 / (double)expf(fabsf(x) * 0.9f)));
        /* exponential 2, reciprocal 2 and in P 1, P 2, products 1; x^2/2 is rounded as exponent */
        if (d > -12.0 && d < 8.0) phi = fmax(phi, ulps(pb_phi(x, &density), p) / (8.0 + d * d / 2.0));
    }
    ck_assert_msg(e < 2.0 && s < 4.0 && q < 2.0 && phi < 1.0,
                  "exp %.2f, sigmoid %.2f, reciprocal %.2f ulp, normal distribution %.2f", e, s, q, phi);
    ck_assert(pb_exp(-87.4f) == 0.0f && pb_exp(-INFINITY) == 0.0f && isnan(pb_exp(NAN)));
    ck_assert(isfinite(pb_exp(INFINITY)) && isnan(pb_sigmoid(NAN)));
    ck_assert(pb_sigmoid(INFINITY) == 1.0f && pb_sigmoid(-INFINITY) == 0.0f);
    float density;
    ck_assert(pb_phi(INFINITY, &density) == 1.0f && density == 0.0f);
    ck_assert(pb_phi(-INFINITY, &density) == 0.0f && isnan(pb_phi(NAN, &density)));
}
END_TEST

/* The largest so far rises from block to block, from -inf on: sums and gradients follow. */
START_TEST(a_row_may_begin_with_classes_that_are_ruled_out) {
    enum { ROWS = 3, COLS = 2100 };
    static double x[ROWS * COLS], out[2][ROWS * COLS], loss[2][ROWS];
    int32_t pred[2][ROWS];
    const int32_t target[ROWS] = {2050, 600, -1};
    for (int i = 0; i < ROWS * COLS; i++) {
        int block = i % COLS / 512;
        x[i] = block == 0 ? -INFINITY : 15.0 * block + pb_random_uniform(1, 2, (uint64_t)i);
    }
    for (int d = 0; d < 2; d++) {
        pb_device *dev = NULL;
        pb_tensor logits, t, l, p;
        pb_assert_ok(pb_device_open(d == 0 ? "ref" : "cpu", &(pb_device_options){.threads = 2}, &dev));
        pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, ROWS, COLS, &logits));
        pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_I32, ROWS, &t));
        pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, ROWS, &l));
        pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_I32, ROWS, &p));
        pb_assert_ok(pb_device_put_f64(dev, logits, x));
        pb_assert_ok(pb_device_put(dev, t, target, sizeof target));
        pb_assert_ok(pb_cross_entropy(
            dev, &(pb_cross_entropy_args){
                     .logits = logits, .target = t, .loss = l, .pred = p, .dlogits = logits, .scale = 0.5}));
        pb_assert_ok(pb_device_get_f64(dev, out[d], logits));
        pb_assert_ok(pb_device_get_f64(dev, loss[d], l));
        pb_assert_ok(pb_device_get(dev, pred[d], p, sizeof pred[d]));
        pb_device_close(dev);
    }
    for (int r = 0; r < ROWS; r++) {
        ck_assert_msg(fabs(loss[1][r] - loss[0][r]) <= 0x1p-22 * fabs(loss[0][r]) && pred[0][r] == pred[1][r],
                      "row %d: loss %.9g and %.9g, prediction %d and %d", r, loss[0][r], loss[1][r],
                      pred[0][r], pred[1][r]);
    }
    for (int i = 0; i < ROWS * COLS; i++) /* two exponentials of 2 ulp, a sum, two products */
        ck_assert_msg(fabs(out[1][i] - out[0][i]) <= 0x1p-24 * (16 + 4 * sqrt(COLS)) * fabs(out[0][i]),
                      "%d: %.9g and %.9g", i, out[0][i], out[1][i]);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cpu_parts");
    TCase *c = tcase_create("parts");
    tcase_add_test(c, the_build_says_how_wide_its_vectors_are);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, a_run_draws_what_single_blocks_do);
    tcase_add_test(c, rows_draw_what_their_elements_do);
    tcase_add_test(c, the_largest_is_found_wherever_it_is);
    tcase_add_test(c, functions_keep_their_errors);
    tcase_add_test(c, a_row_may_begin_with_classes_that_are_ruled_out);
    suite_add_tcase(s, c);
    return pb_run_suite(s);
}
