/* From the JSON of a suite file to rows: keys, types, ranges and defaults
 * (harness/suites/README.md). Test: tests/test_suite.c. */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "datasets/dataset.h"
#include "harness/suite_impl.h"
#include "models/config.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define KEYS(o, where, keys) PB_RETURN(pb_json_only_keys(o, where, keys, COUNT(keys)))

static const char *const dtype_choices[] = {"f32", "bf16", "auto"};

static pb_status no_object(const char *where) {
    return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
}

/* A member that must be an object when there is one; NULL reads as an empty object. */
static pb_status member(const pb_json *o, const char *where, const char *key, const pb_json **out) {
    *out = pb_json_get(o, key);
    if (*out && !cJSON_IsObject(*out)) {
        return PB_ERROR(PB_E_INPUT, "%s: %s: expected an object", where, key);
    }
    return PB_OK;
}

/* ---- seeds and rates ---- */

static pb_status read_seed(const pb_json *e, const char *where, int i, uint64_t *out) {
    int64_t v = -1;
    bool ok = false;
    if (cJSON_IsNumber(e)) {
        ok = e->valuedouble >= 0 && e->valuedouble < 9007199254740992.0;
        v = ok ? (int64_t)e->valuedouble : -1;
        ok = ok && (double)v == e->valuedouble;
    } else if (cJSON_IsString(e)) {
        ok = pb_parse_i64(e->valuestring, &v) && v >= 0;
    }
    if (!ok) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: seeds[%d]: expected a whole number from 0 (from 2^53 on"
                        " as a string)",
                        where, i);
    }
    *out = (uint64_t)v;
    return PB_OK;
}

pb_status pb_suite_read_seeds(const pb_json *o, const char *where, int cap, uint64_t *out, int *n) {
    const pb_json *list = pb_json_get(o, "seeds"), *e = NULL;
    if (!list) return PB_OK;
    int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (count < 1 || count > cap) {
        return PB_ERROR(PB_E_INPUT, "%s: seeds: expected an array of 1 to %d whole numbers", where,
                        cap);
    }
    *n = 0;
    cJSON_ArrayForEach (e, list) {
        uint64_t seed = 0;
        PB_RETURN(read_seed(e, where, *n, &seed));
        for (int i = 0; i < *n; i++) {
            if (out[i] != seed) continue;
            return PB_ERROR(PB_E_INPUT, "%s: seeds[%d]: %" PRIu64 " stands twice", where, *n, seed);
        }
        out[(*n)++] = seed;
    }
    return PB_OK;
}

static pb_status read_seeds(const pb_json *o, const char *where, pb_suite_row *row) {
    return pb_suite_read_seeds(o, where, PB_SUITE_MAX_SEEDS, row->seeds, &row->n_seeds);
}

pb_status pb_suite_read_counts(const pb_json *o, const char *where, const char *key, int64_t lo,
                               int64_t hi, int cap, int64_t *out, int *n) {
    const pb_json *list = pb_json_get(o, key), *e = NULL;
    if (!list) return PB_OK;
    int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    *n = 0;
    cJSON_ArrayForEach (e, list) {
        double v = cJSON_IsNumber(e) ? e->valuedouble : -1;
        bool ok = count <= cap && v >= (double)lo && v <= (double)hi && v == (double)(int64_t)v;
        for (int i = 0; ok && i < *n; i++) ok = (double)out[i] != v;
        if (!ok) break;
        out[(*n)++] = (int64_t)v;
    }
    if (*n == count && count > 0) return PB_OK;
    return PB_ERROR(PB_E_INPUT,
                    "%s: %s: expected an array of 1 to %d different whole numbers from %" PRId64
                    " to %" PRId64,
                    where, key, cap, lo, hi);
}

static pb_status read_lr(const pb_json *o, const char *where, pb_suite_row *row) {
    const pb_json *lr = pb_json_get(o, "lr"), *e = NULL;
    if (!lr) {
        if (row->n_lr > 0) return PB_OK;
        return PB_ERROR(PB_E_INPUT,
                        "%s: lr: missing; expected a number, or an array of numbers for"
                        " one run each",
                        where);
    }
    int n = cJSON_IsArray(lr) ? cJSON_GetArraySize(lr) : 1;
    if (n < 1 || n > PB_SUITE_MAX_LR) {
        return PB_ERROR(PB_E_INPUT, "%s: lr: expected 1 to %d numbers", where, PB_SUITE_MAX_LR);
    }
    row->n_lr = 0;
    for (e = cJSON_IsArray(lr) ? lr->child : lr; e && row->n_lr < n; e = e->next) {
        if (!cJSON_IsNumber(e) || !(e->valuedouble > 0 && e->valuedouble <= 10)) {
            return PB_ERROR(PB_E_INPUT, "%s: lr: expected numbers above 0 and up to 10", where);
        }
        for (int i = 0; i < row->n_lr; i++) {
            if (row->lr[i] != e->valuedouble) continue;
            return PB_ERROR(PB_E_INPUT, "%s: lr: %g stands twice", where, e->valuedouble);
        }
        row->lr[row->n_lr++] = e->valuedouble;
    }
    return PB_OK;
}

