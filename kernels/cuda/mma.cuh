/* Tensor-core products of bf16 with f32 accumulation, and asynchronous copies into shared memory:
 * the few PTX instructions the backend uses, behind functions that a host compiler can run too.
 *
 * Fragments (PTX ISA, "Matrix fragments for mma.m16n8k16"), lane = 4 g + t:
 *   A [16,16] row-major, 4 registers of 2 values: (g, 2t..), (g+8, 2t..), (g, 2t+8..), (g+8, 2t+8..)
 *   B [16,8], 2 registers: (k 2t.., n g), (k 2t+8.., n g)
 *   C [16,8], 4 floats: (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)
 * So the accumulators of two neighbouring C tiles, packed to bf16, are an A fragment: a product can
 * feed the next one without leaving the registers (Dao 2023, FlashAttention-2).
 *
 * Tiles in shared memory are rows of D bf16 in chunks of 8 (16 bytes). The chunks of a row are
 * permuted by its number, so that the eight rows an ldmatrix reads lie in different banks.
 *
 * On the host the same functions are emulated warp by warp. Copies are carried out as late as the
 * rules allow (in pb_async_wait), and the destination holds NaN until then: a missing wait shows. */
#ifndef PB_KERNELS_CUDA_MMA_CUH
#define PB_KERNELS_CUDA_MMA_CUH

#include "kernels/cuda/lane.cuh"

#ifdef __CUDACC__
/* Architectures without bf16 tensor cores (sm_75) get empty bodies; the host never launches them. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define PB_HAS_MMA 1
#else
#define PB_HAS_MMA 0
#endif

#if PB_HAS_MMA

static __device__ __forceinline__ uint32_t pb_shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four 8x8 matrices of 16-bit values; lane i gives the address of row i%8 of matrix i/8. Lane 4g+t gets
 * values (g, 2t) and (g, 2t+1) of each; of the transposed matrices with _trans. */
static __device__ __forceinline__ void pb_ldmatrix4(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(pb_shared_address(row)));
}
static __device__ __forceinline__ void pb_ldmatrix4_trans(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(pb_shared_address(row)));
}

/* c += a b. Volatile as all instructions that a whole warp executes together: none may move into a branch. */
static __device__ __forceinline__ void pb_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* 16 bytes from global to shared memory, both 16-byte aligned; zeros when not valid (the source is
 * not read then, but has to be an address of the same kind of memory). */
static __device__ __forceinline__ void pb_async16(void *to, const void *from, bool valid) {
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(pb_shared_address(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
}
static __device__ __forceinline__ void pb_async_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until at most N of the last committed groups are under way. Then a barrier: other threads'
 * copies are theirs to wait for. */
template <int N>
static __device__ __forceinline__ void pb_async_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* Two values as bf16, `lo` in the lower half. */
static __device__ __forceinline__ uint32_t pb_pack2(float lo, float hi) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

#endif /* PB_HAS_MMA */
#else  /* host */
#define PB_HAS_MMA 1
#include "tests/cuda/shim/mma_host.h"
#endif

#if PB_HAS_MMA

/* Offset, in elements, of a chunk of a row of a tile D = 16, 32, 64, ... wide. Rows of 32 or 64 bytes share the 128 bytes
 * of all banks: there every 4th or 2nd row gets another permutation. */
template <int D>
static __device__ __forceinline__ int pb_tile_at(int row, int chunk) {
    constexpr int CHUNKS = D / 8,
                  SHIFT = D == 16   ? 2
                          : D == 32 ? 1
                                    : 0,
                  MASK = CHUNKS < 8 ? CHUNKS - 1 : 7;
    return row * D + (chunk ^ ((row >> SHIFT) & MASK)) * 8;
}

/* A fragment: rows r0..r0+15, columns 16 k..16 k+15 of the tile. */
template <int D>
static __device__ __forceinline__ void pb_tile_a(uint32_t (&a)[4], const uint16_t *tile, int r0,
                                                 int k) {
    int lane = (int)threadIdx.x & 31;
    pb_ldmatrix4(a, tile + pb_tile_at<D>(r0 + (lane & 15), 2 * k + (lane >> 4)));
}

/* A fragment when the rows of the tile are the inner dimension: rows k0..k0+15, columns 16 m..16 m+15 are the rows of A. */
template <int D>
static __device__ __forceinline__ void pb_tile_a_trans(uint32_t (&a)[4], const uint16_t *tile,
                                                       int k0, int m) {
    int lane = (int)threadIdx.x & 31;
    int row = k0 + (lane & 7) + ((lane >> 4) << 3);
    pb_ldmatrix4_trans(a, tile + pb_tile_at<D>(row, 2 * m + ((lane >> 3) & 1)));
}

/* B fragments of two neighbouring n tiles when the rows of the tile are n: b[0..1] for rows
 * n0..n0+7, b[2..3] for n0+8..n0+15; columns 16 k.. are the inner dimension. */
template <int D>
static __device__ __forceinline__ void pb_tile_b(uint32_t (&b)[4], const uint16_t *tile, int n0,
                                                 int k) {
    int lane = (int)threadIdx.x & 31;
    int row = n0 + (lane & 7) + ((lane >> 4) << 3);
    pb_ldmatrix4(b, tile + pb_tile_at<D>(row, 2 * k + ((lane >> 3) & 1)));
}

/* The same when the rows of the tile are the inner dimension: rows k0..k0+15, columns 16 n..16 n+7 in
 * b[0..1], 16 n+8..16 n+15 in b[2..3]. */
template <int D>
static __device__ __forceinline__ void pb_tile_b_trans(uint32_t (&b)[4], const uint16_t *tile,
                                                       int k0, int n) {
    int lane = (int)threadIdx.x & 31;
    pb_ldmatrix4_trans(b, tile + pb_tile_at<D>(k0 + (lane & 15), 2 * n + (lane >> 4)));
}

#endif
#endif
