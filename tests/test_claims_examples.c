/* Claims over the examples of language models: what pairs example by example, what no seed moves, parts that are
 * optional, and suites whose model the user names. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "reports/stats.h"
#include "tests/claim_lab.h"
#include "tests/support.h"

enum { N = 40, SEEDS = 3 };

#define HEAD                                                                                          \
    "{\"id\":\"t\",\"method\":\"lora\",\"statement\":\"s\",\"source\":{\"work\":\"w\",\"evidence\":"   \
    "\"paper\"},\"reported\":\"r\",\"full_scale\":\"f\",\"small_scale\":\"s\",\"seeds\":5,"
#define TERM(label, metric) "{\"suite\":\"s-*\",\"label\":\"" label "\",\"metric\":\"quality/test/" metric "\"}"
#define LESS(left, right) "{\"says\":\"x\",\"op\":\"less\",\"left\":" left ",\"right\":" right "}"
#define BEFORE LESS(TERM("a", "nll/before"), TERM("b", "nll/before"))
#define SMALL(parts) HEAD "\"scale\":\"small\",\"assertions\":[" parts "]}"

static double weight(int i) { return 3 + i % 7; }

/* Loss of example i: before training the same for every seed, b above a; after it the seeds differ. */
static double loss(char label, bool before, uint64_t seed, int i) {
    double level = label == 'a' ? 3.0 : label == 'b' ? 3.4 : 2.9, noise = 0.2 * sin(1.7 * i);
    if (before) return level + noise + 0.05 * cos(label + 2.3 * i);
    return 0.7 * level + noise + 0.01 * (double)seed * cos(label + 1.1 * i) + 0.003 * (double)seed;
}

static double mean_of(const double *v) {
    double sum = 0, all = 0;
    for (int i = 0; i < N; i++) sum += weight(i) * v[i], all += weight(i);
    return sum / all;
}

/* moved: before the training, too. */
static pb_record run_of(const char *suite, char label, uint64_t seed, bool samples, bool moved) {
    double id[N], tokens[N], v[N];
    pb_record r = {.seed = seed, .status = PB_RUN_OK};
    pb_copy(r.suite, sizeof r.suite, suite);
    snprintf(r.label, sizeof r.label, "%c", label);
    snprintf(r.run_id, sizeof r.run_id, "%c%.6s%04d", label, suite, (int)(seed % 10000));
    r.model = cJSON_CreateObject();
    ck_assert(pb_json_add_str(r.model, "name", "m"));
    for (int i = 0; i < N; i++) id[i] = i, tokens[i] = weight(i);
    for (int before = 0; before < 2; before++) {
        for (int i = 0; i < N; i++) v[i] = loss(label, before, seed, i) + (moved ? 1e-3 * (double)seed : 0);
        pb_assert_ok(pb_record_metric(&r, before ? "quality/test/nll/before" : "quality/test/nll", mean_of(v),
                                      "nats", -1, N, ""));
        if (samples) pb_assert_ok(pb_record_sample(&r, before ? "eval/test/nll/before" : "eval/test/nll", v, N));
    }
    if (!samples) return r;
    pb_assert_ok(pb_record_sample(&r, "eval/test/id", id, N));
    pb_assert_ok(pb_record_sample(&r, "eval/test/tokens", tokens, N));
    return r;
}

static int add_runs(pb_record *records, int n, const char *suite, int seeds, bool samples, bool moved) {
    for (const char *label = "abl"; *label; label++)
        for (int s = 1; s <= seeds; s++)
            records[n++] = run_of(suite, *label, (uint64_t)s, samples, moved);
    return n;
}

static const pb_json *claim_of(const pb_json *results) {
    return cJSON_GetArrayItem(pb_json_get(results, "claims"), 0);
}

static const pb_json *part_of(const pb_json *results, int i) {
    return cJSON_GetArrayItem(pb_json_get(claim_of(results), "assertions"), i);
}

static const char *text_of(const pb_json *o, const char *key) { return pb_json_get(o, key)->valuestring; }
static double number_of(const pb_json *o, const char *key) { return pb_json_get(o, key)->valuedouble; }

static void free_records(pb_record *records, int n) {
    for (int i = 0; i < n; i++) pb_record_free(&records[i]);
}

/* d[seed][example] = sum of factor x loss. */
typedef struct part {
    char label;
    bool before;
    double factor;
} part;

