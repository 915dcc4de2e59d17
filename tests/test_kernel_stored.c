/* Saved runs: what is read from them, several processes in one, and what two of them say about each
 * other: suspicions, never accusations. */
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "harness/cpu_roofs.h"
#include "harness/kernel_process.h"
#include "harness/kernel_stored.h"
#include "tests/support.h"

/* A run of `processes` with one kernel "k": its medians are `time` and a spread that differs from
 * process to process, the anchors' are `anchor`. */
typedef struct made {
    double time, copy, gemm;
    int processes, threads;
    const char *cpu, *kernel, *wrong;
    bool unchecked;
    int samples;        /* of a process: one of 0.9, one of 1.5 times the median, the others are it */
    const char *asked;  /* what the run says that it was asked for; NULL: nothing */
    const char *dtype, *product; /* of the kernel; of the anchor beside the copy, NULL = there is none */
} made;

static const made usual = {1e-3, 0.05, 0.01, 10,   2,     "one",     "k",
                           NULL, false, 60,  NULL, "f32", "gemm f32"};

static void add_times(pb_text *t, const made *m, double time) {
    pb_text_add(t, "\"samples_s\":[");
    for (int i = 0; i < m->processes; i++) {
        double x = time * (1 + 0.001 * ((i * 7) % 10));
        pb_text_add(t, "%s[%.9g,%.9g", i ? "," : "", x * 0.9, x * 1.5);
        for (int k = 2; k < m->samples; k++) pb_text_add(t, ",%.9g", x);
        pb_text_add(t, "]");
    }
    pb_text_add(t, "]");
}

static pb_json *tree(const made *m) {
    pb_text t = {0};
    pb_json *out = NULL;
    pb_text_add(&t,
                "{\"schema\":\"peftbench-kernels-2\",\"binary_sha256\":\"b\",\"processes\":%d,"
                "\"environment\":{\"machine\":{\"cpu\":\"%s\",\"cores_online\":2},\"threads\":%d,"
                "\"libraries\":{\"products\":\"lib %g\"}},\"anchors\":{\"copy\":{",
                m->processes, m->cpu, m->threads, m->time);
    add_times(&t, m, m->copy);
    if (m->product) {
        pb_text_add(&t, "},\"%s\":{", m->product);
        add_times(&t, m, m->gemm);
    }
    pb_text_add(&t, "}},");
    if (m->asked) pb_text_add(&t, "\"asked\":%s,", m->asked);
    pb_text_add(&t,
                "\"roofs\":{\"bytes_per_s\":1e10,\"flops_per_s\":{\"f32\":1e11}},"
                "\"kernels\":[{\"name\":\"%s\",\"op\":\"gemm\",\"shape\":\"s\",\"dtype\":\"%s\","
                "\"variant\":\"v\",\"output_sha256\":\"h\",\"wrong\":%s,\"flops\":5e7,"
                "\"flops_else\":0,\"bytes\":1e6,\"checked\":%s,",
                m->kernel, m->dtype, m->wrong ? "true" : "false", m->unchecked ? "false" : "true");
    if (m->wrong) pb_text_add(&t, "\"why\":\"%s\",", m->wrong);
    add_times(&t, m, m->time);
    pb_text_add(&t, "}]}");
    pb_assert_ok(pb_json_parse("made", t.data, t.len, &out));
    pb_text_free(&t);
    return out;
}

/* Adds cycles at so many MHz to the run's kernel, of as many processes. */
static void add_cycles(pb_json *root, double mhz, int processes, const char *by) {
    pb_json *k = ((pb_json *)(uintptr_t)pb_json_get(root, "kernels"))->child;
    const pb_json *list = pb_json_get(k, "samples_s")->child;
    pb_json *lists = pb_json_add_array(k, "cycles");
    for (int i = 0; i < processes; i++, list = list->next) {
        pb_json *mine = pb_json_add_array(lists, NULL);
        const pb_json *x = NULL;
        cJSON_ArrayForEach(x, list) ck_assert(pb_json_add_f64(mine, NULL, x->valuedouble * mhz * 1e6));
    }
    ck_assert(pb_json_add_str(root, "cycles_by", by));
}

