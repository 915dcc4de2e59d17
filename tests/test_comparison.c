/* reports/comparison: verdicts on rows with known differences, families, ranks, fronts, anchors. */
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdio.h>

#include "base/text.h"
#include "reports/comparison.h"
#include "tests/made_rows.h"
#include "tests/support.h"

static const char lora[] =
    "{\"rank\":8,\"alpha\":16,\"scale\":2,\"dropout\":0,\"targets\":[\"*\"]}";

enum { N = 400 };

static made_row rows[6];
static pb_entry entries[6];
static int n_rows;

static void teardown(void) {
    for (int i = 0; i < n_rows; i++) made_row_free(&rows[i]);
    n_rows = 0;
}

/* A row with its quality (mean loss), spread over seeds and cost. */
static made_row *add(const char *method, const char *label, int seeds, double nll, double step,
                     double bytes) {
    static const double shifts[] = {0.01, -0.012, 0.004, -0.006, 0.003};
    made_row *r = &rows[n_rows];
    bool low_rank = strcmp(method, "full") != 0;
    made_row_make(r, method, label, seeds, low_rank ? lora : "{}", NULL);
    for (int s = 0; s < seeds; s++) {
        double shift = shifts[(s + n_rows * 2) % 5];
        made_row_values(r, s, N, nll, shift, 0.1);
        made_row_cost(r, s, step * (1 + shift), bytes);
    }
    entries[n_rows] = (pb_entry){.row = &r->row};
    pb_copy(entries[n_rows++].name, sizeof entries[0].name, label);
    return r;
}

static void usual(int seeds) {
    add("lora", "LoRA", seeds, 0.90, 0.100, 1000);
    add("dora", "DoRA, too", seeds, 0.90, 0.120, 1200);
    add("full", "full", seeds, 0.70, 0.150, 5000);
    add("adalora", "Ada", seeds, 1.15, 0.130, 1100);
}

START_TEST(verdicts_follow_the_differences_put_in) {
    pb_comparison c;
    usual(5);
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
    for (int m = PB_NLL; m <= PB_ACCURACY; m++) {
        ck_assert_int_eq(pb_verdict_of(&c, m, 1, 0)->kind, PB_NO_DIFFERENCE);
        ck_assert_int_eq(pb_verdict_of(&c, m, 2, 0)->kind, PB_BETTER);
        ck_assert_int_eq(pb_verdict_of(&c, m, 0, 2)->kind, PB_WORSE);
        ck_assert_int_eq(pb_verdict_of(&c, m, 3, 0)->kind, PB_WORSE);
        ck_assert_int_eq(pb_verdict_of(&c, m, 2, 3)->kind, PB_BETTER);
    }
    const pb_verdict *v = pb_verdict_of(&c, PB_NLL, 2, 0), *back = pb_verdict_of(&c, PB_NLL, 0, 2);
    ck_assert(v->interval.low < -0.2 && v->interval.high > -0.2 && v->interval.high < 0);
    ck_assert(back->estimate == -v->estimate && back->interval.low == -v->interval.high);
    ck_assert(v->n_seeds == 5 && v->n_examples == N);
    ck_assert(v->p_holm >= v->p && v->p_holm <= 3 * v->p + 1e-15);
    ck_assert(v->p_seeds == 2.0 / 32 && v->p_examples < 0.01);
    /* What would have shown is smaller than what was put in elsewhere and larger than what is. */
    v = pb_verdict_of(&c, PB_NLL, 1, 0);
    ck_assert(v->detectable > fabs(v->estimate) && v->detectable < 0.2);
    v = pb_verdict_of(&c, PB_STEP, 1, 0);
    ck_assert_int_eq(v->kind, PB_WORSE);
    ck_assert(v->interval.low < 1.2 && 1.2 < v->interval.high && isnan(v->p_seeds));
    ck_assert(fabs(pb_verdict_of(&c, PB_STEP, 0, 1)->estimate * v->estimate - 1) < 1e-12);
    v = pb_verdict_of(&c, PB_MEMORY, 2, 0); /* to the byte: no spread */
    ck_assert(v->kind == PB_WORSE && fabs(v->interval.low - 5) < 1e-9 &&
              fabs(v->interval.high - 5) < 1e-9);
    ck_assert(c.family[PB_NLL][0] == 3 && c.family[PB_NLL][1] == 3);
    const int best[] = {2, 2, 1, 4}, worst[] = {3, 3, 1, 4};
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(c.best[PB_NLL * 4 + i], best[i]);
        ck_assert_int_eq(c.worst[PB_NLL * 4 + i], worst[i]);
    }
    ck_assert(c.front[1][0] > 0.99 && c.front[1][2] == 1 && c.front[1][3] == 0);
    ck_assert(c.front[1][1] > 0.01 && c.front[1][1] < 0.99); /* equal quality, more memory */
    pb_comparison_free(&c);
}
END_TEST

