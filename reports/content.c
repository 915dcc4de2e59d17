/* What the report says, first part: the summary in words, the main table, figures, notes. Tables of
 * detail: details.c. Verdicts in words and tables: answer.c,
 * verdicts.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/claims_impl.h"
#include "reports/model.h"
#include "reports/verdicts.h"

#define PM "\xc2\xb1"

static const char *plural(int n) {
    return n == 1 ? "" : "s";
}

/* ---- summary ---- */

/* "0.893 nats (95 %: 0.85 to 0.94)". */
static void estimate_words(pb_text *t, const rp_chapter *m, int measure, int i) {
    const pb_estimate *e = pb_estimate_of(&m->comparison, measure, i);
    rp_word w;
    pb_text_add(t, "%s %s", rp_estimate(w, &pb_measures[measure], e),
                pb_measures[measure].table_unit);
}

/* Who else has the first rank: "; not told apart: A, B", or "; alone on rank 1". */
static void sharers(pb_text *t, const rp_chapter *m, int measure, int i) {
    const int *best = m->comparison.best + measure * m->comparison.n;
    int others = 0;
    if (best[i] == 0 && m->comparison.family[measure][0])
        pb_text_add(t, "; not compared with %s", m->rows[m->comparison.against[i]].row->label);
    if (best[i] != 1 || !m->comparison.family[measure][0]) return;
    for (int k = 0; k < m->n_rows; k++) {
        bool apart = pb_verdict_of(&m->comparison, measure, i, k)->kind == PB_INCOMPARABLE;
        if (k == i || best[k] != 1 || apart) continue;
        pb_text_add(t, "%s%s", others++ ? ", " : "; shares rank 1 with ", m->rows[k].row->label);
    }
    if (!others) pb_text_add(t, "; found better than every row it can be compared with");
}

static void quality_tile(const rp_chapter *m, rp_doc *doc) {
    int measure = m->rows[m->best].nll.n ? PB_NLL : PB_ACCURACY;
    pb_text t = {0};
    estimate_words(&t, m, measure, m->best);
    sharers(&t, m, measure, m->best);
    rp_add_tile(doc, measure == PB_NLL ? "Lowest test loss" : "Best test accuracy",
                m->rows[m->best].row->label, t.data);
    doc->failed = doc->failed || t.failed;
    pb_text_free(&t);
}

static void cost_tile(const rp_chapter *m, int measure, int who, rp_doc *doc) {
    int base = m->comparison.against[who];
    const pb_verdict *v = pb_verdict_of(&m->comparison, measure, who, base);
    pb_text t = {0};
    rp_word w;
    estimate_words(&t, m, measure, who);
    if (who == base)
        pb_text_add(&t, "; this is the row that others are compared with");
    else if (v->kind != PB_INCOMPARABLE)
        pb_text_add(&t, "; %s the %s of %s%s", rp_ratio(w, v->estimate),
                    measure == PB_STEP ? "time" : "memory", m->rows[base].row->label,
                    v->kind == PB_NO_DIFFERENCE ? ", not told apart" : "");
    rp_add_tile(doc, measure == PB_STEP ? "Fastest training step" : "Least memory",
                m->rows[who].row->label, t.data);
    doc->failed = doc->failed || t.failed;
    pb_text_free(&t);
}

/* Names the rows that train inside the model and yet stay below the head alone: a sign of bad
 * settings. */
static void head_verdict(const rp_chapter *m, rp_doc *doc) {
    pb_stat head = {0};
    pb_text t = {0};
    for (int i = 0; i < m->n_rows; i++)
        if (m->rows[i].head && pb_is_trained(m->rows[i].row) && m->rows[i].accuracy.n)
            head = m->rows[i].accuracy;
    for (int i = 0; head.n && i < m->n_rows; i++) {
        const rp_row *r = &m->rows[i];
        if (r->head || !r->accuracy.n || r->accuracy.mean > head.mean) continue;
        pb_text_add(&t, "%s%s", t.len ? ", " : "", r->row->label);
    }
    if (t.len)
        rp_add(doc, RP_ITEM,
               "Not above the head alone: %s. Their settings (learning rate, number of steps) may "
               "not suit this model and data; compare their quality with care.",
               t.data);
    doc->failed = doc->failed || t.failed;
    pb_text_free(&t);
}

static void baseline_summary(const rp_chapter *m, rp_doc *doc) {
    rp_word a;
    for (int i = 0; i < m->n_rows; i++) {
        const rp_row *r = &m->rows[i];
        if (!r->head || !r->accuracy.n || !pb_is_trained(r->row)) continue;
        rp_add(doc, RP_ITEM,
               "For orientation: training only the head (%s) reaches %s %%. It changes nothing inside "
               "the model and so costs least by nature; it is in the tables, but not named the fastest "
               "or smallest above.",
               r->row->label, rp_percent(a, r->accuracy));
    }
    head_verdict(m, doc);
    if (isfinite(m->majority))
        rp_add(doc, RP_ITEM,
               "Always answering the most frequent class would reach %.1f %% on the test data.",
               m->majority * 100);
    if (m->c->n_ok < m->c->n_runs)
        rp_add(doc, RP_ITEM,
               "%d of %d runs finished; the others are listed with their reasons below.",
               m->c->n_ok, m->c->n_runs);
}

