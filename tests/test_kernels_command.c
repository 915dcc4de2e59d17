/* `peftbench kernels` from outside: what it refuses, what it measures as a saved run was, and what a table or a
 * trend must not leave out in silence. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/process.h"
#include "base/text.h"
#include "harness/kernel_counter.h"
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

static void put(const char *name, const char *text, int mode) {
    char *path = in_dir(name);
    pb_assert_ok(pb_file_write_atomic(path, text, strlen(text)));
    ck_assert_int_eq(chmod(path, (mode_t)mode), 0);
    free(path);
}

static void holds(const char *name, const char *part) {
    char *path = in_dir(name), *text = NULL;
    pb_assert_ok(pb_file_read(path, MOST, &text, NULL));
    ck_assert_msg(strstr(text, part) != NULL, "no '%s' in %s:\n%s", part, name, text);
    free(text);
    free(path);
}

/* A program in a folder that says what `kernels run` would have measured of the kernels "same" and $k; `how`
 * sets $m, the median of the latter, $w, whether it is wrong, and may rename it. $n counts the processes, $j is a
 * last digit that differs between them. */
static void stand_in(const char *folder, const char *how) {
    char *at = in_dir(folder), name[64];
    pb_text t = {0};
    pb_assert_ok(pb_make_dirs(at));
    pb_text_add(&t,
                "#!/bin/sh\n"
                "what=$2 n=0 k=k w=false\n"
                "while [ $# -gt 0 ]; do [ \"$1\" = --save ] && save=$2; shift; done\n"
                "[ $what != run ] || { echo >>\"$0.calls\"; n=$(wc -l <\"$0.calls\"); }\n"
                "j=$((n %% 7))\n"
                "%s\n"
                "e='\"output_sha256\":\"s\",\"wrong\"'\n"
                "out=\"[{\\\"name\\\":\\\"same\\\",\\\"median_s\\\":1.00$j,$e:false},\"\n"
                "out=\"$out{\\\"name\\\":\\\"$k\\\",\\\"median_s\\\":$m,$e:$w}]\"\n"
                "case $what in list) echo \"$out\" ;; run) echo \"{\\\"kernels\\\":$out}\" >\"$save\" ;; esac\n",
                how);
    snprintf(name, sizeof name, "%s/peftbench", folder);
    put(name, t.data, 0700);
    pb_text_free(&t);
    free(at);
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
    expect("compare A B --gauge step", 1, "--gauge says how --instructions counts");
    expect("run --unchecked --plots \"$D/figures\"", 1, "there would be no roofs to draw");
    /* What could not be written at the end. */
    expect("compare A B --junit /nowhere/x.xml", 1, "--junit /nowhere/x.xml: there is no folder /nowhere");
    expect("compare A B --markdown \"$D\"", 1, ": is a folder; expected a file");
    expect("compare --stored a.json --save nowhere/b.json", 1, "--save nowhere/b.json: there is no folder nowhere");
    expect("run --history /nowhere/h.jsonl", 1, "--history /nowhere/h.jsonl: there is no folder");
    expect("baseline /nowhere/b.json", 1, "baseline /nowhere/b.json: there is no folder");
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
    char *refused = kernels("compare --stored \"$D/a.json\" --filter /none/", 1);
    ck_assert_msg(strstr(refused, "a.json has this in its name") && !strstr(refused, "1 of"), "%s", refused);
    free(refused); /* without measuring anything */
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
    expect("compare --stored \"$D/a.json\" \"$D/b.json\" --filter /none/", 1, "a.json has this in its name");
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
    ck_assert(!strstr(text, "not checked"));
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
    expect("trend \"$D/history.jsonl\"", 0,
           "26 series over 16 points: 26 changes with p below 0.001; 0.013 expected if nothing had changed");
    free(kernels("trend \"$D/history.jsonl\" --json", 0));
    pb_json *trend = load("out");
    const pb_json *change = pb_json_get(pb_json_get(trend, "series")->child, "changes")->child;
    ck_assert_str_eq(pb_json_text(change, "revision"), "r8");
    ck_assert_str_eq(pb_json_text(change, "after"), "r7");
    ck_assert(pb_json_number(change, "ratio") > 1.98 && pb_json_number(change, "p") <= 1.0 / 2000);
    pb_json_free(trend);
    pb_text_free(&t);
    free(path);
}
END_TEST

