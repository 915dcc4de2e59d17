/* Qwen2 and Qwen2.5 (Yang et al. 2024): Llama's shape with biases on q, k and v. */
#include "models/family.h"

static pb_status config(const pb_json *root, const char *where, pb_model_config *out) {
    bool windowed = false;
    PB_RETURN(pb_config_llama(root, where, out));
    out->qkv_biases = true;
    PB_RETURN(pb_config_bool(root, where, "use_sliding_window", &windowed));
    if (windowed) {
        int64_t window = out->P;
        PB_RETURN(pb_config_i64(root, where, "sliding_window", INT64_MAX, &window));
        if (window < out->P) out->P = window; /* within the window both attentions are the same */
    }
    return PB_OK;
}

const pb_family pb_family_qwen2 = {
    .name = "qwen2",
    .model_type = "qwen2",
    .prefix = "model.",
    .config = config,
    .part = PB_PARTS_LLAMA,
};
