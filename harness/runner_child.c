/* One run in its own process, and what becomes of it. Test: tests/test_runner.c. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/environment.h"
#include "harness/runner_impl.h"

#define GRACE_NS INT64_C(4000000000) /* from the signal until the child is killed */

/* What a child says. Smaller than PIPE_BUF, so that a write is all or nothing. */
typedef struct message {
    bool is_error;
    char phase[16];
    int64_t step, steps;
    double loss, examples_per_s;
    char text[512];
} message;

/* ---- signals ---- */

static volatile sig_atomic_t caught, times_caught; /* the only state that a handler can reach */
static volatile pid_t child_pid;
static struct sigaction old_int, old_term;

static void on_signal(int signal_number) {
    int error = errno;
    caught = signal_number;
    if (++times_caught > 1) {
        if (child_pid > 0) kill(-child_pid, SIGKILL);
        _exit(128 + signal_number);
    }
    errno = error;
}

static void on_signal_in_child(int signal_number) {
    caught = signal_number;
}

void pb_runner_signals(bool install) {
    if (install) {
        struct sigaction action = {.sa_handler = on_signal};
        caught = times_caught = 0;
        sigaction(SIGINT, &action, &old_int);
        sigaction(SIGTERM, &action, &old_term);
    } else {
        sigaction(SIGINT, &old_int, NULL);
        sigaction(SIGTERM, &old_term, NULL);
    }
}

int pb_runner_caught(void) {
    return caught;
}

/* ---- in the child ---- */

static void send_message(int fd, const message *m) {
    ssize_t n = write(fd, m, sizeof *m); /* a full pipe loses a progress event, no more */
    (void)n;
}

static void send_progress(void *user, const pb_progress_event *e) {
    message m = {
        .step = e->step, .steps = e->steps, .loss = e->loss, .examples_per_s = e->examples_per_s};
    pb_copy(m.phase, sizeof m.phase, e->phase);
    send_message(*(int *)user, &m);
}

static void prefer_me_for_oom(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t n = write(fd, "800", 3);
    (void)n;
    close(fd);
}

/* What a trial or a final is to the tuning of its suite. */
static bool add_tuning(const pb_run_config *run, pb_record *record) {
    const pb_run_origin *o = &run->origin;
    bool trial = strcmp(o->phase, "trial") == 0;
    pb_json *t = cJSON_CreateObject();
    pb_json_free(record->tuning);
    record->tuning = t;
    pb_copy(record->phase, sizeof record->phase, o->phase);
    return t && pb_json_add_str(t, "row", o->row) && pb_json_add_i64(t, "trial", o->trial) &&
           pb_json_add_f64(t, "lr", run->lr) &&
           (!o->rank || pb_json_add_i64(t, "rank", o->rank)) &&
           pb_json_add_str(t, trial ? "why" : "edge", trial ? o->why : o->edge);
}

/* The place in the suite's order and in its tuning. */
static pb_status add_order(const pb_runner *r, const pb_job *job, pb_record *record) {
    if (!record->environment) record->environment = cJSON_CreateObject();
    bool ok = pb_json_add_i64(record->environment, "order", job->order) &&
              pb_json_add_i64(record->environment, "order_of", r->n_jobs);
    if (ok && job->run->origin.phase[0]) ok = add_tuning(job->run, record);
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for the record");
}

static pb_status execute(const pb_runner *r, const pb_job *job, int fd) {
    pb_status status = PB_OK;
    pb_record record = {0};
    char *folder = pb_runner_path(r, job, NULL);
    pb_run_function run = r->options->execute ? r->options->execute : pb_run_execute;
    bool trial = strcmp(job->run->origin.phase, "trial") == 0;
    pb_run_options options = {
        .threads = r->options->threads,
        .memory_budget = r->options->memory_budget,
        .out_dir = trial ? NULL : folder,
        .keep_adapter = !r->suite->drop_adapters,
        .profile = !trial && (r->options->profile || r->suite->profile),
        .counters = !trial && r->options->counters,
        .progress = send_progress,
        .user = &fd,
        .stop = &caught,
    };
    if (!folder) PB_FAIL(PB_E_OOM, "no memory for a path");
    PB_TRY(run(job->run, job->assets, &options, &record));
    PB_TRY(add_order(r, job, &record));
    PB_TRY(pb_record_write(&record, r->options->out_dir));
done:
    pb_record_free(&record);
    free(folder);
    return status;
}

