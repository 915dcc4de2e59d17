/* The program from outside: help, exit codes, messages, and whole suites on a tiny model. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "harness/cli.h"
#include "methods/method.h"
#include "plots/plots.h"
#include "results/record.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "tests/tiny_suite.h"

/* ---- calling it ---- */

typedef struct call {
    int code; /* exit code, or minus the signal */
    char *out, *err;
} call;

static char *scratch; /* where stdout and stderr of calls go; set by each test */

static char *slurp(const char *path) {
    char *text = NULL;
    pb_assert_ok(pb_file_read(path, 1 << 24, &text, NULL));
    return text;
}

static pid_t start(char *const *argv, const char *name) {
    char out[1200], err[1200];
    snprintf(out, sizeof out, "%s/%s.out", scratch, name);
    snprintf(err, sizeof err, "%s/%s.err", scratch, name);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid > 0) return pid;
    int o = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0644),
        e = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(o, 1);
    dup2(e, 2);
    execv(PB_BINARY, argv);
    _exit(126);
}

static call finish(pid_t pid, const char *name) {
    char path[1200];
    int status = 0;
    call c;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    c.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    snprintf(path, sizeof path, "%s/%s.out", scratch, name);
    c.out = slurp(path);
    snprintf(path, sizeof path, "%s/%s.err", scratch, name);
    c.err = slurp(path);
    return c;
}

/* The words of a call, NULL-terminated. */
static call run_words(const char *first, ...) {
    char *argv[32] = {(char *)(uintptr_t) "peftbench"};
    int n = 1;
    va_list args;
    va_start(args, first);
    for (const char *word = first; word && n < 31; word = va_arg(args, const char *))
        argv[n++] = (char *)(uintptr_t)word;
    va_end(args);
    return finish(start(argv, "call"), "call");
}
#define RUN(...) run_words(__VA_ARGS__, (const char *)NULL)

static void done_with(call *c) {
    free(c->out);
    free(c->err);
    *c = (call){0};
}

/* The call exits with `code`; stdout and stderr hold the given parts (NULL = must be empty). */
static void expect(call c, int code, const char *out, const char *err) {
    ck_assert_msg(c.code == code, "exit %d, wanted %d\nstdout: %s\nstderr: %s", c.code, code, c.out,
                  c.err);
    ck_assert_msg(out ? strstr(c.out, out) != NULL : !*c.out, "stdout: %s\nwanted: %s", c.out,
                  out ? out : "nothing");
    ck_assert_msg(err ? strstr(c.err, err) != NULL : !*c.err, "stderr: %s\nwanted: %s", c.err,
                  err ? err : "nothing");
    done_with(&c);
}

static pb_json *parsed_any(call c, int code) {
    pb_json *json = NULL;
    ck_assert_msg(c.code == code, "exit %d: %s", c.code, c.err);
    pb_assert_ok(pb_json_parse("stdout", c.out, strlen(c.out), &json));
    done_with(&c);
    return json;
}

static pb_json *parsed(call c) {
    return parsed_any(c, 0);
}

static void open_scratch(void) {
    scratch = pb_test_dir();
}

static void close_scratch(void) {
    free(scratch);
}

/* ---- help, usage, errors ---- */

START_TEST(help_names_commands_options_and_defaults) {
    expect(RUN("--help"), 0, "peftbench COMMAND", NULL);
    expect(RUN("--version"), 0, "peftbench ", NULL);
    for (int i = 0; i < pb_command_count; i++) {
        char usage[64];
        snprintf(usage, sizeof usage, "usage: peftbench %s", pb_commands[i]->name);
        expect(RUN(pb_commands[i]->name, "--help"), 0, usage, NULL);
        expect(RUN("--help"), 0, pb_commands[i]->name, NULL);
    }
    expect(RUN("run", "--help"), 0, "(default: results)", NULL);
    expect(RUN("run", "--seeds", "nonsense", "--help"), 0, "--memory-budget", NULL);
}
END_TEST

