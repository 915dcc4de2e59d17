/* harness/latency.c: every row and form is timed as often as said, records verify, nothing is measured
 * twice. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "harness/cli_bench.h"
#include "harness/latency.h"
#include "tests/support.h"
#include "tests/tiny_suite.h"

static const char json[] =
    "{\"title\": \"Latency\", \"model\": \"./model\", \"dtype\": \"f32\","
    " \"latency\": {\"batch\": [1, 2], \"length\": [4, 8], \"repeats\": 3}, \"seeds\": [1, 5],"
    " \"runs\": [{\"label\": \"head\", \"method\": \"head\"},"
    "  {\"label\": \"LoRA\", \"method\": \"lora\", \"params\": {\"rank\": 2}},"
    "  {\"label\": \"Adapter\", \"method\": \"adapter\", \"params\": {\"size\": 2}}]}";

START_TEST(every_form_of_every_row_is_timed_in_turns) {
    char *dir = pb_test_dir(), *out = pb_path_join(dir, "out"), *file = pb_path_join(dir, "l.json");
    pb_suite suite;
    pb_runner_options options = {.out_dir = out, .threads = 1};
    pb_runner_summary summary;
    pb_record *r = NULL;
    int n = 0;
    pb_tiny_suite_write(dir);
    pb_tiny_write(dir, "l.json", json);
    pb_assert_ok(pb_suite_load(file, NULL, &suite));
    pb_assert_ok(pb_latency_run(&suite, &options, &summary));
    ck_assert_int_eq(summary.n_done, 6);
    pb_assert_ok(pb_records_load(out, true, &r, &n));
    ck_assert_int_eq(n, 6); /* three rows at two seeds */
    uint64_t seeds = 0;
    for (int i = 0; i < n; i++) {
        seeds += r[i].seed;
        static const char *const shapes[] = {"1x4", "1x8", "2x4", "2x8"};
        bool lora = strcmp(r[i].method, "lora") == 0;
        for (int s = 0; s < 4; s++) {
            char tag[96];
            snprintf(tag, sizeof tag, "time/infer/unmerged@shape=%s", shapes[s]);
            const pb_sample *plain = pb_record_find_sample(&r[i], tag);
            ck_assert(plain && plain->n == 3 && plain->values[0] > 0);
            snprintf(tag, sizeof tag, "time/infer/merged/median@shape=%s", shapes[s]);
            ck_assert_int_eq(pb_record_find(&r[i], tag) != NULL, lora);
        }
        if (!lora) continue; /* merged = the work of the base; beside the weights there is more */
        double merged = pb_record_value(&r[i], "work/infer_merged/flops@shape=2x8");
        ck_assert(merged > 0 &&
                  pb_record_value(&r[i], "work/infer_unmerged/flops@shape=2x8") > merged);
    }
    ck_assert_uint_eq(seeds, 3 * 1 + 3 * 5);
    pb_records_free(r, n);
    pb_assert_ok(pb_records_verify(out, NULL, NULL, NULL));
    pb_assert_ok(pb_latency_run(&suite, &options, &summary));
    ck_assert_int_eq(summary.n_done, 0);
    ck_assert_int_eq(summary.n_skipped, 6);
    /* One record less: its seed is made again, the other one is not. */
    char *lost = NULL, *folder = pb_path_join(out, suite.name);
    pb_assert_ok(pb_records_load(out, true, &r, &n));
    for (int i = 0; i < n && !lost; i++)
        if (r[i].seed == 5) lost = pb_path_join(folder, r[i].run_id);
    pb_assert_ok(pb_remove_tree(lost));
    pb_records_free(r, n);
    pb_assert_ok(pb_latency_run(&suite, &options, &summary));
    ck_assert_int_eq(summary.n_done, 3);
    ck_assert_int_eq(summary.n_skipped, 3);
    free(lost);
    free(folder);
    pb_suite_free(&suite);
    free(file);
    free(out);
    free(dir);
}
END_TEST

/* The command sizes adapters to LoRA's parameter count and leaves a suite that repeats it. */
START_TEST(the_bench_compares_equal_parameter_counts) {
    char *dir = pb_test_dir(), *out = pb_path_join(dir, "out"), *model = pb_path_join(dir, "model");
    pb_bench_request q = {.model = model, .device = "cpu", .batches = "1,2", .lengths = "4",
                          .rank = 4, .steps = 3, .threads = 1, .out = out};
    pb_record *r = NULL;
    int n = 0;
    double lora = 0, adapter = 0;
    pb_tiny_suite_write(dir);
    pb_assert_ok(pb_bench_infer(&q));
    pb_assert_ok(pb_records_load(out, true, &r, &n));
    ck_assert_int_eq(n, 4); /* head, LoRA, two adapters */
    for (int i = 0; i < n; i++) {
        double trainable = pb_json_get(r[i].model, "params_trainable")->valuedouble;
        if (strcmp(r[i].method, "lora") == 0) lora = trainable;
        if (strstr(r[i].label, "houlsby")) adapter = trainable;
    }
    ck_assert_msg(adapter > 0.9 * lora && adapter < 1.1 * lora, "%g against %g", adapter, lora);
    pb_records_free(r, n);
    char *suite = pb_tiny_read(out, "bench-infer.json");
    ck_assert_ptr_nonnull(strstr(suite, "\"latency\""));
    free(suite);
    free(model);
    free(out);
    free(dir);
}
END_TEST

int main(void) {
    Suite *s = suite_create("latency");
    TCase *t = pb_test_case(s, "suites");
    tcase_add_test(t, the_bench_compares_equal_parameter_counts);
    tcase_add_test(t, every_form_of_every_row_is_timed_in_turns);
    return pb_run_suite(s);
}