static void child_main(const pb_runner *r, const pb_job *job, int fd, pid_t parent) {
    struct sigaction action = {.sa_handler = on_signal_in_child};
    sigset_t none;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a killed parent leaves nobody behind who writes */
    if (getppid() != parent) _exit(1);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prefer_me_for_oom();
    pb_status status = execute(r, job, fd);
    if (status != PB_OK) {
        message m = {.is_error = true};
        snprintf(m.text, sizeof m.text, "%.511s", pb_error_message());
        send_message(fd, &m);
    }
    _exit(status == PB_OK ? 0 : 64 + (int)status);
}

/* ---- in the parent ---- */

typedef struct watch {
    pid_t pid;
    int fd, wait_status;
    bool reaped, has_error;
    int forwarded;   /* signal that was passed on */
    int64_t kill_ns; /* when patience ends */
    char error[512];
} watch;

static pb_status start(const pb_runner *r, const pb_job *job, watch *w) {
    int fds[2];
    sigset_t both, before;
    pid_t parent = getpid();
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return PB_ERROR(PB_E_ENV, "no pipe: %s", strerror(errno));
    fflush(NULL); /* the child must not write what the parent has buffered */
    sigemptyset(&both);
    sigaddset(&both, SIGINT);
    sigaddset(&both, SIGTERM);
    sigprocmask(SIG_BLOCK, &both, &before);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        child_main(r, job, fds[1], parent);
    }
    if (pid > 0) setpgid(pid, pid); /* both sides: whoever comes first */
    child_pid = pid > 0 ? pid : 0;
    int error = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return PB_ERROR(PB_E_ENV, "no process for '%s': %s", job->run->label, strerror(error));
    }
    *w = (watch){.pid = pid, .fd = fds[0]};
    return PB_OK;
}

static void listen_to(pb_runner *r, watch *w) {
    message m;
    while (read(w->fd, &m, sizeof m) == (ssize_t)sizeof m) {
        if (m.is_error) {
            w->has_error = true;
            pb_copy(w->error, sizeof w->error, m.text);
            continue;
        }
        pb_progress_event e = {.phase = m.phase,
                               .step = m.step,
                               .steps = m.steps,
                               .loss = m.loss,
                               .examples_per_s = m.examples_per_s};
        pb_progress_update(&r->progress, &e);
    }
}

static void wait_for(pb_runner *r, watch *w) {
    while (!w->reaped) {
        struct pollfd p = {.fd = w->fd, .events = POLLIN};
        poll(&p, 1, 100);
        listen_to(r, w);
        if (p.revents & POLLHUP) {
            struct timespec nap = {.tv_nsec = 2000000};
            nanosleep(&nap, NULL);
        }
        if (caught && !w->forwarded) {
            w->forwarded = caught;
            w->kill_ns = pb_now_ns() + GRACE_NS;
            pb_progress_note(&r->progress, "%s: stopping the run (again: stop at once)",
                             w->forwarded == SIGINT ? "interrupted" : "terminated");
            kill(w->pid, w->forwarded);
        }
        if (w->forwarded && pb_now_ns() > w->kill_ns) kill(-w->pid, SIGKILL);
        w->reaped = waitpid(w->pid, &w->wait_status, WNOHANG) == w->pid;
    }
    child_pid = 0;
    listen_to(r, w);
    close(w->fd);
}

/* How often this machine's kernel killed something for memory. */
static long long oom_kills(void) {
    char *text = NULL;
    long long n = -1;
    if (pb_file_read("/proc/vmstat", 1 << 20, &text, NULL) == PB_OK) {
        const char *at = strstr(text, "oom_kill ");
        if (at) n = strtoll(at + 9, NULL, 10);
    }
    pb_error_clear();
    free(text);
    return n;
}

