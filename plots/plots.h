/* Plots from records through gnuplot: one template plots/<name>.gp per figure, data written by the driver. */
#ifndef PB_PLOTS_PLOTS_H
#define PB_PLOTS_PLOTS_H

#include "results/record.h"

typedef struct pb_figure {
    char name[48];  /* "accuracy_memory" */
    char title[96]; /* for the report's caption */
    char svg[256], png[256]; /* paths relative to the output folder; "" when not made */
} pb_figure;

/* PB_E_ENV when gnuplot is missing (message says the apt line). */
pb_status pb_plots_available(void);

/* Draws every figure that the records have data for into out_dir (SVG and PNG) and lists them. figures: malloc'ed. */
pb_status pb_plots_draw(const pb_record *records, int n, const char *out_dir, pb_figure **figures, int *n_figures);

#endif
