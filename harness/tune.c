/* Tuning: rounds of trials until every row has spent its budget, then the finals. Which values come
 * next: tune_next.c. Test: tests/test_tune.c. */
#include "harness/tune.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/suite_impl.h"

/* ---- trials and finals as runs ---- */

int64_t pb_tune_divisor(int rung) {
    return INT64_C(1) << (PB_TUNE_RUNGS - 1 - rung);
}

static void set_rank(const pb_tune_row *row, int rank, pb_run_config *r) {
    if (rank < 0) return;
    r->method_params = row->params[rank];
    r->origin.rank = row->rank[rank];
}

void pb_tune_trial_run(const pb_suite *suite, const pb_tune_row *row, double lr, int rank, int rung,
                       int trial, const char *why, uint64_t seed, pb_run_config *r) {
    char number[PB_F64_CHARS], tail[64];
    int64_t divisor = pb_tune_divisor(rung);
    *r = row->run;
    pb_copy(r->suite, sizeof r->suite, suite->name);
    r->lr = lr;
    r->seed = seed;
    r->skip_test = true;
    r->before = false;
    r->eval_every = r->train_eval = r->infer_repeats = r->gradients = r->weights = 0;
    r->n_infer_shapes = 0;
    r->shape_repeats = 0;
    r->general_examples = 0;
    if (r->epochs > 0) r->epochs /= (double)divisor;
    else r->steps = (r->steps + divisor - 1) / divisor;
    r->origin = (pb_run_origin){.phase = "trial", .trial = trial};
    pb_copy(r->origin.row, sizeof r->origin.row, row->run.label);
    pb_copy(r->origin.why, sizeof r->origin.why, why);
    set_rank(row, rank, r);
    pb_format_f64(number, lr);
    int n = snprintf(tail, sizeof tail, " lr %s", number);
    if (rank >= 0)
        n += snprintf(tail + n, sizeof tail - (size_t)n, " r%" PRId64, r->origin.rank);
    if (divisor > 1) snprintf(tail + n, sizeof tail - (size_t)n, " 1/%" PRId64, divisor);
    pb_suite_label(r->label, sizeof r->label, row->run.label, tail);
}

void pb_tune_final_run(const pb_suite *suite, const pb_tune_row *row, double lr, int rank,
                       uint64_t seed, pb_run_config *r) {
    *r = row->run;
    pb_copy(r->suite, sizeof r->suite, suite->name);
    r->lr = lr;
    r->seed = seed;
    r->origin = (pb_run_origin){.phase = "final", .edge = "none"};
    pb_copy(r->origin.row, sizeof r->origin.row, row->run.label);
    set_rank(row, rank, r);
}

static int rung_of(int64_t divisor) {
    int rung = PB_TUNE_RUNGS - 1;
    while (rung > 0 && pb_tune_divisor(rung) < divisor) rung--;
    return rung;
}

static int rank_index(const pb_tune_row *row, int64_t rank) {
    for (int i = 0; i < row->n_ranks; i++)
        if (row->rank[i] == rank) return i;
    return -1;
}

/* ---- one round ---- */

typedef struct tuner {
    const pb_suite *suite;
    pb_runner_options options;
    pb_runner_summary *summary;
    pb_asset_cache assets;
    pb_tuning tuning;
    char *folder;
} tuner;

static pb_status run_runs(tuner *t, pb_run_config *runs, int n) {
    pb_suite part = *t->suite;
    pb_runner_summary s = {0};
    part.runs = runs;
    part.n_runs = n;
    part.tune = NULL;
    pb_status status = pb_runner_run(&part, &t->options, &s);
    t->summary->n_done += s.n_done;
    t->summary->n_skipped += s.n_skipped;
    t->summary->n_elsewhere += s.n_elsewhere;
    t->summary->n_bad += s.n_bad;
    t->summary->signal = s.signal;
    return status;
}

static pb_status id_of(const tuner *t, const pb_run_config *run, char id[PB_RUN_ID]) {
    pb_status status = PB_OK;
    pb_json *config = NULL;
    const pb_assets *a = pb_asset_cache_find(&t->assets, run);
    PB_TRY(pb_run_config_json(run, a->model_sha256, a->data ? pb_dataset_sha256(a->data) : "",
                              &config));
    PB_TRY(pb_run_id_of(config, id));
done:
    pb_json_free(config);
    return status;
}

