/* peftbench run --dry-run: what a suite would do and need. Nothing is trained; memory comes from
 * the same calls on a plan device, time from the work of a step at the rates measured here. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/cli.h"
#include "harness/cli_run.h"
#include "harness/cli_table.h"
#include "harness/rates.h"

/* ---- rates of this machine ---- */

static pb_status rates_for(const pb_run_config *run, int threads, pb_rates *known, pb_rates *out) {
    pb_rates *r = &known[run->dtype == PB_BF16];
    if (r->flops_per_s <= 0) PB_RETURN(pb_rates_measure(run->device, threads, run->dtype, r));
    *out = *r;
    return PB_OK;
}

/* ---- predictions ---- */

typedef struct forecast {
    pb_prediction p;
    double steps, run_s;
} forecast;

static double steps_of(const pb_run_config *run, const pb_assets *assets) {
    if (run->epochs <= 0) return (double)run->steps;
    if (!assets->data) return 0;
    double batches = floor((double)pb_dataset_size(assets->data, PB_TRAIN) / (double)run->batch);
    return ceil(run->epochs * batches / (double)run->accumulate - 1e-9);
}

static pb_status predict(const pb_run_config *run, const pb_assets *assets, int threads,
                         pb_rates *known, forecast *out) {
    pb_rates rate;
    PB_RETURN(rates_for(run, threads, known, &rate));
    PB_RETURN(pb_run_predict(run, assets, threads, rate.flops_per_s, rate.bytes_per_s, &out->p));
    out->steps = steps_of(run, assets);
    out->run_s = out->steps * out->p.seconds_per_step;
    return PB_OK;
}

/* ---- printing ---- */

static void print_settings(const pb_suite *suite, const forecast *f, pb_table *t) {
    static const char *const head[] = {"RUN",      "SEED",   "METHOD", "DTYPE",     "LR",
                                       "STEPS",    "BATCH",  "LEN",    "TRAINABLE", "STEP",
                                       "TRAINING", "MEMORY", NULL};
    char text[32];
    pb_table_start(t, head, 1 | 4 | 8);
    for (int i = 0; i < suite->n_runs; i++) {
        const pb_run_config *r = &suite->runs[i];
        pb_table_row(t);
        pb_table_cell(t, 0, "%s", r->label);
        pb_table_cell(t, 1, "%" PRIu64 "%s%s", r->seed, *r->origin.phase ? " " : "", r->origin.phase);
        pb_table_cell(t, 2, "%s", r->method->name);
        pb_table_cell(t, 3, "%s", pb_dtype_name(r->dtype));
        if (r->origin.lr_open) pb_table_cell(t, 4, "tuned");
        else pb_table_cell(t, 4, "%g", r->lr);
        pb_table_cell(t, 5, f[i].steps > 0 ? "%.0f" : "?", f[i].steps);
        pb_table_cell(t, 6, r->accumulate > 1 ? "%" PRId64 " x %" PRId64 : "%" PRId64, r->batch,
                      r->accumulate);
        pb_table_cell(t, 7, "%" PRId64, r->max_len);
        pb_table_cell(t, 8, "%" PRId64, f[i].p.params_trainable);
        pb_format_seconds(text, f[i].p.seconds_per_step);
        pb_table_cell(t, 9, "%s", text);
        pb_format_seconds(text, f[i].run_s);
        pb_table_cell(t, 10, "%s", text);
        pb_format_bytes(text, (double)f[i].p.total);
        pb_table_cell(t, 11, "%s", text);
    }
}

/* One row per label: seeds differ by little. */
static pb_status print_memory(const pb_suite *suite, const forecast *f) {
    const char *head[PB_MEM_COUNT + 3] = {"MEMORY"};
    char text[32];
    pb_table t;
    for (int m = 0; m < PB_MEM_COUNT; m++) head[m + 1] = pb_mem_name((pb_mem)m);
    head[PB_MEM_COUNT + 1] = "total";
    pb_table_start(&t, head, 1);
    for (int i = 0; i < suite->n_runs; i++) {
        bool first = true;
        for (int j = 0; j < i && first; j++)
            first = strcmp(suite->runs[i].label, suite->runs[j].label) != 0;
        if (!first) continue;
        pb_table_row(&t);
        pb_table_cell(&t, 0, "%s", suite->runs[i].label);
        for (int m = 0; m <= PB_MEM_COUNT; m++) {
            pb_format_bytes(text, (double)(m < PB_MEM_COUNT ? f[i].p.bytes[m] : f[i].p.total));
            pb_table_cell(&t, m + 1, "%s", text);
        }
    }
    return pb_table_end(&t, stdout);
}

