/* From rows to verdicts. */
#include "reports/comparison.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DRAWS 2000 /* of the front */
#define FLIPS 999

const char *pb_verdict_name(pb_verdict_kind kind) {
    static const char *const names[] = {"not comparable", "better", "worse",
                                        "no detectable difference"};
    return names[kind];
}

static pb_verdict *slot(pb_comparison *c, int measure, int a, int b) {
    return &c->verdicts[((size_t)measure * (size_t)c->n + (size_t)a) * (size_t)c->n + (size_t)b];
}

const pb_verdict *pb_verdict_of(const pb_comparison *c, int measure, int a, int b) {
    return &c->verdicts[((size_t)measure * (size_t)c->n + (size_t)a) * (size_t)c->n + (size_t)b];
}

const pb_estimate *pb_estimate_of(const pb_comparison *c, int measure, int entry) {
    return &c->estimates[measure * c->n + entry];
}

bool pb_is_baseline(const pb_comparison *c, int entry) {
    return c->against[entry] == entry;
}

int pb_count_baselines(const pb_comparison *c) {
    int n = 0;
    for (int i = 0; i < c->n; i++) n += pb_is_baseline(c, i);
    return n;
}

bool pb_measure_present(const pb_comparison *c, int measure) {
    for (int i = 0; i < c->n; i++)
        if (pb_estimate_of(c, measure, i)->n_seeds) return true;
    return false;
}

static int most_seeds(const pb_comparison *c, int entry) {
    int most = 0;
    for (int m = 0; m < PB_MEASURES; m++) {
        int n = pb_estimate_of(c, m, entry)->n_seeds;
        most = n > most ? n : most;
    }
    return most;
}

int pb_fewest_seeds(const pb_comparison *c, int entry, bool *same) {
    int least = 0;
    if (same) *same = true;
    for (int i = entry < 0 ? 0 : entry; i < (entry < 0 ? c->n : entry + 1); i++) {
        int n = most_seeds(c, i);
        if (same && n && least && n != least) *same = false;
        if (n && (!least || n < least)) least = n;
    }
    return least;
}

/* ---- parity ---- */

static bool across(const pb_entry *a, const pb_entry *b) {
    return a->anchor && b->anchor && a->anchor != b->anchor;
}

/* What an anchor that ran on both sides takes out of the comparison. */
static bool anchored(const char *field) {
    static const char *const names[] = {"machine", "software", "threads"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(field, names[i]) == 0) return true;
    return false;
}

static pb_status check_parity(pb_comparison *c, int a, int b, const pb_waivers *waivers) {
    pb_parity *p = &c->parity[a * c->n + b];
    PB_RETURN(pb_parity_check(c->entries[a].row, c->entries[b].row, waivers, p));
    if (!across(&c->entries[a], &c->entries[b])) return PB_OK;
    for (int i = 0; i < p->n; i++)
        if (anchored(p->items[i].field)) p->items[i].waived = true;
    return PB_OK;
}

/* The anchors of both sides must be one method under one setting, else ratios to them mean
 * different things. */
static pb_status check_anchors(const pb_entry *a, const pb_entry *b, bool general, char *why,
                               size_t cap) {
    pb_parity p;
    if (!across(a, b)) return PB_OK;
    PB_RETURN(pb_parity_check(a->anchor, b->anchor, NULL, &p));
    bool same = strcmp(a->anchor->method, b->anchor->method) == 0;
    for (int i = 0; same && i < p.n; i++)
        same = anchored(p.items[i].field) || (p.items[i].general_only && !general);
    if (!same)
        snprintf(why, cap, "the anchors %.60s and %.60s are not the same run on both sides",
                 a->anchor->label, b->anchor->label);
    pb_parity_free(&p);
    return PB_OK;
}

const pb_parity *pb_parity_between(const pb_comparison *c, int a, int b) {
    return &c->parity[(a < b ? a : b) * c->n + (a < b ? b : a)];
}

/* Keeps parity two rows apart, in quality or else in cost? */
static bool is_stopped(const pb_comparison *c, int a, int b, bool cost) {
    return pb_parity_stop(pb_parity_between(c, a, b), cost) != NULL;
}

