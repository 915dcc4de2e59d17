/* Random numbers, 4-bit and 8-bit codes, and answers known without any kernel. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/core/quant.h"
#include "tests/support.h"

static pb_device *open_device(const char *name) {
    pb_device *dev = NULL;
    pb_assert_ok(pb_device_open(name, &(pb_device_options){.threads = 2}, &dev));
    return dev;
}

static const char *const backends[] = {"ref", "cpu"};

/* --- random numbers --------------------------------------------------------------------------- */

/* Random123 1.14, kat_vectors: philox4x32 10. */
START_TEST(philox_gives_the_published_numbers) {
    static const struct {
        uint64_t block, stream, key;
        uint32_t want[4];
    } kat[3] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x85a308d3243f6a88,
         0x0370734413198a2e,
         0x299f31d0a4093822,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        pb_u32x4 got = pb_philox(kat[i].key, kat[i].stream, kat[i].block);
        for (int k = 0; k < 4; k++) ck_assert_uint_eq(got.v[k], kat[i].want[k]);
    }
    ck_assert_uint_eq(pb_random_u32(0, 0, 2), 0xbc57ac4c);
}
END_TEST

START_TEST(draws_have_their_distributions) {
    enum { N = 200000 };
    double sum = 0.0, square = 0.0, cube = 0.0, mean = 0.0;
    int64_t bin[10] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double z = pb_random_normal(7, 11, i), u = pb_random_uniform(7, 12, i);
        ck_assert(isfinite(z) && u >= 0.0 && u < 1.0);
        sum += z;
        square += z * z;
        cube += z * z * z;
        mean += u;
        bin[pb_random_below(7, 13, i, 10)]++;
    }
    double n = N, root = sqrt(n);
    ck_assert(fabs(sum / n) < 4.5 / root && fabs(square / n - 1.0) < 4.5 * sqrt(2.0) / root);
    ck_assert(fabs(cube / n) < 4.5 * sqrt(15.0) / root &&
              fabs(mean / n - 0.5) < 4.5 * sqrt(1.0 / 12.0) / root);
    for (int i = 0; i < 10; i++) ck_assert(fabs((double)bin[i] - n / 10.0) < 4.5 * sqrt(n * 0.09));
    ck_assert(pb_random_below(1, 2, 3, 1) == 0 &&
              pb_random_below(1, 2, 3, UINT64_MAX) < UINT64_MAX);
    ck_assert(pb_u01(UINT32_MAX) < 1.0f && pb_u01(0) == 0.0f);
}
END_TEST

START_TEST(permutations_are_permutations_and_depend_on_key_and_stream) {
    enum { N = 1000 };
    int32_t a[N], b[N];
    bool seen[N] = {false};
    pb_random_permutation(3, 4, N, a);
    for (int i = 0; i < N; i++) {
        ck_assert(a[i] >= 0 && a[i] < N && !seen[a[i]]);
        seen[a[i]] = true;
    }
    pb_random_permutation(3, 4, N, b);
    ck_assert(memcmp(a, b, sizeof a) == 0);
    pb_random_permutation(3, 5, N, b);
    ck_assert(memcmp(a, b, sizeof a) != 0);
    pb_random_permutation(4, 4, N, b);
    ck_assert(memcmp(a, b, sizeof a) != 0);
    pb_random_permutation(3, 4, 0, b);
    ck_assert(pb_random_stream("init", 1, 2) != pb_random_stream("init", 2, 1));
    ck_assert(pb_random_stream("init", 1, 2) != pb_random_stream("order", 1, 2));
}
END_TEST

START_TEST(dropout_keeps_its_rate_and_its_scale) {
    enum { N = 100000 };
    pb_device *dev = open_device(backends[_i]);
    static const float rates[4] = {0.0f, 0.1f, 0.5f, 0.9f};
    double *y = malloc(N * sizeof *y);
    pb_tensor x;
    ck_assert(y != NULL);
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 100, N / 100, &x));
    for (int r = 0; r < 4; r++) {
        int64_t kept = 0;
        for (int i = 0; i < N; i++) y[i] = 1.0;
        pb_assert_ok(pb_device_put_f64(dev, x, y));
        pb_dropout_args d = {.x = x, .y = x, .drop = {.p = rates[r], .key = 99, .stream = 5}};
        pb_assert_ok(pb_dropout(dev, &d));
        pb_assert_ok(pb_device_get_f64(dev, y, x));
        double p = (double)rates[r], scale = 1.0 / (1.0 - p);
        for (int i = 0; i < N; i++) {
            ck_assert(y[i] == 0.0 || fabs(y[i] - scale) <= 2e-7 * scale);
            kept += y[i] != 0.0;
        }
        ck_assert(fabs((double)kept - N * (1.0 - p)) <= 4.5 * sqrt(N * p * (1.0 - p)));
    }
    free(y);
    pb_device_close(dev);
}
END_TEST