static void print_tuning(const pb_tune *t) {
    printf("tuning: %" PRId64 " trials of each row with %d seed%s, validation split only; \"lr ?\" follows "
           "from the trials before it;\nfinal runs take the value with the least validation loss.\n",
           t->trials, t->n_seeds, t->n_seeds == 1 ? "" : "s");
}

static pb_status print_text(const pb_suite *suite, const pb_run_request *q, const forecast *f) {
    char name[1024], time[32];
    pb_table t;
    double total = 0;
    for (int i = 0; i < suite->n_runs; i++) total += f[i].run_s;
    printf("%s: %s\n", suite->name, suite->title);
    pb_run_model_name(&suite->runs[0], name, sizeof name);
    printf("model %s, ", name);
    pb_run_data_name(&suite->runs[0], name, sizeof name);
    printf("data %s, device %s, results in %s/%s\n\n", name, suite->runs[0].device, q->out,
           suite->name);
    print_settings(suite, f, &t);
    PB_RETURN(pb_table_end(&t, stdout));
    putchar('\n');
    PB_RETURN(print_memory(suite, f));
    pb_format_seconds(time, total);
    printf("\n%d runs, at least %s of training (products and memory traffic at this machine's best "
           "rates;\n"
           "loading and evaluation come on top).\n",
           suite->n_runs, time);
    if (suite->tune) print_tuning(suite->tune);
    return PB_OK;
}

static pb_status add_run(pb_json *list, const pb_run_config *r, const pb_assets *assets,
                         const forecast *f, uint64_t budget) {
    pb_json *config = NULL;
    pb_json *o = pb_json_add_object(list, NULL);
    char id[PB_RUN_ID];
    PB_RETURN(pb_run_config_json(r, assets->model_sha256,
                                 assets->data ? pb_dataset_sha256(assets->data) : "", &config));
    pb_status status = pb_run_id_of(config, id);
    bool known = status == PB_OK && !r->origin.lr_open; /* else its rate is not chosen yet */
    bool ok = pb_json_add_str(o, "label", r->label) &&
              pb_json_add_str(o, "phase", r->origin.phase) &&
              pb_json_add_str(o, "run_id", known ? id : "") &&
              pb_json_add_f64(o, "steps", f->steps) &&
              pb_json_add_f64(o, "seconds_per_step", f->p.seconds_per_step) &&
              pb_json_add_f64(o, "training_seconds", f->run_s) &&
              pb_json_add_i64(o, "params_total", f->p.params_total) &&
              pb_json_add_i64(o, "params_trainable", f->p.params_trainable) &&
              pb_json_add_f64(o, "flops_per_step", f->p.step.flops) &&
              pb_json_add_bool(o, "over_budget", budget > 0 && f->p.total > budget);
    pb_json *memory = pb_json_add_object(o, "memory_bytes");
    for (int m = 0; m < PB_MEM_COUNT; m++) {
        ok = ok && pb_json_add_i64(memory, pb_mem_name((pb_mem)m), (int64_t)f->p.bytes[m]);
    }
    ok = ok && pb_json_add_i64(memory, "total", (int64_t)f->p.total);
    if (ok && cJSON_AddItemToObject(o, "config", config)) return status;
    pb_json_free(config);
    return pb_cli_built(false);
}

static pb_status print_json(const pb_suite *suite, const pb_run_request *q,
                            const pb_asset_cache *cache, const forecast *f) {
    pb_json *root = cJSON_CreateObject();
    bool ok =
        pb_json_add_str(root, "suite", suite->name) && pb_json_add_str(root, "title", suite->title);
    pb_json *list = pb_json_add_array(root, "runs");
    pb_status status = pb_cli_built(ok && list);
    for (int i = 0; i < suite->n_runs && status == PB_OK; i++) {
        const pb_run_config *r = &suite->runs[i];
        status = add_run(list, r, pb_asset_cache_find(cache, r), &f[i], q->budget);
    }
    if (status == PB_OK) return pb_cli_print_json(root);
    pb_json_free(root);
    return status;
}

