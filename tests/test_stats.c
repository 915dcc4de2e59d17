/* reports/stats: known values, and simulations that show what the intervals and verdicts claim: how
 * often an interval holds the truth, how often a difference is found where there is none, how often
 * one is found where there is. The simulations draw with GSL, not with the generator under test. */
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "reports/stats.h"
#include "tests/support.h"

#define SIMULATIONS 800
/* Three standard errors of a share p over the simulations. */
#define SLACK(p) (3 * sqrt((p) * (1 - (p)) / SIMULATIONS))

static void assert_near(double got, double want, double tolerance, const char *what) {
    pb_assert_close(&got, &want, 1, tolerance, 0, what);
}

/* ---- one sample ---- */

START_TEST(student_and_wilson_give_known_values) {
    const double v[] = {4, 5, 6, 7, 8};
    pb_mean m = pb_mean_of(v, 5, 0.95); /* t(4) = 2.776445, sd = sqrt(2.5) */
    assert_near(m.mean, 6, 1e-12, "mean");
    assert_near(m.sd, 1.5811388300841898, 1e-12, "sd");
    assert_near(m.interval.low, 6 - 2.7764451051977987 * 1.5811388300841898 / sqrt(5), 1e-9, "low");
    assert_near(m.interval.high, 6 + 2.7764451051977987 * 1.5811388300841898 / sqrt(5), 1e-9,
                "high");
    m = pb_mean_of(v, 1, 0.95);
    ck_assert(m.mean == 4 && isnan(m.sd) && isnan(m.interval.low));
    ck_assert(isnan(pb_mean_of(v, 0, 0.95).mean));
    pb_interval w = pb_wilson(8, 10, 0.95);
    assert_near(w.low, 0.4901625, 1e-6, "Wilson low");
    assert_near(w.high, 0.9433178, 1e-6, "Wilson high");
    w = pb_wilson(0, 10, 0.95); /* z^2 / (n + z^2) */
    ck_assert(w.low == 0);
    assert_near(w.high, 3.8414588206941254 / 13.8414588206941254, 1e-9, "Wilson of none");
    w = pb_wilson(10, 10, 0.95);
    ck_assert(w.high == 1 && w.low > 0.7 && w.low < 0.73);
    w = pb_wilson(0, 0, 0.95);
    ck_assert(w.low == 0 && w.high == 1);
}
END_TEST

START_TEST(wilson_holds_the_share_as_often_as_it_says) {
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    const double shares[] = {0.72, 0.95};
    for (int k = 0; k < 2; k++) {
        int held = 0, all = 20000;
        for (int i = 0; i < all; i++) {
            pb_interval w = pb_wilson(gsl_ran_binomial(r, shares[k], 500), 500, 0.95);
            held += w.low <= shares[k] && shares[k] <= w.high;
        }
        /* Wilson's coverage swings around its level with n and the share, by less than a point
         * here. */
        assert_near((double)held / all, 0.95, 0.01 + 3 * sqrt(0.95 * 0.05 / all), "coverage");
    }
    gsl_rng_free(r);
}
END_TEST

/* ---- permutation, Holm, ranks ---- */

START_TEST(sign_flips_count_what_is_as_extreme) {
    const double three[] = {1, 2, 3}, five[] = {1, 1, 1, 1, -1};
    assert_near(pb_sign_flip(three, 3, 10, 1), 2.0 / 8, 1e-15, "three seeds");
    assert_near(pb_sign_flip(five, 5, 10, 1), 12.0 / 32, 1e-15, "five seeds");
    const double all_alike[] = {0.1, 0.1, 0.1, 0.1, 0.1};
    assert_near(pb_sign_flip(all_alike, 5, 10, 1), 2.0 / 32, 1e-15, "the least p of five seeds");
    ck_assert(pb_sign_flip(NULL, 0, 10, 1) == 1);
    double many[400], sum = 0, square = 0;
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    for (int i = 0; i < 400; i++) {
        many[i] = 0.09 + gsl_ran_ugaussian(r);
        sum += many[i];
        square += many[i] * many[i];
    }
    /* Under flips the sum has mean 0 and variance sum of squares. */
    double want = 2 * gsl_cdf_ugaussian_Q(fabs(sum) / sqrt(square));
    double got = pb_sign_flip(many, 400, 20000, 7);
    assert_near(got, want, 4 * sqrt(want * (1 - want) / 20000) + 1e-3, "p of many");
    ck_assert(got == pb_sign_flip(many, 400, 20000, 7));
    ck_assert(got != pb_sign_flip(many, 400, 20000, 8));
    gsl_rng_free(r);
}
END_TEST

