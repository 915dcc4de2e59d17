/* Forward passes over batch x length, as tables: rows that were timed at several shapes, with the adapter folded
 * into the weights and beside them; times, and what they are multiples of (shapes_ratio.c). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/shapes.h"

const char *const rp_shape_forms[] = {"merged", "unmerged"};

/* Those of all rows, in the order of the records. */
static int shapes_of(const rp_view *v, rp_shape_name shapes[RP_MOST_SHAPES]) {
    const char *start = "time/infer/unmerged/median@shape=";
    int n = 0;
    for (int i = 0; i < v->c->n; i++) {
        const pb_record *r = pb_row_example(v->c->entries[i].row);
        for (int k = 0; k < r->n_metrics; k++) {
            int at = 0;
            if (strncmp(r->metrics[k].tag, start, strlen(start)) != 0) continue;
            const char *shape = r->metrics[k].tag + strlen(start);
            while (at < n && strcmp(shapes[at], shape) != 0) at++;
            if (at == n && n < RP_MOST_SHAPES) n += pb_copy(shapes[n], sizeof shapes[n], shape);
        }
    }
    return n;
}

static void start_table(rp_doc *doc) {
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    rp_column_add(doc, "Adapter", false, "Folded into the weights (merged) or beside them");
}

static void columns(const rp_shapes *s, const char *unit, const char *hint, rp_doc *doc) {
    for (int k = 0; k < s->n_shapes; k++) {
        char title[48];
        snprintf(title, sizeof title, "%.23s%s", s->shapes[k], unit);
        rp_column_add(doc, title, true, hint);
    }
}

static void start_row(const rp_view *v, const rp_shape_line *l, rp_doc *doc) {
    rp_row_add(doc, v->colours ? v->colours[l->row] : 0);
    rp_cell_add(doc, l->row, "%s", v->c->entries[l->row].name);
    if (l->is_reference) rp_cell_strong(doc);
    rp_cell_add(doc, l->form, "%s", rp_shape_forms[l->form]);
}

static void time_cell(const pb_ratio *t, rp_doc *doc) {
    rp_word w;
    pb_estimate e = {.n_seeds = t->n, .mean = t->ratio, .interval = t->interval};
    rp_cell_add(doc, t->n ? t->ratio : NAN, "%s", rp_estimate(w, &pb_measures[PB_UNMERGED], &e));
}

static void ratio_cell(const rp_shape_ratio *r, rp_doc *doc) {
    rp_word w;
    if (!r->ratio.n) {
        rp_cell_add(doc, NAN, DASH);
        return;
    }
    rp_cell_add(doc, r->ratio.ratio, "%s", rp_shape_words(w, &r->ratio));
    if (rp_is_apart(r)) rp_cell_strong(doc);
}

static void ratio_table(const rp_view *v, const rp_shapes *s, rp_doc *doc) {
    rp_add(doc, RP_SUBHEADING, "Forward passes as multiples of %s", s->reference);
    start_table(doc);
    rp_column_add(doc, "All shapes", true, "Geometric mean over the shapes, process by process");
    columns(s, "", "Process by process, median over median", doc);
    for (int i = 0; i < s->n_lines; i++) {
        const rp_shape_line *l = &s->lines[i];
        if (l->is_reference || !l->all.ratio.n) continue;
        start_row(v, l, doc);
        ratio_cell(&l->all, doc);
        for (int k = 0; k < s->n_shapes; k++) ratio_cell(&l->at[k], doc);
    }
    rp_add(doc, RP_TEXT,
           "Geometric means over the processes of the ratios within each, with their 95 %% interval (Student's t on "
           "the log scale). Bold: apart from 1 by p of at most 0.05 after Holm's correction, over all shapes of this "
           "table, in the first column over its rows. One process gives no interval.");
}

bool rp_shapes_table(const rp_view *v, rp_doc *doc) {
    rp_shapes s;
    if (!rp_shapes_make(v, &s)) {
        doc->failed = doc->failed || s.failed;
        return false;
    }
    rp_add(doc, RP_SUBHEADING, "Forward passes over batch " TIMES " length");
    start_table(doc);
    columns(&s, " (ms)", "Sequences x tokens of each: median over the passes", doc);
    for (int i = 0; i < s.n_lines; i++) {
        start_row(v, &s.lines[i], doc);
        for (int k = 0; k < s.n_shapes; k++) time_cell(&s.lines[i].time[k], doc);
    }
    rp_add(doc, RP_TEXT,
           "Geometric means over the processes, each of which places everything elsewhere in memory, with their 95 %% "
           "interval.");
    if (*s.reference) ratio_table(v, &s, doc);
    rp_shapes_free(&s);
    return true;
}

bool rp_shapes_present(const rp_view *v) {
    rp_shape_name shapes[RP_MOST_SHAPES];
    return shapes_of(v, shapes) > 0;
}

bool rp_shapes_make(const rp_view *v, rp_shapes *s) {
    *s = (rp_shapes){0};
    s->n_shapes = shapes_of(v, s->shapes);
    if (!s->n_shapes) return false;
    if (rp_shapes_compare(v, s)) return true;
    rp_shapes_free(s);
    s->failed = true;
    return false;
}

void rp_shapes_free(rp_shapes *s) {
    free(s->lines);
    s->lines = NULL;
    s->n_lines = 0;
}
