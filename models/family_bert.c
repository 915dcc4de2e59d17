/* BERT (Devlin et al. 2018): post-norm encoder with learned positions and token types. The pooler
 * and pre-training heads of a checkpoint are not used. */
#include <string.h>

#include "models/family.h"

static pb_status sizes(const pb_json *o, const char *where, pb_model_config *c) {
    PB_RETURN(pb_config_need_i64(o, where, "vocab_size", 1 << 24, &c->V));
    PB_RETURN(pb_config_need_i64(o, where, "hidden_size", 1 << 20, &c->C));
    PB_RETURN(pb_config_need_i64(o, where, "num_hidden_layers", 4096, &c->L));
    PB_RETURN(pb_config_need_i64(o, where, "num_attention_heads", 1 << 16, &c->NH));
    PB_RETURN(pb_config_need_i64(o, where, "intermediate_size", 1 << 22, &c->FF));
    PB_RETURN(pb_config_need_i64(o, where, "max_position_embeddings", 1 << 24, &c->P));
    c->type_vocab = 2;
    PB_RETURN(pb_config_i64(o, where, "type_vocab_size", 1 << 16, &c->type_vocab));
    c->NKV = c->NH;
    c->HS = c->C / c->NH;
    if (c->C % c->NH) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: hidden_size %lld is not a multiple of num_attention_heads %lld", where,
                        (long long)c->C, (long long)c->NH);
    }
    return PB_OK;
}

pb_status pb_config_bert(const pb_json *root, const char *where, pb_model_config *out) {
    const char *positions = "absolute";
    PB_RETURN(sizes(root, where, out));
    PB_RETURN(pb_json_read_str(root, where, "position_embedding_type", &positions));
    if (strcmp(positions, "absolute")) {
        return PB_ERROR(
            PB_E_INPUT,
            "%s: position_embedding_type \"%s\" is not supported, expected \"absolute\"", where,
            positions);
    }
    out->post_norm = true;
    out->biases = true;
    out->norm = PB_NORM_LAYER;
    out->norm_eps = 1e-12;
    out->act = PB_ACT_GELU;
    out->hidden_dropout = 0.1;
    out->attention_dropout = 0.1;
    out->pool = PB_POOL_MEAN;
    PB_RETURN(pb_config_act(root, where, "hidden_act", &out->act));
    PB_RETURN(pb_config_f64(root, where, "layer_norm_eps", 0, 1, &out->norm_eps));
    PB_RETURN(pb_config_f64(root, where, "hidden_dropout_prob", 0, 0.99, &out->hidden_dropout));
    PB_RETURN(pb_config_f64(root, where, "attention_probs_dropout_prob", 0, 0.99,
                            &out->attention_dropout));
    return PB_OK;
}

const pb_family pb_family_bert = {
    .name = "bert",
    .model_type = "bert",
    .prefix = "bert.",
    .config = pb_config_bert,
    .part = PB_PARTS_BERT(0),
};