static pb_status check_budget(const pb_suite *suite, uint64_t budget, const forecast *f) {
    int over = 0, worst = 0;
    char need[32], have[32];
    for (int i = 0; i < suite->n_runs && budget > 0; i++) {
        over += f[i].p.total > budget;
        if (f[i].p.total > f[worst].p.total) worst = i;
    }
    if (over == 0) return PB_OK;
    pb_format_bytes(need, (double)f[worst].p.total);
    pb_format_bytes(have, (double)budget);
    return PB_ERROR(PB_E_CHECK,
                    "%d of %d runs are over the memory budget of %s (%" PRIu64
                    " bytes); the largest, '%s', needs"
                    " %s (%" PRIu64 " bytes); lower --batch or --max-len, or raise --memory-budget",
                    over, suite->n_runs, have, budget, suite->runs[worst].label, need,
                    f[worst].p.total);
}

/* The same row at another seed stands before it. */
static bool again(const pb_suite *suite, int i) {
    for (int k = 0; k < i; k++)
        if (strcmp(suite->runs[k].label, suite->runs[i].label) == 0) return true;
    return false;
}

static pb_status dry_latency(const pb_suite *suite, const pb_run_request *q) {
    const pb_latency *l = &suite->latency;
    pb_json *root = NULL, *rows = NULL;
    if (q->json) {
        root = cJSON_CreateObject();
        rows = pb_json_add_str(root, "suite", suite->name) ? pb_json_add_array(root, "rows") : NULL;
        bool ok = rows != NULL;
        for (int i = 0; ok && i < suite->n_runs; i++)
            ok = again(suite, i) || pb_json_add_str(rows, NULL, suite->runs[i].label);
        if (ok) return pb_cli_print_json(root);
        pb_json_free(root);
        return pb_cli_built(false);
    }
    printf("%s: %s\nresults in %s/%s; nothing is trained; %d records, every seed in a process of its own; each of "
           "%" PRId64 " rounds times every row once, merged too where that is possible\n",
           suite->name, suite->title, q->out, suite->name, suite->n_runs, l->repeats);
    for (int i = 0; i < suite->n_runs; i++)
        if (!again(suite, i)) printf("%s (%s, %s)\n", suite->runs[i].label, suite->runs[i].method->name,
               pb_dtype_name(suite->runs[i].dtype));
    for (int s = 0; s < l->n_batch * l->n_length; s++)
        printf("%s%" PRId64 "x%" PRId64, s ? ", " : "batch x length: ", l->batch[s / l->n_length],
               l->length[s % l->n_length]);
    putchar('\n');
    return PB_OK;
}

pb_status pb_run_dry(const pb_suite *suite, const pb_run_request *q) {
    pb_status status = PB_OK;
    if (suite->is_latency) return dry_latency(suite, q);
    pb_asset_cache cache = {0};
    pb_rates known[2] = {{0}};
    forecast *f = calloc((size_t)suite->n_runs + 1, sizeof *f);
    if (!f) PB_FAIL(PB_E_OOM, "no memory for %d runs", suite->n_runs);
    PB_TRY(pb_asset_cache_load(suite, &cache));
    PB_TRY(pb_suite_rehearse(suite, &cache, (int)q->threads));
    for (int i = 0; i < suite->n_runs; i++) {
        const pb_run_config *r = &suite->runs[i];
        status = predict(r, pb_asset_cache_find(&cache, r), (int)q->threads, known, &f[i]);
        if (status == PB_E_UNSUPPORTED) { /* as `run`: a row that does not apply stops no other */
            fprintf(stderr, "peftbench: row '%s' does not apply: %s\n", r->label, pb_error_message());
            memset(&f[i], 0, sizeof f[i]);
            status = PB_OK;
        }
        PB_TRY(status);
    }
    PB_TRY(q->json ? print_json(suite, q, &cache, f) : print_text(suite, q, f));
    PB_TRY(check_budget(suite, q->budget, f));
done:
    pb_asset_cache_free(&cache);
    free(f);
    return status;
}