START_TEST(usage_errors_exit_2_with_one_line) {
    static const char *const cases[][6] = {
        {"unknown command 'rum'; did you mean 'run'", "rum"},
        {"unknown option '--seed'; did you mean --seeds", "run", "quick", "--seed", "3"},
        {"unknown option '--sedes=3'; did you mean --seeds", "run", "quick", "--sedes=3"},
        {"unknown option '-s'", "run", "quick", "-s"},
        {"--seeds: 'x', expected a whole number from 1 to 1000", "run", "quick", "--seeds", "x"},
        {"--seeds: '0', expected", "run", "quick", "--seeds", "0"},
        {"--seeds: '3 ', expected", "run", "quick", "--seeds=3 "},
        {"--lr: 'nan', expected a number", "run", "quick", "--lr", "nan"},
        {"--lr: '1,5', expected a number", "run", "quick", "--lr", "1,5"},
        {"--memory-budget: '5X', expected bytes", "run", "quick", "--memory-budget", "5X"},
        {"--algorithms: device 'cpu' proposes none", "bench", "ops", "--algorithms", "4"},
        {"--dtype: 'f16', expected f32, bf16 or auto", "run", "quick", "--dtype", "f16"},
        {"--seeds needs a value", "run", "quick", "--seeds"},
        {"--seeds needs a value", "run", "quick", "--seeds", "--again"},
        {"--again takes no value", "run", "quick", "--again=yes"},
        {"--steps stands twice", "run", "--steps", "3", "--steps=4"},
        {"an argument is missing", "run"},
        {"too many arguments", "run", "quick", "slow"},
        {"no suite 'quik'; did you mean 'quick'", "run", "quik"},
        {"did you mean 'models'", "list", "model"},
        {"expected step, infer or ops", "bench", "stap"},
        {"--format: 'xml', expected text or json", "info", "--format", "xml"},
        {"--model is missing", "advise", "--gpu-memory", "16GiB"},
        {"--gpu-memory is missing", "advise", "--model", "llama-7b"},
        {"did you mean \"llama-7b\"", "advise", "--gpu=h200", "--model", "lama-7b"},
        {"did you mean 'h200'", "advise", "--gpu=h20", "--model", "llama-7b"},
        {"--gpu-memory: '16Q', expected bytes", "advise", "--gpu-memory", "16Q"},
        {"--time: 'soon', expected a time", "advise", "--gpu=h200", "--model=llama-7b", "--time=soon"},
        {"--threads is of --calibrate", "advise", "--gpu=h200", "--model=llama-7b", "--threads=2"},
        {"--map draws its own models", "advise", "--map=m", "--model=llama-7b"},
        {"a plan already", "advise", "--gpu=h200", "--model=llama-7b", "--device=plan:cpu"},
        {"--time needs --gpu", "advise", "--gpu-memory=9G", "--model=llama-7b", "--time=2h"},
        {"has 2048 positions", "advise", "--gpu=h200", "--model=llama-7b", "--length=4096"},
        {"--fail-on: '', expected a value that is not empty", "compare", "/", "--fail-on", ""},
        {"--fail-on: '', expected a value that is not empty", "compare", "/", "--fail-on="},
        {"--fail-on 'worse:nll,': a gate is empty", "compare", "/", "--fail-on", "worse:nll,"},
        {"--fail-on: '', expected nothing or contradicted", "claims", "check", "/", "--fail-on", ""},
        {"--scale full: no claim is tested at it; there are ", "claims", "list", "--scale", "full"},
        {"--scale full: no claim is tested at it; there are ", "claims", "check", "/", "--scale", "full"},
        {"--scale full: no claim is tested at it; there are ", "claims", "run", "--scale", "full"},
        {"not both", "claims", "list", "--scale=small", "--claims=art-a"},
        {"an id is empty", "claims", "run", "art-b", ""},
        {"/no/such/dir is no folder", "advise", "--gpu=h200", "--model=llama-7b", "--records=/no/such/dir"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const *c = cases[i];
        call r = RUN(c[1], c[2], c[3], c[4], c[5]);
        ck_assert_msg(strncmp(r.err, "peftbench: ", 11) == 0, "%s", r.err);
        ck_assert_ptr_eq(strchr(r.err, '\n'), r.err + strlen(r.err) - 1);
        expect(r, 2, NULL, c[0]);
    }
    expect(RUN("kernels", "count", "--baseline", ""), 1, NULL, "--baseline: '', expected"); /* its own codes */
    expect(RUN("kernels", "compare", "", ""), 1, NULL, "no program peftbench there");
    expect(RUN("verify", "/no/such/folder"), 2, NULL, "/no/such/folder");
    expect(RUN("report", "/no/such/folder"), 2, NULL, "/no/such/folder");
    expect(RUN("compare", "/no/such/folder"), 2, NULL, "/no/such/folder");
    expect(RUN("compare", "/", "--fail-on", "worse:speed"), 2, NULL, "step");
}
END_TEST

START_TEST(debug_shows_where_errors_come_from) {
    expect(RUN("run", "quik"), 2, NULL, "did you mean");
    expect(RUN("--debug", "run", "quik"), 2, NULL, "suite.c:");
    expect(RUN("run", "quik", "--debug"), 2, NULL, "suite.c:");
    setenv("PB_DEBUG", "1", 1);
    expect(RUN("run", "quik"), 2, NULL, "suite.c:");
}
END_TEST

static void assert_says(const char *text, const char *part) { ck_assert_msg(strstr(text, part) != NULL, "%s", text); }

static const pb_json *advised(const pb_json *json, const char *method) {
    const pb_json *o = NULL;
    cJSON_ArrayForEach (o, pb_json_get(json, "methods"))
        if (strcmp(pb_json_get(o, "method")->valuestring, method) == 0) return o;
    ck_abort_msg("no advice for %s", method);
    return NULL;
}

/* A limit inside the range of LoRA's time leaves it in question, and that is said; one below every range leaves nothing. */
static void advice_in_time(const char *config) {
    char limit[64];
    pb_json *json = parsed(RUN("advise", "--gpu=h200", "--model", config, "--json"));
    const pb_json *lora = advised(json, "lora"), *s = pb_json_get(lora, "seconds");
    ck_assert_str_eq(pb_json_get(lora, "in_time")->valuestring, "yes"); /* no limit */
    double low = pb_json_get(s, "low")->valuedouble, high = pb_json_get(s, "high")->valuedouble;
    ck_assert(low > 0 && high > 1.1 * low);
    snprintf(limit, sizeof limit, "--time=%.9f", 0.99 * high);
    pb_json_free(json);
    json = parsed(RUN("advise", "--gpu=h200", "--model", config, limit, "--json"));
    ck_assert_str_eq(pb_json_get(advised(json, "lora"), "in_time")->valuestring, "perhaps");
    pb_json_free(json);
    expect(RUN("advise", "--gpu=h200", "--model", config, limit), 0, "perhaps in time", NULL);
    expect(RUN("advise", "--gpu=h200", "--model", config, "--time=1e-9"), 1, "Nothing ends within the time",
           "Nothing ends within the time");
}

START_TEST(advice_is_text_json_and_a_suite) {
    char suite[1200], config[1200];
    snprintf(suite, sizeof suite, "%s/advised.json", scratch);
    snprintf(config, sizeof config, "%s/config.json", scratch);
    pb_json *json = parsed(RUN("advise", "--gpu", "rtx-3090", "--model", "llama-2-7b", "--json"));
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(json, "methods")), pb_method_registry_count);
    ck_assert(cJSON_IsString(pb_json_get(json, "recommended")));
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(json, "rules")), 3);
    ck_assert(cJSON_IsTrue(pb_json_get(json, "pages"))); /* of a GPU, with or without a backend for it */
    ck_assert_str_eq(pb_json_get(pb_json_get(json, "suite"), "device")->valuestring, "cuda");
    const pb_json *full = advised(json, "full");
    ck_assert(cJSON_IsFalse(pb_json_get(full, "fits")));
    ck_assert(pb_json_get(full, "missing_bytes")->valuedouble > 1e10);
    const pb_json *rule = cJSON_GetArrayItem(pb_json_get(json, "rules"), 1);
    assert_says(pb_json_get(rule, "numbers")->valuestring, "the rule's rank was not tested: the records have LoRA at rank 8");
    assert_says(pb_json_get(pb_json_get(json, "efficiency"), "rests_on")->valuestring, " steps timed on ");
    pb_json_free(json);
    const char *text = pb_lab_config_json(PB_LAB_LLAMA);
    pb_assert_ok(pb_file_write_atomic(config, text, strlen(text)));
    advice_in_time(config);
    expect(RUN("advise", "--gpu-memory", "1GiB", "--model", config, "--suite", suite), 0, "Run ", NULL);
    expect(RUN("advise", "--gpu-memory", "1GiB", "--model", config, "--suite", suite), 0, "would test it: peftbench run ", NULL);
    expect(RUN("advise", "--gpu-memory", "1GiB", "--model", config), 0, "--suite FILE writes the suite", NULL);
    ck_assert(pb_file_exists(suite));
    expect(RUN("advise", "--gpu-memory", "513MiB", "--model", "llama-2-7b"), 1, "Nothing fits",
           "Nothing fits");
    /* a card without bf16 is planned in f32, and one that is asked for it all the same says what is meant */
    expect(RUN("advise", "--gpu=t4", "--model", config), 0, ", f32\n15.00 GiB", NULL);
    expect(RUN("advise", "--gpu=t4", "--model", config), 0, "t4: no bf16 in hardware, 8.1 TFLOP/s in f32", NULL);
    expect(RUN("advise", "--gpu=t4", "--dtype=bf16", "--model", config), 0, "time at the rate of f32", NULL);
}
END_TEST

