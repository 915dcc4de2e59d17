/* Where the time of a step goes, from the records' profiles: the parts of every row, the way from LoRA's step to another
 * row's, and the roofline. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/figure.h"
#include "results/profile_table.h"

#define BAR_PIXELS 34

/* ---- what belongs together ---- */

typedef struct part_group {
    const char *title;
    unsigned colour;
    const char *parts; /* names between commas */
} part_group;

static const part_group groups[] = {
    {"base products", 0x9AA5B1, ",base_product,"},
    {"low-rank branch", 0x0072B2, ",low_rank,"},
    {"bottleneck", 0x56B4E9, ",bottleneck,"},
    {"weight norm, magnitude", 0xD55E00,
     ",weight_norm,magnitude,dropped_product,exact_norm_gradient,"},
    {"scores, orthogonality", 0xCC79A7, ",orthogonality,importance,rank_budget,"},
    {"weight gradients", 0x009E73, ",weight_gradients,"},
    {"attention", 0xE69F00, ",attention,"},
    {"norms, activations", 0xD9C52B, ",norm,activation,dropout,"},
    {"embedding, head, loss", 0x5D6B7A, ",embedding,head,loss,"},
    {"optimizer", 0x8C6BB1, ",optimizer,gradient_norm,zero_gradients,"},
    {"others", 0xB8A38C, ",other,"},
    {"between operations", 0xE0E3E6, ""},
};
#define N_GROUPS (int)(sizeof groups / sizeof groups[0])

static int group_of(const char *part) {
    char name[112];
    snprintf(name, sizeof name, ",%s,", part);
    for (int g = 0; g < N_GROUPS; g++)
        if (strstr(groups[g].parts, name)) return g;
    return N_GROUPS - 2;
}

static void add_rectangle(pb_text *t, double from, double to, double middle) {
    pb_text_add(t, "%.9g\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\n", (from + to) / 2, middle, from, to,
                middle - 0.32, middle + 0.32);
}

static void add_labels(figure *f, char (*labels)[128], int n) {
    int widest = 6;
    pb_text_add(&f->vars, "N = %d\n", n);
    pb_gp_array(&f->vars, "LABEL", n);
    for (int i = 0; i < n; i++) {
        if (pb_text_width(labels[i]) > widest) widest = pb_text_width(labels[i]);
        pb_gp_item(&f->vars, "LABEL", i, labels[i]);
    }
    pb_text_add(&f->vars, "WIDEST = %d\n", widest);
    f->height = 140 + BAR_PIXELS * n;
}

static void add_legend(figure *f, const bool *used) {
    const char *names[N_GROUPS];
    unsigned colours[N_GROUPS];
    int points[N_GROUPS], n = 0;
    for (int g = 0; g < N_GROUPS; g++) {
        if (!used[g]) continue;
        names[n] = groups[g].title;
        colours[n] = groups[g].colour;
        points[n++] = 5;
    }
    pb_figure_legend(f, names, colours, points, n);
    pb_text_add(&f->vars, "NPARTS = %d\n", n);
}

/* ---- time by part ---- */

