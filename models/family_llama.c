/* Llama (Touvron et al. 2023; Llama 3: Grattafiori et al. 2024): pre-norm decoder, RMSNorm, rotary
 * positions, grouped queries, SwiGLU. Rotary scaling: none or "llama3". */
#include <string.h>

#include "models/family.h"

/* rope_scaling of config.json; newer files have rope_parameters with rope_theta inside. */
static pb_status rope(const pb_json *root, const char *where, pb_model_config *c) {
    const pb_json *r = pb_json_get(root, "rope_parameters");
    const char *type = "default";
    c->rope_theta = 10000;
    PB_RETURN(pb_config_f64(root, where, "rope_theta", 1, 1e12, &c->rope_theta));
    if (!cJSON_IsObject(r)) r = pb_json_get(root, "rope_scaling");
    if (!r || cJSON_IsNull(r)) return PB_OK;
    if (!cJSON_IsObject(r))
        return PB_ERROR(PB_E_INPUT, "%s: rope_scaling: expected an object or null", where);
    PB_RETURN(pb_config_f64(r, where, "rope_theta", 1, 1e12, &c->rope_theta));
    PB_RETURN(pb_json_read_str(r, where, "type", &type));
    PB_RETURN(pb_json_read_str(r, where, "rope_type", &type));
    if (!strcmp(type, "default")) return PB_OK;
    if (strcmp(type, "llama3")) {
        return PB_ERROR(
            PB_E_INPUT,
            "%s: rope_scaling type \"%s\" is not supported, expected \"llama3\" or none", where,
            type);
    }
    c->rope_factor = 8;
    c->rope_low = 1;
    c->rope_high = 4;
    c->rope_original = 8192;
    PB_RETURN(pb_config_f64(r, where, "factor", 1, 1e6, &c->rope_factor));
    PB_RETURN(pb_config_f64(r, where, "low_freq_factor", 1e-6, 1e6, &c->rope_low));
    PB_RETURN(pb_config_f64(r, where, "high_freq_factor", 1e-6, 1e6, &c->rope_high));
    PB_RETURN(
        pb_config_f64(r, where, "original_max_position_embeddings", 1, 1e9, &c->rope_original));
    if (!(c->rope_high > c->rope_low)) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: rope_scaling: high_freq_factor %g must exceed low_freq_factor %g",
                        where, c->rope_high, c->rope_low);
    }
    return PB_OK;
}

pb_status pb_config_llama(const pb_json *o, const char *where, pb_model_config *c) {
    PB_RETURN(pb_config_need_i64(o, where, "vocab_size", 1 << 24, &c->V));
    PB_RETURN(pb_config_need_i64(o, where, "hidden_size", 1 << 20, &c->C));
    PB_RETURN(pb_config_need_i64(o, where, "num_hidden_layers", 4096, &c->L));
    PB_RETURN(pb_config_need_i64(o, where, "num_attention_heads", 1 << 16, &c->NH));
    PB_RETURN(pb_config_need_i64(o, where, "intermediate_size", 1 << 22, &c->FF));
    PB_RETURN(pb_config_need_i64(o, where, "max_position_embeddings", 1 << 24, &c->P));
    c->NKV = c->NH;
    c->HS = c->C % c->NH ? 0 : c->C / c->NH;
    PB_RETURN(pb_config_i64(o, where, "num_key_value_heads", 1 << 16, &c->NKV));
    PB_RETURN(pb_config_i64(o, where, "head_dim", 1 << 16, &c->HS));
    c->causal = true;
    c->gated_mlp = true;
    c->rope = true;
    c->norm = PB_NORM_RMS;
    c->norm_eps = 1e-6;
    c->act = PB_ACT_SILU;
    PB_RETURN(pb_config_f64(o, where, "rms_norm_eps", 0, 1, &c->norm_eps));
    PB_RETURN(pb_config_f64(o, where, "attention_dropout", 0, 0.99, &c->attention_dropout));
    PB_RETURN(pb_config_bool(o, where, "tie_word_embeddings", &c->tied_head));
    PB_RETURN(pb_config_act(o, where, "hidden_act", &c->act));
    if (c->act != PB_ACT_SILU) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: hidden_act \"%s\" is not supported in a gated MLP, expected \"silu\"",
                        where, pb_act_name(c->act));
    }
    return rope(o, where, c);
}

static pb_status config(const pb_json *root, const char *where, pb_model_config *out) {
    bool attention = false, mlp = false;
    PB_RETURN(pb_config_llama(root, where, out));
    PB_RETURN(pb_config_bool(root, where, "attention_bias", &attention));
    PB_RETURN(pb_config_bool(root, where, "mlp_bias", &mlp));
    if (attention != mlp) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: attention_bias %s with mlp_bias %s is not supported: both or none",
                        where, attention ? "true" : "false", mlp ? "true" : "false");
    }
    out->biases = attention;
    return PB_OK;
}

const pb_family pb_family_llama = {
    .name = "llama",
    .model_type = "llama",
    .prefix = "model.",
    .config = config,
    .part = PB_PARTS_LLAMA,
};