/* --- 4-bit codes ------------------------------------------------------------------------------ */

static double normal_quantile(double p) {
    double lo = -10.0, hi = 10.0;
    for (int i = 0; i < 200; i++) {
        double mid = 0.5 * (lo + hi);
        if (0.5 * erfc(-mid / sqrt(2.0)) < p) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* Dettmers et al. 2023, appendix E: quantiles of the two halves, scaled to [-1, 1]. */
START_TEST(nf4_is_made_of_normal_quantiles) {
    const float *t = pb_code_table(PB_CODE_NF4);
    double p0 = 1.0 - (1.0 / 30.0 + 1.0 / 32.0) / 2.0, most = normal_quantile(p0);
    for (int i = 0; i < 8; i++) {
        double positive = normal_quantile(p0 + (0.5 - p0) * i / 8.0) / most;
        ck_assert_msg(fabs((double)t[15 - i] - positive) < 2e-6, "%d: %.9g, %.9g", 15 - i,
                      (double)t[15 - i], positive);
        if (i == 7) break;
        double negative = -normal_quantile(p0 + (0.5 - p0) * i / 7.0) / most;
        ck_assert_msg(fabs((double)t[i] - negative) < 2e-6, "%d: %.9g, %.9g", i, (double)t[i],
                      negative);
    }
    ck_assert(t[7] == 0.0f);
}
END_TEST

START_TEST(fp4_is_a_sign_and_seven_sizes) {
    const float *t = pb_code_table(PB_CODE_FP4);
    for (int i = 0; i < 8; i++) ck_assert(t[i] >= 0.0f && t[8 + i] == -t[i]);
    static const double size[8] = {0.0,       1.0 / 192.0, 2.0 / 3.0, 1.0,
                                   1.0 / 3.0, 0.5,         1.0 / 6.0, 0.25};
    for (int i = 0; i < 8; i++) ck_assert(fabs((double)t[i] - size[i]) < 1e-7);
    const float *i4 = pb_code_table(PB_CODE_INT4);
    for (int i = 1; i < 16; i++) ck_assert(fabs((double)i4[i] - (i - 8) / 7.0) < 1e-7);
    ck_assert(i4[0] == -1.0f);
}
END_TEST

START_TEST(a_value_on_a_threshold_takes_the_lower_code) {
    int n = 0;
    const float *t = pb_code_thresholds(PB_CODE_NF4, &n), *v = pb_code_table(PB_CODE_NF4);
    ck_assert_int_eq(n, 15);
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(pb_code_encode(PB_CODE_NF4, t[i]), i);
        ck_assert_int_eq(pb_code_encode(PB_CODE_NF4, nextafterf(t[i], 2.0f)), i + 1);
        double middle = ((double)v[i] + (double)v[i + 1]) / 2.0;
        ck_assert(fabs((double)t[i] - middle) <= 1e-7 * fabs(middle) + 1e-9);
    }
    t = pb_code_thresholds(PB_CODE_FP4, &n);
    ck_assert_int_eq(n, 7);
    static const int by_size[8] = {0, 1, 6, 7, 4, 5, 2, 3};
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(pb_code_encode(PB_CODE_FP4, t[i]), by_size[i]);
        ck_assert_int_eq(pb_code_encode(PB_CODE_FP4, nextafterf(t[i], 2.0f)), by_size[i + 1]);
        ck_assert_int_eq(pb_code_encode(PB_CODE_FP4, -nextafterf(t[i], 2.0f)), by_size[i + 1] | 8);
    }
    for (int code = 1; code < 16; code++) {
        ck_assert_int_eq(pb_code_encode(PB_CODE_INT4, pb_code_table(PB_CODE_INT4)[code]), code);
    }
    ck_assert_int_eq(pb_code_encode(PB_CODE_INT4, -1.0f), 1); /* code 0 is not used */
}
END_TEST

