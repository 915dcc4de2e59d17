/* harness/tune*.c, suite_tune.c, results/tuning*.c: budgets are equal, trials never see the test
 * split, the choice follows from the trials and is derived again, a killed suite takes the same path. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/tune.h"
#include "tests/support.h"
#include "tests/tiny_suite.h"

/* ---- what a row tries next, with a loss that is known ---- */

static double bowl(double lr, double best) {
    double d = log10(lr / best);
    return 1 + d * d;
}

/* A loss with its lowest point at `best`, and `above` it from the rate `cliff` on. */
typedef struct landscape {
    double best, cliff, above;
} landscape;

static double loss_at(const landscape *l, double lr) {
    return lr < l->cliff ? bowl(lr, l->best) : l->above;
}

/* Rounds until nothing is added. */
static void play_on(const pb_tune *tune, const pb_tune_row *spec, landscape land,
                    pb_tuning_row *row) {
    for (int before = -1; before != row->n_trials;) {
        before = row->n_trials;
        pb_assert_ok(pb_tune_next(tune, spec, row));
        for (int i = 0; i < row->n_trials; i++) {
            row->trials[i].n_runs = 1;
            row->trials[i].nll[0] = loss_at(&land, row->trials[i].lr);
        }
        pb_tuning_choose(row);
    }
}

/* best <= 0: everything diverges. */
static void play(const pb_tune *tune, const pb_tune_row *spec, double best, pb_tuning_row *row) {
    play_on(tune, spec, (landscape){best, best > 0 ? INFINITY : 0, INFINITY}, row);
}

static pb_tune_row grid_of_4(void) {
    return (pb_tune_row){.lr = {1e-4, 1e-3, 1e-2, 1e-1}, .n_lr = 4};
}

START_TEST(every_row_spends_the_same_budget) {
    static const double bests[] = {1e-6, 2e-4, 1e-3, 5e-2, 9};
    for (int strategy = 0; strategy < 2; strategy++) {
        pb_tune tune = {.strategy = (pb_tune_strategy)strategy, .trials = 11, .extend = true};
        for (size_t i = 0; i < sizeof bests / sizeof bests[0]; i++) {
            pb_tune_row spec = grid_of_4();
            pb_tuning_row row = {.label = "x"};
            play(&tune, &spec, bests[i], &row);
            ck_assert_int_eq(row.n_trials, 11);
            ck_assert_int_ge(row.chosen, 0);
            free(row.trials);
        }
    }
}
END_TEST

START_TEST(an_edge_is_extended_and_an_inner_best_is_refined) {
    pb_tune tune = {.trials = 6, .extend = true};
    pb_tune_row spec = grid_of_4();
    pb_tuning_row high = {.label = "x"}, inner = {.label = "x"}, kept = {.label = "x"};
    play(&tune, &spec, 1, &high);
    ck_assert_str_eq(high.trials[4].why, "extend");
    ck_assert_double_eq_tol(high.trials[4].lr, 1.0, 1e-9);
    ck_assert_str_eq(high.edge, "none"); /* 10 was tried too */
    ck_assert_double_eq_tol(high.trials[high.chosen].lr, 1.0, 1e-9);
    play(&tune, &spec, 2e-3, &inner);
    ck_assert_str_eq(inner.trials[4].why, "refine");
    ck_assert(inner.trials[4].lr > 1e-3 && inner.trials[4].lr < 1e-2);
    tune.extend = false;
    play(&tune, &spec, 1, &kept);
    ck_assert_str_eq(kept.edge, "high");
    ck_assert_double_eq_tol(kept.trials[kept.chosen].lr, 1e-1, 1e-12);
    free(high.trials);
    free(inner.trials);
    free(kept.trials);
}
END_TEST

/* Grid 1e-4 .. 1e-1 in seven, two trials more; the best of the grid is 10^-2.5. */
static const struct {
    landscape land;
    double chance, next[2];
    const char *edge;
} refined[] = {
    /* Above the best of the grid nothing trains: twice towards what trains no more, ... */
    {{8e-3, 9e-3, 3.3}, 3.3, {-2.25, -2.125}, "cliff"},
    {{4e-3, 5e-3, 3.3}, 3.3, {-2.25, -2.375}, "cliff"},
    {{8e-3, 9e-3, INFINITY}, 0, {-2.25, -2.125}, "cliff"},
    /* ... but no further once a rate above trains and is no better. */
    {{2.5e-3, 9e-3, 3.3}, 3.3, {-2.25, -2.75}, "none"},
    /* Bad, yet far from chance: the better neighbour, then the other side of a better value, ... */
    {{2.2e-3, 9e-3, 2.9}, 3.3, {-2.75, -2.625}, "none"},
    /* ... and the other side where the first one was no better. */
    {{3.2e-3, INFINITY, 0}, 3.3, {-2.25, -2.75}, "none"},
    {{3.1e-3, INFINITY, 0}, 3.3, {-2.75, -2.25}, "none"},
};