/* How many rows the row can be compared with in quality. */
static int count_peers(const pb_comparison *c, int i) {
    int n = 0;
    for (int k = 0; k < c->n; k++)
        n += k != i && pb_parity_between(c, i, k)->common > 0 && !is_stopped(c, i, k, false);
    return n;
}

static int default_baseline(const pb_comparison *c) {
    int best = -1, most = -1;
    for (int pass = 0; pass < 2 && best < 0; pass++)
        for (int i = 0; i < c->n; i++) {
            const pb_row *row = c->entries[i].row;
            if (!row->n_ok || (pass == 0 && strcmp(row->method, "lora") != 0)) continue;
            int n = count_peers(c, i);
            if (n <= most) continue;
            best = i;
            most = n;
        }
    return best;
}

/* The first row of the baseline's method that row i can be compared with; -1 when there is none. */
static int own_baseline(const pb_comparison *c, int i) {
    const char *method = c->entries[c->baseline].row->method;
    for (int k = 0; k < c->n; k++)
        if (k != i && c->entries[k].row->n_ok && strcmp(c->entries[k].row->method, method) == 0 &&
            !is_stopped(c, i, k, false))
            return k;
    return -1;
}

/* Rows of other methods choose first; a row of the baseline's method is a baseline once it was chosen. */
static void choose_baselines(pb_comparison *c) {
    for (int i = 0; i < c->n; i++) c->against[i] = c->baseline;
    for (int pass = 0; pass < 2 && c->baseline >= 0; pass++)
        for (int i = 0; i < c->n; i++) {
            const pb_row *row = c->entries[i].row;
            bool kin = strcmp(row->method, c->entries[c->baseline].row->method) == 0;
            if (kin != (pass == 1) || !row->n_ok || !is_stopped(c, i, c->baseline, false)) continue;
            bool chosen = false;
            for (int k = 0; k < c->n; k++) chosen = chosen || c->against[k] == i;
            int own = own_baseline(c, i);
            if (kin && chosen) c->against[i] = i;
            else if (own >= 0 && (!kin || pb_is_baseline(c, own))) c->against[i] = own;
        }
}

static void say_stop(const pb_parity_finding *f, char *why, size_t cap) {
    snprintf(why, cap, "%s: %.90s against %.90s", f->title, f->a, f->b);
}

/* ---- one pair in one measure ---- */

/* Rows of `v` at the seeds that `other` has too, gathered into out[0..common-1][..]. */
static int gather(const pb_values *v, const pb_values *other, double *out) {
    size_t n = (size_t)v->n_examples;
    int common = 0;
    for (int s = 0; s < v->n_seeds; s++)
        for (int k = 0; k < other->n_seeds; k++) {
            if (v->seeds[s] != other->seeds[k]) continue;
            memcpy(out + (size_t)common++ * n, v->x + (size_t)s * n, n * sizeof *out);
        }
    return common;
}

static void take_difference(const pb_difference *d, pb_verdict *v) {
    v->estimate = d->mean;
    v->interval = d->interval;
    v->p = d->p;
    v->p_seeds = d->p_seeds;
    v->p_examples = d->p_examples;
}

/* What a pair keeps for its detectable size, which needs the size of its family. */
typedef struct spread {
    pb_difference difference;
    pb_ratio ratio;
} spread;

static pb_status judge(const pb_values *a, const pb_values *b, bool ratio, spread *s,
                       pb_verdict *v) {
    pb_status status = PB_OK;
    size_t n = (size_t)a->n_examples, cap = ((size_t)a->n_seeds + 1) * n;
    double *x = calloc(cap, sizeof *x), *y = calloc(cap, sizeof *y);
    if (!x || !y) PB_FAIL(PB_E_OOM, "no memory for %zu differences", cap);
    v->n_examples = a->n_examples;
    v->n_seeds = gather(a, b, x);
    if (gather(b, a, y) != v->n_seeds || v->n_seeds < 2) {
        snprintf(v->why, sizeof v->why,
                 v->n_seeds == 1 ? "one seed in common: the spread over seeds is unknown"
                                 : "no finished seed in common");
        goto done;
    }
    if (ratio) {
        PB_TRY(pb_ratio_of(x, y, v->n_seeds, PB_STAT_LEVEL, &s->ratio));
        v->estimate = s->ratio.ratio;
        v->interval = s->ratio.interval;
        v->p = s->ratio.p;
    } else {
        for (size_t k = 0; k < (size_t)v->n_seeds * n; k++) x[k] -= y[k];
        pb_paired in = {v->n_seeds, a->n_examples, x, a->weights};
        PB_TRY(pb_difference_of(&in, &(pb_stat_options){.flips = FLIPS}, &s->difference));
        take_difference(&s->difference, v);
    }
    v->kind = PB_NO_DIFFERENCE;
done:
    free(x);
    free(y);
    return status;
}