/* What advise writes is what run takes: a folder's model and texts wherever the suite lies, and a shape. */
START_TEST(advised_suites_dry_run) {
    char suite[1200], model[1200], texts[1200], out[1200];
    snprintf(suite, sizeof suite, "%s/deep/advised.json", scratch);
    snprintf(model, sizeof model, "%s/deep", scratch);
    pb_assert_ok(pb_make_dirs(model));
    pb_tiny_suite_write(scratch);
    snprintf(model, sizeof model, "%s/model", scratch);
    snprintf(texts, sizeof texts, "%s/texts", scratch);
    snprintf(out, sizeof out, "%s/out", scratch);
    expect(RUN("advise", "--gpu-memory", "1GiB", "--model", model, "--data", texts, "--length", "16", "--batch", "4",
               "--examples", "24", "--suite", suite),
           0, "Run ", NULL);
    expect(RUN("run", suite, "--dry-run", "--out", out, "--threads", "1", "--device", "cpu"), 0,
           "tuning: 9 trials of each row", NULL);
    expect(RUN("advise", "--gpu-memory", "3GiB", "--model", "gpt2-124m", "--length", "128", "--suite", suite), 0, "Run ",
           NULL);
    expect(RUN("run", suite, "--dry-run", "--out", out, "--threads", "1", "--device", "cpu"), 0, "model shape:gpt2-124m",
           NULL);
    expect(RUN("advise", "--gpu-memory", "1GiB", "--model", model, "--data", "no-such-texts"), 2, NULL,
           "no-such-texts is no folder and no source");
}
END_TEST

/* With nothing said about data, those of a decoder's suite are texts that it can learn: they are read, and the trainer's own
 * set-up takes them. */
START_TEST(a_decoders_advised_suite_has_its_data) {
    char suite[1200], model[1200], out[1200];
    snprintf(suite, sizeof suite, "%s/decoder.json", scratch);
    snprintf(model, sizeof model, "%s/decoder", scratch);
    snprintf(out, sizeof out, "%s/out", scratch);
    pb_tiny_suite_write(scratch);
    char *vocabulary = pb_tiny_read(scratch, "model/vocab.txt");
    pb_lab_write_model(PB_LAB_LLAMA, model);
    pb_tiny_write(model, "vocab.txt", vocabulary);
    free(vocabulary);
    expect(RUN("advise", "--gpu-memory", "1GiB", "--model", model, "--batch", "4", "--examples", "64", "--suite", suite), 0,
           "Run ", NULL);
    pb_json *json = parsed(RUN("run", suite, "--dry-run", "--out", out, "--threads", "1", "--device", "cpu", "--methods",
                               "lora", "--format", "json"));
    const pb_json *runs = pb_json_get(json, "runs"), *run = NULL;
    ck_assert_int_eq(cJSON_GetArraySize(runs), 9 + 5);
    cJSON_ArrayForEach (run, runs) ck_assert_int_eq((int)pb_json_get(run, "steps")->valuedouble, 64 / 4); /* 0 without data */
    pb_json_free(json);
    expect(RUN("advise", "--gpu-memory", "1GiB", "--model", model, "--data", "wordnet"), 2, NULL,
           "wordnet is texts with labels, which a decoder cannot learn");
}
END_TEST

