/* reports/compare: folders in, verdicts out; gates, anchors, what is refused and how it is named.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "reports/compare.h"
#include "tests/support.h"
#include "tests/synthetic_records.h"

#define assert_has(text, part) \
    ck_assert_msg(strstr((text), (part)) != NULL, "no \"%s\" in:\n%.2000s", (part), (text))

/* Text of a comparison; its status must be `want`. */
static char *compare(const char *const *dirs, int n, const pb_compare_options *o, pb_status want) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    pb_status got = pb_compare(dirs, n, o, out);
    fclose(out);
    ck_assert_msg(got == want, "status %s: %s", pb_status_name(got), pb_error_message());
    return text;
}

/* Two rows, LoRA and full, whose quality, machine, data and seeds are as asked. */
static void write_seeds(const char *root, double full_nll, const char *cpu, const char *data,
                        int lora_seeds, int full_seeds) {
    for (int row = 0; row < 2; row++)
        for (int seed = 1; seed <= (row ? full_seeds : lora_seeds); seed++) {
            pb_record r;
            pb_synthetic s = {.suite = "pair",
                              .method = row ? "full" : "lora",
                              .label = row ? "full" : "LoRA",
                              .seed = (uint64_t)seed,
                              .accuracy = row ? 0.6 : 0.7,
                              .nll = row ? full_nll : 0.8,
                              .step_s = 0.1,
                              .peak_mb = row ? 400 : 200,
                              .trainable = 1000,
                              .steps = 16,
                              .examples = 400};
            pb_assert_ok(pb_synthetic_record(&s, &r));
            pb_json *machine = cJSON_GetObjectItemCaseSensitive(r.environment, "machine");
            cJSON_ReplaceItemInObjectCaseSensitive(machine, "cpu", cJSON_CreateString(cpu));
            cJSON_ReplaceItemInObjectCaseSensitive(r.dataset, "name", cJSON_CreateString(data));
            pb_assert_ok(pb_record_write(&r, root));
            pb_record_free(&r);
        }
}

static void write_pair(const char *root, double full_nll, const char *cpu, const char *data) {
    write_seeds(root, full_nll, cpu, data, 5, 5);
}

START_TEST(verdicts_come_in_four_formats) {
    char *root = pb_test_dir();
    const char *dirs[] = {root};
    write_pair(root, 1.2, "A", "texts");
    char *text = compare(dirs, 1, NULL, PB_OK);
    assert_has(text, "full is worse than LoRA: test NLL higher by");
    assert_has(text, "2.00\xc3\x97 the memory");
    assert_has(text, "Waivers: none.");
    free(text);
    text = compare(dirs, 1, &(pb_compare_options){.format = PB_COMPARE_MARKDOWN}, PB_OK);
    assert_has(text, "| **LoRA** | 5 |");
    free(text);
    text = compare(dirs, 1, &(pb_compare_options){.format = PB_COMPARE_LATEX}, PB_OK);
    assert_has(text, "\\toprule");
    assert_has(text, "\\textbf{LoRA} & 5 & ");
    assert_has(text, "\\bottomrule");
    free(text);
    text = compare(dirs, 1, &(pb_compare_options){.format = PB_COMPARE_JSON}, PB_OK);
    pb_json *o = NULL;
    pb_assert_ok(pb_json_parse("compare", text, strlen(text), &o));
    const pb_json *one = cJSON_GetArrayItem(pb_json_get(o, "comparisons"), 0);
    ck_assert_str_eq(pb_json_get(one, "baseline")->valuestring, "LoRA");
    /* quality, step, memory, two forward passes; no record holds a general text */
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(one, "verdicts")), 6);
    ck_assert_int_eq(pb_json_get(one, "fewest_seeds")->valueint, 5);
    ck_assert(cJSON_IsFalse(pb_json_get(one, "fewer_than_five_seeds")));
    const pb_json *v = cJSON_GetArrayItem(pb_json_get(one, "verdicts"), 0);
    ck_assert_str_eq(pb_json_get(v, "verdict")->valuestring, "worse");
    ck_assert(pb_json_get(v, "low")->valuedouble > 0.2);
    pb_json_free(o);
    free(text);
    free(root);
}
END_TEST

