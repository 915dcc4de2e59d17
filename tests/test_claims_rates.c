/* How often the operators of claims err: runs are drawn around a truth that is known, and the interval of an
 * assertion must hold it as often as it says. A truth right at the bound is then found inside or outside, both
 * of them wrong or lucky, in no more than 2.5 % of the draws each (5 % by the one-sided tests of equivalent and
 * non_inferior). */
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "reports/claims.h"
#include "tests/support.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
enum {
    TIMES = 1000,
    MOST_SEEDS = 5,
    STEPS = 7,
    RATES = 4, /* runs of a seed in rows u and v */
    CURVES = 2 + STEPS + 1,
    SWEEPS = CURVES + 2,
    ROWS = SWEEPS + 2 * RATES,
    POINTS = 11 /* of a curve */
};

#define STEP(l) "{\"suite\":\"s\",\"label\":\"" l "\",\"metric\":\"time/step/median\"}"

/* One assertion as a claim of its own. */
static pb_claim_file claim_of(const char *assertion) {
    char text[2048], *dir = pb_test_dir(), *path = pb_path_join(dir, "t.json");
    pb_claim_file claim;
    snprintf(text, sizeof text,
             "{\"id\":\"t\",\"method\":\"lora\",\"statement\":\"s\",\"source\":{\"work\":\"w\",\"evidence\":\"paper\"},"
             "\"reported\":\"r\",\"full_scale\":\"f\",\"small_scale\":\"s\",\"seeds\":3,\"scale\":\"small\","
             "\"assertions\":[{\"says\":\"x\",%s}]}",
             assertion);
    pb_assert_ok(pb_file_write_atomic(path, text, strlen(text)));
    pb_assert_ok(pb_claim_load(path, &claim));
    free(path);
    free(dir);
    return claim;
}

static void make_runs(pb_record *r, const char *label, int seeds) {
    for (int s = 0; s < seeds; s++) {
        r[s] = (pb_record){.seed = (uint64_t)s + 1, .status = PB_RUN_OK};
        pb_copy(r[s].suite, sizeof r[s].suite, "s");
        pb_copy(r[s].label, sizeof r[s].label, label);
        snprintf(r[s].run_id, sizeof r[s].run_id, "%.4s%012d", label, s);
        pb_assert_ok(pb_record_metric(&r[s], "time/step/median", 1, "s", -1, 1, ""));
    }
}

#define TURN(l) "{\"suite\":\"s\",\"label\":\"" l "\",\"sample\":\"curve/valid/nll\",\"how\":\"turn\"}"

static const char *const labels[ROWS] = {"a",  "b",  "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7",
                                         "c0", "c1", "u0", "u1", "u2", "u3", "v0", "v1", "v2", "v3"};

/* A valley at x, seen at 11 points. */
static void draw_curve(pb_record *r, double x) {
    double v[POINTS];
    for (int i = 0; i < POINTS; i++) v[i] = 1 + (i / 10.0 - x) * (i / 10.0 - x);
    if (r->n_samples == 0) pb_assert_ok(pb_record_sample(r, "curve/valid/nll", v, POINTS));
    memcpy(r->samples[0].values, v, sizeof v);
}

/* What lies on a grid: on both sides of where the grid rounds the other way, so close that seeds are mostly alike.
 * Curves turn at 0.545 and 0.555; of four rates the runs above 0.620 and 0.630 are beyond 1. */
static void draw_grids(gsl_rng *z, pb_record *records, int seeds) {
    for (int s = 0; s < seeds; s++)
        for (int i = 0; i < 2; i++) {
            draw_curve(&records[(CURVES + i) * seeds + s], 0.545 + 0.01 * i + 0.003 * gsl_ran_ugaussian(z));
            double from = 0.620 + 0.01 * i + 0.003 * gsl_ran_ugaussian(z);
            for (int k = 0; k < RATES; k++)
                records[(SWEEPS + i * RATES + k) * seeds + s].metrics[0].value = 1 + (k + 0.5) / RATES - from;
        }
}

/* The means of rows a and b differ by 1 and have the ratio 2, those of s0 to s7 are the same; a seed moves all. */
static void draw(gsl_rng *z, pb_record *records, int seeds) {
    for (int s = 0; s < seeds; s++) {
        double all = 0.2 * gsl_ran_ugaussian(z);
        for (int i = 0; i < CURVES; i++)
            records[i * seeds + s].metrics[0].value = (i == 0 ? 2 : 1) + all + 0.1 * gsl_ran_ugaussian(z);
    }
    draw_grids(z, records, seeds);
}

