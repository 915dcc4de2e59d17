/* The display of a running suite. Test: tests/test_runner.c. */
#include "harness/progress.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"
#include "harness/cli.h"

#define REDRAW_NS INT64_C(100000000)
#define PLAIN_NS INT64_C(20000000000) /* between the lines of one run */
#define PLAIN_LINES 4

static int columns(const pb_progress *p) {
    struct winsize size = {0};
    if (ioctl(fileno(p->out), TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) return size.ws_col;
    return 80;
}

void pb_progress_open(pb_progress *p, FILE *out, int n_runs) {
    const char *term = getenv("TERM");
    *p = (pb_progress){.out = out, .n_runs = n_runs};
    p->live = isatty(fileno(out)) && term && *term && strcmp(term, "dumb") != 0;
}

void pb_progress_clear(pb_progress *p) {
    if (p->drawn) fputs("\r\033[K", p->out);
    p->drawn = false;
    fflush(p->out);
}

void pb_progress_note(pb_progress *p, const char *fmt, ...) {
    va_list args;
    pb_progress_clear(p);
    va_start(args, fmt);
    vfprintf(p->out, fmt, args);
    va_end(args);
    fputc('\n', p->out);
    fflush(p->out);
}

/* Cuts a line to `width` columns, never inside a character. */
static void cut(char *s, int width) {
    int n = 0;
    for (; *s; s++) {
        if ((*s & 0xC0) == 0x80) continue;
        if (n++ == width) {
            *s = 0;
            return;
        }
    }
}

/* Seconds until the run ends: from the runs before it, else from its training steps; -1 = unknown.
 */
static double run_left_s(const pb_progress *p, const pb_progress_event *e, int64_t now) {
    double spent = (double)(now - p->run_ns) * 1e-9;
    if (p->n_timed > 0) {
        double left = p->timed_s / p->n_timed - spent;
        if (left > 0) return left;
    }
    int64_t done = e->step - p->first_step;
    if (strcmp(e->phase, "train") != 0 || done < 1) return -1;
    return (double)(now - p->phase_ns) * 1e-9 / (double)done * (double)(e->steps - e->step);
}

void pb_progress_line(const pb_progress *p, const pb_progress_event *e, int64_t now, int width,
                      char *out, size_t cap) {
    pb_text t = {0};
    char time[32];
    pb_text_add(&t, "[%d/%d] %s seed %" PRIu64 "  %s", p->index, p->n_runs, p->label, p->seed,
                e->phase);
    if (e->steps > 0) pb_text_add(&t, " %" PRId64 "/%" PRId64, e->step, e->steps);
    if (e->loss == e->loss && e->loss != 0) pb_text_add(&t, "  loss %.3f", e->loss);
    if (e->examples_per_s > 0) pb_text_add(&t, "  %.0f examples/s", e->examples_per_s);
    double left = run_left_s(p, e, now);
    if (left >= 0) {
        pb_format_seconds(time, left);
        pb_text_add(&t, "  %s left", time);
        double each =
            p->n_timed > 0 ? p->timed_s / p->n_timed : left + (double)(now - p->run_ns) * 1e-9;
        pb_format_seconds(time, left + each * p->left);
        if (p->left > 0) pb_text_add(&t, ", all %s", time);
    }
    pb_copy(out, cap, t.data ? t.data : "");
    cut(out, width);
    pb_text_free(&t);
}

void pb_progress_begin(pb_progress *p, int index, int left, const char *label, uint64_t seed) {
    p->index = index;
    p->left = left;
    p->seed = seed;
    p->lines = 0;
    p->phase[0] = 0;
    p->run_ns = p->phase_ns = p->line_ns = pb_now_ns();
    p->drawn_ns = 0;
    p->first_step = 0;
    pb_copy(p->label, sizeof p->label, label);
    if (!p->live)
        pb_progress_note(p, "[%d/%d] %s, seed %" PRIu64 ": started", index, p->n_runs, label, seed);
}

void pb_progress_update(pb_progress *p, const pb_progress_event *e) {
    char line[512];
    int64_t now = pb_now_ns();
    bool changed = strcmp(p->phase, e->phase) != 0;
    if (changed) {
        pb_copy(p->phase, sizeof p->phase, e->phase);
        p->phase_ns = now;
        p->first_step = e->step;
    }
    if (p->live) {
        if (!changed && now - p->drawn_ns < REDRAW_NS) return;
        pb_progress_line(p, e, now, columns(p) - 1, line, sizeof line);
        fprintf(p->out, "\r%s\033[K", line);
        fflush(p->out);
        p->drawn = true;
        p->drawn_ns = now;
    } else if (p->lines < PLAIN_LINES && now - p->line_ns >= PLAIN_NS) {
        pb_progress_line(p, e, now, 400, line, sizeof line);
        pb_progress_note(p, "%s", line);
        p->lines++;
        p->line_ns = now;
    }
}

void pb_progress_end(pb_progress *p, const char *outcome) {
    char time[32];
    double spent = (double)(pb_now_ns() - p->run_ns) * 1e-9;
    p->n_timed++;
    p->timed_s += spent;
    pb_format_seconds(time, spent);
    pb_progress_note(p, "[%d/%d] %s, seed %" PRIu64 ": %s (%s)", p->index, p->n_runs, p->label,
                     p->seed, outcome, time);
}