/* ---- blocks ---- */

static pb_status read_length(const pb_json *o, const char *where, pb_run_config *r) {
    bool steps = pb_json_get(o, "steps"), epochs = pb_json_get(o, "epochs");
    if (steps && epochs) {
        return PB_ERROR(PB_E_INPUT, "%s: steps and epochs: expected one of the two", where);
    }
    PB_RETURN(pb_json_read_i64(o, where, "steps", 1, 1000000000, &r->steps));
    PB_RETURN(pb_json_read_f64(o, where, "epochs", 1e-6, 1e6, &r->epochs));
    if (steps) r->epochs = 0;
    if (epochs) r->steps = 0;
    return PB_OK;
}

static pb_status read_optimizer(const pb_json *o, const char *where, pb_run_config *r) {
    static const char *const schedules[] = {"linear", "cosine", "constant"};
    static const char *const optimizers[] = {"adamw", "adamw8"};
    int schedule = (int)r->schedule, optimizer = (int)r->optimizer;
    PB_RETURN(pb_json_read_choice(o, where, "schedule", schedules, COUNT(schedules), &schedule));
    PB_RETURN(
        pb_json_read_choice(o, where, "optimizer", optimizers, COUNT(optimizers), &optimizer));
    r->schedule = (pb_schedule)schedule;
    r->optimizer = (pb_optimizer)optimizer;
    PB_RETURN(pb_json_read_bool(o, where, "paged", &r->paged));
    PB_RETURN(pb_json_read_f64(o, where, "warmup", 0, 1e9, &r->warmup));
    PB_RETURN(pb_json_read_f64(o, where, "beta1", 0, 0.999999999, &r->beta1));
    PB_RETURN(pb_json_read_f64(o, where, "beta2", 0, 0.999999999, &r->beta2));
    PB_RETURN(pb_json_read_f64(o, where, "eps", 1e-30, 1, &r->eps));
    PB_RETURN(pb_json_read_f64(o, where, "weight_decay", 0, 10, &r->weight_decay));
    return pb_json_read_f64(o, where, "clip", 0, 1e9, &r->clip);
}

/* true: every layer; a number: the lowest so many. */
static pb_status read_checkpoint(const pb_json *o, const char *where, pb_run_config *r) {
    const pb_json *v = pb_json_get(o, "checkpoint");
    if (cJSON_IsBool(v)) r->checkpoint = cJSON_IsTrue(v) ? PB_CHECKPOINT_ALL : 0;
    if (!v || cJSON_IsBool(v)) return PB_OK;
    if (cJSON_IsNumber(v))
        return pb_json_read_i64(o, where, "checkpoint", 0, 100000, &r->checkpoint);
    return PB_ERROR(PB_E_INPUT,
                    "%s: checkpoint: expected true (every layer), false, or how many of the lowest "
                    "layers",
                    where);
}

static pb_status read_train(const pb_json *parent, const char *parent_where, pb_run_config *r) {
    static const char *const keys[] = {"steps",          "epochs",
                                       "batch",          "accumulate",
                                       "schedule",       "warmup",
                                       "optimizer",      "beta1",
                                       "beta2",          "eps",
                                       "weight_decay",   "clip",
                                       "hidden_dropout", "attention_dropout",
                                       "head_dropout",   "checkpoint",
                                       "paged"};
    char where[512];
    const pb_json *o = NULL;
    snprintf(where, sizeof where, "%s%strain", parent_where,
             strchr(parent_where, ']') ? "." : ": ");
    PB_RETURN(member(parent, parent_where, "train", &o));
    if (!o) return PB_OK;
    KEYS(o, where, keys);
    PB_RETURN(read_length(o, where, r));
    PB_RETURN(pb_json_read_i64(o, where, "batch", 1, 65536, &r->batch));
    PB_RETURN(pb_json_read_i64(o, where, "accumulate", 1, 4096, &r->accumulate));
    PB_RETURN(read_checkpoint(o, where, r));
    PB_RETURN(read_optimizer(o, where, r));
    PB_RETURN(pb_json_read_f64(o, where, "hidden_dropout", 0, 0.99, &r->hidden_dropout));
    PB_RETURN(pb_json_read_f64(o, where, "attention_dropout", 0, 0.99, &r->attention_dropout));
    return pb_json_read_f64(o, where, "head_dropout", 0, 0.99, &r->head_dropout);
}