static pb_difference by_hand(const part *parts, int n_parts, int seeds) {
    double d[SEEDS * N] = {0}, w[N];
    pb_difference out;
    for (int i = 0; i < N; i++) w[i] = weight(i);
    for (int s = 0; s < seeds; s++)
        for (int i = 0; i < N; i++)
            for (int k = 0; k < n_parts; k++)
                d[s * N + i] += parts[k].factor * loss(parts[k].label, parts[k].before, (uint64_t)s + 1, i);
    pb_paired in = {.n_seeds = seeds, .n_examples = N, .d = d, .weights = w};
    pb_assert_ok(pb_difference_of(&in, &(pb_stat_options){.key = 1}, &out));
    return out;
}

/* The loss before training is one observation, however many seeds recorded it: its interval is that over examples,
 * weighted by their tokens, neither of no width nor five times surer. */
START_TEST(what_no_seed_moves_has_an_interval_over_examples) {
    static const part parts[] = {{'a', true, 1}, {'b', true, -1}};
    pb_difference hand = by_hand(parts, 2, 1);
    for (int seeds = 1; seeds <= SEEDS; seeds++) {
        pb_record records[3 * SEEDS];
        int n = add_runs(records, 0, "s-m", seeds, true, false);
        pb_json *results = pb_lab_checked(SMALL(BEFORE), records, n);
        const pb_json *p = part_of(results, 0);
        ck_assert_str_eq(text_of(p, "finding"), "holds"); /* though five seeds are asked for */
        ck_assert_str_eq(text_of(claim_of(results), "verdict_family"), "same direction at small scale");
        ck_assert_int_eq((int)number_of(p, "n"), 1);
        ck_assert_int_eq((int)number_of(p, "examples"), N);
        ck_assert_ptr_nonnull(strstr(text_of(p, "seen"), "over 40 examples"));
        ck_assert_double_eq_tol(number_of(p, "value"), hand.mean, 1e-12);
        ck_assert_double_eq_tol(number_of(p, "low"), hand.interval_examples.low, 1e-12);
        ck_assert_double_eq_tol(number_of(p, "high"), hand.interval_examples.high, 1e-12);
        ck_assert_double_gt(number_of(p, "high") - number_of(p, "low"), 1e-3);
        pb_json_free(results);
        free_records(records, n);
    }
}
END_TEST

START_TEST(a_measure_before_training_that_seeds_move_needs_its_seeds) {
    pb_record records[3 * SEEDS];
    int n = add_runs(records, 0, "s-m", SEEDS, true, true);
    /* both sides move alike, so that only the sum shows it */
    pb_json *results = pb_lab_checked(
        SMALL(LESS("{\"sum\":[" TERM("a", "nll/before") "," TERM("b", "nll/before") "]}", TERM("l", "nll/before"))),
        records, n);
    ck_assert_str_eq(text_of(part_of(results, 0), "finding"), "too few seeds");
    ck_assert_int_eq((int)number_of(part_of(results, 0), "n"), SEEDS);
    ck_assert_ptr_null(pb_json_get(part_of(results, 0), "examples"));
    pb_json_free(results);
    free_records(records, n);
    /* without samples there is no interval, and not one of no width */
    n = add_runs(records, 0, "s-m", SEEDS, false, false);
    results = pb_lab_checked(SMALL("{\"seeds\":1," "\"says\":\"x\",\"op\":\"less\",\"left\":" TERM("a", "nll/before")
                            ",\"right\":" TERM("b", "nll/before") "}"), records, n);
    ck_assert_str_eq(text_of(part_of(results, 0), "finding"), "unclear");
    ck_assert(cJSON_IsNull(pb_json_get(part_of(results, 0), "low")));
    pb_json_free(results);
    free_records(records, n);
}
END_TEST

#define GAP(metric) "{\"difference\":[" TERM("a", metric) "," TERM("l", metric) "]}"
#define HALF "{\"product\":[{\"value\":0.5}," GAP("nll/before") "]}"

