/* What the report says, first part: the summary in words, the main table, figures, notes. Tables of
 * detail: details.c. Wording: means and spreads are described, nothing is called significant. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/model.h"

#define PM "\xc2\xb1"
#define DASH "\xe2\x80\x93"

static const char *plural(int n) {
    return n == 1 ? "" : "s";
}

/* "within the spread over seeds", "larger than ...", or why nothing can be said. */
static const char *spread_verdict(pb_stat a, pb_stat b) {
    switch (rp_within_spread(a, b)) {
    case 1:
        return "within the spread over seeds";
    case 0:
        return "larger than the spread over seeds";
    default:
        return "from a single seed in a row, so its spread is unknown";
    }
}

/* ---- summary ---- */

static void accuracy_summary(const rp_chapter *m, rp_doc *doc) {
    const rp_row *best = &m->rows[m->best], *base = m->baseline >= 0 ? &m->rows[m->baseline] : NULL;
    rp_word a, b, value;
    bool accuracy = best->accuracy.n > 0;
    pb_stat mine = accuracy ? best->accuracy : best->nll;
    const char *what = accuracy ? "the highest mean test accuracy" : "the lowest mean test loss";
    const char *unit = accuracy ? " %" : " nats";
    if (accuracy)
        rp_percent(a, mine);
    else
        rp_spread(a, mine, 1);
    snprintf(value, sizeof value, "%.50s%s", a, unit);
    pb_text detail = {0}, said = {0};
    pb_text_add(&detail, "%s", value);
    pb_text_add(&said, "%s reached %s: %s (%d seed%s).", best->row->label, what, value, mine.n,
                plural(mine.n));
    if (base && base != best && (accuracy ? base->accuracy.n : base->nll.n)) {
        pb_stat theirs = accuracy ? base->accuracy : base->nll;
        double gap = (mine.mean - theirs.mean) * (accuracy ? 100 : 1);
        if (accuracy)
            rp_percent(b, theirs);
        else
            rp_spread(b, theirs, 1);
        pb_text_add(&detail, "; %.*f%s %s %s, %s", accuracy ? 1 : 3, fabs(gap),
                    accuracy ? " points" : " nats", gap >= 0 ? "above" : "below", base->row->label,
                    spread_verdict(mine, theirs));
        pb_text_add(&said, " %s: %s%s. The difference of %.*f%s is %s.", base->row->label, b, unit,
                    accuracy ? 1 : 3, fabs(gap), accuracy ? " points" : " nats",
                    spread_verdict(mine, theirs));
    }
    int n = 0;
    for (int i = 0; i < m->n_rows; i++) {
        const rp_row *r = &m->rows[i];
        pb_stat s = accuracy ? r->accuracy : r->nll;
        if (r == best || !s.n || rp_within_spread(mine, s) != 1) continue;
        pb_text_add(&said, "%s%s", n++ ? ", " : " Within the spread of the best: ", r->row->label);
    }
    if (n) pb_text_add(&said, ".");
    rp_add_tile(doc, accuracy ? "Best test accuracy" : "Lowest test loss", best->row->label,
                detail.data);
    rp_add(doc, RP_ITEM, "%s", said.data ? said.data : "");
    doc->failed = doc->failed || detail.failed || said.failed;
    pb_text_free(&detail);
    pb_text_free(&said);
}

/* The lowest time or memory: a tile and a sentence. */
static void cost_summary(const rp_chapter *m, rp_doc *doc, bool time) {
    int who = time ? m->fastest : m->least;
    const rp_row *r = &m->rows[who], *base = m->baseline >= 0 ? &m->rows[m->baseline] : NULL;
    pb_stat s = time ? r->step : r->peak;
    double ratio = time ? r->step_ratio : r->peak_ratio;
    rp_word a, b, value;
    if (time)
        snprintf(value, sizeof value, "%.50s ms", rp_number(a, s.mean * 1e3));
    else
        rp_bytes(value, s.mean);
    pb_text detail = {0}, said = {0};
    pb_text_add(&detail, "%s", value);
    pb_text_add(
        &said,
        time ? "%s had the shortest training step: %s (median over steps, mean over %d seed%s)."
             : "%s needed the least memory: %s at the peak (mean over %d seed%s).",
        r->row->label, value, s.n, plural(s.n));
    if (base && base != r && isfinite(ratio)) {
        pb_stat theirs = time ? base->step : base->peak;
        if (time)
            snprintf(b, sizeof b, "%.50s ms", rp_number(a, theirs.mean * 1e3));
        else
            rp_bytes(b, theirs.mean);
        rp_ratio(a, ratio);
        pb_text_add(&detail, "; %s the %s of %s", a, time ? "time" : "memory", base->row->label);
        pb_text_add(&said, " %s: %s, so %s is %s of it", base->row->label, b, r->row->label, a);
        pb_text_add(&said, rp_within_spread(s, theirs) == 1
                               ? "; the difference is within the spread over seeds."
                               : ".");
    } else if (base == r) {
        pb_text_add(&detail, "; this is the row that others are compared with");
    }
    rp_add_tile(doc, time ? "Fastest training step" : "Least memory", r->row->label, detail.data);
    rp_add(doc, RP_ITEM, "%s", said.data ? said.data : "");
    doc->failed = doc->failed || detail.failed || said.failed;
    pb_text_free(&detail);
    pb_text_free(&said);
}

/* Names the rows that train inside the model and yet stay below the head alone: a sign of bad
 * settings. */
