/* Intervals, tests and families of comparisons. Derivations: reports/STATISTICS.md. */
#include "reports/stats.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/random.h"

#define LEAST_P 1e-12 /* below it a p-value says nothing more */
#define EXACT_FLIPS 20

/* ---- random numbers ---- */

enum { STREAM_EXAMPLES = 1, STREAM_SEEDS, STREAM_FLIPS, STREAM_SCALE };

/* ---- one sample ---- */

static double t_quantile(double p, int df) {
    return gsl_cdf_tdist_Pinv(p, df);
}

static const pb_interval unknown = {NAN, NAN};

static pb_interval around(double middle, double arm) {
    return (pb_interval){middle - arm, middle + arm};
}

pb_mean pb_mean_of(const double *values, int n, double level) {
    pb_mean m = {.n = n, .mean = NAN, .sd = NAN, .interval = unknown};
    if (n < 1) return m;
    m.mean = gsl_stats_mean(values, 1, (size_t)n);
    if (n < 2) return m;
    m.sd = gsl_stats_sd_m(values, 1, (size_t)n, m.mean);
    m.interval = around(m.mean, t_quantile(0.5 + level / 2, n - 1) * m.sd / sqrt(n));
    return m;
}

pb_interval pb_wilson(double successes, double n, double level) {
    if (!(n > 0)) return (pb_interval){0, 1};
    double z = gsl_cdf_ugaussian_Pinv(0.5 + level / 2), share = successes / n, zz = z * z / n;
    double middle = (share + zz / 2) / (1 + zz);
    double arm = z / (1 + zz) * sqrt(share * (1 - share) / n + zz / (4 * n));
    pb_interval i = {fmax(0, middle - arm), fmin(1, middle + arm)};
    if (successes <= 0) i.low = 0;
    if (successes >= n) i.high = 1;
    return i;
}

/* ---- means over seeds and over examples ---- */

/* A table of seeds x examples reduced to its margins. */
typedef struct margins {
    double *seeds, *examples; /* means of every seed, of every example; weights worked in */
    double mean;
    double keep; /* share of the examples' spread that is not noise of seed x example, as a factor
                    on deviations: sqrt(1 - MSE / MSB), 0 when nothing is left */
} margins;

static void free_margins(margins *m) {
    free(m->seeds);
    free(m->examples);
    *m = (margins){0};
}

static pb_status check_table(const double *x, const double *w, int n_seeds, int n_examples) {
    if (n_seeds < 1 || n_examples < 1)
        return PB_ERROR(PB_E_INPUT, "%d seeds with %d examples: nothing to compare", n_seeds,
                        n_examples);
    for (size_t k = 0; k < (size_t)n_seeds * (size_t)n_examples; k++)
        if (!isfinite(x[k]))
            return PB_ERROR(PB_E_INPUT, "value %zu of seed %zu is not finite",
                            k % (size_t)n_examples, k / (size_t)n_examples);
    for (int i = 0; w && i < n_examples; i++)
        if (!(w[i] > 0) || !isfinite(w[i]))
            return PB_ERROR(PB_E_INPUT, "weight %d is %g; weights are positive", i, w[i]);
    return PB_OK;
}

/* Examples of unequal weight become values whose plain mean is the weighted one to first order:
 * z = mean + w / mean(w) * (x - mean). */
static double pseudo(const margins *m, double x, const double *w, double w_mean, int i) {
    return w ? m->mean + w[i] / w_mean * (x - m->mean) : x;
}

static pb_status make_margins(const double *x, const double *w, int n_seeds, int n_examples,
                              margins *m) {
    size_t ns = (size_t)n_seeds, ne = (size_t)n_examples;
    double w_mean = w ? gsl_stats_mean(w, 1, ne) : 1, error = 0;
    PB_RETURN(check_table(x, w, n_seeds, n_examples));
    m->seeds = calloc(ns, sizeof *m->seeds);
    m->examples = calloc(ne, sizeof *m->examples);
    if (!m->seeds || !m->examples)
        return PB_ERROR(PB_E_OOM, "no memory for the means of %zu seeds and %zu examples", ns, ne);
    for (size_t s = 0; s < ns; s++) {
        for (size_t i = 0; i < ne; i++) m->seeds[s] += (w ? w[i] / w_mean : 1) * x[s * ne + i];
        m->seeds[s] /= (double)ne;
        m->mean += m->seeds[s] / (double)ns;
    }
    for (size_t s = 0; s < ns; s++)
        for (size_t i = 0; i < ne; i++)
            m->examples[i] += pseudo(m, x[s * ne + i], w, w_mean, (int)i) / (double)ns;
    if (ns < 2 || ne < 2) {
        m->keep = ne > 1;
        return PB_OK;
    }
    for (size_t s = 0; s < ns; s++)
        for (size_t i = 0; i < ne; i++) {
            double e = pseudo(m, x[s * ne + i], w, w_mean, (int)i) - m->seeds[s] - m->examples[i] +
                       m->mean;
            error += e * e;
        }
    double mse = error / ((double)(ns - 1) * (double)(ne - 1));
    double msb = (double)ns * gsl_stats_variance_m(m->examples, 1, ne, m->mean);
    m->keep = msb > mse ? sqrt(1 - mse / msb) : 0;
    return PB_OK;
}

