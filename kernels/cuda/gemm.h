/* Matrix products through cuBLASLt. Private to kernels/cuda. */
#ifndef PB_KERNELS_CUDA_GEMM_H
#define PB_KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

/* Bytes that cuBLASLt may use, for every product the same ones: one stream, one after another. */
#define PB_CUDA_PRODUCT_WORKSPACE ((size_t)32 << 20)

/* As the op (kernels/ops.h): row-major, f32 or bf16 operands, sums in f32, no TF32. Algorithms come from the library's
 * heuristics and are kept by shape, strides and alignment. Enqueues; needs no workspace of the caller. */
pb_status pb_cuda_gemm(pb_cuda *cuda, const pb_gemm_args *g);

pb_status pb_cuda_products_new(pb_cuda *cuda);
void pb_cuda_products_free(pb_cuda *cuda);

/* A product as it is enqueued: everything decided. */
typedef struct pb_cuda_product {
    void *desc, *layout_a, *layout_b, *layout_d; /* the library's */
    const pb_api_algo *algo;
    float alpha, beta;
    const void *a, *b, *bias;
    void *d;
} pb_cuda_product;
/* Hands it to the library now: for queue.cu. */
pb_status pb_cuda_product_run(pb_cuda *cuda, const pb_cuda_product *p);

#endif
