/* The roofline of single kernels: plots/kernels.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/figure.h"
#include "plots/kernels.h"
#include "plots/place.h"

#define NAMED 12 /* points with a number and a line in the legend */
#define NAME 60
#define ROOFS 3
/* Pixels: the area's margins (common.gp has those below and above), what a character and a point take. */
#define LEFT 96.0
#define RIGHT 132.0 /* names of the roofs */
#define BELOW 76.0
#define ABOVE 48.0
#define HEIGHT 520
#define CHARACTER 10.0
#define LINE 15.0
#define RADIUS 5.0
#define PIECES 80 /* boxes that stand for the copy's sloping roof */

typedef struct roofline {
    const pb_kernel_roofs *roofs;
    const pb_kernel_point **list; /* what loses most time first */
    double *x, *y;                /* of each: in FLOP/byte and GFLOP/s, then in pixels */
    int n;
    double left, right, low, high; /* ranges of the axes */
    double width, height;          /* of the area, pixels */
    pb_place_box lines[PIECES + ROOFS]; /* of the roofs: no number on them */
    int n_lines;
} roofline;

/* Time that the kernel takes beyond its roof. */
static double lost(const pb_kernel_point *p) { return p->seconds * fmax(0, 1 - p->share); }

static int by_loss(const void *a, const void *b) {
    const pb_kernel_point *x = *(const pb_kernel_point *const *)a;
    const pb_kernel_point *y = *(const pb_kernel_point *const *)b;
    if (lost(x) != lost(y)) return lost(x) < lost(y) ? 1 : -1;
    return strcmp(x->name, y->name);
}

static double pixel(double v, double low, double high, double pixels) {
    return log(v / low) / log(high / low) * pixels;
}

static double value(double pixel_at, double low, double high, double pixels) {
    return low * pow(high / low, pixel_at / pixels);
}

/* Of arithmetic; 0 where no such roof is known. */
static double highest(const pb_kernel_roofs *r) {
    return fmax(fmax(r->flops_per_s[0], r->flops_per_s[1]), r->ops_per_s);
}

/* Where the copy's roof ends, in GFLOP/s. */
static double top_of(const roofline *r) {
    double top = highest(r->roofs);
    return (top > 0 ? top : r->roofs->bytes_per_s * r->right) / 1e9;
}

/* Points that compute something, and the ranges that hold them and the roofs. */
static void take_points(roofline *r) {
    double top = highest(r->roofs), knee = top / r->roofs->bytes_per_s;
    int n = 0;
    r->left = top > 0 ? knee : INFINITY; /* without a roof of arithmetic the points alone */
    r->right = knee;
    r->low = INFINITY;
    r->high = top / 1e9;
    for (int i = 0; i < r->n; i++) {
        const pb_kernel_point *p = r->list[i];
        double x = p->work / p->bytes, y = p->work / p->seconds / 1e9;
        if (!(x > 0)) continue; /* moves bytes and computes nothing */
        r->list[n] = p;
        r->x[n] = x;
        r->y[n++] = y;
        r->left = fmin(r->left, x);
        r->right = fmax(r->right, x);
        r->low = fmin(r->low, y);
        r->high = fmax(r->high, y);
    }
    r->n = n;
    r->left /= 3;
    r->right *= 4;
    r->low /= 3;
    r->high *= 3;
}

static void add_points(const roofline *r, bool bf16, figure *f) {
    int n = 0;
    for (int i = 0; i < r->n; i++) {
        if (r->list[i]->bf16 != bf16) continue;
        pb_text_add(&f->data, "%.6g\t%.6g\t%u\n", r->x[i], r->y[i],
                    pb_bound_colour(r->list[i]->bound));
        n++;
    }
    pb_text_add(&f->data, "%s\n\n", n ? "" : "nan\tnan\t0\n");
}

/* What the copy allows at each intensity, as boxes along it. */
static void cover_slope(roofline *r) {
    double bytes = r->roofs->bytes_per_s / 1e9, top = top_of(r);
    for (int i = 0; i < PIECES; i++) {
        double x0 = r->width * i / PIECES, x1 = r->width * (i + 1) / PIECES;
        double from = bytes * value(x0, r->left, r->right, r->width);
        double to = bytes * value(x1, r->left, r->right, r->width);
        if (to < r->low || from > top) continue;
        r->lines[r->n_lines++] = (pb_place_box){x0, pixel(from, r->low, r->high, r->height), x1,
                                                pixel(to, r->low, r->high, r->height)};
    }
}

/* Roofs of arithmetic, the lowest first, their names beside their right ends, one above the other. */
static void add_roofs(roofline *r, figure *f) {
    struct {
        const char *name;
        double rate;
    } roofs[ROOFS] = {{"product, f32", r->roofs->flops_per_s[0] / 1e9},
                      {"product, bf16", r->roofs->flops_per_s[1] / 1e9},
                      {"vector units", r->roofs->ops_per_s / 1e9}};
    pb_text texts = {0};
    double last = -LINE;
    for (int done = 0; done < ROOFS; done++) {
        int next = -1;
        for (int i = 0; i < ROOFS; i++)
            if (roofs[i].rate > 0 && (next < 0 || roofs[i].rate < roofs[next].rate)) next = i;
        if (next < 0) break;
        double rate = roofs[next].rate, from = rate * 1e9 / r->roofs->bytes_per_s;
        double at = pixel(rate, r->low, r->high, r->height);
        last = fmax(at, last + LINE);
        pb_text_add(&f->data, "%.6g\t%.6g\t%.6g\n", from, r->right, rate);
        pb_text_add(&texts, "%.6g\t%.6g\t%s\n", r->right, value(last, r->low, r->high, r->height),
                    roofs[next].name);
        r->lines[r->n_lines++] =
            (pb_place_box){pixel(from, r->left, r->right, r->width), at, r->width, at};
        roofs[next].rate = 0;
    }
    pb_text_add(&f->data, texts.len ? "\n\n" : "nan\tnan\tnan\n\n\n");
    pb_text_add(&f->data, "%s\n\n", texts.len ? texts.data : "nan\tnan\t \n");
    f->data.failed = f->data.failed || texts.failed;
    pb_text_free(&texts);
}