static bool is_general(int m) {
    return m == PB_FORGOTTEN || m == PB_DRIFT;
}

static pb_status compare_pair(pb_comparison *c, int m, int a, int b, const pb_values *values,
                              spread *s, pb_verdict *v) {
    const pb_values *x = &values[m * c->n + a], *y = &values[m * c->n + b];
    const pb_parity *parity = pb_parity_between(c, a, b);
    const pb_parity_finding *stop = is_general(m) ? pb_parity_stop_general(parity)
                                                  : pb_parity_stop(parity, pb_measures[m].ratio);
    *v = (pb_verdict){.estimate = NAN,
                      .interval = {NAN, NAN},
                      .p = NAN,
                      .p_holm = NAN,
                      .p_seeds = NAN,
                      .p_examples = NAN,
                      .detectable = NAN};
    if (!x->n_seeds || !y->n_seeds) {
        pb_copy(v->why, sizeof v->why, x->n_seeds ? y->why : x->why);
        return PB_OK;
    }
    if (stop) {
        say_stop(stop, v->why, sizeof v->why);
        return PB_OK;
    }
    const pb_row *first = c->entries[a].row, *second = c->entries[b].row;
    if (!pb_measures[m].ratio && (!pb_is_trained(first) || !pb_is_trained(second))) {
        int64_t steps = pb_row_steps(pb_is_trained(first) ? second : first);
        snprintf(v->why, sizeof v->why, "%" PRId64 " training steps, and quality is judged from %d on", steps,
                 PB_LEAST_STEPS);
        return PB_OK;
    }
    if (x->n_examples != y->n_examples) {
        snprintf(v->why, sizeof v->why, "%d test values against %d", x->n_examples, y->n_examples);
        return PB_OK;
    }
    PB_RETURN(check_anchors(&c->entries[a], &c->entries[b], is_general(m), v->why, sizeof v->why));
    if (*v->why) return PB_OK;
    return judge(x, y, pb_measures[m].ratio, s, v);
}

/* ---- families ---- */

/* 0 with a row's baseline, 1 the other pairs. */
static int family_of(const pb_comparison *c, int a, int b) {
    return c->against[a] == b || c->against[b] == a ? 0 : 1;
}

static bool is_known(const pb_verdict *v) {
    return v->kind != PB_INCOMPARABLE && !isnan(v->p);
}

static void decide(pb_comparison *c, int m, int a, int b, double p_holm, const spread *s) {
    pb_verdict *v = slot(c, m, a, b), *back = slot(c, m, b, a);
    const pb_measure *measure = &pb_measures[m];
    double alpha = PB_STAT_ALPHA / c->family[m][family_of(c, a, b)];
    double zero = measure->ratio ? 1 : 0;
    v->p_holm = p_holm;
    v->detectable = measure->ratio ? pb_ratio_detectable(&s->ratio, alpha, PB_STAT_POWER)
                                   : pb_detectable(&s->difference, alpha, PB_STAT_POWER);
    if (p_holm <= PB_STAT_ALPHA)
        v->kind = (v->estimate > zero) == (measure->better > 0) ? PB_BETTER : PB_WORSE;
    *back = *v;
    if (v->kind == PB_BETTER) back->kind = PB_WORSE;
    if (v->kind == PB_WORSE) back->kind = PB_BETTER;
    if (measure->ratio) {
        back->estimate = 1 / v->estimate;
        back->interval = (pb_interval){1 / v->interval.high, 1 / v->interval.low};
    } else {
        back->estimate = -v->estimate;
        back->interval = (pb_interval){-v->interval.high, -v->interval.low};
    }
}

