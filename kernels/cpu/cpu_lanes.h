/* Sums over 16 lanes, products and transposes of a few dozen rows in f32: what automatic
 * vectorisation does badly. Compiled for AVX-512, AVX2 with FMA, and the base instruction set;
 * chosen at each call. One thread.
 *
 * A sum is kept in 4 x 16 lanes and its order is the same everywhere, but multiply-adds are fused where
 * the CPU can: results may differ in the last bits between CPUs with and without FMA, never between
 * runs or thread counts. */
#ifndef PB_KERNELS_CPU_LANES_H
#define PB_KERNELS_CPU_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PB_LANES 16

float pb_cpu_sum(const float *x, int64_t n);
float pb_cpu_dot(const float *x, const float *y, int64_t n);
float pb_cpu_centred_squares(const float *x, float mean, int64_t n); /* sum (x - mean)^2 */
double pb_cpu_sum_double(const float *x, int64_t n); /* in 16 sums of doubles */
float pb_cpu_absmax(const float *x, int64_t n);      /* 0 when n is 0; NaN is passed over */
float pb_cpu_max(const float *x, int64_t n); /* -inf when n is 0; NaN is passed over */

/* Rounds the first whole lines of dst, 32 numbers each, as pb_narrow does; how many numbers. 0 where
 * the CPU has no instruction for it. */
int64_t pb_cpu_narrow_lines(uint16_t *dst, const float *src, int64_t n);
#if defined(__x86_64__)
/* y := alpha x + beta y, rounded, for a multiple of 32 numbers, where the CPU has AVX512_BF16. */
void pb_cpu_blend_lines(uint16_t *y, const float *x, float alpha, float beta, int64_t n);
#endif

/* dst := src, bytes, where src is in a cache and dst had better not be: whole lines are written
 * without reading them first. What the other threads see of it is certain after pb_cpu_past_end. */
void pb_cpu_store_past(void *dst, const void *src, size_t bytes);
void pb_cpu_past_end(void);

/* --- rows of attention scores, `padded` = keys rounded up to 16 ------------------------------ */

/* s[0..keys) := exp(scale s - max), zeros behind; the sum, and max of scale s. */
float pb_cpu_softmax_row(float *s, int64_t keys, int64_t padded, float scale, float *max);
/* s[0..keys) := exp(scale s - lse), zeros behind. */
void pb_cpu_probability_row(float *s, int64_t keys, int64_t padded, float scale, float lse);
/* dp := scale p (dp - sum p dp). */
void pb_cpu_score_gradient_row(float *dp, const float *p, int64_t padded, float scale);

/* --- small matrices -------------------------------------------------------------------------- */

/* c[m,n] = (add ? c : 0) + a b, a(i,k) = a[i*row + k*col] (so that a transpose costs nothing),
 * b[k,n], c with leading dimensions ldb, ldc. n is a multiple of 16: pad with zeros. */
void pb_cpu_small_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t row, int64_t col,
                          const float *b, int64_t ldb, float *c, int64_t ldc, bool add);

/* dst[cols, ld]: dst[j,i] = src[i,j], rows padded with zeros to a multiple of 16 (they become
 * columns of dst). */
void pb_cpu_transpose(float *dst, int64_t ld, const float *src, int64_t ld_src, int64_t rows,
                      int64_t cols);

#endif