/* Fewer than five seeds are said before anything else, with the rows they are of. */
START_TEST(few_seeds_are_said_first) {
    static const char *const wanted[] = {
        NULL, "1 seed: fewer than five; one seed decides nothing.",
        "2 seeds: fewer than five; only large differences can show.", NULL,
        "4 seeds: fewer than five; only large", NULL};
    for (int seeds = 1; seeds <= 5; seeds++) {
        char *root = pb_test_dir();
        const char *dirs[] = {root};
        write_seeds(root, 1.2, "A", "texts", seeds, seeds);
        char *text = compare(dirs, 1, NULL, PB_OK), *few = strstr(text, "fewer than five");
        ck_assert_msg((few != NULL) == (seeds < 5), "%d seeds", seeds);
        if (wanted[seeds]) assert_has(text, wanted[seeds]);
        if (seeds > 1 && few) ck_assert(few < strstr(text, "is worse than LoRA"));
        free(text);
        text = compare(dirs, 1, &(pb_compare_options){.format = PB_COMPARE_JSON}, PB_OK);
        assert_has(text, seeds < 5 ? "\"fewer_than_five_seeds\": true"
                                   : "\"fewer_than_five_seeds\": false");
        free(text);
        free(root);
    }
    char *root = pb_test_dir();
    const char *dirs[] = {root};
    write_seeds(root, 1.2, "A", "texts", 5, 3);
    char *text = compare(dirs, 1, NULL, PB_OK);
    assert_has(text, "Fewer than five seeds: full (3); only large differences");
    free(text);
    text = compare(dirs, 1, &(pb_compare_options){.rows = "LoRA"}, PB_OK);
    ck_assert_ptr_null(strstr(text, "ewer than five seeds:"));
    free(text);
    free(root);
}
END_TEST

/* ---- what comes after training ---- */

typedef void (*filler)(pb_record *r, int row, int seed);

static void write_methods(const char *root, const char *const *methods, int n, int seeds, filler fill) {
    for (int row = 0; row < n; row++)
        for (int seed = 1; seed <= seeds; seed++) {
            pb_record r;
            pb_synthetic s = {.suite = "after",
                              .method = methods[row],
                              .label = methods[row],
                              .seed = (uint64_t)seed,
                              .trainable = 1000,
                              .sparse = true};
            pb_assert_ok(pb_synthetic_record(&s, &r));
            fill(&r, row, seed);
            pb_assert_ok(pb_record_write(&r, root));
            pb_record_free(&r);
        }
}

/* Five runs each of LoRA, full and an adapter; `fill` puts in what the test is about. */
static void write_rows(const char *root, filler fill) {
    write_methods(root, (const char *const[]){"lora", "full", "adapter"}, 3, 5, fill);
}

static void put(pb_record *r, const char *tag, const char *unit, double value) {
    pb_assert_ok(pb_record_metric(r, tag, value, unit, -1, 1, ""));
}

/* full forgets 0.3 nats more; the adapter's forward pass takes a fifth longer and cannot be merged. */
static void fill_after(pb_record *r, int row, int seed) {
    double noise = 0.001 * (seed * (2 + row) % 5); /* another order in every row, the same mean */
    put(r, "quality/general/nll/change", "nats", (row == 1 ? 0.4 : 0.1) + noise);
    put(r, "time/infer/unmerged/median", "s", (row == 2 ? 0.12 : 0.1) * (1 + noise));
    if (row == 0) put(r, "time/infer/merged/median", "s", 0.1);
}

