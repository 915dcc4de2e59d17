/* The operators of an assertion. Every one reduces its terms to an estimate with an interval
 * (claims_estimate.c) and compares that with what was claimed: inside = holds, outside = fails, across
 * a bound = unclear. Table of operators: reports/claims/README.md. */
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "reports/claims_op.h"
#include "reports/stats.h"

/* ---- judging ---- */

static cl_finding judged(const cl_estimate *e, double low, double high) {
    if (e->low >= low && e->high <= high) return CL_HOLDS;
    if (e->high < low || e->low > high) return CL_FAILS;
    return CL_UNCLEAR;
}

/* Below a bound, itself excluded. */
static cl_finding judged_below(double low, double high, double bound) {
    if (high < bound) return CL_HOLDS;
    return low >= bound ? CL_FAILS : CL_UNCLEAR;
}

static void settle(const cl_estimate *e, int64_t need, cl_finding finding, cl_outcome *out) {
    out->value = e->value;
    out->low = e->low;
    out->high = e->high;
    out->n = e->n;
    out->examples = e->examples;
    if (!isfinite(e->value)) out->finding = CL_MISSING;
    else if (!e->exact && !e->examples && e->n < need) out->finding = CL_TOO_FEW;
    else if (isnan(e->low) || isnan(e->high)) out->finding = CL_UNCLEAR;
    else out->finding = finding;
}

