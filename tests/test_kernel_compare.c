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
 * number of the process from 1 (0 when its cases are listed), $j a last digit that differs between
 * processes, $all its arguments, $top more members of what it saves, $counts instructions. */
static char *build(const char *kernels) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "peftbench");
    pb_text t = {0};
    pb_text_add(&t,
                "#!/bin/sh\n"
                "what=$2 all=\"$*\" n=0\n"
                "touch '%s/calls'\n"
                "[ $what != run ] || echo \"$all\" >>'%s/calls'\n"
                "while [ $# -gt 0 ]; do [ \"$1\" = --save ] && save=$2; shift; done\n"
                "[ $what != run ] || n=$(wc -l <'%s/calls')\n"
                "j=$((n %% 7))\n"
                "%s\n"
                "[ $what != list ] || echo 'a warning of a library' >&2\n"
                "case $what in\n"
                "list) echo \"[$out]\" ;;\n"
                "run) echo \"{\\\"kernels\\\": [$out]$top}\" >\"$save\" ;;\n"
                "count) echo '{\"schema\":\"peftbench-kernel-instructions-1\",\"model\":\"m\",\"rows\":64,"
                "\"dtype\":\"f32\",\"gauge\":\"callgrind-1\",\"isa\":\"avx2\",\"compiler\":\"c\","
                "\"flags\":\"f\",\"libc\":\"l\",\"library\":\"o\",\"library_isa\":\"x\","
                "\"instructions\":{\"vector\":{'\"$counts\"'}}}' >\"$save\" ;;\n"
                "esac\n",
                dir, dir, dir, kernels);
    pb_assert_ok(pb_file_write_atomic(path, t.data, t.len));
    ck_assert_int_eq(chmod(path, 0700), 0);
    pb_text_free(&t);
    free(path);
    return dir;
}

/* A kernel with cycles, and what says how they were read. */
#define CLOCKED(name, median, cycles)                                                       \
    "out=\"$out${out:+,}{\\\"name\\\":\\\"" name "\\\",\\\"median_s\\\":" median               \
    ",\\\"median_cycles\\\":" cycles ",\\\"output_sha256\\\":\\\"s\\\",\\\"wrong\\\":false}\"\n"
#define CYCLES_BY(way) "top=\",\\\"cycles_by\\\":\\\"" way "\\\"\"\n"

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

static const char *const options[] = {"--threads", "1", NULL};

static pb_comparison_of_builds compare(const char *a, const char *b) {
    pb_comparison_of_builds c;
    pb_compare_request q = {.a = a, .b = b, .options = options, .key = 1};
    pb_assert_ok(pb_compare_builds(&q, &c));
    return c;
}

static pb_compared *kernel(const pb_comparison_of_builds *c, const char *name) {
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->kernels[i].name, name) == 0) return &c->kernels[i];
    ck_abort_msg("no kernel %s", name);
}

static void assert_verdict(const pb_comparison_of_builds *c, const char *name,
                           pb_gate_verdict want, const char *why) {
    const pb_compared *k = kernel(c, name);
    ck_assert_msg(k->result.verdict == want && strstr(k->result.why, why), "%s: %s (%s)", name,
                  pb_gate_name(k->result.verdict), k->result.why);
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
    for (size_t i = 0; i < 7; i++) assert_verdict(&c, want[i].name, want[i].verdict, "");
    /* 10 processes and 10 more for what was flagged, one of them checked. */
    for (int side = 0; side < 2; side++) {
        char *text;
        calls_of(side ? b : a, &text);
        ck_assert_int_eq(count(text, "\n"), 20);
        ck_assert_int_eq(count(text, "--unchecked"), 19);
        ck_assert_int_eq(count(text, "--filter slower\n"), 10);
        ck_assert_int_eq(count(text, "kernels run --threads 1 --save "), 20);
        free(text);
    }
    pb_text xml = {0}, table = {0};
    pb_assert_ok(pb_compared_junit(&c, false, &xml));
    ck_assert(strstr(xml.data, "tests=\"7\" failures=\"5\" skipped=\"0\"") != NULL);
    ck_assert(strstr(xml.data, "name=\"same &lt;1&gt;\" time=\"0.000\"/>") != NULL);
    ck_assert(strstr(xml.data, "name=\"slower\" time=\"0.000\"><failure message=\"REGRESSED: +"));
    pb_assert_ok(pb_compared_markdown(&c, NULL, 5, &table));
    ck_assert(strstr(table.data, "| slower | REGRESSED | 1.050 | ") != NULL);
    ck_assert(strstr(table.data, "- exit status 5\n") && strstr(table.data, "- A: program `"));
    pb_text_free(&xml);
    pb_text_free(&table);
    pb_comparison_of_builds_free(&c);
    free(a);
    free(b);
}
END_TEST

