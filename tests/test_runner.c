/* harness/runner*.c and progress.c: what becomes of a run whatever happens to its process. The
 * training is a stand-in, so that it can crash, hang and lie on demand; the real one runs in
 * tests/test_cli.c. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/environment.h"
#include "harness/runner_impl.h"
#include "tests/support.h"
#include "tests/tiny_suite.h"

enum { N_RUNS = 4 };

/* ---- a stand-in for pb_run_execute ---- */

typedef enum act {
    ACT_OK,
    ACT_ABORT,
    ACT_KILL,
    ACT_EXIT,
    ACT_ERROR,
    ACT_DIVERGE,
    ACT_OOM,
    ACT_WAIT,
    ACT_DEAF
} act;

static act acts[8];      /* by the place of the call: what the n-th run of this process does */
static char diary[1200]; /* one line per started run */

static void write_diary(const char *line) {
    char text[128];
    int n = snprintf(text, sizeof text, "%s\n", line);
    int fd = open(diary, O_WRONLY | O_APPEND | O_CREAT, 0644);
    ck_assert(fd >= 0 && write(fd, text, (size_t)n) == n);
    close(fd);
}

static int diary_lines(const char *of) {
    char *text = NULL;
    int n = 0;
    if (!pb_file_exists(diary)) return 0;
    pb_assert_ok(pb_file_read(diary, 1 << 20, &text, NULL));
    for (char *p = text, *end; *p; p = end + 1) {
        end = strchr(p, '\n');
        *end = 0;
        n += !of || strcmp(p, of) == 0;
    }
    free(text);
    return n;
}

static pb_status fill(const pb_run_config *run, const pb_assets *assets, pb_record *r) {
    PB_RETURN(
        pb_run_config_json(run, assets->model_sha256, pb_dataset_sha256(assets->data), &r->config));
    PB_RETURN(pb_run_id_of(r->config, r->run_id));
    pb_copy(r->suite, sizeof r->suite, run->suite);
    pb_copy(r->method, sizeof r->method, run->method->name);
    pb_copy(r->label, sizeof r->label, run->label);
    r->seed = run->seed;
    r->model = cJSON_CreateObject();
    r->dataset = cJSON_CreateObject();
    pb_json_add_str(r->model, "name", assets->model_name);
    pb_json_add_str(r->dataset, "name", pb_dataset_name(assets->data));
    pb_utc_now(r->started);
    pb_utc_now(r->ended);
    return PB_OK;
}