START_TEST(holm_steps_down) {
    const double p[] = {0.01, 0.04, NAN, 0.03, 0.005};
    const double want[] = {0.03, 0.06, 0, 0.06, 0.02};
    double got[5];
    pb_assert_ok(pb_holm(p, 5, got));
    for (int i = 0; i < 5; i++) {
        if (i == 2)
            ck_assert(isnan(got[i]));
        else
            assert_near(got[i], want[i], 1e-15, "adjusted");
    }
    const double large[] = {0.9, 0.8};
    pb_assert_ok(pb_holm(large, 2, got));
    ck_assert(got[0] == 1 && got[1] == 1);
    pb_assert_ok(pb_holm(large, 0, got));
}
END_TEST

START_TEST(rows_that_nothing_separates_share_a_rank) {
    bool better[16] = {false};
    int best[4], worst[4];
    better[0 * 4 + 2] = better[0 * 4 + 3] = better[1 * 4 + 3] = true;
    pb_shared_ranks(better, 4, best, worst);
    const int want_best[] = {1, 1, 2, 3}, want_worst[] = {2, 3, 4, 4};
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(best[i], want_best[i]);
        ck_assert_int_eq(worst[i], want_worst[i]);
    }
}
END_TEST

/* ---- differences ---- */

START_TEST(one_number_per_seed_is_a_paired_t_test) {
    const double d[] = {0.4, 0.1, 0.5, 0.3, 0.2};
    pb_difference out;
    pb_assert_ok(pb_difference_of(&(pb_paired){5, 1, d, NULL}, NULL, &out));
    double se = sqrt(0.025 / 5), t = 0.3 / se;
    assert_near(out.mean, 0.3, 1e-12, "mean");
    assert_near(out.se_seeds, se, 1e-12, "se");
    ck_assert(out.se_examples == 0 && isnan(out.p_examples));
    assert_near(out.p, 2 * gsl_cdf_tdist_Q(t, 4), 1e-9, "p");
    assert_near(out.interval.low, 0.3 - 2.7764451051977987 * se, 1e-9, "low");
    assert_near(out.p_seeds, 2.0 / 32, 1e-15, "p by flips");
    assert_near(pb_difference_reach(&out, out.p), 0.3, 1e-9, "p is where the interval touches 0");
}
END_TEST

START_TEST(parts_of_the_spread_are_told_apart) {
    enum { S = 4, N = 300 };
    static double d[S * N], w[N];
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    pb_difference out;
    double b[N], sum = 0;
    for (int i = 0; i < N; i++) sum += b[i] = gsl_ran_ugaussian(r);
    for (int k = 0; k < S * N; k++) d[k] = 0.2 + b[k % N]; /* the seed moved nothing */
    pb_assert_ok(pb_difference_of(&(pb_paired){S, N, d, NULL}, NULL, &out));
    assert_near(out.mean, 0.2 + sum / N, 1e-12, "mean");
    assert_near(out.se_seeds, 0, 1e-12, "no seed effect");
    assert_near(out.se_examples, 1 / sqrt(N), 0.2 / sqrt(N), "example effect");
    double arm = (out.interval.high - out.interval.low) / 2;
    assert_near(arm, 1.96 * out.se_examples, 0.1 * arm, "the interval is the bootstrap's");
    for (int k = 0; k < S * N; k++) d[k] = 0.2 + 0.1 * (k / N); /* examples move nothing */
    pb_assert_ok(pb_difference_of(&(pb_paired){S, N, d, NULL}, NULL, &out));
    assert_near(out.se_examples, 0, 1e-12, "no example effect");
    assert_near(out.se_seeds, sqrt(0.05 / 3) / 2, 1e-12, "seed effect");
    for (int i = 0; i < N; i++) w[i] = 1 + i % 3;
    double top = 0, bottom = 0;
    for (int i = 0; i < N; i++) {
        top += w[i] * b[i];
        bottom += w[i];
    }
    for (int k = 0; k < S * N; k++) d[k] = b[k % N];
    pb_assert_ok(pb_difference_of(&(pb_paired){S, N, d, w}, NULL, &out));
    assert_near(out.mean, top / bottom, 1e-12, "weighted mean");
    ck_assert(out.interval_examples.low < out.mean && out.mean < out.interval_examples.high);
    gsl_rng_free(r);
}
END_TEST