/* Slower and faster in time alone is the clock's doing; in cycles too it is the kernel's. */
START_TEST(cycles_tell_a_kernel_from_the_clock) {
    char *a = build(CLOCKED("clock", "1.00$j", "300$j") CLOCKED("kernel", "1.00$j", "300$j")
                    CLOCKED("boost", "1.00$j", "300$j") CLOCKED("unread", "1.00$j", "300$j")
                    CYCLES_BY("chain"));
    char *b = build(CLOCKED("clock", "1.05$j", "300$j") CLOCKED("kernel", "1.05$j", "315$j")
                    CLOCKED("boost", "0.95$j", "300$j") CLOCKED("unread", "1.05$j", "null")
                    CYCLES_BY("chain"));
    char *other = build(CLOCKED("clock", "1.05$j", "300$j") CYCLES_BY("perf_event"));
    pb_comparison_of_builds c = compare(a, b);
    assert_verdict(&c, "clock", PB_GATE_CLOCK, "% in time and ");
    assert_verdict(&c, "kernel", PB_GATE_REGRESSED, "found twice");
    assert_verdict(&c, "boost", PB_GATE_CLOCK, "the clock");
    assert_verdict(&c, "unread", PB_GATE_REGRESSED, "found twice"); /* then time decides */
    double ratio = 1.05;
    pb_assert_close(&kernel(&c, "kernel")->result.cycles, &ratio, 1, 0, 0.01, "cycles B / A");
    ck_assert(isnan(kernel(&c, "unread")->result.cycles));
    ck_assert_str_eq(c.cycles_by[1], "chain");
    ck_assert(c.mhz_least < 0.0029 && c.mhz_most > 0.0031 && c.mhz_most < 0.0033);
    pb_text table = {0};
    pb_assert_ok(pb_compared_markdown(&c, NULL, 2, &table));
    ck_assert(strstr(table.data, "- cycles: chain\n") && strstr(table.data, "| clock | CLOCK | 1.050 | "));
    pb_text_free(&table);
    pb_comparison_of_builds_free(&c);
    /* Two ways to read them are not compared. */
    c = compare(a, other);
    assert_verdict(&c, "clock", PB_GATE_REGRESSED, "found twice");
    pb_comparison_of_builds_free(&c);
    /* Neither are those of a side whose processes are not all alike, whichever comes last. */
    char *once = build(CLOCKED("clock", "1.05$j", "300$j") CYCLES_BY("$([ $((n % 3)) = 0 ] && echo chain || echo perf_event)"));
    char *both = build(CLOCKED("clock", "1.00$j", "300$j") CYCLES_BY("perf_event"));
    c = compare(both, once);
    ck_assert_str_eq(c.cycles_by[1], "mixed");
    assert_verdict(&c, "clock", PB_GATE_REGRESSED, "found twice");
    ck_assert(c.mhz_least < 0.0029 && c.mhz_most < 0.0030); /* of the processes that have a clock */
    pb_comparison_of_builds_free(&c);
    c = compare(once, once);
    ck_assert(isnan(c.kernels[0].result.cycles));
    pb_comparison_of_builds_free(&c);
    free(once);
    free(both);
    free(a);
    free(b);
    free(other);
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
    char *fails = build("echo no such option >&2; exit 2"), *odd = build(KERNEL("k", "0", "s", "false"));
    pb_compare_request q = {.a = good, .b = empty};
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_INPUT, "no program peftbench there");
    q.b = fails;
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_ENV, "exit status 2: no such option");
    q.b = odd;
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_INPUT, "without name");
    q.filter = "another";
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_INPUT, "no case has this in its name");
    free(good);
    free(empty);
    free(fails);
    free(odd);
}
END_TEST

