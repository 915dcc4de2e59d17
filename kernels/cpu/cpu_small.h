/* Products and transposes of a few dozen rows in f32, for attention. One thread. Private to kernels/cpu. */
#ifndef PB_KERNELS_CPU_SMALL_H
#define PB_KERNELS_CPU_SMALL_H

#include "kernels/cpu/cpu.h"

/* c[m,n] = (add ? c : 0) + a b, a(i,k) = a[i*row + k*col] (so that a transpose costs nothing), b[k,n], c with leading
 * dimensions ldb, ldc. n is a multiple of 16: pad with zeros. */
void pb_cpu_small_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t row, int64_t col, const float *b,
                          int64_t ldb, float *c, int64_t ldc, bool add);

/* dst[cols, ld]: dst[j,i] = src[i,j], rows padded with zeros to a multiple of 16 (they become columns of dst). */
void pb_cpu_transpose(float *dst, int64_t ld, const float *src, int64_t ld_src, int64_t rows, int64_t cols);

#endif
