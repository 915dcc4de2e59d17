/* Private to reports/: a comparison in words and tables. Whatever shows verdicts (report, compare)
 * takes them from here. */
#ifndef PB_REPORTS_VERDICTS_H
#define PB_REPORTS_VERDICTS_H

#include "reports/comparison.h"
#include "reports/doc.h"

/* What the words need to know besides the verdicts. */
typedef struct rp_view {
    const pb_comparison *c;
    const unsigned *colours; /* per entry, NULL = none */
    const pb_waivers *waivers;
    bool tokens;        /* accuracy counts target tokens */
    bool anchored;      /* everything is relative to an anchor */
    const char *anchor; /* its name, when anchored */
} rp_view;

/* The answer in plain sentences, as items: whether the seeds are too few, what was waived, who cannot
 * be told apart from the baseline and what would have shown, who is better or worse by how much and at
 * what price in training and inference, what was not compared and why, who forgets more, who is on the
 * front. */
void rp_answer(const rp_view *v, rp_doc *doc);
/* Rows with intervals, shared ranks and verdicts against the baseline: training, then inference and
 * forgetting. Measures that no row has are left out. */
void rp_comparison_table(const rp_view *v, rp_doc *doc);
bool rp_shapes_present(const rp_view *v); /* was any row timed over batch x length? */
/* Forward passes over batch x length, where records hold them: the answer as items, each row's ratio to the baseline
 * merged (or to the base model) with its interval over the processes (shapes_answer.c); */
void rp_shapes_answer(const rp_view *v, rp_doc *doc);
/* and as tables of times and ratios (shapes.c); false when no record holds them. */
bool rp_shapes_table(const rp_view *v, rp_doc *doc);
/* Every pair in every measure: with the baseline in the open, the others folded. */
void rp_verdict_tables(const rp_view *v, rp_doc *doc);
/* Seeds, intervals, tests, corrections, waivers: as items. */
void rp_how(const rp_view *v, rp_doc *doc);

/* "0.088 nats", "2.6 points", "1.14×" (ratios). */
const char *rp_amount(rp_word out, const pb_measure *m, double value);
/* "0.981 (0.932–1.03)": mean and interval in the unit of tables (nats, %, ms, MiB). */
const char *rp_estimate(rp_word out, const pb_measure *m, const pb_estimate *e);

#endif