/* Every bf16 number of [-1, 1] goes to an entry that no other entry beats by more than a rounding
 * of the thresholds. */
START_TEST(codes_are_nearest_for_every_bf16) {
    for (int code = 0; code < PB_CODE_COUNT; code++) {
        const float *v = pb_code_table((pb_code)code);
        for (uint32_t h = 0; h < 65536; h++) {
            float x = pb_bf16_to_f32((uint16_t)h);
            if (!(fabsf(x) <= 1.0f)) continue;
            int got = pb_code_encode((pb_code)code, x);
            ck_assert(got >= 0 && got < 16);
            double mine = fabs((double)x - (double)v[got]), best = 9.0;
            for (int k = 0; k < 16; k++) best = fmin(best, fabs((double)x - (double)v[k]));
            ck_assert_msg(mine <= best + 1e-6, "%s: %.9g to %d", pb_code_name((pb_code)code),
                          (double)x, got);
        }
    }
}
END_TEST

/* --- 8-bit maps ------------------------------------------------------------------------------- */

START_TEST(dynamic_maps_follow_their_formula) {
    const float *s = pb_dynamic_map_signed(), *u = pb_dynamic_map_unsigned();
    ck_assert(s[127] == 0.0f && s[255] == 1.0f && u[0] == 0.0f && u[255] == 1.0f);
    ck_assert(fabs((double)s[0] + 0.99296874) < 1e-7 && fabs((double)s[1] + 0.97890627) < 1e-7);
    ck_assert(fabs((double)s[128] - 5.5e-7) < 1e-13 && fabs((double)s[129] - 3.25e-6) < 1e-12);
    int at = 128, ut = 1;
    for (int i = 0; i < 7; i++) {
        for (int j = 0; j < 1 << i; j++, at++) {
            double want = pow(10.0, i - 6) * (0.1 + 0.9 * (2.0 * j + 1.0) / pow(2.0, i + 1));
            ck_assert(fabs((double)s[at] - want) <= 4e-7 * want && s[254 - at] == -s[at]);
        }
        for (int j = 0; j < 2 << i; j++, ut++) {
            double want = pow(10.0, i - 6) * (0.1 + 0.9 * (2.0 * j + 1.0) / pow(2.0, i + 2));
            ck_assert(fabs((double)u[ut] - want) <= 4e-7 * want);
        }
    }
    ck_assert(at == 255 && ut == 255);
    for (int i = 1; i < 256; i++) ck_assert(s[i] > s[i - 1] && u[i] > u[i - 1]);
}
END_TEST

static int nearest(const float *map, float x) {
    int best = 0;
    for (int i = 1; i < 256; i++) {
        if (fabs((double)x - (double)map[i]) < fabs((double)x - (double)map[best])) best = i;
    }
    return best;
}

START_TEST(dynamic_codes_are_nearest_and_ties_go_down) {
    const float *maps[2] = {pb_dynamic_map_signed(), pb_dynamic_map_unsigned()};
    for (int m = 0; m < 2; m++) {
        for (uint32_t h = 0; h < 65536; h++) {
            float x = pb_bf16_to_f32((uint16_t)h);
            if (fabsf(x) <= 1.5f)
                ck_assert_int_eq(pb_dynamic_encode(maps[m], x), nearest(maps[m], x));
        }
        for (uint64_t i = 0; i < 20000; i++) {
            float x = (float)pow(10.0, -7.0 * pb_random_uniform(1, 2, i)) *
                      (i % 2 == 0 ? 1.0f : -1.0f);
            ck_assert_int_eq(pb_dynamic_encode(maps[m], x), nearest(maps[m], x));
        }
        for (int i = 0; i < 255; i++) {
            float middle = (maps[m][i] + maps[m][i + 1]) / 2.0f;
            ck_assert_int_eq(pb_dynamic_encode(maps[m], middle), nearest(maps[m], middle));
            ck_assert_int_eq(pb_dynamic_encode(maps[m], maps[m][i]), i);
        }
    }
}
END_TEST

