/* Change points of a series of numbers: where did its level move? E-divisive with energy statistics
 * (Matteson and James 2014, "A Nonparametric Approach for Multiple Change Point Analysis of
 * Multivariate Data", sections 2 and 3, with the distance |x - y|, alpha = 1). Numbers in, places out.
 * Test: tests/test_change.c, with simulations of false alarms and of what is found. */
#ifndef PB_REPORTS_CHANGE_H
#define PB_REPORTS_CHANGE_H

#include <stdint.h>

#include "base/status.h"

#define PB_CHANGE_MOST 400       /* values of a series: the statistic looks at all pairs */
#define PB_CHANGE_SEGMENT 5      /* least values between two changes */
#define PB_CHANGE_P 0.001        /* a change has p below this */
#define PB_CHANGE_SHUFFLES 1999  /* p is at least 1 / 2000 */

typedef struct pb_change {
    int at;               /* first value of the new level, 1..n-1 */
    double p;             /* permutation test, given the changes found before */
    double before, after; /* medians of the segments on both sides */
} pb_change;

/* Finds changes of x[0..n-1], finite, one after the other: of every segment so far and every pair of a
 * split t and an end k in it, the one with the largest
 *     Q = (t k' / (t + k')) (2 mean|X - Y| - mean|X - X'| - mean|Y - Y'|)
 * is a candidate, X the t values before the split and Y the k' after it up to k. It is a change when
 * fewer than 0.1 % of PB_CHANGE_SHUFFLES shuffles of the values within the segments reach its Q, it
 * itself counted in; else the search ends. Shuffles are a function of `key` alone. *out is sorted by
 * place, room for n / PB_CHANGE_SEGMENT; `n` below 2 * PB_CHANGE_SEGMENT has none. PB_E_INPUT for
 * more than PB_CHANGE_MOST values or one that is not finite, PB_E_OOM. */
pb_status pb_change_points(const double *x, int n, uint64_t key, pb_change *out, int *n_out);

#endif
