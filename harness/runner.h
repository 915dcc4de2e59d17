/* Runs a suite: every run in its own child process, each result a record, whatever happens to the
 * child.
 *
 * The parent loads models and data once (no thread may start there: an OpenMP region before fork
 * hangs in the child) and forks; the child trains and writes its record; a child that ends without
 * one gets a record from the parent (failed or oom, with the signal's name). Runs that have a
 * record with status ok or diverged are finished and skipped; others are repeated, so a killed
 * suite goes on where it was. Several processes may work on one results folder: a claim file per
 * run names its owner, and the claim of a dead owner is taken over. */
#ifndef PB_HARNESS_RUNNER_H
#define PB_HARNESS_RUNNER_H

#include "harness/assets.h"
#include "harness/trainer.h"

/* Loaded once per distinct (model, data, limits) of a suite. */
typedef struct pb_asset_cache {
    pb_assets *items;
    const pb_run_config **loaded_for;
    int n;
} pb_asset_cache;
pb_status pb_asset_cache_load(const pb_suite *suite, pb_asset_cache *out);
const pb_assets *pb_asset_cache_find(const pb_asset_cache *cache,
                                     const pb_run_config *run); /* NULL when absent */
void pb_asset_cache_free(pb_asset_cache *cache);

/* Set-up and a step of every row on a plan device: PB_E_INPUT, with the suite's file and the row,
 * for what every one of its runs would refuse (weights that do not fit their configuration, a rank
 * above its matrix, a target that matches nothing, a task that the model cannot learn). Whatever
 * else may happen is left to the runs (a row with nothing to train on this model is a failed row).
 * Starts no thread. */
pb_status pb_suite_rehearse(const pb_suite *suite, const pb_asset_cache *cache, int threads);

typedef pb_status (*pb_run_function)(const pb_run_config *run, const pb_assets *assets,
                                     const pb_run_options *options, pb_record *record);

typedef struct pb_runner_options {
    const char *out_dir;     /* results root */
    int threads;             /* 0 = all */
    uint64_t memory_budget;  /* bytes; 0 = none */
    bool again;              /* repeat finished runs: their folders are removed */
    bool profile;            /* as the suite's own */
    bool counters;           /* profile, and hardware counters */
    FILE *log;               /* progress and notes */
    pb_run_function execute; /* tests; NULL = pb_run_execute */
    const pb_asset_cache *assets; /* loaded already for these runs; NULL = load */
} pb_runner_options;

typedef struct pb_runner_summary {
    int n_runs, n_done, n_skipped, n_elsewhere; /* elsewhere: claimed on another machine */
    int n_bad;                                  /* failed or oom among the done ones */
    int signal;                                 /* what ended the suite early, else 0 */
} pb_runner_summary;

/* Order: seeds outermost; within a seed the runs are shuffled by a fixed key, so that a drift of
 * the machine hits all rows alike; the place in the order is in each record (environment.order).
 * PB_E_INTERRUPTED after SIGINT or SIGTERM: the child is told and has 4 seconds to record itself; a
 * second signal ends everything at once. */
pb_status pb_runner_run(const pb_suite *suite, const pb_runner_options *options,
                        pb_runner_summary *out);

/* The order of a suite's runs: order[i] = index of the run that comes i-th. malloc'ed. */
pb_status pb_runner_order(const pb_suite *suite, int **order);

#endif
