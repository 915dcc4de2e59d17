/* Status names, exit codes and the error chain. The chain lives in thread-local fixed buffers, so that reporting an
 * allocation failure never allocates. Test: tests/test_base.c. */
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FRAMES 16

typedef struct frame {
    const char *file; /* a __FILE__ literal: static storage */
    int line;
} frame;

typedef struct chain {
    char message[2048];
    char trace[2048];
    frame frames[MAX_FRAMES];
    int n, dropped;
} chain;

static _Thread_local chain g_chain;

static const struct {
    const char *name;
    int exit_code;
} statuses[] = {
    [PB_OK] = {"ok", 0},
    [PB_E_CHECK] = {"check", 1},
    [PB_E_INPUT] = {"input", 2},
    [PB_E_ENV] = {"env", 3},
    [PB_E_OOM] = {"oom", 3},
    [PB_E_IO] = {"io", 3},
    [PB_E_DIVERGED] = {"diverged", 1},
    [PB_E_INTERRUPTED] = {"interrupted", 130},
    [PB_E_UNSUPPORTED] = {"unsupported", 3},
    [PB_E_BUG] = {"bug", 1},
};

static bool known(pb_status status) {
    return (int)status >= 0 && (size_t)status < sizeof statuses / sizeof statuses[0];
}

const char *pb_status_name(pb_status status) {
    return known(status) ? statuses[status].name : "unknown";
}

int pb_status_exit_code(pb_status status) {
    return known(status) ? statuses[status].exit_code : 1;
}

/* Build systems pass absolute paths: cut what this file's own name shows to be the source root. */
static const char *short_name(const char *file) {
    static const char self[] = __FILE__;
    static const char tail[] = "base/status.c";
    if (sizeof self < sizeof tail) return file;
    size_t root = sizeof self - sizeof tail;
    return strncmp(file, self, root) == 0 ? file + root : file;
}

static void push_frame(const char *file, int line) {
    if (g_chain.n == MAX_FRAMES) {
        g_chain.dropped++;
        return;
    }
    g_chain.frames[g_chain.n++] = (frame){file, line};
}

pb_status pb_error_set(pb_status status, const char *file, int line, const char *fmt, ...) {
    int saved = errno;
    /* Not straight into the chain: the arguments may be the previous message. */
    char message[sizeof g_chain.message];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    if (n < 0) strcpy(message, "(the message could not be formatted)");
    if (n >= (int)sizeof message) strcpy(message + sizeof message - 4, "...");
    memcpy(g_chain.message, message, strlen(message) + 1);
    g_chain.n = g_chain.dropped = 0;
    push_frame(file, line);
    errno = saved;
    return status;
}

void pb_error_frame(const char *file, int line) {
    push_frame(file, line);
}

const char *pb_error_message(void) {
    return g_chain.message;
}

const char *pb_error_trace(void) {
    size_t used = 0, cap = sizeof g_chain.trace;
    g_chain.trace[0] = 0;
    for (int i = 0; i < g_chain.n && used < cap; i++) {
        int n = snprintf(g_chain.trace + used, cap - used, "%s%s:%d", i ? " < " : "", short_name(g_chain.frames[i].file),
                         g_chain.frames[i].line);
        if (n < 0) break;
        used += (size_t)n;
    }
    if (g_chain.dropped && used < cap) snprintf(g_chain.trace + used, cap - used, " < %d more", g_chain.dropped);
    return g_chain.trace;
}

void pb_error_clear(void) {
    g_chain.message[0] = 0;
    g_chain.n = g_chain.dropped = 0;
}

void pb_assert_fail(const char *expr, const char *file, int line) {
    fprintf(stderr, "peftbench: broken invariant: %s at %s:%d\n", expr, short_name(file), line);
    if (g_chain.message[0]) fprintf(stderr, "  last error: %s (%s)\n", g_chain.message, pb_error_trace());
    fflush(stderr);
    abort();
}