/* --- storage ---------------------------------------------------------------------------------- */

START_TEST(double_quantisation_costs_what_the_paper_says) {
    pb_device *dev = open_device("plan:cpu");
    pb_quant4 q;
    double n = 8192.0 * 8192.0;
    pb_assert_ok(pb_quant4_alloc(dev, PB_CODE_NF4, 64, true, PB_BF16, 8192, 8192, &q));
    ck_assert(8.0 * (double)pb_device_mem_now(dev, PB_MEM_BASE) / n == 4.0);
    double bits = 8.0 * (double)pb_device_mem_now(dev, PB_MEM_QUANT) / n;
    ck_assert_msg(fabs(bits - 0.126953125) < 1e-4, "%.9g",
                  bits); /* 8/64 + 32/(64*256), and one mean */
    pb_mark mark = pb_device_mark(dev, PB_MEM_QUANT);
    pb_assert_ok(pb_quant4_alloc(dev, PB_CODE_NF4, 64, false, PB_BF16, 8192, 8192, &q));
    ck_assert(8.0 * (double)(pb_device_mem_now(dev, PB_MEM_QUANT) - (uint64_t)mark.bytes) / n ==
              0.5);
    pb_assert_fails(pb_quant4_alloc(dev, PB_CODE_NF4, 63, false, PB_BF16, 8, 8, &q), PB_E_BUG,
                    "63");
    pb_device_close(dev);
}
END_TEST

/* Quantised and back: each value within half a gap of its block; zero blocks stay zero also under
 * double quantisation. */
START_TEST(quantised_values_come_back_within_half_a_gap) {
    enum { ROWS = 40, COLS = 64 };
    static const double gap[PB_CODE_COUNT] = {0.31, 0.34, 0.15};
    pb_device *dev = open_device(backends[_i]);
    double w[ROWS * COLS], back[ROWS * COLS];
    pb_tensor src, dst;
    pb_assert_ok(pb_alloc2(dev, PB_MEM_BASE, PB_F32, ROWS, COLS, &src));
    pb_assert_ok(pb_alloc2(dev, PB_MEM_BASE, PB_F32, ROWS, COLS, &dst));
    for (int i = 0; i < ROWS * COLS; i++)
        w[i] = i / COLS == 7 ? 0.0 : 0.02 * pb_random_normal(5, 6, (uint64_t)i);
    pb_assert_ok(pb_device_put_f64(dev, src, w));
    pb_assert_ok(pb_device_get_f64(dev, w, src));
    for (int code = 0; code < PB_CODE_COUNT; code++) {
        for (int twice = 0; twice < 2; twice++) {
            pb_quant4 q;
            pb_assert_ok(
                pb_quant4_alloc(dev, (pb_code)code, 64, twice == 1, PB_F32, ROWS, COLS, &q));
            pb_assert_ok(pb_quantize4(dev, &(pb_quantize4_args){.src = src, .q = q}));
            pb_assert_ok(pb_dequantize4(dev, &(pb_dequantize4_args){.q = q, .dst = dst}));
            pb_assert_ok(pb_device_get_f64(dev, back, dst));
            for (int r = 0; r < ROWS; r++) {
                double absmax = 0.0;
                for (int c = 0; c < COLS; c++) absmax = fmax(absmax, fabs(w[r * COLS + c]));
                for (int c = 0; c < COLS; c++) {
                    double err = fabs(back[r * COLS + c] - w[r * COLS + c]);
                    ck_assert(err <= absmax * (0.5 * gap[code] + (twice ? 0.05 : 1e-6)) &&
                              !isnan(err));
                    if (!twice && fabs(w[r * COLS + c]) == absmax) ck_assert(err <= 1e-7 * absmax);
                }
            }
        }
    }
    pb_device_close(dev);
}
END_TEST

/* --- answers known without a kernel ----------------------------------------------------------- */