START_TEST(lists_and_info_are_text_and_json) {
    static const char *const what[] = {"methods", "models", "datasets", "suites", "ops", "gpus"};
    for (int i = 0; i < 5; i++) {
        pb_json *json = parsed(RUN("list", what[i], "--format=json"));
        ck_assert_int_gt(cJSON_GetArraySize(pb_json_get(json, what[i])), 0);
        pb_json_free(json);
    }
    expect(RUN("list", "methods"), 0, "lora", NULL);
    expect(RUN("list", "models"), 0, "shape:minilm", NULL);
    expect(RUN("list", "datasets"), 0, "wordnet-examples", NULL);
    expect(RUN("list", "suites"), 0, "--model DIR", NULL);
    expect(RUN("list", "suites"), 0, "quick", NULL);
    expect(RUN("list", "ops"), 0, "attention_bwd", NULL);
    expect(RUN("info"), 0, "backends", NULL);
    pb_json *info = parsed(RUN("info", "--format", "json"));
    const pb_json *cpu = pb_json_get(pb_json_get(info, "backends"), "cpu");
    ck_assert(cJSON_IsTrue(pb_json_get(cpu, "available")));
    pb_json_free(info);
}
END_TEST

START_TEST(kernels_are_listed_checked_and_saved) {
    char path[512];
    pb_json *saved = NULL, *json = parsed(RUN("kernels", "list", "--model", "shape:minilm",
                                              "--dtype", "f32", "--filter", "/axpby/", "--json"));
    ck_assert_int_eq(cJSON_GetArraySize(json), 1);
    ck_assert_str_eq(pb_json_get(json->child, "name")->valuestring, "minilm/axpby/2048 x 384/f32");
    pb_json_free(json);
    snprintf(path, sizeof path, "%s/kernels.json", scratch);
    json = parsed(RUN("kernels", "run", "--model", "shape:minilm", "--rows", "64", "--threads", "1",
                      "--dtype", "f32", "--filter", "/axpby/", "--budget", "1", "--format", "json",
                      "--save", path));
    const pb_json *one = pb_json_get(json, "kernels")->child;
    ck_assert(pb_json_get(one, "median_s")->valuedouble > 0);
    ck_assert(pb_json_get(one, "median_cycles")->valuedouble > 0); /* this machine's, one way or another */
    ck_assert(*pb_json_get(json, "cycles_by")->valuestring);
    ck_assert(pb_json_get(one, "roof_share")->valuedouble > 0);
    ck_assert(cJSON_IsTrue(pb_json_get(one, "verified")));
    ck_assert_uint_eq(strlen(pb_json_get(json, "binary_sha256")->valuestring), 64);
    pb_assert_ok(pb_json_load(path, 1 << 20, &saved));
    ck_assert(cJSON_Compare(json, saved, true));
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(one, "samples_s")), 1);
    ck_assert_int_ge(cJSON_GetArraySize(pb_json_get(one, "samples_s")->child), 3);
    pb_json_free(json);
    pb_json_free(saved);
    expect(RUN("kernels", "list", "--filter", "axbpy"), 1, NULL, "no case has this in its name");
    /* Two processes, held against another two: too few to tell, and never an accusation. */
    json = parsed(RUN("kernels", "run", "--model", "shape:minilm", "--rows", "64", "--threads", "1",
                      "--dtype", "f32", "--filter", "/axpby/", "--budget", "1s", "--format", "json",
                      "--save", path,
                      "--processes", "2"));
    one = pb_json_get(json, "kernels")->child;
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(one, "samples_s")), 2);
    ck_assert(cJSON_IsTrue(pb_json_get(one, "verified")));
    pb_json_free(json);
    json = parsed_any(RUN("kernels", "compare", "--stored", path, path, "--format", "json"), 3);
    one = pb_json_get(json, "kernels")->child;
    ck_assert_str_eq(pb_json_get(one, "verdict")->valuestring, "UNCLEAR");
    ck_assert(pb_json_get(pb_json_get(json, "anchors"), "copy")->valuedouble == 1);
    pb_json_free(json);
    expect(RUN("kernels", "run", "--budget", "soon"), 1, NULL, "expected a time above 0");
    expect(RUN("kernels", "ran"), 1, NULL, "expected list, run, show");
    /* What a command would not do is refused, not forgotten. */
    expect(RUN("kernels", "run", "--markdown", "x.md"), 1, NULL, "takes no --markdown: it is for compare");
    expect(RUN("kernels", "count", "--device", "cuda"), 1, NULL, "it is for list run compare");
    expect(RUN("kernels", "count", "--junit", "x.xml"), 1, NULL, "against which --baseline");
    expect(RUN("kernels", "trend", "x.jsonl", "--below", "80"), 1, NULL, "takes no --below");
    expect(RUN("kernels", "count", "--baseline", "/nowhere.json"), 1, NULL, "/nowhere.json");
    expect(RUN("kernels", "count", "--rows", "128", "--baseline",
               "results/reference/kernel-instructions.json"),
           1, NULL, "--rows and --dtype come from the baseline");
    expect(RUN("kernels", "baseline"), 1, NULL, "usage: peftbench kernels baseline FILE");
    expect(RUN("kernels", "baseline", "x.json", "--filter", "axpby"), 1, NULL, "no --filter");
    expect(RUN("kernels", "compare", "/nowhere", PB_BINARY), 1, NULL, "/nowhere: no program");
    expect(RUN("kernels", "compare", "--no-such"), 1, NULL, "--no-such"); /* 2 is REGRESSED */
    expect(RUN("kernels", "--aa", "compare", "nonsense"), 1, NULL, "nonsense: no program");
    expect(RUN("kernels", "trend", "/nowhere.jsonl"), 1, NULL, "/nowhere.jsonl");
    expect(RUN("kernels", "compare", "--stored", path, path, "--save", "x"), 1, NULL, "measured already");
}
END_TEST