START_TEST(a_run_is_read_and_placed_under_its_roof) {
    pb_json *root = tree(&usual);
    pb_saved_run run;
    pb_assert_ok(pb_saved_run_read(root, "made", &run));
    ck_assert_int_eq(run.n, 1);
    ck_assert_int_eq(run.processes, 10);
    const pb_saved_kernel *k = &run.kernels[0];
    ck_assert_int_eq(k->time.n, 10);
    double median = 1e-3 * (1 + 0.0045); /* of 0..9 thousandths */
    pb_assert_close(&k->time.median, &median, 1, 0, 1e-9, "median of the medians");
    /* products 5e7 / 1e11 = 0.5 ms, traffic 1e6 / 1e10 = 0.1 ms */
    double least = 5e-4, share = 5e-4 / median;
    pb_assert_close(&k->least, &least, 1, 0, 1e-12, "least time");
    pb_assert_close(&k->share, &share, 1, 0, 1e-9, "share");
    ck_assert(k->roof == PB_ROOF_PRODUCT && k->p10 < k->time.median && k->p90 > k->time.median);
    pb_saved_run_free(&run);
    pb_json_free(root);
}
END_TEST

START_TEST(processes_join_and_must_agree) {
    made one = usual;
    one.processes = 1;
    pb_json *root = tree(&one), *more = tree(&one), *other;
    pb_saved_run run;
    pb_assert_ok(pb_saved_run_join(root, more, "second"));
    pb_assert_ok(pb_saved_run_read(root, "made", &run));
    ck_assert_int_eq(run.kernels[0].time.n, 2);
    ck_assert_int_eq(run.anchors[0].n, 2);
    ck_assert_int_eq(run.anchors[2].n, 0);
    ck_assert(!run.kernels[0].wrong);
    pb_saved_run_free(&run);
    one.kernel = "another";
    other = tree(&one);
    pb_assert_fails(pb_saved_run_join(root, other, "third"), PB_E_INPUT, "it measured another");
    pb_json *k = ((pb_json *)(uintptr_t)pb_json_get(more, "kernels"))->child;
    cJSON_SetValuestring((pb_json *)(uintptr_t)pb_json_get(k, "output_sha256"), "x");
    pb_assert_ok(pb_saved_run_join(root, more, "fourth"));
    pb_assert_ok(pb_saved_run_read(root, "made", &run));
    ck_assert(run.kernels[0].wrong && strstr(run.kernels[0].why, "not the same output"));
    pb_saved_run_free(&run);
    pb_json_free(root);
    pb_json_free(more);
    pb_json_free(other);
}
END_TEST

/* Samples of two programs, or cycles read in two ways, are not one run's. */
START_TEST(processes_are_of_one_program_and_one_clock) {
    made one = usual;
    one.processes = 1;
    pb_json *root = tree(&one), *more = tree(&one), *other = tree(&one);
    pb_saved_run run;
    add_cycles(root, 3000, 1, "perf_event");
    add_cycles(more, 2800, 1, "chain");
    pb_assert_ok(pb_saved_run_join(root, more, "second"));
    pb_assert_ok(pb_saved_run_read(root, "made", &run));
    ck_assert_str_eq(run.cycles_by, PB_CYCLES_MIXED);
    ck_assert(isnan(run.mhz_least));
    pb_saved_run_free(&run);
    cJSON_SetValuestring((pb_json *)(uintptr_t)pb_json_get(other, "binary_sha256"), "x");
    pb_assert_fails(pb_saved_run_join(root, other, "third"), PB_E_ENV,
                    "third: binary_sha256 is not that of the first process");
    ck_assert(pb_json_add_str(more, "backend_sha256", "x"));
    pb_assert_fails(pb_saved_run_join(root, more, "fourth"), PB_E_ENV, "fourth: backend_sha256");
    pb_json_free(root);
    pb_json_free(more);
    pb_json_free(other);
}
END_TEST

static pb_gate_verdict verdict(const made *a, const made *b, const char *note) {
    pb_json *trees[] = {tree(a), tree(b)};
    pb_saved_run runs[2];
    pb_comparison_of_builds c;
    pb_stored_notes notes;
    for (int i = 0; i < 2; i++) pb_assert_ok(pb_saved_run_read(trees[i], "made", &runs[i]));
    pb_assert_ok(pb_compare_stored(&runs[0], &runs[1], &c, &notes));
    pb_gate_verdict v = c.kernels[0].result.verdict;
    if (note)
        ck_assert_msg(strstr(c.differences.data ? c.differences.data : "", note) != NULL ||
                          strstr(c.kernels[0].result.why, note) != NULL,
                      "%s, %s: no '%s'", c.differences.data, c.kernels[0].result.why, note);
    for (int i = 0; i < 2; i++) {
        pb_saved_run_free(&runs[i]);
        pb_json_free(trees[i]);
    }
    pb_comparison_of_builds_free(&c);
    return v;
}