/* Holm in both families of a measure, then the verdicts of both directions. */
static pb_status decide_measure(pb_comparison *c, int m, const spread *spreads) {
    pb_status status = PB_OK;
    size_t pairs = (size_t)c->n * (size_t)c->n;
    double *p = malloc((pairs + 1) * sizeof *p), *adjusted = malloc((pairs + 1) * sizeof *adjusted);
    if (!p || !adjusted) PB_FAIL(PB_E_OOM, "no memory for %zu verdicts", pairs);
    for (int f = 0; f < 2; f++) {
        for (int a = 0; a < c->n; a++)
            for (int b = 0; b < c->n; b++) {
                const pb_verdict *v = pb_verdict_of(c, m, a, b);
                bool member = a < b && family_of(c, a, b) == f && is_known(v);
                p[a * c->n + b] = member ? v->p : NAN;
                c->family[m][f] += member;
            }
        PB_TRY(pb_holm(p, c->n * c->n, adjusted));
        for (int a = 0; a < c->n; a++)
            for (int b = a + 1; b < c->n; b++) {
                int at = a * c->n + b;
                if (!isnan(adjusted[at])) decide(c, m, a, b, adjusted[at], &spreads[at]);
                if (family_of(c, a, b) == f && isnan(adjusted[at]))
                    *slot(c, m, b, a) = *pb_verdict_of(c, m, a, b);
            }
    }
done:
    free(p);
    free(adjusted);
    return status;
}

static pb_status judge_measure(pb_comparison *c, int m, const pb_values *values) {
    pb_status status = PB_OK;
    spread *spreads = calloc((size_t)c->n * (size_t)c->n + 1, sizeof *spreads);
    if (!spreads) PB_FAIL(PB_E_OOM, "no memory for the pairs of %d rows", c->n);
    for (int a = 0; a < c->n; a++)
        for (int b = a + 1; b < c->n; b++)
            PB_TRY(compare_pair(c, m, a, b, values, &spreads[a * c->n + b], slot(c, m, a, b)));
    PB_TRY(decide_measure(c, m, spreads));
done:
    free(spreads);
    return status;
}

/* ---- rows ---- */

/* A cost: the ratio to one. */
static pb_status estimate_cost(const pb_values *v, pb_estimate *e) {
    pb_ratio r;
    double *ones = malloc((size_t)v->n_seeds * sizeof *ones);
    if (!ones) return PB_ERROR(PB_E_OOM, "no memory for %d costs", v->n_seeds);
    for (int s = 0; s < v->n_seeds; s++) ones[s] = 1;
    pb_status status = pb_ratio_of(v->x, ones, v->n_seeds, PB_STAT_LEVEL, &r);
    free(ones);
    if (status != PB_OK) return status;
    e->mean = r.ratio;
    e->interval = r.interval;
    return PB_OK;
}

static pb_status estimate(const pb_values *v, int m, pb_estimate *e) {
    pb_difference d;
    *e = (pb_estimate){.n_seeds = v->n_seeds, .mean = NAN, .sd = NAN, .interval = {NAN, NAN}};
    if (!v->n_seeds) return PB_OK;
    pb_paired in = {v->n_seeds, v->n_examples, v->x, v->weights};
    PB_RETURN(pb_difference_of(&in, &(pb_stat_options){.flips = 1}, &d));
    e->mean = d.mean;
    e->sd = d.sd_seeds;
    e->interval = d.interval;
    if (pb_measures[m].ratio) return estimate_cost(v, e);
    if (v->n_seeds > 1 || v->n_examples < 2) return PB_OK;
    e->interval = d.interval_examples;
    if (m == PB_ACCURACY && !v->weights)
        e->interval = pb_wilson(d.mean * v->n_examples, v->n_examples, PB_STAT_LEVEL);
    return PB_OK;
}

/* Shared ranks among the rows that have one baseline; a row that cannot be compared with it, or has no
 * value, has none, and nor has a baseline that nothing is compared with. */