static void summary(const rp_chapter *m, rp_doc *doc) {
    if (m->c->n_ok == 0) {
        rp_add(doc, RP_NOTE,
               "No run finished: there is nothing to compare. The reasons are listed below.");
        return;
    }
    if (m->best >= 0) quality_tile(m, doc);
    if (m->fastest >= 0) cost_tile(m, PB_STEP, m->fastest, doc);
    if (m->least >= 0) cost_tile(m, PB_MEMORY, m->least, doc);
    rp_view view = rp_view_of(m);
    rp_answer(&view, doc);
    baseline_summary(m, doc);
}

/* ---- main table ---- */

static void status_cell(const pb_row *row, rp_doc *doc) {
    int counts[PB_RUN_STATUS_COUNT] = {0};
    pb_text t = {0};
    for (int i = 0; i < row->n_runs; i++) counts[row->runs[i]->status]++;
    for (int s = 0; s < PB_RUN_STATUS_COUNT; s++) {
        if (!counts[s]) continue;
        pb_text_add(&t, "%s", t.len ? ", " : "");
        pb_text_add(&t, "%d %s", counts[s], pb_run_status_name((pb_run_status)s));
    }
    rp_cell_add(doc, -row->n_ok, "%s", t.data ? t.data : "");
    if (row->n_ok < row->n_runs) rp_cell_strong(doc);
    doc->failed = doc->failed || t.failed;
    pb_text_free(&t);
}

/* What the comparison does not judge: size and speed in examples. */
static void size_table(const rp_chapter *m, rp_doc *doc) {
    rp_word w;
    rp_add(doc, RP_HEADING, "Size");
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    rp_column_add(doc, "Runs", false, "Seeds by how their run ended");
    rp_column_add(doc, "Epochs", true,
                  "Training examples seen of those there are; below 1 no example was seen twice");
    rp_column_add(doc, "Examples/s", true, "Training examples per second, evaluation not counted");
    rp_column_add(doc, "Trainable", true, "Trained parameters, the task head included");
    rp_column_add(doc, "% of all", true, "Share of all parameters that is trained");
    rp_column_add(doc, "Adapter file", true, "Size of what has to be stored per task");
    for (int i = 0; i < m->n_rows; i++) {
        const rp_row *r = &m->rows[i];
        rp_row_add(doc, r->colour);
        rp_cell_add(doc, i, "%s", r->row->label);
        status_cell(r->row, doc);
        rp_cell_add(doc, r->epochs, "%s", rp_number(w, r->epochs));
        rp_cell_add(doc, r->examples.mean, "%s", rp_number(w, r->examples.mean));
        rp_cell_add(doc, r->trainable, "%s", rp_count(w, r->trainable));
        rp_cell_add(doc, r->trainable / r->params, "%s",
                    rp_number(w, 100 * r->trainable / r->params));
        rp_cell_add(doc, r->file.mean, "%s", rp_bytes(w, r->file.mean));
    }
    rp_add(doc, RP_TEXT,
           "Means over the finished seeds. A dash: the number does not exist for this row.");
}

static void main_table(const rp_chapter *m, rp_doc *doc) {
    rp_view view = rp_view_of(m);
    rp_comparison_table(&view, doc);
    rp_shapes_table(&view, doc);
    if (m->tokens)
        rp_add(doc, RP_TEXT,
               "This is text completion, not classification: accuracy is the share of target "
               "tokens whose most likely token is the right one, and NLL is a mean over target "
               "tokens.");
}

/* ---- notes ---- */

static void notes(const rp_chapter *m, int n, rp_doc *doc) {
    const char *data = n == 1 ? m->c->dataset : "";
    rp_add(doc, RP_HEADING, "What these numbers are, and what they are not");
    rp_add(doc, RP_ITEM,
           PM
           " in the tables of detail is the sample standard deviation over the finished seeds: how "
           "far the runs lie apart. In verdicts it is half of a 95 %% interval.");
    rp_add(doc, RP_ITEM,
           "A row is a method with the settings of this suite. Another learning rate, rank or "
           "number of steps "
           "can change the order.");
    rp_add(doc, RP_ITEM,
           "Quality holds for this model on this data set%s%s%s; it does not carry over to others "
           "by itself.",
           *data ? " (" : "", data, *data ? ")" : "");
    rp_add(doc, RP_ITEM,
           "Times are medians on the machine named above, with this batch size and these sequence "
           "lengths. "
           "Other machines give other ratios.");
    rp_add(doc, RP_ITEM,
           "Memory is counted by the program's own arenas, to the byte. The resident memory of the "
           "process is "
           "larger: it holds libraries, files and the data set too.");
}

