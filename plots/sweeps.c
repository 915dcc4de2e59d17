/* Figures of sweeps: learning rates that a tuning tried, numbers of training examples, batch x length.
 * Each builder only reads the chapter. */
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/figure.h"

static double or_zero(double v) {
    return isfinite(v) ? v : 0;
}

/* ---- learning-rate curves ---- */

typedef struct tried {
    double lr, nll;
} tried;

static int by_lr(const void *a, const void *b) {
    double x = ((const tried *)a)->lr, y = ((const tried *)b)->lr;
    return (x > y) - (x < y);
}

/* Is this a trial of the row at its final rank, with the training at full length? */
static bool belongs(const pb_row *trial, const pb_row *row) {
    const pb_record *t = trial->runs[0], *final = pb_row_example(row);
    double a = pb_json_number(t->tuning, "rank"), b = pb_json_number(final->tuning, "rank");
    bool same_rank = (isnan(a) && isnan(b)) || a == b;
    const pb_json *x = pb_json_get(pb_json_get(t->config, "train"), "steps"),
                  *y = pb_json_get(pb_json_get(final->config, "train"), "steps");
    bool whole = !x || !y || x->valuedouble == y->valuedouble;
    return same_rank && whole && strcmp(pb_json_text(t->tuning, "row"), row->label) == 0;
}

/* The finite losses of a row's trials by rising rate; NaN means of rows whose runs did not end well are
 * left out. */
static int curve_of(const pb_chapter *c, const pb_row *row, tried *out) {
    int n = 0;
    for (int i = 0; i < c->n_trials; i++) {
        const pb_row *t = &c->trials[i];
        if (!belongs(t, row) || t->n_ok < t->n_runs) continue;
        pb_stat s = pb_row_stat(t, "quality/valid/nll");
        if (s.n) out[n++] = (tried){pb_json_number(t->runs[0]->tuning, "lr"), s.mean};
    }
    qsort(out, (size_t)n, sizeof *out, by_lr);
    return n;
}

pb_status pb_build_lr_curves(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    int n = 0, edges = 0;
    double low = INFINITY, worst_best = -INFINITY, first = INFINITY, last = 0;
    pb_text chosen = {0};
    (void)which;
    tried *t = calloc((size_t)c->n_trials + 1, sizeof *t);
    int *rows = calloc((size_t)c->n_rows + 1, sizeof *rows);
    if (!t || !rows) PB_FAIL(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < c->n_rows; i++) {
        int count = curve_of(c, &c->rows[i], t);
        const pb_record *final = pb_row_example(&c->rows[i]);
        if (count < 2 || strcmp(final->phase, "final") != 0) continue;
        rows[n++] = i;
        double best = INFINITY, rate = pb_json_number(final->tuning, "lr");
        for (int k = 0; k < count; k++) {
            pb_text_add(&f->data, "%.9g\t%.7g\n", t[k].lr, t[k].nll);
            best = fmin(best, t[k].nll);
            first = fmin(first, t[k].lr);
            last = fmax(last, t[k].lr);
        }
        pb_text_add(&f->data, "\n\n");
        bool edge = strcmp(pb_json_text(final->tuning, "edge"), "none") != 0;
        edges += edge;
        pb_text_add(&chosen, "%.9g\t%.7g\t%d\t%u\n", rate, best, edge ? 2 : 1,
                    pb_row_colour(c, i));
        low = fmin(low, best);
        worst_best = fmax(worst_best, best);
    }
    f->made = n > 0;
    if (!f->made) goto done;
    pb_text_add(&f->data, "%s", chosen.data);
    pb_figure_rows(f, c, rows, n, false);
    double room = fmax((worst_best - low) * 1.2, 0.5); /* what is far worse may leave the figure */
    pb_text_add(&f->vars, "XLOW = %.9g\nXHIGH = %.9g\nYLOW = %.9g\nYHIGH = %.9g\n", first / 1.5,
                last * 1.5, fmax(0, low - 0.15 * room), worst_best + room);
    pb_figure_caption(f, "lr_curves", "Learning rates tried, on the validation data",
                      "Every row had the same number of trials. Circles: the chosen values%s. What "
                      "diverged or is far worse lies outside.",
                      edges ? "; a large circle is the edge of what was tried or trains" : "");
    f->template = "lr_curves";
done:
    pb_text_free(&chosen);
    free(rows);
    free(t);
    return status;
}