START_TEST(forgetting_and_forward_passes_are_judged) {
    char *root = pb_test_dir();
    const char *dirs[] = {root};
    write_rows(root, fill_after);
    char *text = compare(dirs, 1, &(pb_compare_options){.format = PB_COMPARE_MARKDOWN}, PB_OK);
    assert_has(text, "No quality to compare");
    assert_has(text, "beside lora: more by full (+0.300");
    assert_has(text, "not told apart: adapter (");
    assert_has(text, "Inference and forgetting");
    assert_has(text, "| adapter | \xe2\x80\x93 | \xe2\x80\x93 | 12"); /* no merged form */
    assert_has(text, "Forward pass, unmerged (ms)");
    ck_assert_ptr_null(strstr(text, "Test NLL ("));
    ck_assert_ptr_null(strstr(text, "No verdict on"));
    free(text);
    text = compare(dirs, 1, &(pb_compare_options){.format = PB_COMPARE_JSON}, PB_OK);
    pb_json *o = NULL;
    pb_assert_ok(pb_json_parse("compare", text, strlen(text), &o));
    const pb_json *one = cJSON_GetArrayItem(pb_json_get(o, "comparisons"), 0), *e = NULL;
    int judged = 0;
    cJSON_ArrayForEach (e, pb_json_get(one, "verdicts")) {
        const char *a = pb_json_get(e, "a")->valuestring, *b = pb_json_get(e, "b")->valuestring,
                   *m = pb_json_get(e, "measure")->valuestring,
                   *verdict = pb_json_get(e, "verdict")->valuestring;
        if (strcmp(b, "lora") != 0) continue;
        bool slow = strcmp(a, "adapter") == 0 && strcmp(m, "infer-unmerged") == 0,
             forgets = strcmp(a, "full") == 0 && strcmp(m, "forgetting") == 0;
        ck_assert_msg(strcmp(verdict, slow || forgets              ? "worse"
                                      : strstr(m, "infer-merged") ? "not comparable"
                                                                  : "no detectable difference") == 0,
                      "%s, %s: %s", a, m, verdict);
        judged++;
    }
    ck_assert_int_eq(judged, 6); /* two rows, three measures */
    pb_json_free(o);
    free(text);
    pb_compare_options gate = {.fail_on = "worse:infer-unmerged:15,worse:forgetting:0.2"};
    free(compare(dirs, 1, &gate, PB_E_CHECK));
    assert_has(pb_error_message(), "adapter is worse than lora in time of an unmerged forward pass by 20");
    assert_has(pb_error_message(), "full is worse than lora in loss gained on general text by 0.3");
    free(root);
}
END_TEST

/* A suite of forward passes alone at two shapes: LoRA merged takes the base model's time, beside the weights a fifth
 * more, the adapter a tenth more, half of that at the larger shape. Processes differ by up to a factor of two; within
 * one the ratios stay. */
static double time_of_pass(int row, int form, int shape, int seed) {
    static const double times[] = {1.2, 1, 1.1, 1}; /* lora, dora, adapter, head; unmerged */
    /* another order of the same five values for every row and form */
    double noise = 0.005 * (seed * (1 + (2 * row + form + shape) % 4) % 5 - 2);
    double more = form == 0 ? 0 : (times[row] - 1) / (shape ? 2 : 1);
    return 1e-3 * (shape ? 8 : 1) * (1 + 0.3 * seed) * (1 + more) * (1 + noise);
}

static void fill_passes(pb_record *r, int row, int seed, bool own) {
    static const char *const shapes[] = {"1x16", "8x128"};
    for (int s = 0; s < 2; s++)
        for (int form = row < 2 ? 0 : 1; form < 2; form++) { /* adapters and heads have no merged form */
            char tag[96];
            double t = time_of_pass(row, form, s, seed);
            snprintf(tag, sizeof tag, "time/infer/%s/median@shape=%s", form ? "unmerged" : "merged", shapes[s]);
            put(r, tag, "s", t);
            snprintf(tag, sizeof tag, "ratio/infer/%s/median@shape=%s", form ? "unmerged" : "merged", shapes[s]);
            if (own) put(r, tag, "1", t / time_of_pass(3, 1, s, seed));
        }
}

static void fill_shapes(pb_record *r, int row, int seed) { fill_passes(r, row, seed, false); }
static void fill_own_base(pb_record *r, int row, int seed) { fill_passes(r, row, seed, true); }