/* The loss that decides; infinite when the run has none. */
static pb_status loss_of(const tuner *t, const char *id, double *out) {
    pb_status status = PB_OK;
    pb_record record = {0};
    char *dir = pb_path_join(t->folder, id), *path = dir ? pb_path_join(dir, "record.json") : NULL;
    if (!path) PB_FAIL(PB_E_OOM, "no memory for a path");
    PB_TRY(pb_record_read(path, false, &record));
    double nll = pb_record_value(&record, PB_TUNING_CRITERION);
    *out = record.status == PB_RUN_OK && isfinite(nll) ? nll : INFINITY;
done:
    pb_record_free(&record);
    free(path);
    free(dir);
    return status;
}

/* The runs of every trial that has no mean yet. */
static int round_runs(const tuner *t, pb_run_config *runs) {
    const pb_tune *tune = t->suite->tune;
    int n = 0;
    for (int i = 0; i < tune->n_rows; i++) {
        const pb_tuning_row *row = &t->tuning.rows[i];
        for (int k = 0; k < row->n_trials; k++) {
            const pb_tuning_trial *trial = &row->trials[k];
            if (!isnan(trial->mean)) continue;
            for (int s = 0; s < tune->n_seeds; s++, n++) {
                if (!runs) continue;
                pb_tune_trial_run(t->suite, &tune->rows[i], trial->lr,
                                  rank_index(&tune->rows[i], trial->rank), rung_of(trial->divisor),
                                  k + 1, trial->why, tune->seeds[s], &runs[n]);
            }
        }
    }
    return n;
}

/* In the order of round_runs. */
static pb_status take_losses(tuner *t, const pb_run_config *runs) {
    int n = 0;
    for (int i = 0; i < t->tuning.n_rows; i++) {
        pb_tuning_row *row = &t->tuning.rows[i];
        for (int k = 0; k < row->n_trials; k++) {
            pb_tuning_trial *trial = &row->trials[k];
            if (!isnan(trial->mean)) continue;
            trial->n_runs = t->tuning.n_seeds;
            for (int s = 0; s < trial->n_runs; s++, n++) {
                PB_RETURN(id_of(t, &runs[n], trial->run[s]));
                PB_RETURN(loss_of(t, trial->run[s], &trial->nll[s]));
            }
        }
        pb_tuning_choose(row);
    }
    return PB_OK;
}

static pb_status one_round(tuner *t, int number, bool *any) {
    pb_status status = PB_OK;
    const pb_tune *tune = t->suite->tune;
    pb_run_config *runs = NULL;
    for (int i = 0; i < tune->n_rows; i++)
        PB_RETURN(pb_tune_next(tune, &tune->rows[i], &t->tuning.rows[i]));
    int n = round_runs(t, NULL);
    *any = n > 0;
    if (n == 0) return PB_OK;
    if (!(runs = calloc((size_t)n, sizeof *runs))) PB_FAIL(PB_E_OOM, "no memory for %d trials", n);
    round_runs(t, runs);
    if (t->options.log)
        fprintf(t->options.log, "tuning, round %d: %d trial%s on the validation split\n", number, n,
                n == 1 ? "" : "s");
    PB_TRY(run_runs(t, runs, n));
    if (t->summary->n_elsewhere > 0)
        PB_FAIL(PB_E_ENV, "%d trials are claimed on another machine: the choice has to wait",
                t->summary->n_elsewhere);
    PB_TRY(take_losses(t, runs));
done:
    free(runs);
    return status;
}

/* ---- tuning.json ---- */

/* Rows that an earlier call tuned and this one leaves out (--methods) stay. */
static pb_status keep_other_rows(tuner *t, const char *path) {
    pb_status status = PB_OK;
    pb_tuning old = {0}, *now = &t->tuning;
    if (!pb_file_exists(path)) return PB_OK;
    if (pb_tuning_read(path, &old) != PB_OK) { /* ours to write anew */
        pb_error_clear();
        return PB_OK;
    }
    pb_tuning_row *rows = realloc(now->rows, (size_t)(now->n_rows + old.n_rows + 1) * sizeof *rows);
    if (!rows) PB_FAIL(PB_E_OOM, "%s: no memory for its rows", path);
    now->rows = rows;
    for (int i = 0, n = now->n_rows; i < old.n_rows; i++) {
        bool known = false;
        for (int k = 0; k < n; k++) known = known || strcmp(rows[k].label, old.rows[i].label) == 0;
        if (known) continue;
        rows[now->n_rows] = old.rows[i];
        rows[now->n_rows].chance = now->chance;
        pb_tuning_choose(&rows[now->n_rows++]);
        old.rows[i].trials = NULL;
    }
done:
    pb_tuning_free(&old);
    return status;
}

static pb_status write_tuning(tuner *t) {
    pb_status status = PB_OK;
    char *path = pb_path_join(t->folder, PB_TUNING_FILE);
    if (!path) PB_FAIL(PB_E_OOM, "no memory for a path");
    PB_TRY(keep_other_rows(t, path));
    PB_TRY(pb_tuning_write(&t->tuning, path));
done:
    free(path);
    return status;
}

