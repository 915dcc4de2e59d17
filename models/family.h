/* Private to models/: what a family of checkpoints is. One file models/family_<name>.c defines
 * `const pb_family pb_family_<name>`; the registry is generated from the folder. A family says how
 * its config.json reads and what its tensors are called; the transformer itself knows no families.
 */
#ifndef PB_MODELS_FAMILY_H
#define PB_MODELS_FAMILY_H

#include "base/json.h"
#include "models/config.h"

/* The parts of a model that have parameters. */
typedef enum pb_part {
    PB_PART_WORD,
    PB_PART_POSITION,
    PB_PART_TYPE,
    PB_PART_EMBED_NORM,
    PB_PART_Q,
    PB_PART_K,
    PB_PART_V,
    PB_PART_O,
    PB_PART_ATTN_NORM, /* post-norm: behind the attention; pre-norm: before it */
    PB_PART_GATE,
    PB_PART_UP,
    PB_PART_DOWN,
    PB_PART_MLP_NORM,
    PB_PART_FINAL_NORM,
    PB_PART_HEAD, /* the language-model head when it is not tied */
    PB_PART_COUNT
} pb_part;

/* Where a part lies in a checkpoint. The tensors are "<name>.weight" and "<name>.bias". */
typedef struct pb_part_source {
    const char *name;   /* '#' stands for the layer; NULL = the family has no such part */
    const char *tensor; /* name in the file when it differs (a fused matrix); NULL = name */
    bool transposed;    /* weights are stored [in,out] */
    int slice, slices;  /* this part is slice `slice` of `slices` equal ones along out; slices 0 =
                           the whole */
    int64_t skip_rows;  /* stored rows before the first one used */
} pb_part_source;

typedef struct pb_family {
    const char *name;       /* file stem; pb_model_config.family */
    const char *model_type; /* of config.json */
    const char *prefix;     /* names may carry or lack it in a file; NULL = none */
    pb_status (*config)(const pb_json *root, const char *where, pb_model_config *out);
    pb_part_source part[PB_PART_COUNT];
} pb_family;

extern const pb_family *const pb_family_registry[];
extern const int pb_family_registry_count;

/* NULL when unknown. */
const pb_family *pb_family_find(const char *name);

/* Reads for families; null counts as absent. need_*: an absent key is PB_E_INPUT. */
pb_status pb_config_need_i64(const pb_json *o, const char *where, const char *key, int64_t hi,
                             int64_t *out);
pb_status pb_config_i64(const pb_json *o, const char *where, const char *key, int64_t hi,
                        int64_t *out);
pb_status pb_config_f64(const pb_json *o, const char *where, const char *key, double lo, double hi,
                        double *out);
pb_status pb_config_bool(const pb_json *o, const char *where, const char *key, bool *out);
/* The activation under `key` by Hugging Face's names. */
pb_status pb_config_act(const pb_json *o, const char *where, const char *key, pb_act *out);
/* What all families must satisfy (head counts divide, sizes in range). */
pb_status pb_config_check(const char *where, const pb_model_config *c);

/* Llama's config without biases; family_mistral and family_qwen2 start from it. */
pb_status pb_config_llama(const pb_json *root, const char *where, pb_model_config *out);
/* BERT's config; family_roberta starts from it. */
pb_status pb_config_bert(const pb_json *root, const char *where, pb_model_config *out);

/* The tensor names that variants share. skip: unused rows at the start of the position table. */
#define PB_PARTS_BERT(skip)                                                                        \
    {                                                                                              \
        [PB_PART_WORD] = {.name = "embeddings.word_embeddings"},                                   \
        [PB_PART_POSITION] = {.name = "embeddings.position_embeddings", .skip_rows = (skip)},      \
        [PB_PART_TYPE] = {.name = "embeddings.token_type_embeddings"},                             \
        [PB_PART_EMBED_NORM] = {.name = "embeddings.LayerNorm"},                                   \
        [PB_PART_Q] = {.name = "encoder.layer.#.attention.self.query"},                            \
        [PB_PART_K] = {.name = "encoder.layer.#.attention.self.key"},                              \
        [PB_PART_V] = {.name = "encoder.layer.#.attention.self.value"},                            \
        [PB_PART_O] = {.name = "encoder.layer.#.attention.output.dense"},                          \
        [PB_PART_ATTN_NORM] = {.name = "encoder.layer.#.attention.output.LayerNorm"},              \
        [PB_PART_UP] = {.name = "encoder.layer.#.intermediate.dense"},                             \
        [PB_PART_DOWN] = {.name = "encoder.layer.#.output.dense"},                                 \
        [PB_PART_MLP_NORM] = {.name = "encoder.layer.#.output.LayerNorm"},                         \
    }

#define PB_PARTS_LLAMA                                                                             \
    {                                                                                              \
        [PB_PART_WORD] = {.name = "model.embed_tokens"},                                           \
        [PB_PART_Q] = {.name = "model.layers.#.self_attn.q_proj"},                                 \
        [PB_PART_K] = {.name = "model.layers.#.self_attn.k_proj"},                                 \
        [PB_PART_V] = {.name = "model.layers.#.self_attn.v_proj"},                                 \
        [PB_PART_O] = {.name = "model.layers.#.self_attn.o_proj"},                                 \
        [PB_PART_ATTN_NORM] = {.name = "model.layers.#.input_layernorm"},                          \
        [PB_PART_GATE] = {.name = "model.layers.#.mlp.gate_proj"},                                 \
        [PB_PART_UP] = {.name = "model.layers.#.mlp.up_proj"},                                     \
        [PB_PART_DOWN] = {.name = "model.layers.#.mlp.down_proj"},                                 \
        [PB_PART_MLP_NORM] = {.name = "model.layers.#.post_attention_layernorm"},                  \
        [PB_PART_FINAL_NORM] = {.name = "model.norm"}, [PB_PART_HEAD] = {.name = "lm_head"},       \
    }

#endif
