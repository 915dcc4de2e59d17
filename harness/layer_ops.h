/* The ops of one layer of a model, each with tensors of that layer's sizes: what `bench ops` times
 * and `kernels` checks and times. To add an op: its arguments and a visit in one of the groups; a
 * test demands that every op has one. */
#ifndef PB_HARNESS_LAYER_OPS_H
#define PB_HARNESS_LAYER_OPS_H

#include "kernels/ops.h"

#define PB_LAYER_GROUPS 4 /* products, pointwise, sequence, training */
#define PB_LAYER_TENSORS 32

typedef struct pb_layer pb_layer;
/* One op, ready to run: args live during the visit only. A fault ends the walk. */
typedef pb_status (*pb_layer_visit)(pb_layer *layer, pb_op op, const void *args,
                                    const char *shape);

struct pb_layer {
    int64_t rows, C, FF, V, NH, NKV, HS; /* from pb_layer_sizes */
    pb_device *dev;
    pb_dtype dtype;
    pb_layer_visit visit;
    void *user;
    /* During a visit: every tensor that this op, or another of its group, reads or writes. */
    pb_tensor tensors[PB_LAYER_TENSORS];
    int n_tensors;
    uint64_t stream;
};

/* Sizes of a model (a folder or "shape:NAME") with `rows` tokens; the rest is zero. */
pb_status pb_layer_sizes(const char *model, int64_t rows, pb_layer *out);
/* Makes the tensors of a group (the same values each time), visits its ops, gives the memory
 * back. */
pb_status pb_layer_walk(pb_layer *layer, int group);

#endif
