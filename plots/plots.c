/* The gnuplot driver: finds program and templates, writes variables and data to a folder of its
 * own, runs gnuplot once per figure and moves finished images into place. What the figures show:
 * plots/figures.c. Test: tests/test_reports.c. */
#include "plots/plots.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "plots/figure.h"
#include "plots/kernels.h"

#ifndef PB_PLOTS_DIR
#define PB_PLOTS_DIR "plots"
#endif

extern char **environ;

/* ---- program and templates ---- */

/* The first gnuplot in PATH, malloc'ed; NULL when there is none. */
static char *find_gnuplot(void) {
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t n = strcspn(path, ":");
        char *dir = strndup(n ? path : ".", n ? n : 1);
        char *file = dir ? pb_path_join(dir, "gnuplot") : NULL;
        free(dir);
        if (file && access(file, X_OK) == 0 && !pb_is_dir(file)) return file;
        free(file);
        path += n + (path[n] == ':');
    }
    return NULL;
}

pb_status pb_plots_available(void) {
    char *gnuplot = find_gnuplot();
    if (!gnuplot)
        return PB_ERROR(PB_E_ENV,
                        "no plots: gnuplot is not in PATH; install it with: "
                        "sudo apt-get install -y gnuplot-nox");
    free(gnuplot);
    return PB_OK;
}

/* The folder with the templates: PEFTBENCH_PLOTS, the source tree, plots/ beside or above the
 * executable. */
static pb_status find_templates(char out[1024]) {
    char candidate[4][1200];
    int n = 0;
    const char *env = getenv("PEFTBENCH_PLOTS");
    if (env && *env) snprintf(candidate[n++], sizeof candidate[0], "%s", env);
    snprintf(candidate[n++], sizeof candidate[0], "%s", PB_PLOTS_DIR);
    if (pb_beside_program("plots", candidate[n], sizeof candidate[0]) == PB_OK) n++;
    if (pb_beside_program("../plots", candidate[n], sizeof candidate[0]) == PB_OK) n++;
    for (int i = 0; i < n; i++) {
        char *probe = pb_path_join(candidate[i], "common.gp");
        bool there = probe && pb_file_exists(probe) && pb_copy(out, 1024, candidate[i]);
        free(probe);
        if (there) return PB_OK;
    }
    return PB_ERROR(PB_E_ENV,
                    "no plots: the templates (common.gp) are not in %s; "
                    "set PEFTBENCH_PLOTS to their folder",
                    PB_PLOTS_DIR);
}

/* The environment without what changes gnuplot's behaviour, and with a locale that writes points.
 */
static pb_status gnuplot_environment(char ***out) {
    static const char *const drop[] = {
        "LC_", "LANG=", "LANGUAGE=", "GNUTERM=", "GNUPLOT_", "GDFONTPATH="};
    static char locale[] = "LC_ALL=C.UTF-8";
    size_t n = 0, kept = 0;
    while (environ && environ[n]) n++;
    char **env = calloc(n + 2, sizeof *env);
    if (!env) return PB_ERROR(PB_E_OOM, "no memory for gnuplot's environment");
    for (size_t i = 0; i < n; i++) {
        bool keep = true;
        for (size_t k = 0; k < sizeof drop / sizeof drop[0]; k++)
            keep = keep && strncmp(environ[i], drop[k], strlen(drop[k])) != 0;
        if (keep) env[kept++] = environ[i];
    }
    env[kept] = locale;
    *out = env;
    return PB_OK;
}

/* ---- one run of gnuplot ---- */

/* The first line of gnuplot's complaints that says something. */
static void first_complaint(const char *path, char line[256]) {
    char *text = NULL, *save = NULL;
    size_t len = 0;
    strcpy(line, "no message");
    if (pb_file_read(path, 1 << 20, &text, &len) == PB_OK)
        for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save))
            if (strspn(s, " \t^") != strlen(s)) {
                pb_copy(line, 256, s);
                if (strstr(s, ": ")) break; /* "file" line 3: what is wrong */
            }
    free(text);
}