/* "8x128": 8 sequences of 128 tokens. */
static pb_status read_shape(const pb_json *e, const char *where, int i, pb_infer_shape *out) {
    int used = 0, batch = 0, length = 0;
    const char *text = cJSON_IsString(e) ? e->valuestring : "";
    if (sscanf(text, "%5dx%7d%n", &batch, &length, &used) == 2 && text[used] == 0 &&
        text[0] >= '1' && text[0] <= '9' && batch <= 4096 && length >= 2 && length <= 1048576 &&
        strchr(text, 'x')[1] >= '1' && strchr(text, 'x')[1] <= '9') {
        *out = (pb_infer_shape){batch, length};
        return PB_OK;
    }
    return PB_ERROR(PB_E_INPUT,
                    "%s: infer_shapes[%d]: expected \"BATCHxTOKENS\", as \"8x128\": 1 to 4096"
                    " sequences of 2 to 1048576 tokens",
                    where, i);
}

static pb_status read_shapes(const pb_json *o, const char *where, pb_run_config *r) {
    const pb_json *list = pb_json_get(o, "infer_shapes"), *e = NULL;
    if (!list) return PB_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > PB_INFER_SHAPES) {
        return PB_ERROR(PB_E_INPUT, "%s: infer_shapes: expected an array of up to %d texts", where,
                        PB_INFER_SHAPES);
    }
    r->n_infer_shapes = 0;
    cJSON_ArrayForEach (e, list) {
        pb_infer_shape *s = &r->infer_shapes[r->n_infer_shapes];
        PB_RETURN(read_shape(e, where, r->n_infer_shapes, s));
        for (int i = 0; i < r->n_infer_shapes; i++) {
            if (r->infer_shapes[i].batch == s->batch && r->infer_shapes[i].length == s->length)
                return PB_ERROR(PB_E_INPUT, "%s: infer_shapes[%d]: %s stands twice", where,
                                r->n_infer_shapes, e->valuestring);
        }
        r->n_infer_shapes++;
    }
    return PB_OK;
}

static pb_status too_long(const char *where, const char *what) {
    return PB_ERROR(PB_E_INPUT, "%s: %s: too long", where, what);
}

static const pb_source *find_source(const char *name) {
    for (int i = 0; i < pb_source_registry_count; i++) {
        if (strcmp(pb_source_registry[i]->name, name) == 0) return pb_source_registry[i];
    }
    return NULL;
}

static pb_status unknown_source(const char *where, const char *name) {
    const char *names[64];
    int n = 0;
    pb_text all = {0};
    for (; n < pb_source_registry_count && n < 64; n++) {
        names[n] = pb_source_registry[n]->name;
        pb_text_add(&all, "%s%s", n ? ", " : "", names[n]);
    }
    const char *near = pb_nearest(name, names, (size_t)n);
    pb_status status = PB_ERROR(PB_E_INPUT,
                                "%s: no data source '%s' and no such folder; did you mean"
                                " '%s'? Sources: %s",
                                where, name, near ? near : "", all.data ? all.data : "none");
    pb_text_free(&all);
    return status;
}

/* A folder called "." or ".." gets its real name: names stand in records. Others keep theirs, also
 * links. */
static char *named(char *path) {
    const char *slash = path ? strrchr(path, '/') : NULL;
    const char *last = slash ? slash + 1 : path;
    if (!path || (*last && strcmp(last, ".") != 0 && strcmp(last, "..") != 0)) return path;
    char *real = realpath(path, NULL);
    if (!real) return path;
    free(path);
    return real;
}

