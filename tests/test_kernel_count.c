/* Instructions of kernels: files, verdicts against a baseline, and real counts under callgrind. */
#include <linux/perf_event.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/kernel_count.h"
#include "kernels/core/about.h"
#include "tests/support.h"

static char *path_in(const char *dir, const char *name) {
    char *path = pb_path_join(dir, name);
    ck_assert_ptr_nonnull(path);
    return path;
}

/* Three kernels as if they had been counted. */
static pb_counts made(void) {
    pb_counts c = {.table = {.model = "shape:minilm", .rows = 64, .f32 = true, .bf16 = true},
                   .setup = {"callgrind-3.19.0", "avx2", "GNU 12.2.0", "Release -O3 -g",
                             "glibc 2.36", "oneDNN 2.6.3", "0x7"},
                   .n = 3};
    static const pb_count items[] = {{"m/norm/f32", "vector", 1e6},
                                     {"m/gather/f32", "plain", 1000},
                                     {"m/gemm/f32", "onednn", 5e6}};
    c.items = malloc(sizeof items);
    memcpy(c.items, items, sizeof items);
    return c;
}

static pb_count_changes compared(const pb_counts *then, const pb_counts *now, int exit_status) {
    pb_count_changes c;
    pb_assert_ok(pb_counts_compare(then, now, NULL, &c));
    ck_assert_int_eq(pb_count_changes_exit(&c), exit_status);
    return c;
}

/* ---- files ---- */

START_TEST(what_is_written_reads_back) {
    char *dir = pb_test_dir(), *path = path_in(dir, "counts.json");
    pb_counts a = made(), b;
    a.table.bf16 = false;
    pb_assert_ok(pb_counts_write(path, &a));
    pb_assert_ok(pb_counts_read(path, &b));
    ck_assert(b.n == 3 && b.table.f32 && !b.table.bf16 && b.table.rows == 64);
    ck_assert_str_eq(b.table.model, a.table.model);
    pb_count_changes c = compared(&a, &b, 0);
    ck_assert_str_eq(c.incomparable, "");
    for (int i = 0; i < 3; i++) {
        ck_assert(c.items[i].result.verdict == PB_GATE_SAME && c.items[i].then == c.items[i].now);
        ck_assert_str_eq(a.items[i].variant, b.items[i].variant);
    }
    pb_count_changes_free(&c);
    pb_counts_free(&a);
    pb_counts_free(&b);
    free(path);
    free(dir);
}
END_TEST

START_TEST(files_that_are_no_baseline_are_named) {
    static const struct {
        const char *from, *to, *message;
    } faults[] = {{"instructions-1", "instructions-9", "expected peftbench-kernel-instructions-1"},
                  {"\"avx2\"", "7", "isa"},
                  {"\"GNU 12.2.0\"", "\"\"", "compiler is "},
                  {"\"both\"", "\"f64\"", "dtype"},
                  {"\"rows\"", "\"lines\"", "rows or dtype is missing"},
                  {"1000000", "0", "m/norm/f32"},
                  {"1000000", "\"many\"", "m/norm/f32"},
                  {"\"instructions\":", "\"counts\":", "no count"}};
    char *dir = pb_test_dir(), *path = path_in(dir, "counts.json"), *text = NULL;
    pb_counts a = made(), b;
    pb_assert_ok(pb_counts_write(path, &a));
    pb_assert_ok(pb_file_read(path, 1 << 16, &text, NULL));
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        pb_text t = {0};
        char *at = strstr(text, faults[i].from);
        ck_assert_msg(at != NULL, "%s is not in the file", faults[i].from);
        pb_text_add_bytes(&t, text, (size_t)(at - text));
        pb_text_add(&t, "%s%s", faults[i].to, at + strlen(faults[i].from));
        pb_assert_ok(pb_file_write_atomic(path, t.data, t.len));
        pb_text_free(&t);
        pb_status status = pb_counts_read(path, &b);
        ck_assert_msg(status == PB_E_INPUT && strstr(pb_error_message(), faults[i].message),
                      "\"%s\", wanted \"%s\"", pb_error_message(), faults[i].message);
        ck_assert(strstr(pb_error_message(), path) != NULL && b.items == NULL);
    }
    pb_assert_fails(pb_counts_read("/nowhere.json", &b), PB_E_INPUT, "/nowhere.json");
    free(text);
    pb_counts_free(&a);
    free(path);
    free(dir);
}
END_TEST

