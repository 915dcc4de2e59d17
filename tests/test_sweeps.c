/* Figures of sweeps (plots/sweeps.c): which runs a curve is made of, what is left out, and that the bars
 * of latency hold the median as often as they say. Records are made in memory; the data that gnuplot
 * gets is compared with what was put in. */
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "plots/figure.h"
#include "tests/made_rows.h"
#include "tests/support.h"

#define MAX_ROWS 24
static made_row rows[MAX_ROWS];
static pb_record records[MAX_ROWS * MADE_SEEDS]; /* shallow copies */
static int n_rows;

static void teardown(void) {
    for (int i = 0; i < n_rows; i++) made_row_free(&rows[i]);
    n_rows = 0;
}

static made_row *add_row(const char *method, const char *label, int seeds, const char *changes) {
    ck_assert_int_lt(n_rows, MAX_ROWS);
    made_row *r = &rows[n_rows++];
    made_row_make(r, method, label, seeds, "{}", changes);
    return r;
}

static void set_metric(made_row *r, int s, const char *tag, const char *unit, double value) {
    pb_assert_ok(pb_record_metric(&r->records[s], tag, value, unit, -1, 1, ""));
}

/* The one chapter of all rows so far. */
static pb_chapter *chapter(void) {
    pb_chapter *c = NULL;
    int n = 0, n_chapters = 0;
    for (int i = 0; i < n_rows; i++)
        for (int s = 0; s < rows[i].row.n_runs; s++) records[n++] = rows[i].records[s];
    pb_assert_ok(pb_chapters_make(records, n, &c, &n_chapters));
    ck_assert_int_eq(n_chapters, 1);
    return c;
}

static bool contains(const char *text, const char *part) { return strstr(text, part) != NULL; }

/* ---- learning-rate curves ---- */

static void mark(made_row *r, const char *phase, const char *tuning) {
    for (int s = 0; s < r->row.n_runs; s++) {
        pb_copy(r->records[s].phase, sizeof r->records[s].phase, phase);
        pb_assert_ok(pb_json_parse("test", tuning, strlen(tuning), &r->records[s].tuning));
    }
}

/* A trial of `row` with as many seeds as there are losses above 0. */
static made_row *add_trial(const char *row, const char *label, double lr, double first,
                           double second, const char *changes) {
    char tuning[160];
    made_row *r = add_row("lora", label, second > 0 ? 2 : 1, changes);
    snprintf(tuning, sizeof tuning, "{\"row\":\"%s\",\"trial\":1,\"lr\":%g,\"why\":\"grid\"}", row, lr);
    mark(r, "trial", tuning);
    set_metric(r, 0, "quality/valid/nll", "nats", first);
    if (second > 0) set_metric(r, 1, "quality/valid/nll", "nats", second);
    return r;
}

START_TEST(curves_hold_the_trials_of_their_row) {
    mark(add_row("lora", "LoRA", 2, NULL), "final",
         "{\"row\":\"LoRA\",\"trial\":2,\"lr\":0.004,\"edge\":\"none\"}");
    mark(add_row("dora", "DoRA", 2, NULL), "final",
         "{\"row\":\"DoRA\",\"trial\":1,\"lr\":0.5,\"edge\":\"high\"}");
    add_trial("LoRA", "LoRA lr 3", 0.016, 3, 0, NULL); /* rates out of order */
    add_trial("LoRA", "LoRA lr 1", 0.001, 2, 0, NULL);
    add_trial("LoRA", "LoRA lr 2", 0.004, 1, 1.5, NULL); /* two seeds: their mean */
    add_trial("LoRA", "LoRA half", 0.002, 0.25, 0, "{\"train\":{\"steps\":8}}");
    rows[n_rows - 1].records[0].seed = 101;
    made_row *lost = add_trial("LoRA", "LoRA lr 4", 0.064, 0.5, 0.5, NULL);
    lost->records[1].status = PB_RUN_DIVERGED;
    add_trial("DoRA", "DoRA lr 1", 0.5, 4, 0, NULL);
    add_trial("DoRA", "DoRA lr 2", 0.25, 4.5, 0, NULL);
    pb_chapter *c = chapter();
    figure f = {0};
    pb_assert_ok(pb_build_lr_curves(c, 0, &f));
    ck_assert(f.made);
    char want[512];
    int lora = strcmp(c->rows[0].label, "LoRA") == 0 ? 0 : 1;
    ck_assert_int_eq(lora, 0); /* reading order */
    snprintf(want, sizeof want,
             "0.001\t2\n0.004\t1.25\n0.016\t3\n\n\n0.25\t4.5\n0.5\t4\n\n\n"
             "0.004\t1.25\t1\t%u\n0.5\t4\t2\t%u\n",
             pb_row_colour(c, 0), pb_row_colour(c, 1));
    ck_assert_str_eq(f.data.data, want);
    ck_assert(contains(f.out.caption, "a large circle is the edge"));
    pb_text_free(&f.data);
    pb_text_free(&f.vars);
    /* Without the row at the edge nothing is said about it. */
    cJSON_ReplaceItemInObjectCaseSensitive(rows[1].records[0].tuning, "edge",
                                           cJSON_CreateString("none"));
    f = (figure){0};
    pb_assert_ok(pb_build_lr_curves(c, 0, &f));
    ck_assert(!contains(f.out.caption, "edge") && contains(f.data.data, "0.5\t4\t1\t"));
    pb_text_free(&f.data);
    pb_text_free(&f.vars);
    pb_chapters_free(c, 1);
}
END_TEST

