/* One transformer for all families, driven by pb_model_config: explicit forward and backward over packed sequences.
 *
 * Gradient rule, written once: gradients of parameters are added to (the trainer zeroes them), gradients of activations are
 * overwritten, except along the residual stream, where they are added. What forward keeps for backward lives in
 * PB_MEM_ACT between a mark and a rewind of the pass; temporaries of one layer live in PB_MEM_WORK. Only what some
 * trainable parameter needs is kept, and backward stops below the lowest one.
 *
 * Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): a layer that is checkpointed keeps its input alone and is
 * run again in backward, hooks and dropout masks (which are functions of step and place) included, so that losses and
 * gradients have the same bits as without it. A post-norm layer's input is one tensor; a pre-norm layer keeps the stream and
 * its norm, because the norm reads the residual sum before it is rounded. */
#ifndef PB_MODELS_MODEL_H
#define PB_MODELS_MODEL_H

#include "methods/method.h"
#include "models/config.h"
#include "models/safetensors.h"

typedef struct pb_model pb_model;

typedef struct pb_model_options {
    pb_dtype dtype;        /* compute dtype T: PB_F32, PB_BF16; PB_F64 on ref */
    pb_storage storage;    /* of LINEAR weights inside the layers (not embeddings, not heads) */
    int64_t classes;       /* encoder: classes of the head; decoder: 0 */
    double hidden_dropout, attention_dropout, head_dropout; /* the run's; < 0 = the config's (head: hidden) */
    int64_t checkpoint;    /* the lowest so many layers keep only their input; backward makes the rest again. 0 = none */
    uint64_t seed;         /* initial head weights: N(0, 0.02^2), bias 0 */
    int64_t max_rows;      /* token rows of the largest batch, rounded to PB_ROW_ROUND */
    int64_t max_sequences;
    int64_t max_len;       /* longest sequence */
} pb_model_options;

/* Builds the model on a device. weights: NULL = left as drawn by pb_fill_uniform (benchmarks; nothing on plan devices).
 * Missing or misshapen tensors are PB_E_INPUT with file, tensor, found and expected shape. Also adds the task head:
 * encoder: "head.weight" [classes,C], "head.bias" (role HEAD, trained); decoder: the language-model head is a base
 * parameter. */
pb_status pb_model_new(pb_device *dev, const pb_model_config *config, const pb_model_options *options,
                       const pb_safetensors *weights, pb_model **out);
void pb_model_free(pb_model *model);

const pb_model_config *pb_model_get_config(const pb_model *model);
pb_params *pb_model_params(pb_model *model);
pb_site *pb_model_sites(pb_model *model, int *n);

/* Attaches a method (at most one). `self` stays the caller's. Decides what forward must keep. */
pb_status pb_model_attach(pb_model *model, const pb_method *method, void *self, uint64_t seed, int64_t total_steps);

/* A batch on the device. rows = token rows rounded up; tokens beyond the last sequence are padding rows. */
typedef struct pb_batch {
    int64_t sequences, rows, tokens, max_len;
    pb_tensor ids, positions, types; /* i32 [rows]; types may be no tensor */
    pb_tensor cu;                    /* i32 [sequences+1] */
    /* encoder: target i32 [sequences]. decoder: loss_rows i32 [targets]: rows whose *next* token is predicted, and
     * target i32 [targets]. */
    int64_t targets;
    pb_tensor loss_rows, target;
} pb_batch;

/* Forward to per-target losses: loss M [targets], pred i32 [targets] (either may be no tensor when not wanted).
 * When pass->train, activations are kept until pb_model_backward or pb_model_discard.
 *
 * A decoder's logits are made in chunks of rows and never stored. A frozen head gives its input's gradient per chunk in
 * forward already (with scale 1; backward multiplies it); a trained head (full fine-tuning) makes each chunk's logits again
 * in backward, because its own gradient needs the scale: one more product with the head. */
pb_status pb_model_forward(pb_model *model, const pb_pass *pass, const pb_batch *batch, pb_tensor loss, pb_tensor pred);
/* Gradients of scale * sum(losses) (mean over the batch: scale = 1/targets). `pass` equals forward's. Rewinds the
 * activations, also when it fails. */
pb_status pb_model_backward(pb_model *model, const pb_pass *pass, const pb_batch *batch, double scale);
pb_status pb_model_discard(pb_model *model);

/* Forward without a head and without dropout, whatever pass->train says: encoder: pooled [sequences,C]; decoder: final hidden rows [rows,C]. T. (embeddings, tests) */
pb_status pb_model_features(pb_model *model, const pb_pass *pass, const pb_batch *batch, pb_tensor out);
/* Logits: encoder [sequences,classes], decoder [rows,V]. T. No dropout. */
pb_status pb_model_logits(pb_model *model, const pb_pass *pass, const pb_batch *batch, pb_tensor out);

/* Adapter file: every parameter that is not the unchanged base (all trainable ones, and all that a method or the task head
 * added), masters in f32, with metadata (method, its parameters, base name and sha). */
pb_status pb_model_save_adapter(pb_model *model, const char *path, const pb_json *metadata, uint64_t *bytes);
/* Reads them back into a model with the same method attached: a missing, extra or misshapen tensor is PB_E_INPUT. */
pb_status pb_model_load_adapter(pb_model *model, const char *path);

#endif