/* ---- finals ---- */

static void tell_choice(const tuner *t, const pb_tuning_row *row) {
    if (!t->options.log) return;
    if (row->chosen < 0) {
        fprintf(t->options.log, "%s: no trial ended well: no final runs\n", row->label);
        return;
    }
    const pb_tuning_trial *best = &row->trials[row->chosen];
    fprintf(t->options.log, "%s: lr %g", row->label, best->lr);
    if (best->rank) fprintf(t->options.log, ", rank %" PRId64, best->rank);
    bool cliff = strcmp(row->edge, "cliff") == 0, edge = !cliff && strcmp(row->edge, "none") != 0;
    fprintf(t->options.log, " (validation NLL %.4f)%s%s%s%s\n", best->mean, edge ? ": the " : "",
            edge ? row->edge : "", edge ? " edge of what was tried" : "",
            cliff ? ": the highest that trains, the next one tried does not" : "");
}

static pb_status run_finals(tuner *t) {
    pb_status status = PB_OK;
    const pb_tune *tune = t->suite->tune;
    size_t total = 0;
    int n = 0;
    for (int i = 0; i < tune->n_rows; i++) total += (size_t)tune->rows[i].n_seeds;
    pb_run_config *runs = calloc(total + 1, sizeof *runs);
    if (!runs) PB_FAIL(PB_E_OOM, "no memory for %zu runs", total);
    for (int i = 0; i < tune->n_rows; i++) {
        const pb_tuning_row *row = &t->tuning.rows[i];
        tell_choice(t, row);
        t->summary->n_bad += row->chosen < 0;
        for (int s = 0; s < tune->rows[i].n_seeds && row->chosen >= 0; s++) {
            const pb_tuning_trial *best = &row->trials[row->chosen];
            pb_run_config *r = &runs[n++];
            pb_tune_final_run(t->suite, &tune->rows[i], best->lr,
                              rank_index(&tune->rows[i], best->rank), tune->rows[i].seeds[s], r);
            r->origin.trial = row->chosen + 1;
            pb_copy(r->origin.edge, sizeof r->origin.edge, row->edge);
        }
    }
    if (n > 0) PB_TRY(run_runs(t, runs, n));
done:
    free(runs);
    return status;
}

static pb_status begin(tuner *t) {
    const pb_tune *tune = t->suite->tune;
    pb_tuning *out = &t->tuning;
    t->folder = pb_path_join(t->options.out_dir, t->suite->name);
    out->rows = calloc((size_t)tune->n_rows + 1, sizeof *out->rows);
    if (!t->folder || !out->rows) return PB_ERROR(PB_E_OOM, "no memory for the tuning");
    pb_copy(out->suite, sizeof out->suite, t->suite->name);
    pb_copy(out->strategy, sizeof out->strategy,
            tune->strategy == PB_TUNE_HALVING ? "halving" : "grid");
    out->trials = tune->trials;
    out->n_seeds = tune->n_seeds;
    memcpy(out->seeds, tune->seeds, sizeof out->seeds);
    for (int i = 0; i < tune->n_rows; i++) {
        pb_tuning_row *row = &out->rows[out->n_rows++];
        pb_copy(row->label, sizeof row->label, tune->rows[i].run.label);
        pb_copy(row->method, sizeof row->method, tune->rows[i].run.method->name);
        row->chosen = -1;
    }
    PB_RETURN(pb_asset_cache_load(t->suite, &t->assets));
    t->options.assets = &t->assets;
    const pb_assets *a = pb_asset_cache_find(&t->assets, &tune->rows[0].run);
    out->chance = a->data ? pb_dataset_chance_nll(a->data, PB_VALID) : 0;
    for (int i = 0; i < out->n_rows; i++) out->rows[i].chance = out->chance;
    return PB_OK;
}

pb_status pb_tune_run(const pb_suite *suite, const pb_runner_options *options,
                      pb_runner_summary *out) {
    pb_status status = PB_OK;
    tuner t = {.suite = suite, .options = *options, .summary = out};
    bool any = true;
    *out = (pb_runner_summary){.n_runs = suite->n_runs};
    PB_TRY(begin(&t));
    for (int number = 1; any; number++) PB_TRY(one_round(&t, number, &any));
    PB_TRY(write_tuning(&t));
    PB_TRY(run_finals(&t));
done:
    pb_tuning_free(&t.tuning);
    pb_asset_cache_free(&t.assets);
    free(t.folder);
    return status;
}
