/* What the figures show, first part: points and curves. Bars and maps: plots/bars.c. Each builder
 * only reads the chapter. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/figure.h"

#define MAX_POINTS 400 /* of a curve in a figure */

static double share_of(const pb_chapter *c) {
    for (int i = 0; i < c->n_rows; i++) {
        const pb_json *m = pb_json_get(pb_row_example(&c->rows[i])->dataset, "majority");
        if (cJSON_IsNumber(m) && m->valuedouble > 0 && m->valuedouble < 1) return m->valuedouble;
    }
    return NAN;
}

#define MAX_KEYS 64
#define FRONT_COLOUR 0xC8CCD0

int pb_row_point(const pb_chapter *c, int row) {
    static const int types[] = {7, 5, 9, 11, 13, 15, 6, 4, 8, 10, 12, 14};
    return types[pb_row_number(c, row) % 12];
}

void pb_figure_rows(figure *f, const pb_chapter *c, const int *rows, int n, bool front) {
    char labels[MAX_KEYS][128];
    const char *names[MAX_KEYS];
    unsigned colours[MAX_KEYS];
    int points[MAX_KEYS], n_keys = 0;
    pb_text_add(&f->vars, "N = %d\n", n);
    pb_gp_array(&f->vars, "COLOUR", n);
    pb_gp_array(&f->vars, "POINT", n);
    for (int i = 0; i < n; i++) {
        unsigned colour = pb_row_colour(c, rows[i]);
        int type = pb_row_point(c, rows[i]);
        pb_text_add(&f->vars, "COLOUR[%d] = %u\nPOINT[%d] = %d\n", i + 1, colour, i + 1, type);
        if (n_keys == MAX_KEYS - 1) continue;
        pb_short_label(labels[n_keys], c->rows[rows[i]].label, 26);
        if (f->chance && isfinite(f->chance[i])) {
            size_t used = strlen(labels[n_keys]);
            snprintf(labels[n_keys] + used, sizeof labels[n_keys] - used, ", %.0f %%",
                     100 * f->chance[i]);
        }
        names[n_keys] = labels[n_keys];
        colours[n_keys] = colour;
        points[n_keys++] = type;
    }
    if (front) {
        names[n_keys] = "Pareto front";
        colours[n_keys] = FRONT_COLOUR;
        points[n_keys++] = 5;
    }
    pb_figure_legend(f, names, colours, points, n_keys);
}

/* ---- accuracy against a cost ---- */

typedef struct point {
    int row, class; /* class: rows that can be compared and share a front; -1 = with none */
    double x, y, x_low, x_high, y_low, y_high, front;
} point;

/* The rows of a class that no other row of it beats in both, by rising cost. */
static int pareto(const point *p, int n, int class, int *front) {
    int count = 0;
    for (int i = 0; i < n; i++) {
        bool beaten = p[i].class != class;
        for (int k = 0; k < n && !beaten; k++) {
            if (p[k].class != class) continue;
            beaten =
                (p[k].x <= p[i].x && p[k].y >= p[i].y && (p[k].x < p[i].x || p[k].y > p[i].y)) ||
                (p[k].x == p[i].x && p[k].y == p[i].y && k < i);
        }
        if (!beaten) front[count++] = i;
    }
    for (int i = 1; i < count; i++)
        for (int k = i; k > 0 && p[front[k]].x < p[front[k - 1]].x; k--) {
            int t = front[k];
            front[k] = front[k - 1];
            front[k - 1] = t;
        }
    return count;
}

static double or_zero(double v) {
    return isfinite(v) ? v : 0;
}

/* Mean and bar of a row: the ends of the interval where one is known, else one standard deviation
 * to both sides. */
static void bar(pb_stat s, const double *ends, double unit, double *low, double *high) {
    bool known = ends && isfinite(ends[0]) && isfinite(ends[1]);
    *low = known ? ends[0] * unit : (s.mean - or_zero(s.sd)) * unit;
    *high = known ? ends[1] * unit : (s.mean + or_zero(s.sd)) * unit;
}

