/* The choice behind a tuned comparison: OUT/SUITE/tuning.json beside the runs. It names every trial
 * with its runs, so that everything in it can be derived again from the records. Format:
 * results/SCHEMA.md, "tuning.json". */
#ifndef PB_RESULTS_TUNING_H
#define PB_RESULTS_TUNING_H

#include "results/record.h"

#define PB_TUNING_FILE "tuning.json"
#define PB_TUNING_CRITERION "quality/valid/nll" /* the mean over the tuning seeds; lower is better */
#define PB_TUNING_MAX_SEEDS 16

typedef struct pb_tuning_trial {
    double lr;
    int64_t rank;    /* 0 = the row's own parameters */
    int64_t divisor; /* of the training length: 1 = all of it */
    char why[12];    /* "grid", "extend", "refine" */
    int n_runs;      /* one per tuning seed */
    char run[PB_TUNING_MAX_SEEDS][PB_RUN_ID];
    double nll[PB_TUNING_MAX_SEEDS]; /* infinite: the run diverged or failed */
    double mean;                     /* infinite when one of them is */
} pb_tuning_trial;

typedef struct pb_tuning_row {
    char label[64], method[32];
    pb_tuning_trial *trials; /* in the order they were made */
    int n_trials;
    int chosen;    /* index; -1: no trial at full length ended well */
    double chance; /* as the tuning's */
    /* Of the chosen rate among those at its rank: "low" or "high", the end of what was tried; "cliff",
     * the highest that trains, for the next one above does not; or "none". */
    char edge[8];
} pb_tuning_row;

typedef struct pb_tuning {
    char suite[64], strategy[16];
    int64_t trials; /* of every row */
    double chance;  /* loss at chance level, nats; 0 = the task has none, or the file does not say */
    uint64_t seeds[PB_TUNING_MAX_SEEDS];
    int n_seeds;
    pb_tuning_row *rows;
    int n_rows;
} pb_tuning;

/* mean of every trial, chosen and edge from nll and chance alone. The best mean among the trials of
 * full length; of equal ones the smaller rate, then the smaller rank. A rate does not train when it
 * diverged, or when at full length it lost more than PB_TUNING_LOST of what the chosen one is better
 * than chance level. */
void pb_tuning_choose(pb_tuning_row *row);
#define PB_TUNING_LOST 0.9

/* The trial at the nearest rate above (or below) lr at this rank, the longest training of it; NULL when
 * there is none. */
const pb_tuning_trial *pb_tuning_neighbour(const pb_tuning_row *row, double lr, int64_t rank,
                                           bool above);

/* Reads a tuning.json. PB_E_INPUT names file, place and what was expected. */
pb_status pb_tuning_read(const char *path, pb_tuning *out);
/* Atomic. The same tuning gives the same bytes. */
pb_status pb_tuning_write(const pb_tuning *t, const char *path);
void pb_tuning_free(pb_tuning *t);
/* One more trial at the end of a row; NULL when memory ran out. */
pb_tuning_trial *pb_tuning_add(pb_tuning_row *row);

/* Every tuning.json under dir against the records beside it: each run is a trial of this row at this
 * value, its loss is the record's, means, choice and edge follow, finals use the chosen value, no
 * trial has a test metric. One line per finding; *n_bad counts files with findings. */
pb_status pb_tuning_verify(const char *dir, FILE *out, int *n_bad);

#endif