/* beta1 = beta2 = eps = 0: every step is lr sign(g) exactly. */
START_TEST(adamw_without_memory_is_sign_descent) {
    pb_device *dev = open_device(backends[_i]);
    double w[5] = {1, 2, 3, 4, 5}, g[5] = {0.5, -2, 8, -0.25, 1},
           want[5] = {0.75, 2.25, 2.75, 4.25, 4.75};
    pb_adamw_item it = {.lr = 0.25};
    pb_tensor *t[4] = {&it.w, &it.g, &it.m, &it.v};
    for (int i = 0; i < 4; i++) pb_assert_ok(pb_alloc1(dev, PB_MEM_OPTIM, PB_F32, 5, t[i]));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ADAPTER, PB_BF16, 5, &it.copy));
    pb_assert_ok(pb_device_put_f64(dev, it.w, w));
    pb_assert_ok(pb_device_put_f64(dev, it.g, g));
    pb_assert_ok(pb_adamw(dev, &(pb_adamw_args){.items = &it, .n = 1, .step = 1}));
    pb_assert_ok(pb_device_get_f64(dev, w, it.w));
    pb_assert_close(w, want, 5, 0.0, 0.0, "w");
    pb_assert_ok(pb_device_get_f64(dev, w, it.copy));
    pb_assert_close(w, want, 5, 0.0, 0.0, "copy");
    it.lr = 0.5;
    it.weight_decay = 0.5;
    pb_assert_ok(pb_adamw(dev, &(pb_adamw_args){.items = &it, .n = 1, .step = 2}));
    pb_assert_ok(pb_device_get_f64(dev, w, it.w));
    for (int i = 0; i < 5; i++) ck_assert(w[i] == want[i] * 0.75 - 0.5 * (g[i] > 0.0 ? 1.0 : -1.0));
    pb_device_close(dev);
}
END_TEST

START_TEST(eight_bit_moments_follow_full_ones) {
    enum { N = 600 };
    pb_device *dev = open_device(backends[_i]);
    double w[N], g[N], a[N], b[N], moved = 0.0, apart = 0.0;
    pb_adamw_item full = {.lr = 1e-2};
    pb_adamw8_item small = {.lr = 1e-2};
    pb_tensor *f[6] = {&full.w, &full.g, &full.m, &full.v, &small.w, &small.g};
    for (int i = 0; i < 6; i++) pb_assert_ok(pb_alloc1(dev, PB_MEM_OPTIM, PB_F32, N, f[i]));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_OPTIM, PB_U8, N, &small.m));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_OPTIM, PB_U8, N, &small.v));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_OPTIM, PB_F32, 3, &small.m_absmax));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_OPTIM, PB_F32, 3, &small.v_absmax));
    for (int i = 0; i < N; i++) w[i] = pb_random_normal(1, 1, (uint64_t)i);
    pb_assert_ok(pb_device_put_f64(dev, full.w, w));
    pb_assert_ok(pb_device_put_f64(dev, small.w, w));
    for (int step = 1; step <= 20; step++) {
        for (int i = 0; i < N; i++) g[i] = 1.0 + pb_random_normal(2, (uint64_t)step, (uint64_t)i);
        pb_assert_ok(pb_device_put_f64(dev, full.g, g));
        pb_assert_ok(pb_device_put_f64(dev, small.g, g));
        pb_adamw_args fa = {
            .items = &full, .n = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = step};
        pb_adamw8_args sa = {
            .items = &small, .n = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = step};
        pb_assert_ok(pb_adamw(dev, &fa));
        pb_assert_ok(pb_adamw8(dev, &sa));
    }
    pb_assert_ok(pb_device_get_f64(dev, a, full.w));
    pb_assert_ok(pb_device_get_f64(dev, b, small.w));
    for (int i = 0; i < N; i++) {
        moved += fabs(a[i] - w[i]);
        apart += fabs(a[i] - b[i]);
    }
    ck_assert_msg(moved > 0.0 && apart <= 0.05 * moved, "moved %g, apart %g", moved, apart);
    pb_device_close(dev);
}
END_TEST

