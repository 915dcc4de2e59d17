/* Verdicts: every pair of rows in every measure, from records alone. Parity first (parity.h), then
 * paired statistics (stats.h), then Holm over two families per measure: the comparisons with the
 * baseline, and all other pairs. How each number comes about: reports/STATISTICS.md. Test:
 * tests/test_comparison.c. */
#ifndef PB_REPORTS_COMPARISON_H
#define PB_REPORTS_COMPARISON_H

#include "reports/parity.h"
#include "reports/stats.h"

/* What rows are compared in, most telling first. Of the last two a record has one: decoders lose on
 * general text, encoders turn away. */
enum {
    PB_NLL,
    PB_ACCURACY,
    PB_STEP,
    PB_MEMORY,
    PB_MERGED,
    PB_UNMERGED,
    PB_FORGOTTEN,
    PB_DRIFT,
    PB_MEASURES
};

#define PB_FAIR_SEEDS 5    /* the least of a fair comparison; fewer are said wherever verdicts are */
#define PB_FRONT_SEEDS 3   /* the least that a probability to be on the front can be given for */
#define PB_LEAST_STEPS 16  /* runs of fewer steps are judged in cost alone: no quality was trained */
#define PB_BASELINE_AUTO (-2)

typedef struct pb_measure {
    const char *name;   /* "nll", "accuracy", "step", "memory", ... */
    const char *title;  /* "test NLL" */
    const char *column; /* of tables: "Test NLL" */
    const char *tag;    /* metric of the record, one number per run */
    const char *sample; /* one value per test example; NULL for costs */
    const char *unit;   /* of a difference as shown; "" for ratios */
    double scale;       /* value -> shown unit: 100 for points */
    const char *table_unit; /* of a mean in tables: "ms" */
    double table_scale;     /* value -> that */
    int better;         /* +1 higher, -1 lower */
    bool ratio;         /* a cost: compared by ratio, else by difference */
} pb_measure;
extern const pb_measure pb_measures[PB_MEASURES];

/* A row that takes part. With an anchor (a row of the same folder) it is measured relative to that:
 * value - anchor's at the same seed and example, costs value / anchor's. Entries with different
 * anchors may come from different machines and software. */
typedef struct pb_entry {
    const pb_row *row, *anchor;
    char name[160];
} pb_entry;

/* Values of one entry in one measure at its finished seeds, rising: x[s * n_examples + i]. */
typedef struct pb_values {
    int n_seeds, n_examples; /* n_examples 1: one number per run */
    uint64_t *seeds;
    double *x;
    double *weights; /* target tokens per example in language modelling, else NULL */
    char why[200];   /* why there are none, when n_seeds is 0 */
} pb_values;
/* Runs without the measure are left out. PB_E_OOM. Free with pb_values_free. */
pb_status pb_values_load(const pb_entry *entry, const pb_measure *measure, pb_values *out);
void pb_values_free(pb_values *v);

typedef enum pb_verdict_kind {
    PB_INCOMPARABLE, /* why says why */
    PB_BETTER,
    PB_WORSE,
    PB_NO_DIFFERENCE /* detectable says what would have shown */
} pb_verdict_kind;
/* "not comparable", "better", "worse", "no detectable difference" */
const char *pb_verdict_name(pb_verdict_kind kind);

/* Row a against row b. Differences are a - b in the measure's own unit, ratios a / b. */
typedef struct pb_verdict {
    pb_verdict_kind kind;
    int n_seeds, n_examples;
    double estimate;
    pb_interval interval;
    double p, p_holm;           /* NaN when not comparable */
    double p_seeds, p_examples; /* permutation tests, for the reader; NaN for ratios */
    double detectable; /* difference (ratio above 1) that would have shown with probability 0.8 at
                          the strictest level of its family */
    char why[400];
} pb_verdict;

/* Mean of one row with its interval over new seeds and new examples; costs: geometric mean over seeds
 * with its interval on the log scale, so that means divide to the ratios. With one seed the interval is
 * of this one training (Wilson's for accuracy) or unknown (costs). */
typedef struct pb_estimate {
    int n_seeds;
    double mean, sd; /* sd over seeds */
    pb_interval interval;
} pb_estimate;

typedef struct pb_comparison {
    const pb_entry *entries;
    int n, baseline;        /* baseline: an entry, -1 when there is none */
    int *against; /* the entry each one is compared with, itself for a baseline; -1 when there is none */
    pb_verdict *verdicts;   /* [measure][a][b], see pb_verdict_of */
    pb_estimate *estimates; /* [measure][entry] */
    int *best, *worst;      /* shared ranks [measure][entry]; 0 when the entry has no value */
    double *front[2];       /* probability to be on the front of accuracy against step time (0) and
                               peak memory (1) of the entry's class; NaN when unknown */
    int *front_class;       /* the baseline of the class whose front the entry belongs to: all of a class
                               are at parity with each other; -1 = none */
    int family[PB_MEASURES][2]; /* comparable pairs: with the baseline, others */
    pb_parity *parity;          /* [a * n + b] for a < b */
} pb_comparison;

/* entries must outlive the comparison. baseline -1: only the family of all pairs; PB_BASELINE_AUTO: of the
 * finished LoRA rows, without one of all finished rows, the one that the most rows are at parity with, of
 * equal ones the first. Rows that parity keeps from the baseline (a sweep over the number of examples, two
 * models) are compared with the row of the baseline's method that is at parity with them, where there is
 * one: it is a baseline of its own. */
pb_status pb_comparison_make(const pb_entry *entries, int n, int baseline,
                             const pb_waivers *waivers, pb_comparison *out);
void pb_comparison_free(pb_comparison *c);

/* Is the entry a baseline, of its own group or of all? */
bool pb_is_baseline(const pb_comparison *c, int entry);
/* How many baselines there are: 1 when all rows have the same. */
int pb_count_baselines(const pb_comparison *c);
/* What two entries differ in, in either order; of an entry and itself nothing. */
const pb_parity *pb_parity_between(const pb_comparison *c, int a, int b);
const pb_verdict *pb_verdict_of(const pb_comparison *c, int measure, int a, int b);
const pb_estimate *pb_estimate_of(const pb_comparison *c, int measure, int entry);
/* Training steps of the row's finished runs, the fewest; -1 = unknown. */
int64_t pb_row_steps(const pb_row *row);
/* Was the row trained long enough for its quality to be judged? Unknown counts as yes. */
bool pb_is_trained(const pb_row *row);
/* Has any entry a value? Measures without one are not shown. */
bool pb_measure_present(const pb_comparison *c, int measure);
/* The fewest finished seeds of an entry that has a value in any measure; *same: all have so many. 0 when
 * there is none. `entry`: of this one alone, -1 = of all. */
int pb_fewest_seeds(const pb_comparison *c, int entry, bool *same);

#endif