pb_status pb_build_time_by_part(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    pb_profile_mean mean = {0};
    bool used[N_GROUPS] = {false};
    int n = 0;
    double widest = 0;
    (void)which;
    char(*labels)[128] = calloc((size_t)c->n_rows + 1, sizeof *labels);
    double(*v)[N_GROUPS] = calloc((size_t)c->n_rows + 1, sizeof *v);
    if (!labels || !v) PB_FAIL(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < c->n_rows; i++) {
        double inside = 0;
        pb_profile_mean_free(&mean);
        PB_TRY(pb_profile_row_sums(&c->rows[i], PB_GROUP_PART, &mean));
        if (!mean.n) continue;
        for (int k = 0; k < mean.n; k++) {
            v[n][group_of(mean.sums[k].name)] += mean.sums[k].seconds * 1e3;
            inside += mean.sums[k].seconds;
        }
        v[n][N_GROUPS - 1] = fmax(mean.step_s - inside, 0) * 1e3;
        widest = fmax(widest, fmax(mean.step_s, inside) * 1e3);
        for (int g = 0; g < N_GROUPS; g++)
            used[g] = used[g] || v[n][g] > 0.002 * mean.step_s * 1e3;
        pb_short_label(labels[n++], c->rows[i].label, 18);
    }
    f->made = n > 0;
    if (!f->made) goto done;
    for (int g = 0; g < N_GROUPS; g++) {
        if (!used[g]) continue;
        for (int i = 0; i < n; i++) {
            double from = 0;
            for (int k = 0; k < g; k++) from += used[k] ? v[i][k] : 0;
            add_rectangle(&f->data, from, from + v[i][g], i + 1);
        }
        pb_text_add(&f->data, "\n\n");
    }
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int g = 0; g < N_GROUPS; g++) sum += used[g] ? v[i][g] : 0;
        pb_text_add(&f->data, "%.9g\t%d\t%.*f\n", sum, i + 1, sum < 10 ? 2 : sum < 100, sum);
    }
    add_labels(f, labels, n);
    add_legend(f, used);
    pb_text_add(&f->vars, "XHIGH = %.9g\nXNAME = 'Time of a traced step (ms)'\n", widest * 1.16);
    pb_figure_caption(f, "time_by_part", "Time of a training step by part",
                      "What the method and the model do in a step, from a few traced steps after "
                      "the timed ones, mean over the seeds. The number is the whole step in ms.");
    f->template = "time_by_part";
done:
    pb_profile_mean_free(&mean);
    free(labels);
    free(v);
    return status;
}

/* ---- from LoRA's step to another row's ---- */

static bool has_profile(const pb_row *row) {
    for (int i = 0; i < row->n_runs; i++)
        if (row->runs[i]->status == PB_RUN_OK && row->runs[i]->profile) return true;
    return false;
}

/* The first lora row with a profile; -1 when there is none. */
static int lora_row(const pb_chapter *c) {
    for (int i = 0; i < c->n_rows; i++)
        if (strcmp(c->rows[i].method, "lora") == 0 && has_profile(&c->rows[i])) return i;
    return -1;
}

typedef struct change {
    const char *name;
    double ms;
} change;

static int largest_first(const void *a, const void *b) {
    const change *x = a, *y = b;
    double p = fabs(x->ms), q = fabs(y->ms);
    if (p != q) return p < q ? 1 : -1;
    return strcmp(x->name, y->name);
}

/* One change per part that either of the two has; what is between operations is one too. malloc'ed. */
static pb_status changes_of(const pb_profile_mean *a, const pb_profile_mean *b, change **out,
                            int *n_out) {
    int n = 0;
    double rest = (b->step_s - a->step_s) * 1e3;
    change *list = calloc((size_t)(a->n + b->n + 1), sizeof *list);
    if (!list) return PB_ERROR(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < b->n; i++) {
        double ms = (b->sums[i].seconds - pb_profile_mean_of(a, b->sums[i].name)) * 1e3;
        list[n++] = (change){b->sums[i].name, ms};
        rest -= ms;
    }
    for (int i = 0; i < a->n; i++) {
        bool there = false;
        for (int k = 0; k < b->n; k++) there = there || !strcmp(a->sums[i].name, b->sums[k].name);
        if (there) continue;
        list[n++] = (change){a->sums[i].name, -a->sums[i].seconds * 1e3};
        rest += a->sums[i].seconds * 1e3;
    }
    list[n++] = (change){"between operations", rest};
    qsort(list, (size_t)n, sizeof *list, largest_first);
    *out = list;
    *n_out = n;
    return PB_OK;
}

static void readable(char out[128], const char *name) {
    snprintf(out, 128, "%.100s", name);
    for (char *p = out; *p; p++)
        if (*p == '_') *p = ' ';
}

