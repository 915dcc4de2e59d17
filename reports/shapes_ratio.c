/* Forward passes over batch x length beside a reference, process by process: the baseline with its adapter merged,
 * or the base model where every process timed that in turns with its own row. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/shapes.h"

/* A row in a form; row -1: the base model, as ratio 1. */
typedef struct side {
    int row, form;
} side;

bool rp_is_apart(const rp_shape_ratio *r) { return r->ratio.n > 1 && r->p_holm <= PB_STAT_ALPHA; }

const char *rp_shape_words(rp_word out, const pb_ratio *r) {
    if (isnan(r->interval.low)) return rp_word_set(out, "%.2f" TIMES, r->ratio);
    return rp_word_set(out, "%.2f" TIMES " (%.2f" DASH "%.2f)", r->ratio, r->interval.low, r->interval.high);
}

/* NaN unless the run ended well with a value above 0. own: what the process measured beside its base model. */
static double value_of(const pb_record *r, const char *form, const char *shape, bool own) {
    char tag[96];
    snprintf(tag, sizeof tag, "%s/infer/%s/median@shape=%.23s", own ? "ratio" : "time", form, shape);
    const pb_metric *m = r->status == PB_RUN_OK ? pb_record_find(r, tag) : NULL;
    return m && m->value > 0 && isfinite(m->value) ? m->value : NAN;
}

static const pb_record *run_of(const pb_row *row, uint64_t seed) {
    for (int i = 0; i < row->n_runs; i++)
        if (row->runs[i]->seed == seed) return row->runs[i];
    return NULL;
}

static double value_at(const rp_view *v, side s, uint64_t seed, const char *shape, bool own) {
    if (s.row < 0) return 1;
    const pb_record *r = run_of(v->c->entries[s.row].row, seed);
    return r ? value_of(r, rp_shape_forms[s.form], shape, own) : NAN;
}

/* A row that has the form at any shape. */
static bool has_form(const rp_view *v, const rp_shapes *s, side a, bool own) {
    const pb_row *row = v->c->entries[a.row].row;
    for (int i = 0; i < row->n_runs; i++)
        for (int k = 0; k < s->n_shapes; k++)
            if (!isnan(value_of(row->runs[i], rp_shape_forms[a.form], s->shapes[k], own))) return true;
    return false;
}

/* The geometric mean of n values; n = 0: of none. */
static bool mean_of(const double *x, int n, pb_ratio *out) {
    *out = (pb_ratio){.n = 0, .ratio = NAN, .interval = {NAN, NAN}, .p = NAN, .se_log = NAN};
    if (!n) return true;
    double *ones = malloc((size_t)n * sizeof *ones);
    for (int i = 0; ones && i < n; i++) ones[i] = 1;
    bool ok = ones && pb_ratio_of(x, ones, n, PB_STAT_LEVEL, out) == PB_OK;
    free(ones);
    return ok;
}

/* a / b at every shape and over all that both have. */
static bool compare(const rp_view *v, const rp_shapes *s, side a, side b, bool own, rp_shape_line *l) {
    const pb_row *row = v->c->entries[a.row].row;
    size_t runs = (size_t)row->n_runs + 1;
    double *q = calloc(runs, sizeof *q), *x = calloc(runs, sizeof *x), *sum = calloc(runs, sizeof *sum);
    bool ok = q && x && sum;
    int shapes = 0, whole = 0;
    for (int k = 0; ok && k < s->n_shapes; k++) {
        int n = 0;
        for (int i = 0; i < row->n_runs; i++) {
            uint64_t seed = row->runs[i]->seed;
            q[i] = value_at(v, a, seed, s->shapes[k], own) / value_at(v, b, seed, s->shapes[k], own);
            if (!isnan(q[i])) x[n++] = q[i];
        }
        ok = mean_of(x, n, &l->at[k].ratio);
        for (int i = 0; n && i < row->n_runs; i++) sum[i] += log(q[i]); /* NaN where a process lacks a shape */
        shapes += n > 0;
    }
    for (int i = 0; ok && shapes && i < row->n_runs; i++)
        if (!isnan(sum[i])) x[whole++] = exp(sum[i] / shapes);
    ok = ok && mean_of(x, whole, &l->all.ratio);
    free(q);
    free(x);
    free(sum);
    return ok;
}

