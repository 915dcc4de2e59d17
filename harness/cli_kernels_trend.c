/* peftbench kernels trend, plot, show: what saved runs and histories say, in words and figures. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "harness/cli_kernels.h"
#include "harness/cli_table.h"
#include "harness/kernel_history.h"
#include "plots/kernels.h"

#define MOST_BYTES ((size_t)256 << 20)
#define MOST_TREND_PLOTS 24

/* ---- figures of a run ---- */

pb_status pb_kernels_draw(const pb_saved_run *run, const char *dir) {
    pb_status status = PB_OK;
    pb_figure figures[2 * PB_KERNEL_CHARTS];
    const pb_kernel_roofs roofs = {.bytes_per_s = run->bytes_per_s,
                                   .flops_per_s = {run->flops_per_s[0], run->flops_per_s[1]},
                                   .ops_per_s = run->ops_per_s,
                                   .hot = strcmp(pb_json_text(run->environment, "cache"), "hot") == 0};
    static const pb_kernel_bound bounds[] = {[PB_ROOF_COPY] = PB_BOUND_COPY,
                                             [PB_ROOF_PRODUCT] = PB_BOUND_PRODUCT,
                                             [PB_ROOF_VECTOR] = PB_BOUND_VECTOR};
    int n = 0;
    pb_kernel_point *points = calloc((size_t)run->n + 1, sizeof *points);
    if (!points) PB_FAIL(PB_E_OOM, "no memory for figures");
    for (int i = 0; i < run->n; i++) {
        const pb_saved_kernel *k = &run->kernels[i];
        points[i] = (pb_kernel_point){.name = k->name,
                                      .work = k->flops + k->flops_else,
                                      .bytes = k->bytes,
                                      .seconds = k->time.median,
                                      .share = k->wrong ? NAN : k->share,
                                      .bound = bounds[k->roof],
                                      .bf16 = strcmp(k->dtype, "bf16") == 0};
    }
    if (!(run->bytes_per_s > 0))
        PB_FAIL(PB_E_INPUT, "the run has no roofs to draw: measure it without --unchecked");
    PB_TRY(pb_plots_draw_kernels(points, run->n, &roofs, dir, figures, &n));
    for (int i = 0; i < n; i++) fprintf(stderr, "%s/%s\n", dir, figures[i].svg);
done:
    free(points);
    return status;
}

static pb_status load(const char *path, pb_json **tree, pb_saved_run *run) {
    PB_RETURN(pb_json_load(path, MOST_BYTES, tree));
    return pb_saved_run_read(*tree, path, run);
}

pb_status pb_kernels_plot(const char *path, const char *dir) {
    pb_status status = PB_OK;
    pb_json *tree = NULL;
    pb_saved_run run = {.n = 0};
    PB_TRY(load(path, &tree, &run));
    PB_TRY(pb_kernels_draw(&run, dir));
done:
    pb_saved_run_free(&run);
    pb_json_free(tree);
    return status;
}

pb_status pb_kernels_show(const pb_kernels_request *q, const char *path) {
    pb_status status = PB_OK;
    pb_json *tree = NULL;
    pb_saved_run run = {.n = 0};
    PB_TRY(load(path, &tree, &run));
    PB_TRY(pb_kernels_print(q, &run));
    PB_TRY(pb_kernels_print_saved(&run));
done:
    pb_saved_run_free(&run);
    pb_json_free(tree);
    return status;
}

/* ---- trends ---- */

#define REVISION 48 /* characters, as in pb_history */

/* Its first characters; the "+" of changes that were not committed stays. */
static const char *shorten(const char *revision, int chars, char out[REVISION]) {
    size_t n = strlen(revision);
    bool cut_dirty = n > (size_t)chars && revision[n - 1] == '+';
    snprintf(out, REVISION, "%.*s%s", chars, revision, cut_dirty ? "+" : "");
    return out;
}

static const char *revision_of(const pb_history *h, const pb_history_series *s, int i) {
    return h->revisions[s->point[i]];
}

/* Changes that all series together would show if none of them had any: no shuffle of a series of
 * enough points reaches Q with the probability of one rank among them all. */
static double by_chance(const pb_history *h) {
    int n = 0;
    for (int i = 0; i < h->n; i++) n += h->series[i].n >= 2 * PB_CHANGE_SEGMENT;
    return (double)n / (PB_CHANGE_SHUFFLES + 1);
}

static pb_status trend_json(const pb_history *h) {
    pb_json *root = cJSON_CreateObject();
    bool ok = pb_json_add_str(root, "schema", "peftbench-kernels-trend-2") &&
              pb_json_add_i64(root, "points", h->n_points) &&
              pb_json_add_i64(root, "other_machines", h->others) &&
              pb_json_add_f64(root, "expected_by_chance", by_chance(h));
    pb_json *list = pb_json_add_array(root, "series");
    for (int i = 0; i < h->n; i++) {
        const pb_history_series *s = &h->series[i];
        pb_json *o = pb_json_add_object(list, NULL);
        ok = ok && pb_json_add_str(o, "name", s->name) && pb_json_add_i64(o, "points", s->n);
        pb_json *changes = pb_json_add_array(o, "changes");
        for (int c = 0; c < s->n_changes; c++) {
            const pb_change *x = &s->changes[c];
            pb_json *e = pb_json_add_object(changes, NULL);
            pb_text lines = {0};
            ok = ok && pb_history_differences(h, s, c, &lines) == PB_OK &&
                 pb_json_add_str(e, "differences", lines.data ? lines.data : "");
            pb_text_free(&lines);
            ok = ok && pb_json_add_str(e, "revision", revision_of(h, s, x->at)) &&
                 pb_json_add_str(e, "after", revision_of(h, s, x->at - 1)) &&
                 pb_json_add_f64(e, "ratio", x->after / x->before) && pb_json_add_f64(e, "p", x->p);
        }
    }
    if (ok) return pb_cli_print_json(root);
    pb_json_free(root);
    return pb_cli_built(false);
}