START_TEST(estimates_have_intervals) {
    pb_comparison c;
    usual(5);
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
    const pb_estimate *e = pb_estimate_of(&c, PB_NLL, 2);
    ck_assert(e->n_seeds == 5 && e->interval.low < 0.7 && 0.7 < e->interval.high && e->sd > 0);
    ck_assert(e->interval.high - e->interval.low < 0.2);
    e = pb_estimate_of(&c, PB_STEP, 0);
    ck_assert(e->interval.low < 0.1 && 0.1 < e->interval.high);
    /* Costs on the log scale: the mean is in the middle of it, and no spread reaches zero. */
    ck_assert(fabs(log(e->interval.low * e->interval.high) - 2 * log(e->mean)) < 1e-9);
    pb_comparison_free(&c);
    for (int s = 0; s < 3; s++)
        for (int k = 0; k < rows[0].records[s].n_metrics; k++)
            if (strcmp(rows[0].records[s].metrics[k].tag, "time/step/median") == 0)
                rows[0].records[s].metrics[k].value = s == 2 ? 0.5 : 0.05;
    for (int s = 3; s < 5; s++) rows[0].records[s].status = PB_RUN_FAILED;
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
    e = pb_estimate_of(&c, PB_STEP, 0);
    ck_assert(e->n_seeds == 3 && e->interval.low > 0 && e->interval.high > 1);
    ck_assert(fabs(e->mean - cbrt(0.05 * 0.05 * 0.5)) < 1e-12);
    pb_comparison_free(&c);
}
END_TEST

START_TEST(one_seed_is_described_and_not_judged) {
    pb_comparison c;
    usual(1);
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
    const pb_verdict *v = pb_verdict_of(&c, PB_ACCURACY, 2, 0);
    ck_assert_int_eq(v->kind, PB_INCOMPARABLE);
    ck_assert_ptr_nonnull(strstr(v->why, "one seed in common"));
    ck_assert_int_eq(c.family[PB_ACCURACY][0], 0);
    const pb_estimate *e = pb_estimate_of(&c, PB_ACCURACY, 0);
    pb_interval w = pb_wilson(e->mean * N, N, 0.95);
    ck_assert(e->interval.low == w.low && e->interval.high == w.high);
    ck_assert(isnan(pb_estimate_of(&c, PB_STEP, 0)->interval.low));
    pb_comparison_free(&c);
}
END_TEST

START_TEST(what_is_not_at_parity_has_no_verdict) {
    pb_comparison c;
    usual(5);
    for (int s = 0; s < 5; s++) {
        pb_json *params = cJSON_GetObjectItemCaseSensitive(rows[3].records[s].config, "params");
        cJSON_ReplaceItemInObjectCaseSensitive(params, "scale", cJSON_CreateNumber(0.125));
        cJSON_ReplaceItemInObjectCaseSensitive(rows[2].records[s].environment, "threads",
                                               cJSON_CreateNumber(4));
    }
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
    const pb_verdict *v = pb_verdict_of(&c, PB_NLL, 3, 0);
    ck_assert_int_eq(v->kind, PB_INCOMPARABLE);
    ck_assert_str_eq(v->why, "effective scale (alpha / r): 2 against 0.125");
    ck_assert_str_eq(pb_verdict_of(&c, PB_NLL, 0, 3)->why, v->why);
    ck_assert(isnan(v->p) && isnan(v->p_holm));
    /* Threads move the cost and nothing else; full has no scale. */
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 2, 0)->kind, PB_BETTER);
    ck_assert_int_eq(pb_verdict_of(&c, PB_STEP, 2, 0)->kind, PB_INCOMPARABLE);
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 2, 3)->kind, PB_BETTER);
    ck_assert_int_eq(c.family[PB_NLL][0], 2);
    ck_assert_int_eq(c.family[PB_STEP][0], 1);
    ck_assert(isnan(c.front[0][3]) && isnan(c.front[0][2]) && !isnan(c.front[0][1]));
    pb_comparison_free(&c);
    const char *names[] = {"scale", "threads"};
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, &(pb_waivers){names, 2}, &c));
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 3, 0)->kind, PB_WORSE);
    ck_assert_int_eq(pb_verdict_of(&c, PB_STEP, 2, 0)->kind, PB_WORSE);
    pb_comparison_free(&c);
}
END_TEST