START_TEST(one_seed_gives_no_verdict_and_bad_values_are_named) {
    const double d[] = {1, 2, 3, 4}, bad[] = {1, 2, INFINITY, 4}, w[] = {1, 0};
    pb_difference out;
    pb_assert_ok(pb_difference_of(&(pb_paired){1, 4, d, NULL}, NULL, &out));
    ck_assert(out.mean == 2.5 && isnan(out.p) && isnan(out.interval.low) && isnan(out.se_seeds));
    ck_assert(isnan(pb_detectable(&out, 0.05, 0.8)));
    ck_assert(out.interval_examples.low < 2.5 && out.interval_examples.high > 2.5);
    pb_assert_fails(pb_difference_of(&(pb_paired){2, 2, bad, NULL}, NULL, &out), PB_E_INPUT,
                    "value 0 of seed 1 is not finite");
    pb_assert_fails(pb_difference_of(&(pb_paired){2, 2, d, w}, NULL, &out), PB_E_INPUT, "weight 1");
    pb_assert_fails(pb_difference_of(&(pb_paired){0, 2, d, NULL}, NULL, &out), PB_E_INPUT,
                    "0 seeds");
}
END_TEST

START_TEST(same_data_give_the_same_numbers) {
    enum { S = 3, N = 80 };
    double d[S * N];
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    for (int k = 0; k < S * N; k++) d[k] = gsl_ran_exponential(r, 1);
    pb_difference a, b, c;
    pb_stat_options other = {.key = 5};
    pb_assert_ok(pb_difference_of(&(pb_paired){S, N, d, NULL}, NULL, &a));
    pb_assert_ok(pb_difference_of(&(pb_paired){S, N, d, NULL}, NULL, &b));
    pb_assert_ok(pb_difference_of(&(pb_paired){S, N, d, NULL}, &other, &c));
    ck_assert(a.interval.low == b.interval.low && a.p_examples == b.p_examples && a.p == b.p);
    ck_assert(a.interval_examples.low != c.interval_examples.low);
    ck_assert(a.p == c.p); /* the verdict's p hangs on no draw */
    gsl_rng_free(r);
}
END_TEST

/* ---- simulations ---- */

enum { EXAMPLES = 120 };

/* How far runs, examples and their meeting move a difference; skewed: examples after an exponential
 * distribution, as losses are. */
typedef struct world {
    double seed, example, noise;
    bool skewed;
} world;
static const world worlds[] = {{0.3, 0.5, 0.5, false},  /* seeds rule */
                               {0.02, 1.0, 0.2, true},  /* examples rule */
                               {0, 0, 1.0, false},      /* only noise */
                               {0.08, 0.8, 0.8, true}}; /* alike */
enum { WORLDS = sizeof worlds / sizeof worlds[0] };

