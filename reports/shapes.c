/* Forward passes over batch x length, as a table: rows that were timed at several shapes, with the
 * adapter folded into the weights and beside them. Described, not judged: a row of a latency suite is
 * one run. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reports/verdicts.h"

#define TIMES "\xc3\x97"
#define DASH "\xe2\x80\x93"

enum { MOST_SHAPES = 16 };
static const char *const forms[] = {"merged", "unmerged"};
typedef char shape_name[24]; /* "8x128" */

static void tag_of(const char *form, const char *shape, char tag[96]) {
    snprintf(tag, 96, "time/infer/%s/median@shape=%.23s", form, shape);
}

/* Those of all rows, in the order of the records. */
static int shapes_of(const rp_view *v, shape_name shapes[MOST_SHAPES]) {
    const char *start = "time/infer/unmerged/median@shape=";
    int n = 0;
    for (int i = 0; i < v->c->n; i++) {
        const pb_record *r = pb_row_example(v->c->entries[i].row);
        for (int k = 0; k < r->n_metrics; k++) {
            int at = 0;
            if (strncmp(r->metrics[k].tag, start, strlen(start)) != 0) continue;
            const char *shape = r->metrics[k].tag + strlen(start);
            while (at < n && strcmp(shapes[at], shape) != 0) at++;
            if (at == n && n < MOST_SHAPES) n += pb_copy(shapes[n], sizeof shapes[n], shape);
        }
    }
    return n;
}

static pb_stat time_of(const rp_view *v, int row, const char *form, const char *shape) {
    char tag[96];
    tag_of(form, shape, tag);
    return pb_row_stat(v->c->entries[row].row, tag);
}

static bool has_form(const rp_view *v, int row, const char *form, shape_name *shapes, int n) {
    for (int s = 0; s < n; s++)
        if (time_of(v, row, form, shapes[s]).n) return true;
    return false;
}

static void time_cell(pb_stat t, pb_stat base, rp_doc *doc) {
    rp_word a, b;
    if (!t.n)
        rp_cell_add(doc, NAN, DASH);
    else if (!base.n)
        rp_cell_add(doc, t.mean, "%s", rp_number(a, t.mean * 1e3));
    else
        rp_cell_add(doc, t.mean, "%s (%s)", rp_number(a, t.mean * 1e3),
                    rp_ratio(b, t.mean / base.mean));
}

bool rp_shapes_table(const rp_view *v, rp_doc *doc) {
    shape_name shapes[MOST_SHAPES];
    int n = shapes_of(v, shapes), base = v->c->baseline;
    if (!n) return false;
    bool merged = base >= 0 && has_form(v, base, forms[0], shapes, n);
    rp_add(doc, RP_SUBHEADING, "Forward passes over batch " TIMES " length");
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    rp_column_add(doc, "Adapter", false, "Folded into the weights (merged) or beside them");
    for (int s = 0; s < n; s++) {
        char title[48];
        snprintf(title, sizeof title, "%.23s (ms)", shapes[s]);
        rp_column_add(doc, title, true, "Sequences x tokens of each: median over the passes");
    }
    for (int i = 0; i < v->c->n; i++)
        for (int f = 0; f < 2; f++) {
            if (!has_form(v, i, forms[f], shapes, n)) continue;
            rp_row_add(doc, v->colours ? v->colours[i] : 0);
            rp_cell_add(doc, i, "%s", v->c->entries[i].name);
            if (i == base && merged == (f == 0)) rp_cell_strong(doc);
            rp_cell_add(doc, f, "%s", forms[f]);
            for (int s = 0; s < n; s++)
                time_cell(time_of(v, i, forms[f], shapes[s]),
                          base < 0 ? (pb_stat){0} : time_of(v, base, forms[!merged], shapes[s]),
                          doc);
        }
    if (base >= 0)
        rp_add(doc, RP_TEXT,
               "Means over the runs; in brackets the multiple of %s, %s. These are descriptions: a "
               "verdict needs several runs.",
               v->c->entries[base].name, forms[!merged]);
    return true;
}