static void figures(const rp_chapter *m, const char *missing, rp_doc *doc) {
    rp_add(doc, RP_HEADING, "Figures");
    if (missing) rp_add(doc, RP_NOTE, "The figures are missing: %s", missing);
    if (!missing && m->n_figures == 0) rp_add(doc, RP_TEXT, "The records hold nothing to draw.");
    for (int i = 0; i < m->n_figures; i++) rp_add_figure(doc, &m->figures[i], m->figure_path);
}

static void chapter(const rp_chapter *m, bool several, const char *missing, rp_doc *doc) {
    if (several)
        rp_add(doc, RP_TITLE, "%s: %s on %s", m->c->suite,
               *m->c->model ? m->c->model : "unknown model",
               *m->c->dataset ? m->c->dataset : "unknown data");
    rp_add(doc, RP_HEADING, "In short");
    summary(m, doc);
    rp_add(doc, RP_HEADING, "Comparison");
    main_table(m, doc);
    figures(m, missing, doc);
    rp_view view = rp_view_of(m);
    rp_verdict_tables(&view, doc);
    size_table(m, doc);
}

/* Model, data and how many runs, in one sentence or two. */
static void introduce(const rp_chapter *m, rp_doc *doc) {
    const pb_json *data = NULL;
    pb_text t = {0};
    for (int i = 0; i < m->n_rows && !data; i++)
        data = pb_json_get(pb_row_example(m->rows[i].row)->dataset, "splits");
    pb_text_add(&t, "%s on %s", *m->c->model ? m->c->model : "Unknown model",
                *m->c->dataset ? m->c->dataset : "unknown data");
    static const char *const keys[] = {"train", "valid", "test"};
    static const char *const names[] = {"training", "validation", "test"};
    int told = 0;
    if (m->classes > 1) pb_text_add(&t, " (%d classes", m->classes);
    told += m->classes > 1;
    for (int i = 0; i < 3; i++) {
        const pb_json *size = pb_json_get(data, keys[i]);
        rp_word w;
        if (!cJSON_IsNumber(size)) continue;
        pb_text_add(&t, "%s%s %s", told++ ? ", " : " (", rp_count(w, size->valuedouble), names[i]);
    }
    if (told) pb_text_add(&t, " examples)");
    rp_add(doc, RP_TEXT, "%s. %d run%s, %d finished, %d row%s.", t.data ? t.data : "", m->c->n_runs,
           plural(m->c->n_runs), m->c->n_ok, m->n_rows, plural(m->n_rows));
    doc->failed = doc->failed || t.failed;
    pb_text_free(&t);
}

pb_status rp_compose(const rp_chapter *models, int n, const pb_json *claims,
                     const pb_report_options *options, const char *dir, const char *plots_missing,
                     rp_doc *doc) {
    rp_add(doc, RP_TITLE,
           n == 1 ? "Fine-tuning methods compared: %s" : "Fine-tuning methods compared",
           models->c->suite);
    int runs = 0, ok = 0;
    for (int i = 0; i < n; i++) {
        runs += models[i].c->n_runs;
        ok += models[i].c->n_ok;
    }
    if (n == 1)
        introduce(&models[0], doc);
    else
        rp_add(doc, RP_TEXT,
               "%d comparisons, %d runs, %d finished. Rows are compared within one suite, model "
               "and data set "
               "only.",
               n, runs, ok);
    if (claims) cl_compose(claims, false, doc);
    for (int i = 0; i < n; i++) {
        chapter(&models[i], n > 1, plots_missing, doc);
        PB_RETURN(rp_compose_details(&models[i], doc));
        rp_view view = rp_view_of(&models[i]);
        rp_add(doc, RP_HEADING, "How it was done");
        rp_how(&view, doc);
    }
    if (claims) cl_compose_basis(claims, doc);
    notes(models, n, doc);
    rp_add(doc, RP_HEADING, "Make this report again");
    rp_add(doc, RP_TEXT, "From the same records, which `peftbench verify` checks byte by byte:");
    if (options && options->command)
        rp_add(doc, RP_CODE, "%s", options->command);
    else
        rp_add(doc, RP_CODE, "peftbench report '%s'", dir);
    PB_RETURN(rp_doc_status(doc));
    return PB_OK;
}

pb_status rp_compose_tables(const rp_chapter *models, int n, const pb_json *claims, rp_doc *doc) {
    if (claims) cl_compose_brief(claims, doc);
    for (int i = 0; i < n; i++) {
        rp_view view = rp_view_of(&models[i]);
        rp_add(doc, RP_HEADING, "%s: %s on %s", models[i].c->suite,
               *models[i].c->model ? models[i].c->model : "unknown model",
               *models[i].c->dataset ? models[i].c->dataset : "unknown data");
        rp_answer(&view, doc);
        rp_comparison_table(&view, doc);
        rp_shapes_table(&view, doc);
        rp_how(&view, doc);
    }
    return rp_doc_status(doc);
}