/* What else is new at the revision where a series changed. */
static pb_status print_differences(const pb_history *h, const pb_history_series *s, int change) {
    pb_text lines = {0};
    char at[REVISION];
    pb_status status = pb_history_differences(h, s, change, &lines);
    shorten(revision_of(h, s, s->changes[change].at), 12, at);
    for (const char *p = lines.data; status == PB_OK && p && *p; p += strcspn(p, "\n") + 1)
        printf("%s at %s, differs too: %.*s\n", s->name, at, (int)strcspn(p, "\n"), p);
    pb_text_free(&lines);
    return status;
}

static pb_status trend_text(const pb_history *h) {
    static const char *const head[] = {"CASE", "CHANGE", "REVISION", "AFTER", "P", NULL};
    pb_table table = {0};
    char revision[REVISION];
    int n = 0;
    pb_table_start(&table, head, 1);
    for (int i = 0; i < h->n; i++) {
        const pb_history_series *s = &h->series[i];
        for (int c = 0; c < s->n_changes; c++, n++) {
            const pb_change *x = &s->changes[c];
            pb_table_row(&table);
            pb_table_cell(&table, 0, "%s", s->name);
            pb_table_cell(&table, 1, "%+.1f %%", 100 * (x->after / x->before - 1));
            for (int k = 0; k < 2; k++)
                pb_table_cell(&table, 2 + k, "%s", shorten(revision_of(h, s, x->at - k), 12, revision));
            pb_table_cell(&table, 4, "%.4f", x->p);
        }
    }
    PB_RETURN(pb_table_end(&table, stdout));
    for (int i = 0; i < h->n; i++)
        for (int c = 0; c < h->series[i].n_changes; c++)
            PB_RETURN(print_differences(h, &h->series[i], c));
    printf("%d series over %d points: %d changes with p below %g; %.2g expected if nothing had "
           "changed\n",
           h->n, h->n_points, n, PB_CHANGE_P, by_chance(h));
    if (h->others > 0)
        printf("%d lines of other machines, devices, caches, threads or numbers of processes left out\n",
               h->others);
    if (h->n_points < 2 * PB_CHANGE_SEGMENT)
        printf("fewer than %d points show no change\n", 2 * PB_CHANGE_SEGMENT);
    return PB_OK;
}

static pb_status draw_series(const pb_history *h, const pb_history_series *s, int number,
                             const char *dir) {
    double us[PB_CHANGE_MOST];
    char names[PB_CHANGE_MOST][REVISION];
    const char *labels[PB_CHANGE_MOST];
    pb_trend_level levels[PB_CHANGE_MOST / PB_CHANGE_SEGMENT + 1] = {{0}};
    pb_figure figure;
    for (int i = 0; i < s->n; i++) {
        us[i] = s->seconds[i] * 1e6;
        labels[i] = shorten(revision_of(h, s, i), 8, names[i]);
    }
    for (int i = 0; i <= s->n_changes; i++)
        levels[i] = (pb_trend_level){
            .from = i > 0 ? s->changes[i - 1].at : 0,
            .to = i < s->n_changes ? s->changes[i].at : s->n,
            .value = 1e6 * (i < s->n_changes ? s->changes[i].before : s->changes[i - 1].after)};
    pb_trend_line line = {.name = s->name,
                          .values = us,
                          .labels = labels,
                          .n = s->n,
                          .n_levels = s->n_changes + 1,
                          .levels = levels};
    PB_RETURN(pb_plots_draw_trend(&line, number, dir, &figure));
    fprintf(stderr, "%s/%s: %s\n", dir, figure.svg, s->name);
    return PB_OK;
}

pb_status pb_kernels_trend(const pb_kernels_request *q, const char *path) {
    pb_status status = PB_OK;
    pb_history h = {.n = 0};
    int drawn = 0, changed = 0;
    PB_TRY(pb_history_read(path, &h));
    for (int i = 0; q->plots && i < h.n; i++) {
        if (h.series[i].n_changes == 0 || ++changed > MOST_TREND_PLOTS) continue;
        PB_TRY(draw_series(&h, &h.series[i], ++drawn, q->plots));
    }
    if (changed > drawn)
        fprintf(stderr, "%d more series changed and have no figure: %d are drawn at most\n",
                changed - drawn, MOST_TREND_PLOTS);
    if (q->format != 0)
        PB_TRY(trend_json(&h));
    else
        PB_TRY(trend_text(&h));
done:
    pb_history_free(&h);
    return status;
}
