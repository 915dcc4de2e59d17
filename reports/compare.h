/* Folders of records compared: verdicts as text, Markdown, LaTeX or JSON, and a gate for CI. */
#ifndef PB_REPORTS_COMPARE_H
#define PB_REPORTS_COMPARE_H

#include "results/record.h"

typedef enum pb_compare_format {
    PB_COMPARE_TEXT,
    PB_COMPARE_JSON,
    PB_COMPARE_MARKDOWN,
    PB_COMPARE_LATEX,
    PB_COMPARE_FORMATS
} pb_compare_format;

typedef struct pb_compare_options {
    const char *baseline; /* label or method, also "label [folder]"; NULL = the lora row (without one,
                             the row) that the most others are at parity with */
    const char *rows;     /* labels separated by commas, each of a row: only these take part; NULL = all */
    const char *anchor;   /* label or method of a row in every folder to which the others are
                             related; NULL = none */
    const char *waive;    /* fields of the parity guard, separated by commas; NULL = none */
    const char *fail_on;  /* gates separated by commas, VERDICT:MEASURE[:AMOUNT]; NULL = none, "" or an
                             empty one among them is PB_E_INPUT */
    pb_compare_format format;
} pb_compare_options;

/* Compares the records under one folder, suite by suite, or several folders that hold one suite
 * each: then rows with one label are told apart by "[folder]". Folders whose models, data or
 * machines differ are PB_E_INPUT with record and field, unless that is waived or, for machines, an
 * anchor is named. PB_E_INPUT for an empty folder and for names that are not there.
 *
 * A gate "worse:accuracy:1.0" trips when a row has this verdict against the baseline in this
 * measure by at least the amount (points, nats; per cent for step and memory; 0 when left out), and
 * also when there is no verdict because the rows are not comparable, and when no row was judged at all.
 * PB_E_CHECK with the reasons once everything is written to `out`. */
pb_status pb_compare(const char *const *dirs, int n, const pb_compare_options *options, FILE *out);

#endif
