/* The loop over a suite's runs. One run: runner_child.c. Test: tests/test_runner.c. */
#include "harness/runner.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/runner_impl.h"
#include "kernels/core/rng.h"

#define ORDER_KEY                                                                  \
    UINT64_C(0x70656674) /* any fixed number: the order must not depend on the run \
                          */

/* ---- assets ---- */

const pb_assets *pb_asset_cache_find(const pb_asset_cache *cache, const pb_run_config *run) {
    for (int i = 0; i < cache->n; i++) {
        if (pb_assets_serve(cache->loaded_for[i], run)) return &cache->items[i];
    }
    return NULL;
}

pb_status pb_asset_cache_load(const pb_suite *suite, pb_asset_cache *out) {
    pb_status status = PB_OK;
    *out = (pb_asset_cache){0};
    out->items = calloc((size_t)suite->n_runs + 1, sizeof *out->items);
    out->loaded_for = calloc((size_t)suite->n_runs + 1, sizeof *out->loaded_for);
    if (!out->items || !out->loaded_for) PB_FAIL(PB_E_OOM, "no memory for %d runs", suite->n_runs);
    for (int i = 0; i < suite->n_runs; i++) {
        if (pb_asset_cache_find(out, &suite->runs[i])) continue;
        PB_TRY(pb_assets_load(&suite->runs[i], &out->items[out->n]));
        out->loaded_for[out->n++] = &suite->runs[i];
    }
done:
    if (status != PB_OK) pb_asset_cache_free(out);
    return status;
}

void pb_asset_cache_free(pb_asset_cache *cache) {
    for (int i = 0; i < cache->n; i++) pb_assets_free(&cache->items[i]);
    free(cache->items);
    free(cache->loaded_for);
    *cache = (pb_asset_cache){0};
}

/* ---- order ---- */

pb_status pb_runner_order(const pb_suite *suite, int **order) {
    pb_status status = PB_OK;
    size_t n = (size_t)suite->n_runs;
    int placed = 0;
    int *group = calloc(n + 1, sizeof *group);
    int32_t *shuffled = calloc(n + 1, sizeof *shuffled);
    bool *used = calloc(n + 1, sizeof *used);
    *order = calloc(n + 1, sizeof **order);
    if (!group || !shuffled || !used || !*order)
        PB_FAIL(PB_E_OOM, "no memory for the order of %zu runs", n);
    for (uint64_t g = 0; placed < suite->n_runs; g++) {
        int count = 0;
        const pb_run_config *first = NULL;
        for (int i = 0; i < suite->n_runs; i++) {
            if (used[i]) continue;
            if (!first) first = &suite->runs[i];
            if (suite->runs[i].seed != first->seed) continue;
            used[i] = true;
            group[count++] = i;
        }
        pb_random_permutation(ORDER_KEY, g, count, shuffled);
        for (int i = 0; i < count; i++) (*order)[placed++] = group[shuffled[i]];
    }
done:
    free(used);
    free(shuffled);
    free(group);
    if (status != PB_OK) {
        free(*order);
        *order = NULL;
    }
    return status;
}

/* ---- rehearsal ---- */

pb_status pb_suite_rehearse(const pb_suite *suite, const pb_asset_cache *cache, int threads) {
    pb_prediction unused;
    for (int i = 0; i < suite->n_runs; i++) {
        const pb_run_config *run = &suite->runs[i];
        if (i > 0 && strcmp(run->label, run[-1].label) == 0) continue; /* another seed of the row */
        pb_status status =
            pb_run_predict(run, pb_asset_cache_find(cache, run), threads, 0.0, 0.0, &unused);
        if (status == PB_E_INPUT) {
            return PB_ERROR(status, "%s: '%s': %s", suite->file, run->label, pb_error_message());
        }
        pb_error_clear();
    }
    return PB_OK;
}

/* ---- jobs ---- */

