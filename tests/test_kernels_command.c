/* `peftbench kernels` from outside: what it refuses, what it measures as a saved run was, and what a table or a
 * trend must not leave out in silence. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/process.h"
#include "base/text.h"
#include "harness/kernel_history.h"
#include "tests/support.h"

#define MOST (16 << 20)

static char *dir; /* of the test */

static void open_dir(void) { dir = pb_test_dir(); }
static void close_dir(void) { free(dir); }

static char *in_dir(const char *name) { return pb_path_join(dir, name); }

/* Runs "peftbench kernels ARGS" through a shell that knows $D, the test's folder; stdout in D/out. What it said on
 * both, malloc'ed. */
static char *kernels(const char *args, int want) {
    pb_text command = {0};
    char *log = in_dir("log"), *text = NULL;
    int code = -1;
    pb_text_add(&command, "D='%s'; '%s' kernels %s | tee \"$D/out\"; exit ${PIPESTATUS[0]}", dir, PB_BINARY, args);
    const char *const argv[] = {"bash", "-c", command.data, NULL};
    pb_assert_ok(pb_process_run(argv, NULL, NULL, log, &code));
    pb_assert_ok(pb_file_read(log, MOST, &text, NULL));
    ck_assert_msg(want < 0 || code == want, "kernels %s: exit status %d\n%s", args, code, text);
    pb_text_free(&command);
    free(log);
    return text;
}

static void expect(const char *args, int code, const char *part) {
    char *text = kernels(args, code);
    ck_assert_msg(strstr(text, part) != NULL, "kernels %s: no '%s' in\n%s", args, part, text);
    free(text);
}

static pb_json *load(const char *name) {
    char *path = in_dir(name);
    pb_json *json = NULL;
    pb_assert_ok(pb_json_load(path, MOST, &json));
    free(path);
    return json;
}

START_TEST(what_cannot_be_compared_is_refused_at_once) {
    expect("compare --stored a.json --aa", 1, "--stored takes no --aa");
    expect("compare --stored a.json b.json --model shape:minilm", 1, "both were measured already");
    expect("compare --stored a.json b.json --cache cold", 1, "both were measured already");
    expect("compare --stored a.json b.json --save c.json", 1, "both were measured already");
    expect("compare A B --device cuda --instructions --model shape:minilm --rows 64", 1,
           "the counts are of the CPU's kernels");
    setenv("PB_CUDA_PLUGIN", "/one.so", 1);
    expect("compare A B --device cuda", 1, "PB_CUDA_PLUGIN names one backend for both builds, /one.so");
    unsetenv("PB_CUDA_PLUGIN");
}
END_TEST

/* B is made now: model, rows, dtype, caches and filter are A's, a difference is refused, the run is kept. */
START_TEST(a_run_made_now_is_made_as_the_saved_one_was) {
    static const char saved[] =
        "{\"schema\":\"peftbench-kernels-2\",\"binary_sha256\":\"b\",\"processes\":1,\"environment\":{\"device\":\"cpu\","
        "\"cache\":\"hot\",\"threads\":1},\"asked\":{\"model\":\"shape:minilm\",\"all\":false,\"rows\":64,"
        "\"dtype\":\"f32\",\"filter\":\"/axpby/\",\"budget_s\":0.1},\"roofs\":{},\"kernels\":[{"
        "\"name\":\"minilm/axpby/64 x 384/f32\",\"op\":\"axpby\",\"shape\":\"s\",\"dtype\":\"f32\",\"variant\":\"v\","
        "\"output_sha256\":\"h\",\"wrong\":false,\"checked\":true,\"flops\":0,\"flops_else\":0,\"bytes\":1e6,"
        "\"samples_s\":[[1e-5]]}]}";
    char *path = in_dir("a.json");
    pb_assert_ok(pb_file_write_atomic(path, saved, strlen(saved)));
    free(path);
    expect("compare --stored \"$D/a.json\" --rows 128", 1, "--rows 128: A was measured with 64");
    expect("compare --stored \"$D/a.json\" --cache cold", 1, "--cache cold: A was measured with hot");
    expect("compare --stored \"$D/a.json\" --all", 1, "--all: A was measured without it");
    free(kernels("compare --stored \"$D/a.json\" --save \"$D/b.json\" --json", -1)); /* the verdict is the machine's */
    pb_json *a = load("a.json"), *b = load("b.json"), *said = load("out");
    ck_assert(cJSON_Compare(pb_json_get(a, "asked"), pb_json_get(b, "asked"), true));
    ck_assert_str_eq(pb_json_text(pb_json_get(b, "environment"), "cache"), "hot");
    ck_assert(pb_json_number(pb_json_get(b, "environment"), "threads") == 1);
    ck_assert(pb_json_number(b, "processes") == 1 && pb_json_get(b, "machine_state") != NULL);
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(b, "kernels")), 1);
    ck_assert_str_eq(pb_json_text(pb_json_get(b, "kernels")->child, "name"),
                     pb_json_text(pb_json_get(a, "kernels")->child, "name"));
    ck_assert(pb_json_number(pb_json_get(b, "kernels")->child, "median_s") > 0);
    const pb_json *k = pb_json_get(said, "kernels")->child;
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(said, "kernels")), 1);
    ck_assert_msg(!strstr(pb_json_text(k, "why"), "only"), "%s", pb_json_text(k, "why"));
    ck_assert(pb_json_number(k, "samples") == 1 && pb_json_number(k, "seconds") > 0);
    ck_assert(cJSON_IsArray(pb_json_get(said, "advice")) && strstr(pb_json_text(said, "samples_in"), "b.json"));
    /* Of two files the filter takes part, too. */
    expect("compare --stored \"$D/a.json\" \"$D/b.json\" --filter /none/", 1, "no kernel in common");
    pb_json_free(a);
    pb_json_free(b);
    pb_json_free(said);
}
END_TEST