START_TEST(stored_runs_raise_suspicions_only) {
    made b = usual;
    ck_assert_int_eq(verdict(&usual, &b, NULL), PB_GATE_SAME);
    b.time = 1.1e-3;
    ck_assert_int_eq(verdict(&usual, &b, "libraries/products: lib 0.001, then lib 0.0011"),
                     PB_GATE_SUSPECT);
    b.time = 0.9e-3;
    ck_assert_int_eq(verdict(&usual, &b, NULL), PB_GATE_UNCLEAR); /* no praise either */
    b.time = 5e-3;
    b.processes = 1;
    ck_assert_int_eq(verdict(&usual, &b, NULL), PB_GATE_UNCLEAR);
    made alone = usual;
    alone.processes = 1;
    ck_assert_int_eq(verdict(&alone, &b, "one process says nothing"), PB_GATE_UNCLEAR);
}
END_TEST

/* As in a comparison of builds; and where a run does not say what limited it, the worst is assumed. */
START_TEST(few_stored_samples_are_unclear_at_best) {
    static const struct {
        int samples;
        const char *asked, *why;
        pb_gate_verdict want;
    } rows[] = {{60, NULL, "inside 3 %", PB_GATE_SAME},
                {59, NULL, "59 samples a process, 60 are wanted", PB_GATE_UNCLEAR},
                {3, "{\"budget_s\":4.9}", "3 samples a process", PB_GATE_UNCLEAR},
                {3, "{\"budget_s\":5}", "inside 3 %", PB_GATE_SAME}, /* the kernel is slow */
                {3, "{\"budget_s\":null}", "inside 3 %", PB_GATE_SAME}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        made b = usual;
        b.samples = rows[i].samples;
        b.asked = rows[i].asked;
        ck_assert_int_eq(verdict(&b, &b, rows[i].why), rows[i].want);
    }
    made b = usual;
    b.samples = 59;
    ck_assert_int_eq(verdict(&usual, &b, "59 samples"), PB_GATE_UNCLEAR);
    b.time = 1.1e-3; /* bad news need no more */
    ck_assert_int_eq(verdict(&usual, &b, NULL), PB_GATE_SUSPECT);
}
END_TEST

/* A machine reader learns how many they were, and how long they took. */
START_TEST(samples_of_stored_runs_are_told) {
    made b = usual;
    b.samples = 80;
    pb_json *trees[] = {tree(&usual), tree(&b)};
    pb_saved_run runs[2];
    pb_comparison_of_builds c;
    pb_stored_notes notes;
    pb_text xml = {0};
    for (int i = 0; i < 2; i++) pb_assert_ok(pb_saved_run_read(trees[i], "made", &runs[i]));
    pb_assert_ok(pb_compare_stored(&runs[0], &runs[1], &c, &notes));
    ck_assert_int_eq(c.kernels[0].samples, 60);
    /* 10 processes of 60 and of 80 medians of 1.0045 ms in the mean, two of them 0.9 and 1.5 of it. */
    double want = 1e-3 * 1.0045 * 10 * (60 + 80 + 2 * 0.4);
    pb_assert_close(&c.kernels[0].seconds, &want, 1, 0, 1e-9, "seconds");
    pb_assert_ok(pb_compared_junit(&c, false, &xml));
    ck_assert_msg(strstr(xml.data, "name=\"k\" time=\"1.414\"") != NULL, "%s", xml.data);
    pb_text_free(&xml);
    pb_comparison_of_builds_free(&c);
    for (int i = 0; i < 2; i++) {
        pb_saved_run_free(&runs[i]);
        pb_json_free(trees[i]);
    }
}
END_TEST

