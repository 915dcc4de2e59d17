/* GPT-2 (Radford et al. 2019): pre-norm decoder with learned positions. Its checkpoints store
 * linear weights as [in,out]
 * ("Conv1D") and q, k, v as one matrix; here they are three, named c_attn.q, c_attn.k and c_attn.v.
 */
#include "models/family.h"

/* Scores are always divided by the root of the head's width, in every layer alike. */
static pb_status usual_scores(const pb_json *o, const char *where) {
    bool scaled = true, by_layer = false;
    PB_RETURN(pb_config_bool(o, where, "scale_attn_weights", &scaled));
    PB_RETURN(pb_config_bool(o, where, "scale_attn_by_inverse_layer_idx", &by_layer));
    if (scaled && !by_layer) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: %s is not supported", where,
                    by_layer ? "scale_attn_by_inverse_layer_idx true" : "scale_attn_weights false");
}

static pb_status config(const pb_json *o, const char *where, pb_model_config *c) {
    PB_RETURN(usual_scores(o, where));
    c->causal = true;
    c->biases = true;
    c->tied_head = true;
    c->norm = PB_NORM_LAYER;
    c->norm_eps = 1e-5;
    c->act = PB_ACT_GELU_TANH;
    c->hidden_dropout = 0.1;
    c->attention_dropout = 0.1;
    PB_RETURN(pb_config_need_i64(o, where, "vocab_size", 1 << 24, &c->V));
    PB_RETURN(pb_config_need_i64(o, where, "n_embd", 1 << 20, &c->C));
    PB_RETURN(pb_config_need_i64(o, where, "n_layer", 4096, &c->L));
    PB_RETURN(pb_config_need_i64(o, where, "n_head", 1 << 16, &c->NH));
    PB_RETURN(pb_config_need_i64(o, where, "n_positions", 1 << 24, &c->P));
    if (c->C % c->NH) {
        return PB_ERROR(PB_E_INPUT, "%s: n_embd %lld is not a multiple of n_head %lld", where,
                        (long long)c->C, (long long)c->NH);
    }
    c->NKV = c->NH;
    c->HS = c->C / c->NH;
    c->FF = 4 * c->C;
    PB_RETURN(pb_config_i64(o, where, "n_inner", 1 << 22, &c->FF));
    PB_RETURN(pb_config_act(o, where, "activation_function", &c->act));
    PB_RETURN(pb_config_bool(o, where, "tie_word_embeddings", &c->tied_head));
    PB_RETURN(pb_config_f64(o, where, "layer_norm_epsilon", 0, 1, &c->norm_eps));
    PB_RETURN(pb_config_f64(o, where, "resid_pdrop", 0, 0.99,
                            &c->hidden_dropout)); /* embd_pdrop: the same */
    PB_RETURN(pb_config_f64(o, where, "attn_pdrop", 0, 0.99, &c->attention_dropout));
    return PB_OK;
}

#define FUSED(which, i)                                                                            \
    {                                                                                              \
        .name = "h.#.attn.c_attn." which, .tensor = "h.#.attn.c_attn", .transposed = true,         \
        .slice = (i), .slices = 3                                                                  \
    }

const pb_family pb_family_gpt2 = {
    .name = "gpt2",
    .model_type = "gpt2",
    .prefix = "transformer.",
    .config = config,
    .part =
        {
            [PB_PART_WORD] = {.name = "wte"},
            [PB_PART_POSITION] = {.name = "wpe"},
            [PB_PART_Q] = FUSED("q", 0),
            [PB_PART_K] = FUSED("k", 1),
            [PB_PART_V] = FUSED("v", 2),
            [PB_PART_O] = {.name = "h.#.attn.c_proj", .transposed = true},
            [PB_PART_ATTN_NORM] = {.name = "h.#.ln_1"},
            [PB_PART_UP] = {.name = "h.#.mlp.c_fc", .transposed = true},
            [PB_PART_DOWN] = {.name = "h.#.mlp.c_proj", .transposed = true},
            [PB_PART_MLP_NORM] = {.name = "h.#.ln_2"},
            [PB_PART_FINAL_NORM] = {.name = "ln_f"},
            [PB_PART_HEAD] = {.name = "lm_head"},
        },
};
