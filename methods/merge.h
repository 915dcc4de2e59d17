/* Changing stored weights and putting them back: what merge and unmerge of every method are made
 * of. A weight may be dense (T) or in 4 bits. Copies and temporaries live in PB_MEM_WORK in stack
 * order. */
#ifndef PB_METHODS_MERGE_H
#define PB_METHODS_MERGE_H

#include "kernels/ops.h"

/* A copy of a stored weight. */
typedef struct pb_kept_weight {
    pb_tensor dense;
    pb_tensor codes, absmax, absmax_q, absmax2, offset;
} pb_kept_weight;

/* Copies the stored form (4-bit: codes and constants) into PB_MEM_WORK; copies it back bit for bit.
 */
pb_status pb_weight_keep(pb_device *dev, pb_weight w, pb_kept_weight *kept);
pb_status pb_weight_restore(pb_device *dev, pb_weight w, const pb_kept_weight *kept);

/* dst[out,in] (M) := the stored weight; stored weight := src[out,in] (M), rounded or requantised.
 */
pb_status pb_weight_read(pb_device *dev, pb_weight w, pb_tensor dst);
pb_status pb_weight_write(pb_device *dev, pb_weight w, pb_tensor src);

/* W += scale * b[out,r] a[r,in] (b, a: T, rows may be strided). 4-bit weights go through M and are
 * requantised. master: M. */
pb_status pb_weight_add_product(pb_device *dev, pb_weight w, pb_dtype master, double scale,
                                pb_tensor b, pb_tensor a);

#endif
