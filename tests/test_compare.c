/* reports/compare: folders in, verdicts out; gates, anchors, what is refused and how it is named.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "reports/compare.h"
#include "tests/support.h"
#include "tests/synthetic_records.h"

#define assert_has(text, part) \
    ck_assert_msg(strstr((text), (part)) != NULL, "no \"%s\" in:\n%s", (part), (text))

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

/* Two rows, LoRA and full, whose quality, machine, data are as asked, 5 seeds. */
static void write_pair(const char *root, double full_nll, const char *cpu, const char *data) {
    for (int row = 0; row < 2; row++)
        for (int seed = 1; seed <= 5; seed++) {
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
                              .steps = 8,
                              .examples = 400};
            pb_assert_ok(pb_synthetic_record(&s, &r));
            pb_json *machine = cJSON_GetObjectItemCaseSensitive(r.environment, "machine");
            cJSON_ReplaceItemInObjectCaseSensitive(machine, "cpu", cJSON_CreateString(cpu));
            cJSON_ReplaceItemInObjectCaseSensitive(r.dataset, "name", cJSON_CreateString(data));
            pb_assert_ok(pb_record_write(&r, root));
            pb_record_free(&r);
        }
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
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(one, "verdicts")), 4);
    const pb_json *v = cJSON_GetArrayItem(pb_json_get(one, "verdicts"), 0);
    ck_assert_str_eq(pb_json_get(v, "verdict")->valuestring, "worse");
    ck_assert(pb_json_get(v, "low")->valuedouble > 0.2);
    pb_json_free(o);
    free(text);
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
    } cases[] = {{"worse:nll:0.1", PB_E_CHECK, "full is worse than LoRA in test NLL by 0.37"},
                 {"worse:nll:5", PB_OK, ""},
                 {"worse:accuracy:1.0", PB_E_CHECK, "points"},
                 {"better:accuracy", PB_OK, ""},
                 {"worse:memory:50", PB_E_CHECK, "peak memory by 100 %"},
                 {"worse:memory:150,worse:nll", PB_E_CHECK, "test NLL"},
                 {"worse:acuracy:1", PB_E_INPUT, "nearest to \"acuracy\" is \"accuracy\""},
                 {"wrse:nll", PB_E_INPUT, "worse"},
                 {"worse:nll:x", PB_E_INPUT, "amount"},
                 {"worse:nll:-1", PB_E_INPUT, "amount"}};
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
    free(compare(dirs, 1, &(pb_compare_options){.rows = "nobody"}, PB_E_INPUT));
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
    tcase_add_test(t, gates_trip_on_verdicts_of_their_size);
    tcase_add_test(t, what_cannot_be_judged_has_not_passed_the_gate);
    tcase_add_test(t, folders_of_other_models_data_and_machines_are_named);
    tcase_add_test(t, names_that_are_not_there_are_refused);
    return pb_run_suite(s);
}