static pb_status rank(pb_comparison *c, int m) {
    size_t n = (size_t)c->n;
    int count = 0;
    bool *better = calloc(n * n + 1, sizeof *better);
    int *members = calloc(3 * n + 1, sizeof *members), *best = members + n, *worst = best + n;
    if (!better || !members) {
        free(better);
        free(members);
        return PB_ERROR(PB_E_OOM, "no memory for the ranks of %d rows", c->n);
    }
    for (int base = -1; base < c->n; base++) {
        if (base < 0 ? c->baseline >= 0 : !pb_is_baseline(c, base)) continue;
        count = 0;
        for (int i = 0; i < c->n; i++)
            if (c->against[i] == base && c->estimates[m * c->n + i].n_seeds &&
                (base < 0 || i == base || pb_verdict_of(c, m, i, base)->kind != PB_INCOMPARABLE))
                members[count++] = i;
        for (int i = 0; i < count; i++)
            for (int k = 0; k < count; k++)
                better[i * count + k] = pb_verdict_of(c, m, members[i], members[k])->kind == PB_BETTER;
        pb_shared_ranks(better, count, best, worst);
        for (int i = 0; i < count && count > 1; i++) {
            c->best[m * c->n + members[i]] = best[i];
            c->worst[m * c->n + members[i]] = worst[i];
        }
    }
    free(better);
    free(members);
    return PB_OK;
}

/* Means that new seeds and examples might have given, of every entry in a measure, costs as logarithms;
 * NaN where it has too few seeds. */
static pb_status draw(const pb_comparison *c, int m, const pb_values *values, double *out) {
    for (int i = 0; i < c->n; i++) {
        const pb_values *v = &values[m * c->n + i];
        double *mine = out + (size_t)i * DRAWS;
        size_t n = (size_t)v->n_seeds * (size_t)v->n_examples;
        for (int b = 0; b < DRAWS; b++) mine[b] = NAN;
        if (v->n_seeds < PB_FRONT_SEEDS) continue;
        double *x = malloc(n * sizeof *x);
        if (!x) return PB_ERROR(PB_E_OOM, "no memory for %zu values", n);
        for (size_t k = 0; k < n; k++) x[k] = pb_measures[m].ratio ? log(v->x[k]) : v->x[k];
        pb_sampled in = {v->n_seeds, v->n_examples, x, v->weights, v->seeds};
        pb_status status = pb_mean_draws(&in, DRAWS, 0, mine);
        free(x);
        if (status != PB_OK) return status;
        for (int b = 0; b < DRAWS && pb_measures[m].ratio; b++)
            mine[b] = round(mine[b] * 1e9) / 1e9; /* equal costs stay equal, whatever the rounding */
    }
    return PB_OK;
}

/* A front joins all rows of a class, so they must be at parity in quality and in cost, each with each:
 * a row joins the class of its baseline when it is so with all that are there already. */
static void find_classes(pb_comparison *c) {
    int first = -1; /* in the place of a baseline where there is none */
    for (int i = 0; i < c->n; i++) {
        const pb_row *row = c->entries[i].row;
        if (c->baseline < 0 && first < 0 && row->n_ok) first = i;
        bool founds = c->baseline < 0 ? i == first : pb_is_baseline(c, i);
        c->front_class[i] = founds && pb_is_trained(row) ? i : -1;
    }
    for (int i = 0; i < c->n; i++) {
        int base = c->baseline < 0 ? first : c->against[i];
        bool joins = base >= 0 && i != base && c->front_class[base] == base && pb_is_trained(c->entries[i].row);
        for (int k = 0; k < c->n && joins; k++)
            if (c->front_class[k] == base)
                joins = pb_parity_between(c, i, k)->common > 0 && !is_stopped(c, i, k, true);
        if (joins) c->front_class[i] = base;
    }
}

/* The front of one class against one cost; a front of one row says nothing. */
static void find_front(pb_comparison *c, int base, const double *quality, double *cost, double *work, int f) {
    double *found = work + (size_t)c->n * DRAWS;
    int members = 0;
    for (int i = 0; i < c->n; i++)
        for (int b = 0; b < DRAWS; b++) {
            size_t at = (size_t)i * DRAWS + (size_t)b;
            work[at] = c->front_class[i] == base ? cost[at] : NAN;
        }
    pb_front_probability(quality, work, c->n, DRAWS, found);
    for (int i = 0; i < c->n; i++) members += !isnan(found[i]);
    for (int i = 0; i < c->n && members > 1; i++)
        if (c->front_class[i] == base) c->front[f][i] = found[i];
}