/* Forgetting is measured on a text of its own: two such texts, and it alone has no verdict. */
START_TEST(forgetting_of_two_texts_has_no_verdict) {
    static const char *const names[] = {"wiki", "news"};
    pb_comparison c;
    usual(5);
    for (int i = 0; i < n_rows; i++)
        for (int s = 0; s < 5; s++) {
            pb_record *r = &rows[i].records[s];
            pb_json *eval = cJSON_GetObjectItemCaseSensitive(r->config, "eval");
            ck_assert(pb_json_add_str(pb_json_add_object(eval, "general"), "name", names[i == 2]));
            pb_assert_ok(pb_record_metric(r, "quality/general/nll/change", 0.1 * (i + 1) + 0.01 * ((s + i) % 3),
                                          "nats", -1, 1, ""));
        }
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
    const pb_verdict *v = pb_verdict_of(&c, PB_FORGOTTEN, 2, 0);
    ck_assert_int_eq(v->kind, PB_INCOMPARABLE);
    ck_assert_str_eq(v->why, "general text: name: wiki against news");
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 2, 0)->kind, PB_BETTER);
    ck_assert_int_eq(pb_verdict_of(&c, PB_STEP, 2, 0)->kind, PB_WORSE);
    ck_assert_int_eq(pb_verdict_of(&c, PB_FORGOTTEN, 1, 0)->kind, PB_WORSE);
    ck_assert_int_eq(c.against[2], 0);
    pb_comparison_free(&c);
}
END_TEST

/* Two sizes of training data, two methods each: the second pair is not compared with the first. */
START_TEST(a_row_off_parity_finds_its_own_baseline) {
    pb_comparison c;
    add("lora", "LoRA", 5, 0.90, 0.100, 1000);
    add("full", "full", 5, 0.70, 0.150, 5000);
    add("lora", "LoRA long", 5, 0.60, 0.100, 1000);
    add("full", "full long", 5, 0.80, 0.150, 5000);
    add("lora", "LoRA long r16", 5, 0.60, 0.110, 1000);
    add("full", "full wide", 5, 0.80, 0.150, 5000);
    for (int i = 2; i < 6; i++)
        for (int s = 0; s < 5; s++) {
            pb_json *train = cJSON_GetObjectItemCaseSensitive(rows[i].records[s].config, "train");
            cJSON_ReplaceItemInObjectCaseSensitive(train, "steps", cJSON_CreateNumber(i < 5 ? 777 : 5));
        }
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
    const int against[] = {0, 0, 2, 2, 2, 0};
    for (int i = 0; i < n_rows; i++) ck_assert_int_eq(c.against[i], against[i]);
    ck_assert_int_eq(pb_count_baselines(&c), 2);
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 3, 2)->kind, PB_WORSE);
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 4, 2)->kind, PB_NO_DIFFERENCE);
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 2, 0)->kind, PB_INCOMPARABLE);
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 5, 0)->kind, PB_INCOMPARABLE); /* nothing to be had */
    /* With a baseline: full, full long and LoRA long r16; other: full long with LoRA long r16. */
    ck_assert(c.family[PB_NLL][0] == 3 && c.family[PB_NLL][1] == 1);
    const int best[] = {2, 1, 1, 3, 1, 0}, worst[] = {2, 1, 2, 3, 2, 0};
    for (int i = 0; i < n_rows; i++) {
        ck_assert_int_eq(c.best[PB_NLL * n_rows + i], best[i]);
        ck_assert_int_eq(c.worst[PB_NLL * n_rows + i], worst[i]);
    }
    /* Each group has its own front; what can be compared with nothing is on none. */
    const int class[] = {0, 0, 2, 2, 2, -1};
    for (int i = 0; i < n_rows; i++) {
        ck_assert_int_eq(c.front_class[i], class[i]);
        ck_assert(isnan(c.front[0][i]) == (class[i] < 0) && isnan(c.front[1][i]) == (class[i] < 0));
    }
    ck_assert(c.front[1][2] > 0.01 && c.front[1][3] < 0.01); /* LoRA long: better for a fifth */
    pb_comparison_free(&c);
    /* Waived, all have the first again. */
    const char *names[] = {"steps"};
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, &(pb_waivers){names, 1}, &c));
    for (int i = 0; i < n_rows; i++) ck_assert_int_eq(c.against[i], 0);
    pb_comparison_free(&c);
}
END_TEST

