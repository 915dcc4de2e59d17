/* AdaLoRA's budget schedule and selection (budget.h). Zhang et al. 2023 (arXiv 2303.10512),
 * sec. 3.3, in the form of the released code: the cubic term is (1 - (t - t_i)/(T - t_f - t_i))^3.
 * Appendix A prints (t - t_i - t_f), which would exceed the start value at t = t_i. Test:
 * tests/test_methods_unit.c. */
#include "methods/budget.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t pb_budget_last(const pb_budget *b) {
    return b->tfinal > 0 ? b->total_steps - b->tfinal : b->total_steps - 1;
}

int64_t pb_budget_at(const pb_budget *b, int64_t t) {
    if (b->total_steps == 0) return b->initial;
    if (t >= pb_budget_last(b)) return b->target;
    if (t <= b->tinit) return b->initial;
    double span = (double)(b->total_steps - b->tfinal - b->tinit);
    double left = 1 - (double)(t - b->tinit) / span;
    return (int64_t)((double)b->target + (double)(b->initial - b->target) * left * left * left);
}

pb_budget_action pb_budget_action_at(const pb_budget *b, int64_t t) {
    if (b->total_steps == 0) return PB_BUDGET_NONE;
    int64_t last = pb_budget_last(b);
    if (t > last) return PB_BUDGET_REAPPLY;
    if (t == last) return PB_BUDGET_FINAL;
    return t > b->tinit && t % b->delta_t == 0 ? PB_BUDGET_ALLOCATE : PB_BUDGET_NONE;
}

bool pb_budget_watches(const pb_budget *b, int64_t t) {
    return b->total_steps == 0 || t < b->total_steps - b->tfinal;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bool pb_budget_mask(const double *score, int64_t n, int64_t budget, double *scratch, double *keep) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(score[i])) return false;
    int64_t k = n - budget;
    for (int64_t i = 0; i < n; i++) keep[i] = 1;
    if (k <= 0) return true;
    if (k > n) k = n;
    memcpy(scratch, score, (size_t)n * sizeof *scratch);
    qsort(scratch, (size_t)n, sizeof *scratch, ascending);
    for (int64_t i = 0; i < n; i++)
        if (score[i] <= scratch[k - 1]) keep[i] = 0;
    return true;
}
