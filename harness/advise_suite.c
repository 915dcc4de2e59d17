/* The suite that would test the advice, by the rules of a fair comparison: one setting for all rows; the same number of
 * trials for each on validation data; fresh seeds; every low-rank branch at one scale; the parameters that were planned.
 * Test: tests/test_advise.c runs the parity guard over it. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "datasets/dataset.h"
#include "harness/advise.h"

enum { TRIALS = 9, SEEDS = 5, TUNING_SEED = 101 };

/* Three orders of magnitude in half decades; two of the trials are left for beyond the edge or between. */
static const char *grid_of(const pb_method *m) {
    if (m->trains_base) return "1e-6/1e-3/7";
    return strcmp(m->name, "head") == 0 ? "1e-4/1e-1/7" : "1e-5/1e-2/7";
}

static bool candidate(const pb_advice *row) { return row->applies && row->fits && row->in_time != PB_TOO_SLOW; }

static pb_status takes_part(pb_advise *a, const pb_advice *row, const pb_advise_setting *s, bool *out) {
    pb_prediction p;
    *out = false;
    if (!candidate(row)) return PB_OK;
    PB_RETURN(pb_advise_predict(&a->request, row->method, row->params, s, &p, out));
    a->n_plans++;
    if (!*out) pb_error_clear();
    *out = *out && p.total <= a->usable;
    return PB_OK;
}

/* Of the settings that rows fit with the one that lets the most take part, the chosen one's own when no other lets more.
 * They may differ from it in what moves no result: how the batch is divided, checkpointing, paging. */
static pb_status choose_setting(pb_advise *a, pb_advise_setting *out) {
    const pb_advice *chosen = &a->rows[a->chosen];
    int most = 0;
    for (int k = -1; k < a->n_rows; k++) {
        const pb_advise_setting *s = k < 0 ? &chosen->use : &a->rows[k].use;
        bool other = k >= 0 && (!candidate(&a->rows[k]) || s->length != chosen->use.length ||
                                s->adamw8 != chosen->use.adamw8);
        bool part = false;
        int n = 0;
        if (other) continue;
        PB_RETURN(takes_part(a, chosen, s, &part));
        for (int i = 0; part && i < a->n_rows; i++) {
            bool too = false;
            PB_RETURN(takes_part(a, &a->rows[i], s, &too));
            n += too;
        }
        if (n <= most) continue;
        most = n;
        *out = *s;
    }
    return PB_OK;
}

static bool add_row(pb_json *runs, const pb_advice *row, const char *usual) {
    pb_json *o = pb_json_add_object(runs, NULL);
    char *text = pb_json_print(row->params, false);
    pb_json *params = text ? cJSON_Parse(text) : NULL;
    free(text);
    bool ok = params && pb_json_add_str(o, "label", row->method->title) &&
              pb_json_add_str(o, "method", row->method->name);
    if (!ok || !cJSON_AddItemToObject(o, "params", params)) {
        pb_json_free(params);
        return false;
    }
    const char *grid = grid_of(row->method);
    return strcmp(grid, usual) == 0 || pb_json_add_str(pb_json_add_object(o, "tune"), "lr", grid);
}

/* As a suite file takes it, wherever that lies: a folder's whole path, or a shape. */
static pb_status add_model(pb_json *root, const char *name) {
    pb_status status = PB_OK;
    char *real = NULL;
    pb_text t = {0};
    if (strncmp(name, "shape:", 6) == 0) pb_text_add(&t, "%s", name);
    else if (!pb_is_dir(name) && !pb_file_exists(name)) pb_text_add(&t, "shape:%s", name);
    else if (!(real = realpath(name, NULL))) PB_FAIL(PB_E_INPUT, "--model: %s cannot be opened", name);
    if (real) {
        char *slash = pb_is_dir(real) ? NULL : strrchr(real, '/'); /* a config.json: the folder it lies in */
        if (slash) *slash = 0;
        pb_text_add(&t, "%s", *real ? real : "/");
    }
    PB_TRY(pb_text_status(&t));
    if (!pb_json_add_str(root, "model", t.data)) PB_FAIL(PB_E_OOM, "no memory for a suite");
done:
    free(real);
    pb_text_free(&t);
    return status;
}