/* base: the folder that relative ones start in, NULL = here. */
static pb_status set_data_dir(const char *where, const char *dir, const char *base,
                              pb_run_config *r) {
    pb_status status = PB_OK;
    char *path = named(base && dir[0] != '/' ? pb_path_join(base, dir) : strdup(dir));
    if (!path) PB_FAIL(PB_E_OOM, "%s: no memory for a path", where);
    if (!pb_is_dir(path)) {
        PB_FAIL(PB_E_INPUT, "%s: %s is no folder; expected one with train.jsonl", where, path);
    }
    r->data_name[0] = 0;
    if (!pb_copy(r->data_dir, sizeof r->data_dir, path)) status = too_long(where, path);
done:
    free(path);
    return status;
}

static pb_status set_data_source(const char *where, const char *name, pb_run_config *r) {
    if (!find_source(name)) return unknown_source(where, name);
    r->data_dir[0] = 0;
    return pb_copy(r->data_name, sizeof r->data_name, name) ? PB_OK : too_long(where, name);
}

/* The identity of a folder of general text: its files' bytes. */
static pb_status hash_general(const char *dir, char hex[PB_SHA256_HEX]) {
    static const char *const files[] = {"train.jsonl", "valid.jsonl", "test.jsonl"};
    pb_status status = PB_OK;
    pb_text all = {0};
    char *path = NULL;
    for (size_t i = 0; i < COUNT(files); i++) {
        free(path);
        path = pb_path_join(dir, files[i]);
        if (!path) PB_FAIL(PB_E_OOM, "no memory for a path");
        if (!pb_file_exists(path)) continue;
        PB_TRY(pb_sha256_file(path, hex));
        pb_text_add(&all, "%s %s\n", hex, files[i]);
    }
    PB_TRY(pb_text_status(&all));
    PB_TRY(pb_sha256_bytes(all.data ? all.data : "", all.len, hex));
done:
    free(path);
    pb_text_free(&all);
    return status;
}

/* {"dir" or "source": ..., "examples": n} */
static pb_status read_general(const pb_json *eval, const char *eval_where, const pb_suite_source *s,
                              pb_run_config *r) {
    static const char *const keys[] = {"dir", "source", "examples"};
    char where[560];
    const char *source = NULL, *dir = NULL;
    const pb_json *o = NULL;
    pb_run_config place = {.general_examples = 500};
    PB_RETURN(member(eval, eval_where, "general", &o));
    if (!o) return PB_OK;
    snprintf(where, sizeof where, "%s.general", eval_where);
    KEYS(o, where, keys);
    PB_RETURN(pb_json_read_str(o, where, "source", &source));
    PB_RETURN(pb_json_read_str(o, where, "dir", &dir));
    PB_RETURN(pb_json_read_i64(o, where, "examples", 2, 10000, &place.general_examples));
    if (!source == !dir)
        return PB_ERROR(PB_E_INPUT,
                        "%s: expected either source (a name from `peftbench list datasets`) or dir "
                        "(a folder with train.jsonl)",
                        where);
    PB_RETURN(source ? set_data_source(where, source, &place)
                     : set_data_dir(where, dir, s->dir, &place));
    if (dir) PB_RETURN(hash_general(place.data_dir, r->general_sha256));
    pb_copy(r->general_name, sizeof r->general_name, place.data_name);
    pb_copy(r->general_dir, sizeof r->general_dir, place.data_dir);
    r->general_examples = place.general_examples;
    return PB_OK;
}

static pb_status read_eval(const pb_json *root, const char *file, const pb_suite_source *s,
                           pb_run_config *r) {
    static const char *const keys[] = {"batch", "every", "train_examples", "infer_repeats",
                                       "infer_shapes", "general", "gradients", "weights",
                                       "before", "shape_repeats"};
    char where[512];
    const pb_json *o = NULL;
    snprintf(where, sizeof where, "%s: eval", file);
    PB_RETURN(member(root, file, "eval", &o));
    if (!o) return PB_OK;
    KEYS(o, where, keys);
    PB_RETURN(read_general(o, where, s, r));
    PB_RETURN(pb_json_read_i64(o, where, "batch", 1, 65536, &r->eval_batch));
    PB_RETURN(pb_json_read_i64(o, where, "every", 0, 1000000000, &r->eval_every));
    PB_RETURN(pb_json_read_bool(o, where, "before", &r->before));
    PB_RETURN(pb_json_read_i64(o, where, "train_examples", 0, INT32_MAX, &r->train_eval));
    PB_RETURN(pb_json_read_i64(o, where, "infer_repeats", 0, 10000, &r->infer_repeats));
    PB_RETURN(pb_json_read_i64(o, where, "shape_repeats", 1, 10000, &r->shape_repeats));
    if (r->shape_repeats > 0 && !pb_json_get(o, "infer_shapes"))
        return PB_ERROR(PB_E_INPUT, "%s: shape_repeats: passes of infer_shapes, but there are none", where);
    if (r->shape_repeats == r->infer_repeats) r->shape_repeats = 0; /* one run, one identity */
    PB_RETURN(pb_json_read_i64(o, where, "gradients", 0, 1000000000, &r->gradients));
    PB_RETURN(pb_json_read_i64(o, where, "weights", 0, 1000000000, &r->weights));
    return read_shapes(o, where, r);
}