static void draw_world(gsl_rng *r, world w, int seeds, double truth, double *d) {
    double b[EXAMPLES];
    for (int i = 0; i < EXAMPLES; i++)
        b[i] = w.example * (w.skewed ? gsl_ran_exponential(r, 1) - 1 : gsl_ran_ugaussian(r));
    for (int s = 0; s < seeds; s++) {
        double a = w.seed * gsl_ran_ugaussian(r);
        for (int i = 0; i < EXAMPLES; i++)
            d[s * EXAMPLES + i] = truth + a + b[i] + w.noise * gsl_ran_ugaussian(r);
    }
}

static const pb_stat_options quick = {.resamples = 300, .flips = 99};

static void coverage(int seeds) {
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    double d[5 * EXAMPLES];
    pb_difference out;
    for (int k = 0; k < WORLDS; k++) {
        int held = 0, false_verdicts = 0;
        for (int i = 0; i < SIMULATIONS; i++) {
            double truth = i % 2 ? 0.3 : 0; /* p is of 0 alone */
            draw_world(r, worlds[k], seeds, truth, d);
            pb_assert_ok(pb_difference_of(&(pb_paired){seeds, EXAMPLES, d, NULL}, &quick, &out));
            held += out.interval.low <= truth && truth <= out.interval.high;
            for (int j = 0; j < seeds * EXAMPLES; j++) d[j] -= truth;
            pb_assert_ok(pb_difference_of(&(pb_paired){seeds, EXAMPLES, d, NULL},
                                          &(pb_stat_options){.resamples = 2, .flips = 2}, &out));
            false_verdicts += out.p <= 0.05;
        }
        double share = (double)held / SIMULATIONS, wrong = (double)false_verdicts / SIMULATIONS;
        printf(
            "%d seeds, world %d: an interval of 95 %% holds the truth in %.1f %%, false verdicts "
            "%.1f %%\n",
            seeds, k, 100 * share, 100 * wrong);
        ck_assert_msg(share >= 0.95 - SLACK(0.95), "world %d: coverage %.3f", k, share);
        /* Wider than need be costs power: not beyond what the joined arms explain. */
        ck_assert_msg(share <= 0.985 + SLACK(0.985), "world %d: coverage %.3f", k, share);
        ck_assert_msg(wrong <= 0.05 + SLACK(0.05), "world %d: false verdicts %.3f", k, wrong);
    }
    gsl_rng_free(r);
}

START_TEST(intervals_hold_the_truth_with_five_seeds) {
    coverage(5);
}
END_TEST

START_TEST(intervals_hold_the_truth_with_three_seeds) {
    coverage(3);
}
END_TEST

/* Right and wrong answers of two methods, paired: an example is right with a chance of its own, moved by the
 * seed and, for the first method, by the truth. No example says more than -1, 0 or 1. */
static double draw_right(gsl_rng *r, int seeds, double *d, double *weights) {
    const double truth = 0.08;
    double chance[EXAMPLES];
    (void)weights;
    for (int i = 0; i < EXAMPLES; i++) chance[i] = gsl_ran_flat(r, 0.2, 0.8);
    for (int s = 0; s < seeds; s++) {
        double a = truth + gsl_ran_flat(r, -0.06, 0.06), b = gsl_ran_flat(r, -0.06, 0.06);
        for (int i = 0; i < EXAMPLES; i++)
            d[s * EXAMPLES + i] = (gsl_rng_uniform(r) < chance[i] + a) - (gsl_rng_uniform(r) < chance[i] + b);
    }
    return truth;
}

/* Examples of one, two and three tokens, alike in number; the difference grows with the length. The mean per
 * token is (1 * 0 + 2 * 0.1 + 3 * 0.2) / 6. */
static double draw_tokens(gsl_rng *r, int seeds, double *d, double *weights) {
    double b[EXAMPLES];
    for (int i = 0; i < EXAMPLES; i++) {
        weights[i] = 1 + (double)gsl_rng_uniform_int(r, 3);
        b[i] = 0.1 * (weights[i] - 1) + 0.4 * (gsl_ran_exponential(r, 1) - 1);
    }
    for (int s = 0; s < seeds; s++) {
        double a = 0.05 * gsl_ran_ugaussian(r);
        for (int i = 0; i < EXAMPLES; i++)
            d[s * EXAMPLES + i] = a + b[i] + 0.4 * gsl_ran_ugaussian(r) / sqrt(weights[i]);
    }
    return 0.8 / 6;
}

