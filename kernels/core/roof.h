/* What the machine's units do with nothing of ours in between: the roofs that kernels are held
 * against. On the host; in kernels/ because only kernels/ knows the library. */
#ifndef PB_KERNELS_CORE_ROOF_H
#define PB_KERNELS_CORE_ROOF_H

#include "base/status.h"
#include "kernels/core/tensor.h"

/* Seconds of `n` products of two square matrices (row-major, numbers in -0.5..0.5, result in the same
 * dtype), each one call of the library that uses all `threads` as it likes; a first one warms up.
 * PB_E_UNSUPPORTED where the library has no kernel for the dtype on this CPU; PB_E_OOM. */
pb_status pb_library_product_times(int threads, pb_dtype dtype, int64_t side, int n,
                                   double *seconds);

/* Seconds of `n` rounds in which every thread executes `operations` f32 operations per lane-independent
 * chain: multiply-adds where the CPU has them, in its widest vectors, from registers. *per_round: how
 * many operations (a multiply-add is one) all threads together executed in a round. */
pb_status pb_vector_times(int threads, int n, double *seconds, double *per_round);

#endif