static pb_status read_data_where(const pb_json *o, const char *where, const pb_suite_source *s,
                                 const pb_suite_overrides *over, pb_run_config *r) {
    const char *source = NULL, *dir = NULL;
    PB_RETURN(pb_json_read_str(o, where, "source", &source));
    PB_RETURN(pb_json_read_str(o, where, "dir", &dir));
    if (over->data) {
        if (find_source(over->data)) return set_data_source("--data", over->data, r);
        if (!pb_is_dir(over->data)) return unknown_source("--data", over->data);
        return set_data_dir("--data", over->data, NULL, r);
    }
    if (!source == !dir) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: expected either source (a name from `peftbench list datasets`)"
                        " or dir (a folder with train.jsonl)",
                        where);
    }
    if (source) return set_data_source(where, source, r);
    return set_data_dir(where, dir, s->dir, r);
}

static pb_status read_data(const pb_json *root, const pb_suite_source *s,
                           const pb_suite_overrides *over, pb_run_config *r) {
    static const char *const keys[] = {"source", "dir",  "max_len",       "train",
                                       "valid",  "test", "subsample_seed"};
    static const char *const limits[] = {"train", "valid", "test"};
    char where[512];
    const pb_json *o = NULL;
    int64_t subsample_seed = (int64_t)r->subsample_seed;
    snprintf(where, sizeof where, "%s: data", s->where);
    PB_RETURN(member(root, s->where, "data", &o));
    if (o) KEYS(o, where, keys);
    PB_RETURN(read_data_where(o, where, s, over, r));
    PB_RETURN(pb_json_read_i64(o, where, "max_len", 2, 1048576, &r->max_len));
    for (int i = 0; i < 3; i++) {
        PB_RETURN(pb_json_read_i64(o, where, limits[i], 0, INT32_MAX, &r->limit[i]));
    }
    PB_RETURN(pb_json_read_i64(o, where, "subsample_seed", 0, INT64_MAX, &subsample_seed));
    r->subsample_seed = (uint64_t)subsample_seed;
    return PB_OK;
}

/* A row may have its own number of training examples, nothing else of its own. */
static pb_status read_row_data(const pb_json *row, const char *row_where, pb_run_config *r) {
    static const char *const keys[] = {"train"};
    char where[600];
    const pb_json *o = NULL;
    snprintf(where, sizeof where, "%s.data", row_where);
    PB_RETURN(member(row, row_where, "data", &o));
    if (!o) return PB_OK;
    KEYS(o, where, keys);
    return pb_json_read_i64(o, where, "train", 0, INT32_MAX, &r->limit[0]);
}

/* ---- models ---- */

static pb_status missing_model(const char *where, const char *name, const char *path) {
    return PB_ERROR(PB_E_ENV,
                    "%s: the model '%s' is not there: %s has no config.json. ./run.sh fetches"
                    " the default model; --model DIR takes another one (a Hugging Face folder)",
                    where, name, path);
}

pb_status pb_suite_model(const char *where, const char *model, const char *base, char out[1024]) {
    pb_status status = PB_OK;
    pb_model_config shape;
    char *path = NULL, *config = NULL;
    bool is_path = strchr(model, '/') || model[0] == '.';
    if (strncmp(model, "shape:", 6) == 0) {
        PB_TRY(pb_model_shape(model + 6, &shape));
        if (!pb_copy(out, 1024, model)) status = too_long(where, model);
        goto done;
    }
    if (is_path) {
        path = named(base && model[0] != '/' ? pb_path_join(base, model) : strdup(model));
    } else {
        char *models = pb_path_join(pb_home(), ".cache/models");
        path = models ? pb_path_join(models, model) : NULL;
        free(models);
    }
    if (!path || !(config = pb_path_join(path, "config.json"))) {
        PB_FAIL(PB_E_OOM, "%s: no memory for a path", where);
    }
    if (!is_path && !base && !pb_file_exists(config) && pb_is_dir(model)) { /* --model name here */
        free(path);
        free(config);
        path = strdup(model);
        config = pb_path_join(model, "config.json");
        if (!path || !config) PB_FAIL(PB_E_OOM, "%s: no memory for a path", where);
    }
    if (!*model || !pb_file_exists(config)) {
        status = missing_model(where, model, path);
        goto done;
    }
    if (!pb_copy(out, 1024, path)) status = too_long(where, path);
done:
    free(config);
    free(path);
    return status;
}

