/* Statistics of comparisons, over GSL. Numbers in, numbers out: nothing here knows records. What is
 * derived and why: reports/STATISTICS.md. Tests: tests/test_stats.c (with simulations of coverage
 * and of false verdicts).
 *
 * Every random draw is a pure function of a key, a purpose and a counter: the same data give the
 * same numbers, in any order and on any machine. NaN stands for what cannot be known. */
#ifndef PB_REPORTS_STATS_H
#define PB_REPORTS_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define PB_STAT_LEVEL 0.95 /* of intervals */
#define PB_STAT_ALPHA 0.05 /* of verdicts, over a family */
#define PB_STAT_POWER 0.8  /* of the minimum detectable effect */

typedef struct pb_interval {
    double low, high;
} pb_interval;

/* ---- one sample ---- */

/* Mean and Student's t interval over n values. n = 1: sd and interval are NaN; n = 0: all NaN. */
typedef struct pb_mean {
    int n;
    double mean, sd;
    pb_interval interval;
} pb_mean;
pb_mean pb_mean_of(const double *values, int n, double level);

/* Wilson's score interval of a share (Wilson 1927): `successes` of `n`, 0 <= successes <= n. n = 0
 * gives [0, 1]. */
pb_interval pb_wilson(double successes, double n, double level);

/* ---- two methods on the same seeds and the same examples ---- */

/* Differences A - B, d[s * n_examples + i] for seed s and example i; weights (target tokens of an
 * example, NULL = all alike) make the mean a weighted one. Where only one number per seed exists,
 * n_examples is 1. */
typedef struct pb_paired {
    int n_seeds, n_examples;
    const double *d, *weights;
} pb_paired;

typedef struct pb_stat_options {
    double level;  /* of the intervals; 0 = PB_STAT_LEVEL */
    int resamples; /* bootstrap; 0 = 2000 */
    int flips;     /* random sign flips where not all can be tried; 0 = 4999 */
    uint64_t key;  /* of the random numbers; any value */
} pb_stat_options;

/* A difference with everything that a verdict needs. The spread has two parts: over seeds
 * (Student's t over the seeds' means: few seeds need its wide quantiles) and over examples (BCa
 * bootstrap over the examples' means, less the share of the noise that the first part holds
 * already). `interval` joins the two by the squares of their arms (MOVER, Zou and Donner 2008), so
 * that it speaks of new seeds *and* new examples. */
typedef struct pb_difference {
    int n_seeds, n_examples;
    double mean;                   /* of A - B */
    double sd_seeds;               /* of the seeds' means */
    double se_seeds;               /* sd_seeds / sqrt(n_seeds); NaN with one seed */
    double se_examples;            /* of the part that examples add; 0 with one example */
    pb_interval interval;          /* over both; NaN with one seed */
    pb_interval interval_seeds;    /* Student's t, new seeds on these examples */
    pb_interval interval_examples; /* BCa, new examples for these trained models */
    double p;          /* two-sided: the level at which the joined interval touches 0; NaN with one
                          seed */
    double p_seeds;    /* sign flips of the seeds' means, all 2^n of them up to 20 seeds. The least
                          it can be is 2 / 2^n: 0.25 with 3 seeds, 0.06 with 5 */
    double p_examples; /* sign flips of the examples' means: do *these* trained models differ? */
} pb_difference;

/* PB_E_INPUT when there is no seed or example, or a value is not finite. */
pb_status pb_difference_of(const pb_paired *in, const pb_stat_options *options, pb_difference *out);

/* Half the width that the joined interval has at `alpha`, from the standard errors (normal
 * approximation over examples). NaN with one seed. */
double pb_difference_reach(const pb_difference *d, double alpha);
/* Minimum detectable effect: the true difference (absolute) that a test at `alpha` finds with
 * probability `power`, given the spread that was seen. NaN with one seed. */
double pb_detectable(const pb_difference *d, double alpha, double power);

/* Two-sided p of the paired sign-flip test on the sum of d[0..n-1]: exact (all flips) up to n = 20,
 * else over `flips` random ones with the observed one counted in. 1 when n is 0. */
double pb_sign_flip(const double *d, int n, int flips, uint64_t key);

/* ---- ratios of positive quantities (times, bytes) ---- */

/* Geometric mean of x[s] / y[s] over n pairs, interval by Student's t on the log scale. */
typedef struct pb_ratio {
    int n;
    double ratio;
    pb_interval interval; /* NaN with one pair */
    double p;             /* two-sided against 1; NaN with one pair. Without any spread: 0 or 1 */
    double se_log;        /* standard error of the log ratio */
} pb_ratio;
/* PB_E_INPUT when n < 1 or a value is not positive and finite. */
pb_status pb_ratio_of(const double *x, const double *y, int n, double level, pb_ratio *out);
/* The ratio above 1 that a test at `alpha` finds with probability `power`. */
double pb_ratio_detectable(const pb_ratio *r, double alpha, double power);

/* ---- a family of comparisons ---- */

/* Holm's step-down adjustment (Holm 1979): adjusted[i] <= alpha rejects with the error rate of the
 * whole family at alpha. NaN entries are no members and stay NaN. PB_E_OOM. */
pb_status pb_holm(const double *p, int n, double *adjusted);

/* Shared ranks: better[i * n + k] says that row i was found better than row k. best[i] = 1 + rows
 * found better than i; worst[i] = n - rows found worse than i. Rows that nothing separates share
 * their best rank. */
void pb_shared_ranks(const bool *better, int n, int *best, int *worst);

/* ---- draws of several rows together ---- */

/* Values of one row: x[s * n_examples + i], weights as in pb_paired. */
typedef struct pb_sampled {
    int n_seeds, n_examples;
    const double *x, *weights;
    const uint64_t *seeds; /* their names, by which rows are paired; NULL = their places */
} pb_sampled;
/* `draws` means that the row might have with other seeds and examples: Student's t with n_seeds - 1 degrees of
 * freedom over the seeds' means, a bootstrap over the examples'. Rows with the same key are moved by the
 * same seeds and the same examples, so that their draws are paired: the share of draws in which one lies
 * above the other is the one-sided p of the paired t-test. With one seed only examples move. PB_E_INPUT as
 * pb_difference_of. */
pb_status pb_mean_draws(const pb_sampled *in, int draws, uint64_t key, double *out);

/* Over draws: how often row r is on the Pareto front, that is, no other row costs no more and is no
 * worse with one of both strictly. quality (higher is better) and cost (lower is better) are
 * [row * draws + draw]; rows with a NaN in a draw are out of it. */
void pb_front_probability(const double *quality, const double *cost, int rows, int draws,
                          double *probability);

#endif
