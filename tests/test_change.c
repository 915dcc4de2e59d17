/* reports/change: changes are found where they are, and seldom where there are none. The draws are
 * GSL's with fixed seeds: the numbers are the same each time. */
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "reports/change.h"
#include "tests/support.h"

#define MOST (PB_CHANGE_MOST / PB_CHANGE_SEGMENT)

static int changes_of(const double *x, int n, pb_change *out) {
    int found = -1;
    pb_assert_ok(pb_change_points(x, n, 7, out, &found));
    return found;
}

/* A level of 1 (log time 0) that is `step` higher from `at` on and back from `back` on. */
static void make(gsl_rng *r, double *x, int n, double noise, double step, int at, int back) {
    for (int i = 0; i < n; i++)
        x[i] = noise * gsl_ran_ugaussian(r) + (i >= at && i < back ? log(1 + step) : 0);
}

START_TEST(the_statistic_is_that_of_the_paper) {
    /* Two levels without noise: Q is largest at the split, and its place, p and medians are known. */
    double x[20];
    pb_change c[MOST];
    for (int i = 0; i < 20; i++) x[i] = i < 8 ? 1 : 3;
    ck_assert_int_eq(changes_of(x, 20, c), 1);
    ck_assert(c[0].at == 8 && c[0].before == 1 && c[0].after == 3);
    ck_assert(c[0].p == 1.0 / (PB_CHANGE_SHUFFLES + 1));
    for (int i = 0; i < 20; i++) x[i] = 5; /* nothing moves */
    ck_assert_int_eq(changes_of(x, 20, c), 0);
    for (int i = 0; i < 9; i++) x[i] = i < 4; /* too short for two segments */
    ck_assert_int_eq(changes_of(x, 9, c), 0);
    ck_assert_int_eq(changes_of(x, 0, c), 0);
}
END_TEST

START_TEST(two_changes_are_found_in_order) {
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    double x[60];
    pb_change c[MOST];
    for (int round = 0; round < 5; round++) {
        make(r, x, 60, 0.01, 0.08, 20, 45);
        ck_assert_int_eq(changes_of(x, 60, c), 2);
        ck_assert(abs(c[0].at - 20) <= 1 && abs(c[1].at - 45) <= 1);
        ck_assert(c[0].after > c[0].before + 0.05 && c[1].after < c[1].before - 0.05);
        ck_assert(c[0].after == c[1].before);
    }
    gsl_rng_free(r);
}
END_TEST

/* The statistic compares distributions, so a machine that becomes restless is a change as well; the
 * medians say that its level did not move. */
START_TEST(a_change_of_spread_is_a_change_too) {
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    double x[120];
    pb_change c[MOST];
    for (int i = 0; i < 120; i++) x[i] = (i < 60 ? 0.002 : 0.02) * gsl_ran_ugaussian(r);
    ck_assert_int_eq(changes_of(x, 120, c), 1);
    ck_assert_msg(abs(c[0].at - 60) <= 3, "at %d", c[0].at);
    ck_assert(fabs(c[0].after - c[0].before) < 0.01);
    gsl_rng_free(r);
}
END_TEST

/* Series without a change, normal and with heavy tails: p < 0.001 for the first candidate bounds the
 * share that show any. With 1500 series 1.5 are expected at that bound, more than 6 come with
 * probability 0.001; the test at 1 / 2000 allows half of that. */
START_TEST(false_alarms_are_as_rare_as_said) {
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    enum { SERIES = 1500, LENGTH = 30 };
    for (int tails = 0; tails < 2; tails++) {
        int alarms = 0;
        for (int i = 0; i < SERIES; i++) {
            double x[LENGTH];
            pb_change c[MOST];
            for (int k = 0; k < LENGTH; k++)
                x[k] = 0.01 * (tails ? gsl_ran_tdist(r, 2) : gsl_ran_ugaussian(r));
            alarms += changes_of(x, LENGTH, c) > 0;
        }
        printf("%s: %d of %d series without a change show one\n", tails ? "t(2)" : "normal", alarms,
               SERIES);
        ck_assert_int_le(alarms, 6);
    }
    gsl_rng_free(r);
}
END_TEST

/* A step of 5 % in the middle of 40 revisions on a machine whose medians spread by 1 %. */
START_TEST(a_step_of_five_per_cent_is_found_where_it_is) {
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    int found = 0, near = 0;
    enum { SERIES = 60 };
    for (int i = 0; i < SERIES; i++) {
        double x[40];
        pb_change c[MOST];
        make(r, x, 40, 0.01, 0.05, 25, 40);
        bool there = changes_of(x, 40, c) >= 1;
        found += there;
        near += there && abs(c[0].at - 25) <= 1;
    }
    printf("5 %% found in %d, within one revision in %d of %d series\n", found, near, SERIES);
    ck_assert_int_eq(found, SERIES);
    ck_assert_int_ge(near, SERIES - 2);
    gsl_rng_free(r);
}
END_TEST

START_TEST(the_same_numbers_give_the_same_changes) {
    gsl_rng *r = gsl_rng_alloc(gsl_rng_mt19937);
    double x[60];
    pb_change a[MOST], b[MOST];
    make(r, x, 60, 0.02, 0.05, 30, 60);
    int n = changes_of(x, 60, a);
    ck_assert_int_eq(changes_of(x, 60, b), n);
    for (int i = 0; i < n; i++) ck_assert(a[i].at == b[i].at && a[i].p == b[i].p);
    x[3] = NAN;
    pb_assert_fails(pb_change_points(x, 60, 7, a, &n), PB_E_INPUT, "value 3 is not finite");
    pb_assert_fails(pb_change_points(x, PB_CHANGE_MOST + 1, 7, a, &n), PB_E_INPUT, "at most 400");
    gsl_rng_free(r);
}
END_TEST

int main(void) {
    Suite *s = suite_create("change");
    TCase *t = pb_test_case(s, "points");
    tcase_add_test(t, the_statistic_is_that_of_the_paper);
    tcase_add_test(t, two_changes_are_found_in_order);
    tcase_add_test(t, a_change_of_spread_is_a_change_too);
    tcase_add_test(t, the_same_numbers_give_the_same_changes);
    t = pb_test_case(s, "simulations");
    tcase_add_test(t, false_alarms_are_as_rare_as_said);
    tcase_add_test(t, a_step_of_five_per_cent_is_found_where_it_is);
    return pb_run_suite(s);
}
