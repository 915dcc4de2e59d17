/* Builders of the kernels' figures: plots/kernels.h. */
#include "plots/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/figure.h"

#define BAR_PIXELS 24
#define NAMED 10 /* points with a number and a line in the legend */
#define COPY_COLOUR 0x009E73
#define PRODUCT_COLOUR 0x0072B2

static bool belongs(const pb_kernel_point *p, const char *chart) {
    size_t n = strlen(chart);
    return strncmp(p->name, chart, n) == 0 && p->name[n] == '/' && isfinite(p->share) &&
           p->share > 0 && p->seconds > 0 && p->bytes > 0;
}

/* The chart's points, slowest first or nearest to the roof last; malloc'ed pointers. */
static int slower(const void *a, const void *b) {
    const pb_kernel_point *x = *(const pb_kernel_point *const *)a;
    const pb_kernel_point *y = *(const pb_kernel_point *const *)b;
    if (x->seconds != y->seconds) return x->seconds < y->seconds ? 1 : -1;
    return strcmp(x->name, y->name);
}

static int lower(const void *a, const void *b) {
    const pb_kernel_point *x = *(const pb_kernel_point *const *)a;
    const pb_kernel_point *y = *(const pb_kernel_point *const *)b;
    if (x->share != y->share) return x->share > y->share ? 1 : -1;
    return strcmp(x->name, y->name);
}

static pb_status chosen(const pb_kernel_point *points, int n, const char *chart,
                        int (*order)(const void *, const void *), const pb_kernel_point ***out,
                        int *n_out) {
    const pb_kernel_point **list = calloc((size_t)n + 1, sizeof *list);
    *n_out = 0;
    if (!list) return PB_ERROR(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < n; i++)
        if (belongs(&points[i], chart)) list[(*n_out)++] = &points[i];
    qsort(list, (size_t)*n_out, sizeof *list, order);
    *out = list;
    return PB_OK;
}

/* ---- roofline ---- */

pb_status pb_build_kernel_roofline(const pb_kernel_point *points, int n, const char *chart,
                                   double bytes_per_s, double flops_per_s, figure *f) {
    const pb_kernel_point **list = NULL;
    char labels[NAMED][96], name[48];
    const char *names[NAMED];
    unsigned colours[NAMED];
    int marks[NAMED], shown = 0, named = 0;
    double knee = flops_per_s / bytes_per_s, left = knee, right = knee, low = INFINITY;
    double high = flops_per_s / 1e9;
    PB_RETURN(chosen(points, n, chart, slower, &list, &n));
    for (int i = 0; i < n; i++) {
        double x = list[i]->work / list[i]->bytes, y = list[i]->work / list[i]->seconds / 1e9;
        if (!(x > 0)) continue; /* moves bytes and computes nothing */
        if (named < NAMED) {
            char text[128];
            pb_short_label(text, list[i]->name + strlen(chart) + 1, 40);
            snprintf(labels[named], sizeof labels[named], "%d %.50s", named + 1, text);
            names[named] = labels[named];
            colours[named] = list[i]->products ? PRODUCT_COLOUR : COPY_COLOUR;
            marks[named++] = 7;
        }
        pb_text_add(&f->data, "%.6g\t%.6g\t1.2\t%d\t%u\n", x, y, shown < NAMED ? named : 0,
                    list[i]->products ? PRODUCT_COLOUR : COPY_COLOUR);
        shown++;
        left = fmin(left, x);
        right = fmax(right, x);
        low = fmin(low, y);
        high = fmax(high, y);
    }
    free(list);
    f->made = shown > 0;
    if (!f->made) return PB_OK;
    pb_text_add(&f->vars,
                "XLOW = %.6g\nXHIGH = %.6g\nYLOW = %.6g\nYHIGH = %.6g\nBYTES = %.6g\nFLOPS = %.6g\n",
                left / 3, right * 4, low / 3, high * 3, bytes_per_s / 1e9, flops_per_s / 1e9);
    f->height = 480;
    pb_figure_legend(f, names, colours, marks, named);
    snprintf(name, sizeof name, "roofline_%.30s", chart);
    pb_figure_caption(f, name, "",
                      "Work of each kernel per second against its work per byte of least traffic, "
                      "from cold caches. Lines: a copy (%.3g GB/s) and the library's product "
                      "(%.3g GFLOP/s). Green: the copy binds; blue: the product. Numbers: the "
                      "slowest.",
                      bytes_per_s / 1e9, flops_per_s / 1e9);
    snprintf(f->out.title, sizeof f->out.title, "Kernels of %.40s under the roofs", chart);
    f->template = "kernel_roofline";
    return PB_OK;
}

/* ---- share of the roof ---- */