static pb_status run_gnuplot(const char *script, const char *log) {
    pb_status status = PB_OK;
    char **env = NULL, *gnuplot = find_gnuplot(), why[256];
    const char *argv[] = {gnuplot, "-d", script, NULL};
    int code = 0;
    if (!gnuplot) PB_TRY(pb_plots_available());
    PB_TRY(gnuplot_environment(&env));
    PB_TRY(pb_process_run(argv, env, NULL, log, &code));
    if (code == 0) goto done;
    first_complaint(log, why);
    if (code > 128) PB_FAIL(PB_E_ENV, "no plots: gnuplot was ended by signal %d (%s)", code - 128, why);
    PB_FAIL(PB_E_ENV, "no plots: gnuplot failed with %d: %s", code, why);
done:
    free(env);
    free(gnuplot);
    return status;
}

/* ---- one figure ---- */

typedef struct workshop {
    char templates[1024];
    const char *out_dir;
    char *temp;
} workshop;

static void join(pb_text *t, const char *dir, const char *name, const char *end) {
    pb_text_add(t, "%s/%s%s", dir, name, end);
}

/* Assignment of a quoted path. */
static void add_path(pb_text *t, const char *name, const char *dir, const char *file,
                     const char *end) {
    pb_text path = {0};
    join(&path, dir, file, end);
    pb_text_add(t, "%s = ", name);
    pb_gp_quote(t, path.data ? path.data : "");
    pb_text_add(t, "\n");
    t->failed = t->failed || path.failed;
    pb_text_free(&path);
}

static void compose(const workshop *w, const figure *f, pb_text *script) {
    pb_text_add(script, "set encoding utf8\nW = %d\nH = %d\n", f->width, f->height);
    add_path(script, "DATA", w->temp, f->out.name, ".tsv");
    add_path(script, "SVG", w->temp, f->out.name, ".svg");
    add_path(script, "PNG", w->temp, f->out.name, ".png");
    add_path(script, "COMMON", w->templates, "common", ".gp");
    add_path(script, "TEMPLATE", w->templates, f->template, ".gp");
    pb_text_add(script, "TITLE = ");
    pb_gp_quote(script, f->out.title);
    pb_text_add(script, "\n%s", f->vars.data ? f->vars.data : "");
    pb_text_add(
        script,
        "set terminal svg size W,H dynamic background '#ffffff' noenhanced font 'sans-serif,17' "
        "linewidth 1.6\n"
        "VECTOR = 1\nset output SVG\nload COMMON\nload TEMPLATE\nset output\n"
        "set terminal pngcairo size 2*W,2*H background '#ffffff' noenhanced font 'DejaVu Sans,12' "
        "fontscale 2 linewidth 3 pointscale 2\n"
        "VECTOR = 0\nset output PNG\nload COMMON\nload TEMPLATE\nset output\n");
}

static pb_status write_text(const workshop *w, const char *name, const char *end,
                            const pb_text *t) {
    pb_status status = PB_OK;
    pb_text path = {0};
    join(&path, w->temp, name, end);
    PB_TRY(pb_text_status(&path));
    PB_TRY(pb_text_status(t));
    PB_TRY(pb_file_write_atomic(path.data, t->data ? t->data : "", t->len));
done:
    pb_text_free(&path);
    return status;
}

/* Moves temp/name.end to out_dir/name.end and notes it. */
static pb_status publish(const workshop *w, const char *name, const char *end, char note[256]) {
    pb_status status = PB_OK;
    pb_text from = {0}, to = {0};
    join(&from, w->temp, name, end);
    join(&to, w->out_dir, name, end);
    PB_TRY(pb_text_status(&from));
    PB_TRY(pb_text_status(&to));
    if (rename(from.data, to.data) != 0)
        PB_FAIL(PB_E_IO, "%s: renaming into place failed: %s", to.data, strerror(errno));
    snprintf(note, 256, "%s%s", name, end);
done:
    pb_text_free(&from);
    pb_text_free(&to);
    return status;
}

static pb_status draw(const workshop *w, figure *f) {
    pb_status status = PB_OK;
    pb_text script = {0}, path = {0}, log = {0};
    compose(w, f, &script);
    PB_TRY(pb_text_status(&f->vars));
    PB_TRY(write_text(w, f->out.name, ".tsv", &f->data));
    PB_TRY(write_text(w, f->out.name, ".gp", &script));
    join(&path, w->temp, f->out.name, ".gp");
    join(&log, w->temp, f->out.name, ".log");
    PB_TRY(pb_text_status(&path));
    PB_TRY(pb_text_status(&log));
    PB_TRY(run_gnuplot(path.data, log.data));
    PB_TRY(publish(w, f->out.name, ".svg", f->out.svg));
    PB_TRY(publish(w, f->out.name, ".png", f->out.png));
done:
    pb_text_free(&script);
    pb_text_free(&path);
    pb_text_free(&log);
    return status;
}

