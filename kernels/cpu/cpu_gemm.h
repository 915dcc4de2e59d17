/* Matrix products through oneDNN, cut into pieces that run single-threaded inside our own parallel
 * loops, so that sums do not depend on the number of threads. Compiled products are kept in the
 * context by shape. Private to kernels/cpu. */
#ifndef PB_KERNELS_CPU_GEMM_H
#define PB_KERNELS_CPU_GEMM_H

#include "kernels/cpu/cpu.h"

/* c[m,n] = alpha * op(a)[m,k] op(b)[k,n] + beta * c + bias[n]; ld = elements between stored rows.
 */
typedef struct pb_cpu_product {
    int64_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    bool ta, tb;
    pb_dtype ab, c;      /* dtypes */
    pb_dtype bias_dtype; /* with bias */
    bool bias;
} pb_cpu_product;

/* Scratch per thread. The largest that oneDNN 2.6 asked for over the shapes tried is 400 KiB; a
 * product that wants more is run by our own loops. */
#define PB_CPU_SCRATCH ((size_t)512 << 10)

static inline size_t pb_cpu_gemm_workspace(const pb_device *dev) {
    return (size_t)pb_device_threads(dev) * PB_CPU_SCRATCH;
}

/* The whole product, in parallel. scratch: pb_cpu_gemm_workspace bytes. */
pb_status pb_cpu_gemm(pb_cpu *cpu, const pb_cpu_product *p, const void *a, const void *b,
                      const void *bias, void *c, void *scratch);

/* At the start of an op, when no prim is in use: the cache starts anew when it has grown too large.
 */
void pb_cpu_prims_begin(pb_cpu *cpu);
/* A compiled product for use inside a parallel region of the caller: get it outside, run it on one
 * thread. */
pb_status pb_cpu_prim_get(pb_cpu *cpu, const pb_cpu_product *p, pb_cpu_prim **out);
/* scratch: this thread's PB_CPU_SCRATCH bytes. False when oneDNN reports an error. */
bool pb_cpu_prim_run(pb_cpu *cpu, pb_cpu_prim *prim, int thread, const void *a, const void *b,
                     const void *bias, void *c, void *scratch);
void pb_cpu_prims_free(pb_cpu *cpu);

/* oneDNN must see a single thread, also in a region of one thread. Bracket every region that runs
 * prims. */
int pb_cpu_single_enter(void);
void pb_cpu_single_leave(int saved);

/* The same product by plain loops: for what oneDNN does not do here (bf16 before AVX-512, empty
 * sums). */
void pb_cpu_plain_product(const pb_cpu_product *p, const void *a, const void *b, const void *bias,
                          void *c);

#endif
