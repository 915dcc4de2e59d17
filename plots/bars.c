/* What the figures show, second part: stacked bars and the rank map. Rectangles are computed here,
 * gnuplot paints them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/figure.h"

/* ---- stacked bars ---- */

typedef struct stack_part {
    const char *tag, *title;
    unsigned colour;
} stack_part;

#define BAR_PIXELS 46 /* height of a row of the figure */

/* Labels on the left, one band of height 1 per row, the first on top. */
static void add_bands(figure *f, const pb_chapter *c, const int *rows, int n,
                      const stack_part *parts, int n_parts, const bool *used) {
    int widest = 6, shown = 0, points[16];
    const char *names[16];
    unsigned colours[16];
    pb_text_add(&f->vars, "N = %d\n", n);
    pb_gp_array(&f->vars, "LABEL", n);
    for (int i = 0; i < n; i++) {
        char label[128];
        pb_short_label(label, c->rows[rows[i]].label, 18);
        if (pb_text_width(label) > widest) widest = pb_text_width(label);
        pb_gp_item(&f->vars, "LABEL", i, label);
    }
    PB_ASSERT(n_parts <= 16);
    for (int i = 0; i < n_parts; i++) {
        if (!used[i]) continue;
        names[shown] = parts[i].title;
        colours[shown] = parts[i].colour;
        points[shown++] = 5;
    }
    f->height = 140 + BAR_PIXELS * n;
    pb_figure_legend(f, names, colours, points, shown);
    pb_text_add(&f->vars, "NPARTS = %d\nWIDEST = %d\n", shown, widest);
}

static void add_rectangle(pb_text *t, double from, double to, double middle, double half) {
    pb_text_add(t, "%.9g\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\n", (from + to) / 2, middle, from, to,
                middle - half, middle + half);
}

/* One block per part with one rectangle per row; an empty block gets a rectangle without area. */
static void add_part(figure *f, const double *values, int n, int stride, double *offset,
                     double shift, double half) {
    int drawn = 0;
    for (int i = 0; i < n; i++) {
        double v = values[i * stride];
        if (!(v > 0)) continue;
        add_rectangle(&f->data, offset[i], offset[i] + v, i + 1 + shift, half);
        offset[i] += v;
        drawn++;
    }
    if (!drawn) add_rectangle(&f->data, 0, 0, 1, 0);
    pb_text_add(&f->data, "\n\n");
}

/* ---- memory by purpose ---- */

static const stack_part purposes[] = {{"base", "base weights", 0x9AA5B1},
                                      {"quant_constants", "4-bit constants", 0x5D6B7A},
                                      {"adapter", "adapter and head", 0x0072B2},
                                      {"master", "f32 copies", 0x56B4E9},
                                      {"gradient", "gradients", 0x009E73},
                                      {"optimizer", "optimizer state", 0xE69F00},
                                      {"activation", "activations", 0xD55E00},
                                      {"workspace", "workspace", 0xCC79A7},
                                      {"data", "data", 0xD9C52B}};
#define N_PURPOSES (int)(sizeof purposes / sizeof purposes[0])