START_TEST(a_refinement_goes_where_the_loss_may_still_fall) {
    pb_tune tune = {.trials = 9, .extend = true};
    pb_tune_row spec = {.n_lr = 7};
    pb_tuning_row row = {.label = "x", .chance = refined[_i].chance};
    for (int i = 0; i < 7; i++) spec.lr[i] = pow(10, -4 + 0.5 * i);
    play_on(&tune, &spec, refined[_i].land, &row);
    ck_assert_int_eq(row.n_trials, 9);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(row.trials[7 + i].why, "refine");
        ck_assert_double_eq_tol(log10(row.trials[7 + i].lr), refined[_i].next[i], 1e-4);
    }
    ck_assert_str_eq(row.edge, refined[_i].edge);
    free(row.trials);
}
END_TEST

/* Chance level says nothing about a shorter training, nor where the best is no better than chance. */
START_TEST(only_a_full_training_fails_at_chance_level) {
    for (int k = 0; k < 3; k++) {
        pb_tuning_row row = {.label = "x", .chance = k == 2 ? 0.9 : 3};
        static const double nll[] = {2, 1, 3};
        for (int i = 0; i < 3; i++) {
            pb_tuning_trial *t = pb_tuning_add(&row);
            t->lr = i + 1;
            t->n_runs = 1;
            t->nll[0] = nll[i];
            t->divisor = k == 1 && i == 2 ? 4 : 1;
        }
        pb_tuning_choose(&row);
        ck_assert_int_eq(row.chosen, 1);
        ck_assert_str_eq(row.edge, k == 0 ? "cliff" : "none");
        free(row.trials);
    }
}
END_TEST

START_TEST(halving_keeps_the_better_half_twice) {
    pb_tune tune = {.strategy = PB_TUNE_HALVING, .trials = 7};
    pb_tune_row spec = grid_of_4();
    pb_tuning_row row = {.label = "x"};
    play(&tune, &spec, 1e-3, &row);
    ck_assert_int_eq(row.n_trials, 7); /* 4 at a quarter, 2 at a half, 1 at all of the steps */
    ck_assert_int_eq(row.trials[3].divisor, 4);
    ck_assert_int_eq(row.trials[4].divisor, 2);
    ck_assert_int_eq(row.trials[6].divisor, 1);
    ck_assert_double_eq_tol(row.trials[row.chosen].lr, 1e-3, 1e-12);
    ck_assert_int_eq(row.chosen, 6);
    free(row.trials);
}
END_TEST

START_TEST(what_always_diverges_is_tried_lower_and_has_no_choice) {
    pb_tune tune = {.trials = 6, .extend = true};
    pb_tune_row spec = grid_of_4();
    pb_tuning_row row = {.label = "x"};
    play(&tune, &spec, 0, &row);
    ck_assert_int_eq(row.n_trials, 6);
    ck_assert_int_eq(row.chosen, -1);
    ck_assert_double_eq_tol(row.trials[5].lr, 1e-6, 1e-12);
    free(row.trials);
}
END_TEST

START_TEST(equal_losses_take_the_smaller_rate) {
    pb_tuning_row row = {.label = "x"};
    for (int i = 0; i < 3; i++) {
        pb_tuning_trial *t = pb_tuning_add(&row);
        t->lr = i == 0 ? 3 : i;
        t->n_runs = 1;
        t->nll[0] = 0.5;
    }
    pb_tuning_choose(&row);
    ck_assert_int_eq(row.chosen, 1);
    ck_assert_str_eq(row.edge, "low");
    free(row.trials);
}
END_TEST

/* ---- whole tuned suites on a tiny model ---- */

typedef struct place {
    char *dir, *out, *file, *folder;
    pb_suite suite;
    pb_runner_options options;
    pb_runner_summary summary;
    FILE *log;
} place;

#define HEAD                                                                                  \
    "{\"title\": \"Tuned\", \"model\": \"./model\", \"data\": {\"dir\": \"texts\", \"max_len\": " \
    "16}, \"dtype\": \"f32\", \"train\": {\"steps\": 4, \"batch\": 4},"                            \
    "\"eval\": {\"batch\": 8, \"train_examples\": 4, \"infer_repeats\": 1},"