/* What ends its process in one build has a verdict, and so have the others. */
START_TEST(a_kernel_that_ends_its_process_is_named) {
    static const char kernels[] =
        KERNEL("crash", "1.00$j", "s", "false") KERNEL("stops", "1.00$j", "s", "false")
        KERNEL("killed", "1.00$j", "s", "false") KERNEL("other", "1.00$j", "s", "false");
    pb_text faults = {0};
    pb_text_add(&faults, "%s%s", kernels,
                "case $what:$all in\n"
                "run:*'--filter stops|killed|other') echo '1 of 3: stops'; echo 'no memory'; exit 3 ;;\n"
                "run:*'--filter killed|other') echo '1 of 2: killed'; kill -KILL $$ ;;\n"
                "run:*'--filter other') ;;\n"
                "run:*) echo '1 of 4: crash'; kill -SEGV $$ ;;\n"
                "esac\n");
    char *good = build(kernels), *bad = build(faults.data);
    pb_comparison_of_builds c = compare(good, bad);
    assert_verdict(&c, "crash", PB_GATE_WRONG, "B: ended its process with signal 11");
    assert_verdict(&c, "stops", PB_GATE_INCOMPARABLE, "B: exit status 3: no memory");
    /* The system had too little memory, or somebody ended it: no kernel's fault as far as anybody knows. */
    assert_verdict(&c, "killed", PB_GATE_INCOMPARABLE, "B: its process was ended by signal 9: 1 of 2: killed");
    assert_verdict(&c, "other", PB_GATE_SAME, "");
    pb_text_free(&faults);
    pb_comparison_of_builds_free(&c);
    free(good);
    free(bad);
}
END_TEST

/* What fails once all was measured is no kernel's doing. */
START_TEST(a_process_that_cannot_save_accuses_no_kernel) {
    pb_comparison_of_builds c;
    char *good = build(KERNEL("k", "1.00$j", "s", "false"));
    char *full = build(KERNEL("k", "1.00$j", "s", "false")
                       "[ $what != run ] || { echo '1 of 1: k'; echo 'all measured'; echo 'no space'; exit 3; }\n");
    pb_compare_request q = {.a = good, .b = full};
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_ENV, "kernels run: exit status 3: 1 of 1: k");
    free(good);
    free(full);
}
END_TEST

START_TEST(a_program_must_stay_what_it_is) {
    pb_comparison_of_builds c;
    char *good = build(KERNEL("k", "1.00$j", "s", "false"));
    char *grows = build(KERNEL("k", "1.00$j", "s", "false") "[ $n != 4 ] || echo '# more' >>\"$0\"\n");
    char *claims = build(KERNEL("k", "1.00$j", "s", "false")
                         "top=\",\\\"binary_sha256\\\":\\\"$((n > 6))\\\"\"\n");
    pb_compare_request q = {.a = good, .b = grows};
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_ENV, "became another program");
    q.b = claims;
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_ENV, "became another program");
    free(good);
    free(grows);
    free(claims);
}
END_TEST

/* Kernels of a GPU are in the backend beside the program: it must stay, too. */
START_TEST(a_backend_must_stay_what_it_is) {
    pb_comparison_of_builds c;
    char *good = build(KERNEL("k", "1.00$j", "s", "false"));
    char *grows = build(KERNEL("k", "1.00$j", "s", "false")
                        "[ $n != 4 ] || echo more >>\"${0%/*}/libpeftbench_cuda.so\"\n");
    char *claims = build(KERNEL("k", "1.00$j", "s", "false")
                         "top=\",\\\"backend_sha256\\\":\\\"$((n > 6))\\\"\"\n");
    char *dirs[] = {good, grows, claims};
    pb_compare_request q = {.a = good, .b = good, .cuda = true};
    unsetenv("PB_CUDA_PLUGIN");
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_ENV, "no libpeftbench_cuda.so beside it");
    for (int i = 0; i < 3; i++) {
        char *path = pb_path_join(dirs[i], "libpeftbench_cuda.so");
        pb_assert_ok(pb_file_write_atomic(path, i ? "b" : "a", 1));
        free(path);
    }
    q.b = grows;
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_ENV, "libpeftbench_cuda.so became another backend");
    q.b = claims;
    pb_assert_fails(pb_compare_builds(&q, &c), PB_E_ENV, "libpeftbench_cuda.so became another backend");
    q.b = good;
    pb_assert_ok(pb_compare_builds(&q, &c));
    ck_assert_str_eq(c.backend[0], "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
    pb_comparison_of_builds_free(&c);
    q.cuda = false; /* nothing of it is asked on a CPU */
    pb_assert_ok(pb_compare_builds(&q, &c));
    ck_assert_str_eq(c.backend[0], "");
    pb_comparison_of_builds_free(&c);
    for (int i = 0; i < 3; i++) free(dirs[i]);
}
END_TEST

