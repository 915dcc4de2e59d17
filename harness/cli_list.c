/* peftbench list: what can be put into a suite, and what of it is here. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "datasets/dataset.h"
#include "harness/cli.h"
#include "harness/cli_table.h"
#include "harness/gpus.h"
#include "harness/suite.h"
#include "models/config.h"

static double number_of(const pb_json *o, const char *key) {
    const pb_json *v = pb_json_get(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

/* ---- methods ---- */

static pb_status add_methods(pb_json *list) {
    for (int i = 0; i < pb_method_registry_count; i++) {
        const pb_method *m = pb_method_registry[i];
        void *self = NULL;
        pb_json *o = pb_json_add_object(list, NULL);
        bool ok = pb_json_add_str(o, "name", m->name) && pb_json_add_str(o, "title", m->title) &&
                  pb_json_add_str(o, "paper", m->paper) &&
                  pb_json_add_bool(o, "mergeable", m->mergeable);
        pb_json *defaults = pb_json_add_object(o, "params");
        PB_RETURN(pb_cli_built(ok && defaults));
        if (m->create(NULL, m->name, &self) != PB_OK) {
            pb_error_clear();
            continue;
        }
        pb_status status = m->describe(self, defaults);
        m->destroy(self);
        PB_RETURN(status);
        for (int k = 0; m->keys[k] && ok; k++) /* a parameter that is not set by default */
            if (!pb_json_get(defaults, m->keys[k])) ok = cJSON_AddNullToObject(defaults, m->keys[k]) != NULL;
        PB_RETURN(pb_cli_built(ok));
    }
    return PB_OK;
}

static pb_status show_methods(const pb_json *list) {
    static const char *const head[] = {"METHOD", "PAPER", "PARAMETERS AND DEFAULTS", NULL};
    pb_table t;
    const pb_json *o = NULL;
    pb_table_start(&t, head, 7);
    cJSON_ArrayForEach (o, list) {
        char *params = pb_json_print(pb_json_get(o, "params"), false);
        pb_table_row(&t);
        pb_table_cell(&t, 0, "%s", pb_json_text(o, "name"));
        pb_table_cell(&t, 1, "%s", pb_json_text(o, "paper"));
        bool cut = params && strlen(params) >= PB_TABLE_CELL;
        pb_table_cell(&t, 2, "%.*s%s", cut ? PB_TABLE_CELL - 5 : PB_TABLE_CELL,
                      params ? params : "", cut ? "..." : "");
        free(params);
    }
    return pb_table_end(&t, stdout);
}

/* ---- models ---- */

static pb_status add_model(pb_json *list, const char *name, const char *kind,
                           const pb_model_config *c) {
    pb_json *o = pb_json_add_object(list, NULL);
    return pb_cli_built(pb_json_add_str(o, "name", name) && pb_json_add_str(o, "kind", kind) &&
                        pb_json_add_str(o, "family", c->family) &&
                        pb_json_add_i64(o, "params", pb_model_config_params(c)) &&
                        pb_json_add_i64(o, "layers", c->L) && pb_json_add_i64(o, "width", c->C) &&
                        pb_json_add_i64(o, "positions", c->P) &&
                        pb_json_add_str(o, "task", c->causal ? "completion" : "classification"));
}

static pb_status add_local_models(pb_json *list) {
    pb_status status = PB_OK;
    char **names = NULL;
    size_t n = 0;
    char *dir = pb_path_join(pb_home(), ".cache/models");
    if (!dir) PB_FAIL(PB_E_OOM, "no memory for a path");
    if (!pb_is_dir(dir)) goto done;
    PB_TRY(pb_list_dir(dir, &names, &n));
    for (size_t i = 0; i < n && status == PB_OK; i++) {
        pb_model_config config;
        char *model = pb_path_join(dir, names[i]);
        char *file = model ? pb_path_join(model, "config.json") : NULL;
        if (file && pb_file_exists(file)) {
            if (pb_model_config_load(model, &config) == PB_OK) {
                status = add_model(list, names[i], "local", &config);
            } else {
                fprintf(stderr, "peftbench: %s is left out: %s\n", names[i], pb_error_message());
                pb_error_clear();
            }
        }
        free(file);
        free(model);
    }
done:
    pb_names_free(names, n);
    free(dir);
    return status;
}