/* ---- bootstrap over examples ---- */

/* Mean of n values drawn with replacement. */
static double resampled_mean(const double *v, int n, uint64_t base) {
    double sum = 0;
    for (int k = 0; k < n; k++) sum += v[pb_draw_below(base, k, n)];
    return sum / n;
}

static double clamp01(double p, double least) {
    return fmin(1 - least, fmax(least, p));
}

/* BCa (Efron 1987): quantiles of the resampled means, moved by their median bias and by the
 * acceleration of the mean, which is its skewness / (6 sqrt n). */
static pb_status bca(const double *v, int n, double mean, double level, int resamples, uint64_t key,
                     pb_interval *out) {
    double sq = 0, cube = 0, less = 0;
    *out = around(mean, 0);
    for (int i = 0; i < n; i++) {
        double d = v[i] - mean;
        sq += d * d;
        cube += d * d * d;
    }
    if (n < 2 || sq <= 0) return PB_OK;
    double *means = malloc((size_t)resamples * sizeof *means);
    if (!means) return PB_ERROR(PB_E_OOM, "no memory for %d resamples", resamples);
    for (int b = 0; b < resamples; b++) {
        means[b] = resampled_mean(v, n, pb_draw_base(key, STREAM_EXAMPLES, (uint64_t)b));
        less += means[b] < mean ? 1 : means[b] == mean ? 0.5 : 0;
    }
    gsl_sort(means, 1, (size_t)resamples);
    double z0 = gsl_cdf_ugaussian_Pinv(clamp01(less / resamples, 0.5 / resamples));
    double a = cube / (6 * pow(sq, 1.5)), z = gsl_cdf_ugaussian_Pinv(0.5 + level / 2);
    for (int side = -1; side <= 1; side += 2) {
        double u = z0 + side * z;
        double q = gsl_cdf_ugaussian_P(z0 + u / fmax(1e-3, 1 - a * u));
        double value = gsl_stats_quantile_from_sorted_data(means, 1, (size_t)resamples, q);
        *(side < 0 ? &out->low : &out->high) = value;
    }
    out->low = fmin(out->low, mean);
    out->high = fmax(out->high, mean);
    free(means);
    return PB_OK;
}

/* ---- two methods ---- */

double pb_sign_flip(const double *d, int n, int flips, uint64_t key) {
    double sum = 0, scale = 0;
    for (int i = 0; i < n; i++) {
        sum += d[i];
        scale += fabs(d[i]);
    }
    double seen = fabs(sum) - 1e-12 * scale; /* flips that only differ in rounding count */
    uint64_t hits = 0, all = n <= EXACT_FLIPS ? UINT64_C(1) << n : (uint64_t)flips;
    for (uint64_t f = 0; f < all; f++) {
        uint64_t base = pb_draw_base(key, STREAM_FLIPS, f), bits = f;
        double s = 0;
        for (int i = 0; i < n; i++) {
            if (n > EXACT_FLIPS && i % 64 == 0) bits = pb_draw_mixed(base + (uint64_t)i);
            s += bits & 1 ? -d[i] : d[i];
            bits >>= 1;
        }
        hits += fabs(s) >= seen;
    }
    if (n <= EXACT_FLIPS) return (double)hits / (double)all;
    return ((double)hits + 1) / ((double)all + 1);
}

double pb_difference_reach(const pb_difference *d, double alpha) {
    if (d->n_seeds < 2) return NAN;
    return hypot(t_quantile(1 - alpha / 2, d->n_seeds - 1) * d->se_seeds,
                 gsl_cdf_ugaussian_Pinv(1 - alpha / 2) * d->se_examples);
}

