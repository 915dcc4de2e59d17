/* Quality by rank: one DyLoRA at each of its ranks, one LoRA cut to its first components, and one LoRA trained at each
 * rank. The builder only reads the chapter. Test: tests/test_sweeps.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/figure.h"

#define MAX_RANKS 64

typedef struct curve {
    int row; /* whose colour it has */
    char label[128];
    int n;
    double rank[MAX_RANKS], mean[MAX_RANKS], sd[MAX_RANKS];
} curve;

typedef struct plot {
    const pb_chapter *c;
    const char *metric; /* "quality/test/accuracy" */
    curve *curves;
    int n;
} plot;

static void add_point(curve *k, double rank, const pb_row *row, const char *tag) {
    pb_stat s = pb_row_stat(row, tag);
    int at = k->n;
    if (!s.n || k->n == MAX_RANKS) return;
    while (at > 0 && k->rank[at - 1] > rank) at--;
    if (at > 0 && k->rank[at - 1] == rank) return;
    for (int i = k->n; i > at; i--) {
        k->rank[i] = k->rank[i - 1];
        k->mean[i] = k->mean[i - 1];
        k->sd[i] = k->sd[i - 1];
    }
    k->rank[at] = rank;
    k->mean[at] = s.mean;
    k->sd[at] = isfinite(s.sd) ? s.sd : 0;
    k->n++;
}

/* The next curve of the plot, empty; kept when it has two points. */
static curve *start(plot *p, int row, const char *tail) {
    curve *k = &p->curves[p->n];
    *k = (curve){.row = row};
    pb_short_label(k->label, p->c->rows[row].label, 26);
    size_t used = strlen(k->label);
    snprintf(k->label + used, sizeof k->label - used, "%s", tail);
    return k;
}

static void keep(plot *p, const curve *k) { p->n += k->n >= 2; }

static double rank_of(const pb_row *row) {
    return pb_json_number(pb_json_get(pb_row_example(row)->config, "params"), "rank");
}

/* Every metric "...@rank=3" of a row, or "...@cut=3" and the whole. */
static void add_variants(plot *p, int row, const char *variant, const char *tail) {
    const pb_row *r = &p->c->rows[row];
    const pb_record *example = pb_row_example(r);
    curve *k = start(p, row, tail);
    char base[96];
    double rank;
    snprintf(base, sizeof base, "%s@%s=", p->metric, variant);
    for (int i = 0; i < example->n_metrics; i++) {
        const char *tag = example->metrics[i].tag;
        if (strncmp(tag, base, strlen(base)) == 0 && pb_parse_f64(tag + strlen(base), &rank))
            add_point(k, rank, r, tag);
    }
    if (k->n && *tail && isfinite(rank_of(r))) add_point(k, rank_of(r), r, p->metric);
    keep(p, k);
}

/* Same method, targets and alpha over rank: only the rank differs. */
static bool only_rank_differs(const pb_row *a, const pb_row *b) {
    const pb_json *x = pb_json_get(pb_row_example(a)->config, "params"),
                  *y = pb_json_get(pb_row_example(b)->config, "params");
    const pb_json *here = pb_json_get(x, "targets"), *there = pb_json_get(y, "targets");
    return strcmp(a->method, b->method) == 0 && isfinite(rank_of(b)) &&
           (here == there || cJSON_Compare(here, there, true)) && /* no targets are equal, too */
           pb_json_number(x, "alpha") / rank_of(a) == pb_json_number(y, "alpha") / rank_of(b);
}

/* The trainings beside a row that is cut. */
static void add_trained(plot *p, int cut) {
    const pb_row *of = &p->c->rows[cut];
    curve *k = NULL;
    for (int i = 0; i < p->c->n_rows; i++) {
        const pb_row *r = &p->c->rows[i];
        if (!only_rank_differs(of, r)) continue;
        if (!k) k = start(p, i, "");
        add_point(k, rank_of(r), r, p->metric);
    }
    if (!k) return;
    char *tail = strrchr(k->label, ' '); /* "LoRA r1": the rank is what differs */
    if (tail && tail[1] == 'r' && strspn(tail + 2, "0123456789") == strlen(tail + 2)) *tail = 0;
    size_t used = strlen(k->label);
    snprintf(k->label + used, sizeof k->label - used, ", trained at each rank");
    keep(p, k);
}

static void add_curves(plot *p) {
    for (int i = 0; i < p->c->n_rows; i++) {
        int before = p->n;
        add_variants(p, i, "rank", "");
        if (p->n > before) continue;
        add_variants(p, i, "cut", ", cut");
        if (p->n > before) add_trained(p, i);
    }
}

static void write(const plot *p, double scale, figure *f) {
    double low = INFINITY, high = -INFINITY, first = INFINITY, last = 0;
    const char **names = calloc((size_t)p->n, sizeof *names);
    unsigned *colours = calloc((size_t)p->n, sizeof *colours);
    int *points = calloc((size_t)p->n, sizeof *points);
    f->vars.failed = f->vars.failed || !names || !colours || !points;
    pb_text_add(&f->vars, "N = %d\n", p->n);
    pb_gp_array(&f->vars, "COLOUR", p->n);
    pb_gp_array(&f->vars, "POINT", p->n);
    for (int i = 0; i < p->n && !f->vars.failed; i++) {
        const curve *k = &p->curves[i];
        names[i] = k->label;
        colours[i] = pb_row_colour(p->c, k->row);
        points[i] = pb_row_point(p->c, k->row);
        pb_text_add(&f->vars, "COLOUR[%d] = %u\nPOINT[%d] = %d\n", i + 1, colours[i], i + 1, points[i]);
        for (int j = 0; j < k->n; j++) {
            double y = k->mean[j] * scale, dy = k->sd[j] * scale;
            pb_text_add(&f->data, "%.9g\t%.9g\t%.9g\n", k->rank[j], y, dy);
            low = fmin(low, y - dy);
            high = fmax(high, y + dy);
            first = fmin(first, k->rank[j]);
            last = fmax(last, k->rank[j]);
        }
        pb_text_add(&f->data, "\n\n");
    }
    if (!f->vars.failed) pb_figure_legend(f, names, colours, points, p->n);
    double room = fmax((high - low) * 0.12, 1e-3);
    pb_text_add(&f->vars, "YLABEL = '%s'\nYLOW = %.9g\nYHIGH = %.9g\nXLOW = %.9g\nXHIGH = %.9g\n",
                scale > 1 ? "Test accuracy (%)" : "Test NLL (nats)", low - room, high + room,
                first - 0.3, last + 0.3);
    free(names);
    free(colours);
    free(points);
}

pb_status pb_build_dylora_rank(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    plot p = {.c = c, .metric = "quality/test/accuracy"};
    double scale = 100;
    (void)which;
    p.curves = calloc(2 * (size_t)c->n_rows + 1, sizeof *p.curves); /* at most two for each row, and one begun */
    if (!p.curves) PB_FAIL(PB_E_OOM, "no memory for a figure");
    add_curves(&p);
    if (p.n == 0) {
        p.metric = "quality/test/nll";
        scale = 1;
        add_curves(&p);
    }
    f->made = p.n > 0;
    if (!f->made) goto done;
    write(&p, scale, f);
    pb_figure_caption(f, "dylora_rank", "Quality by rank",
                      "The same trained adapter, cut to fewer ranks without further training%s; %s.",
                      p.n > 1 ? ", unless each rank had a training of its own" : "", pb_spread_words(c));
    f->template = "dylora_rank";
done:
    free(p.curves);
    return status;
}
