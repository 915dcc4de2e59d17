/* Which values a row tries next: the whole grid, the survivors of a halving, one step beyond an edge,
 * or between the best value and a neighbour. Test: tests/test_tune.c. */
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

/* Beyond the edge that `best` is. *lr 0 = there is no room. */
static void beyond(const pb_tuning_row *row, double best, int64_t rank, bool high, double *lr) {
    const pb_tuning_trial *next = pb_tuning_neighbour(row, best, rank, !high);
    double value = next ? rounded(best * (best / next->lr)) : 0;
    *lr = value > 0 && value <= 10 ? value : 0;
}

/* Above (1) or below (0) the chosen trial? Towards a rate that does not train, for its loss does not
 * say how far down the best one lies; after a refinement on one side that was no better, the other one;
 * else towards the better neighbour. */
static int side_of(const pb_tuning_row *row, const pb_tuning_trial *const next[2]) {
    const pb_tuning_trial *best = &row->trials[row->chosen];
    const pb_tuning_trial *last = &row->trials[row->n_trials - 1];
    if (strcmp(row->edge, "cliff") == 0) return 1;
    if (strcmp(last->why, "refine") == 0 && last != best && last->rank == best->rank)
        return last->lr < best->lr;
    return next[1]->mean < next[0]->mean;
}

/* Between the chosen trial and a neighbour, or the other one where that is too near. */
static void between(const pb_tuning_row *row, double *lr) {
    const pb_tuning_trial *best = &row->trials[row->chosen], *next[2];
    *lr = 0;
    for (int side = 0; side < 2; side++) {
        next[side] = pb_tuning_neighbour(row, best->lr, best->rank, side == 1);
        double ratio = next[side] ? fmax(next[side]->lr / best->lr, best->lr / next[side]->lr) : 0;
        if (ratio < CLOSEST * CLOSEST) next[side] = NULL;
    }
    if (!next[0] && !next[1]) return;
    int side = next[0] && next[1] ? side_of(row, next) : next[1] != NULL;
    *lr = rounded(sqrt(best->lr * next[side]->lr));
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
    bool high = strcmp(row->edge, "high") == 0;
    if (tune->extend && (high || strcmp(row->edge, "low") == 0)) {
        beyond(row, best.lr, best.rank, high, &lr);
        if (lr > 0) return add(row, lr, best.rank, 1, "extend");
    }
    between(row, &lr);
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