/* ---- quality against the number of training examples ---- */

/* "LoRA r8 n1000" -> 1000, and the length of the label before it. */
static double examples_of(const pb_row *row, size_t *stem) {
    const char *at = strrchr(row->label, 'n');
    double n = 0;
    *stem = 0;
    if (!at || at < row->label + 2 || at[-1] != ' ' || !pb_parse_f64(at + 1, &n)) return NAN;
    *stem = (size_t)(at - row->label) - 1;
    return pb_json_number(pb_json_get(pb_row_example(row)->config, "data"), "train") == n ? n : NAN;
}

static bool same_stem(const pb_row *a, size_t n, const pb_row *b, size_t m) {
    return n == m && strncmp(a->label, b->label, n) == 0;
}

static bool seen_before(const pb_chapter *c, int row, size_t stem) {
    for (int i = 0; i < row; i++) {
        size_t other = 0;
        if (!isnan(examples_of(&c->rows[i], &other)) &&
            same_stem(&c->rows[i], other, &c->rows[row], stem))
            return true;
    }
    return false;
}

typedef struct spot {
    double x, y, low, high;
} spot;

static int by_x(const void *a, const void *b) {
    double x = ((const spot *)a)->x, y = ((const spot *)b)->x;
    return (x > y) - (x < y);
}

/* The rows' colours, under their labels without the number. */
static pb_status stem_legend(figure *f, const pb_chapter *c, const int *rows, int n) {
    pb_chapter copy = *c;
    char(*labels)[64] = calloc((size_t)n + 1, sizeof *labels);
    copy.rows = malloc(((size_t)c->n_rows + 1) * sizeof *copy.rows);
    if (labels && copy.rows) {
        memcpy(copy.rows, c->rows, (size_t)c->n_rows * sizeof *copy.rows);
        for (int i = 0; i < n; i++) {
            size_t stem = 0;
            examples_of(&c->rows[rows[i]], &stem);
            snprintf(labels[i], sizeof labels[i], "%.*s", (int)stem, c->rows[rows[i]].label);
            copy.rows[rows[i]].label = labels[i];
        }
        pb_figure_rows(f, &copy, rows, n, false);
    }
    bool ok = labels && copy.rows;
    free(labels);
    free(copy.rows);
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for a legend");
}

/* What is drawn over the number of examples. least, most: where the axis ends at the latest. */
static const struct sized {
    const char *tag, *axis, *name, *title, *caption;
    double scale, room, least, most;
} sized[] = {
    {"quality/test/accuracy", "Test accuracy (%)", "quality_examples",
     "Quality against the number of training examples", "", 100, 0.5, 0, 100},
    {"quality/gap/nll", "Test less training NLL (nats)", "gap_examples",
     "Overfitting: the gap against the number of training examples",
     "The larger the gap, the more was learnt by heart. ", 1, 0.02, -INFINITY, INFINITY},
    {"curve/valid/upturn", "Upturn of the validation loss (%)", "upturn_examples",
     "Overfitting: the upturn against the number of training examples",
     "How far the last validation loss lies above the least; 0: it was still falling. ", 100, 0.5, -INFINITY,
     INFINITY}};

/* The row's place: with the interval where marks have one, else one standard deviation to both sides. */
static spot spot_of(const figure *f, int row, double x, pb_stat y, int which) {
    const pb_row_marks *k = f->marks ? &f->marks[row] : NULL;
    const double *ends = k ? (const double *[]){k->accuracy, k->gap, k->upturn}[which] : NULL;
    double scale = sized[which].scale, arm = or_zero(y.sd);
    bool known = ends && isfinite(ends[0]) && isfinite(ends[1]);
    return (spot){x, y.mean * scale, (known ? ends[0] : y.mean - arm) * scale,
                  (known ? ends[1] : y.mean + arm) * scale};
}

