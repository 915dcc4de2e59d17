/* Comparisons of builds, with programs that are scripts: they write what `kernels run` would have
 * measured, so that every verdict has a cause that is known. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "harness/kernel_compare.h"
#include "tests/support.h"

/* A build folder whose program counts its processes and says what `kernels` holds; in it, $n is the
 * number of the process from 1, $j a last digit that differs between processes. */
static char *build(const char *kernels) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "peftbench");
    pb_text t = {0};
    pb_text_add(&t,
                "#!/bin/sh\n"
                "echo \"$@\" >>'%s/calls'\n"
                "while [ $# -gt 0 ]; do [ \"$1\" = --save ] && save=$2; shift; done\n"
                "n=$(wc -l <'%s/calls') j=$((n %% 7))\n"
                "%s\n"
                "echo \"{\\\"kernels\\\": [$out]}\" >\"$save\"\n",
                dir, dir, kernels);
    pb_assert_ok(pb_file_write_atomic(path, t.data, t.len));
    ck_assert_int_eq(chmod(path, 0700), 0);
    pb_text_free(&t);
    free(path);
    return dir;
}

/* A kernel as JSON within the shell's double quotes. */
#define KERNEL(name, median, sha, wrong)                                              \
    "out=\"$out${out:+,}{\\\"name\\\":\\\"" name "\\\",\\\"median_s\\\":" median ","  \
    "\\\"output_sha256\\\":\\\"" sha "\\\",\\\"wrong\\\":" wrong "}\"\n"

static const char *calls_of(const char *dir, char **text) {
    char *path = pb_path_join(dir, "calls");
    pb_assert_ok(pb_file_read(path, 1 << 20, text, NULL));
    free(path);
    return *text;
}

static int count(const char *text, const char *part) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, part)) != NULL; p++) n++;
    return n;
}

static pb_comparison_of_builds compare(const char *a, const char *b) {
    static const char *const options[] = {"--threads", "1", NULL};
    pb_comparison_of_builds c;
    pb_compare_request q = {.a = a, .b = b, .options = options, .key = 1};
    pb_assert_ok(pb_compare_builds(&q, &c));
    return c;
}

START_TEST(each_verdict_has_its_cause) {
    char *a = build(KERNEL("same <1>", "1.00$j", "s", "false")
                    KERNEL("slower", "1.00$j", "s", "false")
                    KERNEL("faster", "1.00$j", "s", "false")
                    KERNEL("wrong", "1.00$j", "s", "false")
                    KERNEL("changes", "1.00$j", "s", "false")
                    KERNEL("old", "1.00$j", "s", "false"));
    char *b = build(KERNEL("same <1>", "1.00$j", "other bits are fine", "false")
                    KERNEL("slower", "1.05$j", "s", "false")
                    KERNEL("faster", "0.95$j", "s", "false")
                    KERNEL("wrong", "0.50$j", "s", "true")
                    KERNEL("changes", "1.00$j", "s$((n > 3))", "false")
                    KERNEL("new", "1.00$j", "s", "false"));
    static const struct {
        const char *name;
        pb_gate_verdict verdict;
    } want[] = {{"same <1>", PB_GATE_SAME},      {"slower", PB_GATE_REGRESSED},
                {"faster", PB_GATE_FASTER},      {"wrong", PB_GATE_WRONG},
                {"changes", PB_GATE_WRONG},      {"old", PB_GATE_INCOMPARABLE},
                {"new", PB_GATE_INCOMPARABLE}};
    pb_comparison_of_builds c = compare(a, b);
    ck_assert_int_eq(c.n, 7);
    for (size_t i = 0; i < 7; i++)
        for (int k = 0; k < c.n; k++)
            if (strcmp(c.kernels[k].name, want[i].name) == 0)
                ck_assert_msg(c.kernels[k].result.verdict == want[i].verdict, "%s: %s (%s)",
                              want[i].name, pb_gate_name(c.kernels[k].result.verdict),
                              c.kernels[k].result.why);
    /* 10 processes and 10 more for what was flagged, one of them checked. */
    for (int side = 0; side < 2; side++) {
        char *text;
        calls_of(side ? b : a, &text);
        ck_assert_int_eq(count(text, "\n"), 20);
        ck_assert_int_eq(count(text, "--unchecked"), 19);
        ck_assert_int_eq(count(text, "--filter slower --threads 1\n"), 10);
        free(text);
    }
    pb_text xml = {0}, table = {0};
    pb_assert_ok(pb_compared_junit(&c, false, &xml));
    ck_assert(strstr(xml.data, "tests=\"7\" failures=\"5\" skipped=\"0\"") != NULL);
    ck_assert(strstr(xml.data, "name=\"same &lt;1&gt;\"/>") != NULL);
    ck_assert(strstr(xml.data, "name=\"slower\"><failure message=\"REGRESSED: +") != NULL);
    pb_assert_ok(pb_compared_markdown(&c, &table));
    ck_assert(strstr(table.data, "| slower | REGRESSED | 1.050 | ") != NULL);
    pb_text_free(&xml);
    pb_text_free(&table);
    pb_comparison_of_builds_free(&c);
    free(a);
    free(b);
}
END_TEST

START_TEST(unclear_is_skipped_only_when_allowed) {
    char *a = build(KERNEL("noisy", "1.$((n % 3))$j", "s", "false"));
    pb_comparison_of_builds c = compare(a, a);
    ck_assert(c.kernels[0].result.verdict == PB_GATE_UNSTABLE ||
              c.kernels[0].result.verdict == PB_GATE_UNCLEAR);
    for (int allowed = 0; allowed < 2; allowed++) {
        pb_text xml = {0};
        pb_assert_ok(pb_compared_junit(&c, allowed, &xml));
        ck_assert(strstr(xml.data, allowed ? "failures=\"0\" skipped=\"1\""
                                           : "failures=\"1\" skipped=\"0\"") != NULL);
        pb_text_free(&xml);
    }
    pb_comparison_of_builds_free(&c);
    free(a);
}
END_TEST

START_TEST(builds_that_do_not_run_are_named) {
    pb_comparison_of_builds c;
    char *good = build(KERNEL("k", "1", "s", "false")), *empty = pb_test_dir();
    char *fails = build("echo no such option; exit 2"), *odd = build(KERNEL("k", "0", "s", "false"));
    pb_compare_request q = {.a = good, .b = empty};
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_INPUT, "no program peftbench there");
    q.b = fails;
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_ENV, "exit status 2: no such option");
    q.b = odd;
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_INPUT, "without name");
    free(good);
    free(empty);
    free(fails);
    free(odd);
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernel_compare");
    TCase *t = pb_test_case(s, "builds");
    tcase_add_test(t, each_verdict_has_its_cause);
    tcase_add_test(t, unclear_is_skipped_only_when_allowed);
    tcase_add_test(t, builds_that_do_not_run_are_named);
    return pb_run_suite(s);
}