double pb_detectable(const pb_difference *d, double alpha, double power) {
    if (d->n_seeds < 2) return NAN;
    return pb_difference_reach(d, alpha) + hypot(t_quantile(power, d->n_seeds - 1) * d->se_seeds,
                                                 gsl_cdf_ugaussian_Pinv(power) * d->se_examples);
}

/* The level at which the joined interval touches 0: bisection over log alpha. */
static double level_of(const pb_difference *d) {
    double low = log(LEAST_P), high = 0, size = fabs(d->mean);
    if (d->n_seeds < 2) return NAN;
    if (!(size > 0)) return 1;
    if (pb_difference_reach(d, LEAST_P) < size) return LEAST_P;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (pb_difference_reach(d, exp(middle)) < size)
            high = middle;
        else
            low = middle;
    }
    return exp(high);
}

static void join(pb_difference *d, double keep) {
    double arm = d->mean - d->interval_seeds.low;
    d->interval.low = d->mean - hypot(arm, keep * (d->mean - d->interval_examples.low));
    d->interval.high = d->mean + hypot(arm, keep * (d->interval_examples.high - d->mean));
}

pb_status pb_difference_of(const pb_paired *in, const pb_stat_options *options,
                           pb_difference *out) {
    pb_status status = PB_OK;
    pb_stat_options o = options ? *options : (pb_stat_options){0};
    margins m = {0};
    if (o.level <= 0) o.level = PB_STAT_LEVEL;
    if (o.resamples <= 0) o.resamples = 2000;
    if (o.flips <= 0) o.flips = 4999;
    *out = (pb_difference){.n_seeds = in->n_seeds, .n_examples = in->n_examples};
    PB_TRY(make_margins(in->d, in->weights, in->n_seeds, in->n_examples, &m));
    int ns = in->n_seeds, ne = in->n_examples;
    pb_mean seeds = pb_mean_of(m.seeds, ns, o.level);
    out->mean = m.mean;
    out->sd_seeds = seeds.sd;
    out->se_seeds = seeds.sd / sqrt(ns);
    if (ne > 1)
        out->se_examples = m.keep * gsl_stats_sd_m(m.examples, 1, (size_t)ne, m.mean) / sqrt(ne);
    out->interval_seeds = ns > 1 ? around(m.mean, m.mean - seeds.interval.low) : unknown;
    PB_TRY(bca(m.examples, ne, m.mean, o.level, o.resamples, o.key, &out->interval_examples));
    out->interval = unknown;
    if (ns > 1) join(out, m.keep);
    out->p = level_of(out);
    out->p_seeds = pb_sign_flip(m.seeds, ns, o.flips, o.key);
    out->p_examples = ne > 1 ? pb_sign_flip(m.examples, ne, o.flips, o.key) : NAN;
done:
    free_margins(&m);
    return status;
}

/* ---- ratios ---- */

pb_status pb_ratio_of(const double *x, const double *y, int n, double level, pb_ratio *out) {
    *out = (pb_ratio){.n = n, .ratio = NAN, .interval = unknown, .p = NAN, .se_log = NAN};
    if (n < 1) return PB_ERROR(PB_E_INPUT, "no values to take a ratio of");
    double *logs = malloc((size_t)n * sizeof *logs);
    if (!logs) return PB_ERROR(PB_E_OOM, "no memory for %d ratios", n);
    for (int s = 0; s < n; s++) {
        if (!(x[s] > 0 && y[s] > 0) || !isfinite(x[s]) || !isfinite(y[s])) {
            free(logs);
            return PB_ERROR(PB_E_INPUT, "%g / %g: a ratio needs positive finite values", x[s],
                            y[s]);
        }
        logs[s] = log(x[s] / y[s]);
    }
    pb_mean m = pb_mean_of(logs, n, level);
    free(logs);
    out->ratio = exp(m.mean);
    if (n < 2) return PB_OK;
    out->se_log = m.sd / sqrt(n);
    out->interval = (pb_interval){exp(m.interval.low), exp(m.interval.high)};
    double noise = 1e-14; /* rounding of a logarithm is no spread */
    if (out->se_log <= noise)
        out->p = fabs(m.mean) <= noise ? 1 : LEAST_P;
    else
        out->p = fmax(LEAST_P, 2 * gsl_cdf_tdist_Q(fabs(m.mean) / out->se_log, n - 1));
    return PB_OK;
}