static char *compared_shapes(int seeds, filler fill) {
    static const char *const methods[] = {"lora", "dora", "adapter", "head"};
    char *root = pb_test_dir();
    const char *dirs[] = {root};
    write_methods(root, methods, 4, seeds, fill);
    char *text = compare(dirs, 1, &(pb_compare_options){.format = PB_COMPARE_MARKDOWN}, PB_OK), *copy = strdup(text);
    free(text); /* gcc 12 warns of a stream's own buffer: dangling-pointer */
    free(root);
    ck_assert_ptr_nonnull(copy);
    return copy;
}

/* Where a part begins; it must be there. */
static size_t place_of(const char *text, const char *part) {
    const char *at = strstr(text, part);
    ck_assert_msg(at != NULL, "%s\nis not in\n%s", part, text);
    return (size_t)(at - text);
}

START_TEST(latency_alone_is_answered_process_by_process) {
    char *text = compared_shapes(5, fill_shapes);
    size_t base = place_of(text, "- lora, merged, cannot be told apart from the base model (head): 1.00\xc3\x97 ("),
           adapter = place_of(text, "- adapter, unmerged, is slower than lora, merged: 1.07\xc3\x97 (1."),
           unmerged = place_of(text, "- lora, unmerged, is slower than lora, merged: 1.15\xc3\x97 (1."),
           quality = place_of(text, "- No quality to compare");
    ck_assert_msg(base < adapter && adapter < unmerged && unmerged < quality, "%s", text);
    assert_has(text, ") at 8x128 to 1.10\xc3\x97 (1.09\xe2\x80\x93" "1.11) at 1x16; one by one slower at 2.");
    assert_has(text, "dora, merged, cannot be told apart from lora, merged: 1.00");
    assert_has(text, "| Row | Adapter | 1x16 (ms) | 8x128 (ms) |");
    assert_has(text, "| **lora** | merged | 1.85 (1.3"); /* processes differ ... */
    assert_has(text, "| adapter | unmerged | **1.07\xc3\x97 (1."); /* ... and their ratios do not */
    assert_has(text, "** | **1.10\xc3\x97 (1.09\xe2\x80\x93" "1.11)** | **1.05");
    ck_assert_ptr_null(strstr(text, "adapter | merged"));
    ck_assert_ptr_null(strstr(text, "not comparable"));
    ck_assert_ptr_null(strstr(text, "NLL against"));
    assert_has(text, "Nothing else is judged here");
    free(text);
}
END_TEST

START_TEST(one_process_tells_nothing_apart) {
    char *text = compared_shapes(1, fill_shapes);
    assert_has(text, "- 1 process of each row: fewer than five; one tells nothing apart.");
    assert_has(text, "- adapter, unmerged, beside lora, merged: 1.0");
    ck_assert_ptr_null(strstr(text, "is slower than"));
    ck_assert_ptr_null(strstr(text, "told apart at"));
    free(text);
}
END_TEST

START_TEST(a_base_timed_in_the_same_process_is_the_reference) {
    char *text = compared_shapes(5, fill_own_base);
    assert_has(text, "- adapter, unmerged, is slower than the base model: 1.07");
    assert_has(text, "- lora, merged, cannot be told apart from the base model: 1.00");
    assert_has(text, "Forward passes as multiples of the base model");
    ck_assert_ptr_null(strstr(text, "than lora, merged"));
    free(text);
}
END_TEST

/* Eight steps with a test evaluation, as a suite of forward passes may have: no word on who is better. */
static void fill_rehearsal(pb_record *r, int row, int seed) {
    double loss[8] = {0}, noise = 0.001 * (seed * (2 + row) % 5);
    pb_assert_ok(pb_record_sample(r, "loss/train", loss, 8));
    put(r, "quality/test/nll", "nats", (row == 1 ? 2.4 : 3.1) + noise);
    put(r, "quality/test/accuracy", "1", (row == 1 ? 0.4 : 0.2) + noise);
    put(r, "time/infer/unmerged/median", "s", (row == 2 ? 0.12 : 0.1) * (1 + noise));
}

