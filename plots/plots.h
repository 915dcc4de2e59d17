/* Plots from records through gnuplot: one template plots/<name>.gp per figure, data written by the
 * driver. */
#ifndef PB_PLOTS_PLOTS_H
#define PB_PLOTS_PLOTS_H

#include "results/group.h"
#include "results/record.h"

typedef struct pb_figure {
    char name[48];           /* "accuracy_memory" */
    char title[96];          /* for the report's caption */
    char caption[320];       /* how to read it, one or two sentences */
    char svg[256], png[256]; /* paths relative to the output folder; "" when not made */
} pb_figure;

/* What is known of a chapter's row beyond its records' means, for figures of accuracy against cost:
 * the ends of intervals in the records' units and the probability to be on the front. NaN where
 * unknown. Rows of one front_class share a front; -1 = the row is on none. */
typedef struct pb_row_marks {
    double accuracy[2], step[2], memory[2], gap[2], upturn[2];
    double front_step, front_memory;
    int front_class;
    bool untrained; /* too few steps for its quality to be shown */
} pb_row_marks;
/* Fills marks[0..n_rows-1] for the rows of a chapter. */
typedef pb_status (*pb_marker)(const pb_chapter *chapter, pb_row_marks *marks);

/* PB_E_ENV when gnuplot is missing (message says the apt line). */
pb_status pb_plots_available(void);

/* Draws every figure that the records have data for into out_dir (SVG and PNG) and lists them.
 * figures: malloc'ed. Records need their samples for the curves. Several chapters (results/group.h)
 * go to one folder each below out_dir. PB_E_ENV when gnuplot or the templates are missing or
 * gnuplot fails (with its first line). marker: NULL = bars are standard deviations over seeds. */
pb_status pb_plots_draw(const pb_record *records, int n, pb_marker marker, const char *out_dir,
                        pb_figure **figures, int *n_figures);
/* The same for one chapter, straight into out_dir. marks: one per row of the chapter, or NULL. */
pb_status pb_plots_draw_chapter(const pb_chapter *chapter, const pb_row_marks *marks,
                                const char *out_dir, pb_figure **figures, int *n_figures);

/* The method that wins at each memory (columns) and model (rows, from below); cells row by row. */
typedef struct pb_map_cell {
    char method[32], title[32], note[32]; /* method "" = nothing fits; note: what it needs, or "" */
} pb_map_cell;
typedef struct pb_budget_map {
    const char *title;
    const char *const *rows, *const *columns;
    int n_rows, n_columns;
    const pb_map_cell *cells;
} pb_budget_map;
/* budget_map.svg and .png in out_dir. Errors as above. */
pb_status pb_plots_draw_map(const pb_budget_map *map, const char *out_dir, pb_figure *figure);

/* The colour of a method by its registered name; grey when it has none. */
unsigned pb_method_colour(const char *method);
/* The colour of a row in every figure, as 0xRRGGBB: one per method, distinct also for colour-blind
 * readers; further rows of a method take free colours. */
unsigned pb_row_colour(const pb_chapter *chapter, int row);

#endif