#define SAMPLES(n)                                                                    \
    "out=\"${out%?},\\\"samples_s\\\":[[$(yes 1 | head -n " n " | paste -sd, -)]]}\"\n"

START_TEST(a_budget_is_divided_and_few_samples_are_written_down) {
    char *a = build(KERNEL("few", "1.00$j", "s", "false") SAMPLES("59")
                    KERNEL("enough", "1.00$j", "s", "false") SAMPLES("60")
                    KERNEL("slower", "1.00$j", "s", "false") SAMPLES("60")
                    KERNEL("old", "1.00$j", "s", "false"));
    char *b = build(KERNEL("few", "1.00$j", "s", "false") SAMPLES("61")
                    KERNEL("enough", "1.00$j", "s", "false") SAMPLES("60")
                    KERNEL("slower", "1.05$j", "s", "false") SAMPLES("60"));
    char *dir = pb_test_dir(), *save = pb_path_join(dir, "kept"), *text, **names = NULL;
    size_t n = 0;
    pb_comparison_of_builds c;
    pb_compare_request q = {.a = a, .b = b, .budget_s = 80, .save = save, .key = 1};
    pb_assert_ok(pb_compare_builds(&q, &c));
    assert_verdict(&c, "few", PB_GATE_UNCLEAR, "59 samples a process, 60 are wanted");
    assert_verdict(&c, "enough", PB_GATE_SAME, "");
    assert_verdict(&c, "slower", PB_GATE_REGRESSED, "");
    assert_verdict(&c, "old", PB_GATE_INCOMPARABLE, "only A has it");
    ck_assert_int_eq(kernel(&c, "few")->samples, 59);
    ck_assert(kernel(&c, "few")->seconds == 10 * (59 + 61)); /* samples of 1 s */
    /* Three quarters over 20 processes; then one of three kernels, with no more than it had. */
    calls_of(b, &text);
    ck_assert_int_eq(count(text, "--budget 3 --filter few|enough|slower\n"), 10);
    ck_assert_int_eq(count(text, "--budget 1 --filter slower\n"), 10);
    free(text);
    pb_assert_ok(pb_list_dir(save, &names, &n));
    ck_assert_uint_eq(n, 40);
    ck_assert_str_eq(names[0], "stage1-pair01-A.json");
    pb_names_free(names, n);
    pb_comparison_of_builds_free(&c);
    q = (pb_compare_request){.a = a, .b = b, .filter = "few"}; /* without a budget: the kernel is slow */
    pb_assert_ok(pb_compare_builds(&q, &c));
    assert_verdict(&c, "few", PB_GATE_SAME, "");
    pb_comparison_of_builds_free(&c);
    free(save);
    free(dir);
    free(a);
    free(b);
}
END_TEST

#define ENVIRONMENT(compiler, threads) ENVIRONMENT_OF(compiler, threads, "")
#define ENVIRONMENT_OF(compiler, threads, machine)                                               \
    "top=',\"environment\":{\"build\":{\"compiler\":\"" compiler "\"},\"threads\":" threads       \
    ",\"machine\":{" machine "}}'\n"
#define GPU(name, driver) "\"gpu\":{\"name\":\"" name "\",\"driver\":\"" driver "\"}"

START_TEST(how_the_sides_were_built_is_told) {
    char *a = build(KERNEL("k", "1.00$j", "s", "false") ENVIRONMENT("one", "2"));
    char *b = build(KERNEL("k", "1.00$j", "s", "false") ENVIRONMENT("two", "2"));
    char *d = build(KERNEL("k", "1.00$j", "s", "false") ENVIRONMENT("two", "4"));
    pb_text table = {0};
    pb_comparison_of_builds c = compare(a, b);
    ck_assert_str_eq(c.differences.data, "build/compiler: one, then two\n");
    assert_verdict(&c, "k", PB_GATE_SAME, ""); /* a new compiler is what may be asked about */
    pb_assert_ok(pb_compared_markdown(&c, NULL, 0, &table));
    ck_assert(strstr(table.data, "- differs: build/compiler: one, then two\n") != NULL);
    pb_text_free(&table);
    pb_comparison_of_builds_free(&c);
    c = compare(b, d);
    assert_verdict(&c, "k", PB_GATE_INCOMPARABLE, "threads: 2, then 4");
    pb_comparison_of_builds_free(&c);
    free(a);
    free(b);
    free(d);
}
END_TEST

