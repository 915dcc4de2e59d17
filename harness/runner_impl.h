/* What the files of the runner share. Private to harness/runner*.c. */
#ifndef PB_HARNESS_RUNNER_IMPL_H
#define PB_HARNESS_RUNNER_IMPL_H

#include <sys/types.h>

#include "harness/progress.h"
#include "harness/runner.h"

typedef enum pb_job_state {
    PB_JOB_PENDING,
    PB_JOB_DONE,
    PB_JOB_SKIPPED,
    PB_JOB_ELSEWHERE
} pb_job_state;

typedef struct pb_job {
    const pb_run_config *run;
    const pb_assets *assets;
    pb_json *config;
    char id[PB_RUN_ID];
    int order; /* from 1 */
    pb_job_state state;
    bool again; /* --again has not removed the old record yet */
} pb_job;

typedef struct pb_runner {
    const pb_suite *suite;
    const pb_runner_options *options;
    pb_runner_summary *summary;
    pb_progress progress;
    const pb_asset_cache *assets;
    pb_asset_cache own_assets; /* empty when the caller had them */
    pb_job *jobs; /* in running order */
    int n_jobs;
    char *folder; /* out_dir/suite */
    char *claims; /* folder/.claims */
} pb_runner;

/* ---- signals (runner_child.c): installed while a suite runs ---- */
void pb_runner_signals(bool install);
int pb_runner_caught(void); /* the signal that arrived, 0 = none */

/* Runs the job in a child until it ended; then a record is there, or the status says why none could
 * be written. PB_E_INTERRUPTED when a signal ended it. */
pb_status pb_runner_child(pb_runner *r, const pb_job *job);

/* ---- claims (runner_claim.c) ---- */
typedef enum pb_claim { PB_CLAIM_MINE, PB_CLAIM_BUSY, PB_CLAIM_REMOTE } pb_claim;
/* One claim at a time may be taken or taken over in a folder; *owner (for messages) is filled
 * unless it is mine. */
pb_status pb_claim_take(const char *folder, const char *id, pb_claim *out, char owner[128]);
void pb_claim_release(const char *folder, const char *id);

/* ---- the results folder (runner_folder.c) ---- */
typedef enum pb_found { PB_FOUND_NOTHING, PB_FOUND_UNFINISHED, PB_FOUND_FINISHED } pb_found;
/* What lies in the job's folder. A damaged record is unfinished, with the reason in `note` (else
 * ""). */
pb_found pb_runner_look(const pb_runner *r, const pb_job *job, pb_run_status *status,
                        char note[256]);
char *pb_runner_path(const pb_runner *r, const pb_job *job,
                     const char *file); /* file NULL = the folder; malloc'ed */
/* PB_E_INPUT when the folder holds records that one report must not show together with this
 * suite's. */
pb_status pb_runner_check_folder(const pb_runner *r);

#endif