START_TEST(a_rehearsal_says_nothing_of_quality) {
    char *root = pb_test_dir();
    const char *dirs[] = {root};
    write_rows(root, fill_rehearsal);
    char *text = compare(dirs, 1, NULL, PB_OK);
    assert_has(text, "Quality is not judged: 8 training steps train nothing worth comparing (16 are the least)");
    assert_has(text, "adapter takes 1.20\xc3\x97 the time of an unmerged forward pass of lora.");
    ck_assert_ptr_null(strstr(text, "is better than"));
    ck_assert_ptr_null(strstr(text, "No verdict on"));
    free(text);
    free(compare(dirs, 1, &(pb_compare_options){.fail_on = "worse:nll"}, PB_E_CHECK));
    assert_has(pb_error_message(), "8 training steps");
    free(root);
}
END_TEST

/* Bytes repeat exactly: a thousandth more is found, and is no price to speak of. Twice as much is. */
static void fill_memory(pb_record *r, int row, int seed) {
    static const double bytes[] = {1e6, 1.001e6, 2e6};
    fill_rehearsal(r, row == 2, seed);
    put(r, "memory/peak/total", "bytes", bytes[row]);
}

START_TEST(a_price_that_rounds_to_none_is_not_named) {
    char *root = pb_test_dir();
    const char *dirs[] = {root};
    write_rows(root, fill_memory);
    char *text = compare(dirs, 1, &(pb_compare_options){.format = PB_COMPARE_MARKDOWN}, PB_OK);
    assert_has(text, "adapter takes 2.00\xc3\x97 the memory of lora.");
    ck_assert_ptr_null(strstr(text, "1.00\xc3\x97 the memory"));
    ck_assert_ptr_null(strstr(text, "full takes"));
    free(text);
    free(compare(dirs, 1, &(pb_compare_options){.fail_on = "worse:memory:0.01"}, PB_E_CHECK)); /* it was found */
    assert_has(pb_error_message(), "full is worse than lora in peak memory by 0.1");
    free(root);
}
END_TEST

