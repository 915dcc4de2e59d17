/* The part that every low-rank method shares: y = W x + b + scale * B (e .* (A D(x))) at chosen
 * LINEAR sites.
 *
 * A method's self starts with a pb_lora; its per-site struct starts with a pb_lowrank_site. What
 * differs between methods is which slices of A and B take part, and with which scale: the `branch`
 * callback says so, and forward, merge and unmerge follow from it. */
#ifndef PB_METHODS_LOWRANK_H
#define PB_METHODS_LOWRANK_H

#include "methods/merge.h"
#include "methods/method.h"

typedef enum pb_bias_mode { PB_BIAS_NONE, PB_BIAS_LORA_ONLY, PB_BIAS_ALL } pb_bias_mode;
typedef enum pb_factor_init { PB_INIT_KAIMING, PB_INIT_GAUSSIAN } pb_factor_init;

/* The low-rank branch as it takes part now; e may be no tensor. */
typedef struct pb_branch {
    pb_tensor a, e, b;
    double scale;
} pb_branch;

typedef struct pb_lowrank_site {
    pb_site *site;
    pb_param *a, *b;     /* "<site>.lora_A" [rank,in], "<site>.lora_B" [out,rank] */
    pb_tensor h;         /* A D(x) of the last forward [N, rank in use] */
    pb_branch merged;    /* what merge folded in */
    pb_kept_weight kept; /* the weight before merge, where it cannot be computed back */
} pb_lowrank_site;

typedef struct pb_lora pb_lora;
struct pb_lora {
    /* configuration */
    int64_t rank;
    double alpha, dropout;
    char **targets;
    int n_targets;
    bool rslora;
    int bias; /* pb_bias_mode */
    int init; /* pb_factor_init */
    double scale;
    int64_t cut; /* only so many of A's rows and B's columns take part; 0 = all (whole factors alone) */
    pb_branch (*branch)(const pb_lora *lr, const pb_lowrank_site *site);
    /* from attach on */
    const char *name;
    pb_device *dev;
    pb_params *params;
    uint64_t seed;
    unsigned char *sites; /* n_sites structs of site_size bytes */
    size_t site_size;
    int n_sites;
    /* merge */
    bool merged;
    int n_merged;
    pb_mark merge_mark;
};

static inline pb_lowrank_site *pb_lowrank_at(const pb_lora *lr, int i) {
    return (pb_lowrank_site *)(void *)(lr->sites + (size_t)i * lr->site_size);
}

/* --- configuration ---------------------------------------------------------------------------- */

/* rank 8, alpha 16, dropout 0, every target, scale alpha/rank. */
void pb_lowrank_defaults(pb_lora *lr);
/* Reads "rank" (under rank_key), "alpha", "dropout" and "targets"; the keys were checked. */
pb_status pb_lowrank_parse(pb_lora *lr, const pb_json *o, const char *where, const char *rank_key);
pb_status pb_lowrank_describe(const pb_lora *lr, pb_json *out, const char *rank_key);
/* "scale" overrides the method's own rule, which has set lr->scale before: describe's output, read
 * again, gives the same method. */
pb_status pb_lowrank_parse_scale(pb_lora *lr, const pb_json *o, const char *where);
/* What LoRA, QLoRA and DoRA have beyond that: "scale", "rslora", "bias", "init". */
#define PB_LORA_KEYS "rank", "alpha", "scale", "dropout", "targets", "rslora", "bias", "init"
pb_status pb_lora_parse(pb_lora *lr, const pb_json *o, const char *where);
pb_status pb_lora_describe(const pb_lora *lr, pb_json *out);
/* Frees what parse and attach took, not lr itself. NULL is fine. */
void pb_lowrank_clear(pb_lora *lr);

/* --- life ------------------------------------------------------------------------------------- */

/* Matches targets, refuses ranks above min(in,out), adds A and B per site (values still zero),
 * trains them and the biases of the bias mode, hooks the sites. */
pb_status pb_lowrank_attach(pb_lora *lr, const char *name, const pb_attach *ctx, size_t site_size);
/* A Kaiming-uniform (a = sqrt 5) or N(0, 1/rank^2), B = 0. */
pb_status pb_lora_init(pb_lora *lr);
/* A distinct stream for initial values: `which` numbers the parameters of a site. */
uint64_t pb_lowrank_stream(const pb_lowrank_site *s, int which);

/* --- hooks ------------------------------------------------------------------------------------ */

pb_drop pb_lowrank_drop(const pb_lora *lr, const pb_pass *pass, const pb_site *site);
/* y += branch(x); keeps h. */
pb_status pb_lowrank_branch_fwd(pb_lora *lr, const pb_pass *pass, pb_lowrank_site *s, pb_tensor x,
                                pb_tensor y);
/* Gradients of the branch: dx = beta_dx*dx + ... (dx may be no tensor); de may be no tensor. A, B
 * from the whole factors. */
pb_status pb_lowrank_branch_bwd(pb_lora *lr, const pb_pass *pass, pb_lowrank_site *s, pb_tensor x,
                                pb_tensor dy, pb_tensor dx, pb_tensor de, double beta_dx);
/* linear_fwd and linear_bwd of a method whose self starts with a pb_lora (no e). */
pb_status pb_lowrank_linear_fwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                                pb_tensor y);
pb_status pb_lowrank_linear_bwd(void *self, const pb_pass *pass, pb_site *site, pb_tensor x,
                                pb_tensor dy, pb_tensor dx, double beta_dx);
/* components and cut of a method whose branch is the whole factors. */
int64_t pb_lowrank_components(const void *self);
pb_status pb_lowrank_cut(void *self, int64_t rank);
/* merge and unmerge: W +=/-= scale B diag(e) A. f32 and f64 weights are computed back; bf16 and
 * 4-bit ones are kept in PB_MEM_WORK until unmerge (so merge ... unmerge must nest with other uses
 * of that arena). */
pb_status pb_lowrank_merge(void *self, pb_device *dev);
pb_status pb_lowrank_unmerge(void *self, pb_device *dev);

#endif