static void retarget(made_row *r, const char *target) {
    for (int s = 0; s < r->row.n_runs; s++) {
        pb_json *params = cJSON_GetObjectItemCaseSensitive(r->records[s].config, "params");
        pb_json *list = cJSON_CreateArray();
        cJSON_AddItemToArray(list, cJSON_CreateString(target));
        cJSON_ReplaceItemInObjectCaseSensitive(params, "targets", list);
    }
}

/* The first LoRA row by name is not the one to compare with when parity keeps it from the others. */
START_TEST(the_default_baseline_can_be_compared_with_most) {
    pb_comparison c;
    retarget(add("lora", "LoRA qv", 5, 0.90, 0.100, 1000), "*.attn.q");
    add("full", "full", 5, 0.70, 0.150, 5000);
    add("lora", "LoRA r8", 5, 0.90, 0.100, 1000);
    add("dora", "DoRA", 5, 0.90, 0.120, 1200);
    add("lora", "LoRA r9", 5, 0.90, 0.100, 1000);
    pb_assert_ok(pb_comparison_make(entries, n_rows, PB_BASELINE_AUTO, NULL, &c));
    ck_assert_int_eq(c.baseline, 2); /* with r9, DoRA and full; r9 has as many and comes later */
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 3, 2)->kind, PB_NO_DIFFERENCE);
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 0, 2)->kind, PB_INCOMPARABLE);
    pb_comparison_free(&c);
    /* Runs that did not finish recommend nobody. */
    for (int s = 0; s < 5; s++) rows[2].records[s].status = PB_RUN_FAILED;
    rows[2].row.n_ok = 0;
    pb_assert_ok(pb_comparison_make(entries, n_rows, PB_BASELINE_AUTO, NULL, &c));
    ck_assert_int_eq(c.baseline, 4);
    pb_comparison_free(&c);
    /* Without LoRA it is any row. */
    pb_assert_ok(pb_comparison_make(entries + 1, 1, PB_BASELINE_AUTO, NULL, &c));
    ck_assert_int_eq(c.baseline, 0);
    pb_comparison_free(&c);
    pb_assert_ok(pb_comparison_make(entries + 2, 1, PB_BASELINE_AUTO, NULL, &c));
    ck_assert_int_eq(c.baseline, -1);
    pb_comparison_free(&c);
}
END_TEST

START_TEST(a_front_needs_three_seeds) {
    for (int seeds = 1; seeds <= 3; seeds++) {
        pb_comparison c;
        usual(seeds);
        pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
        for (int i = 0; i < n_rows; i++) ck_assert(isnan(c.front[0][i]) == (seeds < 3));
        pb_comparison_free(&c);
        teardown();
    }
}
END_TEST

/* A handful of steps trains nothing: costs are judged, qualities are shown and not judged. */
START_TEST(a_rehearsal_is_judged_in_cost_alone) {
    for (int64_t steps = PB_LEAST_STEPS - 1; steps <= PB_LEAST_STEPS; steps++) {
        pb_comparison c;
        double loss[PB_LEAST_STEPS] = {0};
        usual(5);
        for (int i = 0; i < n_rows; i++)
            for (int s = 0; s < 5; s++)
                pb_assert_ok(pb_record_sample(&rows[i].records[s], "loss/train", loss, steps));
        pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
        bool judged = steps == PB_LEAST_STEPS;
        const pb_verdict *v = pb_verdict_of(&c, PB_NLL, 2, 0);
        ck_assert_int_eq(v->kind, judged ? PB_BETTER : PB_INCOMPARABLE);
        if (!judged) ck_assert_str_eq(v->why, "15 training steps, and quality is judged from 16 on");
        ck_assert_int_eq(pb_verdict_of(&c, PB_STEP, 2, 0)->kind, PB_WORSE);
        ck_assert_int_eq(c.family[PB_NLL][0], judged ? 3 : 0);
        ck_assert_int_eq(c.best[PB_NLL * n_rows], judged ? 2 : 0);
        ck_assert(isnan(c.front[0][0]) == !judged);
        ck_assert_int_eq(pb_estimate_of(&c, PB_NLL, 2)->n_seeds, 5);
        pb_comparison_free(&c);
        teardown();
    }
}
END_TEST