static pb_status read_model(const pb_json *root, const pb_suite_source *s,
                            const pb_suite_overrides *over, pb_run_config *r) {
    char where[512];
    const char *model = NULL;
    PB_RETURN(pb_json_read_str(root, s->where, "model", &model));
    if (over->model) return pb_suite_model("--model", over->model, NULL, r->model);
    if (!model) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: model: missing; expected a name, a folder, or shape:NAME, here or on the "
                        "command line: --model DIR%s%s%s",
                        s->where, *s->title ? " (" : "", s->title, *s->title ? ")" : "");
    }
    snprintf(where, sizeof where, "%s: model", s->where);
    return pb_suite_model(where, model, s->dir, r->model);
}

/* ---- rows ---- */

static bool printable(const char *s) {
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f) return false;
    }
    return true;
}

static pb_status read_label(const pb_json *o, const char *where, pb_run_config *r) {
    const char *label = r->method->title;
    PB_RETURN(pb_json_read_str(o, where, "label", &label));
    if (!*label || !printable(label) || !pb_copy(r->label, sizeof r->label, label)) {
        return PB_ERROR(PB_E_INPUT, "%s: label: expected 1 to %zu bytes without control characters",
                        where, sizeof r->label - 1);
    }
    return PB_OK;
}

/* Reads "method" and "params": the method itself says whether the parameters are good. */
static pb_status read_method(const pb_json *o, const char *where, pb_run_config *r) {
    char params_where[600];
    const char *name = NULL;
    const pb_json *params = NULL;
    void *self = NULL;
    PB_RETURN(pb_json_read_str(o, where, "method", &name));
    if (!name) {
        return PB_ERROR(PB_E_INPUT, "%s: method: missing; `peftbench list methods` names them",
                        where);
    }
    PB_RETURN(pb_method_lookup(name, where, &r->method));
    PB_RETURN(member(o, where, "params", &params));
    snprintf(params_where, sizeof params_where, "%s.params", where);
    PB_RETURN(r->method->create(params, params_where, &self));
    r->method->destroy(self);
    r->method_params = (pb_json *)(uintptr_t)params;
    return PB_OK;
}

/* Only methods whose adapter consists of components can be cut. */
static pb_status read_cuts(const pb_json *o, const char *where, pb_run_config *r) {
    PB_RETURN(pb_json_read_bool(o, where, "cuts", &r->cuts));
    if (!r->cuts || r->method->cut) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: cuts: %s cannot be cut to fewer components; expected lora or qlora",
                    where, r->method->name);
}

/* The rate: of the row; of the tuning; or of nobody, where nothing is trained. */
static pb_status read_rate(const pb_json *o, const char *where, const pb_suite_source *s,
                           pb_suite_row *row) {
    const char *who = s->tuned ? "the tuning chooses it (give the row's grid as tune.lr)"
                               : "nothing is trained here";
    if (!s->tuned && !s->is_latency) return read_lr(o, where, row);
    if (pb_json_get(o, "lr"))
        return PB_ERROR(PB_E_INPUT, "%s: lr: not expected: %s", where, who);
    return s->tuned ? pb_suite_read_row_tune(o, where, row) : PB_OK;
}

