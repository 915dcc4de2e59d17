/* Model configurations: what a Hugging Face config.json says, as one struct for all families. */
#ifndef PB_MODELS_CONFIG_H
#define PB_MODELS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/ops.h"

typedef struct pb_model_config {
    char family[32];      /* "bert", "gpt2", "llama", ...: a file models/family_<name>.c */
    char name[128];       /* folder or shape name */
    int64_t V, C, L, NH, NKV, HS, FF, P; /* vocabulary, width, layers, heads, kv heads, head size, MLP width, positions */
    int64_t type_vocab;   /* 0 = no token types */
    bool causal;          /* decoder: next-token loss; encoder: pooled classification */
    bool post_norm;       /* BERT: LN(x + f(x)); false: x + f(norm(x)) with a final norm */
    bool gated_mlp;       /* SwiGLU: gate, up, down; false: up, act, down */
    bool biases;          /* linear layers have biases (attention and MLP) */
    bool qkv_biases;      /* q, k, v have biases even where `biases` is false (Qwen2) */
    bool tied_head;       /* decoder: the head is the word embedding */
    bool rope;            /* rotary positions; false: learned position embeddings */
    pb_norm norm;
    pb_act act;
    double norm_eps, rope_theta;
    double rope_factor, rope_low, rope_high, rope_original; /* llama3 scaling; factor 0 = none */
    double hidden_dropout, attention_dropout;               /* as the model's config says */
    pb_pool pool;         /* encoder: from 1_Pooling/config.json when there, else MEAN */
} pb_model_config;

/* DIR/config.json (and 1_Pooling/config.json). PB_E_INPUT names file, key, value and the supported families. */
pb_status pb_model_config_load(const char *dir, pb_model_config *out);
pb_status pb_model_config_parse(const char *where, const char *json, size_t len, pb_model_config *out);

/* Known shapes without weights for benchmarks and plans: "minilm", "gpt2-124m", "llama-3.2-1b", "llama-3.2-3b",
 * "llama-3.1-8b", "llama-7b", "llama-65b", ... PB_E_INPUT names all of them and the nearest. */
pb_status pb_model_shape(const char *name, pb_model_config *out);
/* The shape names, NULL-terminated static array. */
const char *const *pb_model_shape_names(void);

/* Parameters of the base model (without a task head). */
int64_t pb_model_config_params(const pb_model_config *config);

#endif
