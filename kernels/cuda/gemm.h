/* Matrix products through cuBLASLt. Private to kernels/cuda. */
#ifndef PB_KERNELS_CUDA_GEMM_H
#define PB_KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

/* Bytes that cuBLASLt may use, and what an op with products asks for so that they can start at a multiple of 256. They come
 * from the op's workspace: the arena counts them. One stream: every product of an op takes the same ones. */
#define PB_CUDA_PRODUCT_WORKSPACE ((size_t)32 << 20)
#define PB_CUDA_PRODUCT_BYTES     (PB_CUDA_PRODUCT_WORKSPACE + 256)

/* As the op (kernels/ops.h): row-major, f32 or bf16 operands, sums in f32, no TF32. Algorithms come from the library's
 * heuristics and are kept by shape, strides and alignment. Enqueues. ws: PB_CUDA_PRODUCT_BYTES. */
pb_status pb_cuda_gemm(pb_cuda *cuda, const pb_gemm_args *g, void *ws);

/* The same with what the library's epilogue makes of the sums, `aux` (g->c's shape; optional for PB_API_GELU) as in
 * pb_api_epilogue. *done false: the library cannot for these types, strides or addresses, or it does not pay on
 * this architecture (or PB_CUDA_EPILOGUE=0), and nothing was enqueued. */
pb_status pb_cuda_gemm_epilogue(pb_cuda *cuda, const pb_gemm_args *g, pb_api_epilogue epilogue, pb_tensor aux, void *ws,
                                bool *done);

pb_status pb_cuda_products_new(pb_cuda *cuda, int algorithm); /* as the device's option */
void pb_cuda_products_free(pb_cuda *cuda);

/* A product as it is enqueued: everything decided. */
typedef struct pb_cuda_product {
    void *desc, *layout_a, *layout_b, *layout_d; /* the library's */
    const pb_api_algo *algo;
    float alpha, beta;
    const void *a, *b, *bias;
    void *d, *aux, *ws;
} pb_cuda_product;
/* Hands it to the library now: for queue.cu. */
pb_status pb_cuda_product_run(pb_cuda *cuda, const pb_cuda_product *p);

#endif