/* Trials of another rank than the chosen one are another curve. */
START_TEST(curves_are_of_the_chosen_rank) {
    mark(add_row("lora", "LoRA", 1, NULL), "final",
         "{\"row\":\"LoRA\",\"trial\":1,\"lr\":0.001,\"rank\":8,\"edge\":\"none\"}");
    for (int rank = 4; rank <= 8; rank += 4)
        for (int k = 1; k <= 2; k++) {
            char label[32];
            snprintf(label, sizeof label, "LoRA r%d %d", rank, k);
            made_row *r = add_trial("LoRA", label, 0.001 * k, rank + k, 0, NULL);
            ck_assert(pb_json_add_i64(r->records[0].tuning, "rank", rank));
        }
    pb_chapter *c = chapter();
    figure f = {0};
    pb_assert_ok(pb_build_lr_curves(c, 0, &f));
    const char *want = "0.001\t9\n0.002\t10\n\n\n0.001\t9\t1\t";
    ck_assert_int_eq(strncmp(f.data.data, want, strlen(want)), 0);
    pb_text_free(&f.data);
    pb_text_free(&f.vars);
    pb_chapters_free(c, 1);
}
END_TEST

START_TEST(without_a_tuning_there_is_no_curve) {
    add_row("lora", "LoRA", 2, NULL);
    pb_chapter *c = chapter();
    figure f = {0};
    pb_assert_ok(pb_build_lr_curves(c, 0, &f));
    ck_assert(!f.made);
    pb_text_free(&f.data);
    pb_chapters_free(c, 1);
}
END_TEST

/* ---- quality against examples ---- */

static void add_sized(const char *method, const char *label, int train, double a, double b) {
    char changes[64];
    snprintf(changes, sizeof changes, "{\"data\":{\"train\":%d}}", train);
    made_row *r = add_row(method, label, 2, changes);
    set_metric(r, 0, "quality/test/accuracy", "1", a);
    set_metric(r, 1, "quality/test/accuracy", "1", b);
}

START_TEST(sizes_of_one_row_are_joined) {
    add_sized("lora", "LoRA n1000", 1000, 0.7, 0.7);
    add_sized("lora", "LoRA n100", 100, 0.5, 0.6); /* mean 55, sd 5 sqrt 2 */
    add_sized("full", "full n100", 100, 0.25, 0.25);
    add_sized("full", "full n1000", 1000, 0.5, 0.5);
    add_sized("dora", "DoRA n100", 100, 0.9, 0.9);       /* one size is no curve */
    add_sized("adapter", "Adapter n64", 4096, 0.1, 0.1); /* "n64" is a name here, no size */
    add_sized("adapter", "Adapter n32", 4096, 0.1, 0.1);
    pb_chapter *c = chapter();
    figure f = {0};
    pb_assert_ok(pb_build_quality_examples(c, 0, &f));
    ck_assert(f.made);
    ck_assert_str_eq(f.data.data, "100\t55\t47.92893\t62.07107\n1000\t70\t70\t70\n\n\n"
                                  "100\t25\t25\t25\n1000\t50\t50\t50\n\n\n");
    ck_assert(contains(f.vars.data, "'LoRA'") && contains(f.vars.data, "'full'"));
    ck_assert(!contains(f.vars.data, "n100") && !contains(f.vars.data, "Adapter"));
    pb_text_free(&f.data);
    pb_text_free(&f.vars);
    pb_chapters_free(c, 1);
}
END_TEST