static pb_status add_models(pb_json *list) {
    PB_RETURN(add_local_models(list));
    for (const char *const *name = pb_model_shape_names(); *name; name++) {
        pb_model_config config;
        char shown[128];
        PB_RETURN(pb_model_shape(*name, &config));
        snprintf(shown, sizeof shown, "shape:%s", *name);
        PB_RETURN(add_model(list, shown, "shape", &config));
    }
    return PB_OK;
}

static pb_status show_models(const pb_json *list) {
    static const char *const head[] = {"MODEL",  "KIND",  "FAMILY",    "TASK", "PARAMETERS",
                                       "LAYERS", "WIDTH", "POSITIONS", NULL};
    pb_table t;
    const pb_json *o = NULL;
    pb_table_start(&t, head, 15);
    cJSON_ArrayForEach (o, list) {
        double params = number_of(o, "params");
        pb_table_row(&t);
        pb_table_cell(&t, 0, "%s", pb_json_text(o, "name"));
        pb_table_cell(&t, 1, "%s", pb_json_text(o, "kind"));
        pb_table_cell(&t, 2, "%s", pb_json_text(o, "family"));
        pb_table_cell(&t, 3, "%s", pb_json_text(o, "task"));
        pb_table_cell(&t, 4, params < 1e9 ? "%.1f M" : "%.2f G",
                      params < 1e9 ? params / 1e6 : params / 1e9);
        pb_table_cell(&t, 5, "%.0f", number_of(o, "layers"));
        pb_table_cell(&t, 6, "%.0f", number_of(o, "width"));
        pb_table_cell(&t, 7, "%.0f", number_of(o, "positions"));
    }
    PB_RETURN(pb_table_end(&t, stdout));
    printf("local: under %s/.cache/models; any other folder goes by its path.\n"
           "shape: random weights, for `bench step` and `run --dry-run` only.\n",
           pb_home());
    return PB_OK;
}

/* ---- data sets ---- */

static pb_status add_datasets(pb_json *list) {
    for (int i = 0; i < pb_source_registry_count; i++) {
        const pb_source *s = pb_source_registry[i];
        pb_texts texts = {0};
        pb_json *o = pb_json_add_object(list, NULL);
        bool ok = pb_json_add_str(o, "name", s->name) && pb_json_add_str(o, "title", s->title) &&
                  pb_json_add_str(o, "task", pb_task_name(s->task)) &&
                  pb_json_add_str(o, "licence", s->licence) &&
                  pb_json_add_str(o, "how_to_get", s->how_to_get);
        pb_status found = pb_texts_load(s->name, NULL, &texts);
        if (found == PB_E_OOM) return found;
        ok = ok && pb_json_add_bool(o, "present", found == PB_OK);
        if (found != PB_OK) ok = ok && pb_json_add_str(o, "problem", pb_error_message());
        pb_json *splits = found == PB_OK ? pb_json_add_object(o, "examples") : NULL;
        for (int k = 0; splits && k < PB_SPLITS; k++) {
            ok = ok && pb_json_add_i64(splits, pb_split_name((pb_split_id)k), texts.split[k].n);
        }
        pb_texts_free(&texts);
        pb_error_clear();
        PB_RETURN(pb_cli_built(ok));
    }
    return PB_OK;
}

static pb_status show_datasets(const pb_json *list) {
    const pb_json *o = NULL;
    cJSON_ArrayForEach (o, list) {
        const pb_json *n = pb_json_get(o, "examples");
        printf("%s: %s\n", pb_json_text(o, "name"), pb_json_text(o, "title"));
        printf("    task %s; licence: %s\n", pb_json_text(o, "task"), pb_json_text(o, "licence"));
        if (n) {
            printf("    here: %.0f training, %.0f validation, %.0f test examples\n",
                   number_of(n, "train"), number_of(n, "valid"), number_of(n, "test"));
        } else {
            printf("    not here: %s\n    how to get it: %s\n", pb_json_text(o, "problem"),
                   pb_json_text(o, "how_to_get"));
        }
    }
    printf("A folder with train.jsonl [valid.jsonl] [test.jsonl] goes by its path: --data DIR.\n");
    return PB_OK;
}

/* ---- suites ---- */