pb_status pb_build_roof_share(const pb_kernel_point *points, int n, const char *chart, figure *f) {
    static const char *const names[] = {"the copy binds", "the product binds"};
    static const unsigned colours[] = {COPY_COLOUR, PRODUCT_COLOUR};
    static const int marks[] = {5, 5};
    const pb_kernel_point **list = NULL;
    pb_text blocks[2] = {{0}}, numbers = {0};
    char label[128], name[48];
    double widest = 100;
    int longest = 6;
    PB_RETURN(chosen(points, n, chart, lower, &list, &n));
    f->made = n > 0;
    pb_text_add(&f->vars, "N = %d\n", n);
    pb_gp_array(&f->vars, "LABEL", n);
    for (int i = 0; i < n; i++) {
        double share = 100 * list[i]->share;
        pb_short_label(label, list[i]->name + strlen(chart) + 1, 44);
        if (pb_text_width(label) > longest) longest = pb_text_width(label);
        pb_gp_item(&f->vars, "LABEL", i, label);
        pb_text_add(&blocks[list[i]->products], "%.6g\t%d\t0\t%.6g\t%.2f\t%.2f\n", share / 2, i + 1,
                    share, i + 0.66, i + 1.34);
        pb_text_add(&numbers, "%.6g\t%d\t%.0f %%\n", share, i + 1, share);
        widest = fmax(widest, share);
    }
    for (int b = 0; b < 2; b++) {
        pb_text_add(&f->data, "%s\n\n", blocks[b].data ? blocks[b].data : "0\t1\t0\t0\t1\t1\n");
        f->data.failed = f->data.failed || blocks[b].failed;
        pb_text_free(&blocks[b]);
    }
    pb_text_add(&f->data, "%s", numbers.data ? numbers.data : "");
    f->data.failed = f->data.failed || numbers.failed;
    pb_text_free(&numbers);
    free(list);
    pb_text_add(&f->vars, "WIDEST = %d\nXHIGH = %.6g\n", longest, widest * 1.2);
    f->width = 760;
    f->height = 140 + BAR_PIXELS * n;
    pb_figure_legend(f, names, colours, marks, 2);
    snprintf(name, sizeof name, "roof_share_%.30s", chart);
    pb_figure_caption(f, name, "",
                      "The least time that the roof which binds allows, over the median time from "
                      "cold caches. The line is at 80 %%. Small kernels cannot reach their roof: "
                      "starting threads and the first misses take most of their time.");
    snprintf(f->out.title, sizeof f->out.title, "Share of the roof: kernels of %.40s", chart);
    f->template = "roof_share";
    return PB_OK;
}

/* ---- trends ---- */

pb_status pb_build_trend(const pb_trend_line *line, int number, figure *f) {
    char name[48], label[128];
    double low = INFINITY, high = 0;
    f->made = line->n > 0;
    for (int i = 0; i < line->n; i++) {
        pb_text_add(&f->data, "%d\t%.9g\n", i + 1, line->values[i]);
        low = fmin(low, line->values[i]);
        high = fmax(high, line->values[i]);
    }
    pb_text_add(&f->data, "\n\n");
    for (int i = 0; i < line->n_levels; i++) {
        const pb_trend_level *l = &line->levels[i];
        pb_text_add(&f->data, "%g\t%.9g\n%g\t%.9g\n\n", l->from + 0.6, l->value, l->to + 0.4,
                    l->value);
    }
    pb_text_add(&f->vars, "NCHANGES = %d\n", line->n_levels - 1);
    if (line->n_levels > 1) {
        pb_gp_array(&f->vars, "CHANGE", line->n_levels - 1);
        pb_text_add(&f->vars, "array CHANGEAT[%d]\n", line->n_levels - 1);
    }
    for (int i = 1; i < line->n_levels; i++) {
        const pb_trend_level *l = &line->levels[i];
        char text[160];
        pb_short_label(label, line->labels[l->from], 9);
        snprintf(text, sizeof text, "%+.1f %% %s",
                 100 * (l->value / line->levels[i - 1].value - 1), label);
        pb_gp_item(&f->vars, "CHANGE", i - 1, text);
        pb_text_add(&f->vars, "CHANGEAT[%d] = %g\n", i, l->from + 0.5);
    }
    double room = fmax(high - low, 0.02 * high);
    pb_text_add(&f->vars, "POINTSN = %d\nYLOW = %.9g\nYHIGH = %.9g\n", line->n, low - 0.15 * room,
                high + 0.25 * room);
    f->width = 760;
    pb_figure_legend(f, NULL, NULL, NULL, 0);
    snprintf(name, sizeof name, "trend_%d", number);
    pb_figure_caption(f, name, "",
                      "Median time per revision, oldest on the left. Lines: the level between "
                      "changes that an energy statistic finds with p below 0.001.");
    pb_short_label(label, line->name, 60);
    pb_copy(f->out.title, sizeof f->out.title, label);
    f->template = "trend";
    return PB_OK;
}