/* Sums, differences and multiples pair their examples as two plain metrics do. */
START_TEST(combinations_pair_their_examples) {
    static const part parts[] = {{'a', false, 1}, {'l', false, -1}, {'a', true, -0.5}, {'l', true, 0.5}};
    pb_difference hand = by_hand(parts, 4, SEEDS);
    pb_record records[3 * SEEDS];
    int n = add_runs(records, 0, "s-m", SEEDS, true, false);
    pb_json *results = pb_lab_checked(SMALL("{\"seeds\":3,\"says\":\"x\",\"op\":\"less\",\"left\":" GAP("nll") ",\"right\":" HALF "}"),
                               records, n);
    const pb_json *p = part_of(results, 0);
    ck_assert_int_eq((int)number_of(p, "n"), SEEDS);
    ck_assert_double_eq_tol(number_of(p, "value"), hand.mean, 1e-12);
    ck_assert_double_eq_tol(number_of(p, "low"), hand.interval.low, 1e-12);
    ck_assert_double_eq_tol(number_of(p, "high"), hand.interval.high, 1e-12);
    ck_assert_double_gt(fabs(hand.interval.low - hand.interval_seeds.low), 1e-6); /* the examples tell */
    pb_json_free(results);
    /* what is not linear has its seeds alone */
    results = pb_lab_checked(SMALL("{\"seeds\":3,\"says\":\"x\",\"op\":\"less\",\"left\":{\"product\":[" TERM("a", "nll") ","
                            TERM("b", "nll") "]},\"right\":" TERM("l", "nll") "}"), records, n);
    double values[SEEDS];
    for (int s = 0; s < SEEDS; s++)
        values[s] = pb_record_value(&records[s], "quality/test/nll") *
                        pb_record_value(&records[SEEDS + s], "quality/test/nll") -
                    pb_record_value(&records[2 * SEEDS + s], "quality/test/nll");
    pb_mean m = pb_mean_of(values, SEEDS, PB_STAT_LEVEL);
    ck_assert_double_eq_tol(number_of(part_of(results, 0), "low"), m.interval.low, 1e-12);
    pb_json_free(results);
    free_records(records, n);
}
END_TEST

#define FACT "{\"says\":\"f\",\"op\":\"less\",\"left\":{\"value\":1},\"right\":{\"value\":2}}"
#define OPTIONAL(rest, left, right) \
    "{\"says\":\"o\",\"optional\":true," rest "\"op\":\"less\",\"left\":" left ",\"right\":" right "}"
#define HOLDS(rest) OPTIONAL(rest, TERM("a", "nll/before"), TERM("b", "nll/before"))
#define FAILS(rest) OPTIONAL(rest, TERM("b", "nll/before"), TERM("a", "nll/before"))
#define GONE(rest) OPTIONAL(rest, TERM("z", "nll/before"), TERM("a", "nll/before"))
#define CLAIM(scale, parts) HEAD "\"scale\":\"" scale "\",\"assertions\":[" parts "]}"

/* An optional part counts like any other where it ran, and nothing where it did not. */
START_TEST(optional_parts_count_where_they_ran) {
    static const struct {
        const char *claim, *verdict, *alone; /* alone: without any record */
    } cases[] = {
        {CLAIM("full", FACT "," HOLDS("")), "supported", "supported"},
        {CLAIM("full", FACT "," FAILS("")), "contradicted", "supported"},
        {CLAIM("full", FACT "," FAILS("\"decides\":\"in part\",")), "supported in part", "supported"},
        {CLAIM("full", FACT "," FAILS("\"decides\":false,")), "supported", "supported"},
        {CLAIM("full", FACT "," GONE("")), "supported", "supported"},
        {CLAIM("full", FACT "," OPTIONAL("", TERM("a", "nll"), TERM("b", "nll"))), "inconclusive", "supported"},
        {CLAIM("full", FACT "," BEFORE), "supported", "not run"},
        {CLAIM("arithmetic", FACT "," HOLDS("")), "supported", "supported"},
        {CLAIM("arithmetic", FACT "," FAILS("")), "contradicted", "supported"},
    };
    pb_record records[3 * SEEDS];
    int n = add_runs(records, 0, "s-m", SEEDS, true, false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int there = 0; there < 2; there++) {
            const char *want = there ? cases[i].verdict : cases[i].alone;
            pb_json *results = pb_lab_checked(cases[i].claim, records, there ? n : 0);
            ck_assert_msg(strcmp(text_of(claim_of(results), "verdict"), want) == 0, "case %zu: %s, expected %s", i,
                          text_of(claim_of(results), "verdict"), want);
            ck_assert_str_eq(text_of(claim_of(results), "verdict_family"), want);
            pb_json_free(results);
        }
    free_records(records, n);
}
END_TEST