pb_status pb_build_quality_examples(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    const struct sized *d = &sized[which];
    double low = INFINITY, high = -INFINITY, first = INFINITY, last = 0;
    int n = 0;
    int *rows = calloc((size_t)c->n_rows + 1, sizeof *rows);
    spot *s = calloc((size_t)c->n_rows + 1, sizeof *s);
    if (!rows || !s) PB_FAIL(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < c->n_rows; i++) {
        size_t stem = 0, other = 0;
        int count = 0;
        if (isnan(examples_of(&c->rows[i], &stem)) || seen_before(c, i, stem)) continue;
        for (int k = i; k < c->n_rows; k++) {
            double x = examples_of(&c->rows[k], &other);
            pb_stat y = pb_row_stat(&c->rows[k], d->tag);
            if (isnan(x) || !y.n || !same_stem(&c->rows[i], stem, &c->rows[k], other)) continue;
            s[count++] = spot_of(f, k, x, y, which);
        }
        if (count < 2) continue;
        rows[n++] = i;
        qsort(s, (size_t)count, sizeof *s, by_x);
        for (int k = 0; k < count; k++) {
            pb_text_add(&f->data, "%.9g\t%.7g\t%.7g\t%.7g\n", s[k].x, s[k].y, s[k].low, s[k].high);
            low = fmin(low, s[k].low);
            high = fmax(high, s[k].high);
            first = fmin(first, s[k].x);
            last = fmax(last, s[k].x);
        }
        pb_text_add(&f->data, "\n\n");
    }
    f->made = n > 0;
    if (!f->made) goto done;
    PB_TRY(stem_legend(f, c, rows, n));
    double room = fmax((high - low) * 0.1, d->room);
    pb_text_add(&f->vars, "YLABEL = '%s'\nXLOW = %.9g\nXHIGH = %.9g\nYLOW = %.9g\nYHIGH = %.9g\n", d->axis,
                first / 1.4, last * 1.4, fmax(d->least, low - room), fmin(d->most, high + room));
    pb_figure_caption(f, d->name, d->title, "%sBars: %s.", d->caption,
                      f->marks ? "95 % intervals" : "\xc2\xb1 one standard deviation over the seeds");
    f->template = "quality_examples";
done:
    free(s);
    free(rows);
    return status;
}

/* ---- latency over batch x length ---- */

static const pb_sample *times(const pb_record *r, const char *how, const char *shape) {
    char tag[96];
    snprintf(tag, sizeof tag, "time/infer/%s@shape=%.40s", how, shape);
    const pb_sample *s = pb_record_find_sample(r, tag);
    return s && s->values && s->n > 0 && r->status == PB_RUN_OK ? s : NULL;
}

static const pb_record *run_at(const pb_row *row, uint64_t seed) {
    for (int i = 0; i < row->n_runs; i++)
        if (row->runs[i]->seed == seed) return row->runs[i];
    return NULL;
}

static const pb_row *first_of(const pb_chapter *c, const char *method) {
    for (int i = 0; i < c->n_rows; i++)
        if (strcmp(c->rows[i].method, method) == 0 && c->rows[i].n_ok) return &c->rows[i];
    return NULL;
}

/* The median of ratios and an interval of it. */
typedef struct middle {
    double value, low, high;
} middle;

/* Of passes that took turns: the i-th of both ran in the same round. */
static pb_status ratio_of(const pb_sample *a, const pb_sample *b, middle *out) {
    size_t n = (size_t)(a->n < b->n ? a->n : b->n);
    double *r = calloc(n, sizeof *r);
    if (!r) return PB_ERROR(PB_E_OOM, "no memory for a figure");
    for (size_t i = 0; i < n; i++) r[i] = a->values[i] / b->values[i];
    gsl_sort(r, 1, n);
    /* Order statistics that hold the median with at least 95 % (normal approximation, rounded out). */
    double rank = floor((double)n / 2 - 0.98 * sqrt((double)n)) - 1;
    size_t k = rank > 0 ? (size_t)rank : 0;
    *out = (middle){gsl_stats_median_from_sorted_data(r, 1, n), r[k], r[n - 1 - k]};
    free(r);
    return PB_OK;
}