static pb_status read_row(const pb_json *o, const char *where, const pb_suite_source *s,
                          pb_suite_row *row) {
    static const char *const keys[] = {"label", "method", "lr",   "params", "train",
                                       "dtype", "seeds",  "data", "tune",   "cuts"};
    int dtype = (int)row->dtype;
    if (!cJSON_IsObject(o)) return no_object(where);
    KEYS(o, where, keys);
    if (pb_json_get(o, "tune") && !pb_json_get(s->root, "tune"))
        return PB_ERROR(PB_E_INPUT, "%s: tune: the suite itself has no \"tune\"", where);
    PB_RETURN(read_method(o, where, &row->run));
    PB_RETURN(read_label(o, where, &row->run));
    PB_RETURN(read_cuts(o, where, &row->run));
    PB_RETURN(read_train(o, where, &row->run));
    PB_RETURN(read_row_data(o, where, &row->run));
    PB_RETURN(read_rate(o, where, s, row));
    PB_RETURN(read_seeds(o, where, row));
    if (s->tuned && row->n_seeds < PB_TUNE_FINAL_SEEDS)
        return PB_ERROR(PB_E_INPUT,
                        "%s: seeds: %d, expected at least %d for the final comparison of a tuned suite;"
                        " --seeds asks for fewer",
                        where, row->n_seeds, PB_TUNE_FINAL_SEEDS);
    PB_RETURN(pb_json_read_choice(o, where, "dtype", dtype_choices, COUNT(dtype_choices), &dtype));
    row->dtype = (pb_dtype_choice)dtype;
    if (row->run.steps == 0 && row->run.epochs == 0 && !s->is_latency) {
        return PB_ERROR(PB_E_INPUT, "%s: train: steps or epochs is missing", where);
    }
    return PB_OK;
}

static pb_status read_rows(const pb_json *root, const pb_suite_overrides *over,
                           pb_suite_source *s) {
    const pb_json *list = pb_json_get(root, "runs"), *e = NULL;
    char where[512];
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (n < 1 || n > PB_SUITE_MAX_ROWS) {
        return PB_ERROR(PB_E_INPUT, "%s: runs: expected an array of 1 to %d objects", s->where,
                        PB_SUITE_MAX_ROWS);
    }
    s->rows = calloc((size_t)n, sizeof *s->rows);
    if (!s->rows) return PB_ERROR(PB_E_OOM, "%s: no memory for %d rows", s->where, n);
    cJSON_ArrayForEach (e, list) {
        pb_suite_row *row = &s->rows[s->n_rows];
        *row = s->defaults;
        if (over->has_lr) {
            row->lr[0] = over->lr;
            row->n_lr = 1;
        }
        snprintf(where, sizeof where, "%s: runs[%d]", s->where, s->n_rows);
        PB_RETURN(read_row(e, where, s, row));
        for (int i = 0; i < s->n_rows; i++) {
            if (strcmp(s->rows[i].run.label, row->run.label) != 0) continue;
            return PB_ERROR(PB_E_INPUT,
                            "%s: label: '%s' is the label of runs[%d] already; a report"
                            " needs one row per label",
                            where, row->run.label, i);
        }
        s->n_rows++;
        if (over->steps) {
            row->run.steps = over->steps;
            row->run.epochs = 0;
        }
        if (over->batch) row->run.batch = over->batch;
        if (over->checkpoint) row->run.checkpoint = PB_CHECKPOINT_ALL;
        if (over->has_lr) {
            row->lr[0] = over->lr;
            row->n_lr = 1;
        }
        for (int i = 0; i < over->seeds; i++) row->seeds[i] = (uint64_t)i + 1;
        if (over->seeds) row->n_seeds = over->seeds;
    }
    return PB_OK;
}

/* ---- the file ---- */

static void set_defaults(pb_suite_row *d) {
    *d = (pb_suite_row){.dtype = PB_DTYPE_AUTO, .n_seeds = 1, .seeds = {1}};
    pb_run_config *r = &d->run;
    pb_copy(r->device, sizeof r->device, "cpu");
    r->batch = 32;
    r->accumulate = 1;
    r->warmup = 0.06;
    r->beta1 = 0.9;
    r->beta2 = 0.999;
    r->eps = 1e-8;
    r->weight_decay = 0.01;
    r->clip = 1.0;
    r->hidden_dropout = r->attention_dropout = r->head_dropout = -1;
    r->max_len = 128;
    r->subsample_seed = 1;
    r->eval_batch = 64;
    r->train_eval = 500;
    r->infer_repeats = 5;
    r->deterministic = true;
}

static pb_status check_overrides(const pb_suite_overrides *o) {
    if (o->seeds < 0 || o->seeds > PB_SUITE_MAX_SEEDS) {
        return PB_ERROR(PB_E_INPUT, "--seeds: %d, expected 1 to %d", o->seeds, PB_SUITE_MAX_SEEDS);
    }
    if (o->steps < 0 || o->batch < 0 || o->max_len < 0) {
        return PB_ERROR(PB_E_INPUT, "--steps, --batch and --max-len must be positive");
    }
    if (o->has_lr && !(o->lr > 0 && o->lr <= 10)) {
        return PB_ERROR(PB_E_INPUT, "--lr: %g, expected a number above 0 and up to 10", o->lr);
    }
    return PB_OK;
}

