/* Private to plots/: one figure on its way from a chapter to gnuplot. A builder fills `vars`
 * (assignments the template reads) and `data` (tab-separated blocks) and leaves made false when the
 * records hold nothing to show. */
#ifndef PB_PLOTS_FIGURE_H
#define PB_PLOTS_FIGURE_H

#include "base/text.h"
#include "plots/plots.h"

typedef struct figure {
    pb_figure out;
    const char *template; /* plots/<template>.gp */
    int width, height;
    const pb_row_marks *marks; /* per row of the chapter, or NULL */
    const double *chance;      /* per row shown: a probability for the legend, or NULL */
    pb_text vars, data;
    bool made;
} figure;

typedef pb_status (*figure_build)(const pb_chapter *chapter, int which, figure *f);

pb_status pb_build_accuracy_memory(const pb_chapter *c, int which, figure *f);
pb_status pb_build_accuracy_time(const pb_chapter *c, int which, figure *f);
pb_status pb_build_loss_curves(const pb_chapter *c, int which, figure *f);
pb_status pb_build_memory_by_purpose(const pb_chapter *c, int which, figure *f);
pb_status pb_build_time_by_phase(const pb_chapter *c, int which, figure *f);
/* What a tuning tried: validation loss against learning rate. */
pb_status pb_build_lr_curves(const pb_chapter *c, int which, figure *f);
/* Rows of one label at several numbers of training examples; which 0: accuracy, 1: the gap between test and
 * training loss, 2: the upturn of the validation loss. */
pb_status pb_build_quality_examples(const pb_chapter *c, int which, figure *f);
/* which 0: against LoRA merged, 1: against LoRA unmerged. */
pb_status pb_build_latency_shapes(const pb_chapter *c, int which, figure *f);
/* Rows evaluated at several ranks, LoRA cut to fewer components, and one training for each rank. */
pb_status pb_build_dylora_rank(const pb_chapter *c, int which, figure *f);
pb_status pb_build_time_by_part(const pb_chapter *c, int which, figure *f);
/* which = the n-th row with a profile beside the first LoRA row. */
pb_status pb_build_waterfall(const pb_chapter *c, int which, figure *f);
pb_status pb_build_roofline(const pb_chapter *c, int which, figure *f);
/* which = the n-th row that reports ranks. */
pb_status pb_build_rank_map(const pb_chapter *c, int which, figure *f);

pb_status pb_build_budget_map(const pb_budget_map *map, figure *f);

/* A gnuplot string in single quotes: no escape, variable or command is expanded in it. */
void pb_gp_quote(pb_text *t, const char *s);
/* Starts an array of strings; elements follow by pb_gp_item. */
void pb_gp_array(pb_text *t, const char *name, int n);
void pb_gp_item(pb_text *t, const char *name, int index, const char *s);
/* A label cut to `max` characters with an ellipsis. */
void pb_short_label(char out[128], const char *label, int max);
/* Characters, not bytes. */
int pb_text_width(const char *s);
/* Rows that take part in a figure: N, colours and point types for the template, and the legend. */
void pb_figure_rows(figure *f, const pb_chapter *c, const int *rows, int n, bool front);
/* Position of a row for point types and colours: rows with results first. */
int pb_row_number(const pb_chapter *chapter, int row);
/* gnuplot's point type of a row. */
int pb_row_point(const pb_chapter *c, int row);
/* What bars of one standard deviation stand for, or that there are none. */
const char *pb_spread_words(const pb_chapter *c);
/* Adds the legend below the figure (n = 0: none) and makes room for it. points: gnuplot's point
 * types. */
void pb_figure_legend(figure *f, const char *const *names, const unsigned *colours,
                      const int *points, int n);
void pb_figure_caption(figure *f, const char *name, const char *title, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
