/* Records into rows and chapters: the same grouping serves plots and reports. A row is one label
 * over its seeds; a chapter is one suite on one model and one data set, the scope in which rows may
 * be compared. */
#ifndef PB_RESULTS_GROUP_H
#define PB_RESULTS_GROUP_H

#include "results/record.h"

/* Over the runs of a row. n = 0: every value is NaN; n = 1: sd is NaN. */
typedef struct pb_stat {
    int n;
    double mean, sd, min, max;
} pb_stat;
pb_stat pb_stat_of(const double *values, int n);

typedef struct pb_row {
    const char *method, *label; /* point into the first record */
    const pb_record **runs;     /* sorted by seed; a run found in two folders is taken once */
    int n_runs, n_ok;
    int order; /* position of the method in the reading order: colours and tables follow it */
    int n_trials, n_trial_runs; /* values that its tuning tried, and their runs; 0 = none in the chapter */
    int n_trials_beyond;        /* of them outside the grid ("extend") */
    double trial_steps;         /* of those runs together, as they were asked for; 0 = unknown */
    double trial_decades;       /* log10 of the highest rate of the grid over its lowest; 0 = unknown */
} pb_row;

typedef struct pb_chapter {
    const char *suite, *model, *dataset; /* model, dataset: names, "" when unknown */
    pb_row *rows; /* trials of a tuning are none of them */
    int n_rows, n_runs, n_ok, n_duplicates;
    pb_row *trials; /* one for each value that a tuning tried, in the order of their rows */
    int n_trials;
} pb_chapter;

/* Rows in reading order: LoRA and its relatives, adapters, full fine-tuning, head only, unknown
 * methods, then by label. The records must outlive the chapters. */
pb_status pb_chapters_make(const pb_record *records, int n, pb_chapter **out, int *n_out);
void pb_chapters_free(pb_chapter *chapters, int n);

/* A folder name for one of n chapters: lower-case letters, digits and '-'; unique by its number. */
void pb_chapter_slug(const pb_chapter *chapter, int index, char slug[64]);

/* Over the ok runs of the row that have the metric. */
pb_stat pb_row_stat(const pb_row *row, const char *tag);
/* Bytes of a memory tag: measured peaks over the ok runs, predictions over all runs that have one.
 */
pb_stat pb_row_memory(const pb_row *row, const char *tag, bool predicted);
/* The first ok run, else the first. */
const pb_record *pb_row_example(const pb_row *row);
bool pb_is_head_only(const char *method);
/* The place of a method in tables and figures; unknown ones come last. */
int pb_reading_order(const char *method);

#endif
