/* Equal-budget tuning: every row of a suite gets the same number of trials on the validation split
 * alone; then the final comparison runs with fresh seeds at the chosen values, and only that touches
 * the test split. Grammar and rules: harness/suites/README.md, "Tuning". */
#ifndef PB_HARNESS_TUNE_H
#define PB_HARNESS_TUNE_H

#include "harness/runner.h"
#include "results/tuning.h"

#define PB_TUNE_RUNGS 3 /* of halving: a quarter, half and all of the training */

/* How often the training of a trial at this rung is shorter: 4, 2, 1. A grid has the last one only. */
int64_t pb_tune_divisor(int rung);
/* How many trials grid or halving take before anything is left for extension and refinement. */
int64_t pb_tune_base_trials(pb_tune_strategy strategy, int64_t values);

/* One trial as a run. rank: index into row->rank, -1 = the row's own. `why` as in results/tuning.h. */
void pb_tune_trial_run(const pb_suite *suite, const pb_tune_row *row, double lr, int rank, int rung,
                       int trial, const char *why, uint64_t seed, pb_run_config *out);
/* A run of the final comparison. */
void pb_tune_final_run(const pb_suite *suite, const pb_tune_row *row, double lr, int rank,
                       uint64_t seed, pb_run_config *out);

/* What a row does next with what its trials have shown; pure, so that a killed suite takes the same
 * path again. The values of the next round are added to row->trials with mean NaN; none are added
 * when the budget is spent. `row->trials` holds the earlier rounds with their means (infinite where a
 * run diverged or failed). */
pb_status pb_tune_next(const pb_tune *tune, const pb_tune_row *spec, pb_tuning_row *row);

/* Runs trials, writes OUT/SUITE/tuning.json, runs the finals. Summaries of all rounds are added up.
 * As pb_runner_run otherwise. */
pb_status pb_tune_run(const pb_suite *suite, const pb_runner_options *options,
                      pb_runner_summary *out);

#endif
