/* The resolved configuration of a run as JSON: all that can change its result and nothing else, so
 * that its hash is the run's identity. Changing a key here changes every run id. Test:
 * tests/test_suite.c. */
#include <string.h>

#include "harness/suite.h"

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

void pb_run_model_name(const pb_run_config *run, char *out, size_t cap) {
    snprintf(out, cap, "%s", run->model);
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') out[--n] = 0;
    const char *name = strncmp(out, "shape:", 6) == 0 ? out : last_part(out);
    memmove(out, name, strlen(name) + 1);
}

void pb_run_data_name(const pb_run_config *run, char *out, size_t cap) {
    snprintf(out, cap, "%s", run->data_name[0] ? run->data_name : run->data_dir);
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') out[--n] = 0;
    const char *name = last_part(out);
    memmove(out, name, strlen(name) + 1);
}

static bool add_dropout(pb_json *o, const char *key, double p) {
    return p < 0 ? pb_json_add_str(o, key, "model") : pb_json_add_f64(o, key, p);
}

/* Only where it is on: runs without it keep the identity they had before it existed. */
static bool add_checkpoint(pb_json *t, int64_t layers) {
    if (layers == 0) return true;
    if (layers == PB_CHECKPOINT_ALL) return pb_json_add_bool(t, "checkpoint", true);
    return pb_json_add_i64(t, "checkpoint", layers);
}

static bool add_train(pb_json *o, const pb_run_config *r) {
    static const char *const schedules[] = {"linear", "cosine", "constant"};
    static const char *const optimizers[] = {"adamw", "adamw8"};
    pb_json *t = pb_json_add_object(o, "train");
    /* Steps that follow from epochs are known later only: they are not part of the identity. */
    bool length = r->epochs > 0 ? pb_json_add_f64(t, "epochs", r->epochs)
                                : pb_json_add_i64(t, "steps", r->steps);
    return length && pb_json_add_i64(t, "batch", r->batch) &&
           pb_json_add_i64(t, "accumulate", r->accumulate) && add_checkpoint(t, r->checkpoint) &&
           pb_json_add_str(t, "schedule", schedules[r->schedule]) &&
           pb_json_add_f64(t, "warmup", r->warmup) &&
           pb_json_add_str(t, "optimizer", optimizers[r->optimizer]) &&
           (!r->paged || pb_json_add_bool(t, "paged", true)) &&
           pb_json_add_f64(t, "beta1", r->beta1) && pb_json_add_f64(t, "beta2", r->beta2) &&
           pb_json_add_f64(t, "eps", r->eps) &&
           pb_json_add_f64(t, "weight_decay", r->weight_decay) &&
           pb_json_add_f64(t, "clip", r->clip) &&
           add_dropout(t, "hidden_dropout", r->hidden_dropout) &&
           add_dropout(t, "attention_dropout", r->attention_dropout) &&
           add_dropout(t, "head_dropout", r->head_dropout);
}

static bool add_assets(pb_json *o, const pb_run_config *r, const char *model_sha,
                       const char *data_sha) {
    char name[1024];
    pb_json *model = pb_json_add_object(o, "model"), *data = pb_json_add_object(o, "data");
    pb_run_model_name(r, name, sizeof name);
    bool ok = pb_json_add_str(model, "name", name) &&
              pb_json_add_str(model, "sha256", model_sha ? model_sha : "");
    pb_run_data_name(r, name, sizeof name);
    return ok && pb_json_add_str(data, "name", name) &&
           pb_json_add_str(data, "sha256", data_sha ? data_sha : "") &&
           pb_json_add_i64(data, "max_len", r->max_len) &&
           pb_json_add_i64(data, "train", r->limit[0]) &&
           pb_json_add_i64(data, "valid", r->limit[1]) &&
           pb_json_add_i64(data, "test", r->limit[2]) &&
           pb_json_add_i64(data, "subsample_seed", (int64_t)r->subsample_seed);
}

/* Named only where there are any: a run without them keeps the identity it had before they
 * existed. */
static bool add_shapes(pb_json *e, const pb_run_config *r) {
    if (r->n_infer_shapes == 0) return true;
    pb_json *list = pb_json_add_array(e, "infer_shapes");
    bool ok = list != NULL;
    for (int i = 0; i < r->n_infer_shapes && ok; i++) {
        char text[32];
        snprintf(text, sizeof text, "%dx%d", r->infer_shapes[i].batch, r->infer_shapes[i].length);
        ok = pb_json_add_str(list, NULL, text);
    }
    return ok && (r->shape_repeats == 0 || pb_json_add_i64(e, "shape_repeats", r->shape_repeats));
}

/* Only where it is on, as `checkpoint`. */
static bool add_general(pb_json *e, const pb_run_config *r) {
    if (r->general_examples == 0) return true;
    pb_json *g = pb_json_add_object(e, "general");
    return pb_json_add_str(g, "name",
                           r->general_name[0] ? r->general_name : last_part(r->general_dir)) &&
           pb_json_add_str(g, "sha256", r->general_sha256) &&
           pb_json_add_i64(g, "examples", r->general_examples);
}

static bool add_eval(pb_json *o, const pb_run_config *r) {
    pb_json *e = pb_json_add_object(o, "eval");
    return pb_json_add_i64(e, "batch", r->eval_batch) &&
           pb_json_add_i64(e, "every", r->eval_every) &&
           pb_json_add_i64(e, "train_examples", r->train_eval) &&
           pb_json_add_i64(e, "infer_repeats", r->infer_repeats) && add_shapes(e, r) &&
           add_general(e, r) &&
           /* Younger keys stand there only when they say something: older ids stay. */
           (!r->before || pb_json_add_bool(e, "before", true)) &&
           (r->gradients == 0 || pb_json_add_i64(e, "gradients", r->gradients)) &&
           (r->weights == 0 || pb_json_add_i64(e, "weights", r->weights)) &&
           (!r->cuts || pb_json_add_bool(e, "cuts", true)) &&
           (!r->skip_test || pb_json_add_bool(e, "test", false));
}

pb_status pb_run_config_json(const pb_run_config *run, const char *model_sha, const char *data_sha,
                             pb_json **out) {
    pb_status status = PB_OK;
    void *self = NULL;
    *out = NULL;
    cJSON *o = cJSON_CreateObject();
    bool ok = pb_json_add_str(o, "method", run->method->name);
    pb_json *params = pb_json_add_object(o, "params");
    if (!ok || !params) PB_FAIL(PB_E_OOM, "%s: no memory for the configuration", run->label);
    PB_TRY(run->method->create(run->method_params, run->label, &self));
    PB_TRY(run->method->describe(self, params));
    ok = add_assets(o, run, model_sha, data_sha) &&
         pb_json_add_str(o, "dtype", pb_dtype_name(run->dtype)) &&
         pb_json_add_str(o, "device", run->device) &&
         pb_json_add_i64(o, "seed", (int64_t)run->seed) && pb_json_add_f64(o, "lr", run->lr) &&
         add_train(o, run) && add_eval(o, run) &&
         pb_json_add_bool(o, "deterministic", run->deterministic);
    if (!ok) PB_FAIL(PB_E_OOM, "%s: no memory for the configuration", run->label);
    *out = o;
    o = NULL;
done:
    if (self) run->method->destroy(self);
    cJSON_Delete(o);
    return status;
}
