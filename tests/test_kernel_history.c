/* Histories: lines are appended and read back, other machines are left out, a revision that comes again
 * replaces its point, a step is found where it is; and the figures of kernels, drawn by gnuplot. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "harness/kernel_history.h"
#include "plots/kernels.h"
#include "tests/support.h"

/* Appends a run of one kernel at a revision, made by a compiler in a number of processes; `more` members of
 * its machine and of its environment, each after a comma. */
static void append_with(const char *path, const char *revision, bool dirty, const char *cpu, double time,
                        const char *compiler, int processes, const char *machine, const char *more) {
    char text[512];
    pb_json *environment = NULL;
    snprintf(text, sizeof text,
             "{\"build\":{\"revision\":\"%s\",\"dirty\":%s,\"compiler\":\"%s\"},"
             "\"machine\":{\"cpu\":\"%s\",\"cores_online\":2%s},\"threads\":2%s}",
             revision, dirty ? "true" : "false", compiler, cpu, machine, more);
    pb_assert_ok(pb_json_parse("made", text, strlen(text), &environment));
    pb_saved_kernel k = {.name = "m/op/s", .time = {.n = 1, .median = time, .medians = {time}}};
    pb_saved_run run = {.kernels = &k,
                        .n = 1,
                        .processes = processes,
                        .binary = "b",
                        .time_utc = "t",
                        .environment = environment};
    run.anchors[0] = (pb_saved_times){.n = 1, .median = 0.05, .medians = {0.05}};
    pb_assert_ok(pb_history_append(path, &run));
    pb_json_free(environment);
}

static void append_of(const char *path, const char *revision, bool dirty, const char *cpu, double time,
                      const char *compiler, int processes) {
    append_with(path, revision, dirty, cpu, time, compiler, processes, "", "");
}

static void append(const char *path, const char *revision, bool dirty, const char *cpu,
                   double time) {
    append_of(path, revision, dirty, cpu, time, "one", 1);
}

static const pb_history_series *series(const pb_history *h, const char *name) {
    for (int i = 0; i < h->n; i++)
        if (strcmp(h->series[i].name, name) == 0) return &h->series[i];
    ck_abort_msg("no series %s", name);
}

START_TEST(a_step_is_found_at_its_revision) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "history.jsonl"), revision[16];
    pb_history h;
    append(path, "elsewhere", false, "other", 9);
    for (int i = 0; i < 30; i++) {
        double time = (i < 18 ? 1e-3 : 1.05e-3) * (1 + 0.001 * ((i * 7) % 5));
        snprintf(revision, sizeof revision, "r%d", i);
        if (i == 10) append(path, revision, false, "one", 5); /* measured again below */
        append(path, revision, false, "one", time);
    }
    append(path, "r29", true, "one", 1.05e-3); /* not committed: a point of its own */
    pb_assert_ok(pb_history_read(path, &h));
    ck_assert_int_eq(h.n_points, 31);
    ck_assert_int_eq(h.others, 1);
    const pb_history_series *s = series(&h, "m/op/s");
    ck_assert_int_eq(s->n, 31);
    ck_assert_int_eq(s->n_changes, 1);
    ck_assert_str_eq(h.revisions[s->point[s->changes[0].at]], "r18");
    ck_assert_str_eq(h.revisions[30], "r29+");
    double ratio = s->changes[0].after / s->changes[0].before, want = 1.05;
    pb_assert_close(&ratio, &want, 1, 0, 0.002, "ratio of the levels");
    ck_assert_int_eq(series(&h, "anchor/copy")->n_changes, 0);
    pb_history_free(&h);
    free(path);
    free(dir);
}
END_TEST

START_TEST(an_old_revision_keeps_its_place) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "history.jsonl"), revision[16];
    pb_history h;
    pb_text lines = {0};
    for (int i = 0; i < 20; i++) {
        double time = (i < 10 ? 1e-3 : 1.1e-3) * (1 + 0.001 * ((i * 7) % 5));
        snprintf(revision, sizeof revision, "r%d", i);
        append_of(path, revision, false, "one", time, i < 10 ? "old" : "new", 10);
    }
    append_of(path, "r3", false, "one", 1.001e-3, "old", 10);  /* again: still the fourth */
    append_of(path, "r4", false, "one", 5, "old", 1); /* one process: another kind of number */
    append_of(path, "r19", false, "one", 1.1e-3, "newer", 10); /* another compiler: its own point */
    pb_assert_ok(pb_history_read(path, &h));
    ck_assert_int_eq(h.n_points, 21);
    ck_assert_int_eq(h.others, 1);
    ck_assert_str_eq(h.revisions[3], "r3");
    const pb_history_series *s = series(&h, "m/op/s");
    double want = 1.001e-3;
    pb_assert_close(&s->seconds[3], &want, 1, 0, 1e-12, "the newer time in the old place");
    ck_assert_int_eq(s->n_changes, 1);
    ck_assert_str_eq(h.revisions[s->point[s->changes[0].at]], "r10");
    pb_assert_ok(pb_history_differences(&h, s, 0, &lines));
    ck_assert_str_eq(lines.data, "build/compiler: old, then new\n");
    pb_text_free(&lines);
    pb_history_free(&h);
    free(path);
    free(dir);
}
END_TEST

