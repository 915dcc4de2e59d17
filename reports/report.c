/* A report is a pure function of the records under a folder: load, group, draw, compose, render,
 * write. */
#include "reports/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "reports/claims_impl.h"
#include "reports/model.h"
#include "results/record_impl.h"

/* Draws the figures of every chapter. PB_E_ENV (no gnuplot, no templates) is the caller's to tell.
 */
static pb_status draw(rp_chapter *models, int n, const char *out_dir, FILE *log) {
    pb_status status = PB_OK;
    char *dir = NULL, slug[64];
    for (int i = 0; i < n; i++) {
        rp_chapter *m = &models[i];
        pb_chapter_slug(m->c, i, slug);
        snprintf(m->figure_path, sizeof m->figure_path, n > 1 ? "plots/%s/" : "plots/", slug);
        free(dir);
        if (!(dir = pb_path_join(out_dir, m->figure_path)))
            PB_FAIL(PB_E_OOM, "%s: no memory for a path", out_dir);
        PB_TRY(pb_plots_draw_chapter(m->c, m->marks, dir, &m->figures, &m->n_figures));
        for (int k = 0; k < m->n_figures && log; k++)
            fprintf(log, "%s%s\n%s%s\n", dir, m->figures[k].svg, dir, m->figures[k].png);
    }
done:
    free(dir);
    return status;
}

static pb_status write_out(const char *out_dir, const char *name, const pb_text *t, FILE *log) {
    pb_status status = PB_OK;
    char *path = pb_path_join(out_dir, name);
    if (!path) PB_FAIL(PB_E_OOM, "%s: no memory for a path", out_dir);
    PB_TRY(pb_text_status(t));
    PB_TRY(pb_file_write_atomic(path, t->data, t->len));
    if (log) fprintf(log, "%s\n", path);
done:
    free(path);
    return status;
}

static pb_status render_all(const rp_doc *doc, const rp_doc *tables, const pb_record *records,
                            int n, const char *out_dir, FILE *log) {
    pb_status status = PB_OK;
    pb_text html = {0}, markdown = {0}, latex = {0}, csv = {0};
    PB_TRY(rp_render_html(doc, out_dir, &html));
    PB_TRY(rp_render_markdown(doc, &markdown));
    PB_TRY(rp_render_latex(tables, &latex));
    PB_TRY(rp_render_csv(records, n, &csv));
    PB_TRY(write_out(out_dir, "summary.csv", &csv, log));
    PB_TRY(write_out(out_dir, "report.md", &markdown, log));
    PB_TRY(write_out(out_dir, "report.tex", &latex, log));
    PB_TRY(write_out(out_dir, "report.html", &html, log));
done:
    pb_text_free(&html);
    pb_text_free(&markdown);
    pb_text_free(&latex);
    pb_text_free(&csv);
    return status;
}

/* The verdicts that `claims check` left in the folder; NULL when there are none. */
static pb_status load_claims(const char *dir, pb_json **out) {
    pb_status status = PB_OK;
    char *path = pb_path_join(dir, "claims.json");
    *out = NULL;
    if (!path) PB_FAIL(PB_E_OOM, "%s: no memory for a path", dir);
    if (!pb_file_exists(path)) goto done;
    PB_TRY(pb_json_load(path, PB_RECORD_MAX_BYTES, out));
    if (!cJSON_IsArray(pb_json_get(*out, "claims")))
        PB_FAIL(PB_E_INPUT, "%s: claims: expected an array; peftbench claims check writes it", path);
done:
    free(path);
    return status;
}

pb_status pb_report_write(const char *dir, const pb_report_options *options, FILE *log,
                          bool *no_plots) {
    pb_status status = PB_OK;
    pb_record *records = NULL;
    pb_chapter *chapters = NULL;
    rp_chapter *models = NULL;
    pb_waiver_list waivers = {0};
    rp_doc doc = {0}, tables = {0};
    pb_json *claims = NULL;
    int n = 0, n_chapters = 0;
    char missing[512] = "";
    const char *out_dir = options && options->out_dir ? options->out_dir : dir;
    if (no_plots) *no_plots = false;
    PB_TRY(pb_records_load(dir, true, &records, &n));
    PB_TRY(pb_chapters_make(records, n, &chapters, &n_chapters));
    if (n_chapters == 0)
        PB_FAIL(PB_E_INPUT, "%s holds trials of a tuning and no run to compare", dir);
    PB_TRY(pb_waivers_parse(options ? options->waive : NULL, records, n, &waivers));
    PB_TRY(rp_models_make(chapters, n_chapters, options ? options->baseline : NULL, &waivers.list,
                          &models));
    PB_TRY(pb_make_dirs(out_dir));
    status = draw(models, n_chapters, out_dir, log);
    if (status == PB_E_ENV) {
        pb_copy(missing, sizeof missing, pb_error_message());
        pb_error_clear();
        if (no_plots) *no_plots = true;
        status = PB_OK;
    }
    PB_TRY(status);
    doc.title = strdup(n_chapters == 1 ? chapters->suite : "peftbench report");
    if (!doc.title) PB_FAIL(PB_E_OOM, "no memory for the report");
    PB_TRY(load_claims(dir, &claims));
    PB_TRY(rp_compose(models, n_chapters, claims, options, dir, *missing ? missing : NULL, &doc));
    PB_TRY(rp_compose_tables(models, n_chapters, claims, &tables));
    PB_TRY(render_all(&doc, &tables, records, n, out_dir, log));
done:
    rp_doc_free(&doc);
    rp_doc_free(&tables);
    pb_json_free(claims);
    pb_waivers_free(&waivers);
    rp_models_free(models, n_chapters);
    pb_chapters_free(chapters, n_chapters);
    pb_records_free(records, n);
    return status;
}

pb_status pb_report_marks(const pb_chapter *chapter, pb_row_marks *marks) {
    rp_chapter *models = NULL;
    PB_RETURN(rp_models_make(chapter, 1, NULL, NULL, &models));
    memcpy(marks, models->marks, (size_t)chapter->n_rows * sizeof *marks);
    rp_models_free(models, 1);
    return PB_OK;
}
