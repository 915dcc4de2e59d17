/* What a running suite shows on stderr: one live line on a terminal, a few plain lines in a pipe or
 * a log. */
#ifndef PB_HARNESS_PROGRESS_H
#define PB_HARNESS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "harness/trainer.h"

typedef struct pb_progress {
    FILE *out;
    bool live;         /* redraw one line */
    bool drawn;        /* there is a line to clear */
    int n_runs, index; /* index: the current run, from 1 */
    int left;          /* runs after the current one */
    int n_timed;       /* runs done in this invocation, and their seconds */
    double timed_s;
    char label[64], phase[16];
    uint64_t seed;
    int64_t run_ns, phase_ns, first_step, drawn_ns,
        line_ns; /* when run, phase, last draw and line were */
    int lines;   /* plain lines of this run so far */
} pb_progress;

/* live: stderr is a terminal that understands cursor control. */
void pb_progress_open(pb_progress *p, FILE *out, int n_runs);
/* A line of its own, whatever else is shown. */
void pb_progress_note(pb_progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void pb_progress_begin(pb_progress *p, int index, int left, const char *label, uint64_t seed);
void pb_progress_update(pb_progress *p, const pb_progress_event *event);
/* outcome: "ok, accuracy 0.512" */
void pb_progress_end(pb_progress *p, const char *outcome);
void pb_progress_clear(pb_progress *p);

/* The live line without cursor control, at most `width` columns. */
void pb_progress_line(const pb_progress *p, const pb_progress_event *event, int64_t now_ns,
                      int width, char *out, size_t cap);

#endif