/* Gap and upturn beside it: with intervals where they are known, else with the spread over seeds. */
START_TEST(overfitting_is_drawn_over_the_examples) {
    static const char *const wanted[2][3] = {
        {NULL, "100\t2\t0.5857864\t3.414214\n1000\t0.5\t0.5\t0.5\n\n\n",
         "100\t20\t20\t20\n1000\t0\t0\t0\n\n\n"},
        {NULL, "100\t2\t0.25\t4.25\n1000\t0.5\t0.5\t0.5\n\n\n",
         "100\t20\t10\t30\n1000\t0\t0\t0\n\n\n"}};
    add_sized("lora", "LoRA n100", 100, 0.5, 0.6);
    add_sized("lora", "LoRA n1000", 1000, 0.7, 0.7);
    for (int i = 0; i < 2; i++)
        for (int s = 0; s < 2; s++) {
            set_metric(&rows[i], s, "quality/gap/nll", "nats", i ? 0.5 : 1 + 2 * s); /* sd sqrt 2 */
            set_metric(&rows[i], s, "curve/valid/upturn", "1", i ? 0 : 0.2);
        }
    pb_chapter *c = chapter();
    pb_row_marks marks[2] = {{.gap = {0.25, 4.25}, .upturn = {0.1, 0.3}},
                             {.gap = {NAN, NAN}, .upturn = {NAN, NAN}}};
    for (int marked = 0; marked < 2; marked++)
        for (int which = 1; which < 3; which++) {
            figure f = {.marks = marked ? marks : NULL};
            pb_assert_ok(pb_build_quality_examples(c, which, &f));
            ck_assert(f.made);
            ck_assert_str_eq(f.data.data, wanted[marked][which]);
            ck_assert(contains(f.out.caption, marked ? "95 %" : "standard deviation"));
            ck_assert_str_eq(f.out.name, which == 1 ? "gap_examples" : "upturn_examples");
            pb_text_free(&f.data);
            pb_text_free(&f.vars);
        }
    pb_chapters_free(c, 1);
}
END_TEST

/* ---- latency over shapes ---- */

/* n passes; ratio of the i-th to 1 s: given by `ratio`. */
static void add_times(made_row *r, const char *tag, int n, double (*ratio)(int i)) {
    double *v = calloc((size_t)n, sizeof *v);
    ck_assert(v != NULL);
    for (int i = 0; i < n; i++) v[i] = ratio(i);
    pb_assert_ok(pb_record_sample(&r->records[0], tag, v, n));
    free(v);
}

static double one(int i) { return 1 + 0 * i; }
static double twice(int i) { return 2 + 0 * i; }
static double mixed(int i) { return 3 + (double)(i * 7 % 101); } /* distinct below 101 */

/* With n passes the bar runs from the k-th least to the k-th greatest ratio; it holds the median with
 * 1 - 2 P(Bin(n, 1/2) < k), which must be 95 % wherever n passes allow that (from 6 on). */
START_TEST(bars_of_latency_hold_the_median) {
    for (int n = 1; n <= 100; n++) {
        made_row *lora = add_row("lora", "LoRA", 1, NULL),
                 *adapter = add_row("adapter", "Adapter", 1, NULL);
        add_times(lora, "time/infer/merged@shape=2x64", n, one);
        add_times(lora, "time/infer/unmerged@shape=2x64", n, twice);
        add_times(adapter, "time/infer/unmerged@shape=2x64", n, mixed);
        pb_chapter *c = chapter();
        figure f = {0};
        double tokens, middle, low, high, sorted[101];
        pb_assert_ok(pb_build_latency_shapes(c, 1, &f)); /* against LoRA unmerged: the adapter alone */
        ck_assert_int_eq(sscanf(f.data.data, "%lf\t%lf\t%lf\t%lf", &tokens, &middle, &low, &high), 4);
        for (int i = 0; i < n; i++) {
            double v = mixed(i) / 2;
            int k = i;
            for (; k > 0 && sorted[k - 1] > v; k--) sorted[k] = sorted[k - 1];
            sorted[k] = v;
        }
        ck_assert(tokens == 128);
        ck_assert(fabs(middle - (sorted[(n - 1) / 2] + sorted[n / 2]) / 2) < 1e-6 * middle);
        int k = 0;
        while (k < n && fabs(sorted[k] - low) > 1e-5 * low) k++;
        ck_assert_msg(k < n && fabs(sorted[n - 1 - k] - high) <= 1e-5 * high, "%d passes: %g to %g", n,
                      low, high);
        double holds = 1 - 2 * gsl_cdf_binomial_P((unsigned)k, 0.5, (unsigned)n);
        ck_assert_msg(n < 6 ? k == 0 : holds >= 0.95, "%d passes: %.3f", n, holds);
        /* nor wastefully wide: the next narrower pair holds less than 99 % */
        double inner = 1 - 2 * gsl_cdf_binomial_P((unsigned)k + 1, 0.5, (unsigned)n);
        ck_assert_msg(inner < 0.99, "%d passes: the next pair holds %.3f", n, inner);
        pb_text_free(&f.data);
        pb_text_free(&f.vars);
        pb_chapters_free(c, 1);
        teardown();
    }
}
END_TEST