/* ---- all figures ---- */

#define MAX_RANK_MAPS 8
#define MAX_WATERFALLS 8

static const struct {
    figure_build build;
    int repeat;
} builders[] = {{pb_build_accuracy_memory, 1},     {pb_build_accuracy_time, 1},
                {pb_build_loss_curves, 1},         {pb_build_memory_by_purpose, 1},
                {pb_build_time_by_phase, 1},       {pb_build_time_by_part, 1},
                {pb_build_waterfall, MAX_WATERFALLS}, {pb_build_roofline, 1},
                {pb_build_lr_curves, 1},           {pb_build_quality_examples, 3},
                {pb_build_latency_shapes, 2},      {pb_build_dylora_rank, 1},
                {pb_build_rank_map, MAX_RANK_MAPS}};
#define N_BUILDERS (int)(sizeof builders / sizeof builders[0])

static pb_status build_and_draw(const workshop *w, const pb_chapter *c, const pb_row_marks *marks,
                                int b, int which, pb_figure *list, int *n) {
    pb_status status = PB_OK;
    figure f = {.width = 610, .height = 440, .marks = marks};
    PB_TRY(builders[b].build(c, which, &f));
    if (!f.made) goto done;
    PB_TRY(draw(w, &f));
    list[(*n)++] = f.out;
done:
    pb_text_free(&f.vars);
    pb_text_free(&f.data);
    return status;
}

/* Templates, output folder and a folder of our own in it. */
static pb_status open_workshop(workshop *w, const char *out_dir) {
    *w = (workshop){.out_dir = out_dir};
    PB_RETURN(pb_plots_available());
    PB_RETURN(find_templates(w->templates));
    PB_RETURN(pb_make_dirs(out_dir));
    if (!(w->temp = pb_path_join(out_dir, ".plots-XXXXXX")))
        return PB_ERROR(PB_E_OOM, "%s: no memory for a path", out_dir);
    if (mkdtemp(w->temp)) return PB_OK;
    free(w->temp);
    w->temp = NULL;
    return PB_ERROR(PB_E_IO, "%s: cannot create a folder in it: %s", out_dir, strerror(errno));
}

static void close_workshop(workshop *w) {
    if (w->temp && pb_remove_tree(w->temp) != PB_OK) pb_error_clear();
    free(w->temp);
    w->temp = NULL;
}

pb_status pb_plots_draw_chapter(const pb_chapter *chapter, const pb_row_marks *marks,
                                const char *out_dir, pb_figure **figures, int *n_figures) {
    pb_status status = PB_OK;
    workshop w = {0};
    pb_figure *list = NULL;
    int n = 0;
    *figures = NULL;
    *n_figures = 0;
    PB_TRY(open_workshop(&w, out_dir));
    int most = 0;
    for (int b = 0; b < N_BUILDERS; b++) most += builders[b].repeat;
    list = calloc((size_t)most, sizeof *list);
    if (!list) PB_FAIL(PB_E_OOM, "no memory for a list of figures");
    for (int b = 0; b < N_BUILDERS; b++)
        for (int i = 0; i < builders[b].repeat; i++)
            PB_TRY(build_and_draw(&w, chapter, marks, b, i, list, &n));
    *figures = list;
    *n_figures = n;
    list = NULL;
done:
    close_workshop(&w);
    free(list);
    return status;
}

pb_status pb_plots_draw_map(const pb_budget_map *map, const char *out_dir, pb_figure *out) {
    pb_status status = PB_OK;
    workshop w = {0};
    figure f = {0};
    PB_TRY(open_workshop(&w, out_dir));
    PB_TRY(pb_build_budget_map(map, &f));
    PB_TRY(draw(&w, &f));
    *out = f.out;
done:
    close_workshop(&w);
    pb_text_free(&f.vars);
    pb_text_free(&f.data);
    return status;
}

/* Draws what a builder has made, when it made something. */
static pb_status finish(const workshop *w, figure *f, pb_figure *figures, int *n) {
    pb_status status = f->made ? draw(w, f) : PB_OK;
    if (status == PB_OK && f->made) figures[(*n)++] = f->out;
    pb_text_free(&f->vars);
    pb_text_free(&f->data);
    return status;
}