static pb_status add_suite(pb_json *list, const char *name) {
    pb_status status = PB_OK;
    pb_json *suite = NULL;
    char file[512];
    const char *title = "", *model = "";
    snprintf(file, sizeof file, "harness/suites/%.256s.json", name);
    char *path = pb_path_join(pb_home(), file);
    if (!path) PB_FAIL(PB_E_OOM, "no memory for a path");
    PB_TRY(pb_json_load(path, 4 << 20, &suite));
    title = pb_json_text(suite, "title");
    model = pb_json_text(suite, "model");
    pb_json *o = pb_json_add_object(list, NULL);
    const pb_json *data = pb_json_get(suite, "data");
    status = pb_cli_built(
        pb_json_add_str(o, "name", name) && pb_json_add_str(o, "title", title) &&
        pb_json_add_str(o, "model", model) &&
        pb_json_add_str(
            o, "data", *pb_json_text(data, "source") ? pb_json_text(data, "source") : pb_json_text(data, "dir")) &&
        pb_json_add_i64(o, "rows", cJSON_GetArraySize(pb_json_get(suite, "runs"))) &&
        pb_json_add_i64(o, "seeds", cJSON_GetArraySize(pb_json_get(suite, "seeds"))));
done:
    pb_json_free(suite);
    free(path);
    return status;
}

static pb_status add_suites(pb_json *list) {
    pb_status status = PB_OK;
    char **names = NULL;
    size_t n = 0;
    PB_TRY(pb_suite_names(&names, &n));
    for (size_t i = 0; i < n; i++) PB_TRY(add_suite(list, names[i]));
done:
    pb_names_free(names, n);
    return status;
}

static pb_status show_suites(const pb_json *list) {
    static const char *const head[] = {"SUITE", "MODEL", "DATA", "ROWS", "SEEDS", "TITLE", NULL};
    pb_table t;
    const pb_json *o = NULL;
    pb_table_start(&t, head, 1 | 2 | 4 | 32);
    cJSON_ArrayForEach (o, list) {
        pb_table_row(&t);
        pb_table_cell(&t, 0, "%s", pb_json_text(o, "name"));
        bool named = *pb_json_text(o, "model") || number_of(o, "rows") == 0;
        pb_table_cell(&t, 1, "%s", named ? pb_json_text(o, "model") : "--model DIR");
        pb_table_cell(&t, 2, "%s", pb_json_text(o, "data"));
        pb_table_cell(&t, 3, "%.0f", number_of(o, "rows"));
        pb_table_cell(&t, 4, "%.0f", number_of(o, "seeds"));
        pb_table_cell(&t, 5, "%s", pb_json_text(o, "title"));
    }
    return pb_table_end(&t, stdout);
}

/* ---- ops ---- */

/* A plan knows the kernels of a backend that cannot run here; one that is not part of this build has none. */
static const char *const backends[] = {"cpu", "cuda", "ref"};
static const char *const devices[] = {"cpu", "plan:cuda", "ref"};
enum { N_BACKENDS = sizeof backends / sizeof backends[0] };

static pb_status add_ops(pb_json *list) {
    pb_status status = PB_OK;
    pb_device *dev[N_BACKENDS] = {NULL};
    pb_device_options options = {.threads = 1};
    for (int b = 0; b < N_BACKENDS; b++) {
        pb_status opened = pb_device_open(devices[b], &options, &dev[b]);
        if (opened != PB_E_ENV) PB_TRY(opened);
    }
    pb_error_clear();
    for (int op = 0; op < PB_OP_COUNT; op++) {
        pb_json *o = pb_json_add_object(list, NULL);
        bool ok = pb_json_add_str(o, "name", pb_op_name((pb_op)op));
        for (int b = 0; b < N_BACKENDS; b++) {
            const char *variant = dev[b] != NULL ? pb_op_variant(dev[b], (pb_op)op) : NULL;
            ok = ok && pb_json_add_str(o, backends[b], variant);
        }
        PB_TRY(pb_cli_built(ok));
    }
done:
    for (int b = 0; b < N_BACKENDS; b++) pb_device_close(dev[b]);
    return status;
}

static pb_status show_ops(const pb_json *list) {
    static const char *const head[] = {"OP", "CPU", "CUDA", "REF", NULL};
    pb_table t;
    const pb_json *o = NULL;
    pb_table_start(&t, head, 15);
    cJSON_ArrayForEach (o, list) {
        pb_table_row(&t);
        pb_table_cell(&t, 0, "%s", pb_json_text(o, "name"));
        for (int b = 0; b < N_BACKENDS; b++) {
            const char *variant = pb_json_text(o, backends[b]);
            pb_table_cell(&t, b + 1, "%s", *variant ? variant : "-");
        }
    }
    return pb_table_end(&t, stdout);
}

/* ---- gpus ---- */