/* Two processes whose medians are 2 and 4: the mean with Student's interval over two, whichever run stands first; a
 * third one that only one row has counts for nothing. */
START_TEST(latency_has_an_interval_over_processes) {
    made_row *lora = add_row("lora", "LoRA", 2, NULL), *adapter = add_row("adapter", "Adapter", 3, NULL);
    double ones[] = {1, 1, 1}, two[] = {2, 1.5, 9}, four[] = {4, 4, 4}, far[] = {90, 90, 90}, t = 12.70620474;
    char want[128];
    for (int s = 0; s < 2; s++)
        pb_assert_ok(pb_record_sample(&lora->records[s], "time/infer/merged@shape=1x16", ones, 3));
    pb_assert_ok(pb_record_sample(&adapter->records[0], "time/infer/unmerged@shape=1x16", two, 3));
    pb_assert_ok(pb_record_sample(&adapter->records[1], "time/infer/unmerged@shape=1x16", four, 3));
    pb_assert_ok(pb_record_sample(&adapter->records[2], "time/infer/unmerged@shape=1x16", far, 3));
    pb_chapter *c = chapter();
    figure f = {0};
    pb_assert_ok(pb_build_latency_shapes(c, 0, &f));
    snprintf(want, sizeof want, "16\t3\t%.7g\t%.7g\n\n\n", 3 - t * sqrt(2.0 / 2), 3 + t * sqrt(2.0 / 2));
    ck_assert_str_eq(f.data.data, want);
    ck_assert(contains(f.out.caption, "mean over the seeds"));
    pb_text_free(&f.data);
    pb_text_free(&f.vars);
    pb_chapters_free(c, 1);
}
END_TEST

START_TEST(latency_is_relative_to_lora) {
    made_row *lora = add_row("lora", "LoRA", 1, NULL), *adapter = add_row("adapter", "Adapter", 1, NULL);
    add_row("full", "full", 1, NULL); /* no such times: no block */
    add_times(lora, "time/infer/merged@shape=1x16", 3, one);
    add_times(lora, "time/infer/unmerged@shape=1x16", 3, twice);
    add_times(lora, "time/infer/merged@shape=8x16", 3, twice);
    add_times(lora, "time/infer/unmerged@shape=8x16", 3, twice);
    add_times(adapter, "time/infer/unmerged@shape=1x16", 3, twice);
    add_times(adapter, "time/infer/unmerged@shape=8x16", 3, one);
    add_times(adapter, "time/infer/unmerged@shape=9x16", 3, one); /* LoRA has no such shape */
    pb_chapter *c = chapter();
    static const char *const want[] = {
        "16\t2\t2\t2\n128\t1\t1\t1\n\n\n16\t2\t2\t2\n128\t0.5\t0.5\t0.5\n\n\n",
        "16\t1\t1\t1\n128\t0.5\t0.5\t0.5\n\n\n"};
    for (int which = 0; which < 2; which++) {
        figure f = {0};
        pb_assert_ok(pb_build_latency_shapes(c, which, &f));
        ck_assert(f.made);
        ck_assert_str_eq(f.data.data, want[which]);
        pb_text_free(&f.data);
        pb_text_free(&f.vars);
    }
    pb_chapters_free(c, 1);
}
END_TEST

/* ---- quality by rank ---- */

static made_row *add_ranked(const char *method, const char *label, int rank, int alpha, double whole,
                            const char *more) {
    char changes[160];
    snprintf(changes, sizeof changes, "{\"params\":{\"rank\":%d,\"alpha\":%d%s}}", rank, alpha, more);
    made_row *r = add_row(method, label, 2, changes);
    for (int s = 0; s < 2; s++) set_metric(r, s, "quality/test/nll", "nats", whole);
    return r;
}

