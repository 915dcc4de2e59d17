/* The low-rank branch of bf16 in tile registers, for ranks up to 32: a library's product with so
 * short a side reads its large operand at half the rate of a copy. Private to kernels/cpu. */
#ifndef PB_KERNELS_CPU_LOWRANK_H
#define PB_KERNELS_CPU_LOWRANK_H

#include "kernels/cpu/cpu.h"

/* Whether the tiles take a branch of these sizes. */
bool pb_lowrank_tiles_serve(const pb_cpu *cpu, pb_dtype type, int64_t in, int64_t out, int64_t r);

/* Both factors in pairs of rows (cpu_tiles.h), packed into ws once for all threads. narrow
 * [k/2, padded] gives h = u A^T and dq = dy B; wide [16, n] gives y += h B^T and dx = dh A.
 * padded: r rounded up to 16; what lies beyond r is 0. */
typedef struct pb_lowrank_pack {
    int64_t k, n, r, padded;
    uint32_t *narrow, *wide;
} pb_lowrank_pack;

size_t pb_lowrank_pack_bytes(int64_t k, int64_t n);
pb_lowrank_pack pb_lowrank_pack_fwd(const pb_lowrank_args *a, void *ws);
pb_lowrank_pack pb_lowrank_pack_bwd(const pb_lowrank_bwd_args *a, void *ws);

/* Token rows [row, row+rows), between pb_cpu_tiles_begin and _end. ws: a thread's own. */
size_t pb_lowrank_tiles_fwd_bytes(const pb_lowrank_args *a);
void pb_lowrank_tiles_fwd(const pb_lowrank_args *a, const pb_lowrank_pack *p, int64_t row,
                          int64_t rows, void *ws);
/* da [r, in], db transposed [r, out] and de [r] of these rows are overwritten; NULL: not wanted. */
size_t pb_lowrank_tiles_bwd_bytes(const pb_lowrank_bwd_args *a);
void pb_lowrank_tiles_bwd(const pb_lowrank_bwd_args *a, const pb_lowrank_pack *p, int64_t row,
                          int64_t rows, float *da, float *db, float *de, void *ws);

#endif
