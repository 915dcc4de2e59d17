/* The decision of the regression gate: reports/gate.h. */
#include "reports/gate.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUES (2 * PB_GATE_MOST)

/* ---- the exact test ---- */

static bool usable(const double *x, int n) {
    if (n < 1 || n > PB_GATE_MOST) return false;
    for (int i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* ways[s] = choices of `take` values out of n whose doubled ranks sum to s, 0..n(n+1). Counted in
 * doubles: C(80, 40) = 1e23 is too much for integers, and only shares of the whole are asked for.
 * malloc'ed; NULL without memory. */
static double *count_choices(const int *ranks, int n, int take) {
    size_t width = (size_t)n * (size_t)(n + 1) + 1;
    double *ways = calloc((size_t)(take + 1) * width, sizeof *ways);
    int reached = 0;
    if (!ways) return NULL;
    ways[0] = 1;
    for (int i = 0; i < n; i++) {
        reached += ranks[i];
        for (int k = i + 1 < take ? i + 1 : take; k >= 1; k--) {
            double *with = ways + (size_t)k * width, *without = with - width;
            for (int s = reached; s >= ranks[i]; s--) with[s] += without[s - ranks[i]];
        }
    }
    memmove(ways, ways + (size_t)take * width, width * sizeof *ways);
    return ways;
}

/* P(sum >= at_least), every choice alike. */
static double share_of_choices(const int *ranks, int n, int take, int at_least) {
    double *ways = count_choices(ranks, n, take), hits = 0, all = 0;
    if (!ways) return NAN;
    for (int s = 0; s <= n * (n + 1); s++) {
        all += ways[s];
        if (s >= at_least) hits += ways[s];
    }
    free(ways);
    return hits / all;
}

double pb_mann_whitney(const double *a, int na, const double *b, int nb, double *u) {
    double pooled[VALUES];
    int ranks[VALUES], n = na + nb, sum = 0;
    *u = NAN;
    if (!usable(a, na) || !usable(b, nb)) return NAN;
    memcpy(pooled, a, (size_t)na * sizeof *pooled);
    memcpy(pooled + na, b, (size_t)nb * sizeof *pooled);
    for (int i = 0; i < n; i++) { /* doubled midranks: 2 * below + tied + 1, whole numbers */
        ranks[i] = 1;
        for (int k = 0; k < n; k++)
            ranks[i] += 2 * (pooled[k] < pooled[i]) + (pooled[k] == pooled[i]);
        if (i >= na) sum += ranks[i];
    }
    *u = (sum - nb * (nb + 1)) / 2.0;
    return share_of_choices(ranks, n, nb, sum);
}

/* Greatest k with P(U <= k - 1) <= tail without ties: the k-th differences from both ends bound the
 * shift. 0 where even one is too many. */
static int order_of_bound(int na, int nb, double tail) {
    int ranks[VALUES], n = na + nb, least = nb * (nb + 1), k = 0;
    double all = 0, below = 0, *ways;
    for (int i = 0; i < n; i++) ranks[i] = 2 * (i + 1);
    ways = count_choices(ranks, n, nb);
    if (!ways) return 0;
    for (int s = 0; s <= n * (n + 1); s++) all += ways[s];
    for (; k < na * nb / 2; k++) { /* U = k has the doubled rank sum nb (nb + 1) + 2 k */
        below += ways[least + 2 * k];
        if (below > tail * all) break;
    }
    free(ways);
    return k;
}

double pb_hodges_lehmann(const double *a, int na, const double *b, int nb, double level,
                         pb_interval *interval) {
    double d[PB_GATE_MOST * PB_GATE_MOST];
    size_t n = 0;
    *interval = (pb_interval){NAN, NAN};
    if (!usable(a, na) || !usable(b, nb)) return NAN;
    for (int i = 0; i < na; i++)
        for (int k = 0; k < nb; k++) d[n++] = b[k] - a[i];
    gsl_sort(d, 1, n);
    int k = order_of_bound(na, nb, (1 - level) / 2);
    if (k > 0) *interval = (pb_interval){d[k - 1], d[n - (size_t)k]};
    return gsl_stats_median_from_sorted_data(d, 1, n);
}

/* ---- a stage ---- */

typedef struct logs {
    double v[PB_GATE_MOST];
    int n;
} logs;

static pb_status take_logs(const double *x, int n, const char *what, logs *out) {
    for (int i = 0; i < n; i++) {
        if (!(x[i] > 0) || !isfinite(x[i]))
            return PB_ERROR(PB_E_INPUT, "%s of process %d is %g; expected a positive number", what,
                            i, x[i]);
        if (out->n >= PB_GATE_MOST)
            return PB_ERROR(PB_E_INPUT, "%s of more than %d processes: the exact test ends there",
                            what, PB_GATE_MOST);
        out->v[out->n++] = log(x[i]);
    }
    return PB_OK;
}

/* Test 1: is y above x by more than what is tolerated? */
static double tolerant_p(const logs *x, const logs *y, double *u) {
    logs less = *y;
    for (int i = 0; i < less.n; i++) less.v[i] -= log(PB_GATE_TOLERATED);
    return pb_mann_whitney(x->v, x->n, less.v, less.n, u);
}

static pb_status run_stage(const pb_gate_side *a, const pb_gate_side *b, pb_gate_stage *s) {
    logs ta = {.n = 0}, tb = {.n = 0}, ca = {.n = 0}, cb = {.n = 0};
    pb_interval shift;
    double u, faster = 1;
    if (a->n < 1 || b->n < 1)
        return PB_ERROR(PB_E_INPUT, "a stage with %d and %d processes; expected %d of each side",
                        a->n, b->n, PB_GATE_PROCESSES);
    PB_RETURN(take_logs(a->time, a->n, "the time on side A", &ta));
    PB_RETURN(take_logs(b->time, b->n, "the time on side B", &tb));
    s->p = tolerant_p(&ta, &tb, &s->u);
    s->ratio = exp(pb_hodges_lehmann(ta.v, ta.n, tb.v, tb.n, PB_STAT_LEVEL, &shift));
    s->interval = (pb_interval){exp(shift.low), exp(shift.high)};
    s->cycles = NAN;
    if (s->ratio <= 1 / PB_GATE_SLOWER) faster = tolerant_p(&tb, &ta, &u);
    if (isnan(s->p) || isnan(faster)) return PB_ERROR(PB_E_OOM, "no memory for the exact test");
    if (a->cycles && b->cycles) {
        PB_RETURN(take_logs(a->cycles, a->n, "the cycles on side A", &ca));
        PB_RETURN(take_logs(b->cycles, b->n, "the cycles on side B", &cb));
        s->cycles = exp(pb_hodges_lehmann(ca.v, ca.n, cb.v, cb.n, PB_STAT_LEVEL, &shift));
    }
    s->slow = s->p <= PB_GATE_ALPHA && s->ratio >= PB_GATE_SLOWER;
    s->fast = faster <= PB_GATE_ALPHA;
    s->slow_cycles = isnan(s->cycles) || s->cycles >= PB_GATE_CYCLES;
    s->fast_cycles = isnan(s->cycles) || s->cycles <= 1 / PB_GATE_CYCLES;
    return PB_OK;
}

/* Can test 1 hold at all? Its least p is that of the one labelling in which all of B are above all of A: one
 * of C(na + nb, nb). 5 + 4 processes can, 4 + 4 cannot. */
static bool can_flag(int na, int nb) {
    double least = 1;
    for (int i = 1; i <= nb; i++) least *= (double)i / (na + i);
    return least <= PB_GATE_ALPHA;
}

/* The slowdown that all stages find with probability 0.8: two of 10 + 10, each with sqrt(0.8), or the one of
 * stored runs with the processes that they have; NaN where these are too few for test 1. The
 * test's efficiency against a t test on normal data is 3 / pi, so its shift has the standard error
 * sd * sqrt((1/n + 1/m) pi / 3); the shift must clear the test's quantile above log 1.01 and the
 * ratio's own bound. */
static double detectable(const logs *a, const logs *b, bool stored) {
    if (a->n < 2 || b->n < 2 || (stored && !can_flag(a->n, b->n))) return NAN;
    double na = a->n, nb = b->n, found = stored ? PB_STAT_POWER : sqrt(PB_STAT_POWER);
    double squares = (na - 1) * gsl_stats_variance(a->v, 1, (size_t)a->n) +
                     (nb - 1) * gsl_stats_variance(b->v, 1, (size_t)b->n);
    double sd = sqrt(squares / (na + nb - 2));
    if (!stored) na = nb = PB_GATE_PROCESSES;
    double se = sd * sqrt((1 / na + 1 / nb) * M_PI / 3);
    double df = na + nb - 2, power = gsl_cdf_tdist_Pinv(found, df);
    double by_test = log(PB_GATE_TOLERATED) + (gsl_cdf_tdist_Qinv(PB_GATE_ALPHA, df) + power) * se;
    return exp(fmax(by_test, log(PB_GATE_SLOWER) + power * se));
}

/* A's run-to-run spread. The stages are minutes apart, so each has its own mean. */
static double spread_of(const pb_gate_input *in) {
    double squares = 0, n = 0;
    for (int i = 0; i < in->stages; i++) {
        logs a = {.n = 0};
        if (in->stage[i].a.n < 2 || take_logs(in->stage[i].a.time, in->stage[i].a.n, "", &a) != PB_OK)
            continue;
        squares += (a.n - 1) * gsl_stats_variance(a.v, 1, (size_t)a.n);
        n += a.n - 1;
    }
    return n > 0 ? sqrt(squares / n) : NAN;
}

/* Ratio, interval and spread over the processes of all stages. Within a stage the sides are run in
 * pairs, so stages that differ as a whole widen the interval and do not move it. */
static pb_status join_stages(const pb_gate_input *in, pb_gate_result *r) {
    logs a = {.n = 0}, b = {.n = 0}, ca = {.n = 0}, cb = {.n = 0};
    pb_interval shift;
    bool cycles = true;
    for (int i = 0; i < in->stages; i++) {
        PB_RETURN(take_logs(in->stage[i].a.time, in->stage[i].a.n, "the time on side A", &a));
        PB_RETURN(take_logs(in->stage[i].b.time, in->stage[i].b.n, "the time on side B", &b));
        cycles = cycles && in->stage[i].a.cycles && in->stage[i].b.cycles;
        if (!cycles) continue;
        PB_RETURN(take_logs(in->stage[i].a.cycles, in->stage[i].a.n, "the cycles on side A", &ca));
        PB_RETURN(take_logs(in->stage[i].b.cycles, in->stage[i].b.n, "the cycles on side B", &cb));
    }
    if (cycles) r->cycles = exp(pb_hodges_lehmann(ca.v, ca.n, cb.v, cb.n, PB_STAT_LEVEL, &shift));
    r->detectable = detectable(&a, &b, in->stored);
    r->spread = spread_of(in);
    r->ratio = r->stage[0].ratio;
    r->interval = r->stage[0].interval;
    if (in->stages == 1) return PB_OK;
    r->ratio = exp(pb_hodges_lehmann(a.v, a.n, b.v, b.n, PB_STAT_LEVEL, &shift));
    r->interval = (pb_interval){exp(shift.low), exp(shift.high)};
    return PB_OK;
}

/* ---- the verdict ---- */

static pb_gate_verdict say(pb_gate_result *r, pb_gate_verdict v, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static pb_gate_verdict say(pb_gate_result *r, pb_gate_verdict v, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->why, sizeof r->why, format, args);
    va_end(args);
    return v;
}

static pb_gate_verdict say_clock(pb_gate_result *r, pb_gate_verdict v) {
    return say(r, v, "%+.1f %% in time and %+.1f %% in cycles: the clock", 100 * (r->ratio - 1),
               100 * (r->cycles - 1));
}

/* By time alone. */
static pb_gate_verdict by_time(const pb_gate_input *in, pb_gate_result *r) {
    const pb_gate_stage *one = &r->stage[0], *two = &r->stage[1];
    double more = 100 * (r->ratio - 1);
    if (one->slow && in->stored) {
        if (!one->slow_cycles) return say_clock(r, PB_GATE_UNCLEAR);
        return say(r, PB_GATE_SUSPECT, "%+.1f %% against stored numbers: run both binaries", more);
    }
    if (one->slow && in->stages < 2) {
        r->again = true;
        return say(r, PB_GATE_UNCLEAR, "%+.1f %%, flagged once and not measured again", more);
    }
    if (one->slow && two->slow) {
        if (!one->slow_cycles || !two->slow_cycles) return say_clock(r, PB_GATE_CLOCK);
        return say(r, PB_GATE_REGRESSED, "%+.1f %%, found twice", more);
    }
    if (one->fast && !in->stored) {
        if (!one->fast_cycles) return say_clock(r, PB_GATE_CLOCK);
        return say(r, PB_GATE_FASTER, "%+.1f %%", more);
    }
    double find = 100 * (r->detectable - 1);
    if (r->interval.low >= 1 / PB_GATE_SLOWER && r->interval.high <= PB_GATE_SLOWER)
        return say(r, PB_GATE_SAME, "%+.1f %%, interval inside 3 %%", more);
    int na = in->stage[0].a.n, nb = in->stage[0].b.n;
    if (in->stored && na > 1 && nb > 1 && !can_flag(na, nb))
        return say(r, PB_GATE_UNCLEAR,
                   "too few processes: no slowdown is found by %d and %d of them; --processes %d", na, nb,
                   PB_GATE_PROCESSES);
    if (isnan(find)) return say(r, PB_GATE_UNCLEAR, "one process says nothing about the next");
    if (!in->stored && r->interval.high / r->interval.low > PB_GATE_NOISE * PB_GATE_NOISE)
        return say(r, PB_GATE_UNSTABLE, "only a slowdown of %.0f %% would have been found", find);
    return say(r, PB_GATE_UNCLEAR, "a slowdown of %.1f %% would have been found", find);
}

static const char *moved_anchors(const pb_gate_input *in) {
    if (!in->stored || in->stages == 0) return NULL;
    if (in->n_anchors < 2) return "stored times need two anchor kernels measured then and now";
    for (int i = 0; i < in->n_anchors; i++)
        if (isnan(in->anchors[i])) return "an anchor kernel was measured in one of the runs only";
    for (int i = 0; i < in->n_anchors; i++)
        if (!(in->anchors[i] <= PB_GATE_ANCHOR && in->anchors[i] >= 1 / PB_GATE_ANCHOR))
            return "an anchor kernel moved by more than 2 %: the machine is not as it was";
    return NULL;
}

static pb_gate_verdict decide(const pb_gate_input *in, pb_gate_result *r) {
    const char *other = in->incomparable ? in->incomparable : moved_anchors(in);
    pb_gate_verdict v = PB_GATE_SAME;
    if (in->wrong || other) {
        snprintf(r->why, sizeof r->why, "%s", in->wrong ? in->wrong : other);
        return in->wrong ? PB_GATE_WRONG : PB_GATE_INCOMPARABLE;
    }
    double more = 100 * (r->work - 1);
    if (in->stages > 0)
        v = by_time(in, r);
    else
        say(r, PB_GATE_SAME, "%+.2f %% instructions; time was not measured", more);
    if (in->few && (v == PB_GATE_SAME || v == PB_GATE_FASTER) && in->stages > 0)
        v = say(r, PB_GATE_UNCLEAR, "%s", in->few);
    if (r->work > PB_GATE_WORK && v != PB_GATE_FASTER && v != PB_GATE_REGRESSED)
        v = say(r, PB_GATE_MORE_WORK, "%+.2f %% instructions", more);
    if (in->stages == 0 && r->work < 1 / PB_GATE_WORK)
        v = say(r, PB_GATE_LESS_WORK, "%+.2f %% instructions", more);
    return v;
}

pb_status pb_gate_decide(const pb_gate_input *in, pb_gate_result *out) {
    double a = in->instructions_a, b = in->instructions_b;
    pb_interval unknown = {NAN, NAN};
    pb_gate_stage none = {
        .u = NAN, .p = NAN, .ratio = NAN, .interval = unknown, .cycles = NAN};
    *out = (pb_gate_result){.verdict = PB_GATE_UNCLEAR,
                            .stage = {none, none},
                            .ratio = NAN,
                            .interval = unknown,
                            .cycles = NAN,
                            .detectable = NAN,
                            .spread = NAN,
                            .work = NAN};
    int most = in->stored ? 1 : PB_GATE_STAGES;
    if (in->stages < 0 || in->stages > most)
        return PB_ERROR(PB_E_INPUT, "%d stages%s; expected at most %d", in->stages,
                        in->stored ? " against stored numbers" : "", most);
    if (!(a >= 0 && b >= 0) || !isfinite(a) || !isfinite(b))
        return PB_ERROR(PB_E_INPUT, "instruction counts %g and %g; expected numbers from 0", a, b);
    if (a > 0 && b > 0) out->work = b / a;
    if (in->stages == 0 && isnan(out->work) && !in->wrong && !in->incomparable)
        return PB_ERROR(PB_E_INPUT, "neither times nor instruction counts of both sides");
    for (int i = 0; i < in->stages; i++)
        PB_RETURN(run_stage(&in->stage[i].a, &in->stage[i].b, &out->stage[i]));
    if (in->stages > 0) PB_RETURN(join_stages(in, out));
    out->verdict = decide(in, out);
    if (out->verdict == PB_GATE_WRONG || out->verdict == PB_GATE_INCOMPARABLE) out->again = false;
    return PB_OK;
}

const char *pb_gate_name(pb_gate_verdict v) {
    static const char *const names[PB_GATE_VERDICTS] = {
        "SAME",    "FASTER",   "REGRESSED", "MORE_WORK",    "LESS_WORK", "CLOCK",
        "UNCLEAR", "UNSTABLE", "SUSPECT",   "INCOMPARABLE", "WRONG"};
    return (unsigned)v < PB_GATE_VERDICTS ? names[v] : "invalid verdict";
}

int pb_gate_exit(const pb_gate_verdict *verdicts, int n, bool allow_unclear) {
    static const int code[PB_GATE_VERDICTS] = {0, 0, 2, 2, 0, 3, 3, 3, 3, 4, 5};
    static const int worse[] = {0, 0, 3, 1, 2, 4}; /* by exit status: 0 < 3 < 4 < 2 < 5 */
    int worst = 0;
    if (n < 1) return 1;
    for (int i = 0; i < n; i++) {
        int c = (unsigned)verdicts[i] < PB_GATE_VERDICTS ? code[verdicts[i]] : 4;
        if (worse[c] > worse[worst]) worst = c;
    }
    return worst == 3 && allow_unclear ? 0 : worst;
}
