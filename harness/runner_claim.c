/* Claims: who is doing a run right now. A claim is a file with process id, its start time, boot and
 * host, so that a dead owner is told from a process that has the same number by chance. All changes
 * are made under one lock per folder, which the kernel drops with its holder. Test:
 * tests/test_runner.c. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/runner_impl.h"

typedef struct owner {
    long long pid;
    unsigned long long start; /* clock ticks since boot */
    char boot[48], host[80];
} owner;

/* Start time of a process: field 22 of /proc/PID/stat; the name in field 2 may hold anything. 0 =
 * no such process. */
static unsigned long long start_of(long long pid) {
    char path[64], *text = NULL;
    unsigned long long start = 0;
    snprintf(path, sizeof path, "/proc/%lld/stat", pid);
    if (pb_file_read(path, 8192, &text, NULL) != PB_OK) {
        pb_error_clear();
        return 0;
    }
    const char *p = strrchr(text, ')');
    for (int field = 2; p && field < 22; field++) p = strchr(p + 1, ' ');
    if (p) start = strtoull(p + 1, NULL, 10);
    free(text);
    return start;
}

static owner myself(void) {
    owner me = {.pid = (long long)getpid()};
    char *boot = NULL;
    me.start = start_of(me.pid);
    if (gethostname(me.host, sizeof me.host - 1) != 0 || !me.host[0]) strcpy(me.host, "localhost");
    for (char *p = me.host; *p; p++) {
        if ((unsigned char)*p <= ' ') *p = '_';
    }
    if (pb_file_read("/proc/sys/kernel/random/boot_id", 256, &boot, NULL) == PB_OK) {
        boot[strcspn(boot, "\n")] = 0;
        pb_copy(me.boot, sizeof me.boot, boot);
    }
    if (!me.boot[0]) strcpy(me.boot, "-");
    pb_error_clear();
    free(boot);
    return me;
}

static bool read_owner(const char *path, owner *o) {
    char *text = NULL;
    *o = (owner){0};
    bool ok = pb_file_read(path, 1024, &text, NULL) == PB_OK &&
              sscanf(text, "%lld %llu %47s %79s", &o->pid, &o->start, o->boot, o->host) == 4;
    if (!ok) pb_error_clear();
    free(text);
    return ok;
}

static pb_status write_claim(const char *path, const owner *me) {
    char line[256];
    int n =
        snprintf(line, sizeof line, "%lld %llu %s %s\n", me->pid, me->start, me->boot, me->host);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return PB_ERROR(PB_E_IO, "%s: cannot be created: %s", path, strerror(errno));
    bool ok = write(fd, line, (size_t)n) == n;
    int error = errno;
    if (close(fd) != 0 || !ok) {
        unlink(path);
        return PB_ERROR(PB_E_IO, "%s: cannot be written: %s", path, strerror(error));
    }
    return PB_OK;
}

static pb_status lock(const char *folder, int *fd) {
    pb_status status = PB_OK;
    char *path = pb_path_join(folder, "lock");
    if (!path) PB_FAIL(PB_E_OOM, "no memory for a path");
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (*fd < 0) PB_FAIL(PB_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    while (flock(*fd, LOCK_EX) != 0) {
        if (errno == EINTR) continue;
        if (errno == ENOTSUP || errno == ENOLCK || errno == ENOSYS)
            break; /* no locks here: O_EXCL alone */
        PB_FAIL(PB_E_IO, "%s: cannot be locked: %s", path, strerror(errno));
    }
done:
    if (status != PB_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    free(path);
    return status;
}

/* Under the lock. */
static pb_status decide(const char *path, pb_claim *out, char text[128]) {
    owner me = myself(), other;
    *out = PB_CLAIM_MINE;
    if (pb_file_exists(path)) {
        /* Half a claim is one whose owner died while writing it. */
        if (read_owner(path, &other)) {
            bool here = strcmp(other.host, me.host) == 0;
            bool alive =
                here && strcmp(other.boot, me.boot) == 0 && start_of(other.pid) == other.start;
            snprintf(text, 128, "process %lld on %s", other.pid, other.host);
            *out = !here ? PB_CLAIM_REMOTE : alive ? PB_CLAIM_BUSY : PB_CLAIM_MINE;
            if (*out != PB_CLAIM_MINE) return PB_OK;
        }
        if (unlink(path) != 0)
            return PB_ERROR(PB_E_IO, "%s: cannot be removed: %s", path, strerror(errno));
    }
    return write_claim(path, &me);
}

pb_status pb_claim_take(const char *folder, const char *id, pb_claim *out, char text[128]) {
    pb_status status = PB_OK;
    int fd = -1;
    text[0] = 0;
    char *path = pb_path_join(folder, id);
    if (!path) PB_FAIL(PB_E_OOM, "no memory for a path");
    PB_TRY(lock(folder, &fd));
    PB_TRY(decide(path, out, text));
done:
    if (fd >= 0) close(fd);
    free(path);
    return status;
}

void pb_claim_release(const char *folder, const char *id) {
    char *path = pb_path_join(folder, id);
    if (path) unlink(path);
    free(path);
}