/* A build of what was not committed is not called by its commit alone. */
START_TEST(changes_of_uncommitted_builds_are_named_so) {
    enum { POINTS = 16 };
    pb_text t = {0};
    for (int p = 0; p < POINTS; p++)
        pb_text_add(&t, "{\"schema\":\"" PB_HISTORY_SCHEMA "\",\"revision\":\"%02d3456789abcdef0123456789abcdef01234567\","
                        "\"dirty\":%s,\"processes\":1,\"environment\":{\"build\":{\"compiler\":\"%d\"}},"
                        "\"seconds\":{\"k\":%.6g}}\n",
                    p, p < POINTS / 2 ? "false" : "true", p / 8, (p < POINTS / 2 ? 1e-3 : 2e-3) * (1 + 0.001 * ((p * 7) % 5)));
    put("history.jsonl", t.data, 0600);
    char *text = kernels("trend \"$D/history.jsonl\" --plots \"$D/figures\"", 0);
    ck_assert_msg(strstr(text, " 083456789abc+ ") && strstr(text, " 073456789abc ") &&
                      strstr(text, "k at 083456789abc+, differs too: build/compiler: 0, then 1\n"),
                  "%s", text);
    holds("figures/trend_1.svg", "08345678+");
    free(text);
    pb_text_free(&t);
}
END_TEST

START_TEST(a_line_a_kernel_and_the_exit_status_of_the_worst) {
    stand_in("a", "m=1.00$j");
    stand_in("slow", "m=1.05$j");
    stand_in("wrong", "m=0.50$j w=true");
    stand_in("new", "m=1.00$j k=new");
    stand_in("wild", "m=1.$((n * 37 % 10))$j"); /* ten levels, the same on both sides in whatever order */
    stand_in("wild2", "m=1.$((n * 37 % 10))$j");
    expect("compare \"$D/a\" \"$D/slow\" --junit \"$D/x.xml\" --markdown \"$D/t.md\"", 2,
           "REGRESSED     k: +5.0 %, found twice [U 100, p 5.4e-06; again U 100, p 5.4e-06; A's spread 0.2 %, finds ");
    holds("x.xml", "tests=\"2\" failures=\"1\" skipped=\"0\"");
    holds("x.xml", "<failure message=\"REGRESSED: +5.0 %, found twice\"/>");
    holds("t.md", "| k | REGRESSED | 1.050 | ");
    holds("t.md", "- exit status 2\n");
    char *text = kernels("compare --aa \"$D/a\"", 0);
    ck_assert(strstr(text, "SAME          k: ") && strstr(text, "after 3 pairs: ") && strstr(text, "machine: "));
    ck_assert(strstr(text, "A against itself: processes spread by 0.") && strstr(text, " % (median of 2 kernels, ") &&
              strstr(text, "found with probability 0.8: a slowdown of 3."));
    free(text);
    expect("compare \"$D/wild\" \"$D/wild2\"", 3, "UNSTABLE      k: ");
    expect("compare \"$D/wild\" \"$D/wild2\" --allow-unclear --junit \"$D/x.xml\"", 0, "UNSTABLE      k: ");
    holds("x.xml", "failures=\"0\" skipped=\"1\"");
    expect("compare \"$D/a\" \"$D/new\"", 4, "INCOMPARABLE  new: only B has it");
    expect("compare \"$D/a\" \"$D/wrong\"", 5, "WRONG         k: B: wrong");
}
END_TEST

/* What was measured is told, and every other file written, whatever becomes of one. */
START_TEST(a_file_that_fails_loses_nothing_else) {
    stand_in("a", "m=1.00$j");
    stand_in("slow", "m=1.05$j\n[ $what != run ] || mkdir -p \"${0%/*}/../x.xml\"");
    char *text = kernels("compare \"$D/a\" \"$D/slow\" --junit \"$D/x.xml\" --markdown \"$D/t.md\"", 1);
    ck_assert_msg(strstr(text, "REGRESSED     k: ") && strstr(text, "x.xml") && strstr(text, "not every file could be written"),
                  "%s", text);
    free(text);
    holds("t.md", "| k | REGRESSED | ");
    text = kernels("run --model shape:minilm --rows 64 --dtype f32 --filter /axpby/ --threads 1 --unchecked --budget 0.1s "
                   "--history /dev/full --save \"$D/run.json\"", 1);
    ck_assert_msg(strstr(text, "minilm/axpby/64 x 384/f32") && strstr(text, "/dev/full: writing failed"), "%s", text);
    ck_assert(strstr(text, "all measured\n") && strstr(text, "1 of 1 kernels were not checked against the reference\n"));
    free(text);
    pb_json *run = load("run.json");
    ck_assert(cJSON_IsArray(pb_json_get(run, "advice")) && pb_json_get(run, "machine_state"));
    pb_json_free(run);
}
END_TEST

