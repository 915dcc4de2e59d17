/* The operators of an assertion. Every one reduces its terms to an estimate with an interval
 * (reports/stats.h) and compares that with what was claimed: inside = holds, outside = fails, across
 * a bound = unclear. Differences of a per-example quality pair the examples of equal seeds. Table of
 * operators: reports/claims/README.md. */
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "reports/claims_impl.h"
#include "reports/stats.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define MAX_TERMS 16

const char *cl_finding_name(cl_finding f) {
    static const char *const names[] = {"holds", "fails", "unclear", "too few seeds", "missing",
                                        "not comparable"};
    return names[f];
}

/* What an assertion says, read from its JSON. */
typedef struct settings {
    const pb_json *left, *right, *of;
    const pb_json *list[MAX_TERMS];
    double x[MAX_TERMS];
    int n_list, n_x;
    double margin, low, high, above, below, tolerance;
    int64_t digits;
    bool relative, falling;
    int better; /* of non_inferior: +1 higher, -1 lower */
} settings;

typedef struct estimate {
    double value, low, high;
    int n;
    bool exact; /* no seeds: arithmetic */
} estimate;

/* ---- estimates ---- */

/* The level of an interval on its own, or of one in a family: 1 - (1 - level) x share. */
static double level_of(const cl_context *x, double level) {
    return x->share > 0 ? 1 - (1 - level) * x->share : level;
}

static estimate exactly(double v, int n, bool exact) {
    return (estimate){.value = v, .low = v, .high = v, .n = exact ? 0 : n, .exact = exact};
}

/* Several values: their mean and Student's interval; one value has none. */
static estimate mean_of(const double *v, int n, double level, bool exact) {
    if (exact || n == 1) return exactly(v[0], n, exact);
    pb_mean m = pb_mean_of(v, n, level);
    return (estimate){.value = m.mean, .low = m.interval.low, .high = m.interval.high, .n = n};
}

/* The sample that the metric of a plain term is the mean of; NULL when there is none. */
static const pb_sample *examples_of(const pb_record *r, const pb_json *term) {
    const pb_metric *m = r ? pb_record_find(r, pb_json_get(term, "metric")->valuestring) : NULL;
    if (!m || strncmp(m->from, "mean:eval/", 10) != 0) return NULL;
    const pb_sample *s = pb_record_find_sample(r, strchr(m->from, ':') + 1);
    return s && s->values ? s : NULL;
}

/* eval/test/nll@rank=3 -> the ids of eval/test. */
static const pb_sample *ids_of(const pb_record *r, const char *sample) {
    char tag[96];
    const char *slash = strrchr(sample, '/');
    snprintf(tag, sizeof tag, "%.*s/id", (int)(slash - sample), sample);
    const pb_sample *s = pb_record_find_sample(r, tag);
    return s && s->values ? s : NULL;
}

static bool same_examples(const pb_record *a, const pb_sample *sa, const pb_record *b,
                          const pb_sample *sb) {
    const pb_sample *ia = ids_of(a, sa->tag), *ib = ids_of(b, sb->tag);
    return sa->n == sb->n && ia && ib && ia->n == sa->n && ib->n == sb->n &&
           memcmp(ia->values, ib->values, (size_t)ia->n * sizeof(double)) == 0;
}

/* d[seed][example] of two plain terms, NULL when they have no examples in common. */
static double *example_table(const cl_context *x, const settings *s, const uint64_t *seeds, int n,
                             int *n_examples) {
    double *d = NULL;
    *n_examples = 0;
    for (int i = 0; i < n; i++) {
        const pb_record *a = cl_term_run(x, s->left, seeds[i]),
                        *b = cl_term_run(x, s->right, seeds[i]);
        const pb_sample *sa = a && b ? examples_of(a, s->left) : NULL,
                        *sb = a && b ? examples_of(b, s->right) : NULL;
        bool fits = sa && sb && same_examples(a, sa, b, sb) && sa->n > 1 && sa->n < INT32_MAX &&
                    (i == 0 || sa->n == *n_examples);
        if (fits && i == 0) {
            *n_examples = (int)sa->n;
            d = malloc((size_t)n * (size_t)sa->n * sizeof *d);
        }
        if (!fits || !d) {
            free(d);
            return NULL;
        }
        for (int k = 0; k < *n_examples; k++)
            d[(size_t)i * (size_t)*n_examples + (size_t)k] = sa->values[k] - sb->values[k];
    }
    return d;
}

