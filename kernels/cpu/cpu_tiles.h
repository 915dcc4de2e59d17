/* Products of bf16 matrices in the tile registers of AMX: sums of 32 products
 * for 16 x 16 results in one instruction, sixteen times what a vector unit
 * multiplies. For operands that are in the caches and in the layout that the
 * instruction wants, where a call of oneDNN would pack them again. Private to
 * kernels/cpu. */
#ifndef PB_KERNELS_CPU_TILES_H
#define PB_KERNELS_CPU_TILES_H

#include <stdbool.h>
#include <stdint.h>

#define PB_TILE 32 /* m, n and k of a product are multiples of it; one of m and n may be 16 */

/* The CPU has tiles for bf16 and the system lets this process use them. */
bool pb_cpu_tiles_ask(void);
/* Around all products of one thread: 64-byte rows in all eight registers, and
 * all given back. */
void pb_cpu_tiles_begin(void);
void pb_cpu_tiles_end(void);

/* c[m,n] = (add ? c : 0) + a b. a[m,k] bf16 in rows; b[k/2,n]: each 32 bits are
 * the values of rows 2i and 2i+1 of one column; c f32. lda, ldb, ldc in
 * elements, of b in pairs. */
void pb_cpu_tile_product(int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t lda,
                         const uint32_t *b, int64_t ldb, float *c, int64_t ldc, bool add);

/* The same for m = 16 and k = 32: a is loaded once. */
void pb_cpu_tile_row(int64_t n, const uint16_t *a, int64_t lda, const uint32_t *b, int64_t ldb,
                     float *c, int64_t ldc);

#endif
