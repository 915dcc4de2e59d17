/* The test split before training beside after it, where it was evaluated (suite key eval.before). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/model.h"

/* Before training all seeds of a language model may say the same: no spread to show. */
static void stat_cell(pb_stat s, rp_doc *doc) {
    rp_word w;
    rp_cell_add(doc, s.mean, "%s",
                s.n && s.min == s.max ? rp_number(w, s.mean) : rp_spread(w, s, 1));
}

void rp_before_table(const rp_chapter *m, rp_doc *doc) {
    static const struct {
        const char *tag, *title;
        bool perplexity;
    } columns[] = {{"quality/test/nll/before", "NLL before (nats)", false},
                   {"quality/test/nll", "NLL after (nats)", false},
                   {"quality/test/perplexity/before", "Perplexity before", true},
                   {"quality/test/perplexity", "Perplexity after", true}};
    enum { N = sizeof columns / sizeof columns[0] };
    bool any = false, perplexity = false;
    for (int i = 0; i < m->n_rows; i++) {
        any = any || pb_row_stat(m->rows[i].row, columns[0].tag).n > 0;
        perplexity = perplexity || pb_row_stat(m->rows[i].row, columns[2].tag).n > 0;
    }
    if (!any) return;
    rp_add(doc, RP_HEADING, "Test data before training and after");
    rp_add(doc, RP_TEXT,
           "Before: the base as the method stores it, the adapter without effect yet. What rows of one language "
           "model differ in there is the rounding of their weights; no seed moves it. The means over seeds, with "
           "their standard deviation.");
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    for (int k = 0; k < N; k++)
        if (perplexity || !columns[k].perplexity) rp_column_add(doc, columns[k].title, true, NULL);
    for (int i = 0; i < m->n_rows; i++) {
        const rp_row *r = &m->rows[i];
        if (pb_row_stat(r->row, columns[0].tag).n == 0) continue;
        rp_row_add(doc, r->colour);
        rp_cell_add(doc, i, "%s", r->row->label);
        for (int k = 0; k < N; k++)
            if (perplexity || !columns[k].perplexity) stat_cell(pb_row_stat(r->row, columns[k].tag), doc);
    }
}