static void nap_ms(long ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static pb_status stand_in(const pb_run_config *run, const pb_assets *assets,
                          const pb_run_options *options, pb_record *r) {
    struct rlimit no_core = {0, 0};
    PB_RETURN(fill(run, assets, r));
    int nth = diary_lines(NULL);
    write_diary(r->run_id);
    setrlimit(RLIMIT_CORE, &no_core);
    for (int64_t i = 0; i <= 2; i++) {
        pb_progress_event e = {
            .phase = "train", .step = i, .steps = 2, .loss = 1.5, .examples_per_s = 100};
        options->progress(options->user, &e);
    }
    switch (nth < 8 ? acts[nth] : ACT_OK) {
    case ACT_OK: break;
    case ACT_ABORT: raise(SIGABRT); break;
    case ACT_KILL: raise(SIGKILL); break;
    case ACT_EXIT: _exit(7);
    case ACT_ERROR: return PB_ERROR(PB_E_INPUT, "the stand-in says no");
    case ACT_DIVERGE:
        r->status = PB_RUN_DIVERGED;
        strcpy(r->reason, "loss is nan at step 2");
        break;
    case ACT_OOM: return PB_ERROR(PB_E_OOM, "no memory for 1 byte");
    case ACT_WAIT:
        while (!*options->stop) nap_ms(5);
        r->status = PB_RUN_INTERRUPTED;
        strcpy(r->reason, "told to stop");
        break;
    case ACT_DEAF:
        for (;;) nap_ms(1000);
    }
    return PB_OK;
}

/* ---- a place to run in ---- */

typedef struct place {
    char *dir, *out, *file;
    pb_suite suite;
    pb_runner_options options;
    pb_runner_summary summary;
    FILE *log;
} place;

static void settle(place *p) {
    *p = (place){.dir = pb_test_dir()};
    memset(acts, 0, sizeof acts);
    p->out = pb_path_join(p->dir, "results");
    p->file = pb_path_join(p->dir, "tiny.json");
    snprintf(diary, sizeof diary, "%s/diary", p->dir);
    pb_tiny_suite_write(p->dir);
    pb_assert_ok(pb_suite_load(p->file, NULL, &p->suite));
    ck_assert_int_eq(p->suite.n_runs, N_RUNS);
    char *log = pb_path_join(p->dir, "log");
    p->log = fopen(log, "w+");
    ck_assert_ptr_nonnull(p->log);
    free(log);
    p->options =
        (pb_runner_options){.out_dir = p->out, .threads = 1, .log = p->log, .execute = stand_in};
}

static void leave(place *p) {
    pb_suite_free(&p->suite);
    fclose(p->log);
    free(p->dir);
    free(p->out);
    free(p->file);
}

static pb_status go(place *p) {
    return pb_runner_run(&p->suite, &p->options, &p->summary);
}

static int count_status(const place *p, pb_run_status status, const char *reason) {
    pb_record *records = NULL;
    int n = 0, count = 0;
    pb_assert_ok(pb_records_load(p->out, true, &records, &n));
    for (int i = 0; i < n; i++) {
        bool said = !reason || strstr(records[i].reason, reason);
        if (records[i].status == status && !said) ck_abort_msg("reason: %s", records[i].reason);
        count += records[i].status == status && said;
    }
    pb_records_free(records, n);
    return count;
}

static void logged(const place *p, const char *part) {
    char *text = pb_tiny_read(p->dir, "log");
    ck_assert_msg(strstr(text, part) != NULL, "%s is not in: %s", part, text);
    free(text);
}

/* ---- plain ---- */

START_TEST(every_run_gets_a_record_once) {
    place p;
    settle(&p);
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_done, N_RUNS);
    ck_assert_int_eq(p.summary.n_bad, 0);
    ck_assert_int_eq(count_status(&p, PB_RUN_OK, NULL), N_RUNS);
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_done, 0);
    ck_assert_int_eq(p.summary.n_skipped, N_RUNS);
    ck_assert_int_eq(diary_lines(NULL), N_RUNS);
    logged(&p, "4 of 4 runs were finished already");
    int checked = 0, bad = 0;
    pb_assert_ok(pb_records_verify(p.out, NULL, &checked, &bad));
    ck_assert_int_eq(checked, N_RUNS);
    p.options.again = true;
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_done, N_RUNS);
    ck_assert_int_eq(diary_lines(NULL), 2 * N_RUNS);
    logged(&p, "--again: removing the finished run");
    leave(&p);
}
END_TEST

START_TEST(seeds_are_outermost_and_rows_are_shuffled_the_same_way) {
    place p;
    int *order = NULL, *same = NULL;
    settle(&p);
    p.suite.n_runs = 0;
    pb_suite big = {.n_runs = 40, .runs = calloc(40, sizeof(pb_run_config))};
    for (int i = 0; i < 40; i++) big.runs[i].seed = (uint64_t)i % 4; /* ten rows, four seeds */
    pb_assert_ok(pb_runner_order(&big, &order));
    pb_assert_ok(pb_runner_order(&big, &same));
    bool seen[40] = {false}, moved = false;
    for (int i = 0; i < 40; i++) {
        ck_assert_int_eq(order[i], same[i]);
        ck_assert(!seen[order[i]]);
        seen[order[i]] = true;
        ck_assert_uint_eq(big.runs[order[i]].seed, (uint64_t)i / 10);
        if (i % 10) moved = moved || order[i] < order[i - 1];
    }
    ck_assert(moved);
    free(order);
    free(same);
    free(big.runs);
    leave(&p);
}
END_TEST

/* ---- what a child may do ---- */