/* Of data as records hold them, at the resamples that reports use. */
START_TEST(intervals_hold_the_truth_of_answers_and_of_tokens) {
    static const struct {
        const char *what;
        double (*draw)(gsl_rng *r, int seeds, double *d, double *weights);
        bool weighted;
    } kinds[] = {{"right and wrong", draw_right, false}, {"weighted by tokens", draw_tokens, true}};
    enum { TIMES = 400 };
    const double slack = 3 * sqrt(0.95 * 0.05 / TIMES);
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (int seeds = 3; seeds <= 5; seeds += 2) {
            int held = 0;
            for (int i = 0; i < TIMES; i++) {
                double d[5 * EXAMPLES], w[EXAMPLES], truth = kinds[k].draw(r, seeds, d, w);
                pb_difference out;
                pb_paired in = {seeds, EXAMPLES, d, kinds[k].weighted ? w : NULL};
                pb_assert_ok(pb_difference_of(&in, &(pb_stat_options){.flips = 9}, &out));
                held += out.interval.low <= truth && truth <= out.interval.high;
            }
            double share = (double)held / TIMES;
            printf("%s, %d seeds: an interval of 95 %% holds the truth in %.1f %%\n", kinds[k].what, seeds,
                   100 * share);
            ck_assert_msg(share >= 0.95 - slack && share <= 0.985 + slack, "%s: %.3f", kinds[k].what, share);
        }
    gsl_rng_free(r);
}
END_TEST

/* What is wrong with the usual ways: intervals over examples alone, or a plain bootstrap of seeds.
 */
START_TEST(the_simulation_catches_an_interval_that_forgets_the_seeds) {
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    double d[3 * EXAMPLES];
    pb_difference out;
    int held = 0;
    for (int i = 0; i < SIMULATIONS; i++) {
        draw_world(r, worlds[0], 3, 0, d);
        pb_assert_ok(pb_difference_of(&(pb_paired){3, EXAMPLES, d, NULL}, &quick, &out));
        held += out.interval_examples.low <= 0 && 0 <= out.interval_examples.high;
    }
    ck_assert_double_lt((double)held / SIMULATIONS, 0.6);
    gsl_rng_free(r);
}
END_TEST

/* Seven rows against one baseline, no difference anywhere: the comparisons hang together through
 * the baseline, and still a family of them has a false verdict in at most 5 %. */
START_TEST(a_family_without_differences_seldom_has_a_verdict) {
    enum { ROWS = 8, S = 5 };
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    static double x[ROWS][S * EXAMPLES], d[S * EXAMPLES];
    double p[ROWS - 1], adjusted[ROWS - 1];
    int wrong = 0, plain = 0;
    world w = {0.1, 0.6, 0.6, false};
    for (int i = 0; i < SIMULATIONS; i++) {
        bool any = false, any_plain = false;
        for (int k = 0; k < ROWS; k++) draw_world(r, w, S, 0, x[k]);
        for (int k = 1; k < ROWS; k++) {
            pb_difference out;
            for (int j = 0; j < S * EXAMPLES; j++) d[j] = x[k][j] - x[0][j];
            pb_stat_options few = {.resamples = 10, .flips = 9};
            pb_assert_ok(pb_difference_of(&(pb_paired){S, EXAMPLES, d, NULL}, &few, &out));
            p[k - 1] = out.p;
        }
        pb_assert_ok(pb_holm(p, ROWS - 1, adjusted));
        for (int k = 0; k < ROWS - 1; k++) {
            any = any || adjusted[k] <= 0.05;
            any_plain = any_plain || p[k] <= 0.05;
        }
        wrong += any;
        plain += any_plain;
    }
    printf("families with a false verdict: %.1f %% (without Holm: %.1f %%)\n",
           100.0 * wrong / SIMULATIONS, 100.0 * plain / SIMULATIONS);
    ck_assert_double_le((double)wrong / SIMULATIONS, 0.05 + SLACK(0.05));
    ck_assert_double_gt((double)plain / SIMULATIONS, 0.1);
    gsl_rng_free(r);
}
END_TEST

