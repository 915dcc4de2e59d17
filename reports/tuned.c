/* What a tuning tried and chose, as a table and as warnings. Everything is taken from the records of the
 * trials and of the runs at the chosen values. */
#include <math.h>
#include <string.h>

#include "reports/model.h"

/* The tuning of a row: where it ended. */
typedef struct tuned {
    const pb_json *choice; /* of the runs at the chosen value; NULL = the row was not tuned */
    double lr, low, high;  /* chosen, and the ends of what was tried; NaN = unknown */
    double rank;           /* chosen; NaN = not tuned */
    int trials, runs, bad; /* bad: trials with a run that did not end well */
    pb_stat nll;           /* validation loss of the chosen trial over its seeds */
} tuned;

static tuned tuning_of(const rp_chapter *m, const pb_row *row) {
    const pb_record *final = pb_row_example(row);
    tuned t = {.lr = NAN, .low = NAN, .high = NAN, .rank = NAN};
    if (strcmp(final->phase, "final") != 0) return t;
    t.choice = final->tuning;
    t.lr = pb_json_number(t.choice, "lr");
    t.rank = pb_json_number(t.choice, "rank");
    for (int i = 0; i < m->c->n_trials; i++) {
        const pb_row *trial = &m->c->trials[i];
        const pb_json *tuning = trial->runs[0]->tuning;
        double lr = pb_json_number(tuning, "lr");
        if (strcmp(pb_json_text(tuning, "row"), row->label) != 0) continue;
        t.trials++;
        t.runs += trial->n_runs;
        t.bad += trial->n_ok < trial->n_runs;
        t.low = fmin(lr, t.low);
        t.high = fmax(lr, t.high);
        if (pb_json_number(tuning, "trial") == pb_json_number(t.choice, "trial"))
            t.nll = pb_row_stat(trial, "quality/valid/nll");
    }
    return t;
}

static const char *edge_word(const tuned *t) {
    static const char *const words[][2] = {{"none", "no"},
                                           {"low", "the lowest tried"},
                                           {"high", "the highest tried"},
                                           {"cliff", "the highest that trains"}};
    const char *edge = pb_json_text(t->choice, "edge");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(words[i][0], edge) == 0) return words[i][1];
    return *edge ? edge : DASH;
}

static bool is_edge(const tuned *t) {
    const char *edge = pb_json_text(t->choice, "edge");
    return *edge && strcmp(edge, "none") != 0;
}

static void row_of(const rp_row *r, const tuned *t, bool ranks, rp_doc *doc) {
    rp_word a, b;
    rp_row_add(doc, r->colour);
    rp_cell_add(doc, NAN, "%s", r->row->label);
    if (!t->trials)
        rp_cell_add(doc, NAN, DASH);
    else if (t->bad)
        rp_cell_add(doc, t->trials, "%d (%d did not end well)", t->trials, t->bad);
    else
        rp_cell_add(doc, t->trials, "%d", t->trials);
    if (t->trials)
        rp_cell_add(doc, t->low, "%s to %s", rp_word_set(a, "%.3g", t->low), rp_word_set(b, "%.3g", t->high));
    else
        rp_cell_add(doc, NAN, DASH);
    rp_cell_add(doc, t->lr, "%s", isnan(t->lr) ? DASH : rp_word_set(a, "%.3g", t->lr));
    if (ranks) rp_cell_add(doc, t->rank, "%s", isnan(t->rank) ? DASH : rp_word_set(a, "%.0f", t->rank));
    rp_cell_add(doc, t->nll.n ? t->nll.mean : NAN, "%s", rp_spread(a, t->nll, 1));
    rp_cell_add(doc, is_edge(t), "%s", edge_word(t));
    if (is_edge(t)) rp_cell_strong(doc);
}

void rp_tuning_table(const rp_chapter *m, rp_doc *doc) {
    bool any = false, ranks = false;
    int runs = 0, trials = 0;
    for (int i = 0; i < m->n_rows; i++) {
        tuned t = tuning_of(m, m->rows[i].row);
        any = any || t.choice;
        ranks = ranks || !isnan(t.rank);
        runs += t.runs;
        trials += t.trials;
    }
    if (!any) return;
    rp_add(doc, RP_HEADING, "Tuning");
    rp_add(doc, RP_TEXT,
           "Learning rates were chosen on the validation data, by the loss at the end of a trial, before any "
           "test data were touched: %d trials in %d runs. A choice at the edge of what was tried may leave a "
           "better one beyond it.",
           trials, runs);
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    rp_column_add(doc, "Trials", true, "Values tried, each on all seeds of the tuning");
    rp_column_add(doc, "Learning rates tried", true, NULL);
    rp_column_add(doc, "Chosen", true, "Learning rate of the runs that are compared");
    if (ranks) rp_column_add(doc, "Chosen rank", true, NULL);
    rp_column_add(doc, "Validation NLL (nats)", true, "Of the chosen trial, mean over the tuning's seeds");
    rp_column_add(doc, "At the edge", false, "Is the chosen rate an end of what was tried, or of what trains?");
    for (int i = 0; i < m->n_rows; i++) {
        tuned t = tuning_of(m, m->rows[i].row);
        if (t.choice) row_of(&m->rows[i], &t, ranks, doc);
    }
}

int rp_tuning_warnings(const rp_chapter *m, rp_doc *doc) {
    int said = 0;
    for (int i = 0; i < m->n_rows; i++) {
        const pb_row *row = m->rows[i].row;
        tuned t = tuning_of(m, row);
        rp_word lr;
        if (!t.choice || !is_edge(&t)) continue;
        bool cliff = strcmp(pb_json_text(t.choice, "edge"), "cliff") == 0;
        rp_add(doc, RP_ITEM,
               "%s: its learning rate %s is %s; a better one may lie %s, so its quality may be understated.",
               row->label, rp_word_set(lr, "%.3g", t.lr), edge_word(&t),
               cliff ? "between it and the next one tried" : "beyond");
        said++;
    }
    return said;
}