/* A build against itself: whatever the noise, nothing is slower. */
START_TEST(a_build_is_compared_with_itself) {
    char xml[512], table[512], *text = NULL;
    snprintf(xml, sizeof xml, "%s/kernels.xml", scratch);
    snprintf(table, sizeof table, "%s/kernels.md", scratch);
    pb_json *json = parsed(RUN("kernels", "compare", PB_BINARY, PB_BINARY, "--model",
                               "shape:minilm", "--rows", "64", "--dtype", "f32", "--filter",
                               "/axpby/", "--threads",
                               "1", "--budget", "1", "--allow-unclear", "--junit", xml,
                               "--markdown", table, "--format", "json"));
    const pb_json *kernel = pb_json_get(json, "kernels")->child;
    ck_assert_str_eq(pb_json_get(json, "a_sha256")->valuestring,
                     pb_json_get(json, "b_sha256")->valuestring);
    ck_assert(pb_json_get(kernel, "ratio")->valuedouble > 0);
    ck_assert_int_eq(cJSON_GetArraySize(pb_json_get(pb_json_get(kernel, "b"), "medians_s")->child),
                     10);
    ck_assert(pb_json_get(pb_json_get(kernel, "a"), "roof_share")->valuedouble > 0);
    ck_assert(pb_json_get(kernel, "samples")->valuedouble >= 3);
    const pb_json *stage = pb_json_get(kernel, "stages")->child;
    ck_assert(pb_json_get(stage, "u")->valuedouble >= 0 && pb_json_get(stage, "p")->valuedouble > 0);
    ck_assert(pb_json_get(pb_json_get(json, "b_environment"), "libraries") != NULL);
    ck_assert_str_eq(pb_json_get(json, "differences")->valuestring, "");
    pb_json_free(json);
    pb_assert_ok(pb_file_read(xml, 1 << 20, &text, NULL));
    ck_assert(strstr(text, "tests=\"1\" failures=\"0\"") != NULL);
    free(text);
    pb_assert_ok(pb_file_read(table, 1 << 20, &text, NULL));
    ck_assert(strstr(text, "| minilm/axpby/64 x 384/f32 | ") != NULL);
    free(text);
}
END_TEST

START_TEST(benchmarks_print_rates) {
    pb_json *json = parsed(RUN("bench", "ops", "--model", "shape:minilm", "--rows", "64",
                               "--threads", "1", "--format", "json"));
    const pb_json *op = NULL;
    ck_assert_int_gt(cJSON_GetArraySize(json), 20);
    cJSON_ArrayForEach (op, json) {
        ck_assert(pb_json_get(op, "median_s")->valuedouble > 0);
        ck_assert(pb_json_get(op, "bytes_per_s")->valuedouble > 0);
    }
    pb_json_free(json);
    json = parsed(RUN("bench", "step", "--methods", "lora", "--params", "{\"rank\": 4}", "--batch",
                      "2", "--max-len", "8", "--steps", "2", "--warmup", "1", "--threads", "1",
                      "--format", "json"));
    ck_assert_int_eq(cJSON_GetArraySize(json), 1);
    ck_assert(pb_json_get(json->child, "step_s_median")->valuedouble > 0);
    pb_json_free(json);
    expect(RUN("bench", "step", "--methods", "lorra"), 2, NULL, "did you mean 'lora'");
    expect(RUN("bench", "step", "--params", "{}"), 2, NULL, "--methods");
    expect(RUN("bench", "step", "--methods", "lora", "--params", "{\"rnak\": 4}"), 2, NULL, "rank");
}
END_TEST

/* ---- whole suites ---- */

typedef struct home {
    char *dir, *file, *out;
} home;

static home settle(const char *name) {
    home h = {.dir = pb_path_join(scratch, name)};
    pb_assert_ok(pb_make_dirs(h.dir));
    pb_tiny_suite_write(h.dir);
    h.file = pb_path_join(h.dir, "tiny.json");
    h.out = pb_path_join(h.dir, "results");
    return h;
}

static void leave(home *h) {
    free(h->dir);
    free(h->file);
    free(h->out);
}

static int records_of(const char *dir, pb_run_status status) {
    pb_record *records = NULL;
    int n = 0, count = 0;
    pb_assert_ok(pb_records_load(dir, true, &records, &n));
    for (int i = 0; i < n; i++) {
        if (records[i].status != status)
            ck_assert_msg(status != PB_RUN_OK, "%s", records[i].reason);
        count += records[i].status == status;
    }
    pb_records_free(records, n);
    return count;
}

#define TINY(h, ...) RUN("run", (h).file, "--out", (h).out, "--threads", "1", __VA_ARGS__)

START_TEST(a_suite_runs_resumes_verifies_and_reports) {
    home h = settle("Käse und Brot");
    setenv("LC_ALL", "de_DE.UTF-8", 1); /* decimals with a comma must change nothing */
    expect(TINY(h, "--no-report"), 0, "LoRA r2", "[4/4]");
    ck_assert_int_eq(records_of(h.out, PB_RUN_OK), 4);
    expect(TINY(h, "--no-report"), 0, "2 ok", "4 of 4 runs were finished already");
    expect(RUN("verify", h.out), 0, "4 records", NULL);
    expect(RUN("verify", h.out, "--memory-within", "5"), 0, "4 runs: predicted and measured peak memory are the same", NULL);
    pb_json *json = parsed(RUN("verify", h.out, "--format", "json", "--memory-within", "5"));
    ck_assert_int_eq((int)pb_json_get(json, "checked")->valuedouble, 4);
    ck_assert_int_eq((int)pb_json_get(json, "bad")->valuedouble, 0);
    ck_assert_int_eq((int)pb_json_get(pb_json_get(json, "memory"), "runs")->valuedouble, 4);
    pb_json_free(json);
    json = parsed(TINY(h, "--no-report", "--format=json"));
    ck_assert_int_eq(cJSON_GetArraySize(json), 2);
    pb_json_free(json);
    leave(&h);
}
END_TEST