static pb_status difference_of(const cl_context *x, const settings *s, const double *a,
                               const double *b, const uint64_t *seeds, int n, double level,
                               estimate *out) {
    pb_status status = PB_OK;
    int n_examples = 0;
    pb_difference diff;
    bool alone = !(x->share > 0 && x->share < 1);
    pb_stat_options options = {.level = level, .key = 1};
    if (!alone) options.resamples = options.flips = 1; /* a quantile that far out needs no resamples */
    double *d = n > 1 ? example_table(x, s, seeds, n, &n_examples) : NULL;
    if (!d) {
        n_examples = 1;
        d = malloc(((size_t)n + 1) * sizeof *d);
        if (!d) return PB_ERROR(PB_E_OOM, "no memory for %d differences", n);
        for (int i = 0; i < n; i++) d[i] = a[i] - b[i];
    }
    if (n == 1) {
        *out = exactly(d[0], 1, false);
        goto done;
    }
    pb_paired paired = {.n_seeds = n, .n_examples = n_examples, .d = d};
    PB_TRY(pb_difference_of(&paired, &options, &diff));
    *out = (estimate){.value = diff.mean, .low = diff.interval.low, .high = diff.interval.high,
                      .n = n};
    if (!alone) { /* from the standard errors, as p and the detectable difference */
        double reach = pb_difference_reach(&diff, 1 - level);
        out->low = diff.mean - reach;
        out->high = diff.mean + reach;
    }
done:
    free(d);
    return status;
}

/* left - right, or left / right when relative. n = 0: nothing pairs. */
static pb_status compared(cl_context *x, const settings *s, double level, estimate *out) {
    pb_status status = PB_OK;
    cl_values l = {0}, r = {0};
    double *a = NULL, *b = NULL;
    uint64_t *seeds = NULL;
    int n = 0;
    *out = (estimate){.value = NAN, .low = NAN, .high = NAN};
    PB_TRY(cl_term(x, s->left, &l));
    PB_TRY(cl_term(x, s->right, &r));
    PB_TRY(cl_pair(&l, &r, &a, &b, &seeds, &n));
    if (n == 0) goto done;
    if (l.constant && r.constant) {
        *out = exactly(s->relative ? a[0] / b[0] : a[0] - b[0], 0, true);
        goto done;
    }
    if (!s->relative) {
        PB_TRY(difference_of(x, s, a, b, seeds, n, level, out));
        goto done;
    }
    pb_ratio ratio;
    PB_TRY(pb_ratio_of(a, b, n, level, &ratio));
    *out = (estimate){.value = ratio.ratio, .low = ratio.interval.low, .high = ratio.interval.high,
                      .n = n};
    if (n == 1) *out = exactly(ratio.ratio, 1, false);
done:
    cl_values_free(&l);
    cl_values_free(&r);
    free(a);
    free(b);
    free(seeds);
    return status;
}

/* ---- judging ---- */

static cl_finding judged(const estimate *e, double low, double high) {
    if (e->low >= low && e->high <= high) return CL_HOLDS;
    if (e->high < low || e->low > high) return CL_FAILS;
    return CL_UNCLEAR;
}

/* Below a bound, itself excluded. */
static cl_finding judged_below(double low, double high, double bound) {
    if (high < bound) return CL_HOLDS;
    return low >= bound ? CL_FAILS : CL_UNCLEAR;
}