double pb_ratio_detectable(const pb_ratio *r, double alpha, double power) {
    if (r->n < 2) return NAN;
    return exp((t_quantile(1 - alpha / 2, r->n - 1) + t_quantile(power, r->n - 1)) * r->se_log);
}

/* ---- families ---- */

pb_status pb_holm(const double *p, int n, double *adjusted) {
    size_t *order = malloc(((size_t)n + 1) * sizeof *order);
    double *known = malloc(((size_t)n + 1) * sizeof *known), running = 0;
    int *at = malloc(((size_t)n + 1) * sizeof *at), members = 0;
    pb_status status = PB_OK;
    if (!order || !known || !at) PB_FAIL(PB_E_OOM, "no memory for a family of %d tests", n);
    for (int i = 0; i < n; i++) {
        adjusted[i] = NAN;
        if (isnan(p[i])) continue;
        known[members] = p[i];
        at[members++] = i;
    }
    if (members) gsl_sort_index(order, known, 1, (size_t)members);
    for (int k = 0; k < members; k++) {
        running = fmax(running, fmin(1, (members - k) * known[order[k]]));
        adjusted[at[order[k]]] = running;
    }
done:
    free(order);
    free(known);
    free(at);
    return status;
}

void pb_shared_ranks(const bool *better, int n, int *best, int *worst) {
    for (int i = 0; i < n; i++) {
        best[i] = 1;
        worst[i] = n;
        for (int k = 0; k < n; k++) {
            best[i] += better[k * n + i];
            worst[i] -= better[i * n + k];
        }
    }
}

/* ---- several rows together ---- */

/* A standard normal number of a draw. */
static double normal(uint64_t base, uint64_t k) {
    double u = ((double)(pb_draw_mixed(base + k) >> 11) + 0.5) * 0x1p-53;
    return gsl_cdf_ugaussian_Pinv(u);
}

/* Few values, so Student's t and no bootstrap: sum of g (x - mean) / sqrt(n (n - 1)) has for normal g the
 * spread of the mean, and a common factor sqrt((n - 1) / chi squared) makes it t with n - 1 degrees of
 * freedom. g belongs to the seed, so that rows with the same seeds move together. */
static double moved_by_seeds(const margins *m, const pb_sampled *in, uint64_t key, uint64_t draw) {
    int n = in->n_seeds;
    double sum = 0, square = 0;
    if (n < 2) return 0;
    uint64_t seeds = pb_draw_base(key, STREAM_SEEDS, draw), scale = pb_draw_base(key, STREAM_SCALE, draw);
    for (int s = 0; s < n; s++)
        sum += normal(seeds, in->seeds ? in->seeds[s] : (uint64_t)s) * (m->seeds[s] - m->mean);
    for (int k = 0; k < n - 1; k++) square += pow(normal(scale, (uint64_t)k), 2);
    return sum / sqrt(n * (n - 1.0)) * sqrt((n - 1) / square);
}

pb_status pb_mean_draws(const pb_sampled *in, int draws, uint64_t key, double *out) {
    pb_status status = PB_OK;
    margins m = {0};
    PB_TRY(make_margins(in->x, in->weights, in->n_seeds, in->n_examples, &m));
    int ne = in->n_examples;
    for (int b = 0; b < draws; b++) {
        out[b] = m.mean + moved_by_seeds(&m, in, key, (uint64_t)b);
        if (ne < 2) continue;
        double examples =
            resampled_mean(m.examples, ne, pb_draw_base(key, STREAM_EXAMPLES, (uint64_t)b));
        out[b] += m.keep * (examples - m.mean);
    }
done:
    free_margins(&m);
    return status;
}

void pb_front_probability(const double *quality, const double *cost, int rows, int draws,
                          double *probability) {
    for (int r = 0; r < rows; r++) {
        int on = 0, counted = 0;
        for (int b = 0; b < draws; b++) {
            double q = quality[r * draws + b], c = cost[r * draws + b];
            bool beaten = false;
            if (isnan(q) || isnan(c)) continue;
            counted++;
            for (int k = 0; k < rows && !beaten; k++) {
                double q2 = quality[k * draws + b], c2 = cost[k * draws + b];
                beaten = q2 >= q && c2 <= c && (q2 > q || c2 < c);
            }
            on += !beaten;
        }
        probability[r] = counted ? (double)on / counted : NAN;
    }
}