START_TEST(too_few_stored_processes_are_called_so) {
    made b = usual;
    b.processes = 3;
    ck_assert_int_eq(verdict(&b, &b, "too few processes: no slowdown is found by 3 and 3 of them"),
                     PB_GATE_UNCLEAR);
    b.time = 1.5e-3;
    ck_assert_int_eq(verdict(&usual, &b, NULL), PB_GATE_SUSPECT); /* 10 and 3 can tell */
}
END_TEST

/* Where the library has no such product, no run can have it: nothing moved. */
START_TEST(an_anchor_that_neither_run_has_did_not_move) {
    made a = usual;
    a.dtype = "bf16"; /* and its second anchor is the product in f32 */
    ck_assert_int_eq(verdict(&a, &a, NULL), PB_GATE_SAME);
    made b = a;
    b.gemm *= 1.03;
    ck_assert_int_eq(verdict(&a, &b, "an anchor kernel moved"), PB_GATE_INCOMPARABLE);
    b = a;
    b.product = "gemm bf16";
    ck_assert_int_eq(verdict(&a, &b, "measured in one of the runs only"), PB_GATE_INCOMPARABLE);
    a.product = NULL;
    ck_assert_int_eq(verdict(&a, &a, "two anchor kernels"), PB_GATE_INCOMPARABLE);
}
END_TEST

START_TEST(what_moved_with_the_machine_is_incomparable) {
    made b = usual;
    b.copy = usual.copy * 1.021;
    ck_assert_int_eq(verdict(&usual, &b, "anchor"), PB_GATE_INCOMPARABLE);
    b.copy = usual.copy * 1.019;
    ck_assert_int_eq(verdict(&usual, &b, NULL), PB_GATE_SAME);
    b.gemm = usual.gemm / 1.03;
    ck_assert_int_eq(verdict(&usual, &b, "anchor"), PB_GATE_INCOMPARABLE);
    b = usual;
    b.threads = 1;
    ck_assert_int_eq(verdict(&usual, &b, "threads: 2, then 1"), PB_GATE_INCOMPARABLE);
    b = usual;
    b.cpu = "two";
    ck_assert_int_eq(verdict(&usual, &b, "machine/cpu: one, then two"), PB_GATE_INCOMPARABLE);
    b.wrong = "element 3";
    ck_assert_int_eq(verdict(&usual, &b, "B: element 3"), PB_GATE_WRONG);
}
END_TEST

/* A fast kernel that nobody held against the reference is no news. */
START_TEST(what_was_not_checked_is_incomparable) {
    made a = usual, b = usual;
    b.unchecked = true;
    ck_assert_int_eq(verdict(&a, &b, "B was not checked"), PB_GATE_INCOMPARABLE);
    ck_assert_int_eq(verdict(&b, &a, "A was not checked"), PB_GATE_INCOMPARABLE);
}
END_TEST

START_TEST(what_is_no_saved_run_is_named) {
    pb_saved_run run;
    pb_json *root = NULL;
    const char *text = "{\"schema\":\"other\"}";
    pb_assert_ok(pb_json_parse("made", text, strlen(text), &root));
    pb_assert_fails(pb_saved_run_read(root, "old.json", &run), PB_E_INPUT, "old.json: schema other");
    pb_json_free(root);
    made b = usual;
    b.kernel = "another";
    pb_json *trees[] = {tree(&usual), tree(&b)};
    pb_saved_run runs[2];
    pb_comparison_of_builds c;
    pb_stored_notes notes;
    for (int i = 0; i < 2; i++) pb_assert_ok(pb_saved_run_read(trees[i], "made", &runs[i]));
    pb_assert_fails(pb_compare_stored(&runs[0], &runs[1], &c, &notes), PB_E_INPUT, "no kernel");
    for (int i = 0; i < 2; i++) {
        pb_saved_run_free(&runs[i]);
        pb_json_free(trees[i]);
    }
}
END_TEST

