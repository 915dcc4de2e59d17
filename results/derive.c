/* From samples to one number: the only derivations a metric may name. Order statistics through GSL;
 * sums are compensated, so that the mean of zeros and ones is exactly count / n and does not depend
 * on the order of large samples. */
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "results/record_impl.h"

typedef enum how { MEAN, MEDIAN, SUM, LAST, MIN, MAX, COUNT, P10, P90, HOW_COUNT } how;
static const char *const names[HOW_COUNT] = {"mean", "median", "sum", "last", "min",
                                             "max",  "count",  "p10", "p90"};

static how find(const char *name) {
    int i = 0;
    while (i < HOW_COUNT && strcmp(names[i], name) != 0) i++;
    return (how)i;
}

bool pb_derive_known(const char *name) {
    return find(name) < HOW_COUNT;
}

/* Neumaier's sum. Infinities and NaN pass through. */
static double sum_of(const double *v, int64_t n) {
    double sum = 0, lost = 0;
    for (int64_t i = 0; i < n; i++) {
        double t = sum + v[i];
        if (fabs(sum) >= fabs(v[i]))
            lost += (sum - t) + v[i];
        else
            lost += (v[i] - t) + sum;
        sum = t;
    }
    return isfinite(sum) ? sum + lost : sum;
}

static pb_status quantile(const double *values, int64_t n, double q, double *out) {
    size_t count = (size_t)n;
    double *sorted = malloc(count * sizeof *sorted);
    if (!sorted) return PB_ERROR(PB_E_OOM, "no memory to sort %lld values", (long long)n);
    memcpy(sorted, values, count * sizeof *sorted);
    gsl_sort(sorted, 1, count);
    *out = q == 0.5 ? gsl_stats_median_from_sorted_data(sorted, 1, count)
                    : gsl_stats_quantile_from_sorted_data(sorted, 1, count, q);
    free(sorted);
    return PB_OK;
}

pb_status pb_derive(const char *name, const double *values, int64_t n, double *out) {
    how h = find(name);
    *out = NAN;
    if (h == HOW_COUNT) return PB_ERROR(PB_E_BUG, "unknown derivation \"%s\"", name);
    if (h == COUNT || (h == SUM && n == 0)) {
        *out = h == COUNT ? (double)n : 0;
        return PB_OK;
    }
    if (n < 1) return PB_ERROR(PB_E_INPUT, "the %s of no values is not defined", name);
    if (h == LAST) {
        *out = values[n - 1];
        return PB_OK;
    }
    for (int64_t i = 0; i < n; i++)
        if (isnan(values[i])) return PB_OK; /* NaN stays visible, and sorting needs an order */
    switch (h) {
    case MEAN:
        *out = sum_of(values, n) / (double)n;
        break;
    case SUM:
        *out = sum_of(values, n);
        break;
    case MIN:
        *out = gsl_stats_min(values, 1, (size_t)n);
        break;
    case MAX:
        *out = gsl_stats_max(values, 1, (size_t)n);
        break;
    case MEDIAN:
        return quantile(values, n, 0.5, out);
    case P10:
        return quantile(values, n, 0.1, out);
    case P90:
        return quantile(values, n, 0.9, out);
    default:
        break;
    }
    return PB_OK;
}

double pb_roughness(const double *loss, int64_t n) {
    double sum = 0;
    int64_t from = n / 2, count = n - from - 1;
    if (count < 2) return NAN;
    for (int64_t i = from + 1; i < n; i++) sum += (loss[i] - loss[i - 1]) * (loss[i] - loss[i - 1]);
    return sqrt(sum / (double)count / 2);
}

double pb_correlation(const double *x, const double *y, int64_t n) {
    return n < 3 ? NAN : gsl_stats_correlation(x, 1, y, 1, (size_t)n);
}

double pb_upturn(const double *nll, int64_t n) {
    if (n < 2) return NAN;
    double least = gsl_stats_min(nll, 1, (size_t)n);
    return least > 0 ? (nll[n - 1] - least) / least : NAN;
}