static pb_status read_device_and_dtype(const pb_json *root, const pb_suite_overrides *over,
                                       const char *where, pb_suite_row *d) {
    int dtype = (int)d->dtype;
    const char *device = d->run.device;
    PB_RETURN(
        pb_json_read_choice(root, where, "dtype", dtype_choices, COUNT(dtype_choices), &dtype));
    PB_RETURN(pb_json_read_str(root, where, "device", &device));
    if (over->device) device = over->device;
    d->dtype = (pb_dtype_choice)dtype;
    if (device == d->run.device) return PB_OK;
    return pb_copy(d->run.device, sizeof d->run.device, device) ? PB_OK : too_long(where, "device");
}

/* --dtype wins over the rows' own. */
static pb_status override_dtype(const pb_suite_overrides *over, pb_suite_source *s) {
    for (size_t c = 0; over->dtype && c < COUNT(dtype_choices); c++) {
        if (strcmp(over->dtype, dtype_choices[c]) != 0) continue;
        for (int i = 0; i < s->n_rows; i++) s->rows[i].dtype = (pb_dtype_choice)c;
        return PB_OK;
    }
    if (!over->dtype) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "--dtype: '%s', expected f32, bf16 or auto", over->dtype);
}

/* A collection names other suites and holds nothing else. */
static pb_status read_suites(const pb_json *root, pb_suite_source *s) {
    static const char *const keys[] = {"title", "suites"};
    const pb_json *list = pb_json_get(root, "suites"), *e = NULL;
    KEYS(root, s->where, keys);
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    cJSON_ArrayForEach (e, list) {
        bool ok = n <= PB_SUITE_MAX_SUITES && cJSON_IsString(e) && *e->valuestring &&
                  !strchr(e->valuestring, '/') && pb_copy(s->suites[s->n_suites], 64, e->valuestring);
        for (int i = 0; ok && i < s->n_suites; i++)
            ok = strcmp(s->suites[i], e->valuestring) != 0;
        if (!ok) break;
        s->n_suites++;
    }
    if (n > 0 && s->n_suites == n) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: suites: expected an array of 1 to %d different suite names",
                    s->where, PB_SUITE_MAX_SUITES);
}

pb_status pb_suite_parse(const pb_json *root, const pb_suite_overrides *overrides,
                         pb_suite_source *s) {
    static const char *const keys[] = {
        "title", "model", "data",     "dtype",         "device",  "seeds",  "train",  "eval",
        "runs",  "profile", "examples", "keep_adapters", "latency", "suites", "tune"};
    const char *title = "";
    bool keep = true;
    pb_run_config *r = &s->defaults.run;
    s->root = root;
    if (!cJSON_IsObject(root)) return no_object(s->where);
    KEYS(root, s->where, keys);
    PB_RETURN(check_overrides(overrides));
    set_defaults(&s->defaults);
    PB_RETURN(pb_json_read_str(root, s->where, "title", &title));
    if (!printable(title) || !pb_copy(s->title, sizeof s->title, title)) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: title: expected at most %zu bytes without control characters",
                        s->where, sizeof s->title - 1);
    }
    if (pb_json_get(root, "suites")) return read_suites(root, s);
    PB_RETURN(pb_json_read_bool(root, s->where, "profile", &s->profile));
    PB_RETURN(pb_json_read_bool(root, s->where, "keep_adapters", &keep));
    s->drop_adapters = !keep;
    PB_RETURN(pb_suite_read_latency(root, s->where, s));
    if (!overrides->has_lr) PB_RETURN(pb_suite_read_tune(root, s->where, s));
    PB_RETURN(pb_suite_read_counts(root, s->where, "examples", 1, INT32_MAX, PB_SUITE_MAX_EXAMPLES,
                                   s->examples, &s->n_examples));
    PB_RETURN(read_model(root, s, overrides, r));
    if (!s->is_latency) PB_RETURN(read_data(root, s, overrides, r));
    if (overrides->max_len) r->max_len = overrides->max_len;
    PB_RETURN(read_device_and_dtype(root, overrides, s->where, &s->defaults));
    PB_RETURN(read_seeds(root, s->where, &s->defaults));
    PB_RETURN(read_train(root, s->where, r));
    PB_RETURN(read_eval(root, s->where, s, r));
    PB_RETURN(read_rows(root, overrides, s));
    if (s->tuned) PB_RETURN(pb_suite_check_tune(s));
    return override_dtype(overrides, s);
}