/* The table in brief names what decided, and a part that did not run decides nothing. */
START_TEST(an_optional_part_that_did_not_run_decides_nothing) {
    pb_text table = {0};
    pb_json *results = pb_lab_checked(CLAIM("full", FACT "," GONE("")), NULL, 0);
    pb_assert_ok(pb_claims_table(results, &table));
    ck_assert_ptr_nonnull(strstr(table.data, "| supported | f: "));
    pb_text_free(&table);
    pb_json_free(results);
}
END_TEST

/* "s-*" are the runs of s on any model; those with other overrides are a rehearsal; two models are no one row. */
START_TEST(a_suite_may_leave_its_model_to_the_user) {
    static const struct {
        const char *suite, *verdict, *overridden;
    } cases[] = {{"s-m", "same direction at small scale", ""},
                 {"s-m-steps8", "same direction at small scale", "s-m-steps8"},
                 {"s", "not run", ""},
                 {"st-m", "not run", ""}};
    pb_record records[6 * SEEDS];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int n = add_runs(records, 0, cases[i].suite, SEEDS, true, false);
        pb_json *results = pb_lab_checked(SMALL(BEFORE), records, n);
        ck_assert_str_eq(text_of(claim_of(results), "verdict"), cases[i].verdict);
        ck_assert_str_eq(text_of(claim_of(results), "overridden"), cases[i].overridden);
        pb_json_free(results);
        free_records(records, n);
    }
    int n = add_runs(records, add_runs(records, 0, "s-m", SEEDS, true, false), "s-k", SEEDS, true, false);
    pb_json *results = pb_lab_checked(SMALL(BEFORE), records, n);
    ck_assert_str_eq(text_of(part_of(results, 0), "finding"), "not comparable");
    ck_assert_ptr_nonnull(strstr(text_of(part_of(results, 0), "note"), "two runs at seed"));
    pb_json_free(results);
    free_records(records, n);
}
END_TEST

START_TEST(faults_are_named) {
    static const struct {
        const char *json, *part;
    } faults[] = {
        {SMALL(HOLDS("")), "decides and is not optional"},
        {CLAIM("arithmetic", FACT "," BEFORE), "assertions[1]: an arithmetic claim reads facts only"},
        {SMALL("{\"says\":\"x\",\"optional\":1,\"op\":\"less\",\"left\":" TERM("a", "nll") ",\"right\":" TERM("b", "nll") "}"), "\"optional\": expected true or false"},
        {SMALL("{\"says\":\"x\",\"op\":\"less\",\"relative\":true,\"left\":" TERM("a", "nll/before") ",\"right\":" TERM("b", "nll") "}"), "the same for every seed"},
        {SMALL("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"sum\":[" TERM("a", "nll/before") ",{\"value\":1}]}}"), "the same for every seed"},
        {SMALL("{\"says\":\"x\",\"op\":\"spread\",\"low\":0,\"left\":" TERM("a", "nll/before") ",\"right\":" TERM("b", "nll") "}"), "the same for every seed"},
        {SMALL("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suite\":\"s*\",\"label\":\"a\",\"metric\":\"quality/test/nll\"}}"), "NAME-*"},
        {SMALL("{\"says\":\"x\",\"op\":\"within\",\"low\":0,\"of\":{\"suite\":\"*-*\",\"label\":\"a\",\"metric\":\"quality/test/nll\"}}"), "NAME-*"},
        {SMALL("{\"says\":\"x\",\"op\":\"less\",\"left\":" TERM("a", "nll/befor") ",\"right\":{\"value\":1}}"), "quality/test/nll/before"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        pb_claim_file claim;
        pb_status status = pb_lab_claim(faults[i].json, &claim);
        ck_assert_msg(status == PB_E_INPUT, "accepted: %s", faults[i].json);
        ck_assert_msg(strstr(pb_error_message(), faults[i].part) != NULL, "said: %s\nwanted: %s",
                      pb_error_message(), faults[i].part);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("claims_examples");
    TCase *t = pb_test_case(s, "examples");
    tcase_add_test(t, what_no_seed_moves_has_an_interval_over_examples);
    tcase_add_test(t, a_measure_before_training_that_seeds_move_needs_its_seeds);
    tcase_add_test(t, combinations_pair_their_examples);
    tcase_add_test(t, optional_parts_count_where_they_ran);
    tcase_add_test(t, an_optional_part_that_did_not_run_decides_nothing);
    tcase_add_test(t, a_suite_may_leave_its_model_to_the_user);
    tcase_add_test(t, faults_are_named);
    return pb_run_suite(s);
}