/* DyLoRA at its ranks, the LoRA that is cut with its whole at the end, and those that differ from it in the rank alone. */
START_TEST(cuts_and_trainings_stand_beside_dylora) {
    made_row *dy = add_ranked("dylora", "DyLoRA", 3, 6, 9, ""), *cut = add_ranked("lora", "LoRA r3", 3, 6, 1, "");
    add_ranked("lora", "LoRA r1", 1, 2, 3, "");
    add_ranked("lora", "LoRA top r2", 2, 4, 7, ",\"targets\":[\"top\"]"); /* other targets: not of this curve */
    add_ranked("lora", "LoRA wide r2", 2, 64, 7, "");
    add_ranked("dora", "DoRA r2", 2, 4, 7, "");
    for (int s = 0; s < 2; s++) {
        set_metric(dy, s, "quality/test/nll@rank=2", "nats", 4);
        set_metric(dy, s, "quality/test/nll@rank=1", "nats", 6 - 2 * s); /* mean 5, sd sqrt 2 */
        set_metric(cut, s, "quality/test/nll@cut=2", "nats", 6);
        set_metric(cut, s, "quality/test/nll@cut=1", "nats", 8);
    }
    pb_chapter *c = chapter();
    figure f = {.width = 600};
    pb_assert_ok(pb_build_dylora_rank(c, 0, &f));
    ck_assert(f.made);
    ck_assert_str_eq(f.data.data, "1\t8\t0\n2\t6\t0\n3\t1\t0\n\n\n"
                                  "1\t3\t0\n3\t1\t0\n\n\n"
                                  "1\t5\t1.41421356\n2\t4\t0\n\n\n");
    ck_assert(contains(f.vars.data, "'LoRA r3, cut'") && contains(f.vars.data, "'LoRA, trained at each rank'") &&
              contains(f.vars.data, "'DyLoRA'"));
    pb_text_free(&f.data);
    pb_text_free(&f.vars);
    pb_chapters_free(c, 1);
}
END_TEST

/* ---- gnuplot takes them ---- */

START_TEST(gnuplot_draws_every_sweep) {
    static const char *const names[] = {"lr_curves", "quality_examples", "latency_merged",
                                        "latency_unmerged"};
    if (pb_plots_available() != PB_OK) {
        pb_error_clear();
        return;
    }
    mark(add_row("lora", "LoRA", 2, NULL), "final",
         "{\"row\":\"LoRA\",\"trial\":2,\"lr\":0.004,\"edge\":\"low\"}");
    add_trial("LoRA", "LoRA lr 1", 0.001, 2, 0, NULL);
    add_trial("LoRA", "LoRA lr 2", 0.004, 1, 0, NULL);
    add_sized("lora", "LoRA n100", 100, 0.5, 0.6);
    add_sized("lora", "LoRA n1000", 1000, 0.7, 0.7);
    made_row *adapter = add_row("adapter", "Adapter", 1, NULL);
    add_times(&rows[0], "time/infer/merged@shape=1x16", 7, one);
    add_times(&rows[0], "time/infer/unmerged@shape=1x16", 7, twice);
    add_times(adapter, "time/infer/unmerged@shape=1x16", 7, mixed);
    pb_chapter *c = chapter();
    pb_figure *figures = NULL;
    int n = 0;
    char *out = pb_test_dir();
    pb_assert_ok(pb_plots_draw_chapter(c, NULL, out, &figures, &n));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const pb_figure *found = NULL;
        for (int k = 0; k < n; k++)
            if (strcmp(figures[k].name, names[i]) == 0) found = &figures[k];
        ck_assert_msg(found != NULL, "no figure %s", names[i]);
        char *path = pb_path_join(out, found->svg), *svg = NULL;
        pb_assert_ok(pb_file_read(path, 1 << 22, &svg, NULL));
        ck_assert_msg(contains(svg, "</svg>"), "%s", path);
        free(svg);
        free(path);
    }
    free(figures);
    free(out);
    pb_chapters_free(c, 1);
}
END_TEST

int main(void) {
    Suite *s = suite_create("sweeps");
    TCase *t = pb_test_case(s, "data");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, curves_hold_the_trials_of_their_row);
    tcase_add_test(t, curves_are_of_the_chosen_rank);
    tcase_add_test(t, without_a_tuning_there_is_no_curve);
    tcase_add_test(t, sizes_of_one_row_are_joined);
    tcase_add_test(t, overfitting_is_drawn_over_the_examples);
    tcase_add_test(t, bars_of_latency_hold_the_median);
    tcase_add_test(t, latency_is_relative_to_lora);
    tcase_add_test(t, cuts_and_trainings_stand_beside_dylora);
    tcase_add_test(t, latency_has_an_interval_over_processes);
    t = pb_test_case(s, "gnuplot");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, gnuplot_draws_every_sweep);
    return pb_run_suite(s);
}
