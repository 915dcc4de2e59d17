/* Loading what runs share. A shape ("shape:llama-7b") has a configuration only: it can be planned
 * and timed, not trained. */
#include "harness/assets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

#define SHAPE "shape:"

static bool is_shape(const char *model) { return strncmp(model, SHAPE, strlen(SHAPE)) == 0; }

/* The last part of the path, without trailing slashes. */
static void folder_name(const char *path, char *out, size_t cap) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t from = end;
    while (from > 0 && path[from - 1] != '/') from--;
    if (end - from >= cap) end = from + cap - 1;
    memcpy(out, path + from, end - from);
    out[end - from] = 0;
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

static pb_status hash_file_in(const char *dir, const char *name, char hex[PB_SHA256_HEX]) {
    char *path = pb_path_join(dir, name);
    if (path == NULL) return PB_ERROR(PB_E_OOM, "no host memory for a path");
    pb_status status = pb_sha256_file(path, hex);
    free(path);
    PB_RETURN(status);
    return PB_OK;
}

/* model.safetensors: the file's own sha256. Shards: the sha256 over "<sha256>  <name>\n" of each,
 * sorted by name, as `sha256sum *.safetensors | sha256sum` prints it. */
static pb_status hash_weights(const char *dir, char hex[PB_SHA256_HEX]) {
    pb_status status = PB_OK;
    char **names = NULL;
    size_t n = 0;
    pb_text lines = {0};
    char *single = pb_path_join(dir, "model.safetensors");
    if (single == NULL) PB_FAIL(PB_E_OOM, "no host memory for a path");
    if (pb_file_exists(single)) {
        PB_TRY(pb_sha256_file(single, hex));
        goto done;
    }
    PB_TRY(pb_list_dir(dir, &names, &n));
    for (size_t i = 0; i < n; i++) {
        if (!ends_with(names[i], ".safetensors")) continue;
        PB_TRY(hash_file_in(dir, names[i], hex));
        pb_text_add(&lines, "%s  %s\n", hex, names[i]);
    }
    PB_TRY(pb_text_status(&lines));
    PB_TRY(pb_sha256_bytes(lines.data != NULL ? lines.data : "", lines.len, hex));
done:
    free(single);
    pb_names_free(names, n);
    pb_text_free(&lines);
    return status;
}

static pb_status load_model(const char *model, pb_assets *out) {
    if (is_shape(model)) {
        PB_RETURN(pb_model_shape(model + strlen(SHAPE), &out->config));
        pb_copy(out->model_name, sizeof out->model_name, model);
        return pb_sha256_bytes(model, strlen(model), out->model_sha256);
    }
    PB_RETURN(pb_model_config_load(model, &out->config));
    folder_name(model, out->model_name, sizeof out->model_name);
    PB_RETURN(pb_safetensors_open(model, &out->weights));
    PB_RETURN(hash_weights(model, out->model_sha256));
    return pb_tokenizer_open(model, &out->tokenizer);
}

static pb_status load_data(const pb_run_config *run, pb_assets *out) {
    pb_status status = PB_OK;
    pb_texts texts = {0};
    pb_dataset_options options = {.max_len = run->max_len, .subsample_seed = run->subsample_seed};
    for (int i = 0; i < PB_SPLITS; i++) options.limit[i] = run->limit[i];
    PB_TRY(pb_texts_load(run->data_name[0] != 0 ? run->data_name : NULL,
                         run->data_dir[0] != 0 ? run->data_dir : NULL, &texts));
    if (pb_tokenizer_vocab(out->tokenizer) > out->config.V) {
        PB_FAIL(PB_E_INPUT,
                "%s: the tokenizer has %d tokens, the model's embedding %lld rows: they do not "
                "belong together",
                run->model, (int)pb_tokenizer_vocab(out->tokenizer), (long long)out->config.V);
    }
    PB_TRY(pb_dataset_new(&texts, out->tokenizer, &options, &out->data));
done:
    pb_texts_free(&texts);
    return status;
}

/* Only its test split is looked at. */
static pb_status load_general(const pb_run_config *run, pb_assets *out) {
    pb_status status = PB_OK;
    pb_texts texts = {0};
    pb_dataset_options options = {.max_len = run->max_len, .subsample_seed = run->subsample_seed};
    options.limit[PB_TRAIN] = options.limit[PB_VALID] = 1;
    options.limit[PB_TEST] = run->general_examples;
    PB_TRY(pb_texts_load(run->general_name[0] ? run->general_name : NULL,
                         run->general_dir[0] ? run->general_dir : NULL, &texts));
    if (out->config.causal && texts.task == PB_TASK_CLASSIFY)
        PB_FAIL(PB_E_INPUT,
                "eval.general: %s holds labelled texts, a decoder's loss needs plain ones: lines of "
                "{\"text\": ...}",
                texts.name);
    PB_TRY(pb_dataset_new(&texts, out->tokenizer, &options, &out->general));
done:
    pb_texts_free(&texts);
    return status;
}

pb_status pb_assets_load(const pb_run_config *run, pb_assets *out) {
    pb_status status = PB_OK;
    *out = (pb_assets){0};
    PB_TRY(load_model(run->model, out));
    if (out->tokenizer != NULL) PB_TRY(load_data(run, out));
    if (out->tokenizer != NULL && run->general_examples > 0) PB_TRY(load_general(run, out));
done:
    if (status != PB_OK) pb_assets_free(out);
    return status;
}

pb_status pb_assets_load_model(const pb_run_config *run, pb_assets *out) {
    *out = (pb_assets){0};
    pb_status status = load_model(run->model, out);
    if (status != PB_OK) pb_assets_free(out);
    return status;
}

void pb_assets_free(pb_assets *assets) {
    pb_dataset_free(assets->data);
    pb_dataset_free(assets->general);
    pb_tokenizer_free(assets->tokenizer);
    pb_safetensors_close(assets->weights);
    *assets = (pb_assets){0};
}

bool pb_assets_serve(const pb_run_config *a, const pb_run_config *b) {
    bool same = strcmp(a->model, b->model) == 0 && strcmp(a->data_name, b->data_name) == 0 &&
                strcmp(a->data_dir, b->data_dir) == 0 && a->max_len == b->max_len &&
                a->subsample_seed == b->subsample_seed &&
                a->general_examples == b->general_examples &&
                strcmp(a->general_name, b->general_name) == 0 &&
                strcmp(a->general_dir, b->general_dir) == 0;
    for (int i = 0; i < PB_SPLITS && same; i++) same = a->limit[i] == b->limit[i];
    return same;
}
