/* What the machine did beside a measurement: who else used it, and what makes its clock move. A watch is
 * begun before and ended after; the report says it in numbers, the advice in words. Only what
 * /proc and /sys tell; what they do not is left out. Test: tests/test_machine_state.c. */
#ifndef PB_HARNESS_MACHINE_STATE_H
#define PB_HARNESS_MACHINE_STATE_H

#include <stdbool.h>

#include "base/json.h"
#include "base/text.h"

/* A clock, a processor's or a GPU's, that makes times noisy: most over least. */
#define PB_NOISY_CLOCK 1.05

typedef struct pb_machine_report {
    int cpus, allowed, cores; /* online; this process may use; cores among the allowed */
    int threads;              /* asked for; 0 = all */
    double seconds;           /* from begin to end */
    double others;            /* CPUs' worth of time that other processes took: 0.35 = 35 % of a core */
    double steal;             /* share of all CPU time that the hypervisor gave to somebody else */
    double load;              /* run queue of the last minute, at begin */
    double quota;             /* CPUs that the control group may use; NaN without a limit */
    double mhz[2];            /* mean clock at begin and end; NaN when not told */
    double mhz_least, mhz_most; /* of these and of every glance between */
    double celsius_most;      /* hottest thermal zone at begin or end; NaN when not told */
    double watts;             /* mean of all processor packages (RAPL); NaN when it may not be read */
    int64_t stopped;          /* times the control group was stopped for its quota; -1 = not told */
    int64_t throttled;        /* times a core throttled for heat or power; -1 = not told */
    bool boost, boost_known;  /* may the clock rise above its base? */
    char governor[32];        /* of CPU 0, "mixed" when they differ, "" = not told */
    char busiest[32];         /* name of the other process that took most; "" = none */
    double busiest_share;     /* in CPUs */
    char pinning[160];        /* what pb_machine_pin did */
} pb_machine_report;

typedef struct pb_machine_watch pb_machine_watch;

/* root: "" for this machine; tests put proc/ and sys/ below a folder. Free by end, or pb_machine_drop
 * (NULL is fine). */
pb_status pb_machine_begin(const char *root, int threads, pb_machine_watch **out);
pb_status pb_machine_end(pb_machine_watch *watch, pb_machine_report *out);
void pb_machine_drop(pb_machine_watch *watch);
/* Looks at the clock on the way, right after a process has worked; NULL is fine. */
void pb_machine_glance(pb_machine_watch *watch);

/* Keeps this process and its children to one hardware thread of each core, where cores have several
 * and `threads` (0 = all CPUs) are no more than cores: threads that share a core take turns. Says in
 * `text` what was done, or why nothing. Call before threads are started. */
void pb_machine_pin(const char *root, int threads, char text[160]);

/* Numbers only: no process is named in a file. */
pb_status pb_machine_json(const pb_machine_report *r, pb_json *o);
/* One line for everything that makes times differ between processes, with what helps against it;
 * nothing on a quiet machine with a steady clock. */
void pb_machine_advice(const pb_machine_report *r, pb_text *lines);

#endif