static pb_status make_jobs(pb_runner *r) {
    pb_status status = PB_OK;
    int *order = NULL;
    r->jobs = calloc((size_t)r->suite->n_runs + 1, sizeof *r->jobs);
    if (!r->jobs) PB_FAIL(PB_E_OOM, "no memory for %d runs", r->suite->n_runs);
    PB_TRY(pb_runner_order(r->suite, &order));
    for (int i = 0; i < r->suite->n_runs; i++) {
        pb_job *job = &r->jobs[i];
        job->run = &r->suite->runs[order[i]];
        job->assets = pb_asset_cache_find(r->assets, job->run);
        job->order = i + 1;
        job->again = r->options->again;
        r->n_jobs = i + 1;
        const pb_dataset *data = job->assets->data;
        PB_TRY(pb_run_config_json(job->run, job->assets->model_sha256,
                                  data ? pb_dataset_sha256(data) : "", &job->config));
        PB_TRY(pb_run_id_of(job->config, job->id));
    }
done:
    free(order);
    return status;
}

static int count_pending(const pb_runner *r) {
    int n = 0;
    for (int i = 0; i < r->n_jobs; i++) n += r->jobs[i].state == PB_JOB_PENDING;
    return n;
}

/* "ok, accuracy 0.512" from the record that is there now. */
static void tell_outcome(pb_runner *r, const pb_job *job) {
    pb_record record = {0};
    char text[700];
    char *path = pb_runner_path(r, job, "record.json");
    if (!path || pb_record_read(path, false, &record) != PB_OK) {
        snprintf(text, sizeof text, "failed: %.600s", path ? pb_error_message() : "no memory");
        pb_error_clear();
        r->summary->n_bad++;
    } else if (record.status == PB_RUN_OK) {
        bool trial = strcmp(record.phase, "trial") == 0;
        const char *const tags[] = {"quality/test/accuracy", "quality/test/nll",
                                    "quality/valid/accuracy", "quality/valid/nll"};
        double accuracy = pb_record_value(&record, tags[trial ? 2 : 0]);
        double nll = pb_record_value(&record, tags[trial ? 3 : 1]);
        int n = snprintf(text, sizeof text, trial ? "validation" : "ok");
        if (accuracy == accuracy)
            n += snprintf(text + n, sizeof text - (size_t)n, ", accuracy %.3f", accuracy);
        if (nll == nll) snprintf(text + n, sizeof text - (size_t)n, ", NLL %.3f", nll);
    } else {
        snprintf(text, sizeof text, "%s: %s", pb_run_status_name(record.status), record.reason);
        r->summary->n_bad += record.status == PB_RUN_FAILED || record.status == PB_RUN_OOM;
    }
    pb_progress_end(&r->progress, text);
    pb_record_free(&record);
    free(path);
}

/* The claim is ours: clear what an unfinished run left, then run. */
static pb_status run_claimed(pb_runner *r, pb_job *job) {
    pb_status status = PB_OK;
    pb_run_status was = PB_RUN_OK;
    char note[256], *folder = pb_runner_path(r, job, NULL);
    if (!folder) PB_FAIL(PB_E_OOM, "no memory for a path");
    pb_found found = pb_runner_look(r, job, &was, note);
    if (found == PB_FOUND_FINISHED && !job->again) { /* another process was faster */
        job->state = PB_JOB_SKIPPED;
        goto done;
    }
    if (found == PB_FOUND_FINISHED) {
        pb_progress_note(&r->progress,
                         "--again: removing the finished run %s (%s, seed %" PRIu64 ")", job->id,
                         job->run->label, job->run->seed);
    }
    if (note[0])
        pb_progress_note(&r->progress, "repeating a run whose record is damaged: %s", note);
    if (found != PB_FOUND_NOTHING) PB_TRY(pb_remove_tree(folder));
    job->again = false;
    pb_progress_begin(&r->progress, job->order, count_pending(r) - 1, job->run->label,
                      job->run->seed);
    status = pb_runner_child(r, job);
    if (status != PB_OK && status != PB_E_INTERRUPTED) PB_TRY(status);
    tell_outcome(r, job);
    job->state = PB_JOB_DONE;
    r->summary->n_done++;
done:
    free(folder);
    return status;
}