START_TEST(roofs_are_measured_beyond_the_caches) {
    pb_cpu_roofs r;
    int64_t caches = pb_last_cache_bytes(NULL);
    pb_assert_ok(pb_cpu_roofs_measure(2, &r));
    ck_assert(r.copy_bytes >= INT64_C(64) << 20 && r.copy_bytes <= INT64_C(1024) << 20);
    ck_assert(r.copy_bytes > caches - 4096 || r.copy_bytes == INT64_C(1024) << 20);
    ck_assert(r.bytes_per_s > 1e8 && r.flops_per_s[0] > 1e8 && r.ops_per_s > 1e8);
    /* Where the library has no bf16 there is no roof rather than somebody else's. */
    ck_assert(r.measured[0] && r.measured[1] && r.measured[2] == (r.flops_per_s[1] > 1e8));
    for (int a = 0; a < 3; a++)
        for (int i = 0; i < PB_ROOF_SAMPLES && r.measured[a]; i++) ck_assert(r.samples_s[a][i] > 0);
    /* What others took of the cores is in the samples, not in the roof. */
    for (int i = 0; i < PB_ROOF_SAMPLES; i++)
        ck_assert(2 * (double)r.copy_bytes / r.samples_s[0][i] <= r.bytes_per_s * (1 + 1e-12));
}
END_TEST

static void write_line(const char *folder, int cpu, int index, const char *what, const char *line) {
    char path[512];
    snprintf(path, sizeof path, "%s/cpu%d/cache/index%d", folder, cpu, index);
    pb_assert_ok(pb_make_dirs(path));
    strncat(path, "/", sizeof path - strlen(path) - 1);
    strncat(path, what, sizeof path - strlen(path) - 1);
    pb_assert_ok(pb_file_write_atomic(path, line, strlen(line)));
}

/* Two sockets of two cores have two last-level caches, and cores without one their second-level ones. */
START_TEST(last_level_caches_are_counted_once_each) {
    char *dir = pb_test_dir();
    ck_assert_int_eq(pb_last_cache_bytes(dir), INT64_C(32) << 20); /* nothing is known */
    for (int cpu = 0; cpu < 4; cpu++) {
        write_line(dir, cpu, 2, "size", "2048K\n");
        write_line(dir, cpu, 2, "shared_cpu_list", cpu % 2 ? "0-1\n" : "0\n");
        write_line(dir, cpu, 3, "size", "30M\n");
        write_line(dir, cpu, 3, "shared_cpu_list", cpu < 2 ? "0-1\n" : "2-3\n");
    }
    ck_assert_int_eq(pb_last_cache_bytes(dir), INT64_C(60) << 20);
    write_line(dir, 4, 2, "size", "1024K\n");
    write_line(dir, 4, 2, "shared_cpu_list", "4\n");
    ck_assert_int_eq(pb_last_cache_bytes(dir), INT64_C(61) << 20);
    free(dir);
}
END_TEST

/* The clock of B was 5 % lower: no suspicion of the kernel. Where one side, or one process, did not read it,
 * time decides as before. */