static void say(cl_outcome *out, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(cl_outcome *out, const char *what, const char *fmt, ...) {
    va_list ap;
    snprintf(out->what, sizeof out->what, "%s", what);
    va_start(ap, fmt);
    vsnprintf(out->wanted, sizeof out->wanted, fmt, ap);
    va_end(ap);
}

static void say_range(cl_outcome *out, const char *what, double low, double high) {
    if (!isfinite(low)) say(out, what, "at most %g", high);
    else if (!isfinite(high)) say(out, what, "at least %g", low);
    else if (low == high) say(out, what, "exactly %.10g", low);
    else say(out, what, "%g to %g", low, high);
}

/* ---- operators ---- */

static pb_status op_less(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    cl_estimate e;
    double bound = s->relative ? 1 - s->margin : -s->margin;
    PB_RETURN(cl_compared(x, s, cl_level(x, PB_STAT_LEVEL), &e));
    settle(&e, need, judged_below(e.low, e.high, bound), out);
    say(out, s->relative ? "ratio" : "difference", "below %g", bound + 0.0);
    return PB_OK;
}

static pb_status op_greater(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    cl_estimate e;
    double bound = s->relative ? 1 + s->margin : s->margin;
    PB_RETURN(cl_compared(x, s, cl_level(x, PB_STAT_LEVEL), &e));
    settle(&e, need, judged_below(-e.high, -e.low, -bound), out);
    say(out, s->relative ? "ratio" : "difference", "above %g", bound);
    return PB_OK;
}

/* One-sided at 5 % twice (two one-sided tests, Schuirmann 1987): the 90 % interval inside. */
static pb_status op_equivalent(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    cl_estimate e;
    double middle = s->relative ? 1 : 0;
    PB_RETURN(cl_compared(x, s, cl_level(x, 1 - 2 * PB_STAT_ALPHA), &e));
    settle(&e, need, judged(&e, middle - s->margin, middle + s->margin), out);
    say_range(out, s->relative ? "ratio" : "difference", middle - s->margin, middle + s->margin);
    return PB_OK;
}

static pb_status op_non_inferior(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    cl_estimate e;
    PB_RETURN(cl_compared(x, s, cl_level(x, 1 - 2 * PB_STAT_ALPHA), &e));
    double bound = s->relative ? 1 - s->better * s->margin : -s->better * s->margin;
    settle(&e, need,
           s->better > 0 ? judged_below(-e.high, -e.low, -bound)
                         : judged_below(e.low, e.high, bound),
           out);
    say(out, s->relative ? "ratio" : "difference", "%s %g", s->better > 0 ? "above" : "below",
        bound);
    return PB_OK;
}

static pb_status op_within(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    cl_values v = {0};
    PB_RETURN(cl_term(x, s->of, &v));
    cl_estimate e = {.value = NAN, .low = NAN, .high = NAN};
    if (v.n > 0) e = cl_mean(v.value, v.n, cl_level(x, PB_STAT_LEVEL), v.constant, v.grain);
    cl_values_free(&v);
    settle(&e, need, judged(&e, s->low, s->high), out);
    say_range(out, "value", s->low, s->high);
    return PB_OK;
}

static double rounded(double v, int64_t digits) {
    char text[64];
    double back = v;
    snprintf(text, sizeof text, "%.*e", (int)digits - 1, v);
    return pb_parse_f64(text, &back) ? back : NAN;
}

/* Every pair, not their mean. */
static pb_status op_equal(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    pb_status status = PB_OK;
    cl_values l = {0}, r = {0};
    double *a = NULL, *b = NULL;
    uint64_t *seeds = NULL;
    int n = 0, off = 0;
    PB_TRY(cl_term(x, s->left, &l));
    PB_TRY(cl_term(x, s->right, &r));
    PB_TRY(cl_pair(&l, &r, &a, &b, &seeds, &n));
    for (int i = 0; i < n; i++) {
        bool same = s->digits > 0 ? rounded(a[i], s->digits) == rounded(b[i], s->digits)
                                  : fabs(a[i] - b[i]) <= s->tolerance * fabs(b[i]);
        if (!same) off = i + 1;
    }
    bool constant = l.constant && r.constant;
    cl_estimate e = cl_exactly(n ? a[off ? off - 1 : 0] : NAN);
    e.exact = constant; /* each run is compared by itself: one needs no interval */
    e.n = constant ? 0 : n;
    settle(&e, need, off ? CL_FAILS : CL_HOLDS, out);
    if (n && s->digits > 0)
        say(out, "value", "%.*g to %d digits", (int)s->digits, b[off ? off - 1 : 0], (int)s->digits);
    else
        say(out, "value", "equal to %.15g", n ? b[off ? off - 1 : 0] : NAN);
done:
    cl_values_free(&l);
    cl_values_free(&r);
    free(a);
    free(b);
    free(seeds);
    return status;
}

/* Each term against its neighbour. It holds when every step does at the level; but one step of k outside
 * fails it, so that a step fails at the k-th part of alpha (Bonferroni): k steps right at the bound then fail
 * no more often than one. Reported is the smallest step, with the interval that the finding comes from. */
static pb_status op_ordered(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    bool fails = false, unclear = false, few = false, missing = false;
    cl_context strict = *x;
    cl_estimate worst = {.value = INFINITY}, outside = worst;
    strict.share = (x->share > 0 ? x->share : 1) / (s->n_list - 1);
    for (int i = 0; i + 1 < s->n_list; i++) {
        cl_settings step = *s;
        cl_estimate e, wide;
        step.left = s->list[s->falling ? i : i + 1];
        step.right = s->list[s->falling ? i + 1 : i];
        PB_RETURN(cl_compared(x, &step, cl_level(x, PB_STAT_LEVEL), &e));
        PB_RETURN(cl_compared(&strict, &step, cl_level(&strict, PB_STAT_LEVEL), &wide));
        missing = missing || !isfinite(e.value);
        few = few || (!e.exact && !e.examples && e.n < need);
        fails = fails || wide.high < -s->margin;
        unclear = unclear || !(e.low >= -s->margin);
        if (!(e.value < worst.value)) continue;
        worst = e;
        outside = wide;
    }
    if (fails || unclear) worst = outside;
    if (missing) worst.value = NAN;
    settle(&worst, need, fails ? CL_FAILS : unclear ? CL_UNCLEAR : CL_HOLDS, out);
    if (few && out->finding != CL_MISSING) out->finding = CL_TOO_FEW;
    say(out, "smallest step", "at least %g", -s->margin + 0.0);
    return PB_OK;
}

/* Least squares of log y on log x, one slope per seed. */
static double slope_of(const double *x, const double *y, int n) {
    double mx = 0, my = 0, xy = 0, xx = 0;
    for (int i = 0; i < n; i++) {
        mx += log(x[i]) / n;
        my += log(y[i]) / n;
    }
    for (int i = 0; i < n; i++) {
        xy += (log(x[i]) - mx) * (log(y[i]) - my);
        xx += (log(x[i]) - mx) * (log(x[i]) - mx);
    }
    return xy / xx;
}

static pb_status op_slope(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    pb_status status = PB_OK;
    cl_values v[CL_TERMS] = {0};
    cl_estimate e = {.value = NAN, .low = NAN, .high = NAN};
    double *slopes = calloc((size_t)x->n_records + 2, sizeof *slopes);
    int n = 0;
    bool constant = true;
    cl_grain grain = {.determined = true};
    if (!slopes) return PB_ERROR(PB_E_OOM, "no memory for slopes");
    for (int i = 0; i < s->n_list; i++) {
        PB_TRY(cl_term(x, s->list[i], &v[i]));
        constant = constant && v[i].constant;
        grain = cl_grain_of(grain, v[i].grain);
    }
    for (int k = 0; k < (constant ? 1 : v[0].n); k++) {
        double y[CL_TERMS];
        int found = 0;
        for (int i = 0; i < s->n_list; i++)
            for (int j = 0; j < v[i].n; j++)
                if ((v[i].constant || v[i].seed[j] == v[0].seed[k]) && v[i].value[j] > 0) {
                    y[found++] = v[i].value[j];
                    break;
                }
        if (found == s->n_list) slopes[n++] = slope_of(s->x, y, found);
    }
    if (grain.reach > 0) grain.reach = INFINITY; /* a logarithm has no grid */
    if (n > 0) e = cl_mean(slopes, n, cl_level(x, PB_STAT_LEVEL), constant, grain);
    settle(&e, need, judged(&e, s->low, s->high), out);
    say_range(out, "exponent", s->low, s->high);
done:
    for (int i = 0; i < s->n_list; i++) cl_values_free(&v[i]);
    free(slopes);
    return status;
}

/* The share of the runs beyond the threshold, where a diverged run always is. */
typedef struct share {
    double value;
    int seeds;
    pb_interval interval;
} share;

static int distinct_seeds(const cl_values *v) {
    int n = 0;
    if (v->constant) return v->n;
    for (int i = 0; i < v->n; i++) {
        bool before = false;
        for (int k = 0; k < i; k++) before = before || v->seed[k] == v->seed[i];
        n += !before;
    }
    return n;
}

/* Wilson's interval over the seeds: the runs of one seed (other rates, the same data in the same order)
 * are no independent observations, and here count as one. */
static share share_of(const cl_values *v, const cl_settings *s, double level) {
    int k = 0;
    share out = {.value = NAN, .seeds = distinct_seeds(v), .interval = {NAN, NAN}};
    for (int i = 0; i < v->n; i++)
        k += (v->bad && v->bad[i]) || v->value[i] > s->above || v->value[i] < s->below;
    if (v->n == 0) return out;
    out.value = (double)k / v->n;
    out.interval = pb_wilson(out.value * out.seeds, out.seeds, level);
    return out;
}

static pb_status op_share(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    cl_values v = {0};
    PB_RETURN(cl_term_raw(x, s->of, &v));
    share a = share_of(&v, s, cl_level(x, PB_STAT_LEVEL));
    cl_estimate e = {.value = a.value, .low = a.interval.low, .high = a.interval.high, .n = a.seeds};
    cl_values_free(&v);
    settle(&e, need, judged(&e, s->low, s->high), out);
    say_range(out, "share of runs", s->low, s->high);
    return PB_OK;
}

/* One run a seed: difference of two shares (Newcombe 1998, from Wilson's intervals). */
static void newcombe(const cl_values *l, const cl_values *r, const cl_settings *s, double level, cl_estimate *e) {
    share a = share_of(l, s, level), b = share_of(r, s, level);
    e->value = a.value - b.value;
    e->low = e->value - hypot(a.value - a.interval.low, b.interval.high - b.value);
    e->high = e->value + hypot(a.interval.high - a.value, b.value - b.interval.low);
    e->n = a.seeds < b.seeds ? a.seeds : b.seeds;
}

/* Runs become the share of each seed's runs beyond the threshold. Where between two of a seed's m rates (or other
 * settings) the threshold is crossed no share says: it is known to within half a step of 1/m. */
static void shares_of_seeds(cl_values *v, const cl_settings *s) {
    int runs = v->n;
    for (int i = 0; i < runs; i++)
        v->value[i] = (v->bad && v->bad[i]) || v->value[i] > s->above || v->value[i] < s->below;
    cl_merge_seeds(v);
    v->grain = (cl_grain){.reach = v->n ? 0.5 / (double)(runs / v->n) : 0};
}

/* Seeds are the observations; several runs of one are paired, share with share. */
static pb_status op_rarer(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    pb_status status = PB_OK;
    cl_values l = {0}, r = {0};
    cl_estimate e = {.value = NAN, .low = NAN, .high = NAN};
    double level = cl_level(x, PB_STAT_LEVEL), *a = NULL, *b = NULL;
    uint64_t *seeds = NULL;
    int n = 0;
    PB_TRY(cl_term_raw(x, s->left, &l));
    PB_TRY(cl_term_raw(x, s->right, &r));
    if (l.n > 0 && r.n > 0 && distinct_seeds(&l) == l.n && distinct_seeds(&r) == r.n) {
        newcombe(&l, &r, s, level, &e);
    } else if (l.n > 0 && r.n > 0) {
        shares_of_seeds(&l, s);
        shares_of_seeds(&r, s);
        PB_TRY(cl_pair(&l, &r, &a, &b, &seeds, &n));
        for (int i = 0; i < n; i++) a[i] -= b[i];
        if (n > 0) e = cl_mean(a, n, level, false, cl_grain_of(l.grain, r.grain));
    }
    settle(&e, need, judged_below(e.low, e.high, 0), out);
    say(out, "difference of shares", "below 0");
done:
    cl_values_free(&l);
    cl_values_free(&r);
    free(a);
    free(b);
    free(seeds);
    return status;
}

/* Ratio of two standard deviations over seeds; interval from the F distribution. */
static pb_status op_spread(cl_context *x, const cl_settings *s, int64_t need, cl_outcome *out) {
    pb_status status = PB_OK;
    cl_values l = {0}, r = {0};
    cl_estimate e = {.value = NAN, .low = NAN, .high = NAN};
    PB_TRY(cl_term(x, s->left, &l));
    PB_TRY(cl_term(x, s->right, &r));
    e.n = l.n < r.n ? l.n : r.n;
    if (e.n == 1) e.value = 0; /* there, but without a spread */
    if (e.n > 1) {
        double tail = (1 - cl_level(x, PB_STAT_LEVEL)) / 2;
        pb_mean a = pb_mean_of(l.value, l.n, PB_STAT_LEVEL),
                b = pb_mean_of(r.value, r.n, PB_STAT_LEVEL);
        if (l.grain.reach > 0 || r.grain.reach > 0) { /* a spread below the grid is not seen */
            e.value = b.sd > 0 ? a.sd / b.sd : 0;
        } else if (b.sd > 0 && a.sd > 0) {
            e.value = a.sd / b.sd;
            e.low = e.value / sqrt(gsl_cdf_fdist_Qinv(tail, l.n - 1, r.n - 1));
            e.high = e.value / sqrt(gsl_cdf_fdist_Pinv(tail, l.n - 1, r.n - 1));
        } else { /* equal bits for every seed: nothing to compare */
            e.value = 0;
        }
    }
    settle(&e, need, judged(&e, s->low, s->high), out);
    say_range(out, "ratio of standard deviations", s->low, s->high);
done:
    cl_values_free(&l);
    cl_values_free(&r);
    return status;
}

/* ---- the table ---- */

const cl_operator cl_operators[CL_OPERATORS] = {
    {"less", K_LEFT_RIGHT | K_MAY_MARGIN | K_RELATIVE, op_less},
    {"greater", K_LEFT_RIGHT | K_MAY_MARGIN | K_RELATIVE, op_greater},
    {"within", K_OF | K_RANGE, op_within},
    {"equal", K_LEFT_RIGHT | K_PRECISION, op_equal},
    {"equivalent", K_LEFT_RIGHT | K_MARGIN | K_RELATIVE, op_equivalent},
    {"non_inferior", K_LEFT_RIGHT | K_MARGIN | K_RELATIVE | K_BETTER, op_non_inferior},
    {"ordered", K_LIST | K_MAY_MARGIN | K_DIRECTION, op_ordered},
    {"slope", K_LIST | K_X | K_RANGE, op_slope},
    {"share", K_OF | K_THRESHOLD | K_RANGE, op_share},
    {"rarer", K_LEFT_RIGHT | K_THRESHOLD, op_rarer},
    {"spread", K_LEFT_RIGHT | K_RANGE, op_spread},
};
