/* The memory pass in a process of its own. Test: tests/test_profile.c. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "harness/profile/profile.h"

/* Never returns: one answer through the pipe, nothing of the parent's is flushed or closed twice. */
static void child(pb_status (*pass)(void *user, pb_memory_seen *out), void *user, int fd, pid_t parent) {
    pb_memory_seen seen = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    signal(SIGINT, SIG_IGN); /* the parent decides */
    signal(SIGTERM, SIG_DFL);
    if (pass(user, &seen) != PB_OK) {
        seen = (pb_memory_seen){.known = false};
        pb_copy(seen.reason, sizeof seen.reason, pb_error_message());
    }
    for (size_t done = 0; done < sizeof seen;) {
        ssize_t n = write(fd, (const char *)&seen + done, sizeof seen - done);
        if (n < 0 && errno != EINTR) _exit(1);
        if (n > 0) done += (size_t)n;
    }
    _exit(0);
}

/* Until the answer is whole, the pipe ends, somebody asks to stop, or the time is over. */
static size_t listen_to(int fd, int limit_s, const volatile int *stop, pb_memory_seen *out) {
    enum { TICK_MS = 50 };
    size_t done = 0;
    for (int64_t ms = 0; done < sizeof *out && ms < 1000ll * limit_s && (stop == NULL || *stop == 0);) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, TICK_MS);
        if (ready == 0) ms += TICK_MS;
        if (ready <= 0) continue; /* a signal: `stop` says what it meant */
        ssize_t n = read(fd, (char *)out + done, sizeof *out - done);
        if (n == 0 || (n < 0 && errno != EINTR)) break;
        if (n > 0) done += (size_t)n;
    }
    return done;
}

pb_status pb_memory_pass(pb_status (*pass)(void *user, pb_memory_seen *out), void *user, int limit_s,
                         const volatile int *stop, pb_memory_seen *out) {
    int fd[2], how = 0;
    pid_t parent = getpid();
    *out = (pb_memory_seen){0};
    if (pipe(fd) != 0) return PB_ERROR(PB_E_ENV, "no pipe for the memory pass: %s", strerror(errno));
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(fd[0]);
        child(pass, user, fd[1], parent);
    }
    close(fd[1]);
    if (pid < 0) {
        close(fd[0]);
        return PB_ERROR(PB_E_ENV, "no process for the memory pass: %s", strerror(errno));
    }
    size_t done = listen_to(fd[0], limit_s, stop, out);
    close(fd[0]);
    if (done < sizeof *out) kill(pid, SIGKILL);
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR) {}
    if (done == sizeof *out) return PB_OK;
    *out = (pb_memory_seen){0};
    if (stop != NULL && *stop != 0) return PB_ERROR(PB_E_INTERRUPTED, "stopped by signal %d in the memory pass", *stop);
    snprintf(out->reason, sizeof out->reason, "the memory pass ended without an answer (%s %d; %d s were allowed)",
             WIFSIGNALED(how) ? "signal" : "status", WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how), limit_s);
    return PB_OK;
}
