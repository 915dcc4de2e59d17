/* Two builds of the program, kernel by kernel: fresh processes of both, in random order within
 * every pair, into the regression gate (reports/gate.h). What `peftbench kernels compare` prints.
 * Test: tests/test_kernel_compare.c. */
#ifndef PB_HARNESS_KERNEL_COMPARE_H
#define PB_HARNESS_KERNEL_COMPARE_H

#include "base/json.h"
#include "base/text.h"
#include "harness/gpu_state.h"
#include "harness/kernel_counter.h"
#include "harness/kernel_process.h"
#include "harness/machine_state.h"
#include "reports/gate.h"

typedef struct pb_compare_request {
    const char *a, *b;          /* build folders with a peftbench in them, or programs */
    const char *const *options; /* of `kernels run`, NULL-terminated: model, rows, threads, ... */
    bool cuda;                  /* they ask for that device: the backend beside each program is hashed too */
    const char *filter;         /* NULL = all cases */
    double budget_s;  /* for the samples of all processes together; 0 = as many as are wanted */
    const char *save; /* folder for what each process measured, "stage1-pair01-A.json"; or NULL */
    pb_machine_watch *watch; /* glances at the clock after every process; or NULL */
    uint64_t key;     /* of the order */
    bool instructions;               /* both programs are counted as well, */
    pb_gauge gauge;                  /* in this way (AUTO: perf_event where the machine has it), */
    const char *const *count_options; /* with these options of `kernels count` */
} pb_compare_request;

/* What a side's first process, the checked one, says about a kernel. */
typedef struct pb_compared_side {
    char sha256[65];         /* of the output; every process must have it */
    char variant[64];        /* the forms that its op chooses from; "" = not told */
    char roof[16];           /* that binds, "" = not told */
    double worst, least;     /* error over what is allowed; seconds at the roof; or NaN */
    double flops, flops_else, bytes; /* analytic work of a call; or NaN */
    double instructions;     /* of one call; 0 = not counted */
    int in;                  /* processes that had this case */
    bool listed;             /* the program's table has it */
} pb_compared_side;
pb_compared_side pb_compared_side_none(void); /* nothing is told */

typedef struct pb_compared {
    char name[160];
    char wrong[160];   /* "" when right */
    char failed[160];  /* why a side could not run it, "" when it could */
    char unchecked[64]; /* stored runs: which side was never checked, "" when both were */
    double time[2][PB_GATE_STAGES][PB_GATE_PROCESSES];   /* medians; sides are A, B; 0 = none */
    double cycles[2][PB_GATE_STAGES][PB_GATE_PROCESSES]; /* likewise; 0 where they were not read */
    pb_compared_side side[2];
    int samples;       /* least of any process; 0 = not told */
    double seconds;    /* of all samples of both sides */
    char few[96];      /* said when there are too few of them */
    bool counted_only; /* instructions alone */
    pb_gate_result result;
} pb_compared;

typedef struct pb_comparison_of_builds {
    pb_compared *kernels;
    int n;
    char sha256[2][65];      /* of the programs */
    char backend[2][65];     /* of their CUDA backends; "" on other devices */
    char gauge[64];          /* of instructions, "" = not counted */
    char cycles_by[2][16];   /* as in pb_saved_run: cycles count where both sides have the same, all their
                                processes read them in */
    double mhz_least, mhz_most; /* clock while kernels ran: least and most of all processes' medians;
                                   NaN where it was not read */
    pb_gpu_report gpu;       /* of all processes; no looks on a CPU */
    pb_json *environment[2]; /* of their first processes; NULL when not told */
    pb_text differences;     /* of these, a line each ("build/compiler: X, then Y") */
    pb_text stored;          /* saved runs: that they are, and their anchors, a line each; else empty */
    pb_text noise;           /* saved runs: what their files say of it, "A: ..." or "B: ...", a line each */
} pb_comparison_of_builds;

/* Runs both. A kernel whose output is wrong, or differs between processes of a build, or that ends
 * its process by a fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT), is WRONG; one that only one of
 * them has, or cannot run, or that another signal came to, is INCOMPARABLE. Fewer than 60 samples a
 * process for want of budget are UNCLEAR at best. A budget is divided: three quarters over the first
 * stage's 20 processes, one over the second's; equally over the kernels. After three pairs it says on
 * stderr what slowdown can be expected to be found.
 * PB_E_ENV when a program does not run, with the end of what it said, or is not the same one
 * throughout. Free with pb_comparison_of_builds_free. */
pb_status pb_compare_builds(const pb_compare_request *request, pb_comparison_of_builds *out);
void pb_comparison_of_builds_free(pb_comparison_of_builds *c);

/* Counts both programs' instructions: a kernel that was timed under the same name gets both
 * numbers, others are added for themselves. Part of pb_compare_builds. */
pb_status pb_compare_instructions(const pb_compare_request *request, const char *const program[2],
                                  const pb_kernel_folder *folder, pb_comparison_of_builds *c);
/* The kernel of that name; NULL, or with `add` a new one. */
pb_status pb_compared_find(pb_comparison_of_builds *c, const char *name, bool add,
                           pb_compared **out);
/* Says so in k->few when a process has fewer than 60 samples. From a limit of PB_KERNEL_LIMIT_S on nobody cut
 * them short: then it is the kernel that is slow. */
void pb_compared_judge_samples(pb_compared *k, double limit_s);

/* What a comparison could see, over its timed kernels: {least, median, greatest} of A's spread and
 * of the slowdown that would be found, as ratios - 1. */
typedef struct pb_compared_power {
    double spread[3], detectable[3];
    int n; /* kernels; 0 = nothing is known */
} pb_compared_power;
pb_status pb_compared_power_of(const pb_comparison_of_builds *c, pb_compared_power *out);

/* ---- for machines and for people (kernel_compare_tell.c) ---- */

/* One test case per kernel, with the seconds of its samples: a failure whatever does not exit with
 * 0; an unclear one is skipped when that is allowed. */
pb_status pb_compared_junit(const pb_comparison_of_builds *c, bool allow_unclear, pb_text *out);
/* What made times differ between processes, and what helps, a line each; without names of processes. Of
 * saved runs what their files say too. machine: NULL when nothing was measured now. */
pb_status pb_compared_advice(const pb_comparison_of_builds *c, const pb_machine_report *machine,
                             pb_text *lines);
/* A table for a pull request, with both programs, the machine and its noise, what else differs and the
 * exit status. */
pb_status pb_compared_markdown(const pb_comparison_of_builds *c, const pb_machine_report *machine,
                               int code, pb_text *out);
/* Everything that is known of a kernel. */
bool pb_compared_json(const pb_compared *k, pb_json *o);

#endif
