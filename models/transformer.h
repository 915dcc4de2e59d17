/* Private to models/: the transformer behind pb_model. build.c makes it, load.c fills it, needs.c
 * decides what backward needs, forward.c, backward.c and head.c run it.
 *
 * A layer is two sub-layers (attention, MLP), each with one norm. Post-norm (BERT): h =
 * norm(drop(body(h)) + h). Pre-norm: h = h + drop(body(norm(h))); there a norm also does the
 * residual add before it (its `sum` is the stream h), so that the add of one sub-layer happens in
 * the norm of the next. */
#ifndef PB_MODELS_TRANSFORMER_H
#define PB_MODELS_TRANSFORMER_H

#include "models/family.h"
#include "models/model.h"

/* Rows of logits that exist at a time, their gradient in the same place: of a batch of 2,048 targets 1/10.7. Each time the head's
 * weight is read anew, which fewer rows would pay for less well. */
#define PB_HEAD_CHUNK 192

/* A norm: gradient flags (needs.c) and what forward kept. */
typedef struct pb_norm_part {
    pb_site *site;
    bool sum_grad; /* the gradient of its input is wanted */
    bool bwd;      /* backward runs: sum_grad, or gamma or beta is trained */
    pb_tensor sum, mean, rstd;
} pb_norm_part;

typedef struct pb_sublayer {
    pb_site *out; /* SUBLAYER_OUT */
    pb_norm_part norm;
    bool in_grad;   /* the gradient of the body's input is wanted */
    bool mid_grad;  /* ... of q, k, v, or of gate and up */
    bool body_grad; /* ... of the body's output */
    bool out_grad;  /* ... of the hook's output */
    bool keep_in;   /* the body's input is needed in backward */
    bool keep_mid;  /* the input of o or down is needed for its own sake */
    pb_tensor in;   /* kept: the body's input */
} pb_sublayer;

typedef struct pb_layer {
    pb_site *q, *k, *v, *o, *gate, *up, *down, *attention;
    pb_sublayer attn, mlp;
    bool active; /* takes part in backward */
    bool checkpoint; /* keeps its input alone; backward runs it again */
    pb_tensor input, normed; /* the stream that enters it; pre-norm: its norm too */
    pb_mark before; /* PB_MEM_ACT before what it keeps */
    /* kept for backward */
    pb_tensor tq, tk, tv, context, lse;
    pb_tensor tgate, tup, act;
} pb_layer;

struct pb_model {
    pb_device *dev;
    pb_model_config config;
    pb_model_options options;
    pb_dtype T, M;
    const pb_family *family;
    pb_params *params;
    pb_site *sites;
    int n_sites;
    pb_layer *layers;
    pb_quant4 *quants; /* 4-bit storage, one for each LINEAR weight */
    int n_quants;
    pb_param *word, *position, *type, *head_weight, *head_bias;
    pb_norm_part embed_norm, final_norm; /* site NULL when the family has none */
    pb_tensor inv_freq;                  /* M [HS/2], rotary */
    const pb_method *method;
    void *self;
    /* needs.c */
    bool embed_grad;  /* some embedding table is trained */
    bool hidden_grad; /* gradient must flow out of the head into the layers */
    bool head_trained;
    /* between a training forward and its backward */
    bool in_flight;
    pb_pass pass;
    pb_mark act_mark;
    pb_tensor pooled, logits; /* encoder: the head's input, its logits */
    pb_tensor final;          /* decoder with a trained head: final hidden rows */
    pb_tensor dgathered; /* decoder with a frozen head: gradient of the gathered rows, scale 1 */
};

/* One pass through the model. */
typedef struct pb_run {
    pb_model *m;
    const pb_pass *pass;
    const pb_batch *batch;
    int64_t rows;
    bool keep;           /* training: keep what backward needs */
    bool again;          /* a checkpointed layer for the second time, in backward */
    pb_tensor hidden[2]; /* WORK: stream rows that are not kept, by turns */
    int turn;
    pb_tensor pend;    /* WORK: a sub-layer's output before its residual add */
    pb_drop pend_drop; /* dropout that pend still has to pass */
    pb_tensor h;  /* the residual stream; no tensor before the first norm of a pre-norm model */
    pb_tensor in; /* the body's input */
} pb_run;

/* Places with dropout that are not sites. */
typedef enum pb_place {
    PB_PLACE_PROBS,
    PB_PLACE_ATTN,
    PB_PLACE_MLP,
    PB_PLACE_LAYER_COUNT
} pb_place;
pb_drop pb_drop_in_layer(const pb_model *m, const pb_pass *pass, int64_t layer, pb_place place);
pb_drop pb_drop_embed(const pb_model *m, const pb_pass *pass);
pb_drop pb_drop_head(const pb_model *m, const pb_pass *pass);

/* --- build.c, load.c ------------------------------------------------------------------------- */

/* What the weights of one part come from. */
typedef struct pb_part_ref {
    pb_part part;
    int layer;
    const char *leaf;   /* "weight" or "bias" */
    int64_t dim0, dim1; /* as the model wants it; dim1 0 for vectors */
} pb_part_ref;

/* "<name>.<leaf>" with the layer number filled in; tensor: the name in the file. */
pb_status pb_part_name(const pb_family *family, const pb_part_ref *ref, bool tensor, char *out,
                       size_t cap);
/* Fills dst (T or M, [dim0,dim1]) from the file, or with random values when weights is NULL. */
pb_status pb_part_load(pb_model *m, const pb_safetensors *weights, const pb_part_ref *ref,
                       pb_tensor dst);

/* --- needs.c --------------------------------------------------------------------------------- */

void pb_model_decide_needs(pb_model *m);
/* Backward at this LINEAR site reads its input. */
bool pb_site_reads_input(const pb_site *site);
/* Something is trained or hooked at this LINEAR site. */
bool pb_site_trains(const pb_site *site);
/* Does a product beside the MLP's activation take it along? */
static inline bool pb_takes_gelu(const pb_model *m, const pb_site *site) {
    return !m->config.gated_mlp && pb_site_takes_gelu(site, m->config.act);
}
bool pb_hooks_sublayer(const pb_model *m, const pb_site *site);

/* --- forward.c, backward.c, head.c ----------------------------------------------------------- */

/* The ops that follow are this part's at this site, for profilers. */
void pb_scope_of(const pb_model *m, const char *site, const char *part);
pb_status pb_buffer(const pb_run *r, bool keep, pb_dtype dtype, int64_t rows, int64_t cols,
                    pb_tensor *out);
/* Embedding to final hidden rows: r->h. */
pb_status pb_forward_hidden(pb_run *r);
/* A checkpointed layer from its input: what backward needs goes to PB_MEM_ACT. */
pb_status pb_forward_layer_again(pb_run *r, int64_t i);
/* From dh, the gradient of the final hidden rows (overwritten), down to the lowest trained
 * parameter. */
pb_status pb_backward_hidden(pb_run *r, pb_tensor dh);

/* The head over r->h: losses and predictions; keeps what pb_head_bwd needs. */
pb_status pb_head_fwd(pb_run *r, pb_tensor loss, pb_tensor pred);
/* dh := gradient of the final hidden rows when the model's hidden_grad is set; adds the head's own
 * gradients. */
pb_status pb_head_bwd(pb_run *r, double scale, pb_tensor dh);
pb_status pb_head_features(pb_run *r, pb_tensor out);
pb_status pb_head_logits(pb_run *r, pb_tensor out);

#endif