/* One kernel at a tenth of its roof, one above it, one wrong in its second process, one from its first on. */
START_TEST(what_is_wrong_is_not_left_out) {
    char *path = in_dir("run.json");
    pb_text t = {0};
    pb_text_add(&t, "{\"schema\":\"peftbench-kernels-2\",\"binary_sha256\":\"b\",\"processes\":1,\"environment\":{},"
                    "\"roofs\":{\"bytes_per_s\":1e10},\"kernels\":[");
    static const char *const rows[] = {"\"name\":\"slow\",\"wrong\":false,\"samples_s\":[[1e-3]]",
                                       "\"name\":\"good\",\"wrong\":false,\"samples_s\":[[1e-4]]",
                                       "\"name\":\"later\",\"wrong\":true,\"why\":\"w2\",\"samples_s\":[[1e-4]]",
                                       "\"name\":\"never\",\"wrong\":true,\"why\":\"w1\",\"samples_s\":[]"};
    for (int i = 0; i < 4; i++)
        pb_text_add(&t, "%s{%s,\"op\":\"o\",\"shape\":\"s\",\"dtype\":\"f32\",\"variant\":\"v\","
                        "\"output_sha256\":\"h\",\"checked\":true,\"flops\":0,\"flops_else\":0,\"bytes\":1e6}", i ? "," : "", rows[i]);
    pb_text_add(&t, "]}");
    pb_assert_ok(pb_file_write_atomic(path, t.data, t.len));
    char *text = kernels("show \"$D/run.json\" --below 80", 0);
    ck_assert(strstr(text, "WRONG: never: w1") && strstr(text, "WRONG: later: w2") && strstr(text, "slow"));
    ck_assert(!strstr(text, "good"));
    ck_assert_msg(strstr(text, "1 of 4 kernels below 80 % of their roof, 2 wrong") != NULL, "%s", text);
    free(text);
    pb_text_free(&t);
    free(path);
}
END_TEST

/* 26 series with a step each. */
START_TEST(figures_that_are_not_drawn_are_counted) {
    enum { SERIES = 26, POINTS = 16 };
    char *path = in_dir("history.jsonl");
    pb_text t = {0};
    for (int p = 0; p < POINTS; p++) {
        pb_text_add(&t, "{\"schema\":\"" PB_HISTORY_SCHEMA "\",\"revision\":\"r%d\",\"dirty\":false,\"processes\":1,"
                        "\"environment\":{},\"seconds\":{", p);
        for (int s = 0; s < SERIES; s++)
            pb_text_add(&t, "%s\"k%d\":%.6g", s ? "," : "", s,
                        (p < POINTS / 2 ? 1e-3 : 2e-3) * (1 + 0.001 * ((p * 7) % 5)));
        pb_text_add(&t, "}}\n");
    }
    pb_assert_ok(pb_file_write_atomic(path, t.data, t.len));
    expect("trend \"$D/history.jsonl\" --plots \"$D/figures\"", 0,
           "2 more series changed and have no figure: 24 are drawn at most");
    pb_text_free(&t);
    free(path);
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernels_command");
    TCase *t = pb_test_case(s, "kernels");
    tcase_add_checked_fixture(t, open_dir, close_dir);
    tcase_add_test(t, what_cannot_be_compared_is_refused_at_once);
    tcase_add_test(t, a_run_made_now_is_made_as_the_saved_one_was);
    tcase_add_test(t, what_is_wrong_is_not_left_out);
    tcase_add_test(t, figures_that_are_not_drawn_are_counted);
    return pb_run_suite(s);
}