static pb_status find_fronts(pb_comparison *c, const pb_values *values) {
    pb_status status = PB_OK;
    size_t n = ((size_t)c->n + 1) * DRAWS;
    double *quality = malloc(n * sizeof *quality), *cost = malloc(n * sizeof *cost),
           *work = malloc((n + (size_t)c->n) * sizeof *work);
    if (!quality || !cost || !work) PB_FAIL(PB_E_OOM, "no memory for the draws of %d rows", c->n);
    find_classes(c);
    PB_TRY(draw(c, PB_ACCURACY, values, quality));
    for (int f = 0; f < 2; f++) {
        for (int i = 0; i < c->n; i++) c->front[f][i] = NAN;
        PB_TRY(draw(c, f ? PB_MEMORY : PB_STEP, values, cost));
        for (int base = 0; base < c->n; base++)
            if (c->front_class[base] == base) find_front(c, base, quality, cost, work, f);
    }
done:
    free(quality);
    free(cost);
    free(work);
    return status;
}

/* ---- all ---- */

static pb_status allocate(pb_comparison *c) {
    size_t n = (size_t)c->n, m = PB_MEASURES;
    c->verdicts = calloc(m * n * n + 1, sizeof *c->verdicts);
    c->estimates = calloc(m * n + 1, sizeof *c->estimates);
    c->best = calloc(m * n + 1, sizeof *c->best);
    c->worst = calloc(m * n + 1, sizeof *c->worst);
    c->against = calloc(n + 1, sizeof *c->against);
    c->front_class = calloc(n + 1, sizeof *c->front_class);
    c->front[0] = calloc(n + 1, sizeof **c->front);
    c->front[1] = calloc(n + 1, sizeof **c->front);
    c->parity = calloc(n * n + 1, sizeof *c->parity);
    if (!c->verdicts || !c->estimates || !c->best || !c->worst || !c->front[0] || !c->front[1] ||
        !c->parity || !c->against || !c->front_class)
        return PB_ERROR(PB_E_OOM, "no memory to compare %d rows", c->n);
    return PB_OK;
}

pb_status pb_comparison_make(const pb_entry *entries, int n, int baseline,
                             const pb_waivers *waivers, pb_comparison *out) {
    pb_status status = PB_OK;
    pb_values *values = NULL;
    *out = (pb_comparison){.entries = entries, .n = n, .baseline = baseline};
    PB_TRY(allocate(out));
    values = calloc((size_t)n * PB_MEASURES + 1, sizeof *values);
    if (!values) PB_FAIL(PB_E_OOM, "no memory to compare %d rows", n);
    for (int a = 0; a < n; a++)
        for (int b = a + 1; b < n; b++) PB_TRY(check_parity(out, a, b, waivers));
    if (baseline == PB_BASELINE_AUTO) out->baseline = default_baseline(out);
    choose_baselines(out);
    for (int m = 0; m < PB_MEASURES; m++) {
        for (int i = 0; i < n; i++) {
            PB_TRY(pb_values_load(&entries[i], &pb_measures[m], &values[m * n + i]));
            PB_TRY(estimate(&values[m * n + i], m, &out->estimates[m * n + i]));
        }
        PB_TRY(judge_measure(out, m, values));
        PB_TRY(rank(out, m));
    }
    PB_TRY(find_fronts(out, values));
done:
    for (int i = 0; values && i < n * PB_MEASURES; i++) pb_values_free(&values[i]);
    free(values);
    if (status != PB_OK) pb_comparison_free(out);
    return status;
}

void pb_comparison_free(pb_comparison *c) {
    for (int i = 0; c->parity && i < c->n * c->n; i++) pb_parity_free(&c->parity[i]);
    free(c->verdicts);
    free(c->estimates);
    free(c->against);
    free(c->best);
    free(c->worst);
    free(c->front_class);
    free(c->front[0]);
    free(c->front[1]);
    free(c->parity);
    *c = (pb_comparison){0};
}
