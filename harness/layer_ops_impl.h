/* Private to harness/layer_ops*.c: tensors of a walk, and its groups. */
#ifndef PB_HARNESS_LAYER_OPS_IMPL_H
#define PB_HARNESS_LAYER_OPS_IMPL_H

#include <stdio.h>

#include "harness/layer_ops.h"

#define PB_LAYER_SHAPE 64 /* characters */
#define PB_LAYER_SEQUENCE 64 /* tokens of a usual sequence */

/* Each makes one tensor, and notes it. Values are uniform in lo..hi, of a matrix in -1..1. */
pb_status pb_layer_matrix(pb_layer *b, pb_dtype dtype, int64_t rows, int64_t cols, pb_tensor *out);
pb_status pb_layer_vector(pb_layer *b, pb_dtype dtype, int64_t n, double lo, double hi,
                          pb_tensor *out);
pb_status pb_layer_between(pb_layer *b, pb_dtype dtype, int64_t rows, int64_t cols, double lo,
                           double hi, pb_tensor *out);
pb_status pb_layer_zeros(pb_layer *b, pb_dtype dtype, int64_t rows, int64_t cols, pb_tensor *out);
pb_status pb_layer_codes(pb_layer *b, int64_t n, pb_tensor *out);
/* value(i) for i in 0..n-1: i % modulus, or i * factor when modulus is 0. */
pb_status pb_layer_indices(pb_layer *b, int64_t n, int64_t modulus, int64_t factor,
                           pb_tensor *out);
/* Notes a tensor that was made otherwise; none is fine. */
pb_status pb_layer_keep(pb_layer *b, pb_tensor t);

/* Groups, some of them for a length, a code or a rank. */
pb_status pb_layer_dense(pb_layer *b, int64_t);
pb_status pb_layer_gelu(pb_layer *b, int64_t);
pb_status pb_layer_backward(pb_layer *b, int64_t);
pb_status pb_layer_coded(pb_layer *b, int64_t code);
pb_status pb_layer_coded_backward(pb_layer *b, int64_t code);
pb_status pb_layer_low_rank(pb_layer *b, int64_t rank);
pb_status pb_layer_thin(pb_layer *b, int64_t rank);

pb_status pb_layer_activations(pb_layer *b, int64_t);
pb_status pb_layer_other_activations(pb_layer *b, int64_t);
pb_status pb_layer_elements(pb_layer *b, int64_t);
pb_status pb_layer_norms(pb_layer *b, int64_t);
pb_status pb_layer_norm_weights(pb_layer *b, int64_t);

pb_status pb_layer_attention(pb_layer *b, int64_t length);
pb_status pb_layer_attention_backward(pb_layer *b, int64_t length);
pb_status pb_layer_pooling(pb_layer *b, int64_t);
pb_status pb_layer_embedding(pb_layer *b, int64_t);
pb_status pb_layer_rotation(pb_layer *b, int64_t);
pb_status pb_layer_some_rows(pb_layer *b, int64_t);

pb_status pb_layer_loss(pb_layer *b, int64_t);
pb_status pb_layer_adamw(pb_layer *b, int64_t);
pb_status pb_layer_adamw8(pb_layer *b, int64_t);
pb_status pb_layer_dora(pb_layer *b, int64_t);
pb_status pb_layer_adalora(pb_layer *b, int64_t);

#endif