START_TEST(revisions_are_built_once_and_compared) {
    char *repo = in_dir("repo"), *log = in_dir("git");
    const char *const git[] = {"sh", "-ec",
                               "git init -q . && git config user.name t && git config user.email t@example.org && "
                               "git add . && git commit -qm one && git tag first && "
                               "sed -i 's/m=1.00/m=1.05/' peftbench && git commit -qam two && git tag second",
                               NULL};
    int code = 1;
    setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
    setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
    setenv("TMPDIR", dir, 1);
    stand_in("repo", "m=1.00$j");
    put("repo/CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.20)\nproject(p LANGUAGES NONE)\nadd_custom_target(peftbench COMMAND "
        "${CMAKE_COMMAND} -E copy ${CMAKE_SOURCE_DIR}/peftbench ${CMAKE_BINARY_DIR}/peftbench)\n", 0600);
    pb_assert_ok(pb_process_run(git, NULL, repo, log, &code));
    ck_assert_int_eq(code, 0);
    ck_assert_int_eq(chdir(repo), 0);
    char *text = kernels("compare first second --revisions \"$D/kept\"", 2);
    ck_assert(strstr(text, "building first (") && strstr(text, "building second (") && strstr(text, "REGRESSED     k: +5.0 %"));
    free(text);
    text = kernels("compare --aa second --revisions \"$D/kept\"", 0);
    ck_assert(!strstr(text, "building ") && strstr(text, "SAME          k: "));
    free(text);
    free(repo);
    free(log);
}
END_TEST

/* valgrind is a script here: the real one takes a while for the table, and has kernel_instructions. */
START_TEST(a_baseline_is_written_and_held_against) {
    pb_text path = {0};
    char *bin = in_dir("bin");
    pb_assert_ok(pb_make_dirs(bin));
    pb_text_add(&path, "%s:%s", bin, getenv("PATH"));
    setenv("PATH", path.data, 1);
    put("bin/valgrind",
        "#!/bin/sh\nfor a in \"$@\"; do case $a in --save=*) save=${a#--save=} ;; esac; done\n"
        "echo '{\"schema\":\"peftbench-kernel-instructions-1\",\"model\":\"shape:minilm\",\"rows\":64,\"dtype\":\"both\","
        "\"gauge\":\"callgrind-1\",\"isa\":\"avx2\",\"compiler\":\"c\",\"flags\":\"f\",\"libc\":\"l\",\"library\":\"o\","
        "\"library_isa\":\"x\",\"instructions\":{\"vector\":{\"k\":'$(cat \"$0.n\")',\"l\":20000}}}' >\"$save\"\n", 0700);
    put("bin/valgrind.n", "10000", 0600);
    expect("baseline \"$D/base.json\"", 0, "INSTRUCTIONS");
    holds("base.json", "10000");
    put("bin/valgrind.n", "10101", 0600);
    expect("count --baseline \"$D/base.json\"", 2, "MORE_WORK     k: 10101, was 10000: +1.01 % instructions");
    put("bin/valgrind.n", "10060", 0600);
    expect("count --baseline \"$D/base.json\"", 0, "SAME          k: 10060, was 10000: ");
    put("bin/valgrind.n", "9000", 0600);
    expect("count --baseline \"$D/base.json\"", 0, "1 kernels do less, 0 are new, 0 are gone");
    pb_text_free(&path);
    free(bin);
}
END_TEST