static point make_point(const figure *f, int row, pb_stat x, pb_stat y, double unit, bool memory) {
    const pb_row_marks *k = f->marks ? &f->marks[row] : NULL;
    point p = {.row = row, .class = k ? k->front_class : 0, .x = x.mean * unit, .y = y.mean * 100,
               .front = NAN};
    bar(x, k ? (memory ? k->memory : k->step) : NULL, unit, &p.x_low, &p.x_high);
    bar(y, k ? k->accuracy : NULL, 100, &p.y_low, &p.y_high);
    if (k) p.front = memory ? k->front_memory : k->front_step;
    return p;
}

/* A long bar must not squeeze all points into a corner: axes end a quarter beyond the means. */
static void ranges(const point *p, int n, double *low, double *high, double *right) {
    double y0 = INFINITY, y1 = -INFINITY, x1 = 0;
    *low = INFINITY;
    *high = -INFINITY;
    *right = 0;
    for (int i = 0; i < n; i++) {
        y0 = fmin(y0, p[i].y);
        y1 = fmax(y1, p[i].y);
        x1 = fmax(x1, p[i].x);
        *low = fmin(*low, p[i].y_low);
        *high = fmax(*high, p[i].y_high);
        *right = fmax(*right, p[i].x_high);
    }
    double room = fmax(0.5 * (y1 - y0), 2);
    *low = fmax(*low, y0 - room);
    *high = fmin(*high, y1 + room);
    *right = fmin(*right, 1.25 * x1);
}

static void add_point(pb_text *t, const point *p) {
    pb_text_add(t, "%.9g\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g", p->x, p->y, p->x_low, p->x_high, p->y_low,
                p->y_high);
    pb_text_add(t, "\n\n\n");
}

/* The fronts of all classes of two rows and more, a blank line between them; false when there is none. */
static bool add_fronts(pb_text *t, const point *p, int n, double right, int *front) {
    bool any = false;
    for (int i = 0; i < n; i++) {
        int members = 0, earlier = 0;
        for (int k = 0; k < n; k++) {
            members += p[k].class == p[i].class;
            earlier += p[k].class == p[i].class && k < i;
        }
        if (p[i].class < 0 || members < 2 || earlier) continue;
        int count = pareto(p, n, p[i].class, front);
        if (any) pb_text_add(t, "\n");
        for (int k = 0; k < count; k++)
            pb_text_add(t, "%.9g\t%.9g\n", p[front[k]].x, p[front[k]].y);
        pb_text_add(t, "%.9g\t%.9g\n", right, p[front[count - 1]].y);
        any = true;
    }
    if (!any) pb_text_add(t, "0\t-1e9\n"); /* outside */
    return any;
}

static pb_status cost_figure(const pb_chapter *c, const char *tag, double unit, bool memory,
                             figure *f) {
    pb_status status = PB_OK;
    int n = 0;
    size_t cap = (size_t)c->n_rows + 1;
    point *p = calloc(cap, sizeof *p);
    double *chance = calloc(cap, sizeof *chance);
    int *rows = calloc(cap * 2, sizeof *rows), *front = rows + cap;
    if (!p || !rows || !chance) PB_FAIL(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < c->n_rows; i++) {
        pb_stat y = pb_row_stat(&c->rows[i], "quality/test/accuracy"),
                x = pb_row_stat(&c->rows[i], tag);
        if (!y.n || !x.n || (f->marks && f->marks[i].untrained)) continue;
        rows[n] = i;
        p[n] = make_point(f, i, x, y, unit, memory);
        chance[n] = p[n].front;
        n++;
    }
    f->made = n >= 2;
    if (!f->made) goto done;
    double low, high, right;
    ranges(p, n, &low, &high, &right);
    for (int i = 0; i < n; i++) add_point(&f->data, &p[i]);
    bool joined = add_fronts(&f->data, p, n, right * 1.08, front);
    double room = fmax((high - low) * 0.12, 0.5), share = share_of(c) * 100;
    low = fmax(0, low - room);
    high = fmin(100, high + room);
    bool show = isfinite(share) && share > low - 0.5 * (high - low);
    if (show) low = fmin(low, fmax(0, share - room));
    f->chance = chance;
    pb_figure_rows(f, c, rows, n, joined);
    f->chance = NULL;
    pb_text_add(&f->vars, "YLOW = %.9g\nYHIGH = %.9g\nXHIGH = %.9g\nSHARE = %.9g\n", low, high,
                right * 1.08, show ? share : -1.0);
    f->template = "accuracy_cost";
done:
    free(p);
    free(chance);
    free(rows);
    return status;
}