/* ---- verdicts ---- */

START_TEST(one_percent_more_is_more_work) {
    static const struct {
        double ratio;
        pb_gate_verdict verdict;
        int exit_status;
    } rows[] = {{1.02, PB_GATE_MORE_WORK, 2}, {1.011, PB_GATE_MORE_WORK, 2},
                {1.005, PB_GATE_SAME, 0},     {0.995, PB_GATE_SAME, 0},
                {0.98, PB_GATE_LESS_WORK, 0}};
    for (int kernel = 0; kernel < 3; kernel += 2) /* our own and the library's */
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            pb_counts then = made(), now = made();
            now.items[kernel].instructions *= rows[i].ratio;
            pb_count_changes c = compared(&then, &now, rows[i].exit_status);
            ck_assert_int_eq(c.items[kernel].result.verdict, rows[i].verdict);
            ck_assert_int_eq(c.items[1].result.verdict, PB_GATE_SAME);
            pb_count_changes_free(&c);
            pb_counts_free(&then);
            pb_counts_free(&now);
        }
}
END_TEST

/* A few instructions of a call's way into the kernel are no work of the kernel. */
START_TEST(tiny_kernels_have_a_little_room) {
    pb_counts then = made(), now = made();
    now.items[1].instructions += PB_COUNT_SLACK;
    pb_count_changes c = compared(&then, &now, 0);
    ck_assert(c.items[1].result.verdict == PB_GATE_SAME);
    pb_count_changes_free(&c);
    now.items[1].instructions += 1;
    c = compared(&then, &now, 2);
    ck_assert(c.items[1].result.verdict == PB_GATE_MORE_WORK);
    pb_count_changes_free(&c);
    pb_counts_free(&then);
    pb_counts_free(&now);
}
END_TEST

START_TEST(another_setup_is_named_and_not_judged) {
    for (int field = 0; field < 5; field++) {
        static const char *const names[] = {"gauge", "isa", "compiler", "flags", "libc"};
        pb_counts then = made(), now = made();
        char *const values[] = {now.setup.gauge, now.setup.isa, now.setup.compiler,
                                now.setup.flags, now.setup.libc};
        now.items[0].instructions *= 2;
        strcpy(values[field], "other");
        pb_count_changes c = compared(&then, &now, 4);
        ck_assert_msg(strncmp(c.incomparable, names[field], strlen(names[field])) == 0 &&
                          strstr(c.incomparable, " is other, the baseline's ") != NULL,
                      "%s", c.incomparable);
        for (int i = 0; i < c.n; i++)
            ck_assert(c.items[i].result.verdict == PB_GATE_INCOMPARABLE);
        pb_count_changes_free(&c);
        pb_counts_free(&then);
        pb_counts_free(&now);
    }
}
END_TEST

START_TEST(another_library_leaves_own_kernels_judged) {
    for (int field = 0; field < 2; field++)
        for (int worse = 0; worse < 2; worse++) {
            pb_counts then = made(), now = made();
            pb_count_setup *setup = &now.setup;
            strcpy(field ? setup->library_isa : setup->library, "other");
            now.items[2].instructions *= 3; /* the library's: shown only */
            if (worse) now.items[0].instructions *= 1.02;
            pb_count_changes c = compared(&then, &now, worse ? 2 : 0);
            ck_assert(*c.incomparable == 0);
            ck_assert(c.items[0].decides && !c.items[2].decides);
            ck_assert(c.items[2].result.verdict == PB_GATE_INCOMPARABLE);
            ck_assert(c.items[2].now == 3 * c.items[2].then);
            pb_count_changes_free(&c);
            pb_counts_free(&then);
            pb_counts_free(&now);
        }
}
END_TEST

START_TEST(a_baseline_of_other_cases_does_not_pass) {
    pb_counts then = made(), now = made();
    pb_count_changes c;
    then.n = 2; /* one is new */
    c = compared(&then, &now, 1);
    ck_assert(c.added == 1 && c.missing == 0 && c.n == 3);
    pb_count_changes_free(&c);
    then.n = 3;
    now.n = 2; /* one is gone */
    c = compared(&then, &now, 1);
    ck_assert(c.added == 0 && c.missing == 1 && c.n == 3);
    pb_count_changes_free(&c);
    now.items[0].instructions *= 2; /* the worse news */
    c = compared(&then, &now, 2);
    pb_count_changes_free(&c);
    pb_assert_ok(pb_counts_compare(&then, &now, "gather|other", &c)); /* neither is asked for */
    ck_assert(c.n == 1 && pb_count_changes_exit(&c) == 0);
    pb_count_changes_free(&c);
    pb_assert_ok(pb_counts_compare(&then, &now, "nothing", &c));
    ck_assert(c.n == 0 && pb_count_changes_exit(&c) == 1); /* nothing compared is no pass */
    pb_count_changes_free(&c);
    pb_counts_free(&then);
    pb_counts_free(&now);
}
END_TEST

