/* Estimates: what one or two terms come to, with an interval (reports/stats.h). Differences of
 * per-example qualities pair the examples of equal seeds (claims_examples.c). */
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/claims_op.h"
#include "reports/stats.h"

double cl_level(const cl_context *x, double level) {
    return x->share > 0 ? 1 - (1 - level) * x->share : level;
}

cl_estimate cl_exactly(double v) {
    return (cl_estimate){.value = v, .low = v, .high = v, .exact = true};
}

cl_estimate cl_alone(double v) {
    return (cl_estimate){.value = v, .low = NAN, .high = NAN, .n = 1};
}

/* What a grid does to the interval of a mean. Each value x stands for x + e with |e| <= q. The values behind
 * have a mean off by m, |m| <= q, and their deviation is larger by sqrt((q^2 - m^2) n / (n - 1)) at most (Minkowski),
 * so that Student's arm of theirs ends at most m + t sqrt((q^2 - m^2) / (n - 1)) beyond the arm of what stands
 * there: at most q sqrt(1 + t^2 / (n - 1)), by Cauchy and Schwarz. Measured values without a grid that are equal for
 * every seed say nothing about the next seed: no interval. scale: of the values, for their rounding. */
static void grind(cl_estimate *e, double scale, double level, cl_grain grain) {
    if (e->exact || e->n < 2) return;
    if (grain.reach > 0) {
        double t = gsl_cdf_tdist_Qinv((1 - level) / 2, e->n - 1);
        double more = grain.reach * sqrt(1 + t * t / (e->n - 1));
        e->low -= more;
        e->high += more;
    } else if (!grain.determined && e->high - e->low <= 1e-12 * scale) {
        e->low = e->high = NAN;
    }
    if (!isfinite(grain.reach)) e->low = e->high = NAN;
}

static double largest(const double *v, int n) {
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, fabs(v[i]));
    return most;
}

cl_estimate cl_mean(const double *v, int n, double level, bool exact, cl_grain grain) {
    if (exact) return cl_exactly(v[0]);
    if (n == 1) return cl_alone(v[0]);
    pb_mean m = pb_mean_of(v, n, level);
    cl_estimate e = {.value = m.mean, .low = m.interval.low, .high = m.interval.high, .n = n};
    grind(&e, largest(v, n), level, grain);
    return e;
}

static bool is_before(const pb_json *o) {
    const pb_json *e = NULL;
    if (cl_is_before(o)) return true;
    cJSON_ArrayForEach (e, o)
        if (is_before(e)) return true;
    return false;
}

/* No seed moves it: the interval speaks of new examples, and one seed is as good as many. */
static void over_examples(const pb_difference *diff, double level, bool own, cl_estimate *out) {
    double reach = gsl_cdf_ugaussian_Qinv((1 - level) / 2) * diff->se_examples;
    *out = (cl_estimate){.value = diff->mean,
                         .low = own ? diff->interval_examples.low : diff->mean - reach,
                         .high = own ? diff->interval_examples.high : diff->mean + reach,
                         .n = 1,
                         .examples = diff->n_examples};
}

static void over_seeds(const pb_difference *diff, double level, bool own, cl_estimate *out) {
    *out = (cl_estimate){.value = diff->mean, .low = diff->interval.low, .high = diff->interval.high,
                         .n = diff->n_seeds};
    if (own) return;
    double reach = pb_difference_reach(diff, 1 - level); /* from the standard errors, as p and the
                                                            detectable difference */
    out->low = diff->mean - reach;
    out->high = diff->mean + reach;
}

static pb_status difference_of(cl_context *x, const cl_settings *s, const double *a, const double *b,
                               const uint64_t *seeds, int n, double level, cl_estimate *out) {
    pb_status status = PB_OK;
    cl_table t = {0};
    pb_difference diff;
    bool own = !(x->share > 0 && x->share < 1), before = is_before(s->left) || is_before(s->right);
    pb_stat_options options = {.level = level, .key = 1};
    if (!own) options.resamples = options.flips = 1; /* a quantile that far out needs no resamples */
    if ((n == 1 && !before) || (!cl_table_of(x, s, seeds, n, &t) && before)) {
        *out = cl_alone(a[0] - b[0]);
        return PB_OK;
    }
    if (!t.d) {
        t = (cl_table){.n_seeds = n, .n_examples = 1, .d = malloc((size_t)n * sizeof *t.d)};
        if (!t.d) return PB_ERROR(PB_E_OOM, "no memory for %d differences", n);
        for (int i = 0; i < n; i++) t.d[i] = a[i] - b[i];
    }
    pb_paired paired = {
        .n_seeds = t.n_seeds, .n_examples = t.n_examples, .d = t.d, .weights = t.weights};
    PB_TRY(pb_difference_of(&paired, &options, &diff));
    if (t.seedless) over_examples(&diff, level, own, out);
    else if (n == 1) *out = cl_alone(diff.mean);
    else over_seeds(&diff, level, own, out);
done:
    cl_table_free(&t);
    return status;
}

/* left - right, or left / right when relative. n = 0: nothing pairs. */
pb_status cl_compared(cl_context *x, const cl_settings *s, double level, cl_estimate *out) {
    pb_status status = PB_OK;
    cl_values l = {0}, r = {0};
    double *a = NULL, *b = NULL;
    uint64_t *seeds = NULL;
    int n = 0;
    *out = (cl_estimate){.value = NAN, .low = NAN, .high = NAN};
    PB_TRY(cl_term(x, s->left, &l));
    PB_TRY(cl_term(x, s->right, &r));
    PB_TRY(cl_pair(&l, &r, &a, &b, &seeds, &n));
    if (n == 0) goto done;
    if (l.constant && r.constant) {
        *out = cl_exactly(s->relative ? a[0] / b[0] : a[0] - b[0]);
        goto done;
    }
    if (!s->relative) {
        PB_TRY(difference_of(x, s, a, b, seeds, n, level, out));
        grind(out, fmax(largest(a, n), largest(b, n)), level, cl_grain_of(l.grain, r.grain));
        goto done;
    }
    pb_ratio ratio;
    PB_TRY(pb_ratio_of(a, b, n, level, &ratio));
    *out = (cl_estimate){.value = ratio.ratio, .low = ratio.interval.low, .high = ratio.interval.high,
                      .n = n};
    if (n == 1) *out = cl_alone(ratio.ratio);
    cl_grain grain = cl_grain_of(l.grain, r.grain);
    if (grain.reach > 0) grain.reach = INFINITY; /* known to within so much, not so many per cent */
    grind(out, ratio.ratio, level, grain);
done:
    cl_values_free(&l);
    cl_values_free(&r);
    free(a);
    free(b);
    free(seeds);
    return status;
}
