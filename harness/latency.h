/* Latency of the forward pass over batch x length, on random tokens, without training: what an adapter
 * costs at inference beside LoRA merged and unmerged. One record for a row and seed; every row's models are open at
 * once and take turns, so that whatever the machine does hits all alike. */
#ifndef PB_HARNESS_LATENCY_H
#define PB_HARNESS_LATENCY_H

#include "harness/runner.h"

/* Runs a latency suite, every seed in a process of its own, and writes the records that are missing. As
 * pb_runner_run otherwise. */
pb_status pb_latency_run(const pb_suite *suite, const pb_runner_options *options,
                         pb_runner_summary *out);

/* The identity of a row's record: model, method, precision and the grid. Free with pb_json_free. */
pb_status pb_latency_config(const pb_suite *suite, const pb_run_config *run, const char *model_sha,
                            pb_json **out);

#endif