/* A true difference of the size that "would have shown" is found in about 80 %. The size is
 * estimated from few seeds, so its median over the simulations stands for it. */
START_TEST(what_would_have_shown_is_found) {
    const int seeds[] = {3, 5};
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    for (int k = 0; k < 2; k++) {
        double d[5 * EXAMPLES], size = 0;
        pb_difference out;
        pb_stat_options few = {.resamples = 10, .flips = 9};
        /* The size for the true spread. */
        world w = {0.2, 0.5, 0.5, false};
        out = (pb_difference){.n_seeds = seeds[k],
                              .se_seeds = sqrt(0.04 + 0.25 / EXAMPLES) / sqrt(seeds[k]),
                              .se_examples = 0.5 / sqrt(EXAMPLES)};
        size = pb_detectable(&out, 0.05, 0.8);
        int found = 0;
        for (int i = 0; i < SIMULATIONS; i++) {
            draw_world(r, w, seeds[k], size, d);
            pb_assert_ok(pb_difference_of(&(pb_paired){seeds[k], EXAMPLES, d, NULL}, &few, &out));
            found += out.p <= 0.05;
        }
        double share = (double)found / SIMULATIONS;
        printf("%d seeds: a difference of the detectable size is found in %.1f %%\n", seeds[k],
               100 * share);
        ck_assert_msg(share >= 0.75 && share <= 0.9, "%d seeds: %.3f", seeds[k], share);
    }
    gsl_rng_free(r);
}
END_TEST

/* ---- ratios ---- */

START_TEST(ratios_are_taken_on_the_log_scale) {
    const double x[] = {2, 4, 8}, y[] = {1, 2, 2};
    pb_ratio out;
    pb_assert_ok(pb_ratio_of(x, y, 3, 0.95, &out));
    assert_near(out.ratio, exp((log(2) + log(2) + log(4)) / 3), 1e-12, "geometric mean");
    double se = log(2) / sqrt(3) / sqrt(3), arm = 4.302652729911275 * se;
    assert_near(log(out.interval.low), log(out.ratio) - arm, 1e-9, "low");
    assert_near(out.p, 2 * gsl_cdf_tdist_Q(log(out.ratio) / se, 2), 1e-9, "p");
    ck_assert_double_gt(pb_ratio_detectable(&out, 0.05, 0.8), exp(arm));
    const double bytes[] = {100, 110, 120}, twice[] = {200, 220, 240};
    pb_assert_ok(pb_ratio_of(twice, bytes, 3, 0.95, &out)); /* counted to the byte: no spread */
    ck_assert(fabs(out.ratio - 2) < 1e-12 && out.p < 1e-9);
    pb_assert_ok(pb_ratio_of(bytes, bytes, 3, 0.95, &out));
    ck_assert(out.ratio == 1 && out.p == 1);
    pb_assert_ok(pb_ratio_of(x, y, 1, 0.95, &out));
    ck_assert(out.ratio == 2 && isnan(out.p) && isnan(out.interval.low));
    const double zero[] = {0};
    pb_assert_fails(pb_ratio_of(zero, y, 1, 0.95, &out), PB_E_INPUT, "positive");
    pb_assert_fails(pb_ratio_of(x, y, 0, 0.95, &out), PB_E_INPUT, "no values");
}
END_TEST

