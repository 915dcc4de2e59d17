/* The regression gate: did this kernel become slower? Numbers in, a verdict out; nothing here
 * measures or knows records. Test: tests/test_gate.c, with simulations of false alarms and of
 * power.
 *
 * The unit of replication is the process. Launches of one process share its memory layout, its page
 * colours and the clock of its minute, so thousands of them say nothing about the next process; a
 * test over pooled launches finds "slower" between a binary and itself nearly always. Here every
 * process gives one number per kernel, its median, and 10 fresh processes of each side, in random
 * order within every A/B pair, are compared (a stage):
 *
 *   1. H0: B is at most 1 % slower. Exact one-sided Mann-Whitney test on the log medians after
 *      log 1.01 was taken off B's: p <= 0.01, which with 10 + 10 untied values is U >= 81 of 100.
 *   2. The Hodges-Lehmann ratio B / A is >= 1.03 in time and, where both sides read cycles, >= 1.02
 *      in cycles. Time without cycles is the clock's doing: CLOCK.
 *
 * A kernel that is flagged in time is measured again with fresh processes; REGRESSED needs 1 and 2
 * in both stages. A kernel without a slowdown above 1 % is thus called REGRESSED with probability
 * at most 0.01^2 = 1e-4, a family of 100 of them at most with 1 %. */
#ifndef PB_REPORTS_GATE_H
#define PB_REPORTS_GATE_H

#include "reports/stats.h"

#define PB_GATE_PROCESSES 10    /* of each side in a stage */
#define PB_GATE_MOST 40         /* processes of a side, stages together: the exact test ends */
#define PB_GATE_STAGES 2
#define PB_GATE_TOLERATED 1.01  /* H0: not slower than this */
#define PB_GATE_ALPHA 0.01      /* of each stage */
#define PB_GATE_SLOWER 1.03     /* least ratio of time that is flagged; also the band of SAME */
#define PB_GATE_CYCLES 1.02     /* least ratio of cycles that makes it the kernel's own doing */
#define PB_GATE_NOISE 1.10      /* an interval wider than ratio / 1.1 ... ratio * 1.1 is noise */
#define PB_GATE_ANCHOR 1.02     /* most that an anchor kernel may differ in stored mode */
#define PB_GATE_WORK 1.01       /* most instructions, relative to A */

/* ---- parts ---- */

/* Exact one-sided Mann-Whitney test (Mann and Whitney 1947) of b > a: *u = pairs with b > a, ties
 * count half; returns P(U >= u) over all ways to label the pooled values, ties as they are (the
 * shift algorithm of Streitberg and Roehmel 1986). Sides of 1..PB_GATE_MOST finite values, else
 * NaN. */
double pb_mann_whitney(const double *a, int na, const double *b, int nb, double *u);

/* Hodges-Lehmann shift b - a (Hodges and Lehmann 1963): the median of all pairwise differences,
 * with the interval that inverts the exact test; its level is at least `level`. The interval is NaN
 * where so few values cannot give that level. Limits as above. */
double pb_hodges_lehmann(const double *a, int na, const double *b, int nb, double level,
                         pb_interval *interval);

/* ---- verdicts ---- */

typedef enum pb_gate_verdict {
    PB_GATE_SAME,         /* the 95 % interval of the ratio lies inside 1 / 1.03 ... 1.03 */
    PB_GATE_FASTER,       /* 1 and 2 hold with the sides exchanged (one stage: nobody is accused) */
    PB_GATE_REGRESSED,    /* 1 and 2, twice */
    PB_GATE_MORE_WORK,    /* over 1 % more instructions, and time does not say FASTER */
    PB_GATE_LESS_WORK,    /* over 1 % fewer, where instructions alone are compared */
    PB_GATE_CLOCK,        /* time changed and cycles did not */
    PB_GATE_UNCLEAR,      /* none of them: more processes, or more samples in each, could tell */
    PB_GATE_UNSTABLE,     /* the interval is so wide that a quieter machine is needed first */
    PB_GATE_SUSPECT,      /* stored mode: 1 and 2 hold, but not against a binary run now */
    PB_GATE_INCOMPARABLE, /* the caller's reason, or anchors that moved */
    PB_GATE_WRONG,        /* the results are wrong: their speed does not matter */
    PB_GATE_VERDICTS
} pb_gate_verdict;
const char *pb_gate_name(pb_gate_verdict v); /* "SAME", ... */

/* One side of a stage: a number per process. */
typedef struct pb_gate_side {
    int n;
    const double *time;   /* median of the process's samples; any unit, positive */
    const double *cycles; /* likewise, or NULL where they cannot be read */
} pb_gate_side;

typedef struct pb_gate_input {
    struct {
        pb_gate_side a, b;
    } stage[PB_GATE_STAGES];
    int stages; /* 1, or 2 once the kernel was measured again; 0 with instructions alone */
    double instructions_a, instructions_b; /* 0 = not counted */
    bool stored;           /* A's numbers come from a file: no REGRESSED, no FASTER */
    const double *anchors; /* stored: ratios now / then of kernels that cannot have changed; NaN where
                              only one of the runs has it */
    int n_anchors;
    const char *few;          /* why there are too few samples for SAME or FASTER, or NULL */
    const char *wrong;        /* why results are wrong, or NULL */
    const char *incomparable; /* why the sides cannot be compared, or NULL */
} pb_gate_input;

/* What one stage showed. Ratios are B / A, above 1 = slower. */
typedef struct pb_gate_stage {
    double u, p;          /* of test 1; u is out of na * nb */
    double ratio;         /* Hodges-Lehmann, time */
    pb_interval interval; /* 95 %, of the ratio */
    double cycles;        /* Hodges-Lehmann, cycles; NaN when not read */
    bool slow;            /* 1 and the ratio of time */
    bool slow_cycles;     /* the ratio of cycles agrees, or none was read */
    bool fast, fast_cycles;
} pb_gate_stage;

typedef struct pb_gate_result {
    pb_gate_verdict verdict;
    bool again; /* flagged once: measure a second stage; until then the verdict is UNCLEAR */
    pb_gate_stage stage[PB_GATE_STAGES];
    double ratio; /* B / A over all processes */
    pb_interval interval;
    double cycles; /* B / A of cycles over all processes; NaN where a stage has none */
    double detectable; /* the slowdown (> 1) that these processes' spread lets both stages of 10 + 10
                          find with probability 0.8; stored: the one stage of so many processes as there
                          are. NaN with fewer than 2 processes a side, or too few for p <= 0.01 */
    double spread;     /* A against A: standard deviation of its processes' log times, stage by stage;
                          NaN with one process */
    double work;       /* ratio of instructions, NaN when not counted */
    char why[192];     /* the verdict in words */
} pb_gate_result;

/* PB_E_INPUT when a value is not positive and finite, a side has too few or too many processes or
 * there is nothing to decide on. */
pb_status pb_gate_decide(const pb_gate_input *in, pb_gate_result *out);

/* The exit status of a comparison, by its worst news: 5 a WRONG, 2 a REGRESSED or MORE_WORK, 4 an
 * INCOMPARABLE, 3 anything else that is not SAME, FASTER or LESS_WORK (0 with allow_unclear), 1
 * when there is no verdict at all: nothing compared is not a pass. */
int pb_gate_exit(const pb_gate_verdict *verdicts, int n, bool allow_unclear);

#endif