/* The committed file, doctored: 2 % fewer instructions then are more work now, 0.5 % are not. */
START_TEST(the_committed_baseline_decides) {
    char *path = path_in(pb_test_root(), "results/reference/kernel-instructions.json");
    pb_counts then, now;
    pb_assert_ok(pb_counts_read(path, &then));
    pb_assert_ok(pb_counts_read(path, &now));
    const double ratios[] = {1, 0.995, 0.98};
    const pb_gate_verdict verdicts[] = {PB_GATE_SAME, PB_GATE_SAME, PB_GATE_MORE_WORK};
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < then.n; i++)
            then.items[i].instructions = ratios[k] * now.items[i].instructions;
        pb_count_changes c = compared(&then, &now, k == 2 ? 2 : 0);
        ck_assert_int_eq(c.n, now.n);
        for (int i = 0; i < c.n; i++)
            if (now.items[i].instructions > 100 * PB_COUNT_SLACK)
                ck_assert_int_eq(c.items[i].result.verdict, verdicts[k]);
        pb_count_changes_free(&c);
    }
    pb_counts_free(&then);
    pb_counts_free(&now);
    free(path);
}
END_TEST

/* ---- counters ---- */

static volatile double sink;
static void spin(int n) {
    for (int i = 0; i < n; i++) sink += i;
}

/* Machines without hardware counters have a clock that is read in the same way. */
START_TEST(perf_events_count_from_start_to_stop) {
    pb_counter *c = NULL;
    double few = 0, many = 0;
    pb_assert_ok(pb_counter_open_event(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, &c));
    ck_assert_str_eq(pb_counter_name(c), "perf_event");
    pb_assert_ok(pb_counter_start(c));
    spin(10000);
    pb_assert_ok(pb_counter_stop(c, &few));
    spin(20000000); /* not counted */
    pb_assert_ok(pb_counter_start(c));
    spin(2000000);
    pb_assert_ok(pb_counter_stop(c, &many));
    ck_assert_msg(few > 0 && many > 20 * few && many < 400 * few, "%g ns, %g ns", few, many);
    pb_counter_close(c);
    pb_assert_fails(pb_counter_open_event(999, 0, &c), PB_E_ENV, "perf_event: ");
    ck_assert_ptr_null(c);
}
END_TEST

static void *(*volatile copy)(void *, const void *, size_t) = memcpy; /* a call, not instructions in place */

/* Instructions of `turns` turns, or of a copy by the C library. */
static double stepped(pb_counter *c, int turns, void *to, const void *from, size_t bytes) {
    double n = 0;
    pb_status begun = pb_counter_start(c);
    spin(turns);
    if (bytes > 0) copy(to, from, bytes);
    pb_status ended = pb_counter_stop(c, &n);
    pb_assert_ok(begun);
    pb_assert_ok(ended);
    return n;
}

/* What this program executes, instruction by instruction; what a shared library does for it is not. */
START_TEST(traps_count_the_programs_own_code) {
    enum { BYTES = 8192 };
    static unsigned char from[BYTES], to[BYTES];
    pb_counter *c = NULL;
    double n[4], before = 0;
    pb_assert_ok(pb_counter_open(PB_GAUGE_STEP, &c));
    ck_assert_str_eq(pb_counter_name(c), "step");
    (void)stepped(c, 1, to, from, BYTES); /* functions are found in libraries when they are first called */
    for (int i = 0; i < 4; i++) n[i] = stepped(c, 1000 * (i < 3 ? i : 2), NULL, NULL, 0);
    double turn = (n[2] - n[1]) / 1000;
    ck_assert_msg(turn >= 3 && fmod(n[2] - n[1], 1000) < 0.5 && n[2] <= n[3] && n[3] <= n[2],
                  "%g, %g, %g, then %g instructions", n[0], n[1], n[2], n[3]);
    ck_assert_msg(n[0] < 300, "%g instructions around nothing", n[0]); /* sanitized; else some 40 */
    double copied = stepped(c, 0, to, from, BYTES);
#ifndef __SANITIZE_ADDRESS__ /* whose own copy is the program's */
    ck_assert_msg(copied < n[0] + 100, "%g instructions for a copy by the C library", copied);
#endif
    ck_assert_double_gt(copied, 0);
    pb_assert_ok(pb_counter_start(c));
    pb_status again = pb_counter_start(c);
    pb_assert_ok(pb_counter_stop(c, &before));
    ck_assert_int_eq(again, PB_E_BUG);
    pb_error_clear();
    pb_counter_close(c);
}
END_TEST