enum { MAX_BARS = 12, TOTALS = 0, SLOWER = 1, FASTER = 2 };

/* Bars: LoRA, every change (small ones in one), the row. */
static void add_waterfall(figure *f, const change *list, int n, double from, double to,
                          char (*labels)[128]) {
    pb_text blocks[3] = {{0}}, numbers = {0};
    double at = from, low = from, high = fmax(from, to), rest = 0;
    int bar = 1;
    add_rectangle(&blocks[TOTALS], 0, from, bar);
    pb_text_add(&numbers, "%.9g\t%d\t%.4g\n", from, bar++, from);
    for (int i = 0; i <= n; i++) {
        bool small = i < n && (bar > MAX_BARS || fabs(list[i].ms) < 0.004 * from);
        if (small) rest += list[i].ms;
        double ms = i < n ? list[i].ms : rest;
        if (small || (i == n && !(fabs(rest) > 0.001 * from))) continue;
        if (i < n) readable(labels[bar - 1], list[i].name);
        else snprintf(labels[bar - 1], 128, "smaller changes");
        add_rectangle(&blocks[ms > 0 ? SLOWER : FASTER], fmin(at, at + ms), fmax(at, at + ms), bar);
        pb_text_add(&numbers, "%.9g\t%d\t%+.3g\n", fmax(at, at + ms), bar++, ms);
        at += ms;
        low = fmin(low, at);
        high = fmax(high, at);
    }
    add_rectangle(&blocks[TOTALS], 0, to, bar);
    pb_text_add(&numbers, "%.9g\t%d\t%.4g\n", to, bar, to);
    for (int b = 0; b < 3; b++) {
        pb_text_add(&f->data, "%s", blocks[b].data ? blocks[b].data : "0\t1\t0\t0\t1\t1\n");
        pb_text_add(&f->data, "\n\n");
        f->data.failed = f->data.failed || blocks[b].failed;
        pb_text_free(&blocks[b]);
    }
    pb_text_add(&f->data, "%s", numbers.data ? numbers.data : "");
    pb_text_free(&numbers);
    double left = low > 0.4 * high ? floor(0.8 * low) : 0;
    pb_text_add(&f->vars, "XLOW = %.9g\nXHIGH = %.9g\nBARS = %d\n", left,
                high + 0.12 * (high - left), bar);
}

static int row_of_which(const pb_chapter *c, int which, int lora) {
    for (int i = 0; i < c->n_rows; i++) {
        if (i == lora || pb_is_head_only(c->rows[i].method) || !has_profile(&c->rows[i])) continue;
        if (which-- == 0) return i;
    }
    return -1;
}

pb_status pb_build_waterfall(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    pb_profile_mean a = {0}, b = {0};
    change *list = NULL;
    char labels[MAX_BARS + 4][128] = {{0}}, name[48];
    int n = 0, lora = lora_row(c), row = lora < 0 ? -1 : row_of_which(c, which, lora);
    static const char *const names[] = {"whole step", "slower", "faster"};
    static const unsigned colours[] = {0x9AA5B1, 0xD55E00, 0x009E73};
    static const int points[] = {5, 5, 5};
    if (row < 0) return PB_OK;
    PB_TRY(pb_profile_row_sums(&c->rows[lora], PB_GROUP_PART, &a));
    PB_TRY(pb_profile_row_sums(&c->rows[row], PB_GROUP_PART, &b));
    PB_TRY(changes_of(&a, &b, &list, &n));
    f->made = a.step_s > 0 && b.step_s > 0;
    if (!f->made) goto done;
    add_waterfall(f, list, n, a.step_s * 1e3, b.step_s * 1e3, labels);
    int bars = 0;
    pb_short_label(labels[0], c->rows[lora].label, 24);
    while (bars < MAX_BARS + 3 && labels[bars][0]) bars++;
    pb_short_label(labels[bars++], c->rows[row].label, 24);
    add_labels(f, labels, bars);
    pb_figure_legend(f, names, colours, points, 3);
    pb_text_add(&f->vars, "NPARTS = 3\n");
    snprintf(name, sizeof name, "waterfall_%d", which + 1);
    pb_figure_caption(f, name, "", "From the traced step of %.60s (%.4g ms) to that of %.60s (%.4g ms), part by part: %.2f times.",
                      c->rows[lora].label, a.step_s * 1e3, c->rows[row].label, b.step_s * 1e3,
                      b.step_s / a.step_s);
    snprintf(f->out.title, sizeof f->out.title, "Why %.40s takes %.2f× the step of %.24s",
             c->rows[row].label, b.step_s / a.step_s, c->rows[lora].label);
    f->template = "waterfall";
done:
    pb_profile_mean_free(&a);
    pb_profile_mean_free(&b);
    free(list);
    return status;
}

