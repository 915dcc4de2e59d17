/* What several runs share: the tokenised data set, the tokenizer, the base model's files and hashes. Loaded once in the
 * parent process, inherited by the children (copy on write). */
#ifndef PB_HARNESS_ASSETS_H
#define PB_HARNESS_ASSETS_H

#include "datasets/loader.h"
#include "harness/suite.h"
#include "models/model.h"

typedef struct pb_assets {
    pb_model_config config;
    pb_safetensors *weights; /* NULL for shapes */
    pb_tokenizer *tokenizer;
    pb_dataset *data;
    pb_dataset *general; /* text for the measure of forgetting; NULL = none */
    char model_name[128], model_sha256[PB_SHA256_HEX];
} pb_assets;

/* Loads for this run's model, data, max_len, limits. */
pb_status pb_assets_load(const pb_run_config *run, pb_assets *out);
/* The model and its tokenizer alone. */
pb_status pb_assets_load_model(const pb_run_config *run, pb_assets *out);
void pb_assets_free(pb_assets *assets);
/* True when `run` would load exactly what `loaded_for` loaded. */
bool pb_assets_serve(const pb_run_config *loaded_for, const pb_run_config *run);

#endif