static const char *standard_source(bool causal) {
    for (int i = 0; i < pb_source_registry_count; i++)
        if (pb_task_suits(pb_source_registry[i]->task, causal)) return pb_source_registry[i]->name;
    return pb_source_registry[0]->name;
}

static pb_status add_data(pb_json *root, const pb_advise *a, int64_t length) {
    pb_json *o = pb_json_add_object(root, "data");
    const char *name = a->request.data ? a->request.data : standard_source(a->request.config.causal);
    const pb_source *source = NULL;
    for (int i = 0; i < pb_source_registry_count; i++)
        if (strcmp(pb_source_registry[i]->name, name) == 0) source = pb_source_registry[i];
    if (source && !pb_task_suits(source->task, a->request.config.causal))
        return PB_ERROR(PB_E_INPUT, "--data: %s is %s, which %s cannot learn; expected %s", name,
                        source->task == PB_TASK_CLASSIFY ? "texts with labels" : "texts without labels",
                        a->request.config.causal ? "a decoder" : "an encoder",
                        a->request.config.causal ? "prompts with completions, or plain texts" : "texts with labels");
    char *real = source ? NULL : realpath(name, NULL);
    if (!source && (!real || !pb_is_dir(real))) {
        free(real);
        return PB_ERROR(PB_E_INPUT, "--data: %s is no folder and no source; expected one with train.jsonl, or a name "
                                    "from `peftbench list datasets`", name);
    }
    bool ok = pb_json_add_str(o, source ? "source" : "dir", source ? name : real) &&
              pb_json_add_i64(o, "max_len", length) && pb_json_add_i64(o, "train", a->request.examples);
    free(real);
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for a suite");
}

static bool add_settings(pb_json *root, const pb_advise *a, const pb_advise_setting *s, const char *usual) {
    const pb_advise_request *r = &a->request;
    bool ok = pb_json_add_str(root, "device", r->device) && pb_json_add_str(root, "dtype", pb_dtype_name(r->dtype));
    pb_json *tune = pb_json_add_object(root, "tune");
    ok = ok && pb_json_add_i64(tune, "trials", TRIALS) && pb_json_add_str(tune, "strategy", "grid") &&
         pb_json_add_str(tune, "lr", usual) &&
         pb_json_add_i64(pb_json_add_array(tune, "seeds"), NULL, TUNING_SEED);
    pb_json *seeds = pb_json_add_array(root, "seeds");
    for (int i = 1; i <= SEEDS; i++) ok = ok && pb_json_add_i64(seeds, NULL, i);
    pb_json *train = pb_json_add_object(root, "train");
    return ok && pb_json_add_f64(train, "epochs", r->epochs) && pb_json_add_i64(train, "batch", s->batch) &&
           pb_json_add_i64(train, "accumulate", s->accumulate) &&
           pb_json_add_bool(train, "checkpoint", s->checkpoint) &&
           pb_json_add_str(train, "optimizer", s->adamw8 ? "adamw8" : "adamw") &&
           pb_json_add_bool(train, "paged", s->paged);
}

pb_status pb_advise_suite(pb_advise *a) {
    pb_status status = PB_OK;
    pb_advise_setting setting;
    if (a->chosen < 0) return PB_OK;
    setting = a->rows[a->chosen].use;
    const char *usual = grid_of(a->rows[a->chosen].method);
    pb_json *root = cJSON_CreateObject();
    if (!pb_json_add_str(root, "title", "What peftbench advise would run, and what it was weighed against"))
        PB_FAIL(PB_E_OOM, "no memory for a suite");
    PB_TRY(add_model(root, a->request.model));
    PB_TRY(add_data(root, a, setting.length));
    PB_TRY(choose_setting(a, &setting));
    a->suite_setting = setting;
    bool ok = add_settings(root, a, &setting, usual);
    pb_json *runs = pb_json_add_array(root, "runs");
    for (int i = 0; i < a->n_rows; i++) {
        bool part = false;
        PB_TRY(takes_part(a, &a->rows[i], &setting, &part));
        if (part) ok = ok && add_row(runs, &a->rows[i], usual);
        a->rows[i].left_out = !part && candidate(&a->rows[i]);
    }
    a->suite = ok ? pb_json_print(root, true) : NULL;
    if (!a->suite) PB_FAIL(PB_E_OOM, "no memory for a suite");
done:
    pb_json_free(root);
    return status;
}
