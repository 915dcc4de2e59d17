/* Running a suite of any kind: trainings, a tuning with its final comparison, latencies. */
#ifndef PB_HARNESS_SUITE_RUN_H
#define PB_HARNESS_SUITE_RUN_H

#include "harness/runner.h"

/* As pb_runner_run. A collection has no runs of its own and is the caller's to walk. */
pb_status pb_suite_execute(const pb_suite *suite, const pb_runner_options *options,
                           pb_runner_summary *out);

#endif
