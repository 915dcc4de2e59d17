/* Sites: the named places of a model where a method may hook. A method never sees the model, only its sites. */
#ifndef PB_METHODS_SITE_H
#define PB_METHODS_SITE_H

#include "methods/param.h"

typedef enum pb_site_kind {
    PB_SITE_LINEAR,       /* "layers.3.attn.q": y = x W^T + b */
    PB_SITE_SUBLAYER_OUT, /* "layers.3.attn.out": a sub-layer's output after its dropout, before the residual add */
    PB_SITE_NORM,         /* "layers.3.attn.norm", "embed.norm", "final.norm" */
    PB_SITE_EMBED,        /* "embed" */
    PB_SITE_ATTENTION     /* "layers.3.attn" */
} pb_site_kind;

typedef struct pb_site {
    char name[64];
    pb_site_kind kind;
    int layer; /* -1 outside the layers */
    int id;    /* index in the model's site array; enters dropout streams */
    int64_t in, out;
    pb_param *weight, *bias; /* LINEAR: bias may be NULL */
    /* NORM: the norm's own gamma (beta NULL for RMS). SUBLAYER_OUT: the norm that follows the residual add (post-LN
     * models), gamma NULL when there is none (pre-LN models). */
    pb_param *gamma, *beta;
    pb_norm norm;
    double norm_eps;
    bool hooked; /* set by a method's attach: linear_fwd/bwd or sublayer_fwd/bwd are called here */
    void *state; /* the method's own data for this site */
} pb_site;

/* One pass over a batch, as hooks see it. */
typedef struct pb_pass {
    pb_device *dev;
    pb_dtype dtype; /* T */
    bool train;     /* dropout on, activations kept for backward */
    uint64_t seed;  /* dropout key */
    int64_t step;   /* optimizer steps done so far; micro-batches of one step differ in `micro` */
    int64_t micro;
} pb_pass;

/* Slots of a site's dropout streams: the model uses those below, methods those from here on. */
#define PB_SLOT_METHOD 128

/* Dropout at a place of this pass: key and a stream unique to (step, micro, site, slot); p = 0 when not training.
 * slot in 0..255. */
pb_drop pb_pass_dropout(const pb_pass *pass, int site_id, int slot, double p);

/* The memory for something a forward hook keeps for backward: PB_MEM_ACT when training, else PB_MEM_WORK. */
pb_mem pb_pass_keep(const pb_pass *pass);

/* Parts of a step as profiles name them (pb_device_scope); a method adds its own. */
#define PB_SCOPED_BASE "base_product"       /* x W^T + b, and its gradient with respect to x */
#define PB_SCOPED_GRADS "weight_gradients"  /* of dense weights and biases */
#define PB_SCOPED_LOW_RANK "low_rank"       /* B A x and its gradients */

/* The stored weight of a LINEAR site as ops take it. */
pb_weight pb_site_weight(const pb_site *site);

/* y = x W^T + b; with_bias false leaves b out. */
pb_status pb_site_base_fwd(const pb_pass *pass, const pb_site *site, pb_tensor x, pb_tensor y, bool with_bias);
/* Whether this site's product takes an activation with it (pb_linear_gelu): a dense weight that no method hooks. */
bool pb_site_takes_gelu(const pb_site *site, pb_act act);
/* There: y = gelu(x W^T + b), pre = what gelu was taken of (pre may be no tensor); dx = gradient of that from dy = gradient
 * of the product behind it, the gradients of weight and bias as pb_site_base_bwd (x = its input gelu(pre), if kept). */
pb_status pb_site_gelu_fwd(const pb_pass *pass, const pb_site *site, pb_tensor x, pb_tensor y, pb_tensor pre);
pb_status pb_site_gelu_bwd(const pb_pass *pass, const pb_site *site, pb_tensor x, pb_tensor dy, pb_tensor pre,
                           pb_tensor dx);

/* dW += dy^T x and db += sum dy of a linear layer, for those of the two that are there (NULL = none) and trainable. */
pb_status pb_linear_grads(pb_device *dev, const pb_param *weight, const pb_param *bias, pb_tensor x, pb_tensor dy);

/* Base path backward: dx = beta_dx*dx + dy W (when dx is a tensor); dW += dy^T x and db += sum dy when those parameters are
 * trainable. */
pb_status pb_site_base_bwd(const pb_pass *pass, const pb_site *site, pb_tensor x, pb_tensor dy, pb_tensor dx,
                           double beta_dx);

#endif
