/* Estimates: what one or two terms come to, with an interval (reports/stats.h). Differences of a
 * per-example quality pair the examples of equal seeds. */
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

cl_estimate cl_mean(const double *v, int n, double level, bool exact) {
    if (exact) return cl_exactly(v[0]);
    if (n == 1) return cl_alone(v[0]);
    pb_mean m = pb_mean_of(v, n, level);
    return (cl_estimate){.value = m.mean, .low = m.interval.low, .high = m.interval.high, .n = n};
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
static double *example_table(const cl_context *x, const cl_settings *s, const uint64_t *seeds, int n,
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

static pb_status difference_of(const cl_context *x, const cl_settings *s, const double *a,
                               const double *b, const uint64_t *seeds, int n, double level,
                               cl_estimate *out) {
    pb_status status = PB_OK;
    int n_examples = 0;
    pb_difference diff;
    bool own = !(x->share > 0 && x->share < 1);
    pb_stat_options options = {.level = level, .key = 1};
    if (!own) options.resamples = options.flips = 1; /* a quantile that far out needs no resamples */
    double *d = n > 1 ? example_table(x, s, seeds, n, &n_examples) : NULL;
    if (!d) {
        n_examples = 1;
        d = malloc(((size_t)n + 1) * sizeof *d);
        if (!d) return PB_ERROR(PB_E_OOM, "no memory for %d differences", n);
        for (int i = 0; i < n; i++) d[i] = a[i] - b[i];
    }
    if (n == 1) {
        *out = cl_alone(d[0]);
        goto done;
    }
    pb_paired paired = {.n_seeds = n, .n_examples = n_examples, .d = d};
    PB_TRY(pb_difference_of(&paired, &options, &diff));
    *out = (cl_estimate){.value = diff.mean, .low = diff.interval.low, .high = diff.interval.high,
                      .n = n};
    if (!own) { /* from the standard errors, as p and the detectable difference */
        double reach = pb_difference_reach(&diff, 1 - level);
        out->low = diff.mean - reach;
        out->high = diff.mean + reach;
    }
done:
    free(d);
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
        goto done;
    }
    pb_ratio ratio;
    PB_TRY(pb_ratio_of(a, b, n, level, &ratio));
    *out = (cl_estimate){.value = ratio.ratio, .low = ratio.interval.low, .high = ratio.interval.high,
                      .n = n};
    if (n == 1) *out = cl_alone(ratio.ratio);
done:
    cl_values_free(&l);
    cl_values_free(&r);
    free(a);
    free(b);
    free(seeds);
    return status;
}
