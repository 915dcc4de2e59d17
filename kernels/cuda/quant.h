/* What other op families ask of 4-bit weights. Private to kernels/cuda. */
#ifndef PB_KERNELS_CUDA_QUANT_H
#define PB_KERNELS_CUDA_QUANT_H

#include "kernels/cuda/cuda.h"

/* dst [q->out, n] (f32 or bf16, own stride) := columns [from, from + n) of rows [row, row + rows) of the matrix. */
pb_status pb_cuda_dequant4(pb_cuda *cuda, const pb_quant4 *q, int64_t row, int64_t rows,
                           int64_t from, int64_t n, pb_tensor dst);

/* MiB of a slab of a decoded 4-bit weight: PB_CUDA_SLAB_MIB in the environment, a whole number from 1 to 1024, else 32, less
 * than the L2 cache of an H100 (50 MB). False: the variable holds something else. Read once. */
#define PB_CUDA_SLAB_MIB 32
bool pb_cuda_slab_mib(int *mib);
/* A 4-bit weight is decoded in slabs, meant to be in the L2 cache still when the product behind the decoding reads them: rows of
 * W (columns when `columns`) in one slab, a multiple of 64 unless all fit. */
int64_t pb_cuda_slab(const pb_quant4 *q, pb_dtype dtype, bool columns);
static inline size_t pb_cuda_slab_bytes(const pb_quant4 *q, pb_dtype dtype, bool columns) {
    int64_t across = columns ? q->out : q->in;
    return (size_t)(pb_cuda_slab(q, dtype, columns) * across) * pb_dtype_size(dtype);
}

#endif
