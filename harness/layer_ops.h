/* The ops of one layer of a model, each with tensors of that layer's sizes: what `bench ops` times
 * and `kernels` checks and times. To add an op: its arguments and a visit in one of the groups
 * (harness/layer_ops_*.c); a test demands that every op has one.
 *
 * Groups are small, so that a case needs little more memory than its op. They come in three ranks. */
#ifndef PB_HARNESS_LAYER_OPS_H
#define PB_HARNESS_LAYER_OPS_H

#include "kernels/ops.h"

#define PB_LAYER_TENSORS 32

typedef enum pb_layer_rank {
    PB_LAYER_EACH, /* each op once, at the layer's own sizes: `bench ops`, `kernels count` */
    PB_LAYER_USUAL, /* and what else a training step spends its time in: `kernels run` */
    PB_LAYER_ALL,  /* and long sequences, other codes, thin products, other activations */
} pb_layer_rank;

typedef struct pb_layer pb_layer;
/* One op, ready to run: args live during the visit only. A fault ends the walk. */
typedef pb_status (*pb_layer_visit)(pb_layer *layer, pb_op op, const void *args,
                                    const char *shape);

struct pb_layer {
    int64_t rows, C, FF, V, NH, NKV, HS; /* from pb_layer_sizes */
    bool causal;
    pb_norm norm;
    pb_act act;
    pb_device *dev;
    pb_dtype dtype;
    pb_layer_visit visit;
    void *user;
    /* During a visit: every tensor that this op, or another of its group, reads or writes. */
    pb_tensor tensors[PB_LAYER_TENSORS];
    int n_tensors;
    uint64_t stream;
};

/* Sizes and ways of a model (a folder or "shape:NAME") with `rows` tokens; the rest is zero. */
pb_status pb_layer_sizes(const char *model, int64_t rows, pb_layer *out);
int pb_layer_groups(void);
pb_layer_rank pb_layer_group_rank(int group);
/* Makes the tensors of a group (the same values each time), visits its ops, gives the memory back.
 * Walks may be nested: a visit may walk the same group again and has the op's arguments twice. */
pb_status pb_layer_walk(pb_layer *layer, int group);

#endif
