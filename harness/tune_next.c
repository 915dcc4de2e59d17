/* Which values a row tries next: the whole grid, the survivors of a halving, one step beyond an edge,
 * or between the best value and its better neighbour. Test: tests/test_tune.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/tune.h"

#define CLOSEST 1.01 /* rates nearer than that are one rate */

int64_t pb_tune_base_trials(pb_tune_strategy strategy, int64_t values) {
    int64_t half = (values + 1) / 2;
    return strategy == PB_TUNE_GRID ? values : values + half + (half + 1) / 2;
}

static pb_status add(pb_tuning_row *row, double lr, int64_t rank, int64_t divisor,
                     const char *why) {
    pb_tuning_trial *t = pb_tuning_add(row);
    if (!t) return PB_ERROR(PB_E_OOM, "%s: no memory for a trial", row->label);
    t->lr = lr;
    t->rank = rank;
    t->divisor = divisor;
    pb_copy(t->why, sizeof t->why, why);
    return PB_OK;
}

static pb_status add_grid(const pb_tune_row *spec, int64_t divisor, pb_tuning_row *row) {
    int ranks = spec->n_ranks > 0 ? spec->n_ranks : 1;
    for (int i = 0; i < spec->n_lr * ranks; i++)
        PB_RETURN(add(row, spec->lr[i / ranks], spec->n_ranks > 0 ? spec->rank[i % ranks] : 0,
                      divisor, "grid"));
    return PB_OK;
}

/* Of the trials [from, from + n) the best `keep`, in the order they have; again at more steps. */
static pb_status add_survivors(pb_tuning_row *row, int from, int n, int keep, int64_t divisor) {
    for (int i = from; i < from + n; i++) {
        int ahead = 0;
        for (int k = from; k < from + n; k++) {
            double a = row->trials[k].mean, b = row->trials[i].mean;
            ahead += a < b || (a == b && k < i);
        }
        if (ahead >= keep) continue;
        PB_RETURN(add(row, row->trials[i].lr, row->trials[i].rank, divisor, "grid"));
    }
    return PB_OK;
}

static double rounded(double lr) {
    char digits[32];
    snprintf(digits, sizeof digits, "%.5e", lr);
    return strtod(digits, NULL);
}

/* The nearest tried rate at this rank above (or below) lr and its mean; false when there is none. The
 * mean is that of the longest training. */
static bool neighbour(const pb_tuning_row *row, double lr, int64_t rank, bool above, double *at,
                      double *mean) {
    bool found = false;
    int64_t divisor = 0;
    for (int i = 0; i < row->n_trials; i++) {
        const pb_tuning_trial *t = &row->trials[i];
        if (t->rank != rank || (above ? t->lr <= lr : t->lr >= lr)) continue;
        bool nearer = !found || (above ? t->lr < *at : t->lr > *at);
        if (!nearer && !(t->lr == *at && t->divisor < divisor)) continue;
        found = true;
        *at = t->lr;
        *mean = t->mean;
        divisor = t->divisor;
    }
    return found;
}

/* Beyond the edge that `best` is. *lr 0 = there is no room. */
static void beyond(const pb_tuning_row *row, double best, int64_t rank, bool high, double *lr) {
    double next = 0, mean = 0;
    *lr = 0;
    if (!neighbour(row, best, rank, !high, &next, &mean)) return;
    double value = rounded(best * (best / next));
    if (value > 0 && value <= 10) *lr = value;
}

/* Between `best` and its better neighbour, or the other one where that is too near. */
static void between(const pb_tuning_row *row, double best, int64_t rank, double *lr) {
    double at[2] = {0, 0}, mean[2] = {INFINITY, INFINITY};
    bool there[2];
    *lr = 0;
    for (int side = 0; side < 2; side++) {
        there[side] = neighbour(row, best, rank, side == 1, &at[side], &mean[side]);
        double ratio = there[side] ? fmax(at[side] / best, best / at[side]) : 0;
        there[side] = ratio >= CLOSEST * CLOSEST;
    }
    if (!there[0] && !there[1]) return;
    int side = !there[0] || (there[1] && mean[1] < mean[0]);
    *lr = rounded(sqrt(best * at[side]));
}

static pb_status add_one(const pb_tune *tune, const pb_tune_row *spec, pb_tuning_row *row) {
    double lr = 0;
    if (row->chosen < 0) { /* everything diverged: lower, at the row's first rank */
        int64_t rank = spec->n_ranks > 0 ? spec->rank[0] : 0;
        double lowest = spec->lr[0];
        for (int i = 0; i < row->n_trials; i++)
            if (row->trials[i].rank == rank) lowest = fmin(lowest, row->trials[i].lr);
        if (tune->extend) beyond(row, lowest, rank, false, &lr);
        return lr > 0 ? add(row, lr, rank, 1, "extend") : PB_OK;
    }
    const pb_tuning_trial best = row->trials[row->chosen];
    if (tune->extend && strcmp(row->edge, "none") != 0) {
        beyond(row, best.lr, best.rank, strcmp(row->edge, "high") == 0, &lr);
        if (lr > 0) return add(row, lr, best.rank, 1, "extend");
    }
    between(row, best.lr, best.rank, &lr);
    return lr > 0 ? add(row, lr, best.rank, 1, "refine") : PB_OK;
}

pb_status pb_tune_next(const pb_tune *tune, const pb_tune_row *spec, pb_tuning_row *row) {
    int values = spec->n_lr * (spec->n_ranks > 0 ? spec->n_ranks : 1);
    int half = (values + 1) / 2, n = row->n_trials;
    bool halving = tune->strategy == PB_TUNE_HALVING;
    if (n == 0) return add_grid(spec, halving ? pb_tune_divisor(0) : 1, row);
    if (halving && n == values) return add_survivors(row, 0, values, half, pb_tune_divisor(1));
    if (halving && n == values + half)
        return add_survivors(row, values, half, (half + 1) / 2, pb_tune_divisor(2));
    return n < tune->trials ? add_one(tune, spec, row) : PB_OK;
}