static bool has_spread(const pb_chapter *c) {
    for (int i = 0; i < c->n_rows; i++)
        if (c->rows[i].n_ok > 1) return true;
    return false;
}

const char *pb_spread_words(const pb_chapter *c) {
    return has_spread(c) ? "bars: \xc2\xb1 one standard deviation over the seeds"
                         : "one seed, so no spread is known";
}

static void cost_caption(const pb_chapter *c, figure *f, const char *name, const char *title) {
    pb_figure_caption(
        f, name, title,
        "Upper left is better. Grey steps join the rows that no other row beats in both (Pareto "
        "front)%s; %s%s.",
        f->marks ? ", of rows that can be compared with each other" : "",
        f->marks && has_spread(c) ? "bars: 95 % intervals" : pb_spread_words(c),
        f->marks && has_spread(c)
            ? "; per cents: probability to be on the front; none: under three seeds or not comparable"
            : "");
}

pb_status pb_build_accuracy_memory(const pb_chapter *c, int which, figure *f) {
    (void)which;
    PB_RETURN(cost_figure(c, "memory/peak/total", 1.0 / 1048576, true, f));
    cost_caption(c, f, "accuracy_memory", "Test accuracy against peak memory");
    pb_text_add(&f->vars, "XLABEL = 'Peak memory of training (MiB)'\n");
    return PB_OK;
}

pb_status pb_build_accuracy_time(const pb_chapter *c, int which, figure *f) {
    (void)which;
    PB_RETURN(cost_figure(c, "time/step/median", 1e3, false, f));
    cost_caption(c, f, "accuracy_time", "Test accuracy against training time");
    pb_text_add(&f->vars, "XLABEL = 'Median time of a training step (ms)'\n");
    return PB_OK;
}

/* ---- loss curves ---- */

/* Mean over the ok runs of the first n values of a sample; NULL when no run has it. *n = the
 * shortest run's length. */
static pb_status mean_curve(const pb_row *row, const char *tag, const char *other, double **out,
                            int64_t *n) {
    int runs = 0;
    *out = NULL;
    *n = INT64_MAX;
    for (int i = 0; i < row->n_runs; i++) {
        const pb_sample *s = pb_record_find_sample(row->runs[i], tag);
        if (!s && other) s = pb_record_find_sample(row->runs[i], other);
        if (row->runs[i]->status == PB_RUN_OK && s && s->values && s->n && s->n < *n) *n = s->n;
    }
    if (*n == INT64_MAX) return PB_OK;
    double *sum = calloc((size_t)*n, sizeof *sum);
    if (!sum) return PB_ERROR(PB_E_OOM, "no memory for a curve of %lld points", (long long)*n);
    for (int i = 0; i < row->n_runs; i++) {
        const pb_sample *s = pb_record_find_sample(row->runs[i], tag);
        if (!s && other) s = pb_record_find_sample(row->runs[i], other);
        if (row->runs[i]->status != PB_RUN_OK || !s || !s->values || s->n < *n) continue;
        for (int64_t k = 0; k < *n; k++) sum[k] += s->values[k];
        runs++;
    }
    for (int64_t k = 0; k < *n; k++) sum[k] /= runs;
    *out = sum;
    return PB_OK;
}