START_TEST(stored_times_of_a_slower_clock_are_no_suspicion) {
    static const struct {
        double mhz[2];
        int processes;
        const char *by;
        pb_gate_verdict want;
        const char *why;
    } rows[] = {{{3000, 2850}, 10, "chain", PB_GATE_UNCLEAR, "the clock"},
                {{3000, 3000}, 10, "chain", PB_GATE_SUSPECT, "run both binaries"},
                {{3000, 2850}, 10, "perf_event", PB_GATE_SUSPECT, "run both binaries"},
                {{3000, 2850}, 9, "chain", PB_GATE_SUSPECT, "run both binaries"},
                {{3000, 2850}, 10, PB_CYCLES_MIXED, PB_GATE_SUSPECT, "run both binaries"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        made slower = usual;
        slower.time *= 1.0 / 0.95;
        pb_json *trees[] = {tree(&usual), tree(&slower)};
        pb_saved_run runs[2];
        pb_comparison_of_builds c;
        pb_stored_notes notes;
        bool mixed = strcmp(rows[i].by, PB_CYCLES_MIXED) == 0; /* both: equal names are no equal ways */
        add_cycles(trees[0], rows[i].mhz[0], 10, mixed ? rows[i].by : "chain");
        add_cycles(trees[1], rows[i].mhz[1], rows[i].processes, rows[i].by);
        for (int side = 0; side < 2; side++)
            pb_assert_ok(pb_saved_run_read(trees[side], "made", &runs[side]));
        pb_assert_ok(pb_compare_stored(&runs[0], &runs[1], &c, &notes));
        ck_assert_msg(c.kernels[0].result.verdict == rows[i].want &&
                          strstr(c.kernels[0].result.why, rows[i].why),
                      "row %zu: %s: %s", i, pb_gate_name(c.kernels[0].result.verdict),
                      c.kernels[0].result.why);
        if (!mixed) ck_assert(runs[0].mhz_least > 2999 && runs[0].mhz_most < 3001);
        pb_comparison_of_builds_free(&c);
        for (int side = 0; side < 2; side++) {
            pb_saved_run_free(&runs[side]);
            pb_json_free(trees[side]);
        }
    }
}
END_TEST

/* A roof is the fastest sample of all processes, whatever the first one noted. */
START_TEST(roofs_are_of_all_processes) {
    pb_json *root = tree(&usual);
    pb_json *roofs = (pb_json *)(uintptr_t)pb_json_get(root, "roofs");
    pb_saved_run run;
    ck_assert(pb_json_add_f64(roofs, "copy_bytes", 1e8) &&
              pb_json_add_f64(roofs, "product_side", 900) &&
              pb_json_add_f64(roofs, "vector_ops_per_s", 1e11));
    pb_assert_ok(pb_saved_run_read(root, "made", &run));
    double copy = 2e8 / (0.05 * 0.9), product = 2 * 729e6 / (0.01 * 0.9);
    pb_assert_close(&run.bytes_per_s, &copy, 1, 0, 1e-9, "copy");
    pb_assert_close(&run.flops_per_s[0], &product, 1, 0, 1e-9, "product");
    ck_assert(run.flops_per_s[1] == 0); /* no bf16 anchor, no bf16 roof */
    ck_assert_int_eq(run.kernels[0].time.fewest, 60);
    ck_assert_int_eq(run.kernels[0].roof, PB_ROOF_PRODUCT);
    pb_saved_run_free(&run);
    /* 0.23 ms of traffic, 0.31 ms of products; then 0.5 ms of other operations. */
    pb_json *k = ((pb_json *)(uintptr_t)pb_json_get(root, "kernels"))->child;
    cJSON_SetNumberValue((pb_json *)(uintptr_t)pb_json_get(k, "flops_else"), 5e7);
    pb_assert_ok(pb_saved_run_read(root, "made", &run));
    ck_assert_int_eq(run.kernels[0].roof, PB_ROOF_VECTOR);
    double least = 5e-4;
    pb_assert_close(&run.kernels[0].least, &least, 1, 0, 1e-9, "least time of vector units");
    pb_saved_run_free(&run);
    pb_json_free(root);
}
END_TEST

START_TEST(folders_honour_tmpdir) {
    pb_kernel_folder f = {.path = ""};
    char *dir = pb_test_dir();
    pb_kernel_folder_close(&f); /* never opened */
    setenv("TMPDIR", dir, 1);
    pb_assert_ok(pb_kernel_folder_open(&f));
    ck_assert(strncmp(f.path, dir, strlen(dir)) == 0);
    pb_kernel_folder_close(&f);
    setenv("TMPDIR", "/nowhere", 1);
    pb_assert_fails(pb_kernel_folder_open(&f), PB_E_IO, "/nowhere: cannot make a folder");
    free(dir);
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernel_stored");
    TCase *t = pb_test_case(s, "saved");
    tcase_add_test(t, a_run_is_read_and_placed_under_its_roof);
    tcase_add_test(t, processes_join_and_must_agree);
    tcase_add_test(t, processes_are_of_one_program_and_one_clock);
    tcase_add_test(t, what_is_no_saved_run_is_named);
    tcase_add_test(t, roofs_are_measured_beyond_the_caches);
    tcase_add_test(t, last_level_caches_are_counted_once_each);
    tcase_add_test(t, stored_times_of_a_slower_clock_are_no_suspicion);
    tcase_add_test(t, roofs_are_of_all_processes);
    tcase_add_test(t, folders_honour_tmpdir);
    t = pb_test_case(s, "stored");
    tcase_add_test(t, stored_runs_raise_suspicions_only);
    tcase_add_test(t, what_moved_with_the_machine_is_incomparable);
    tcase_add_test(t, what_was_not_checked_is_incomparable);
    tcase_add_test(t, few_stored_samples_are_unclear_at_best);
    tcase_add_test(t, samples_of_stored_runs_are_told);
    tcase_add_test(t, too_few_stored_processes_are_called_so);
    tcase_add_test(t, an_anchor_that_neither_run_has_did_not_move);
    return pb_run_suite(s);
}
