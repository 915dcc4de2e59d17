/* Rows of a comparison made in memory, settings and values as a test wants them. */
#ifndef PB_TESTS_MADE_ROWS_H
#define PB_TESTS_MADE_ROWS_H

#include "results/group.h"

#define MADE_SEEDS 8

typedef struct made_row {
    pb_row row;
    pb_record records[MADE_SEEDS];
    const pb_record *runs[MADE_SEEDS];
} made_row;

/* A row of `seeds` finished runs, seeds 1, 2, ... The configuration is that of a usual run with
 * method and params (JSON text) put in; `changes` (JSON text or NULL) replaces members of its top
 * level, or, where both are objects, members of that object. */
void made_row_make(made_row *r, const char *method, const char *label, int seeds,
                   const char *params, const char *changes);
/* The same changes to `environment` of every run. */
void made_row_environment(made_row *r, const char *changes);
void made_row_free(made_row *r);

/* Values of run s: n test examples around `nll`, each example with its own offset, the run with
 * `shift`, noise of `noise`; correct with probability falling with the loss. */
void made_row_values(made_row *r, int s, int n, double nll, double shift, double noise);
void made_row_cost(made_row *r, int s, double step_s, double bytes);

#endif