/* Numbers of the first points, with a line to each that had to go far from its own. */
static void add_numbers(const roofline *r, int named, figure *f) {
    pb_placed placed[NAMED];
    double widths[NAMED];
    int which[NAMED];
    pb_text lines = {0};
    for (int i = 0; i < r->n; i++) {
        r->x[i] = pixel(r->x[i], r->left, r->right, r->width);
        r->y[i] = pixel(r->y[i], r->low, r->high, r->height);
    }
    for (int i = 0; i < named; i++) {
        which[i] = i;
        widths[i] = CHARACTER * (i + 1 < 10 ? 1 : 2);
    }
    pb_place_area area = {.width = r->width, .height = r->height, .radius = RADIUS, .x = r->x,
                          .y = r->y, .n = r->n, .taken = r->lines, .n_taken = r->n_lines};
    pb_place_labels(&area, which, widths, LINE, named, placed);
    for (int i = 0; i < named; i++) {
        pb_place_box b = placed[i].box;
        double x = value((b.left + b.right) / 2, r->left, r->right, r->width);
        double y = value((b.low + b.high) / 2, r->low, r->high, r->height);
        pb_text_add(&f->data, "%.6g\t%.6g\t%d\n", x, y, i + 1);
        if (!placed[i].far) continue;
        /* From the point to the nearest place on the box's edge. */
        double px = r->x[i], py = r->y[i];
        double ex = fmin(fmax(px, b.left), b.right), ey = fmin(fmax(py, b.low), b.high);
        double fx = value(px, r->left, r->right, r->width), fy = value(py, r->low, r->high, r->height);
        pb_text_add(&lines, "%.6g\t%.6g\t%.6g\t%.6g\n", fx, fy,
                    value(ex, r->left, r->right, r->width) - fx,
                    value(ey, r->low, r->high, r->height) - fy);
    }
    pb_text_add(&f->data, "%s\n\n%s", named ? "" : "nan\tnan\t \n",
                lines.data ? lines.data : "nan\tnan\tnan\tnan\n");
    f->data.failed = f->data.failed || lines.failed;
    pb_text_free(&lines);
}

/* The numbered ones by name. */
static int add_legend(const roofline *r, size_t skip, figure *f) {
    char labels[NAMED][128], text[128];
    const char *names[NAMED];
    unsigned colours[NAMED];
    int marks[NAMED], n = 0;
    for (; n < r->n && n < NAMED && lost(r->list[n]) > 0; n++) {
        const pb_kernel_point *p = r->list[n];
        pb_short_label(text, p->name + skip, NAME);
        snprintf(labels[n], sizeof labels[n], "%d %.100s", n + 1, text);
        names[n] = labels[n];
        colours[n] = pb_bound_colour(p->bound);
        marks[n] = p->bf16 ? 5 : 7;
    }
    pb_figure_legend(f, names, colours, marks, n);
    return n;
}

pb_status pb_build_kernel_roofline(const pb_kernel_point *points, int n, const char *chart,
                                   const pb_kernel_roofs *roofs, figure *f) {
    pb_status status = PB_OK;
    char name[48];
    roofline r = {.roofs = roofs};
    PB_TRY(pb_kernel_points_of(points, n, chart, by_loss, &r.list, &r.n));
    r.x = calloc((size_t)r.n + 1, sizeof *r.x);
    r.y = calloc((size_t)r.n + 1, sizeof *r.y);
    if (!r.x || !r.y) PB_FAIL(PB_E_OOM, "no memory for a figure of %d kernels", r.n);
    take_points(&r);
    f->made = r.n > 0;
    if (!f->made) goto done;
    r.width = f->width - LEFT - RIGHT;
    r.height = HEIGHT - BELOW - ABOVE;
    f->height = HEIGHT;
    pb_text_add(&f->vars,
                "XLOW = %.6g\nXHIGH = %.6g\nYLOW = %.6g\nYHIGH = %.6g\nBYTES = %.6g\nFLOPS = %.6g\n"
                "LEFT = %g\nRIGHT = %g\n",
                r.left, r.right, r.low, r.high, roofs->bytes_per_s / 1e9, top_of(&r), LEFT, RIGHT);
    for (int bf16 = 0; bf16 < 2; bf16++) add_points(&r, bf16, f);
    cover_slope(&r);
    add_roofs(&r, f);
    add_numbers(&r, add_legend(&r, strlen(chart) + 1, f), f);
    snprintf(name, sizeof name, "roofline_%.30s", chart);
    pb_figure_caption(f, name, "",
                      "Work of each kernel per second against its work per byte of least traffic, "
                      "from %s. Lines: a copy (%.3g GB/s), the library's products and the "
                      "vector units. Green: the copy binds; blue: the product; orange: the vector "
                      "units. Discs: f32; squares: bf16. Numbers: those that take most time beyond "
                      "their roof.",
                      pb_caches_name(roofs), roofs->bytes_per_s / 1e9);
    snprintf(f->out.title, sizeof f->out.title, "Kernels of %.40s under the roofs", chart);
    f->template = "kernel_roofline";
done:
    free(r.list);
    free(r.x);
    free(r.y);
    return status;
}
