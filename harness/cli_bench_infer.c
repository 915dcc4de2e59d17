/* peftbench bench infer: a latency suite from the command line. The suite file is written beside its
 * records, so that `peftbench run` repeats it. Test: tests/test_latency.c. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/cli_bench.h"
#include "harness/latency.h"
#include "harness/suite_impl.h"

static bool has_key(const pb_method *m, const char *key) {
    for (int i = 0; m->keys && m->keys[i]; i++)
        if (strcmp(m->keys[i], key) == 0) return true;
    return false;
}

/* Trainable parameters of a method with one parameter set (NULL = none), variant NULL = its own. */
static pb_status count(pb_run_config *run, const pb_assets *assets, const char *method,
                       const char *key, int64_t value, const char *variant, int64_t *out) {
    pb_status status = PB_OK;
    pb_prediction p;
    pb_json *params = cJSON_CreateObject();
    bool ok = (!key || pb_json_add_i64(params, key, value)) &&
              (!variant || pb_json_add_str(params, "variant", variant));
    if (!ok) PB_FAIL(PB_E_OOM, "no memory for parameters");
    PB_TRY(pb_method_lookup(method, "--methods", &run->method));
    run->method_params = params;
    PB_TRY(pb_run_predict(run, assets, 1, 0, 0, &p));
    *out = p.params_trainable;
done:
    run->method_params = NULL;
    pb_json_free(params);
    return status;
}

static pb_status matching_size(pb_run_config *run, const pb_assets *assets, int64_t target,
                               const char *variant, int64_t *size) {
    int64_t low = 1, high = 65536, below = 0, above = 0;
    while (low < high) { /* the smallest size with at least the target */
        int64_t middle = (low + high) / 2, n = 0;
        PB_RETURN(count(run, assets, "adapter", "size", middle, variant, &n));
        if (n < target) low = middle + 1;
        else high = middle;
    }
    PB_RETURN(count(run, assets, "adapter", "size", low, variant, &above));
    if (low > 1) PB_RETURN(count(run, assets, "adapter", "size", low - 1, variant, &below));
    *size = low > 1 && target - below < above - target ? low - 1 : low;
    return PB_OK;
}

static bool add_row(pb_json *rows, const char *label, const char *method, const char *key,
                    int64_t value, const char *variant) {
    pb_json *o = pb_json_add_object(rows, NULL);
    bool ok = pb_json_add_str(o, "label", label) && pb_json_add_str(o, "method", method);
    pb_json *params = ok && (key || variant) ? pb_json_add_object(o, "params") : NULL;
    return ok && (!key || pb_json_add_i64(params, key, value)) &&
           (!variant || pb_json_add_str(params, "variant", variant));
}

static pb_status add_method(const pb_bench_request *q, pb_run_config *run, const pb_assets *assets,
                            const char *name, int64_t target, pb_json *rows) {
    static const char *const variants[] = {"houlsby", "pfeiffer"};
    const pb_method *m = NULL;
    char label[64];
    PB_RETURN(pb_method_lookup(name, "--methods", &m));
    if (strcmp(name, "adapter") != 0) {
        bool ranked = has_key(m, "rank");
        snprintf(label, sizeof label, ranked ? "%s r%" PRId64 : "%s", m->title, q->rank);
        return pb_cli_built(add_row(rows, label, name, ranked ? "rank" : NULL, q->rank, NULL));
    }
    for (int i = 0; i < 2; i++) {
        int64_t size = 0;
        PB_RETURN(matching_size(run, assets, target, variants[i], &size));
        snprintf(label, sizeof label, "Adapter %" PRId64 " %s", size, variants[i]);
        PB_RETURN(pb_cli_built(add_row(rows, label, name, "size", size, variants[i])));
    }
    return PB_OK;
}