START_TEST(failed_runs_and_infinite_losses_are_left_out) {
    pb_comparison c;
    usual(5);
    rows[1].records[0].status = PB_RUN_DIVERGED;
    pb_sample *nll = &rows[2].records[4].samples[0];
    ck_assert_str_eq(nll->tag, "eval/test/nll");
    nll->values[7] = INFINITY;
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 1, 0)->n_seeds, 4);
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 2, 0)->n_seeds, 4);
    ck_assert_int_eq(pb_verdict_of(&c, PB_ACCURACY, 2, 0)->n_seeds, 5);
    ck_assert_int_eq(pb_verdict_of(&c, PB_NLL, 2, 1)->n_seeds, 3);
    pb_comparison_free(&c);
    for (int s = 0; s < 5; s++) rows[1].records[s].status = PB_RUN_OOM;
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
    ck_assert_ptr_nonnull(
        strstr(pb_verdict_of(&c, PB_NLL, 0, 1)->why, "DoRA, too has no finished run"));
    ck_assert_int_eq(c.best[PB_NLL * n_rows + 1], 0);
    pb_comparison_free(&c);
}
END_TEST

/* The same four methods on a machine of half the speed: only ratios to the anchor agree. */
START_TEST(anchors_bridge_machines) {
    pb_comparison c;
    add("lora", "LoRA", 5, 0.90, 0.100, 1000);
    add("dora", "DoRA", 5, 0.90, 0.120, 1200);
    add("lora", "LoRA", 5, 0.92, 0.200, 1000);
    add("full", "full", 5, 0.72, 0.300, 5000);
    made_row_environment(&rows[2], "{\"machine\":{\"cpu\":\"Slow\"},\"threads\":1}");
    made_row_environment(&rows[3], "{\"machine\":{\"cpu\":\"Slow\"},\"threads\":1}");
    pb_entry both[] = {entries[1], entries[3]};
    pb_assert_ok(pb_comparison_make(both, 2, 0, NULL, &c));
    ck_assert_ptr_nonnull(strstr(pb_verdict_of(&c, PB_NLL, 1, 0)->why, "machine"));
    pb_comparison_free(&c);
    both[0].anchor = entries[0].row;
    both[1].anchor = entries[2].row;
    /* The anchors' general texts differ, and no value of these hangs on them. */
    for (int s = 0; s < 5; s++) {
        pb_json *eval = cJSON_GetObjectItemCaseSensitive(rows[2].records[s].config, "eval");
        ck_assert(pb_json_add_str(pb_json_add_object(eval, "general"), "name", "news"));
    }
    pb_assert_ok(pb_comparison_make(both, 2, 0, NULL, &c));
    const pb_verdict *v = pb_verdict_of(&c, PB_STEP, 1, 0); /* 1.5 / 1.2 */
    ck_assert_int_eq(v->kind, PB_WORSE);
    ck_assert(v->interval.low < 1.25 && 1.25 < v->interval.high);
    v = pb_verdict_of(&c, PB_NLL, 1, 0);
    ck_assert_int_eq(v->kind, PB_BETTER);
    ck_assert(v->interval.low < -0.2 && -0.2 < v->interval.high);
    pb_comparison_free(&c);
    /* Anchors under different settings are none. */
    for (int s = 0; s < 5; s++)
        cJSON_ReplaceItemInObjectCaseSensitive(rows[2].records[s].config, "dtype",
                                               cJSON_CreateString("f32"));
    pb_assert_ok(pb_comparison_make(both, 2, 0, NULL, &c));
    v = pb_verdict_of(&c, PB_STEP, 1, 0);
    ck_assert_int_eq(v->kind, PB_INCOMPARABLE);
    ck_assert_ptr_nonnull(strstr(v->why, "anchors"));
    pb_comparison_free(&c);
}
END_TEST