START_TEST(ratio_intervals_hold_the_truth) {
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    for (int n = 3; n <= 5; n += 2) {
        int held = 0, all = 4000;
        for (int i = 0; i < all; i++) {
            double x[5], y[5];
            pb_ratio out;
            for (int s = 0; s < n; s++) {
                double drift = exp(0.2 * gsl_ran_ugaussian(r)); /* hits both rows of a seed */
                x[s] = 1.2 * drift * exp(0.02 * gsl_ran_ugaussian(r));
                y[s] = drift * exp(0.01 * gsl_ran_ugaussian(r));
            }
            pb_assert_ok(pb_ratio_of(x, y, n, 0.95, &out));
            held += out.interval.low <= 1.2 && 1.2 <= out.interval.high;
        }
        assert_near((double)held / all, 0.95, 3 * sqrt(0.95 * 0.05 / all), "coverage");
    }
    gsl_rng_free(r);
}
END_TEST

/* ---- several rows ---- */

START_TEST(draws_spread_as_students_t_does) {
    enum { S = 5, N = 200, DRAWS = 20000 };
    static double x[S * N], out[DRAWS], again[DRAWS], other[DRAWS];
    const uint64_t names[S] = {1, 2, 3, 4, 5}, turned[S] = {2, 1, 3, 5, 4};
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    double means[S], mean = 0, inside = 0;
    for (int s = 0; s < S; s++) {
        means[s] = 3 + 0.2 * gsl_ran_ugaussian(r);
        for (int i = 0; i < N; i++) x[s * N + i] = means[s]; /* examples move nothing */
    }
    pb_sampled in = {S, N, x, NULL, names};
    pb_assert_ok(pb_mean_draws(&in, DRAWS, 3, out));
    pb_assert_ok(pb_mean_draws(&in, DRAWS, 3, again));
    pb_mean m = pb_mean_of(means, S, 0.95);
    for (int i = 0; i < DRAWS; i++) {
        ck_assert(out[i] == again[i]);
        mean += out[i] / DRAWS;
        inside += (m.interval.low <= out[i] && out[i] <= m.interval.high) / (double)DRAWS;
    }
    assert_near(mean, m.mean, 5 * m.sd / sqrt(S) / sqrt(DRAWS / 2.0), "mean of the draws");
    assert_near(inside, 0.95, 3 * sqrt(0.95 * 0.05 / DRAWS), "draws inside Student's interval");
    /* The same seeds move a row by the same, in whatever order they stand. */
    for (int s = 0; s < S; s++)
        for (int i = 0; i < N; i++) x[s * N + i] = means[turned[s] - 1];
    in.seeds = turned;
    pb_assert_ok(pb_mean_draws(&in, DRAWS, 3, other));
    for (int i = 0; i < DRAWS; i++) assert_near(other[i], out[i], 1e-12, "turned");
    gsl_rng_free(r);
}
END_TEST

START_TEST(draws_hold_the_spread_of_examples) {
    enum { S = 5, N = 200, DRAWS = 4000 };
    static double x[S * N], out[DRAWS];
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    double sum = 0, square = 0, var = 0, mean = 0;
    for (int i = 0; i < N; i++) {
        double b = gsl_ran_ugaussian(r);
        for (int s = 0; s < S; s++) x[s * N + i] = b; /* seeds move nothing */
        mean += b / N;
        var += b * b / N;
    }
    pb_assert_ok(pb_mean_draws(&(pb_sampled){S, N, x, NULL, NULL}, DRAWS, 3, out));
    for (int i = 0; i < DRAWS; i++) {
        sum += out[i] / DRAWS;
        square += out[i] * out[i] / DRAWS;
    }
    double want = sqrt((var - mean * mean) / N);
    assert_near(sqrt(square - sum * sum), want, 0.06 * want, "spread of the draws");
    gsl_rng_free(r);
}
END_TEST

/* Two rows of equal quality, one of which costs more: that one is on the front when it looks better. A
 * probability of 95 % and more must then come about in 5 % of the simulations and no more; resampled seeds
 * would give it in an eighth of those with three seeds alone. */
