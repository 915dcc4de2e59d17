/* AdaLoRA's rank budget: how many of all triplets may stay at a step, and which. Host arithmetic
 * only. */
#ifndef PB_METHODS_BUDGET_H
#define PB_METHODS_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct pb_budget {
    int64_t total_steps; /* T; 0 = unknown: nothing is ever pruned */
    int64_t tinit,
        tfinal;      /* steps at the start without pruning, steps at the end with a fixed choice */
    int64_t delta_t; /* steps between allocations */
    int64_t initial, target; /* triplets over all sites */
} pb_budget;

typedef enum pb_budget_action {
    PB_BUDGET_NONE,     /* leave everything */
    PB_BUDGET_ALLOCATE, /* mask by the current scores */
    PB_BUDGET_FINAL,    /* mask by the current scores, and keep this choice */
    PB_BUDGET_REAPPLY   /* mask by the kept choice */
} pb_budget_action;

/* The step of the final choice: T - tfinal, and with tfinal = 0 the last step, so that every run
 * ends at its target. */
int64_t pb_budget_last(const pb_budget *b);
/* Triplets that may stay after optimizer step t (0-based). */
int64_t pb_budget_at(const pb_budget *b, int64_t t);
pb_budget_action pb_budget_action_at(const pb_budget *b, int64_t t);
/* Importance is updated at t < T - tfinal. */
bool pb_budget_watches(const pb_budget *b, int64_t t);

/* keep[i] := 0 where score[i] <= the k-th smallest score, k = n - budget (ties at the threshold all
 * go), else 1. k <= 0 keeps all. scratch: n doubles. False when a score is not finite: keep is then
 * untouched. */
bool pb_budget_mask(const double *score, int64_t n, int64_t budget, double *scratch, double *keep);

#endif
