/* The gauges of instructions: harness/kernel_counter.h. */
#include "harness/kernel_counter.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef PB_HAS_CALLGRIND
#include <valgrind/callgrind.h>
#endif

#include "base/file.h"
#include "base/text.h"
#include "harness/kernel_step.h"

#define MOST_BYTES ((size_t)16 << 20) /* of one of callgrind's files */

struct pb_counter {
    pb_gauge gauge;
    int fd;           /* of the event; -1 = none */
    int n;            /* callgrind's dumps so far */
    const char *part; /* where they go */
    char name[64];
};

const char *pb_gauge_name(pb_gauge gauge) {
    static const char *const names[PB_GAUGES] = {"auto", "perf", "callgrind", "step"};
    return (unsigned)gauge < PB_GAUGES ? names[gauge] : "invalid gauge";
}

/* ---- perf_event ---- */

static int open_event(uint32_t type, uint64_t config) {
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = type;
    attr.config = config;
    attr.disabled = 1;
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    attr.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

bool pb_counter_has_perf(char why[160]) {
    int fd = open_event(PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS);
    bool refused = errno == EACCES || errno == EPERM;
    const char *means = errno == ENOENT ? ": no such counter on this machine"
                        : refused ? ": see /proc/sys/kernel/perf_event_paranoid (at most 2) and the "
                                    "container's rules"
                                  : "";
    snprintf(why, 160, "perf_event: %s%s", fd < 0 ? strerror(errno) : "ready", fd < 0 ? means : "");
    if (fd >= 0) close(fd);
    return fd >= 0;
}

pb_status pb_counter_open_event(uint32_t type, uint64_t config, pb_counter **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) return PB_ERROR(PB_E_OOM, "no memory for a counter");
    pb_copy((*out)->name, sizeof (*out)->name, "perf_event");
    (*out)->gauge = PB_GAUGE_PERF;
    (*out)->fd = open_event(type, config);
    if ((*out)->fd >= 0) return PB_OK;
    int error = errno;
    free(*out);
    *out = NULL;
    return PB_ERROR(PB_E_ENV, "perf_event: %s", strerror(error));
}

static pb_status read_event(pb_counter *c, double *count) {
    struct {
        uint64_t value, enabled, running;
    } now;
    if (ioctl(c->fd, PERF_EVENT_IOC_DISABLE, 0) != 0 || read(c->fd, &now, sizeof now) != sizeof now)
        return PB_ERROR(PB_E_ENV, "perf_event: %s", strerror(errno));
    if (now.running != now.enabled)
        return PB_ERROR(PB_E_ENV, "perf_event: the counter was lent to others for a part of the "
                                  "time; stop other profilers, or count with --gauge callgrind");
    *count = (double)now.value;
    return PB_OK;
}

/* ---- callgrind ---- */

#ifdef PB_HAS_CALLGRIND

bool pb_counter_has_callgrind(void) { return true; }
bool pb_counter_in_callgrind(void) {
    return RUNNING_ON_VALGRIND && getenv(PB_CALLGRIND_PART) != NULL;
}

static void start_callgrind(void) {
    CALLGRIND_ZERO_STATS;
    CALLGRIND_TOGGLE_COLLECT;
}

static void stop_callgrind(void) {
    CALLGRIND_TOGGLE_COLLECT;
    CALLGRIND_DUMP_STATS;
}

#else

bool pb_counter_has_callgrind(void) { return false; }
bool pb_counter_in_callgrind(void) { return false; }
static void start_callgrind(void) {}
static void stop_callgrind(void) {}

#endif

/* The rest of the line that begins with `key`, cut; false when there is none. */
static bool line_of(const char *text, const char *key, char *out, size_t cap) {
    for (const char *p = text; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, key, strlen(key)) != 0) continue;
        p += strlen(key);
        snprintf(out, cap, "%.*s", (int)strcspn(p, "\n"), p);
        return true;
    }
    return false;
}

/* The dump that callgrind has just written. */
static pb_status read_dump(pb_counter *c, double *count) {
    pb_status status = PB_OK;
    char path[1024], total[32], *text = NULL;
    snprintf(path, sizeof path, "%s.%d", c->part, ++c->n);
    PB_TRY(pb_file_read(path, MOST_BYTES, &text, NULL));
    if (!line_of(text, "creator: ", c->name, sizeof c->name) ||
        !line_of(text, "totals: ", total, sizeof total) || !pb_parse_f64(total, count))
        PB_FAIL(PB_E_ENV, "%s: expected callgrind's lines \"creator: \" and \"totals: N\"", path);
    unlink(path);
done:
    free(text);
    return status;
}

/* ---- all ---- */

pb_status pb_counter_open(pb_gauge gauge, pb_counter **out) {
    char why[160];
    *out = NULL;
    if (gauge == PB_GAUGE_PERF) {
        if (!pb_counter_has_perf(why)) return PB_ERROR(PB_E_ENV, "%s", why);
        return pb_counter_open_event(PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS, out);
    }
    if (gauge != PB_GAUGE_STEP && (gauge != PB_GAUGE_CALLGRIND || !pb_counter_in_callgrind()))
        return PB_ERROR(PB_E_BUG, "callgrind counts only in a process that it runs");
    *out = calloc(1, sizeof **out);
    if (!*out) return PB_ERROR(PB_E_OOM, "no memory for a counter");
    (*out)->gauge = gauge;
    (*out)->fd = -1;
    (*out)->part = getenv(PB_CALLGRIND_PART);
    pb_copy((*out)->name, sizeof (*out)->name, pb_gauge_name(gauge));
    return PB_OK;
}

void pb_counter_close(pb_counter *c) {
    if (c && c->fd >= 0) close(c->fd);
    free(c);
}

const char *pb_counter_name(const pb_counter *c) { return c->name; }

pb_status pb_counter_start(pb_counter *c) {
    if (c->gauge == PB_GAUGE_STEP) return pb_step_begin();
    if (c->gauge == PB_GAUGE_CALLGRIND) {
        start_callgrind();
        return PB_OK;
    }
    if (ioctl(c->fd, PERF_EVENT_IOC_RESET, 0) != 0 || ioctl(c->fd, PERF_EVENT_IOC_ENABLE, 0) != 0)
        return PB_ERROR(PB_E_ENV, "perf_event: %s", strerror(errno));
    return PB_OK;
}

pb_status pb_counter_stop(pb_counter *c, double *count) {
    if (c->gauge == PB_GAUGE_PERF) return read_event(c, count);
    if (c->gauge == PB_GAUGE_STEP) {
        *count = pb_step_end();
        return PB_OK;
    }
    stop_callgrind();
    return read_dump(c, count);
}