static const struct fate {
    act what;
    pb_run_status status;
    const char *reason;
} fates[] = {
    {ACT_ABORT, PB_RUN_FAILED, "SIGABRT"},
    {ACT_KILL, PB_RUN_FAILED, "SIGKILL"},
    {ACT_EXIT, PB_RUN_FAILED, "status 7"},
    {ACT_ERROR, PB_RUN_FAILED, "the stand-in says no"},
    {ACT_OOM, PB_RUN_OOM, "no memory for 1 byte"},
};

START_TEST(a_failed_run_is_a_row_and_is_repeated) {
    place p;
    settle(&p);
    acts[1] = fates[_i].what;
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_done, N_RUNS);
    ck_assert_int_eq(p.summary.n_bad, 1);
    ck_assert_int_eq(count_status(&p, fates[_i].status, fates[_i].reason), 1);
    ck_assert_int_eq(count_status(&p, PB_RUN_OK, NULL), N_RUNS - 1);
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_done, 1);
    ck_assert_int_eq(p.summary.n_skipped, N_RUNS - 1);
    ck_assert_int_eq(count_status(&p, PB_RUN_OK, NULL), N_RUNS);
    leave(&p);
}
END_TEST

START_TEST(a_diverged_run_is_a_result) {
    place p;
    settle(&p);
    acts[0] = ACT_DIVERGE;
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_bad, 0);
    ck_assert_int_eq(count_status(&p, PB_RUN_DIVERGED, "nan at step 2"), 1);
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_done, 0);
    leave(&p);
}
END_TEST

START_TEST(a_damaged_record_is_repeated) {
    place p;
    char **names = NULL, text[1200];
    size_t n = 0;
    settle(&p);
    pb_assert_ok(go(&p));
    snprintf(text, sizeof text, "%s/tiny", p.out);
    pb_assert_ok(pb_list_dir(text, &names, &n));
    ck_assert_str_eq(names[0], ".claims");
    snprintf(text, sizeof text, "%s/tiny/%s", p.out, names[1]);
    pb_tiny_write(text, "record.json", "{\"torn");
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_done, 1);
    ck_assert_int_eq(count_status(&p, PB_RUN_OK, NULL), N_RUNS);
    logged(&p, "damaged");
    pb_names_free(names, n);
    leave(&p);
}
END_TEST

/* ---- signals and kills: the runner itself is a child here ---- */

static pid_t go_in_child(place *p) {
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        pb_status status = go(p);
        _exit(p->summary.signal ? 100 + p->summary.signal : (int)status);
    }
    return pid;
}

static void wait_for_lines(int n) {
    for (int i = 0; diary_lines(NULL) < n; i++) {
        ck_assert_msg(i < 6000, "no run started");
        nap_ms(10);
    }
}

static int exit_of(pid_t pid) {
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

START_TEST(a_signal_stops_the_run_and_the_suite_goes_on_later) {
    place p;
    int signal_number = _i ? SIGINT : SIGTERM;
    settle(&p);
    acts[1] = ACT_WAIT;
    pid_t pid = go_in_child(&p);
    wait_for_lines(2);
    nap_ms(50);
    int64_t start = pb_now_ns();
    kill(pid, signal_number);
    ck_assert_int_eq(exit_of(pid), 100 + signal_number);
    ck_assert_int_lt(pb_now_ns() - start, INT64_C(5000000000));
    ck_assert_int_eq(count_status(&p, PB_RUN_INTERRUPTED, "told to stop"), 1);
    ck_assert_int_eq(count_status(&p, PB_RUN_OK, NULL), 1);
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_done, N_RUNS - 1);
    ck_assert_int_eq(count_status(&p, PB_RUN_OK, NULL), N_RUNS);
    leave(&p);
}
END_TEST

START_TEST(a_deaf_run_is_killed_in_time) {
    place p;
    settle(&p);
    acts[0] = ACT_DEAF;
    pid_t pid = go_in_child(&p);
    wait_for_lines(1);
    int64_t start = pb_now_ns();
    kill(pid, SIGTERM);
    ck_assert_int_eq(exit_of(pid), 100 + SIGTERM);
    ck_assert_int_lt(pb_now_ns() - start, INT64_C(6000000000));
    ck_assert_int_eq(count_status(&p, PB_RUN_INTERRUPTED, "SIGTERM"), 1);
    leave(&p);
}
END_TEST