#define SAVED(more, of_kernel)                                                                                 \
    "{\"schema\":\"peftbench-kernels-2\",\"binary_sha256\":\"b\",\"processes\":1," more "\"kernels\":[{\"name\":\"m/o/s/f32\"," \
    "\"op\":\"o\",\"shape\":\"s\",\"dtype\":\"f32\",\"variant\":\"v\",\"output_sha256\":\"h\",\"wrong\":false,"                 \
    "\"flops\":0,\"flops_else\":1e6,\"bytes\":1e6," of_kernel "\"samples_s\":[[1e-3]]}]}"
#define ROOFS "\"roofs\":{\"bytes_per_s\":1e10,\"vector_ops_per_s\":1e12},"

START_TEST(a_saved_run_is_shown_and_drawn) {
    put("run.json", SAVED(ROOFS "\"advice\":[\"governor x\"],", "\"checked\":true,"), 0600);
    put("bare.json", SAVED("\"environment\":{},", ""), 0600);
    char *text = kernels("show \"$D/run.json\"", 0); /* 1 MB at 10 GB/s: 100 of 1000 us */
    ck_assert(strstr(text, " 1000.0 ") && strstr(text, " 10 % ") && strstr(text, "roofs: copy 10.0 GB/s"));
    ck_assert(strstr(text, "1 of 1 kernels have fewer than 60 samples") && strstr(text, "noise: governor x\n"));
    ck_assert(!strstr(text, "not checked"));
    free(text);
    expect("show \"$D/bare.json\"", 0, "1 of 1 kernels were not checked against the reference\n");
    expect("plot \"$D/run.json\" \"$D/figures\"", 0, "roofline_m.svg");
    char *png = in_dir("figures/roof_share_m.png");
    ck_assert(pb_file_exists(png));
    free(png);
    expect("plot \"$D/bare.json\" \"$D/figures\"", 1, "no roofs to draw");
}
END_TEST

/* What a comparison of saved runs says beside its verdicts, as text, JSON and a table. */
START_TEST(noise_of_saved_runs_is_told) {
    static const char *const said[] = {"stored: A of THEN, B of ?; without both programs side by side nothing is REGRESSED",
                                       "anchors: copy +1.0 %", "noise: A: governor x", "noise: the clock moved by 10 %"};
    put("a.json", SAVED("\"time_utc\":\"THEN\",\"cycles_by\":\"chain\",\"advice\":[\"governor x\"],"
                        "\"anchors\":{\"copy\":{\"samples_s\":[[1]]}},",
                        "\"checked\":true,\"error_of_allowed\":0.25,\"cycles\":[[3e6]],"), 0600);
    put("b.json", SAVED("\"cycles_by\":\"chain\",\"anchors\":{\"copy\":{\"samples_s\":[[1.01]]}},",
                        "\"checked\":true,\"cycles\":[[3.3e6]],"), 0600);
    char *text = kernels("compare --stored \"$D/a.json\" \"$D/b.json\" --markdown \"$D/t.md\"", 4);
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        ck_assert_msg(strstr(text, said[i]) != NULL, "no '%s' in\n%s", said[i], text);
        holds("t.md", said[i]);
    }
    ck_assert(strstr(text, "clock: 3000 to 3300 MHz") && strstr(text, "anchors: copy +1.0 %\n"));
    free(text);
    free(kernels("compare --stored \"$D/a.json\" \"$D/b.json\" --json", 4));
    pb_json *out = load("out");
    const pb_json *a = pb_json_get(pb_json_get(out, "kernels")->child, "a");
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(out, "advice")), 2);
    ck_assert(pb_json_number(out, "clock_mhz_most") > 3299 && pb_json_number(a, "error_of_allowed") == 0.25);
    ck_assert(pb_json_number(a, "bytes") == 1e6 && pb_json_number(a, "flops_else") == 1e6 && pb_json_number(a, "flops") == 0);
    pb_json_free(out);
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
    tcase_add_test(t, changes_of_uncommitted_builds_are_named_so);
    tcase_add_test(t, a_line_a_kernel_and_the_exit_status_of_the_worst);
    tcase_add_test(t, a_file_that_fails_loses_nothing_else);
    tcase_add_test(t, revisions_are_built_once_and_compared);
    if (pb_counter_has_callgrind()) tcase_add_test(t, a_baseline_is_written_and_held_against);
    tcase_add_test(t, a_saved_run_is_shown_and_drawn);
    tcase_add_test(t, noise_of_saved_runs_is_told);
    return pb_run_suite(s);
}
