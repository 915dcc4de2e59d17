/* Builders of the kernels' figures: plots/kernels.h. */
#include "plots/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/figure.h"

#define BAR_PIXELS 24
#define NAME 60 /* characters of a kernel's name: shape and dtype at its end tell them apart */

unsigned pb_bound_colour(pb_kernel_bound bound) {
    static const unsigned colours[PB_BOUNDS] = {0x009E73, 0x0072B2, 0xD55E00};
    return colours[bound];
}

const char *pb_bound_name(pb_kernel_bound bound) {
    static const char *const names[PB_BOUNDS] = {"the copy binds", "the product binds",
                                                 "the vector units bind"};
    return names[bound];
}

const char *pb_caches_name(const pb_kernel_roofs *roofs) {
    return roofs->hot ? "hot caches" : "cold caches";
}

static bool belongs(const pb_kernel_point *p, const char *chart) {
    size_t n = strlen(chart);
    return strncmp(p->name, chart, n) == 0 && p->name[n] == '/' && isfinite(p->share) &&
           p->share > 0 && p->seconds > 0 && p->bytes > 0;
}

/* Farthest below the roof first. */
static int lower(const void *a, const void *b) {
    const pb_kernel_point *x = *(const pb_kernel_point *const *)a;
    const pb_kernel_point *y = *(const pb_kernel_point *const *)b;
    if (x->share != y->share) return x->share > y->share ? 1 : -1;
    return strcmp(x->name, y->name);
}

pb_status pb_kernel_points_of(const pb_kernel_point *points, int n, const char *chart,
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

/* ---- share of the roof ---- */

pb_status pb_build_roof_share(const pb_kernel_point *points, int n, const char *chart,
                              const pb_kernel_roofs *roofs, figure *f) {
    static const int marks[PB_BOUNDS] = {5, 5, 5};
    const char *names[PB_BOUNDS];
    unsigned colours[PB_BOUNDS];
    const pb_kernel_point **list = NULL;
    pb_text blocks[PB_BOUNDS] = {{0}}, numbers = {0};
    char label[128], name[48];
    double widest = 100;
    int longest = 6;
    PB_RETURN(pb_kernel_points_of(points, n, chart, lower, &list, &n));
    f->made = n > 0;
    pb_text_add(&f->vars, "N = %d\n", n);
    pb_gp_array(&f->vars, "LABEL", n);
    for (int i = 0; i < n; i++) {
        double share = 100 * list[i]->share;
        pb_short_label(label, list[i]->name + strlen(chart) + 1, NAME);
        if (pb_text_width(label) > longest) longest = pb_text_width(label);
        pb_gp_item(&f->vars, "LABEL", i, label);
        pb_text_add(&blocks[list[i]->bound], "%.6g\t%d\t0\t%.6g\t%.2f\t%.2f\n", share / 2, i + 1,
                    share, i + 0.66, i + 1.34);
        pb_text_add(&numbers, "%d\t%.0f %%\n", i + 1, share);
        widest = fmax(widest, share);
    }
    for (int b = 0; b < PB_BOUNDS; b++) {
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
    for (int b = 0; b < PB_BOUNDS; b++) {
        names[b] = pb_bound_name((pb_kernel_bound)b);
        colours[b] = pb_bound_colour((pb_kernel_bound)b);
    }
    pb_figure_legend(f, names, colours, marks, PB_BOUNDS);
    snprintf(name, sizeof name, "roof_share_%.30s", chart);
    pb_figure_caption(f, name, "",
                      "The least time that the roof which binds allows, over the median time from "
                      "%s. The line is at 80 %%. Small kernels cannot reach their roof: "
                      "starting threads and the first misses take most of their time.",
                      pb_caches_name(roofs));
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