/* In the instruction set that kernels run in here, whatever callgrind's CPU has; the same each time. */
#ifndef __SANITIZE_ADDRESS__
START_TEST(traps_count_what_runs_here) {
    pb_count_table table = {.model = "shape:minilm", .rows = 64, .f32 = true};
    pb_counts one, two;
    pb_assert_ok(pb_counts_take(&table, "/axpby/|/gemm/|/lowrank/|/gather_rows/", PB_GAUGE_STEP, &one));
    pb_assert_ok(pb_counts_take(&table, "/axpby/|/gather_rows/", PB_GAUGE_STEP, &two));
    ck_assert_int_eq(one.n, 2); /* products are the library's, or may be */
    ck_assert_str_eq(one.setup.isa, pb_kernels_isa());
    ck_assert(strstr(one.items[0].name, "axpby") && one.items[0].instructions > 64 * 384 / 16);
    pb_count_changes c = compared(&one, &two, 0);
    for (int i = 0; i < c.n; i++)
        ck_assert_msg(c.items[i].then == c.items[i].now, "%s: %g, then %g", c.items[i].name,
                      c.items[i].then, c.items[i].now);
    pb_count_changes_free(&c);
    pb_counts_free(&one);
    pb_counts_free(&two);
    pb_assert_fails(pb_counts_take(&table, "/gemm/", PB_GAUGE_STEP, &one), PB_E_INPUT,
                    "--gauge step leaves");
}
END_TEST
#endif

START_TEST(a_gauge_that_is_not_there_is_named) {
    char why[160];
    pb_counter *c = NULL;
    pb_counts counts;
    pb_count_table table = {.model = "shape:minilm", .rows = 64, .f32 = true};
    ck_assert(!pb_counter_in_callgrind());
    pb_assert_fails(pb_counter_open(PB_GAUGE_CALLGRIND, &c), PB_E_BUG, "callgrind");
    if (pb_counter_has_perf(why)) {
        pb_assert_ok(pb_counts_take(&table, "/axpby/", PB_GAUGE_PERF, &counts));
        ck_assert(counts.n == 1 && counts.items[0].instructions > 64 * 384 / 16);
        pb_counts_free(&counts);
    } else {
        pb_assert_fails(pb_counts_take(&table, "/axpby/", PB_GAUGE_PERF, &counts), PB_E_ENV, why);
    }
    pb_assert_fails(pb_counts_take(&table, "axbpy", PB_GAUGE_PERF, &counts), PB_E_INPUT,
                    "no case has this");
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernel_count");
    TCase *t = pb_test_case(s, "count");
    tcase_add_test(t, what_is_written_reads_back);
    tcase_add_test(t, files_that_are_no_baseline_are_named);
    tcase_add_test(t, one_percent_more_is_more_work);
    tcase_add_test(t, tiny_kernels_have_a_little_room);
    tcase_add_test(t, another_setup_is_named_and_not_judged);
    tcase_add_test(t, another_library_leaves_own_kernels_judged);
    tcase_add_test(t, a_baseline_of_other_cases_does_not_pass);
    tcase_add_test(t, the_committed_baseline_decides);
    pb_counter *c = NULL;
    if (pb_counter_open_event(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, &c) == PB_OK)
        tcase_add_test(t, perf_events_count_from_start_to_stop);
    else
        fprintf(stderr, "perf_events_count_from_start_to_stop: not run: %s\n", pb_error_message());
    pb_counter_close(c);
#if defined(__x86_64__)
    tcase_add_test(t, traps_count_the_programs_own_code);
#ifndef __SANITIZE_ADDRESS__ /* what sanitizers add does not repeat */
    tcase_add_test(t, traps_count_what_runs_here);
#endif
#endif
    tcase_add_test(t, a_gauge_that_is_not_there_is_named);
    return pb_run_suite(s);
}
