/* What the files of the cuda backend share: its context, launching, errors. Private to kernels/cuda.
 *
 * Every source here compiles twice: with nvcc for the device, and as host C++ over tests/cuda/shim, which runs the threads
 * of a block as fibers; so kernels keep to CUDA C without inline PTX (mma.cuh holds what cannot). An op runs like this:
 *
 *     static pb_status act_fwd_run(pb_device *dev, const void *args, void *ws) {
 *         pb_cuda *cuda = pb_cuda_of(dev);
 *         return PB_LAUNCH(cuda, (act_kernel<float>), pb_grid(blocks), 256, 0, a->x.data, a->y.data, n);
 *     }
 *
 * Arguments are converted to the kernel's parameter types and copied: host arrays travel as structs by value (up to
 * PB_LAUNCH_BYTES in all), chunk by chunk. An op never waits, never allocates and keeps no host pointer: a step may be
 * recorded and replayed as a graph (queue.cu). A launch with an empty grid does nothing. */
#ifndef PB_KERNELS_CUDA_CUDA_H
#define PB_KERNELS_CUDA_CUDA_H

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include "tests/cuda/shim/shim.h"
#endif

#include <utility>

#include "kernels/core/backend.h"
#include "kernels/cuda/api.h"

/* Of all parameters of one launch: CUDA 12.1 and its drivers take 32764 on every GPU since Volta. */
#if defined(__CUDACC__) && CUDART_VERSION < 12010
#define PB_LAUNCH_BYTES 4096
#else
#define PB_LAUNCH_BYTES 32764
#endif
#define PB_WARP 32

typedef struct pb_cuda_queue pb_cuda_queue;
typedef struct pb_cuda_products pb_cuda_products;

typedef struct pb_cuda {
    pb_api_device info;
    void *stream;               /* everything is enqueued here, in order ... */
    void *side;                 /* ... but for copies that an op lets run beside it */
    void *mark[3];              /* events for an op that uses both: op_optim.cu */
    bool plain;                 /* no own kernels on tensor cores, but their plain twins: PB_CUDA_PLAIN */
    pb_cuda_queue *queue;       /* queue.cu */
    pb_cuda_products *products; /* gemm.cu */
} pb_cuda;

/* NULL on a plan of a machine without a GPU: `workspace` functions must not need it. */
static inline pb_cuda *pb_cuda_of(const pb_device *dev) { return (pb_cuda *)pb_device_context(dev); }

static inline int64_t pb_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t pb_max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t pb_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline size_t pb_align256(size_t bytes) { return (bytes + 255) / 256 * 256; }

/* Takes `bytes` from a workspace cursor, 256-byte steps. The same calls with *ws NULL at the start add up the size. The
 * cursor itself is 64-byte aligned at least. */
static inline void *pb_cuda_take(char **ws, size_t bytes) {
    char *at = *ws;
    *ws += pb_align256(bytes);
    return at;
}

/* --- errors ------------------------------------------------------------------------------------- */

/* "cuda: <what>: out of memory (cudaErrorMemoryAllocation)" with the status that fits. */
pb_status pb_cuda_failed(int code, const char *what, const char *file, int line);

/* In functions that return pb_status and own nothing; in those with a `done:` label. */
#define PB_CUDA(call)                                                                       \
    do {                                                                                    \
        int pb_code_ = (call);                                                              \
        if (pb_code_ != 0) return pb_cuda_failed(pb_code_, #call, __FILE__, __LINE__);      \
    } while (0)
#define PB_CUDA_TRY(call)                                               \
    do {                                                                \
        int pb_code_ = (call);                                          \
        if (pb_code_ != 0) {                                            \
            status = pb_cuda_failed(pb_code_, #call, __FILE__, __LINE__); \
            goto done;                                                  \
        }                                                               \
    } while (0)

static inline pb_status pb_cuda_no_f64(const char *op) {
    return PB_ERROR(PB_E_UNSUPPORTED, "cuda: %s has no f64 kernel", op);
}

/* --- enqueueing (queue.cu) ----------------------------------------------------------------------- */

pb_status pb_cuda_enqueue(pb_cuda *cuda, const pb_launch *launch);
pb_status pb_cuda_zero(pb_cuda *cuda, void *dst, size_t bytes);
pb_status pb_cuda_copy(pb_cuda *cuda, void *dst, const void *src, size_t bytes); /* on the device */
/* Hands everything recorded so far to the device: needed before direct use of the streams. */
pb_status pb_cuda_flush(pb_cuda *cuda);

/* Grid sizes from 64-bit counts. */
static inline dim3 pb_grid(int64_t x, int64_t y = 1, int64_t z = 1) {
    PB_ASSERT(x >= 0 && x <= 0x7fffffff && y >= 0 && y <= 65535 && z >= 0 && z <= 65535);
    return dim3((unsigned)x, (unsigned)y, (unsigned)z);
}

template <typename... P, size_t... I>
void pb_cuda_call_unpacked(const void *kernel, void **args, std::index_sequence<I...>) {
    (void)args;
    ((void (*)(P...))kernel)(*(P *)args[I]...);
}

template <typename... P> void pb_cuda_call(const void *kernel, void **args) {
    pb_cuda_call_unpacked<P...>(kernel, args, std::make_index_sequence<sizeof...(P)>());
}

template <typename... P>
pb_status pb_cuda_launch_values(pb_cuda *cuda, const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                                size_t shared, P... p) {
    void *args[] = {(void *)&p..., nullptr};
    const size_t size[] = {sizeof(P)..., 0};
    pb_launch l = {};
    l.name = name;
    l.kernel = (const void *)kernel;
#ifndef __CUDACC__
    l.call = pb_cuda_call<P...>;
#endif
    const unsigned g[3] = {grid.x, grid.y, grid.z}, b[3] = {block.x, block.y, block.z};
    for (int i = 0; i < 3; i++) {
        l.grid[i] = g[i];
        l.block[i] = b[i];
    }
    l.shared = shared;
    l.args = args;
    l.size = size;
    l.n = (int)sizeof...(P);
    return pb_cuda_enqueue(cuda, &l);
}

template <typename... P, typename... A>
pb_status pb_cuda_launch(pb_cuda *cuda, const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                         const A &...a) {
    static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
    static_assert((sizeof(P) + ... + 0) <= PB_LAUNCH_BYTES, "too many bytes of parameters for one launch");
    return pb_cuda_launch_values<P...>(cuda, name, kernel, grid, block, shared, static_cast<P>(a)...);
}

/* A kernel with template arguments stands in parentheses. Yields a pb_status. */
#define PB_LAUNCH(cuda, kernel, grid, block, shared, ...) \
    pb_cuda_launch((cuda), #kernel, kernel, (grid), (block), (shared), ##__VA_ARGS__)

/* Defines the set of a family: PB_CUDA_KERNELS(act) = {kernels, n}; a const object needs the declaration for C linkage. */
#define PB_CUDA_KERNELS(family)                                       \
    extern "C" { extern const pb_kernel_set pb_kernels_cuda_##family; } \
    const pb_kernel_set pb_kernels_cuda_##family

#endif
