/* Reports from records alone: report.html (self-contained), report.md, report.tex (the tables of
 * the comparison, for booktabs), summary.csv. */
#ifndef PB_REPORTS_REPORT_H
#define PB_REPORTS_REPORT_H

#include "plots/plots.h"
#include "results/record.h"

typedef struct pb_report_options {
    const char *out_dir;  /* NULL = the records' folder */
    const char *baseline; /* label or method of the row others are compared with; NULL = the lora row (without
                             one, the row) that the most others are at parity with */
    const char *waive;   /* fields of the parity guard to waive, separated by commas; NULL = none */
    const char *command; /* how the reader can make it again */
} pb_report_options;

/* Writes the report of all records under dir, plots included when gnuplot is there; without it the
 * report says so and *no_plots becomes true. Paths of what was written go to `log`, one per line.
 */
pb_status pb_report_write(const char *dir, const pb_report_options *options, FILE *log,
                          bool *no_plots);

/* The pb_marker of plots: intervals and probabilities of the rows as the report has them. */
pb_status pb_report_marks(const pb_chapter *chapter, pb_row_marks *marks);

#endif