static void head_verdict(const rp_chapter *m, rp_doc *doc) {
    pb_stat head = {0};
    pb_text t = {0};
    for (int i = 0; i < m->n_rows; i++)
        if (m->rows[i].head && m->rows[i].accuracy.n) head = m->rows[i].accuracy;
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
        if (!r->head || !r->accuracy.n) continue;
        rp_add(doc, RP_ITEM,
               "For orientation: training only the head (%s) reaches %s %%. It changes nothing "
               "inside the model, so it takes no part in the comparisons of time and memory.",
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
    if (m->best >= 0) accuracy_summary(m, doc);
    if (m->fastest >= 0) cost_summary(m, doc, true);
    if (m->least >= 0) cost_summary(m, doc, false);
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

static void leader_cell(rp_doc *doc, int row, int leader, double sort, const char *text) {
    rp_cell_add(doc, sort, "%s", text);
    if (row == leader) rp_cell_strong(doc);
}

static void main_columns(const rp_chapter *m, rp_doc *doc) {
    char ratio[96];
    snprintf(ratio, sizeof ratio, "\xc3\x97 %.80s",
             m->baseline >= 0 ? m->rows[m->baseline].row->label : "baseline");
    rp_column_add(doc, "Row", false, "The suite's name for a method with its settings");
    rp_column_add(doc, "Runs", false, "Seeds by how their run ended");
    rp_column_add(doc, "Test accuracy (%)", true,
                  "Mean " PM " standard deviation over the finished seeds");
    rp_column_add(doc, "Test NLL (nats)", true,
                  "Mean negative log-likelihood of the right answer; lower is better");
    rp_column_add(doc, "Step (ms)", true,
                  "Median time of a training step behind the warm-up, mean over seeds");
    rp_column_add(doc, ratio, true, "Step time relative to the baseline row");
    rp_column_add(doc, "Examples/s", true, "Training examples per second, evaluation not counted");
    rp_column_add(doc, "Peak memory (MiB)", true,
                  "Peak of the program's own memory arenas during training");
    rp_column_add(doc, ratio, true, "Peak memory relative to the baseline row");
    rp_column_add(doc, "Trainable", true, "Trained parameters, the task head included");
    rp_column_add(doc, "% of all", true, "Share of all parameters that is trained");
    rp_column_add(doc, "Adapter file", true, "Size of what has to be stored per task");
    rp_column_add(doc, "Inference, merged (ms)", true,
                  "Median time of one test batch, adapter folded into the weights");
    rp_column_add(doc, "Inference, unmerged (ms)", true,
                  "Median time of one test batch, adapter beside the weights");
}

static void main_table(const rp_chapter *m, rp_doc *doc) {
    rp_word w;
    rp_add_table(doc);
    main_columns(m, doc);
    for (int i = 0; i < m->n_rows; i++) {
        const rp_row *r = &m->rows[i];
        rp_row_add(doc, r->colour);
        rp_cell_add(doc, i, "%s", r->row->label);
        if (i == m->baseline) rp_cell_strong(doc);
        status_cell(r->row, doc);
        leader_cell(doc, i, m->best, r->accuracy.mean, rp_percent(w, r->accuracy));
        rp_cell_add(doc, r->nll.mean, "%s", rp_spread(w, r->nll, 1));
        leader_cell(doc, i, m->fastest, r->step.mean, rp_spread(w, r->step, 1e3));
        rp_cell_add(doc, r->step_ratio, "%s", rp_ratio(w, r->step_ratio));
        rp_cell_add(doc, r->examples.mean, "%s", rp_number(w, r->examples.mean));
        leader_cell(doc, i, m->least, r->peak.mean, rp_number(w, r->peak.mean / 1048576));
        rp_cell_add(doc, r->peak_ratio, "%s", rp_ratio(w, r->peak_ratio));
        rp_cell_add(doc, r->trainable, "%s", rp_count(w, r->trainable));
        rp_cell_add(doc, r->trainable / r->params, "%s",
                    rp_number(w, 100 * r->trainable / r->params));
        rp_cell_add(doc, r->file.mean, "%s", rp_bytes(w, r->file.mean));
        rp_cell_add(doc, r->merged.mean, "%s", rp_number(w, r->merged.mean * 1e3));
        rp_cell_add(doc, r->unmerged.mean, "%s", rp_number(w, r->unmerged.mean * 1e3));
    }
    rp_add(doc, RP_TEXT,
           "Bold: the baseline row and the best of each comparison (head only aside in time and "
           "memory). A dash means "
           "that the "
           "number does not exist for this row: methods that cannot be merged, runs that did not "
           "finish.");
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
           "Numbers are means over the finished seeds; " PM
           " is the sample standard deviation over seeds. It "
           "describes how far the runs lie apart. It is no confidence interval, and no "
           "significance test was "
           "made.");
    rp_add(doc, RP_ITEM,
           "\xe2\x80\x9cWithin the spread\xe2\x80\x9d means: the means differ by no more than the "
           "larger of the "
           "two standard deviations. With few seeds that is a rough guide.");
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

pb_status rp_compose(const rp_chapter *models, int n, const pb_report_options *options,
                     const char *dir, const char *plots_missing, rp_doc *doc) {
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
    for (int i = 0; i < n; i++) {
        chapter(&models[i], n > 1, plots_missing, doc);
        PB_RETURN(rp_compose_details(&models[i], doc));
    }
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