START_TEST(a_second_signal_ends_at_once) {
    place p;
    settle(&p);
    acts[0] = ACT_DEAF;
    pid_t pid = go_in_child(&p);
    wait_for_lines(1);
    kill(pid, SIGINT);
    nap_ms(300);
    int64_t start = pb_now_ns();
    kill(pid, SIGINT);
    ck_assert_int_eq(exit_of(pid), 128 + SIGINT);
    ck_assert_int_lt(pb_now_ns() - start, INT64_C(1000000000));
    leave(&p);
}
END_TEST

/* kill -9 of the suite: its child dies with it, its claim is taken over, what was done stays done.
 */
START_TEST(a_killed_suite_continues) {
    place p;
    settle(&p);
    acts[2] = ACT_DEAF;
    pid_t pid = go_in_child(&p);
    wait_for_lines(3);
    kill(pid, SIGKILL);
    ck_assert_int_eq(exit_of(pid), -SIGKILL);
    acts[2] = ACT_OK;
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_skipped, 2);
    ck_assert_int_eq(p.summary.n_done, 2);
    ck_assert_int_eq(diary_lines(NULL), N_RUNS + 1);
    ck_assert_int_eq(count_status(&p, PB_RUN_OK, NULL), N_RUNS);
    leave(&p);
}
END_TEST

/* ---- several at once ---- */

START_TEST(eight_suites_on_one_folder_do_each_run_once) {
    place p;
    pid_t pids[8];
    settle(&p);
    pb_suite_free(&p.suite);
    pb_suite_overrides more = {.seeds = 10};
    pb_assert_ok(pb_suite_load(p.file, &more, &p.suite));
    for (int i = 0; i < 8; i++) pids[i] = go_in_child(&p);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(exit_of(pids[i]), PB_OK);
    ck_assert_int_eq(diary_lines(NULL), 20);
    ck_assert_int_eq(count_status(&p, PB_RUN_OK, NULL), 20);
    pb_assert_ok(pb_records_verify(p.out, NULL, NULL, NULL));
    leave(&p);
}
END_TEST

START_TEST(claims_know_their_owner) {
    char *dir = pb_test_dir(), owner[128], text[256], host[80] = "";
    pb_claim claim;
    pb_assert_ok(pb_claim_take(dir, "a", &claim, owner));
    ck_assert_int_eq(claim, PB_CLAIM_MINE);
    pb_assert_ok(pb_claim_take(dir, "a", &claim, owner)); /* this process lives */
    ck_assert_int_eq(claim, PB_CLAIM_BUSY);
    pb_claim_release(dir, "a");
    pb_assert_ok(pb_claim_take(dir, "a", &claim, owner));
    ck_assert_int_eq(claim, PB_CLAIM_MINE);
    char *mine = pb_tiny_read(dir, "a");
    long long pid;
    unsigned long long start;
    char boot[64];
    ck_assert_int_eq(sscanf(mine, "%lld %llu %63s %79s", &pid, &start, boot, host), 4);
    /* The same number but another start: the owner is dead, somebody else has its number. */
    snprintf(text, sizeof text, "%lld %llu %s %s\n", pid, start + 1, boot, host);
    pb_tiny_write(dir, "a", text);
    pb_assert_ok(pb_claim_take(dir, "a", &claim, owner));
    ck_assert_int_eq(claim, PB_CLAIM_MINE);
    snprintf(text, sizeof text, "%lld %llu another-boot %s\n", pid, start, host);
    pb_tiny_write(dir, "a", text);
    pb_assert_ok(pb_claim_take(dir, "a", &claim, owner));
    ck_assert_int_eq(claim, PB_CLAIM_MINE);
    pb_tiny_write(dir, "a", ""); /* its owner died while writing it */
    pb_assert_ok(pb_claim_take(dir, "a", &claim, owner));
    ck_assert_int_eq(claim, PB_CLAIM_MINE);
    pb_tiny_write(dir, "a", "1 1 - another-host\n");
    pb_assert_ok(pb_claim_take(dir, "a", &claim, owner));
    ck_assert_int_eq(claim, PB_CLAIM_REMOTE);
    ck_assert_ptr_nonnull(strstr(owner, "another-host"));
    free(mine);
    free(dir);
}
END_TEST