static pb_status add_grid(pb_json *grid, const char *key, const char *list) {
    pb_json *out = pb_json_add_array(grid, key);
    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        char word[24];
        int64_t v = 0;
        size_t n = strcspn(p, ",");
        snprintf(word, sizeof word, "%.*s", (int)(n < 20 ? n : 20), p);
        if (!pb_parse_i64(word, &v) || v < 1)
            return PB_ERROR(PB_E_INPUT, "%s: '%s', expected whole numbers as 1,8,32", key, list);
        PB_RETURN(pb_cli_built(pb_json_add_i64(out, NULL, v)));
    }
    return PB_OK;
}

static pb_status compose(const pb_bench_request *q, pb_run_config *run, const pb_assets *assets,
                         pb_json *root) {
    static const char *const dtypes[] = {"f32", "bf16", "auto"};
    const char *methods = q->methods ? q->methods : "head,lora,adapter";
    int64_t target = 0;
    PB_RETURN(pb_cli_built(pb_json_add_str(root, "title", "Latency over batch and length") &&
                           pb_json_add_str(root, "model", run->model) &&
                           pb_json_add_str(root, "device", run->device) &&
                           pb_json_add_str(root, "dtype", dtypes[q->dtype])));
    pb_json *grid = pb_json_add_object(root, "latency");
    PB_RETURN(add_grid(grid, "batch", q->batches));
    PB_RETURN(add_grid(grid, "length", q->lengths));
    PB_RETURN(pb_cli_built(pb_json_add_i64(grid, "repeats", q->steps < 3 ? 3 : q->steps)));
    pb_json *rows = pb_json_add_array(root, "runs");
    PB_RETURN(count(run, assets, "lora", "rank", q->rank, NULL, &target));
    for (const char *p = methods; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        char name[64];
        size_t n = strcspn(p, ",");
        snprintf(name, sizeof name, "%.*s", (int)(n < 60 ? n : 60), p);
        PB_RETURN(add_method(q, run, assets, name, target, rows));
    }
    return PB_OK;
}

static pb_status write_suite(const pb_bench_request *q, const char *path) {
    pb_status status = PB_OK;
    pb_assets assets = {0};
    pb_run_config run = {.batch = 1, .accumulate = 1, .steps = 1, .max_len = 16, .lr = 1e-3,
                         .hidden_dropout = -1, .attention_dropout = -1, .head_dropout = -1};
    pb_json *root = cJSON_CreateObject();
    char *real = NULL;
    pb_copy(run.label, sizeof run.label, "bench infer");
    pb_copy(run.device, sizeof run.device, q->device);
    PB_TRY(pb_bench_dtype(q, &run.dtype));
    PB_TRY(pb_suite_model("--model", q->model, NULL, run.model));
    if (strncmp(run.model, "shape:", 6) != 0 && (real = realpath(run.model, NULL)))
        pb_copy(run.model, sizeof run.model, real);
    PB_TRY(pb_assets_load_model(&run, &assets));
    PB_TRY(compose(q, &run, &assets, root));
    PB_TRY(pb_json_save(root, path));
done:
    free(real);
    pb_json_free(root);
    pb_assets_free(&assets);
    return status;
}

pb_status pb_bench_infer(const pb_bench_request *q) {
    pb_status status = PB_OK;
    pb_suite suite = {0};
    pb_runner_summary summary = {0};
    pb_runner_options options = {.out_dir = q->out, .threads = (int)q->threads,
                                 .memory_budget = q->budget, .log = stderr};
    char *path = pb_path_join(q->out, "bench-infer.json");
    if (!path) PB_FAIL(PB_E_OOM, "no memory for a path");
    PB_TRY(pb_make_dirs(q->out));
    PB_TRY(write_suite(q, path));
    PB_TRY(pb_suite_load(path, NULL, &suite));
    PB_TRY(pb_latency_run(&suite, &options, &summary));
    printf("%s/%s\n", q->out, suite.name);
done:
    pb_suite_free(&suite);
    free(path);
    return status;
}