START_TEST(fronts_are_as_sure_as_they_say) {
    enum { DRAWS = 300 };
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    static double x[2][5 * EXAMPLES], quality[2 * DRAWS], cost[2 * DRAWS];
    for (int k = 0; k < 2 * DRAWS; k++) cost[k] = k < DRAWS ? 1 : 2;
    for (int k = 0; k < WORLDS; k++)
        for (int seeds = 3; seeds <= 5; seeds += 2) {
            int sure = 0, out = 0;
            for (int i = 0; i < SIMULATIONS; i++) {
                double p[2];
                for (int row = 0; row < 2; row++) {
                    draw_world(r, worlds[k], seeds, 0, x[row]);
                    pb_sampled in = {seeds, EXAMPLES, x[row], NULL, NULL};
                    pb_assert_ok(pb_mean_draws(&in, DRAWS, (uint64_t)i, quality + row * DRAWS));
                }
                pb_front_probability(quality, cost, 2, DRAWS, p);
                ck_assert(p[0] == 1);
                sure += p[1] >= 0.95;
                out += p[1] <= 0.05;
            }
            printf("world %d, %d seeds: on the front for sure in %.1f %%, off it in %.1f %%\n", k, seeds,
                   100.0 * sure / SIMULATIONS, 100.0 * out / SIMULATIONS);
            double most = 0.05 + SLACK(0.05);
            ck_assert_msg((double)sure / SIMULATIONS <= most && (double)out / SIMULATIONS <= most, "world %d, %d seeds: %d, %d",
                          k, seeds, sure, out);
        }
    gsl_rng_free(r);
}
END_TEST

START_TEST(front_probability_counts_draws) {
    enum { DRAWS = 4 };
    const double quality[] = {9, 9, 9, 9, 8, 8, 9.5, 8, 7, 7, 7, 7, NAN, NAN, NAN, NAN};
    const double cost[] = {5, 5, 5, 5, 6, 6, 6, 6, 1, 1, 1, 9, 1, 1, 1, 1};
    double p[4];
    pb_front_probability(quality, cost, 4, DRAWS, p);
    ck_assert(p[0] == 1 && p[1] == 0.25 && p[2] == 0.75 && isnan(p[3]));
    const double tie[] = {1, 1}, same[] = {2, 2};
    pb_front_probability(tie, same, 2, 1, p); /* equal in both: neither beats the other */
    ck_assert(p[0] == 1 && p[1] == 1);
}
END_TEST

int main(void) {
    Suite *s = suite_create("stats");
    TCase *t = pb_test_case(s, "known values");
    tcase_add_test(t, student_and_wilson_give_known_values);
    tcase_add_test(t, sign_flips_count_what_is_as_extreme);
    tcase_add_test(t, holm_steps_down);
    tcase_add_test(t, rows_that_nothing_separates_share_a_rank);
    tcase_add_test(t, one_number_per_seed_is_a_paired_t_test);
    tcase_add_test(t, parts_of_the_spread_are_told_apart);
    tcase_add_test(t, one_seed_gives_no_verdict_and_bad_values_are_named);
    tcase_add_test(t, same_data_give_the_same_numbers);
    tcase_add_test(t, ratios_are_taken_on_the_log_scale);
    tcase_add_test(t, front_probability_counts_draws);
    t = pb_test_case(s, "simulations");
    tcase_add_test(t, wilson_holds_the_share_as_often_as_it_says);
    tcase_add_test(t, intervals_hold_the_truth_with_five_seeds);
    tcase_add_test(t, intervals_hold_the_truth_with_three_seeds);
    tcase_add_test(t, intervals_hold_the_truth_of_answers_and_of_tokens);
    tcase_add_test(t, the_simulation_catches_an_interval_that_forgets_the_seeds);
    tcase_add_test(t, a_family_without_differences_seldom_has_a_verdict);
    tcase_add_test(t, what_would_have_shown_is_found);
    tcase_add_test(t, ratio_intervals_hold_the_truth);
    tcase_add_test(t, draws_spread_as_students_t_does);
    tcase_add_test(t, draws_hold_the_spread_of_examples);
    tcase_add_test(t, fronts_are_as_sure_as_they_say);
    return pb_run_suite(s);
}