/* ---- folders ---- */

START_TEST(other_settings_are_not_mixed_in) {
    place p;
    settle(&p);
    pb_assert_ok(go(&p));
    pb_suite_free(&p.suite);
    char *text = strdup(pb_tiny_suite_json);
    memcpy(strstr(text, "1e-3"), "2e-3", 4);
    pb_tiny_write(p.dir, "tiny.json", text);
    pb_assert_ok(pb_suite_load(p.file, NULL, &p.suite));
    pb_assert_fails(go(&p), PB_E_INPUT, "'LoRA r2'");
    ck_assert_int_eq(diary_lines(NULL), N_RUNS);
    pb_suite_free(&p.suite);
    /* Fewer seeds, other rows of the same file, more seeds: fine. */
    pb_suite_overrides o = {.seeds = 3, .methods = "full"};
    pb_assert_ok(pb_suite_load(p.file, &o, &p.suite));
    pb_assert_ok(go(&p));
    ck_assert_int_eq(p.summary.n_done, 1);
    free(text);
    leave(&p);
}
END_TEST

START_TEST(a_folder_that_cannot_be_made_is_named) {
    place p;
    settle(&p);
    pb_tiny_write(p.dir, "blocked", "a file");
    char *blocked = pb_path_join(p.dir, "blocked");
    p.options.out_dir = blocked;
    pb_status status = go(&p);
    ck_assert(status == PB_E_IO || status == PB_E_INPUT);
    ck_assert_ptr_nonnull(strstr(pb_error_message(), "blocked"));
    ck_assert_int_eq(diary_lines(NULL), 0);
    free(blocked);
    leave(&p);
}
END_TEST

START_TEST(the_line_fits_the_terminal) {
    pb_progress p = {.n_runs = 9, .index = 3, .left = 6, .label = "größte Änderung", .seed = 2};
    pb_progress_event e = {
        .phase = "train", .step = 50, .steps = 100, .loss = 2.5, .examples_per_s = 400};
    char line[512];
    p.n_timed = 2;
    p.timed_s = 40;
    pb_progress_line(&p, &e, INT64_C(5000000000), 400, line, sizeof line);
    ck_assert_str_eq(
        line,
        "[3/9] größte Änderung seed 2  train 50/100  loss 2.500  400 examples/s  15.0 s left, all "
        "2 min 15 s");
    for (int width = 0; width < 90; width++) {
        size_t bad = 0;
        pb_progress_line(&p, &e, INT64_C(5000000000), width, line, sizeof line);
        int columns = 0;
        for (const char *c = line; *c; c++) columns += (*c & 0xC0) != 0x80;
        ck_assert_int_eq(columns, width);
        ck_assert(pb_utf8_valid(line, strlen(line), &bad));
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("runner");
    TCase *t = pb_test_case(s, "runs");
    tcase_add_test(t, every_run_gets_a_record_once);
    tcase_add_test(t, seeds_are_outermost_and_rows_are_shuffled_the_same_way);
    tcase_add_loop_test(t, a_failed_run_is_a_row_and_is_repeated, 0,
                        (int)(sizeof fates / sizeof fates[0]));
    tcase_add_test(t, a_diverged_run_is_a_result);
    tcase_add_test(t, a_damaged_record_is_repeated);
    t = pb_test_case(s, "signals");
    tcase_add_loop_test(t, a_signal_stops_the_run_and_the_suite_goes_on_later, 0, 2);
    tcase_add_test(t, a_deaf_run_is_killed_in_time);
    tcase_add_test(t, a_second_signal_ends_at_once);
    tcase_add_test(t, a_killed_suite_continues);
    t = pb_test_case(s, "together");
    tcase_add_test(t, eight_suites_on_one_folder_do_each_run_once);
    tcase_add_test(t, claims_know_their_owner);
    t = pb_test_case(s, "folders and lines");
    tcase_add_test(t, other_settings_are_not_mixed_in);
    tcase_add_test(t, a_folder_that_cannot_be_made_is_named);
    tcase_add_test(t, the_line_fits_the_terminal);
    return pb_run_suite(s);
}