START_TEST(equal_seeds_give_equal_samples) {
    home h = settle("one"), again = settle("two");
    expect(TINY(h, "--no-report", "--seeds=1"), 0, "full", "[2/2]");
    expect(RUN("run", again.file, "--out", again.out, "--threads", "2", "--no-report", "--seeds=1"),
           0, "full", "[2/2]");
    pb_record *a = NULL, *b = NULL;
    int n = 0, m = 0;
    pb_assert_ok(pb_records_load(h.out, true, &a, &n));
    pb_assert_ok(pb_records_load(again.out, true, &b, &m));
    ck_assert_int_eq(n, 2);
    ck_assert_int_eq(m, 2);
    for (int i = 0; i < n; i++) {
        ck_assert_str_eq(a[i].run_id, b[i].run_id);
        const pb_sample *x = pb_record_find_sample(&a[i], "eval/test/nll"),
                        *y = pb_record_find_sample(&b[i], "eval/test/nll");
        ck_assert(x && y);
        ck_assert_str_eq(x->sha256, y->sha256);
    }
    pb_records_free(a, n);
    pb_records_free(b, m);
    leave(&h);
    leave(&again);
}
END_TEST

START_TEST(a_report_and_plots_follow) {
    home h = settle("report");
    char file[1200], suite[1100];
    expect(TINY(h, "--seeds", "2"), 0, "report.html", "[4/4]");
    snprintf(suite, sizeof suite, "%s/tiny", h.out);
    static const char *const files[] = {"report.html", "report.md", "report.tex", "summary.csv"};
    for (int i = 0; i < 4; i++) {
        snprintf(file, sizeof file, "%s/%s", suite, files[i]);
        ck_assert_msg(pb_file_exists(file), "%s", file);
        ck_assert_int_eq(unlink(file), 0);
    }
    expect(RUN("report", suite), 0, "report.html", NULL);
    for (int i = 0; i < 4; i++) {
        snprintf(file, sizeof file, "%s/%s", suite, files[i]);
        ck_assert_msg(pb_file_exists(file), "%s", file);
    }
    expect(RUN("compare", suite), 0, "Verdicts", NULL);
    expect(RUN("compare", suite, "--format", "json"), 0, "\"comparisons\"", NULL);
    /* None can take less than no memory; of a few steps no quality is judged, which no gate lets pass. */
    expect(RUN("compare", suite, "--fail-on", "better:memory:101"), 0, "Verdicts", NULL);
    expect(RUN("compare", suite, "--fail-on", "better:nll:1000"), 1, "Verdicts", "training steps");
    expect(RUN("compare", suite, "--fail-on", "worse:memory"), 1, "Verdicts", "peak memory");
    if (pb_plots_available() == PB_OK) expect(RUN("plot", suite), 0, ".svg", NULL);
    setenv("PATH", "/no/such/place", 1);
    expect(RUN("plot", suite), 3, NULL, "gnuplot");
    expect(TINY(h, "--seeds", "2"), 0, "report.html", "gnuplot");
    leave(&h);
}
END_TEST

/* Replaces the first `from` in a file of the suite's folder, which may be binary. */
static void edit(const home *h, const char *file, const char *from, const char *to) {
    char *path = pb_path_join(h->dir, file), *text = NULL;
    size_t len = 0, at = 0, n = strlen(from), m = strlen(to);
    pb_assert_ok(pb_file_read(path, 1 << 24, &text, &len));
    while (at + n <= len && memcmp(text + at, from, n) != 0) at++;
    ck_assert_msg(at + n <= len, "%s holds no %s", file, from);
    char *edited = malloc(len + m + 1);
    ck_assert_ptr_nonnull(edited);
    memcpy(edited, text, at);
    memcpy(edited + at, to, m);
    memcpy(edited + at + m, text + at + n, len - at - n);
    pb_assert_ok(pb_file_write_atomic(path, edited, len - n + m));
    free(edited);
    free(text);
    free(path);
}

