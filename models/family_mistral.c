/* Mistral (Jiang et al. 2023): Llama's shape. A sliding window limits the usable length to the
 * window, within which windowed and full attention are the same. */
#include "models/family.h"

static pb_status config(const pb_json *root, const char *where, pb_model_config *out) {
    PB_RETURN(pb_config_llama(root, where, out));
    int64_t window = out->P;
    PB_RETURN(pb_config_i64(root, where, "sliding_window", INT64_MAX, &window));
    if (window < out->P) out->P = window;
    return PB_OK;
}

const pb_family pb_family_mistral = {
    .name = "mistral",
    .model_type = "mistral",
    .prefix = "model.",
    .config = config,
    .part = PB_PARTS_LLAMA,
};