static void explain(const watch *w, bool oom_killed, pb_record *record) {
    record->status = PB_RUN_FAILED;
    if (w->forwarded) {
        record->status = PB_RUN_INTERRUPTED;
        snprintf(record->reason, sizeof record->reason, "stopped by SIG%s",
                 sigabbrev_np(w->forwarded));
    } else if (w->has_error) {
        bool oom = WIFEXITED(w->wait_status) && WEXITSTATUS(w->wait_status) == 64 + PB_E_OOM;
        if (oom) record->status = PB_RUN_OOM;
        snprintf(record->reason, sizeof record->reason, "%s", w->error);
    } else if (WIFSIGNALED(w->wait_status)) {
        int n = WTERMSIG(w->wait_status);
        const char *name = sigabbrev_np(n);
        if (n == SIGKILL && oom_killed) record->status = PB_RUN_OOM;
        snprintf(record->reason, sizeof record->reason,
                 "the run's process was ended by SIG%s (%s)%s", name ? name : "?", strsignal(n),
                 n != SIGKILL ? ""
                 : oom_killed ? "; the kernel had run out of memory"
                              : "; somebody or something killed it");
    } else {
        snprintf(record->reason, sizeof record->reason,
                 "the run's process ended with status %d and left no record",
                 WEXITSTATUS(w->wait_status));
    }
}

static pb_status describe(const pb_runner *r, const pb_job *job, pb_record *record) {
    const pb_run_config *run = job->run;
    memcpy(record->run_id, job->id, sizeof record->run_id);
    pb_copy(record->suite, sizeof record->suite, run->suite);
    pb_copy(record->method, sizeof record->method, run->method->name);
    pb_copy(record->label, sizeof record->label, run->label);
    pb_copy(record->verified, sizeof record->verified, "not_verified");
    record->seed = run->seed;
    record->config = cJSON_Duplicate(job->config, true);
    record->model = cJSON_CreateObject();
    record->dataset = cJSON_CreateObject();
    const pb_dataset *data = job->assets->data;
    bool ok = record->config && pb_json_add_str(record->model, "name", job->assets->model_name) &&
              pb_json_add_str(record->model, "sha256", job->assets->model_sha256) &&
              pb_json_add_str(record->dataset, "name", data ? pb_dataset_name(data) : "") &&
              pb_json_add_str(record->dataset, "sha256", data ? pb_dataset_sha256(data) : "");
    if (!ok) return PB_ERROR(PB_E_OOM, "no memory for the record");
    PB_RETURN(pb_environment_json(run->device, r->options->threads, &record->environment));
    return add_order(r, job, record);
}

/* The record of a run that could not write its own. */
static pb_status record_for_child(const pb_runner *r, const pb_job *job, const watch *w,
                                  bool oom_killed, const char *started) {
    pb_status status = PB_OK;
    pb_record record = {0};
    explain(w, oom_killed, &record);
    PB_TRY(describe(r, job, &record));
    pb_copy(record.started, sizeof record.started, started);
    pb_utc_now(record.ended);
    PB_TRY(pb_record_write(&record, r->options->out_dir));
done:
    pb_record_free(&record);
    return status;
}

pb_status pb_runner_child(pb_runner *r, const pb_job *job) {
    pb_status status = PB_OK;
    watch w = {.fd = -1};
    char started[32];
    char *folder = pb_runner_path(r, job, NULL), *record = pb_runner_path(r, job, "record.json");
    long long kills = oom_kills();
    if (!folder || !record) PB_FAIL(PB_E_OOM, "no memory for a path");
    PB_TRY(pb_make_dirs(folder));
    pb_utc_now(started);
    PB_TRY(start(r, job, &w));
    wait_for(r, &w);
    if (!pb_file_exists(record)) PB_TRY(record_for_child(r, job, &w, oom_kills() > kills, started));
    if (w.forwarded) PB_FAIL(PB_E_INTERRUPTED, "stopped by SIG%s", sigabbrev_np(w.forwarded));
done:
    free(record);
    free(folder);
    return status;
}
