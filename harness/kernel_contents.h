/* What the tensors of a case hold, kept on the host: so that every call of an op can start from the
 * same bytes, and what it wrote can be looked at. */
#ifndef PB_HARNESS_KERNEL_CONTENTS_H
#define PB_HARNESS_KERNEL_CONTENTS_H

#include "harness/layer_ops.h"

/* Zero-initialise; free with pb_contents_free. */
typedef struct pb_contents {
    unsigned char *bytes[PB_LAYER_TENSORS];
    pb_tensor tensor[PB_LAYER_TENSORS]; /* dtype and sizes */
    int n;
} pb_contents;

/* Copies the layer's tensors; what `out` held is freed. */
pb_status pb_contents_take(const pb_layer *layer, pb_contents *out);
/* Puts back the tensors with wrote[i]; `wrote` NULL: all. */
pb_status pb_contents_put(const pb_layer *layer, const pb_contents *before, const bool *wrote);
/* Does tensor i have other bytes? */
bool pb_contents_differ(const pb_contents *before, const pb_contents *after, int i);
void pb_contents_free(pb_contents *c);

#endif