pb_status pb_build_memory_by_purpose(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    int n = 0;
    bool used[N_PURPOSES] = {false}, predicted = false;
    double widest = 0;
    (void)which;
    size_t rows_cap = (size_t)c->n_rows + 1;
    int *rows = calloc(rows_cap, sizeof *rows);
    double *v = calloc(rows_cap * (2 * N_PURPOSES + 2), sizeof *v),
           *offset = v + rows_cap * 2 * N_PURPOSES;
    if (!rows || !v) PB_FAIL(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < c->n_rows; i++) {
        double sum[2] = {0, 0};
        for (int p = 0; p < N_PURPOSES; p++)
            for (int k = 0; k < 2; k++) {
                pb_stat s = pb_row_memory(&c->rows[i], purposes[p].tag, k == 1);
                double mb = s.n ? s.mean / 1048576 : 0;
                v[(n * N_PURPOSES + p) * 2 + k] = mb;
                sum[k] += mb;
            }
        if (!(sum[0] > 0)) continue; /* refused before it ran: in the table, not here */
        for (int p = 0; p < N_PURPOSES; p++)
            used[p] = used[p] || v[(n * N_PURPOSES + p) * 2] > 0.001 * sum[0];
        predicted = predicted || sum[1] > 0;
        widest = fmax(widest, fmax(sum[0], sum[1]));
        rows[n++] = i;
    }
    f->made = n > 0;
    for (int k = 0; k < 2 && n; k++) {
        double shift = predicted ? (k ? 0.2 : -0.19) : 0, half = predicted ? (k ? 0.11 : 0.2) : 0.3;
        memset(offset, 0, (size_t)n * sizeof *offset);
        for (int p = 0; p < N_PURPOSES; p++)
            if (used[p]) add_part(f, v + p * 2 + k, n, N_PURPOSES * 2, offset, shift, half);
    }
    for (int i = 0; i < n; i++) { /* the total stands behind the measured bar */
        pb_stat total = pb_row_stat(&c->rows[rows[i]], "memory/peak/total");
        double end = 0, mb = total.mean / 1048576;
        for (int p = 0; p < N_PURPOSES; p++) end += v[(i * N_PURPOSES + p) * 2];
        if (total.n)
            pb_text_add(&f->data, "%.9g\t%.9g\t%.*f\n", end, i + 1 - (predicted ? 0.19 : 0),
                        mb < 10, mb);
    }
    add_bands(f, c, rows, n, purposes, N_PURPOSES, used);
    pb_text_add(&f->vars, "PREDICTED = %d\nXHIGH = %.9g\n", predicted, widest * 1.16);
    pb_figure_caption(f, "memory_by_purpose", "Memory by purpose, measured and predicted",
                      "Broad bars: measured peak of each purpose; narrow faint bars: predicted "
                      "before the run. The number is "
                      "the peak of all together, in MiB: purposes peak at different moments, so it "
                      "can be below the bar.");
    f->template = "memory_by_purpose";
done:
    free(rows);
    free(v);
    return status;
}

/* ---- time by phase ---- */

static const stack_part phases[] = {{"time/forward/median", "forward", 0x56B4E9},
                                    {"time/backward/median", "backward", 0xE69F00},
                                    {"time/optimizer/median", "optimizer", 0x009E73}};
#define N_PHASES (int)(sizeof phases / sizeof phases[0])

pb_status pb_build_time_by_phase(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    int n = 0;
    bool used[N_PHASES] = {false};
    double widest = 0;
    (void)which;
    size_t cap = (size_t)c->n_rows + 1;
    int *rows = calloc(cap, sizeof *rows);
    double *v = calloc(cap * (N_PHASES + 2), sizeof *v), *offset = v + cap * N_PHASES,
           *whole = offset + cap;
    if (!rows || !v) PB_FAIL(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < c->n_rows; i++) {
        double sum = 0;
        for (int p = 0; p < N_PHASES; p++) {
            pb_stat s = pb_row_stat(&c->rows[i], phases[p].tag);
            v[n * N_PHASES + p] = s.n ? s.mean * 1e3 : 0;
            used[p] = used[p] || s.n;
            sum += v[n * N_PHASES + p];
        }
        pb_stat step = pb_row_stat(&c->rows[i], "time/step/median");
        if (!(sum > 0)) continue;
        whole[n] = step.n ? step.mean * 1e3 : sum;
        widest = fmax(widest, fmax(sum, whole[n]));
        rows[n++] = i;
    }
    f->made = n > 0;
    for (int p = 0; p < N_PHASES && n; p++)
        if (used[p]) add_part(f, v + p, n, N_PHASES, offset, 0, 0.32);
    for (int i = 0; i < n; i++)
        pb_text_add(&f->data, "%.9g\t%d\t%.*f\n", fmax(offset[i], whole[i]), i + 1,
                    whole[i] < 10 ? 2 : whole[i] < 100, whole[i]);
    add_bands(f, c, rows, n, phases, N_PHASES, used);
    pb_text_add(&f->vars, "XHIGH = %.9g\n", widest * 1.16);
    pb_figure_caption(f, "time_by_phase", "Time of a training step by phase",
                      "Median of each phase, mean over the seeds. The number is the median of the "
                      "whole step in ms; it can "
                      "differ from the sum of the phases' medians.");
    f->template = "time_by_phase";
done:
    free(rows);
    free(v);
    return status;
}

/* ---- rank map ---- */

#define MAX_SITES 32
#define MAX_LAYERS 256

typedef struct rank_map {
    char sites[MAX_SITES][64]; /* a site's name without its layer: "attn.q" */
    int n_sites, n_layers;
    double sum[MAX_LAYERS][MAX_SITES];
    int count[MAX_LAYERS][MAX_SITES];
} rank_map;