/* Cold and hot caches are no two points of a series, nor of a revision; two GPUs are neither. */
START_TEST(caches_and_gpus_are_series_of_their_own) {
    static const struct {
        const char *machine, *more;
    } kinds[] = {{"", ",\"cache\":\"cold\""},
                 {"", ",\"cache\":\"hot\""},
                 {",\"gpu\":{\"name\":\"H100\"}", ",\"device\":\"cuda\",\"cache\":\"cold\""},
                 {",\"gpu\":{\"name\":\"H200\"}", ",\"device\":\"cuda\",\"cache\":\"cold\""}};
    for (int last = 0; last < 4; last++) {
        char *dir = pb_test_dir(), *path = pb_path_join(dir, "history.jsonl");
        pb_history h;
        append(path, "before", false, "one", 1e-3); /* does not say: cold */
        for (int k = 0; k <= 4; k++) {
            int i = k < 4 ? k : last;
            append_with(path, k < 4 ? "r" : "next", false, "one", (1 + i) * 1e-3, "one", 1, kinds[i].machine,
                        kinds[i].more);
        }
        pb_assert_ok(pb_history_read(path, &h));
        ck_assert_int_eq(h.n_points, last == 0 ? 3 : 2);
        ck_assert_int_eq(h.others, last == 0 ? 3 : 4);
        double want = (1 + last) * 1e-3;
        const pb_history_series *s = series(&h, "m/op/s");
        for (int i = 0; i < s->n; i++) pb_assert_close(&s->seconds[i], &want, 1, 0, 1e-12, "its own times");
        pb_history_free(&h);
        free(path);
        free(dir);
    }
}
END_TEST

START_TEST(what_is_no_history_is_named) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "history.jsonl");
    pb_history h;
    append(path, "r", false, "one", 1);
    pb_assert_ok(pb_history_read(path, &h));
    ck_assert_int_eq(h.n_points, 1);
    pb_history_free(&h);
    const char *text = "{\"schema\":\"" PB_HISTORY_SCHEMA "\"}\n{\"schema\":\"x\"}\n";
    pb_assert_ok(pb_file_write_atomic(path, text, strlen(text)));
    pb_assert_fails(pb_history_read(path, &h), PB_E_INPUT, "history.jsonl:2: schema x");
    pb_assert_ok(pb_file_write_atomic(path, "", 0));
    pb_assert_fails(pb_history_read(path, &h), PB_E_INPUT, "no lines");
    pb_saved_run run = {.n = 0};
    pb_assert_fails(pb_history_append("/nowhere/x", &run), PB_E_IO, "/nowhere/x");
    free(path);
    free(dir);
}
END_TEST

static void assert_image(const char *dir, const char *name) {
    char *path = pb_path_join(dir, name);
    ck_assert_msg(*name && pb_file_exists(path), "%s", path);
    free(path);
}

START_TEST(figures_of_kernels_are_drawn) {
    char *dir = pb_test_dir();
    const pb_kernel_point points[] = {
        {"one/gemm/64 x 64 x 64/f32", 5e5, 5e4, 1e-5, 0.5, PB_BOUND_PRODUCT, false},
        {"one/axpby/64 x 64/f32", 1e4, 5e4, 2e-5, 0.25, PB_BOUND_COPY, false},
        {"one/dropout/64 x 64/bf16", 1e5, 2e4, 2e-5, 0.25, PB_BOUND_VECTOR, true},
        {"one/gather/it's/f32", 0, 5e4, 2e-5, 0.25, PB_BOUND_COPY, false}, /* no work: bars only */
        {"two/axpby/64 x 64/f32", 1e4, 5e4, 2e-5, 0.25, PB_BOUND_COPY, false},
        {"three/axpby/64 x 64/f32", 1e4, 5e4, 2e-5, NAN, PB_BOUND_COPY, false}};
    const pb_kernel_roofs roofs = {1e10, {1e11, 3e11}, 5e10, false};
    pb_figure figures[2 * PB_KERNEL_CHARTS];
    int n = 0;
    pb_assert_ok(pb_plots_draw_kernels(points, 6, &roofs, dir, figures, &n));
    ck_assert_int_eq(n, 4); /* two of each; nothing is known of the third */
    ck_assert_str_eq(figures[0].name, "roofline_one");
    ck_assert_str_eq(figures[1].name, "roof_share_one");
    ck_assert_str_eq(figures[3].name, "roof_share_two");
    for (int i = 0; i < n; i++) {
        assert_image(dir, figures[i].svg);
        assert_image(dir, figures[i].png);
    }
    for (int i = 0; i < 2; i++) ck_assert_ptr_nonnull(strstr(figures[i].caption, "from cold caches"));
    const pb_kernel_roofs copy = {.bytes_per_s = 1e10, .hot = true}; /* no roof of arithmetic */
    pb_assert_ok(pb_plots_draw_kernels(points, 2, &copy, dir, figures, &n));
    ck_assert_int_eq(n, 2);
    for (int i = 0; i < 2; i++) ck_assert_ptr_nonnull(strstr(figures[i].caption, "from hot caches"));
    const double us[] = {10, 10.1, 12, 12.2};
    const char *const labels[] = {"a", "b", "c", "d"};
    const pb_trend_level levels[] = {{0, 2, 10.05}, {2, 4, 12.1}};
    pb_trend_line line = {"one/gemm", us, labels, 4, 2, levels};
    for (line.n_levels = 1; line.n_levels <= 2; line.n_levels++) {
        pb_assert_ok(pb_plots_draw_trend(&line, line.n_levels, dir, &figures[0]));
        assert_image(dir, figures[0].png);
    }
    ck_assert_str_eq(figures[0].name, "trend_2");
    free(dir);
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernel_history");
    TCase *t = pb_test_case(s, "history");
    tcase_add_test(t, a_step_is_found_at_its_revision);
    tcase_add_test(t, an_old_revision_keeps_its_place);
    tcase_add_test(t, caches_and_gpus_are_series_of_their_own);
    tcase_add_test(t, what_is_no_history_is_named);
    tcase_add_test(t, figures_of_kernels_are_drawn);
    return pb_run_suite(s);
}