static void settle(const estimate *e, int64_t need, cl_finding finding, cl_outcome *out) {
    out->value = e->value;
    out->low = e->low;
    out->high = e->high;
    out->n = e->n;
    if (!isfinite(e->value)) out->finding = CL_MISSING;
    else if (!e->exact && e->n < need) out->finding = CL_TOO_FEW;
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

typedef pb_status (*operator_fn)(cl_context *x, const settings *s, int64_t need, cl_outcome *out);

static pb_status op_less(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
    estimate e;
    double bound = s->relative ? 1 - s->margin : -s->margin;
    PB_RETURN(compared(x, s, level_of(x, PB_STAT_LEVEL), &e));
    settle(&e, need, judged_below(e.low, e.high, bound), out);
    say(out, s->relative ? "ratio" : "difference", "below %g", bound + 0.0);
    return PB_OK;
}

static pb_status op_greater(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
    estimate e;
    double bound = s->relative ? 1 + s->margin : s->margin;
    PB_RETURN(compared(x, s, level_of(x, PB_STAT_LEVEL), &e));
    settle(&e, need, judged_below(-e.high, -e.low, -bound), out);
    say(out, s->relative ? "ratio" : "difference", "above %g", bound);
    return PB_OK;
}

/* One-sided at 5 % twice (two one-sided tests, Schuirmann 1987): the 90 % interval inside. */
static pb_status op_equivalent(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
    estimate e;
    double middle = s->relative ? 1 : 0;
    PB_RETURN(compared(x, s, level_of(x, 1 - 2 * PB_STAT_ALPHA), &e));
    settle(&e, need, judged(&e, middle - s->margin, middle + s->margin), out);
    say_range(out, s->relative ? "ratio" : "difference", middle - s->margin, middle + s->margin);
    return PB_OK;
}

static pb_status op_non_inferior(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
    estimate e;
    PB_RETURN(compared(x, s, level_of(x, 1 - 2 * PB_STAT_ALPHA), &e));
    double bound = s->relative ? 1 - s->better * s->margin : -s->better * s->margin;
    settle(&e, need,
           s->better > 0 ? judged_below(-e.high, -e.low, -bound)
                         : judged_below(e.low, e.high, bound),
           out);
    say(out, s->relative ? "ratio" : "difference", "%s %g", s->better > 0 ? "above" : "below",
        bound);
    return PB_OK;
}

static pb_status op_within(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
    cl_values v = {0};
    PB_RETURN(cl_term(x, s->of, &v));
    estimate e = {.value = NAN, .low = NAN, .high = NAN};
    if (v.n > 0) e = mean_of(v.value, v.n, level_of(x, PB_STAT_LEVEL), v.constant);
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
static pb_status op_equal(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
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
    estimate e = n ? exactly(a[off ? off - 1 : 0], n, l.constant && r.constant)
                   : (estimate){.value = NAN};
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

/* Each term against its neighbour; the least clear step is what is reported. */
static pb_status op_ordered(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
    bool fails = false, unclear = false, few = false, missing = false;
    estimate worst = {.value = INFINITY};
    for (int i = 0; i + 1 < s->n_list; i++) {
        settings step = *s;
        estimate e;
        step.left = s->list[s->falling ? i : i + 1];
        step.right = s->list[s->falling ? i + 1 : i];
        PB_RETURN(compared(x, &step, level_of(x, PB_STAT_LEVEL), &e));
        missing = missing || !isfinite(e.value);
        few = few || (!e.exact && e.n < need);
        fails = fails || e.high < -s->margin;
        unclear = unclear || !(e.low >= -s->margin);
        if (e.value < worst.value) worst = e;
    }
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

static pb_status op_slope(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
    pb_status status = PB_OK;
    cl_values v[MAX_TERMS] = {0};
    estimate e = {.value = NAN, .low = NAN, .high = NAN};
    double *slopes = calloc((size_t)x->n_records + 2, sizeof *slopes);
    int n = 0;
    bool constant = true;
    if (!slopes) return PB_ERROR(PB_E_OOM, "no memory for slopes");
    for (int i = 0; i < s->n_list; i++) {
        PB_TRY(cl_term(x, s->list[i], &v[i]));
        constant = constant && v[i].constant;
    }
    for (int k = 0; k < (constant ? 1 : v[0].n); k++) {
        double y[MAX_TERMS];
        int found = 0;
        for (int i = 0; i < s->n_list; i++)
            for (int j = 0; j < v[i].n; j++)
                if ((v[i].constant || v[i].seed[j] == v[0].seed[k]) && v[i].value[j] > 0) {
                    y[found++] = v[i].value[j];
                    break;
                }
        if (found == s->n_list) slopes[n++] = slope_of(s->x, y, found);
    }
    if (n > 0) e = mean_of(slopes, n, level_of(x, PB_STAT_LEVEL), constant);
    settle(&e, need, judged(&e, s->low, s->high), out);
    say_range(out, "exponent", s->low, s->high);
done:
    for (int i = 0; i < s->n_list; i++) cl_values_free(&v[i]);
    free(slopes);
    return status;
}

/* How many of the runs lie beyond the threshold; a diverged run always does. */
static int beyond(const cl_values *v, const settings *s) {
    int n = 0;
    for (int i = 0; i < v->n; i++)
        n += (v->bad && v->bad[i]) || v->value[i] > s->above || v->value[i] < s->below;
    return n;
}

static pb_status op_share(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
    cl_values v = {0};
    PB_RETURN(cl_term_raw(x, s->of, &v));
    estimate e = {.value = NAN, .low = NAN, .high = NAN};
    if (v.n > 0) {
        int k = beyond(&v, s);
        pb_interval w = pb_wilson(k, v.n, level_of(x, PB_STAT_LEVEL));
        e = (estimate){.value = (double)k / v.n, .low = w.low, .high = w.high, .n = v.n};
    }
    cl_values_free(&v);
    settle(&e, need, judged(&e, s->low, s->high), out);
    say_range(out, "share of runs", s->low, s->high);
    return PB_OK;
}

/* Difference of two shares (Newcombe 1998, from Wilson's intervals). */
static pb_status op_rarer(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
    pb_status status = PB_OK;
    cl_values l = {0}, r = {0};
    estimate e = {.value = NAN, .low = NAN, .high = NAN};
    PB_TRY(cl_term_raw(x, s->left, &l));
    PB_TRY(cl_term_raw(x, s->right, &r));
    if (l.n > 0 && r.n > 0) {
        double a = (double)beyond(&l, s) / l.n, b = (double)beyond(&r, s) / r.n;
        double level = level_of(x, PB_STAT_LEVEL);
        pb_interval wa = pb_wilson(a * l.n, l.n, level), wb = pb_wilson(b * r.n, r.n, level);
        e.value = a - b;
        e.low = e.value - hypot(a - wa.low, wb.high - b);
        e.high = e.value + hypot(wa.high - a, b - wb.low);
        e.n = l.n < r.n ? l.n : r.n;
    }
    settle(&e, need, judged_below(e.low, e.high, 0), out);
    say(out, "difference of shares", "below 0");
done:
    cl_values_free(&l);
    cl_values_free(&r);
    return status;
}

/* Ratio of two standard deviations over seeds; interval from the F distribution. */
static pb_status op_spread(cl_context *x, const settings *s, int64_t need, cl_outcome *out) {
    pb_status status = PB_OK;
    cl_values l = {0}, r = {0};
    estimate e = {.value = NAN, .low = NAN, .high = NAN};
    PB_TRY(cl_term(x, s->left, &l));
    PB_TRY(cl_term(x, s->right, &r));
    e.n = l.n < r.n ? l.n : r.n;
    if (e.n == 1) e.value = 0; /* there, but without a spread */
    if (e.n > 1) {
        double tail = (1 - level_of(x, PB_STAT_LEVEL)) / 2;
        pb_mean a = pb_mean_of(l.value, l.n, PB_STAT_LEVEL),
                b = pb_mean_of(r.value, r.n, PB_STAT_LEVEL);
        if (b.sd > 0 && a.sd > 0) {
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

enum {
    K_LEFT_RIGHT = 1,
    K_OF = 2,
    K_LIST = 4,
    K_MARGIN = 8, /* required */
    K_RELATIVE = 16,
    K_RANGE = 32,
    K_THRESHOLD = 64,
    K_DIRECTION = 128,
    K_X = 256,
    K_BETTER = 512,
    K_PRECISION = 1024,
    K_MAY_MARGIN = 2048
};

static const struct operation {
    const char *name;
    unsigned keys;
    operator_fn run;
} operations[] = {
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

static const struct {
    const char *name;
    unsigned keys;
} key_names[] = {
    {"left", K_LEFT_RIGHT},  {"right", K_LEFT_RIGHT},   {"of", K_OF | K_LIST},
    {"margin", K_MARGIN | K_MAY_MARGIN}, {"relative", K_RELATIVE}, {"low", K_RANGE},
    {"high", K_RANGE},       {"above", K_THRESHOLD},    {"below", K_THRESHOLD},
    {"direction", K_DIRECTION}, {"x", K_X},             {"better", K_BETTER},
    {"digits", K_PRECISION}, {"tolerance", K_PRECISION},
};

static const struct operation *operation_of(const char *name) {
    for (size_t i = 0; i < COUNT(operations); i++)
        if (strcmp(operations[i].name, name) == 0) return &operations[i];
    return NULL;
}

static pb_status find_operation(const pb_json *a, const char *where,
                                const struct operation **out) {
    const char *names[COUNT(operations)];
    const pb_json *op = pb_json_get(a, "op");
    for (size_t i = 0; i < COUNT(operations); i++) names[i] = operations[i].name;
    if (!cJSON_IsString(op)) return PB_ERROR(PB_E_INPUT, "%s: op: expected a text", where);
    *out = operation_of(op->valuestring);
    if (*out) return PB_OK;
    return cl_known(where, "operator", op->valuestring, names, COUNT(operations));
}

static pb_status only_keys(const pb_json *a, const char *where, unsigned keys) {
    const char *names[COUNT(key_names) + 4] = {"says", "op", "decides", "seeds"};
    size_t n = 4;
    for (size_t i = 0; i < COUNT(key_names); i++)
        if (key_names[i].keys & keys) names[n++] = key_names[i].name;
    return pb_json_only_keys(a, where, names, n);
}

static pb_status need_key(const pb_json *a, const char *where, const char *key) {
    if (pb_json_get(a, key)) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: %s: missing", where, key);
}

static pb_status read_list(const pb_json *a, const char *where, settings *s) {
    const pb_json *list = pb_json_get(a, "of"), *e = NULL;
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (n < 2 || n > MAX_TERMS)
        return PB_ERROR(PB_E_INPUT, "%s: of: expected an array of 2 to %d terms", where, MAX_TERMS);
    cJSON_ArrayForEach (e, list) s->list[s->n_list++] = e;
    return PB_OK;
}

static pb_status read_x(const pb_json *a, const char *where, settings *s) {
    const pb_json *list = pb_json_get(a, "x"), *e = NULL;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != s->n_list)
        return PB_ERROR(PB_E_INPUT, "%s: x: expected an array of %d numbers, one for each of \"of\"",
                        where, s->n_list);
    cJSON_ArrayForEach (e, list) {
        if (!cJSON_IsNumber(e) || !(e->valuedouble > 0))
            return PB_ERROR(PB_E_INPUT, "%s: x[%d]: expected a number above 0", where, s->n_x);
        s->x[s->n_x++] = e->valuedouble;
    }
    for (int i = 1; i < s->n_x; i++)
        if (s->x[i] == s->x[0])
            return PB_ERROR(PB_E_INPUT, "%s: x[%d]: as x[0]", where, i);
    return PB_OK;
}

static pb_status read_numbers(const pb_json *a, const char *where, unsigned keys, settings *s) {
    static const char *const directions[] = {"rising", "falling"}, *const betters[] = {"lower",
                                                                                      "higher"};
    int choice = 0;
    if (keys & K_MARGIN) PB_RETURN(need_key(a, where, "margin"));
    PB_RETURN(pb_json_read_f64(a, where, "margin", 0, 1e18, &s->margin));
    PB_RETURN(pb_json_read_bool(a, where, "relative", &s->relative));
    PB_RETURN(pb_json_read_f64(a, where, "low", -1e300, 1e300, &s->low));
    PB_RETURN(pb_json_read_f64(a, where, "high", -1e300, 1e300, &s->high));
    PB_RETURN(pb_json_read_f64(a, where, "above", -1e300, 1e300, &s->above));
    PB_RETURN(pb_json_read_f64(a, where, "below", -1e300, 1e300, &s->below));
    PB_RETURN(pb_json_read_f64(a, where, "tolerance", 0, 1, &s->tolerance));
    PB_RETURN(pb_json_read_i64(a, where, "digits", 1, 15, &s->digits));
    if (keys & K_DIRECTION) {
        PB_RETURN(need_key(a, where, "direction"));
        PB_RETURN(pb_json_read_choice(a, where, "direction", directions, 2, &choice));
        s->falling = choice == 1;
    }
    if (keys & K_BETTER) {
        PB_RETURN(need_key(a, where, "better"));
        PB_RETURN(pb_json_read_choice(a, where, "better", betters, 2, &choice));
        s->better = choice == 1 ? 1 : -1;
    }
    if ((keys & K_RANGE) && ((!isfinite(s->low) && !isfinite(s->high)) || s->low > s->high))
        return PB_ERROR(PB_E_INPUT, "%s: expected low, high or both, low not above high", where);
    if ((keys & K_THRESHOLD) && isfinite(s->above) == isfinite(s->below))
        return PB_ERROR(PB_E_INPUT, "%s: expected one of above and below", where);
    return PB_OK;
}

static pb_status read_settings(const pb_json *a, const char *where, const struct operation **op,
                               settings *s) {
    *s = (settings){.low = -INFINITY, .high = INFINITY, .above = INFINITY, .below = -INFINITY};
    PB_RETURN(find_operation(a, where, op));
    unsigned keys = (*op)->keys;
    PB_RETURN(only_keys(a, where, keys));
    if (keys & K_LEFT_RIGHT) {
        PB_RETURN(need_key(a, where, "left"));
        PB_RETURN(need_key(a, where, "right"));
        s->left = pb_json_get(a, "left");
        s->right = pb_json_get(a, "right");
    }
    if (keys & K_OF) {
        PB_RETURN(need_key(a, where, "of"));
        s->of = pb_json_get(a, "of");
    }
    if (keys & K_LIST) PB_RETURN(read_list(a, where, s));
    if (keys & K_X) PB_RETURN(read_x(a, where, s));
    return read_numbers(a, where, keys, s);
}

pb_status cl_check_assertion(const pb_claim_file *claim, const char *where, const pb_json *a) {
    const struct operation *op = NULL;
    settings s;
    char place[CL_WHERE];
    int64_t seeds = 1;
    bool decides = true;
    if (!cJSON_IsObject(a)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    PB_RETURN(read_settings(a, where, &op, &s));
    const pb_json *says = pb_json_get(a, "says");
    if (!cJSON_IsString(says) || !*says->valuestring)
        return PB_ERROR(PB_E_INPUT, "%s: says: expected a text", where);
    PB_RETURN(pb_json_read_bool(a, where, "decides", &decides));
    PB_RETURN(pb_json_read_i64(a, where, "seeds", 1, 1000, &seeds));
    const pb_json *const parts[] = {s.left, s.right, s.of};
    static const char *const names[] = {"left", "right", "of"};
    for (size_t i = 0; i < COUNT(parts); i++) {
        if (!parts[i]) continue;
        snprintf(place, sizeof place, "%.600s.%s", where, names[i]);
        PB_RETURN(cl_check_term(claim, place, parts[i]));
    }
    for (int i = 0; i < s.n_list; i++) {
        snprintf(place, sizeof place, "%.600s.of[%d]", where, i);
        PB_RETURN(cl_check_term(claim, place, s.list[i]));
    }
    return PB_OK;
}

pb_status cl_assert(cl_context *x, const pb_json *a, int64_t need, cl_outcome *out) {
    const struct operation *op = NULL;
    settings s;
    *out = (cl_outcome){.finding = CL_MISSING, .value = NAN, .low = NAN, .high = NAN};
    PB_RETURN(read_settings(a, x->claim->file, &op, &s));
    return op->run(x, &s, need, out);
}

pb_status cl_assertion_rows(const pb_json *a, pb_claim_visit visit, void *user) {
    static const char *const names[] = {"left", "right", "of"};
    const pb_json *e = NULL;
    for (size_t i = 0; i < COUNT(names); i++) {
        const pb_json *part = pb_json_get(a, names[i]);
        if (cJSON_IsObject(part)) PB_RETURN(cl_term_rows(part, visit, user));
        if (cJSON_IsArray(part))
            cJSON_ArrayForEach (e, part) PB_RETURN(cl_term_rows(e, visit, user));
    }
    return PB_OK;
}