/* Over the seeds that both have: the mean of their medians, and its 95 % interval (Student); of a single one its own. */
static pb_status ratio_of_rows(const pb_row *row, const pb_row *reference, const char *how, const char *shape,
                               int *n, middle *out) {
    double sum = 0, squares = 0;
    *n = 0;
    for (int i = 0; i < row->n_runs; i++) {
        const pb_record *other = run_at(reference, row->runs[i]->seed);
        const pb_sample *a = times(row->runs[i], "unmerged", shape), *b = other ? times(other, how, shape) : NULL;
        if (!a || !b) continue;
        PB_RETURN(ratio_of(a, b, out));
        sum += out->value;
        squares += out->value * out->value;
        ++*n;
    }
    if (*n < 2) return PB_OK;
    double mean = sum / *n, variance = fmax(squares - sum * mean, 0) / (*n - 1);
    double arm = gsl_cdf_tdist_Pinv(0.975, *n - 1) * sqrt(variance / *n);
    *out = (middle){mean, mean - arm, mean + arm};
    return PB_OK;
}

/* All shapes that both have, from the tags of the row's own samples. */
static pb_status add_row_ratios(const pb_row *row, const pb_row *reference, const char *how, figure *f,
                                int *count, double *low, double *high, double *widest, int *processes) {
    const pb_record *r = pb_row_example(row);
    const char *start = "time/infer/unmerged@shape=";
    for (int i = 0; i < r->n_samples; i++) {
        int64_t batch = 0, length = 0;
        int n = 0;
        middle m = {0};
        const char *shape = r->samples[i].tag + strlen(start);
        if (strncmp(r->samples[i].tag, start, strlen(start)) != 0 ||
            sscanf(shape, "%" SCNd64 "x%" SCNd64, &batch, &length) != 2)
            continue;
        PB_RETURN(ratio_of_rows(row, reference, how, shape, &n, &m));
        if (n == 0) continue;
        double tokens = (double)(batch * length);
        pb_text_add(&f->data, "%.9g\t%.7g\t%.7g\t%.7g\n", tokens, m.value, m.low, m.high);
        *low = fmin(*low, m.low);
        *high = fmax(*high, m.high);
        *widest = fmax(*widest, tokens);
        if (n > *processes) *processes = n;
        ++*count;
    }
    pb_text_add(&f->data, "\n\n");
    return PB_OK;
}

pb_status pb_build_latency_shapes(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    const char *how = which == 0 ? "merged" : "unmerged";
    const pb_row *reference = first_of(c, "lora");
    double low = 1, high = 1, widest = 1;
    int n = 0, processes = 0;
    int *rows = calloc((size_t)c->n_rows + 1, sizeof *rows);
    if (!rows) PB_FAIL(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < c->n_rows && reference; i++) {
        int count = 0;
        if (!c->rows[i].n_ok || (which == 1 && &c->rows[i] == reference)) continue;
        size_t before = f->data.len;
        PB_TRY(add_row_ratios(&c->rows[i], reference, how, f, &count, &low, &high, &widest,
                              &processes));
        if (count > 0) rows[n++] = i;
        else if (f->data.data) f->data.data[f->data.len = before] = 0;
    }
    f->made = n > 0;
    if (!f->made) goto done;
    pb_figure_rows(f, c, rows, n, false);
    double room = fmax((high - low) * 0.08, 0.02);
    pb_text_add(&f->vars,
                "YLABEL = '× LoRA, %s'\nXLOW = 8\nXHIGH = %.9g\nYLOW = %.9g\nYHIGH = %.9g\n", how,
                widest * 1.5, low - room, high + room);
    pb_figure_caption(
        f, which == 0 ? "latency_merged" : "latency_unmerged",
        which == 0 ? "Forward pass beside LoRA folded into the weights"
                   : "Forward pass beside LoRA next to the weights",
        "Each row unmerged, against the LoRA row %s, passes in turns. Points: median of the ratios%s, "
        "rows side by side; bars: 95 %% interval of the %s.",
        how, processes > 1 ? ", mean over the seeds" : "", processes > 1 ? "mean" : "median");
    f->template = "latency_shapes";
done:
    free(rows);
    return status;
}