START_TEST(intervals_of_assertions_hold_the_truth) {
    /* The bound is the truth; `either` way is an error of its own. */
    static const struct {
        const char *assertion;
        double truth, error; /* truth NAN: the interval is of no single value */
        bool wide;           /* holds it more often than it says: counts and grids have no exact interval */
    } cases[] = {
        {"\"op\":\"within\",\"low\":2,\"of\":" STEP("a"), 2, 0.025, false},
        {"\"op\":\"within\",\"high\":1,\"of\":{\"difference\":[" STEP("a") "," STEP("b") "]}", 1, 0.025, false},
        {"\"op\":\"greater\",\"margin\":1,\"left\":" STEP("a") ",\"right\":" STEP("b"), 1, 0.025, false},
        {"\"op\":\"equivalent\",\"margin\":1,\"left\":" STEP("a") ",\"right\":" STEP("b"), 1, 0.05, false},
        {"\"op\":\"non_inferior\",\"better\":\"lower\",\"margin\":1,\"left\":" STEP("a") ",\"right\":" STEP("b"), 1,
         0.05, false},
        {"\"op\":\"ordered\",\"direction\":\"falling\",\"of\":[" STEP("s0") "," STEP("s1") "," STEP("s2") "," STEP(
             "s3") "," STEP("s4") "," STEP("s5") "," STEP("s6") "," STEP("s7") "]",
         NAN, 0.025, false},
        {"\"op\":\"less\",\"relative\":true,\"left\":" STEP("s0") ",\"right\":" STEP("s1"), 1, 0.025, false},
        {"\"op\":\"slope\",\"low\":0,\"x\":[1,4,16],\"of\":[" STEP("s0") "," STEP("s1") "," STEP("s2") "]", 0, 0.025, false},
        /* half the runs; with five seeds Wilson's interval leaves 0.5 out when all or none are, 1 in 32 each */
        {"\"op\":\"share\",\"above\":1,\"low\":0.5,\"of\":" STEP("s0"), 0.5, 0.03125, true},
        {"\"op\":\"rarer\",\"above\":1,\"left\":" STEP("s0") ",\"right\":" STEP("s1"), 0, 0.025, true},
        /* the seed that moves both rows makes their spreads alike */
        {"\"op\":\"spread\",\"low\":1,\"left\":" STEP("s0") ",\"right\":" STEP("s1"), 1, 0.025, true},
        {"\"op\":\"within\",\"low\":0.545,\"of\":" TURN("c0"), 0.545, 0.025, true},
        {"\"op\":\"within\",\"high\":0.555,\"of\":" TURN("c1"), 0.555, 0.025, true},
        {"\"op\":\"less\",\"margin\":0.01,\"left\":" TURN("c0") ",\"right\":" TURN("c1"), -0.01, 0.025, true},
        {"\"op\":\"rarer\",\"above\":1,\"left\":" STEP("u*") ",\"right\":" STEP("v*"), 0.01, 0.025, true}};
    gsl_rng *z = gsl_rng_alloc(gsl_rng_mt19937);
    for (size_t k = 0; k < COUNT(cases); k++)
        for (int seeds = 3; seeds <= MOST_SEEDS; seeds += 2) {
            static pb_record records[ROWS * MOST_SEEDS];
            pb_claim_file claim = claim_of(cases[k].assertion);
            const pb_claim_file *list[] = {&claim};
            const double error = cases[k].error, most = error + 3 * sqrt(error * (1 - error) / TIMES),
                         slack = 3 * sqrt(2 * error * (1 - 2 * error) / TIMES);
            int holds = 0, fails = 0, inside = 0;
            for (int i = 0; i < ROWS; i++) make_runs(records + i * seeds, labels[i], seeds);
            for (int t = 0; t < TIMES; t++) {
                pb_json *results = NULL;
                draw(z, records, seeds);
                pb_assert_ok(pb_claims_check(list, 1, records, ROWS * seeds, NULL, &results));
                const pb_json *c = cJSON_GetArrayItem(pb_json_get(results, "claims"), 0),
                              *a = cJSON_GetArrayItem(pb_json_get(c, "assertions"), 0);
                const char *finding = pb_json_get(a, "finding")->valuestring;
                holds += strcmp(finding, "holds") == 0;
                fails += strcmp(finding, "fails") == 0;
                inside += pb_json_get(a, "low")->valuedouble <= cases[k].truth &&
                          cases[k].truth <= pb_json_get(a, "high")->valuedouble;
                pb_json_free(results);
            }
            printf("assertion %zu, %d seeds: holds in %.1f %%, fails in %.1f %%", k, seeds, 100.0 * holds / TIMES,
                   100.0 * fails / TIMES);
            if (!isnan(cases[k].truth)) printf(", the interval holds the truth in %.1f %%", 100.0 * inside / TIMES);
            putchar('\n');
            ck_assert_msg((double)holds / TIMES <= most && (double)fails / TIMES <= most, "assertion %zu: %d, %d", k,
                          holds, fails);
            if (!isnan(cases[k].truth))
                ck_assert_msg((cases[k].wide ? 0 : (double)inside / TIMES - (1 - 2 * error)) <= slack &&
                                  (double)inside / TIMES - (1 - 2 * error) >= -slack,
                              "assertion %zu: %d", k, inside);
            pb_json_free(claim.json);
            for (int i = 0; i < ROWS * seeds; i++) pb_record_free(&records[i]);
        }
    gsl_rng_free(z);
}
END_TEST

int main(void) {
    Suite *s = suite_create("claims_rates");
    TCase *t = pb_test_case(s, "claims_rates");
    tcase_add_test(t, intervals_of_assertions_hold_the_truth);
    return pb_run_suite(s);
}