/* The next model's name among the points: the first one that no earlier point has. */
static bool next_chart(const pb_kernel_point *points, int n, int *at, char chart[48]) {
    for (; *at < n; (*at)++) {
        size_t len = strcspn(points[*at].name, "/");
        bool seen = len == 0 || len >= 48;
        for (int k = 0; k < *at && !seen; k++)
            seen = strncmp(points[k].name, points[*at].name, len + 1) == 0;
        if (seen) continue;
        snprintf(chart, 48, "%.*s", (int)len, points[(*at)++].name);
        return true;
    }
    return false;
}

pb_status pb_plots_draw_kernels(const pb_kernel_point *points, int n, const pb_kernel_roofs *roofs,
                                const char *out_dir, pb_figure *figures, int *n_figures) {
    pb_status status = PB_OK;
    workshop w = {0};
    char chart[48];
    int at = 0;
    *n_figures = 0;
    PB_TRY(open_workshop(&w, out_dir));
    for (int i = 0; i < PB_KERNEL_CHARTS && next_chart(points, n, &at, chart); i++) {
        figure roofline = {.width = 760}, share = {0};
        PB_TRY(pb_build_kernel_roofline(points, n, chart, roofs, &roofline));
        PB_TRY(finish(&w, &roofline, figures, n_figures));
        PB_TRY(pb_build_roof_share(points, n, chart, roofs, &share));
        PB_TRY(finish(&w, &share, figures, n_figures));
    }
done:
    close_workshop(&w);
    return status;
}

pb_status pb_plots_draw_trend(const pb_trend_line *line, int number, const char *out_dir,
                              pb_figure *out) {
    pb_status status = PB_OK;
    workshop w = {0};
    figure f = {.height = 400};
    int n = 0;
    PB_TRY(open_workshop(&w, out_dir));
    PB_TRY(pb_build_trend(line, number, &f));
    PB_TRY(finish(&w, &f, out, &n));
done:
    close_workshop(&w);
    return status;
}

/* Puts "slug/" before the paths of a chapter's figures. */
static void prefix(pb_figure *f, const char *slug) {
    char old[256];
    memcpy(old, f->svg, sizeof old);
    snprintf(f->svg, sizeof f->svg, "%s/%.180s", slug, old);
    memcpy(old, f->png, sizeof old);
    snprintf(f->png, sizeof f->png, "%s/%.180s", slug, old);
}

/* The figures of one chapter with what the marker knows of its rows. */
static pb_status draw_marked(const pb_chapter *c, pb_marker marker, const char *dir,
                             pb_figure **figures, int *n) {
    pb_status status = PB_OK;
    pb_row_marks *marks = calloc((size_t)c->n_rows + 1, sizeof *marks);
    if (!marks) PB_FAIL(PB_E_OOM, "no memory for the marks of %d rows", c->n_rows);
    if (marker) PB_TRY(marker(c, marks));
    PB_TRY(pb_plots_draw_chapter(c, marker ? marks : NULL, dir, figures, n));
done:
    free(marks);
    return status;
}

pb_status pb_plots_draw(const pb_record *records, int n, pb_marker marker, const char *out_dir,
                        pb_figure **figures, int *n_figures) {
    pb_status status = PB_OK;
    pb_chapter *chapters = NULL;
    pb_figure *all = NULL, *some = NULL;
    char *dir = NULL, slug[64];
    int n_chapters = 0, n_all = 0, n_some = 0;
    *figures = NULL;
    *n_figures = 0;
    PB_TRY(pb_chapters_make(records, n, &chapters, &n_chapters));
    for (int i = 0; i < n_chapters; i++) {
        pb_chapter_slug(&chapters[i], i, slug);
        free(dir);
        dir = n_chapters > 1 ? pb_path_join(out_dir, slug) : strdup(out_dir);
        if (!dir) PB_FAIL(PB_E_OOM, "%s: no memory for a path", out_dir);
        free(some);
        PB_TRY(draw_marked(&chapters[i], marker, dir, &some, &n_some));
        pb_figure *bigger = realloc(all, (size_t)(n_all + n_some + 1) * sizeof *all);
        if (!bigger) PB_FAIL(PB_E_OOM, "no memory for a list of figures");
        all = bigger;
        for (int k = 0; k < n_some; k++) {
            if (n_chapters > 1) prefix(&some[k], slug);
            all[n_all++] = some[k];
        }
    }
    *figures = all;
    *n_figures = n_all;
    all = NULL;
done:
    free(some);
    free(all);
    free(dir);
    pb_chapters_free(chapters, n_chapters);
    return status;
}