/* Runs the job unless it is finished or somebody else's. */
static pb_status try_job(pb_runner *r, pb_job *job, bool *ran) {
    pb_run_status was = PB_RUN_OK;
    pb_claim claim = PB_CLAIM_BUSY;
    char note[256], owner[128];
    if (!job->again && pb_runner_look(r, job, &was, note) == PB_FOUND_FINISHED) {
        job->state = PB_JOB_SKIPPED;
        return PB_OK;
    }
    PB_RETURN(pb_claim_take(r->claims, job->id, &claim, owner));
    if (claim == PB_CLAIM_REMOTE) {
        pb_progress_note(&r->progress,
                         "%s, seed %" PRIu64 ": left to %s; if that is gone, remove %s/%s",
                         job->run->label, job->run->seed, owner, r->claims, job->id);
        job->state = PB_JOB_ELSEWHERE;
        r->summary->n_elsewhere++;
    }
    if (claim != PB_CLAIM_MINE) {
        /* A run that another process is doing now counts as repeated. */
        job->again = false;
        return PB_OK;
    }
    pb_status status = run_claimed(r, job);
    pb_claim_release(r->claims, job->id);
    *ran = true;
    return status;
}

static pb_status run_all(pb_runner *r) {
    bool told_skipped = false, told_waiting = false;
    while (count_pending(r) > 0) {
        bool ran = false;
        for (int i = 0; i < r->n_jobs; i++) {
            if (pb_runner_caught()) return PB_ERROR(PB_E_INTERRUPTED, "stopped between runs");
            if (r->jobs[i].state == PB_JOB_PENDING) PB_RETURN(try_job(r, &r->jobs[i], &ran));
        }
        int skipped = 0;
        for (int i = 0; i < r->n_jobs; i++) skipped += r->jobs[i].state == PB_JOB_SKIPPED;
        r->summary->n_skipped = skipped;
        if (skipped > 0 && !told_skipped) {
            pb_progress_note(&r->progress,
                             "%d of %d runs were finished already (--again repeats them)", skipped,
                             r->n_jobs);
            told_skipped = true;
        }
        int pending = count_pending(r);
        if (pending == 0 || ran) continue;
        if (!told_waiting)
            pb_progress_note(&r->progress, "waiting for %d runs of another peftbench", pending);
        told_waiting = true;
        struct timespec nap = {.tv_nsec = 200000000};
        nanosleep(&nap, NULL);
    }
    return PB_OK;
}

static pb_status prepare(pb_runner *r) {
    r->folder = pb_path_join(r->options->out_dir, r->suite->name);
    r->claims = r->folder ? pb_path_join(r->folder, ".claims") : NULL;
    if (!r->claims) return PB_ERROR(PB_E_OOM, "no memory for a path");
    r->assets = r->options->assets ? r->options->assets : &r->own_assets;
    if (!r->options->assets) PB_RETURN(pb_asset_cache_load(r->suite, &r->own_assets));
    for (int i = 0; i < r->assets->n; i++) {
        if (r->assets->items[i].data) continue;
        return PB_ERROR(
            PB_E_INPUT,
            "%s has no weights and no tokenizer: it can be planned (--dry-run) and timed"
            " (bench step), not trained",
            r->assets->loaded_for[i]->model);
    }
    PB_RETURN(make_jobs(r));
    PB_RETURN(pb_runner_check_folder(r));
    PB_RETURN(pb_suite_rehearse(r->suite, r->assets, r->options->threads));
    return pb_make_dirs(r->claims); /* last: what is refused leaves no trace */
}

pb_status pb_runner_run(const pb_suite *suite, const pb_runner_options *options,
                        pb_runner_summary *out) {
    pb_status status = PB_OK;
    pb_runner r = {.suite = suite, .options = options, .summary = out};
    *out = (pb_runner_summary){.n_runs = suite->n_runs};
    pb_progress_open(&r.progress, options->log, suite->n_runs);
    pb_runner_signals(true);
    PB_TRY(prepare(&r));
    PB_TRY(run_all(&r));
done:
    out->signal = pb_runner_caught();
    pb_runner_signals(false);
    pb_progress_clear(&r.progress);
    for (int i = 0; i < r.n_jobs; i++) pb_json_free(r.jobs[i].config);
    free(r.jobs);
    pb_asset_cache_free(&r.own_assets);
    free(r.claims);
    free(r.folder);
    return status;
}