#define ROWS                                                                        \
    "\"runs\": [{\"label\": \"LoRA\", \"method\": \"lora\", \"params\": {\"rank\": 2}}, " \
    "{\"label\": \"full\", \"method\": \"full\", \"tune\": {\"lr\": [1e-5, 1e-3, 1e-2]}}]}"
static const char tuned[] = HEAD
    "\"tune\": {\"trials\": 4, \"lr\": \"1e-4/1e-1/3\", \"seeds\": [7]}," ROWS;

static void settle(place *p, const char *json) {
    *p = (place){.dir = pb_test_dir()};
    pb_tiny_suite_write(p->dir);
    pb_tiny_write(p->dir, "t.json", json);
    p->out = pb_path_join(p->dir, "results");
    p->file = pb_path_join(p->dir, "t.json");
    p->folder = pb_path_join(p->out, "t");
    pb_assert_ok(pb_suite_load(p->file, &(pb_suite_overrides){.seeds = 2}, &p->suite)); /* for time's sake */
    p->log = fopen("/dev/null", "w");
    ck_assert_ptr_nonnull(p->log);
    p->options = (pb_runner_options){.out_dir = p->out, .threads = 1, .log = p->log};
}

static void leave(place *p) {
    pb_suite_free(&p->suite);
    fclose(p->log);
    free(p->dir);
    free(p->out);
    free(p->file);
    free(p->folder);
}