/* "layers.3.attn.q" gives 3 and "attn.q". */
static bool split_site(const char *name, int *layer, const char **site) {
    for (const char *p = name; (p = strchr(p, '.')); p++) {
        size_t digits = strspn(p + 1, "0123456789");
        int64_t number;
        char copy[8];
        if (!digits || digits > 6 || p[1 + digits] != '.') continue;
        memcpy(copy, p + 1, digits);
        copy[digits] = 0;
        if (!pb_parse_i64(copy, &number) || number >= MAX_LAYERS) return false;
        *layer = (int)number;
        *site = p + digits + 2;
        return true;
    }
    return false;
}

static void add_ranks(rank_map *m, const pb_json *ranks) {
    for (const pb_json *e = ranks->child; e; e = e->next) {
        int layer = 0, i = 0;
        const char *site = NULL;
        if (!cJSON_IsNumber(e) || !split_site(e->string, &layer, &site) ||
            strlen(site) >= sizeof m->sites[0])
            continue;
        while (i < m->n_sites && strcmp(m->sites[i], site) != 0) i++;
        if (i == MAX_SITES) continue;
        if (i == m->n_sites) pb_copy(m->sites[m->n_sites++], sizeof m->sites[0], site);
        if (layer >= m->n_layers) m->n_layers = layer + 1;
        m->sum[layer][i] += e->valuedouble;
        m->count[layer][i]++;
    }
}

/* The `which`-th row with ranks, NULL when there are fewer. */
static const pb_row *ranked_row(const pb_chapter *c, int which) {
    for (int i = 0; i < c->n_rows; i++)
        if (cJSON_IsObject(pb_json_get(pb_row_example(&c->rows[i])->report, "ranks")) &&
            which-- == 0)
            return &c->rows[i];
    return NULL;
}

static void add_cells(figure *f, const rank_map *m) {
    double high = 0;
    for (int l = 0; l < m->n_layers; l++)
        for (int i = 0; i < m->n_sites; i++)
            if (m->count[l][i]) high = fmax(high, m->sum[l][i] / m->count[l][i]);
    for (int l = 0; l < m->n_layers; l++)
        for (int i = 0; i < m->n_sites; i++) {
            if (!m->count[l][i]) continue;
            double v = m->sum[l][i] / m->count[l][i];
            pb_text_add(&f->data, "%d\t%d\t%.6g\t%.*f\t%d\n", i + 1, l, v,
                        fabs(v - round(v)) > 0.05, v, v > 0.55 * high ? 0xFFFFFF : 0x101820);
        }
    pb_text_add(&f->vars, "NSITES = %d\nNLAYERS = %d\nHIGH = %.9g\n", m->n_sites, m->n_layers,
                fmax(high, 1));
    pb_gp_array(&f->vars, "SITE", m->n_sites);
    int widest = 1;
    for (int i = 0; i < m->n_sites; i++) {
        char label[128];
        pb_short_label(label, m->sites[i], 12);
        if (pb_text_width(label) > widest) widest = pb_text_width(label);
        pb_gp_item(&f->vars, "SITE", i, label);
    }
    pb_text_add(&f->vars, "NUMBERS = %d\nWIDEST = %d\n", m->n_sites <= 10, widest);
    f->height = 140 + m->n_layers * (m->n_layers > 16 ? 24 : 40);
    pb_figure_legend(f, NULL, NULL, NULL, 0);
}

pb_status pb_build_rank_map(const pb_chapter *c, int which, figure *f) {
    pb_status status = PB_OK;
    char name[48], title[96], label[128];
    int runs = 0;
    const pb_row *row = ranked_row(c, which);
    rank_map *m = NULL;
    if (!row) return PB_OK;
    if (!(m = calloc(1, sizeof *m))) PB_FAIL(PB_E_OOM, "no memory for a figure");
    for (int i = 0; i < row->n_runs; i++) {
        const pb_json *ranks = pb_json_get(row->runs[i]->report, "ranks");
        if (row->runs[i]->status != PB_RUN_OK || !cJSON_IsObject(ranks)) continue;
        add_ranks(m, ranks);
        runs++;
    }
    f->made = m->n_layers > 0;
    if (!f->made) goto done;
    add_cells(f, m);
    snprintf(name, sizeof name, which ? "adalora_rank_map_%d" : "adalora_rank_map", which + 1);
    pb_short_label(label, row->label, 24);
    snprintf(title, sizeof title, "Ranks kept: %.80s", label);
    pb_figure_caption(f, name, title,
                      "Rank that each weight matrix kept at the end of training (mean over %d "
                      "run%s): layers from the bottom "
                      "up, darker is more.",
                      runs, runs == 1 ? "" : "s");
    f->template = "adalora_rank_map";
done:
    free(m);
    return status;
}