/* Rows without any difference, from records to verdicts: a family of comparisons with the baseline has a
 * false verdict, in loss or in right answers, in at most 5 % of the simulations. */
START_TEST(families_of_rows_seldom_err) {
    enum { TIMES = 150, ROWS = 4, EXAMPLES = 60, SEEDS = 5 };
    gsl_rng *z = gsl_rng_alloc(gsl_rng_mt19937);
    int wrong[2] = {0, 0};
    for (int i = 0; i < ROWS; i++) {
        char label[2] = {(char)('A' + i), 0};
        made_row *r = add(i ? "dora" : "lora", label, 0, 0, 0, 0);
        made_row_make(r, i ? "dora" : "lora", label, SEEDS, lora, NULL);
        for (int s = 0; s < SEEDS; s++) made_row_values(r, s, EXAMPLES, 1, 0, 0.1);
    }
    for (int t = 0; t < TIMES; t++) {
        pb_comparison c;
        double example[EXAMPLES];
        for (int k = 0; k < EXAMPLES; k++) example[k] = 0.4 + gsl_ran_exponential(z, 0.6);
        for (int i = 0; i < ROWS; i++)
            for (int s = 0; s < SEEDS; s++) {
                double shift = 0.1 * gsl_ran_ugaussian(z);
                pb_sample *samples = rows[i].records[s].samples;
                for (int k = 0; k < EXAMPLES; k++) {
                    samples[0].values[k] = example[k] + shift + 0.4 * gsl_ran_ugaussian(z);
                    samples[1].values[k] = samples[0].values[k] < 1;
                }
            }
        pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
        for (int m = 0; m < 2; m++) {
            bool any = false;
            for (int i = 1; i < ROWS; i++)
                any = any || pb_verdict_of(&c, m, i, 0)->kind != PB_NO_DIFFERENCE;
            wrong[m] += any;
            ck_assert_int_eq(c.family[m][0], ROWS - 1);
        }
        pb_comparison_free(&c);
    }
    printf("families of %d rows with a false verdict: %.1f %% in NLL, %.1f %% in accuracy\n", ROWS,
           100.0 * wrong[0] / TIMES, 100.0 * wrong[1] / TIMES);
    for (int m = 0; m < 2; m++)
        ck_assert_double_le((double)wrong[m] / TIMES, 0.05 + 3 * sqrt(0.05 * 0.95 / TIMES));
    gsl_rng_free(z);
}
END_TEST

START_TEST(records_without_samples_are_compared_by_their_metrics) {
    pb_comparison c;
    usual(5);
    for (int i = 0; i < n_rows; i++)
        for (int s = 0; s < 5; s++)
            for (int k = 0; k < rows[i].records[s].n_samples; k++)
                rows[i].records[s].samples[k].tag[0] = 'x';
    pb_assert_ok(pb_comparison_make(entries, n_rows, 0, NULL, &c));
    const pb_verdict *v = pb_verdict_of(&c, PB_NLL, 2, 0);
    ck_assert_int_eq(v->kind, PB_BETTER);
    ck_assert(v->n_examples == 1 && isnan(v->p_examples));
    pb_comparison_free(&c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("comparison");
    TCase *t = pb_test_case(s, "comparison");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, verdicts_follow_the_differences_put_in);
    tcase_add_test(t, estimates_have_intervals);
    tcase_add_test(t, one_seed_is_described_and_not_judged);
    tcase_add_test(t, what_is_not_at_parity_has_no_verdict);
    tcase_add_test(t, forgetting_of_two_texts_has_no_verdict);
    tcase_add_test(t, a_row_off_parity_finds_its_own_baseline);
    tcase_add_test(t, the_default_baseline_can_be_compared_with_most);
    tcase_add_test(t, a_front_needs_three_seeds);
    tcase_add_test(t, a_rehearsal_is_judged_in_cost_alone);
    tcase_add_test(t, failed_runs_and_infinite_losses_are_left_out);
    tcase_add_test(t, anchors_bridge_machines);
    tcase_add_test(t, families_of_rows_seldom_err);
    tcase_add_test(t, records_without_samples_are_compared_by_their_metrics);
    return pb_run_suite(s);
}
