/* The method contract: what a fine-tuning method provides. One file methods/method_<name>.c defines
 * `const pb_method pb_method_<name>`; the registry is generated from the folder. Trainable counts, bytes, saving, loading
 * and prediction are not hooks: the parameter registry, the arenas and plan devices give them, so no method reports its
 * own cost. Every hook below that is not marked required may be NULL, with the stated default. */
#ifndef PB_METHODS_METHOD_H
#define PB_METHODS_METHOD_H

#include "base/json.h"
#include "methods/param.h"
#include "methods/site.h"

/* How the model stores the weights of LINEAR sites. */
typedef struct pb_storage {
    bool quantised;
    pb_code code;
    int block;
    bool double_quant;
} pb_storage;

/* What attach works on. Everything outlives the method's state. */
typedef struct pb_attach {
    pb_device *dev;
    pb_params *params;
    pb_site *sites;
    int n_sites;
    uint64_t seed;       /* of the initial values */
    int64_t total_steps; /* optimizer steps of the run (AdaLoRA's schedule); 0 = unknown */
    int64_t max_rows;    /* token rows of the largest batch (rounded) */
} pb_attach;

#define PB_STATE_NAME 96

typedef struct pb_method {
    const char *name;  /* "lora" */
    const char *title; /* "LoRA" */
    const char *paper; /* "Hu et al. 2021, arXiv 2106.09685" */
    bool mergeable;          /* merge/unmerge exist */
    bool exact_at_start;     /* step 0 equals the base model exactly (adapters: only nearly) */
    bool trains_base;        /* base weights other than norms and biases change in training */
    const char *const *keys; /* its JSON parameters, NULL-terminated, for messages and `list` */

    /* (required) From {"rank": 8, ...} with defaults; unknown keys are refused (pb_json_only_keys). `params` may be NULL.
     * *self is freed by destroy. */
    pb_status (*create)(const pb_json *params, const char *where, void **self);
    void (*destroy)(void *self);
    /* The resolved parameters, defaults included, added to `out` (goes into the record). (required) */
    pb_status (*describe)(const void *self, pb_json *out);

    /* Storage of LINEAR weights; default dense. */
    pb_storage (*storage)(const void *self);

    /* (required) Adds parameters, marks trainables and hooked sites, keeps what it needs in `self`. Called once. */
    pb_status (*attach)(void *self, const pb_attach *ctx);

    /* At hooked LINEAR sites; default: base only. x[N,in], y[N,out] (overwritten). bwd: dx = beta_dx*dx + gradient, dx may
     * be no tensor; x and dy are those of the matching forward. Base weights' own gradients come from pb_site_base_bwd. */
    pb_status (*linear_fwd)(void *self, const pb_pass *pass, pb_site *site, pb_tensor x, pb_tensor y);
    pb_status (*linear_bwd)(void *self, const pb_pass *pass, pb_site *site, pb_tensor x, pb_tensor dy, pb_tensor dx,
                            double beta_dx);

    /* At hooked SUBLAYER_OUT sites; default: identity. x = the sub-layer's output, res = the residual that will be added,
     * y replaces x (never aliases it). bwd: dx overwritten; dres += what flows through the hook (not the residual add). */
    pb_status (*sublayer_fwd)(void *self, const pb_pass *pass, pb_site *site, pb_tensor x, pb_tensor res, pb_tensor y);
    pb_status (*sublayer_bwd)(void *self, const pb_pass *pass, pb_site *site, pb_tensor dy, pb_tensor dx, pb_tensor dres);

    /* Before the forward pass of optimizer step `step` (0-based) (DyLoRA's rank draw). */
    pb_status (*before_step)(void *self, int64_t step);
    /* Adds a term's gradient to the parameters' gradients and its value to loss[0] (M): AdaLoRA's orthogonality. */
    pb_status (*loss_term)(void *self, pb_device *dev, pb_tensor loss);
    /* After the optimizer, gradients still in place (unclipped; grad_scale M [1] as the optimizer used it): AdaLoRA. */
    pb_status (*after_step)(void *self, pb_device *dev, int64_t step, pb_tensor grad_scale);

    /* Device tensors beside parameters and optimizer state that a checkpoint must hold to continue with the same bits
     * (AdaLoRA's running importance): writes name and tensor number i, false when there are no more. Default none. */
    bool (*state)(void *self, int i, char name[PB_STATE_NAME], pb_tensor *t);

    /* Evaluation variants (DyLoRA: one per rank). count default 1; select(i) in 0..count-1 makes later forwards use
     * variant i; select(-1) returns to training. value: the number that names the variant ("rank" 3). */
    int (*variants)(const void *self);
    pb_status (*select)(void *self, int i);
    const char *variant_name; /* "rank" */
    double (*variant_value)(const void *self, int i);

    /* Later forwards use the first `rank` of the adapter's components, 1 to components() - 1, at the scale they were
     * trained at; cut(self, 0) takes all again. Trained values stay as they are. Both or neither; not while merged. */
    int64_t (*components)(const void *self);
    pb_status (*cut)(void *self, int64_t rank);

    /* Folds the adapter into the base weights of every hooked site / takes it out again (exactly up to rounding). A 4-bit
     * base is requantised (lossy): unmerge then restores the kept codes. linear_fwd gives the base path while merged.
     * What merge keeps lies in PB_MEM_WORK until unmerge: the pair must nest with the caller's own marks there. A failed
     * merge leaves every site unmerged. */
    pb_status (*merge)(void *self, pb_device *dev);
    pb_status (*unmerge)(void *self, pb_device *dev);

    /* What a report should know after training ("ranks": {"layers.0.attn.q": 5, ...}), added to `out`. */
    pb_status (*report)(const void *self, pb_device *dev, pb_json *out);
} pb_method;

/* The generated table. */
extern const pb_method *const pb_method_registry[];
extern const int pb_method_registry_count;

/* NULL when unknown. */
const pb_method *pb_method_find(const char *name);
/* As find, with PB_E_INPUT naming the nearest known method. */
pb_status pb_method_lookup(const char *name, const char *where, const pb_method **out);

/* PB_E_INPUT when params (NULL = {}) is no object or has a key outside the NULL-terminated list. */
pb_status pb_method_check_keys(const pb_json *params, const char *where, const char *const *keys);

/* The status of a chain of pb_json_add_* (false: memory ran out). */
pb_status pb_described(bool ok);

/* PB_E_INPUT unless the parameter "targets" is an array of at least one pattern. */
pb_status pb_targets_check(const pb_json *array, const char *where);

/* Shared by methods that target LINEAR sites: "targets" is an array of globs over site names. Marks matches in hit[0..n-1];
 * PB_E_INPUT naming the pattern and some site names when a pattern matches no LINEAR site. */
pb_status pb_targets_match(const char *where, const char *const *patterns, int n_patterns,
                           const pb_site *sites, int n_sites, bool *hit);

#endif