/* A new driver may be asked about as a new compiler may; times of another GPU are no answer. */
START_TEST(another_gpu_is_another_machine) {
    char *a = build(KERNEL("k", "1.00$j", "s", "false") ENVIRONMENT_OF("one", "2", GPU("H100", "580")));
    char *b = build(KERNEL("k", "1.00$j", "s", "false") ENVIRONMENT_OF("one", "2", GPU("H100", "590")));
    char *d = build(KERNEL("k", "1.00$j", "s", "false") ENVIRONMENT_OF("one", "2", GPU("H200", "590")));
    pb_comparison_of_builds c = compare(a, b);
    ck_assert_msg(strstr(c.differences.data, "590") != NULL, "%s", c.differences.data);
    assert_verdict(&c, "k", PB_GATE_SAME, "");
    pb_comparison_of_builds_free(&c);
    c = compare(b, d);
    assert_verdict(&c, "k", PB_GATE_INCOMPARABLE, "machine/gpu/name: H100, then H200");
    pb_comparison_of_builds_free(&c);
    free(a);
    free(b);
    free(d);
}
END_TEST

START_TEST(instructions_decide_where_time_cannot) {
    char *a = build(KERNEL("more", "1.00$j", "s", "false") KERNEL("same", "1.00$j", "s", "false")
                    "counts='\"more\":1000000,\"same\":1000000,\"small\":1000,\"alone\":5000'\n");
    char *b = build(KERNEL("more", "1.00$j", "s", "false") KERNEL("same", "1.00$j", "s", "false")
                    "counts='\"more\":1011000,\"same\":1009000,\"small\":1064,\"alone\":5100'\n");
    pb_comparison_of_builds c;
    pb_compare_request q = {.a = a, .b = b, .instructions = true, .gauge = PB_GAUGE_CALLGRIND};
    pb_assert_ok(pb_compare_builds(&q, &c));
    ck_assert_str_eq(c.gauge, "callgrind-1, avx2");
    assert_verdict(&c, "more", PB_GATE_MORE_WORK, "+1.10 % instructions");
    assert_verdict(&c, "same", PB_GATE_SAME, "inside 3 %");
    assert_verdict(&c, "small", PB_GATE_SAME, "time was not measured");
    assert_verdict(&c, "alone", PB_GATE_MORE_WORK, "+2.00 % instructions");
    ck_assert(kernel(&c, "small")->side[1].instructions == 1064);
    pb_comparison_of_builds_free(&c);
    free(a);
    free(b);
}
END_TEST

/* Everything that a reader of the file may ask of a kernel. */
START_TEST(json_holds_what_decided) {
    char *a = build(KERNEL("k", "1.00$j", "s", "false")
                    "out=\"${out%?},\\\"variant\\\":\\\"vector\\\",\\\"least_s\\\":0.5,\\\"roof\\\":\\\"copy\\\","
                    "\\\"error_of_allowed\\\":0.25,\\\"flops\\\":4e6,\\\"flops_else\\\":0,\\\"bytes\\\":3e5}\"\n");
    char *b = build(KERNEL("k", "1.05$j", "t", "false"));
    pb_comparison_of_builds c = compare(a, b);
    pb_json *o = cJSON_CreateObject();
    ck_assert(pb_compared_json(&c.kernels[0], o));
    const pb_json *x = pb_json_get(o, "a"), *y = pb_json_get(o, "b"), *s = pb_json_get(o, "stages");
    ck_assert_str_eq(pb_json_get(x, "variant")->valuestring, "vector");
    ck_assert_str_eq(pb_json_get(x, "roof")->valuestring, "copy");
    ck_assert(pb_json_get(x, "error_of_allowed")->valuedouble == 0.25);
    ck_assert(pb_json_number(x, "flops") == 4e6 && pb_json_number(x, "flops_else") == 0);
    ck_assert(pb_json_number(x, "bytes") == 3e5 && cJSON_IsNull(pb_json_get(y, "bytes")));
    double share = pb_json_get(x, "roof_share")->valuedouble, want = 0.5 / 1.003; /* median of 1.000 ... 1.006 */
    pb_assert_close(&share, &want, 1, 0, 1e-2, "share of the roof");
    ck_assert(cJSON_IsNull(pb_json_get(y, "roof_share")) && cJSON_IsNull(pb_json_get(y, "variant")));
    ck_assert_str_eq(pb_json_get(y, "output_sha256")->valuestring, "t");
    ck_assert_int_eq(cJSON_GetArraySize(s), 2);
    ck_assert(pb_json_get(s->child, "u")->valuedouble == 100);
    ck_assert(pb_json_get(s->child, "p")->valuedouble <= 0.01);
    ck_assert(pb_json_get(s->child->next, "ratio")->valuedouble > 1.04);
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(y, "medians_s")), 2);
    pb_json_free(o);
    pb_comparison_of_builds_free(&c);
    free(a);
    free(b);
}
END_TEST