/* ---- roofline ---- */

enum { MAX_POINTS = 14 };

/* Kernels of a row against the roofs of its machine; the size of a point is its share of the step. */
pb_status pb_build_roofline(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    pb_profile_mean mean = {0};
    int row = lora_row(c), n = 0;
    (void)which;
    for (int i = 0; i < c->n_rows && row < 0; i++)
        if (has_profile(&c->rows[i])) row = i;
    if (row < 0) return PB_OK;
    double bytes = pb_row_stat(&c->rows[row], "roof/bytes_per_s").mean,
           flops = pb_row_stat(&c->rows[row], "roof/flops_per_s").mean;
    if (!(bytes > 0) || !(flops > 0)) return PB_OK;
    PB_TRY(pb_profile_row_sums(&c->rows[row], PB_GROUP_KERNEL, &mean));
    double left = INFINITY, right = flops / bytes, low = INFINITY;
    char labels[MAX_POINTS][64];
    const char *names[MAX_POINTS];
    unsigned colours[MAX_POINTS];
    int points[MAX_POINTS];
    for (int i = 0; i < mean.n && n < MAX_POINTS; i++) {
        const pb_profile_sum *s = &mean.sums[i];
        double work = s->flops + s->flops_else, share = s->seconds / mean.step_s;
        double traffic = pb_profile_traffic(s, mean.counted);
        if (!(work > 0) || !(traffic > 0) || !(s->seconds > 0) || share < 0.002) continue;
        double x = work / traffic, y = work / s->seconds / 1e9;
        snprintf(labels[n], sizeof labels[n], "%d %.*s", n + 1, (int)fmin(22, (double)strcspn(s->name, " <(")),
                 s->name);
        names[n] = labels[n];
        colours[n] = 0x0072B2;
        points[n] = 7;
        n++;
        pb_text_add(&f->data, "%.6g\t%.6g\t%.4g\t%d\n", x, y, 0.9 + 3.2 * sqrt(share), n);
        left = fmin(left, x);
        right = fmax(right, x);
        low = fmin(low, y);
    }
    f->made = n > 0;
    if (!f->made) goto done;
    pb_text_add(&f->vars,
                "XLOW = %.6g\nXHIGH = %.6g\nYLOW = %.6g\nYHIGH = %.6g\nBYTES = %.6g\nFLOPS = %.6g\n",
                left / 3, right * 8, low / 3, flops / 1e9 * 3, bytes / 1e9, flops / 1e9);
    f->height = 480;
    pb_figure_legend(f, names, colours, points, n);
    pb_figure_caption(f, "roofline", "Roofline",
                      "%.40s: work of each kernel per second against work per byte %s. "
                      "Lines: what this machine reached in a large copy (%.3g GB/s) and a large product (%.3g GFLOP/s). "
                      "Larger points take more of the step%s.",
                      c->rows[row].label,
                      mean.counted ? "by the GPU's counters (work from shapes)" : "of its least traffic", bytes / 1e9,
                      flops / 1e9, mean.counted ? "" : "; data in a cache may pass the copy's line");
    f->template = "roofline";
done:
    pb_profile_mean_free(&mean);
    return status;
}