static pb_status add_gpus(pb_json *list) {
    int n = 0;
    const pb_gpu *gpus = pb_gpu_table(&n);
    for (int i = 0; i < n; i++) {
        pb_json *o = pb_json_add_object(list, NULL);
        PB_RETURN(pb_cli_built(pb_json_add_str(o, "name", gpus[i].name) &&
                               pb_json_add_f64(o, "memory_gib", gpus[i].memory_gib) &&
                               pb_json_add_f64(o, "gb_per_s", gpus[i].gb_per_s) &&
                               pb_json_add_f64(o, "bf16_tflops", gpus[i].bf16_tflops) &&
                               pb_json_add_f64(o, "f32_tflops", gpus[i].f32_tflops) &&
                               pb_json_add_f64(o, "host_gb_per_s", pb_gpu_host_bytes_per_s(&gpus[i]) * 1e-9) &&
                               pb_json_add_str(o, "source", gpus[i].source)));
    }
    return PB_OK;
}

static pb_status show_gpus(const pb_json *list) {
    static const char *const head[] = {"GPU", "GIB", "GB/S", "BF16 TFLOP/S", "F32 TFLOP/S", "SOURCE", NULL};
    static const char *const keys[] = {"memory_gib", "gb_per_s", "bf16_tflops", "f32_tflops"};
    pb_table t;
    const pb_json *o = NULL;
    pb_table_start(&t, head, 1 | 32);
    cJSON_ArrayForEach (o, list) {
        pb_table_row(&t);
        pb_table_cell(&t, 0, "%s", pb_json_text(o, "name"));
        for (int i = 0; i < 4; i++) pb_table_cell(&t, i + 1, "%g", number_of(o, keys[i]));
        pb_table_cell(&t, 5, "%s", pb_json_text(o, "source"));
    }
    return pb_table_end(&t, stdout);
}

/* ---- the command ---- */

static const struct section {
    const char *name;
    pb_status (*add)(pb_json *list);
    pb_status (*show)(const pb_json *list);
} sections[] = {
    {"methods", add_methods, show_methods},
    {"models", add_models, show_models},
    {"datasets", add_datasets, show_datasets},
    {"suites", add_suites, show_suites},
    {"ops", add_ops, show_ops},
    {"gpus", add_gpus, show_gpus},
};
enum { N_SECTIONS = sizeof sections / sizeof sections[0] };

static pb_status find_section(const char *name, int *out) {
    const char *names[N_SECTIONS];
    for (int i = 0; i < N_SECTIONS; i++) {
        names[i] = sections[i].name;
        if (strcmp(name, names[i]) == 0) {
            *out = i;
            return PB_OK;
        }
    }
    return PB_ERROR(
        PB_E_INPUT,
        "nothing to list under '%s'; did you mean '%s'? There are methods, models, datasets,"
        " suites, ops and gpus",
        name, pb_nearest(name, names, N_SECTIONS));
}

static pb_status run_list(pb_cli *cli, int argc, char **argv) {
    pb_status status = PB_OK;
    int format = 0, only = -1;
    pb_command_line line;
    const pb_option options[] = {PB_OPTION_FORMAT(&format)};
    PB_RETURN(pb_cli_parse(cli, options, 1, argc, argv, &line));
    if (line.help) return PB_OK;
    if (line.n_args == 1) PB_RETURN(find_section(line.args[0], &only));
    pb_json *root = cJSON_CreateObject();
    for (int i = 0; i < N_SECTIONS; i++) {
        if (only >= 0 && only != i) continue;
        pb_json *list = pb_json_add_array(root, sections[i].name);
        PB_TRY(pb_cli_built(list != NULL));
        PB_TRY(sections[i].add(list));
        if (format != 0) continue;
        if (only < 0 && i > 0) putchar('\n');
        PB_TRY(sections[i].show(list));
    }
    if (format != 0) {
        status = pb_cli_print_json(root);
        root = NULL;
    }
done:
    pb_json_free(root);
    return status;
}

const pb_command pb_command_list = {
    .name = "list",
    .args = "[WHAT]",
    .summary = "methods, models, datasets, suites, ops, gpus",
    .details = "Lists what there is: methods with their parameters and defaults, local models and "
               "known shapes, data\n"
               "sources and whether their files are here, suites, the ops with the kernel each "
               "backend uses,\n"
               "and the GPUs that advise knows, with their published rates.\n"
               "WHAT is methods, models, datasets, suites, ops or gpus; all of them when left out.\n",
    .max_args = 1,
    .run = run_list,
};