START_TEST(uniform_logits_cost_the_logarithm_of_the_classes) {
    pb_device *dev = open_device(backends[_i]);
    pb_cross_entropy_args c = {.scale = 1.0};
    double loss[3];
    int32_t pred[3], target[3] = {0, 9, -1};
    pb_assert_ok(pb_alloc2(dev, PB_MEM_ACT, PB_F32, 3, 10, &c.logits));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_I32, 3, &c.target));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_I32, 3, &c.pred));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 3, &c.loss));
    pb_assert_ok(pb_device_put(dev, c.target, target, sizeof target));
    pb_assert_ok(pb_cross_entropy(dev, &c));
    pb_assert_ok(pb_device_get_f64(dev, loss, c.loss));
    pb_assert_ok(pb_device_get(dev, pred, c.pred, sizeof pred));
    double want[3] = {log(10.0), log(10.0), 0.0};
    pb_assert_close(loss, want, 3, 1e-6, 0.0, "loss");
    for (int i = 0; i < 3; i++) ck_assert_int_eq(pred[i], 0);
    pb_device_close(dev);
}
END_TEST

START_TEST(a_nan_stays_visible) {
    pb_device *dev = open_device(backends[_i]);
    volatile double zero = 0.0;
    double nan = zero / zero, v[4] = {1, nan, 3, 4}, out[4];
    ck_assert(isnan(nan) && !(nan == nan)); /* the build keeps IEEE semantics */
    pb_tensor x, y;
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 4, &x));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 1, &y));
    pb_assert_ok(pb_device_put_f64(dev, x, v));
    pb_assert_ok(pb_reduce(dev, &(pb_reduce_args){.x = x, .y = y, .alpha = 1.0}));
    pb_assert_ok(pb_device_get_f64(dev, out, y));
    ck_assert(isnan(out[0]));
    for (int act = 0; act < PB_ACT_COUNT; act++) {
        pb_assert_ok(pb_device_put_f64(dev, x, v));
        pb_assert_ok(pb_act_fwd(dev, &(pb_act_fwd_args){.act = (pb_act)act, .x = x, .y = x}));
        pb_assert_ok(pb_device_get_f64(dev, out, x));
        ck_assert_msg(isnan(out[1]) && !isnan(out[0]) && !isnan(out[2]), "%s",
                      pb_act_name((pb_act)act));
    }
    pb_tensor norm, coef;
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 1, &norm));
    pb_assert_ok(pb_alloc1(dev, PB_MEM_ACT, PB_F32, 1, &coef));
    pb_assert_ok(pb_device_put_f64(dev, x, v));
    pb_assert_ok(pb_grad_norm(
        dev,
        &(pb_grad_norm_args){.grads = &x, .n = 1, .norm = norm, .coef = coef, .max_norm = 1.0}));
    pb_assert_ok(pb_device_get_f64(dev, out, norm));
    pb_assert_ok(pb_device_get_f64(dev, out + 1, coef));
    ck_assert_msg(isnan(out[0]) && isnan(out[1]), "norm %g, coef %g", out[0], out[1]);
    pb_device_close(dev);
}
END_TEST

int main(void) {
    Suite *s = suite_create("numbers");
    TCase *random = pb_test_case(s, "random");
    tcase_add_test(random, philox_gives_the_published_numbers);
    tcase_add_test(random, draws_have_their_distributions);
    tcase_add_test(random, permutations_are_permutations_and_depend_on_key_and_stream);
    tcase_add_loop_test(random, dropout_keeps_its_rate_and_its_scale, 0, 2);
    TCase *codes = pb_test_case(s, "codes");
    tcase_add_test(codes, nf4_is_made_of_normal_quantiles);
    tcase_add_test(codes, fp4_is_a_sign_and_seven_sizes);
    tcase_add_test(codes, a_value_on_a_threshold_takes_the_lower_code);
    tcase_add_test(codes, codes_are_nearest_for_every_bf16);
    tcase_add_test(codes, dynamic_maps_follow_their_formula);
    tcase_add_test(codes, dynamic_codes_are_nearest_and_ties_go_down);
    tcase_add_test(codes, double_quantisation_costs_what_the_paper_says);
    tcase_add_loop_test(codes, quantised_values_come_back_within_half_a_gap, 0, 2);
    TCase *answers = pb_test_case(s, "answers");
    tcase_add_loop_test(answers, adamw_without_memory_is_sign_descent, 0, 2);
    tcase_add_loop_test(answers, eight_bit_moments_follow_full_ones, 0, 2);
    tcase_add_loop_test(answers, uniform_logits_cost_the_logarithm_of_the_classes, 0, 2);
    tcase_add_loop_test(answers, a_nan_stays_visible, 0, 2);
    return pb_run_suite(s);
}