/* What every run of a row would refuse is refused once, before any run starts. */
START_TEST(what_a_run_would_refuse_is_refused_before) {
    static const struct {
        const char *file, *from, *to, *said;
    } cases[] = {
        {"tiny.json", "\"rank\": 2", "\"rank\": 999",
         "tiny.json: 'LoRA r2': lora: rank 999 at 'layers.0.attn.q' is above its limit 32"},
        {"tiny.json", "\"rank\": 2", "\"targets\": [\"*.nope\"]",
         "tiny.json: 'LoRA r2': lora: target '*.nope' matches no linear layer"},
        {"model/config.json", "\"max_position_embeddings\": 40", "\"max_position_embeddings\": 4",
         "tokens, the model has 4 positions; set max_len"},
        {"model/config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
         "model: tensor encoder.layer.2.attention.self.query.weight is missing"},
        {"model/config.json", "\"intermediate_size\": 64", "\"intermediate_size\": 65",
         "weight has shape [64,32], expected [65,32]"},
        {"model/model.safetensors", "F32", "I32", "dtype I32, expected F32, F16, BF16 or F64"},
        {"texts/train.jsonl", "\"label\"", "\"lable\"",
         "train.jsonl:1: unknown key \"lable\": did you mean \"label\"?"},
        {"texts/train.jsonl", "\"label\"", "\"label", "train.jsonl:1:"},
        {"texts/test.jsonl", "\"blue\"", "\"pink\"",
         "test.jsonl:1: label \"pink\" is in no training example"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[16];
        snprintf(name, sizeof name, "refused%zu", i);
        home h = settle(name);
        edit(&h, cases[i].file, cases[i].from, cases[i].to);
        call c = TINY(h, "--no-report");
        ck_assert_msg(*c.err && strchr(c.err, '\n') == c.err + strlen(c.err) - 1, "%s", c.err);
        expect(c, 2, NULL, cases[i].said);
        ck_assert_msg(!pb_is_dir(h.out), "%s left something behind", cases[i].said);
        expect(TINY(h, "--dry-run"), 2, NULL, cases[i].said);
        leave(&h);
    }
}
END_TEST

/* A decoder has no head to train alone: that row fails, the others are measured. */
START_TEST(a_row_that_does_not_apply_is_a_row) {
    home h = settle("decoder");
    pb_text lines = {0};
    char *model = pb_path_join(h.dir, "decoder"), *texts = pb_path_join(h.dir, "prompts");
    char *vocabulary = pb_tiny_read(h.dir, "model/vocab.txt");
    for (int i = 0; i < 40; i++)
        pb_text_add(&lines, "{\"prompt\": \"a %c\", \"completion\": \"b c\"}\n", 'a' + i % 26);
    pb_assert_ok(pb_make_dirs(texts));
    pb_lab_write_model(PB_LAB_LLAMA, model);
    pb_tiny_write(model, "vocab.txt", vocabulary);
    pb_tiny_write(texts, "train.jsonl", lines.data);
    edit(&h, "tiny.json", "{\"label\": \"full\"",
         "{\"label\": \"head\", \"method\": \"head\", \"lr\": 1e-3},\n  {\"label\": \"full\"");
    expect(TINY(h, "--no-report", "--model", model, "--data", texts, "--seeds", "1"), 1, "1 failed",
           "head, seed 1: failed: nothing to train");
    ck_assert_int_eq(records_of(h.out, PB_RUN_FAILED), 1);
    pb_text_free(&lines);
    free(vocabulary);
    free(texts);
    free(model);
    leave(&h);
}
END_TEST

START_TEST(dry_run_predicts_and_trains_nothing) {
    home h = settle("dry");
    expect(TINY(h, "--dry-run"), 0, "optimizer", NULL);
    ck_assert(!pb_is_dir(h.out));
    pb_json *json = parsed(TINY(h, "--dry-run", "--format", "json"));
    const pb_json *runs = pb_json_get(json, "runs"), *run = NULL;
    ck_assert_int_eq(cJSON_GetArraySize(runs), 4);
    cJSON_ArrayForEach (run, runs) {
        ck_assert(pb_json_get(pb_json_get(run, "memory_bytes"), "total")->valuedouble > 0);
        ck_assert(pb_json_get(run, "seconds_per_step")->valuedouble > 0);
    }
    pb_json_free(json);
    expect(TINY(h, "--dry-run", "--memory-budget", "1Gi"), 0, "optimizer", NULL);
    expect(TINY(h, "--dry-run", "--memory-budget", "4K"), 1, "optimizer",
           "over the memory budget of 3.9 KiB (4000 bytes)");
    leave(&h);
}
END_TEST

START_TEST(a_budget_that_is_too_small_is_a_row) {
    home h = settle("oom");
    expect(TINY(h, "--memory-budget", "4Ki", "--no-report"), 1, "2 oom", "4 of 4 runs failed");
    ck_assert_int_eq(records_of(h.out, PB_RUN_OOM), 4);
    expect(TINY(h, "--no-report"), 0, "2 ok", "[4/4]");
    ck_assert_int_eq(records_of(h.out, PB_RUN_OK), 4);
    leave(&h);
}
END_TEST

START_TEST(overrides_have_their_own_folder) {
    home h = settle("overrides");
    char *texts = pb_path_join(h.dir, "texts"), *here = pb_path_join(h.out, "tiny-texts-steps2");
    expect(TINY(h, "--no-report", "--steps", "2", "--methods", "full", "--seeds", "1", "--data",
                texts),
           0, "full", "[1/1]");
    ck_assert_int_eq(records_of(here, PB_RUN_OK), 1);
    expect(TINY(h, "--no-report", "--model", "/no/such/model"), 3, NULL, "--model");
    expect(TINY(h, "--no-report", "--model", "shape:minilm"), 2, NULL, "not trained");
    expect(TINY(h, "--no-report", "--data", "/no/such/data"), 2, NULL, "no such folder");
    free(texts);
    free(here);
    leave(&h);
}
END_TEST

START_TEST(places_that_cannot_be_written_are_named) {
    home h = settle("blocked");
    char *file = pb_path_join(h.dir, "file"), *below = pb_path_join(file, "results");
    pb_tiny_write(h.dir, "file", "x");
    expect(RUN("run", h.file, "--out", file), 2, NULL, "is a file");
    call c = RUN("run", h.file, "--out", below);
    ck_assert_msg(c.code == 3 || c.code == 2, "%d", c.code);
    expect(c, c.code, NULL, below);
    expect(RUN("run", h.file, "--out", "/proc/no-such-place"), 3, NULL, "/proc/no-such-place");
    free(file);
    free(below);
    leave(&h);
}
END_TEST

/* No file may grow beyond 2 KiB: the stand-in for a full disk. Nothing half-written stays, and
 * later the same command does everything. */
START_TEST(a_full_disk_leaves_nothing_behind) {
    home h = settle("full");
    struct rlimit before, small;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 2048;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    call c = TINY(h, "--no-report");
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    expect(c, 3, NULL, h.out);
    pb_record *records = NULL;
    int n = 0;
    pb_assert_fails(pb_records_load(h.out, true, &records, &n), PB_E_INPUT, "");
    expect(TINY(h, "--no-report"), 0, "2 ok", "[4/4]");
    ck_assert_int_eq(records_of(h.out, PB_RUN_OK), 4);
    leave(&h);
}
END_TEST

/* From too little to load anything up to enough: a clear line or a row, never a crash. */
START_TEST(too_little_address_space_is_said) {
    struct rlimit before, small;
    int failed = 0;
#ifdef PB_SANITIZED
    return; /* the sanitizers' own shadow needs terabytes */
#endif
    home h = settle("narrow");
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
    for (int mib = 110; mib <= 230; mib += 20) {
        small = before;
        small.rlim_cur = (rlim_t)mib << 20;
        ck_assert_int_eq(setrlimit(RLIMIT_AS, &small), 0);
        call c = TINY(h, "--no-report", "--data", "wordnet", "--seeds", "1", "--methods", "full");
        ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
        ck_assert_msg(c.code == 0 || c.code == 1 || c.code == 3, "%d MiB: exit %d: %s", mib, c.code,
                      c.err);
        if (c.code) ck_assert_msg(strstr(c.err, "peftbench: ") != NULL, "%s", c.err);
        failed += c.code != 0;
        done_with(&c);
    }
    ck_assert_int_gt(failed, 0);
    leave(&h);
}
END_TEST

START_TEST(a_signal_ends_a_suite_with_its_code) {
    home h = settle("signal");
    int signal_number = _i ? SIGINT : SIGTERM;
    char *const argv[] = {(char *)(uintptr_t) "peftbench",
                          (char *)(uintptr_t) "run",
                          h.file,
                          (char *)(uintptr_t) "--out",
                          h.out,
                          (char *)(uintptr_t) "--steps",
                          (char *)(uintptr_t) "500000",
                          NULL};
    pid_t pid = start(argv, "signal");
    char *suite = pb_path_join(h.out, "tiny-steps500000"), path[1200];
    struct timespec nap = {.tv_nsec = 20000000};
    snprintf(path, sizeof path, "%s/signal.err", scratch);
    for (int i = 0; i < 3000; i++) { /* until a run has started */
        char *err = pb_file_exists(path) ? slurp(path) : strdup("");
        bool started = strstr(err, "started") != NULL;
        free(err);
        if (started) break;
        nanosleep(&nap, NULL);
    }
    int64_t begin = pb_now_ns();
    kill(pid, signal_number);
    call c = finish(pid, "signal");
    ck_assert_int_lt(pb_now_ns() - begin, INT64_C(6000000000));
    expect(c, 128 + signal_number, NULL, "the same command goes on from here");
    ck_assert_int_eq(records_of(suite, PB_RUN_INTERRUPTED), 1);
    free(suite);
    leave(&h);
}
END_TEST

START_TEST(eight_programs_share_a_folder) {
    home h = settle("eight");
    pid_t pids[8];
    char name[8][24];
    char *const argv[] = {(char *)(uintptr_t) "peftbench",
                          (char *)(uintptr_t) "run",
                          h.file,
                          (char *)(uintptr_t) "--out",
                          h.out,
                          (char *)(uintptr_t) "--threads=1",
                          (char *)(uintptr_t) "--no-report",
                          NULL};
    for (int i = 0; i < 8; i++) {
        snprintf(name[i], sizeof name[i], "eight%d", i);
        pids[i] = start(argv, name[i]);
    }
    int ended = 0;
    for (int i = 0; i < 8; i++) {
        call c = finish(pids[i], name[i]);
        for (const char *p = c.err; (p = strstr(p, ": ok, ")); p++) ended++;
        expect(c, 0, "LoRA r2", "");
    }
    ck_assert_int_eq(ended, 4); /* each run was done by exactly one of them */
    ck_assert_int_eq(records_of(h.out, PB_RUN_OK), 4);
    expect(RUN("verify", h.out), 0, "4 records", NULL);
    leave(&h);
}
END_TEST

START_TEST(verify_finds_a_changed_byte) {
    home h = settle("changed");
    char **names = NULL, path[2400];
    size_t n = 0;
    expect(TINY(h, "--no-report", "--seeds", "1", "--methods", "full"), 0, "full", "ok");
    snprintf(path, sizeof path, "%s/tiny", h.out);
    pb_assert_ok(pb_list_dir(path, &names, &n));
    snprintf(path, sizeof path, "%s/tiny/%s", h.out, names[n - 1]);
    char *text = pb_tiny_read(path, "record.json");
    char *digit = strstr(text, "\"seed\": \"1\"");
    ck_assert_ptr_nonnull(digit);
    digit[9] = (char)50;
    pb_tiny_write(path, "record.json", text);
    expect(RUN("verify", h.out), 1, "record.json", "1 of 1");
    free(text);
    pb_names_free(names, n);
    leave(&h);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cli");
    TCase *t = pb_test_case(s, "words");
    tcase_add_checked_fixture(t, open_scratch, close_scratch);
    tcase_add_test(t, help_names_commands_options_and_defaults);
    tcase_add_test(t, usage_errors_exit_2_with_one_line);
    tcase_add_test(t, debug_shows_where_errors_come_from);
    tcase_add_test(t, advice_is_text_json_and_a_suite);
    tcase_add_test(t, advised_suites_dry_run);
    tcase_add_test(t, a_decoders_advised_suite_has_its_data);
    tcase_add_test(t, lists_and_info_are_text_and_json);
    tcase_add_test(t, benchmarks_print_rates);
    tcase_add_test(t, kernels_are_listed_checked_and_saved);
    tcase_add_test(t, a_build_is_compared_with_itself);
    t = pb_test_case(s, "suites");
    tcase_add_checked_fixture(t, open_scratch, close_scratch);
    tcase_add_test(t, a_suite_runs_resumes_verifies_and_reports);
    tcase_add_test(t, equal_seeds_give_equal_samples);
    tcase_add_test(t, a_report_and_plots_follow);
    tcase_add_test(t, what_a_run_would_refuse_is_refused_before);
    tcase_add_test(t, a_row_that_does_not_apply_is_a_row);
    tcase_add_test(t, dry_run_predicts_and_trains_nothing);
    tcase_add_test(t, a_budget_that_is_too_small_is_a_row);
    tcase_add_test(t, overrides_have_their_own_folder);
    tcase_add_test(t, places_that_cannot_be_written_are_named);
    tcase_add_test(t, a_full_disk_leaves_nothing_behind);
    tcase_add_test(t, too_little_address_space_is_said);
    tcase_add_loop_test(t, a_signal_ends_a_suite_with_its_code, 0, 2);
    tcase_add_test(t, eight_programs_share_a_folder);
    tcase_add_test(t, verify_finds_a_changed_byte);
    return pb_run_suite(s);
}