static void edit(const char *dir, const char *file, const char *from, const char *to) {
    char *text = pb_tiny_read(dir, file), *at = strstr(text, from);
    pb_text t = {0};
    ck_assert_msg(at != NULL, "%s is not in %s", from, file);
    pb_text_add(&t, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    pb_tiny_write(dir, file, t.data);
    pb_text_free(&t);
    free(text);
}

START_TEST(trials_choose_and_finals_alone_see_the_test_split) {
    place p;
    pb_record *r = NULL;
    int n = 0, trials = 0, finals = 0, checked = 0, bad = 0;
    settle(&p, tuned);
    ck_assert_int_eq(p.suite.n_runs, 2 * (4 + 2));
    pb_assert_ok(pb_tune_run(&p.suite, &p.options, &p.summary));
    ck_assert_int_eq(p.summary.n_done, 12);
    ck_assert_int_eq(p.summary.n_bad, 0);
    pb_assert_ok(pb_records_load(p.out, true, &r, &n));
    ck_assert_int_eq(n, 12);
    for (int i = 0; i < n; i++) {
        bool trial = strcmp(r[i].phase, "trial") == 0;
        trials += trial;
        finals += strcmp(r[i].phase, "final") == 0;
        ck_assert_int_eq(r[i].seed == 7, trial);
        ck_assert_int_eq(pb_record_find(&r[i], "quality/test/nll") != NULL, !trial);
        ck_assert_int_eq(pb_record_find_sample(&r[i], "eval/test/nll") != NULL, !trial);
        ck_assert_int_eq(pb_record_find_sample(&r[i], "time/infer/unmerged") != NULL, !trial);
        ck_assert_ptr_nonnull(pb_record_find(&r[i], "quality/valid/nll"));
    }
    ck_assert_int_eq(trials, 8);
    ck_assert_int_eq(finals, 4);
    pb_records_free(r, n);
    pb_status status = pb_records_verify(p.out, stdout, &checked, &bad);
    ck_assert_msg(status == PB_OK, "%s", pb_error_message());
    leave(&p);
}
END_TEST

/* Five where the file says nothing; fewer only by the command line, and without tuning by the file. */
START_TEST(the_final_comparison_has_five_fresh_seeds) {
    place p;
    pb_suite suite;
    settle(&p, tuned);
    pb_assert_ok(pb_suite_load(p.file, NULL, &suite));
    ck_assert_int_eq(suite.n_runs, 2 * (4 + 5));
    for (int i = 0; i < 5; i++) ck_assert_uint_eq(suite.runs[4 + i].seed, (uint64_t)i + 1);
    pb_suite_free(&suite);
    edit(p.dir, "t.json", "\"tune\"", "\"seeds\": [1, 2], \"tune\"");
    pb_assert_fails(pb_suite_load(p.file, NULL, &suite), PB_E_INPUT, "at least 5");
    pb_assert_ok(pb_suite_load(p.file, &(pb_suite_overrides){.has_lr = true, .lr = 1e-3}, &suite));
    ck_assert_int_eq(suite.n_runs, 2 * 2);
    pb_suite_free(&suite);
    leave(&p);
}
END_TEST

START_TEST(a_tuned_suite_goes_on_and_chooses_the_same) {
    place p;
    settle(&p, tuned);
    pb_assert_ok(pb_tune_run(&p.suite, &p.options, &p.summary));
    char *first = pb_tiny_read(p.folder, PB_TUNING_FILE), *id = strstr(first, "\"runs\""), gone[17];
    id = strchr(strchr(id, '['), '"') + 1;
    snprintf(gone, sizeof gone, "%.16s", id);
    char *folder = pb_path_join(p.folder, gone), *record = pb_path_join(folder, "record.json");
    char *choice = pb_path_join(p.folder, PB_TUNING_FILE);
    ck_assert_int_eq(remove(record) + remove(choice), 0);
    pb_assert_ok(pb_tune_run(&p.suite, &p.options, &p.summary));
    ck_assert_int_eq(p.summary.n_done, 1);
    char *again = pb_tiny_read(p.folder, PB_TUNING_FILE);
    ck_assert_str_eq(first, again);
    free(again);
    free(choice);
    free(record);
    free(folder);
    free(first);
    leave(&p);
}
END_TEST

static const char *const lies[][2] = {{"\"edge\": \"", "\"edge\": \"x"},
                                      {"\"trial\": ", "\"trial\": 1"},
                                      {"\"mean\": ", "\"mean\": 1"},
                                      {"\"7\"", "\"8\""},
                                      {"\"chance\": ", "\"chance\": 9"},
                                      {"\"label\": \"full\"", "\"label\": \"fall\""}};

START_TEST(a_changed_choice_is_found) {
    place p;
    settle(&p, tuned);
    pb_assert_ok(pb_tune_run(&p.suite, &p.options, &p.summary));
    pb_assert_ok(pb_records_verify(p.out, NULL, NULL, NULL));
    edit(p.folder, PB_TUNING_FILE, lies[_i][0], lies[_i][1]);
    pb_assert_fails(pb_records_verify(p.out, NULL, NULL, NULL), PB_E_CHECK, PB_TUNING_FILE);
    leave(&p);
}
END_TEST

/* Equal seeds: equal order of the data for every method; another seed, another order. */
START_TEST(a_seed_moves_the_order_for_all_methods_alike) {
    place p;
    pb_record *r = NULL;
    int n = 0;
    char order[2][2][PB_SHA256_HEX];
    settle(&p, pb_tiny_suite_json);
    pb_assert_ok(pb_runner_run(&p.suite, &p.options, &p.summary));
    pb_assert_ok(pb_records_load(p.out, true, &r, &n));
    ck_assert_int_eq(n, 4);
    for (int i = 0; i < n; i++) {
        const pb_json *hash = pb_json_get(r[i].dataset, "order_sha256");
        ck_assert(cJSON_IsString(hash) && strlen(hash->valuestring) == 64);
        strcpy(order[strcmp(r[i].method, "full") == 0][r[i].seed - 1], hash->valuestring);
    }
    ck_assert_str_eq(order[0][0], order[1][0]);
    ck_assert_str_eq(order[0][1], order[1][1]);
    ck_assert_str_ne(order[0][0], order[0][1]);
    pb_records_free(r, n);
    leave(&p);
}
END_TEST

/* ---- what is refused ---- */

static const char *const refusals[][2] = {
    {HEAD "\"tune\": {\"lr\": \"1e-4/1e-1/3\"}," ROWS, "trials: missing"},
    {HEAD "\"tune\": {\"trials\": 2, \"lr\": \"1e-4/1e-1/3\"}," ROWS, "needs 3 trials"},
    {HEAD "\"tune\": {\"trials\": 4, \"lr\": \"1e-4/1e-2/3\"}," ROWS, "expected at least 3"},
    {HEAD "\"tune\": {\"trials\": 4, \"lr\": \"1e-4,1e-2\"}," ROWS, "FROM/TO/POINTS"},
    {HEAD "\"tune\": {\"trials\": 4, \"lr\": [1e-4, 1e-4, 1]}," ROWS, "rising"},
    {HEAD "\"tune\": {\"trials\": 4, \"lr\": \"1e-4/1e-1/3\", \"seeds\": [2]}," ROWS, "fresh"},
    {HEAD "\"seeds\": [1, 2, 3, 4], \"tune\": {\"trials\": 4, \"lr\": \"1e-4/1e-1/3\"}," ROWS,
     "runs[0]: seeds: 4, expected at least 5"},
    {HEAD "\"tune\": {\"trials\": 4, \"lr\": \"1e-4/1e-1/3\"}, \"runs\": [{\"method\": \"lora\"}, "
          "{\"method\": \"full\", \"seeds\": [8]}]}",
     "runs[1]: seeds: 1, expected at least 5"},
    {HEAD "\"tune\": {\"trials\": 4, \"strategie\": \"grid\"}," ROWS, "strategy"},
    {HEAD "\"tune\": {\"trials\": 4}," ROWS, "lr: missing"},
    {HEAD "\"tune\": {\"trials\": 4, \"lr\": \"1e-4/1e-1/3\"}, \"runs\": [{\"method\": \"lora\", "
          "\"lr\": 1}]}",
     "the tuning chooses it"},
    {HEAD "\"tune\": {\"trials\": 4, \"lr\": \"1e-4/1e-1/3\"}, \"runs\": [{\"method\": \"full\", "
          "\"tune\": {\"ranks\": [2]}}]}",
     "no parameter \"rank\""},
    {HEAD "\"runs\": [{\"method\": \"lora\", \"lr\": 1, \"tune\": {}}]}", "has no \"tune\""},
    {HEAD "\"examples\": [4, 4], \"runs\": [{\"method\": \"lora\", \"lr\": 1}]}", "different"},
    {HEAD "\"latency\": {}, \"runs\": [{\"method\": \"lora\"}]}", "nothing is trained"},
    {"{\"suites\": [], \"title\": \"x\"}", "suites: expected"},
};

START_TEST(bad_budgets_are_named) {
    char *dir = pb_test_dir(), *file = pb_path_join(dir, "t.json");
    pb_suite suite;
    pb_tiny_suite_write(dir);
    pb_tiny_write(dir, "t.json", refusals[_i][0]);
    pb_status status = pb_suite_load(file, NULL, &suite);
    ck_assert_msg(status == PB_E_INPUT && strstr(pb_error_message(), refusals[_i][1]),
                  "wanted %s, said %s", refusals[_i][1], pb_error_message());
    free(file);
    free(dir);
}
END_TEST

START_TEST(examples_make_a_row_for_each_number) {
    place p;
    settle(&p, HEAD "\"examples\": [8, 16], \"runs\": [{\"label\": \"LoRA\", \"method\": \"lora\", "
                    "\"lr\": 1e-3, \"params\": {\"rank\": 2}}]}");
    ck_assert_int_eq(p.suite.n_runs, 4);
    ck_assert_str_eq(p.suite.runs[0].label, "LoRA n8");
    ck_assert_int_eq(p.suite.runs[0].limit[0], 8);
    ck_assert_str_eq(p.suite.runs[3].label, "LoRA n16");
    pb_assert_ok(pb_runner_run(&p.suite, &p.options, &p.summary));
    ck_assert_int_eq(p.summary.n_done, 4);
    leave(&p);
}
END_TEST

int main(void) {
    Suite *s = suite_create("tune");
    TCase *t = pb_test_case(s, "next");
    tcase_add_test(t, every_row_spends_the_same_budget);
    tcase_add_test(t, an_edge_is_extended_and_an_inner_best_is_refined);
    tcase_add_loop_test(t, a_refinement_goes_where_the_loss_may_still_fall, 0,
                        (int)(sizeof refined / sizeof refined[0]));
    tcase_add_test(t, only_a_full_training_fails_at_chance_level);
    tcase_add_test(t, halving_keeps_the_better_half_twice);
    tcase_add_test(t, what_always_diverges_is_tried_lower_and_has_no_choice);
    tcase_add_test(t, equal_losses_take_the_smaller_rate);
    t = pb_test_case(s, "suites");
    tcase_add_test(t, trials_choose_and_finals_alone_see_the_test_split);
    tcase_add_test(t, the_final_comparison_has_five_fresh_seeds);
    tcase_add_test(t, a_tuned_suite_goes_on_and_chooses_the_same);
    tcase_add_loop_test(t, a_changed_choice_is_found, 0, (int)(sizeof lies / sizeof lies[0]));
    tcase_add_test(t, a_seed_moves_the_order_for_all_methods_alike);
    t = pb_test_case(s, "grammar");
    tcase_add_loop_test(t, bad_budgets_are_named, 0, (int)(sizeof refusals / sizeof refusals[0]));
    tcase_add_test(t, examples_make_a_row_for_each_number);
    return pb_run_suite(s);
}