static bool times_of(const rp_view *v, const rp_shapes *s, rp_shape_line *l) {
    const pb_row *row = v->c->entries[l->row].row;
    double *x = calloc((size_t)row->n_runs + 1, sizeof *x);
    bool ok = x != NULL;
    for (int k = 0; ok && k < s->n_shapes; k++) {
        int n = 0;
        for (int i = 0; i < row->n_runs; i++) {
            double t = value_of(row->runs[i], rp_shape_forms[l->form], s->shapes[k], false);
            if (!isnan(t)) x[n++] = t;
        }
        ok = mean_of(x, n, &l->time[k]);
    }
    free(x);
    return ok;
}

/* Holm over the shapes of all lines, and over the lines. */
static bool correct(rp_shape_line *lines, int n, int n_shapes) {
    size_t most = (size_t)n * RP_MOST_SHAPES + 1;
    double *p = calloc(most, sizeof *p), *q = calloc(most, sizeof *q);
    bool ok = p && q;
    int m = 0;
    for (int i = 0; ok && i < n; i++)
        for (int k = 0; k < n_shapes; k++) p[m++] = lines[i].at[k].ratio.n ? lines[i].at[k].ratio.p : NAN;
    ok = ok && pb_holm(p, m, q) == PB_OK;
    for (int i = 0; ok && i < n; i++)
        for (int k = 0; k < n_shapes; k++) lines[i].at[k].p_holm = q[i * n_shapes + k];
    for (int i = 0; ok && i < n; i++) p[i] = lines[i].all.ratio.n ? lines[i].all.ratio.p : NAN;
    ok = ok && pb_holm(p, n, q) == PB_OK;
    for (int i = 0; ok && i < n; i++) lines[i].all.p_holm = q[i];
    free(p);
    free(q);
    return ok;
}

/* Rows that are not at parity are not set beside each other. */
static const pb_parity_finding *stop_between(const rp_view *v, int a, int b) {
    return b < 0 || a == b ? NULL : pb_parity_stop(pb_parity_between(v->c, a, b), true);
}

/* The reference of the others beside the first row that trains the head alone. */
static bool compare_base(const rp_view *v, rp_shapes *s, side ref) {
    for (int i = 0; i < v->c->n && !s->has_base; i++) {
        side head = {i, RP_UNMERGED};
        if (!pb_is_head_only(v->c->entries[i].row->method) || i == ref.row || stop_between(v, ref.row, i)) continue;
        s->base.row = ref.row;
        s->base.form = ref.form;
        if (!compare(v, s, (side){ref.row, ref.form}, head, false, &s->base)) return false;
        s->has_base = s->base.all.ratio.n > 0;
        snprintf(s->base_name, sizeof s->base_name, "the base model (%.150s)", v->c->entries[i].name);
    }
    return correct(&s->base, 1, s->n_shapes);
}

bool rp_shapes_compare(const rp_view *v, rp_shapes *s) {
    int base = v->c->baseline;
    bool own = true, ok = true;
    s->lines = calloc(2 * (size_t)v->c->n + 1, sizeof *s->lines);
    if (!s->lines) return false;
    for (int i = 0; i < v->c->n; i++)
        for (int f = 0; f < 2; f++) {
            if (!has_form(v, s, (side){i, f}, false)) continue;
            own = own && has_form(v, s, (side){i, f}, true);
            s->lines[s->n_lines++] = (rp_shape_line){.row = i, .form = f};
        }
    side ref = {-1, RP_UNMERGED};
    if (!own && base >= 0) ref = (side){base, has_form(v, s, (side){base, RP_MERGED}, false) ? RP_MERGED : RP_UNMERGED};
    bool compared = !v->anchored && (own || base >= 0);
    if (compared && own) snprintf(s->reference, sizeof s->reference, "the base model");
    else if (compared)
        snprintf(s->reference, sizeof s->reference, "%.150s, %s", v->c->entries[base].name, rp_shape_forms[ref.form]);
    for (int i = 0; ok && i < s->n_lines; i++) {
        rp_shape_line *l = &s->lines[i];
        l->is_reference = compared && l->row == ref.row && l->form == ref.form;
        ok = times_of(v, s, l);
        if (compared) l->stop = stop_between(v, l->row, ref.row);
        if (ok && compared && !l->is_reference && !l->stop)
            ok = compare(v, s, (side){l->row, l->form}, ref, own, l);
    }
    ok = ok && correct(s->lines, s->n_lines, s->n_shapes);
    return ok && (!compared || own || compare_base(v, s, ref));
}