/* A straight line fitted to the steps within `half` around i, read at i: smooth also at both ends.
 */
static double local_line(const double *v, int64_t n, int64_t half, int64_t i) {
    int64_t from = i > half ? i - half : 0, to = i + half < n ? i + half : n - 1;
    double m = (double)(to - from + 1), middle = (double)(from + to) / 2, mean = 0, sxx = 0,
           sxy = 0;
    for (int64_t k = from; k <= to; k++) mean += v[k] / m;
    for (int64_t k = from; k <= to; k++) {
        double x = (double)k - middle;
        sxx += x * x;
        sxy += x * (v[k] - mean);
    }
    return mean + (sxx > 0 ? sxy / sxx * ((double)i - middle) : 0);
}

/* Smoothed over a window of about an eighth of the run, thinned to MAX_POINTS. */
static void add_smoothed(pb_text *t, const double *v, int64_t n, int64_t half) {
    int64_t stride = n / MAX_POINTS + 1;
    for (int64_t i = 0; i < n; i += stride) {
        double y = local_line(v, n, half, i);
        if (isfinite(y)) pb_text_add(t, "%lld\t%.7g\n", (long long)i + 1, y);
    }
}

/* The two blocks of a row: smoothed training loss, validation points (an empty one is a point
 * outside). */
static pb_status add_curves(const pb_row *row, figure *f, int64_t *steps, int64_t *half,
                            bool *valid) {
    pb_status status = PB_OK;
    double *loss = NULL, *v = NULL, *at = NULL;
    int64_t n = 0, nv = 0, na = 0;
    PB_TRY(mean_curve(row, "loss/train", NULL, &loss, &n));
    PB_ASSERT(loss);
    *half = n / 16;
    if (n > *steps) *steps = n;
    add_smoothed(&f->data, loss, n, *half);
    pb_text_add(&f->data, "\n\n");
    PB_TRY(mean_curve(row, "loss/valid", "curve/valid/nll", &v, &nv));
    PB_TRY(mean_curve(row, "loss/valid/step", "curve/step", &at, &na));
    int shown = 0;
    for (int64_t i = 0; v && at && i < nv && i < na; i++)
        if (isfinite(v[i]) && isfinite(at[i])) {
            pb_text_add(&f->data, "%.9g\t%.7g\n", at[i], v[i]);
            shown++;
        }
    if (!shown) pb_text_add(&f->data, "-1\t-1\n");
    *valid = *valid || shown;
    pb_text_add(&f->data, "\n\n");
done:
    free(loss);
    free(v);
    free(at);
    return status;
}

static bool has_curve(const pb_row *row) {
    for (int i = 0; i < row->n_runs; i++) {
        const pb_sample *s = pb_record_find_sample(row->runs[i], "loss/train");
        if (row->runs[i]->status == PB_RUN_OK && s && s->n > 1 && s->values) return true;
    }
    return false;
}

pb_status pb_build_loss_curves(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    int n = 0;
    int64_t steps = 0, half = 0;
    bool valid = false;
    (void)which;
    int *rows = calloc((size_t)c->n_rows + 1, sizeof *rows);
    if (!rows) PB_FAIL(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < c->n_rows; i++)
        if (has_curve(&c->rows[i])) rows[n++] = i;
    f->made = n > 0;
    for (int i = 0; i < n; i++) PB_TRY(add_curves(&c->rows[rows[i]], f, &steps, &half, &valid));
    pb_figure_rows(f, c, rows, n, false);
    pb_text_add(&f->vars, "STEPS = %lld\n", (long long)steps);
    pb_figure_caption(
        f, "loss_curves", "Training loss",
        "Lines: training loss, averaged over the seeds and smoothed over %lld steps.%s",
        (long long)(2 * half + 1), valid ? " Points: loss on the validation data." : "");
    f->template = "loss_curves";
done:
    free(rows);
    return status;
}
