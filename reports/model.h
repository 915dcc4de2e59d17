/* Private to reports/: what the report knows about a chapter, computed from its records and nothing
 * else. */
#ifndef PB_REPORTS_MODEL_H
#define PB_REPORTS_MODEL_H

#include "plots/plots.h"
#include "reports/doc.h"
#include "reports/report.h"
#include "reports/verdicts.h"
#include "results/group.h"

typedef struct rp_row {
    const pb_row *row;
    unsigned colour;
    pb_stat accuracy, nll, step, forward, backward, optimizer, examples, tokens, total, peak, rss,
        file;
    pb_mean gap, upturn;      /* with intervals over seeds: test less training NLL; rise of the validation loss above its least */
    double epochs;            /* training examples seen of those there are; NaN when unknown */
    double trainable, params; /* NaN when unknown */
    bool head;
} rp_row;

typedef struct rp_chapter {
    const pb_chapter *c;
    rp_row *rows;
    int n_rows;
    int baseline, best, fastest, least; /* rows, -1 when there is none; head-only rows compete in
                                           quality alone; best: by NLL, else by accuracy */
    pb_entry *entries;                  /* of the comparison: the rows in their order */
    unsigned *colours;
    pb_comparison comparison;
    pb_row_marks *marks; /* of the comparison, by the chapter's order of rows */
    const pb_waivers *waivers;
    double majority;
    int classes;          /* 0 when unknown */
    bool tokens;          /* no classification: quality is counted over target tokens */
    double cut, examples; /* examples cut to the length limit, of how many; 0 when unknown */
    pb_figure *figures;
    int n_figures;
    char figure_path[96]; /* "plots/" */
} rp_chapter;

/* baseline: label or method, NULL = PB_BASELINE_AUTO. PB_E_INPUT when none of the chapters has what was
 * asked for. waivers must outlive the models. */
pb_status rp_models_make(const pb_chapter *chapters, int n, const char *baseline,
                         const pb_waivers *waivers, rp_chapter **out);
void rp_models_free(rp_chapter *models, int n);
rp_view rp_view_of(const rp_chapter *m);

/* path = value lines of a JSON tree; free with rp_flat_free. */
typedef struct rp_flat {
    char *path, *value;
} rp_flat;
pb_status rp_flatten(const pb_json *json, rp_flat **out, int *n);
void rp_flat_free(rp_flat *flat, int n);
const char *rp_flat_find(const rp_flat *flat, int n, const char *path); /* NULL when absent */

/* Everything the report says about the chapters, in order. claims: what `claims check` found in the folder,
 * NULL = nothing; the report then opens with it. */
pb_status rp_compose(const rp_chapter *models, int n, const pb_json *claims,
                     const pb_report_options *options, const char *dir, const char *plots_missing,
                     rp_doc *doc);
/* Answer, table and method of each comparison alone, without figures and details. */
pb_status rp_compose_tables(const rp_chapter *models, int n, const pb_json *claims, rp_doc *doc);
pb_status rp_compose_details(const rp_chapter *m, rp_doc *doc);
/* What was tried and chosen; nothing when no row was tuned. Warnings: one for each choice at an edge, and
 * their number. (tuned.c) */
void rp_tuning_table(const rp_chapter *m, rp_doc *doc);
/* before.c: nothing where the test split was not evaluated before training */
void rp_before_table(const rp_chapter *m, rp_doc *doc);
int rp_tuning_warnings(const rp_chapter *m, rp_doc *doc);
/* Nothing when no record holds a profile. */
pb_status rp_compose_profile(const rp_chapter *m, rp_doc *doc);
pb_status rp_render_csv(const pb_record *records, int n, pb_text *out);

#endif