/* Whoever reads the table sees how noisy it was, and what SAME could have missed; not who else worked there. */
START_TEST(a_table_tells_the_noise) {
    pb_compared k[] = {{.name = "k", .result = {.verdict = PB_GATE_SAME, .ratio = 1, .detectable = 1.034}},
                       {.name = "l", .result = {.verdict = PB_GATE_SAME, .ratio = NAN, .detectable = NAN, .work = NAN}}};
    pb_comparison_of_builds c = {
        .kernels = k, .n = 2, .mhz_least = 2000, .mhz_most = 3000, .gpu = pb_gpu_report_none()};
    pb_machine_report m = {.cpus = 2, .allowed = 2, .cores = 2, .others = 0.5, .steal = 0.02, .load = 1.5,
                           .quota = NAN, .busiest = "miner", .busiest_share = 0.5, .pinning = "not pinned"};
    pb_text table = {0}, lines = {0};
    pb_assert_ok(pb_compared_markdown(&c, &m, 0, &table));
    static const char *const want[] = {
        "- machine: not pinned; load 1.50, other processes 50 % of a core, stolen 2.0 %\n",
        "- noise: other processes used 50 % of a core during the run: stop them",
        "- noise: the hypervisor gave 2.0 % of the CPUs' time",
        "- noise: the clock moved by 50 %: see to governor",
        "; a slowdown of 3.4 % would have been found |\n",
        "| l | SAME | | | | | |  |\n"};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        ck_assert_msg(strstr(table.data, want[i]) != NULL, "no '%s' in\n%s", want[i], table.data);
    ck_assert(!strstr(table.data, "miner"));
    pb_assert_ok(pb_compared_advice(&c, &m, &lines));
    ck_assert_int_eq(count(lines.data, "\n"), 3);
    pb_text_free(&lines);
    pb_text_free(&table);
    c.mhz_most = 2010;
    pb_assert_ok(pb_compared_advice(&c, NULL, &lines)); /* nothing was measured now */
    ck_assert_uint_eq(lines.len, 0);
}
END_TEST

START_TEST(xml_is_utf8_whatever_a_name_holds) {
    pb_compared k = {.name = "\xc3\xa9 \xc3", .result = {.verdict = PB_GATE_WRONG, .why = "\xc3\xa9\x01"}};
    pb_comparison_of_builds c = {.kernels = &k, .n = 1};
    pb_text xml = {0};
    size_t bad;
    pb_assert_ok(pb_compared_junit(&c, false, &xml));
    ck_assert(pb_utf8_valid(xml.data, xml.len, &bad));
    ck_assert(strstr(xml.data, "name=\"?? ?\"") && strstr(xml.data, "WRONG: \xc3\xa9 \""));
    pb_text_free(&xml);
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernel_compare");
    TCase *t = pb_test_case(s, "builds");
    tcase_add_test(t, each_verdict_has_its_cause);
    tcase_add_test(t, cycles_tell_a_kernel_from_the_clock);
    tcase_add_test(t, unclear_is_skipped_only_when_allowed);
    tcase_add_test(t, builds_that_do_not_run_are_named);
    tcase_add_test(t, a_kernel_that_ends_its_process_is_named);
    tcase_add_test(t, a_process_that_cannot_save_accuses_no_kernel);
    tcase_add_test(t, a_program_must_stay_what_it_is);
    tcase_add_test(t, a_backend_must_stay_what_it_is);
    tcase_add_test(t, a_budget_is_divided_and_few_samples_are_written_down);
    tcase_add_test(t, how_the_sides_were_built_is_told);
    tcase_add_test(t, another_gpu_is_another_machine);
    tcase_add_test(t, instructions_decide_where_time_cannot);
    t = pb_test_case(s, "telling");
    tcase_add_test(t, json_holds_what_decided);
    tcase_add_test(t, a_table_tells_the_noise);
    tcase_add_test(t, xml_is_utf8_whatever_a_name_holds);
    return pb_run_suite(s);
}