START_TEST(gates_trip_on_verdicts_of_their_size) {
    char *root = pb_test_dir();
    const char *dirs[] = {root};
    write_pair(root, 1.2, "A", "texts");
    static const struct {
        const char *gate;
        pb_status want;
        const char *says;
    } cases[] = {{"worse:nll:0.1", PB_E_CHECK, "full is worse than LoRA in test NLL by 0.369"},
                 {"worse:nll:5", PB_OK, ""},
                 {"worse:accuracy:1.0", PB_E_CHECK, "points"},
                 {"better:accuracy", PB_OK, ""},
                 {"worse:memory:50", PB_E_CHECK, "peak memory by 100 %"},
                 {"worse:memory:150,worse:nll", PB_E_CHECK, "test NLL"},
                 {"worse:acuracy:1", PB_E_INPUT, "nearest to \"acuracy\" is \"accuracy\""},
                 {"wrse:nll", PB_E_INPUT, "worse"},
                 {"worse:speed", PB_E_INPUT, "|memory|"}, /* every measure is named */
                 {"worse:nll:x", PB_E_INPUT, "amount"},
                 {"worse:nll:-1", PB_E_INPUT, "amount"},
                 {"", PB_E_INPUT, "a gate is empty"}, /* no gate would always be passed */
                 {"worse:nll:5,", PB_E_INPUT, "a gate is empty"},
                 {",worse:nll:5", PB_E_INPUT, "a gate is empty"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text =
            compare(dirs, 1, &(pb_compare_options){.fail_on = cases[i].gate}, cases[i].want);
        if (cases[i].want != PB_OK) assert_has(pb_error_message(), cases[i].says);
        if (cases[i].want == PB_E_CHECK) assert_has(text, "is worse than"); /* still written */
        free(text);
    }
    free(root);
}
END_TEST

START_TEST(what_cannot_be_judged_has_not_passed_the_gate) {
    char *root = pb_test_dir();
    const char *dirs[] = {root};
    pb_assert_ok(pb_synthetic_suite(root, "one", 1));
    free(compare(dirs, 1, &(pb_compare_options){.fail_on = "worse:accuracy:99"}, PB_E_CHECK));
    assert_has(pb_error_message(), "no verdict (one seed in common");
    free(root);
}
END_TEST

/* Nothing judged is nothing passed: a lone row, a head beside the baseline, runs that failed. */
START_TEST(a_gate_that_judges_nothing_has_not_been_passed) {
    char *root = pb_test_dir(), *failed = pb_test_dir();
    const char *dirs[] = {root}, *none[] = {failed};
    pb_compare_options o = {.fail_on = "worse:nll:0", .rows = "LoRA"};
    write_pair(root, 1.2, "A", "texts");
    free(compare(dirs, 1, &o, PB_E_CHECK));
    assert_has(pb_error_message(), "no row was judged against a baseline in test NLL");
    o.rows = "LoRA,full";
    o.fail_on = "better:nll:0";
    free(compare(dirs, 1, &o, PB_OK));
    pb_assert_ok(pb_synthetic_failures(failed, "one"));
    o.rows = NULL;
    free(compare(none, 1, &o, PB_E_CHECK));
    assert_has(pb_error_message(), "one: no run finished");
    free(root);
    free(failed);
}
END_TEST

/* Rows of LoRA and full with the number of training examples in their labels, on one machine, in `suite`. */
static void write_sweep(const char *root, int first, int last) {
    static const int counts[] = {100, 1000, 10000};
    for (int n = first; n <= last; n++)
        for (int row = 0; row < 2; row++)
            for (int seed = 1; seed <= 5; seed++) {
                pb_record r;
                char label[32];
                snprintf(label, sizeof label, "%s n%d", row ? "full" : "LoRA", counts[n]);
                pb_synthetic s = {.suite = "sweep", .method = row ? "full" : "lora", .label = label, .seed = (uint64_t)seed,
                                  .accuracy = 0.7, .nll = row ? 1.2 : 0.8, .step_s = 0.1, .peak_mb = 200, .trainable = 1000,
                                  .steps = 16, .examples = 400};
                pb_assert_ok(pb_synthetic_record(&s, &r));
                pb_json *splits = cJSON_GetObjectItemCaseSensitive(r.dataset, "splits");
                cJSON_ReplaceItemInObjectCaseSensitive(splits, "train", cJSON_CreateNumber(counts[n]));
                pb_assert_ok(pb_run_id_of(r.config, r.run_id));
                pb_assert_ok(pb_record_write(&r, root));
                pb_record_free(&r);
            }
}

/* A sweep against the part of it that another folder has: the rows that pair are compared, whichever comes first; where
 * none does, that is the error. */
START_TEST(folders_are_compared_where_any_rows_pair) {
    char *a = pb_test_dir(), *b = pb_test_dir(), *c = pb_test_dir();
    write_sweep(a, 0, 1);
    write_sweep(b, 1, 2);
    write_sweep(c, 2, 2);
    const char *pairs[] = {a, b}, *apart[] = {a, c};
    free(compare(pairs, 2, NULL, PB_OK));
    char *text = compare(pairs, 2, &(pb_compare_options){.rows = "LoRA n1000,full n1000"}, PB_OK);
    assert_has(text, "full n1000 [");
    assert_has(text, "] is worse than LoRA n1000 [");
    free(text);
    free(compare(apart, 2, NULL, PB_E_INPUT));
    assert_has(pb_error_message(), "differ in training examples: 100 against 10000");
    free(compare(apart, 2, &(pb_compare_options){.waive = "data"}, PB_OK));
    free(a);
    free(b);
    free(c);
}
END_TEST

START_TEST(folders_of_other_models_data_and_machines_are_named) {
    char *a = pb_test_dir(), *b = pb_test_dir(), *c = pb_test_dir(), *empty = pb_test_dir();
    write_pair(a, 1.2, "A", "texts");
    write_pair(b, 1.2, "B", "texts");
    write_pair(c, 1.2, "A", "other texts");
    const char *machines[] = {a, b}, *data[] = {a, c}, *nothing[] = {empty}, *half[] = {a, empty},
               *twice[] = {a, a};
    free(compare(machines, 2, NULL, PB_E_INPUT));
    assert_has(pb_error_message(), "record.json");
    assert_has(pb_error_message(), "machine: cpu: A against B");
    assert_has(pb_error_message(), "--anchor");
    free(compare(data, 2, NULL, PB_E_INPUT));
    assert_has(pb_error_message(), "data set: texts against other texts");
    free(compare(nothing, 1, NULL, PB_E_INPUT));
    assert_has(pb_error_message(), "holds no run");
    free(compare(half, 2, NULL, PB_E_INPUT));
    free(compare(twice, 2, NULL, PB_E_INPUT));
    pb_compare_options o = {.anchor = "lora"};
    char *text = compare(machines, 2, &o, PB_OK); /* only full remains, relative to LoRA */
    assert_has(text, "relative to LoRA");
    assert_has(text, "full [");
    free(text);
    o.anchor = "dora";
    free(compare(machines, 2, &o, PB_E_INPUT));
    assert_has(pb_error_message(), "\"dora\"");
    o = (pb_compare_options){.waive = "machine"};
    text = compare(machines, 2, &o, PB_OK);
    assert_has(text, "Waived by name");
    assert_has(text, "LoRA [");
    free(text);
    free(a);
    free(b);
    free(c);
    free(empty);
}
END_TEST

START_TEST(names_that_are_not_there_are_refused) {
    char *root = pb_test_dir();
    const char *dirs[] = {root};
    write_pair(root, 1.2, "A", "texts");
    free(compare(dirs, 1, &(pb_compare_options){.baseline = "nobody"}, PB_E_INPUT));
    free(compare(dirs, 1, &(pb_compare_options){.baseline = "ful"}, PB_E_INPUT));
    assert_has(pb_error_message(), "the nearest label is \"full\"");
    free(compare(dirs, 1, &(pb_compare_options){.anchor = "LoRa"}, PB_E_INPUT));
    assert_has(pb_error_message(), "the nearest is \"LoRA\"");
    free(compare(dirs, 1, &(pb_compare_options){.rows = "nobody"}, PB_E_INPUT));
    /* A name that is misspelt beside one that is not. */
    free(compare(dirs, 1, &(pb_compare_options){.rows = "LoRA,ful"}, PB_E_INPUT));
    assert_has(pb_error_message(), "no row is called \"ful\"; the nearest is \"full\"");
    free(compare(dirs, 1, &(pb_compare_options){.waive = "scael"}, PB_E_INPUT));
    assert_has(pb_error_message(), "\"scale\"");
    char *text = compare(dirs, 1, &(pb_compare_options){.rows = "full"}, PB_OK);
    ck_assert_ptr_null(strstr(text, "LoRA"));
    free(text);
    free(root);
}
END_TEST

int main(void) {
    Suite *s = suite_create("compare");
    TCase *t = pb_test_case(s, "compare");
    tcase_add_test(t, verdicts_come_in_four_formats);
    tcase_add_test(t, few_seeds_are_said_first);
    tcase_add_test(t, forgetting_and_forward_passes_are_judged);
    tcase_add_test(t, latency_alone_is_answered_process_by_process);
    tcase_add_test(t, one_process_tells_nothing_apart);
    tcase_add_test(t, a_base_timed_in_the_same_process_is_the_reference);
    tcase_add_test(t, a_rehearsal_says_nothing_of_quality);
    tcase_add_test(t, a_price_that_rounds_to_none_is_not_named);
    tcase_add_test(t, gates_trip_on_verdicts_of_their_size);
    tcase_add_test(t, what_cannot_be_judged_has_not_passed_the_gate);
    tcase_add_test(t, a_gate_that_judges_nothing_has_not_been_passed);
    tcase_add_test(t, folders_are_compared_where_any_rows_pair);
    tcase_add_test(t, folders_of_other_models_data_and_machines_are_named);
    tcase_add_test(t, names_that_are_not_there_are_refused);
    return pb_run_suite(s);
}
