/* The seam: every call of the CUDA runtime and of cuBLASLt that the backend makes, one small function each.
 *
 * Two implementations: api_cuda.cu (the real one) and tests/cuda/api_host.cpp (a stand-in on host memory that counts calls
 * and can fail the n-th). Nothing here decides anything. All return 0, or an error code that pb_api_error puts into words;
 * streams, events, graphs and so on are the libraries' own handles behind void pointers. */
#ifndef PB_KERNELS_CUDA_API_H
#define PB_KERNELS_CUDA_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What an error code means for the caller. FAULT: a kernel went wrong, and every later call in this process says so too. */
typedef enum pb_api_class { PB_API_OTHER, PB_API_NO_MEMORY, PB_API_NO_DEVICE, PB_API_FAULT } pb_api_class;
const char *pb_api_error(int code); /* "out of memory (cudaErrorMemoryAllocation)"; valid until the next call */
pb_api_class pb_api_class_of(int code);

/* --- device and memory ----------------------------------------------------------------------- */

typedef struct pb_api_device {
    char name[256];
    char bus[24]; /* "0000:18:00.0"; "" where the driver does not tell */
    int major, minor, sms;
    int clock_khz, memory_clock_khz, memory_bus_bits; /* 0 where the driver does not tell */
    int driver, runtime;                              /* 13000 = 13.0 */
    size_t memory_bytes, l2_bytes, shared_optin;      /* shared_optin: most dynamic shared memory of a block */
} pb_api_device;

int pb_api_versions(int *driver, int *runtime); /* 13000 = 13.0; driver 0: none. Needs no device */
int pb_api_device_count(int *n);
int pb_api_device_open(int index, pb_api_device *out); /* makes it current in this thread */
int pb_api_memory(size_t *free_bytes, size_t *total_bytes);
int pb_api_malloc(void **p, size_t bytes);
int pb_api_free(void *p);
int pb_api_host_alloc(void **p, size_t bytes); /* pinned */
int pb_api_host_free(void *p);

/* --- streams, events, transfers -------------------------------------------------------------- */

typedef enum pb_api_copy_kind { PB_API_TO_DEVICE, PB_API_TO_HOST, PB_API_ON_DEVICE } pb_api_copy_kind;

int pb_api_stream_new(void **stream);
int pb_api_stream_free(void *stream);
int pb_api_stream_sync(void *stream);
int pb_api_stream_wait(void *stream, void *event); /* what is enqueued from now on waits for the event */
int pb_api_copy(void *dst, const void *src, size_t bytes, pb_api_copy_kind kind, void *stream);
int pb_api_zero(void *dst, size_t bytes, void *stream);
int pb_api_event_new(void **event);
int pb_api_event_free(void *event);
/* external: as a node of the graph being captured, instead of an edge of it. */
int pb_api_event_record(void *event, void *stream, bool external);
int pb_api_event_sync(void *event);
int pb_api_event_elapsed(void *a, void *b, double *ns);

/* --- kernels ------------------------------------------------------------------------------------ */

/* One launch. args[i] points at the i-th parameter, size[i] bytes of it. */
typedef struct pb_launch {
    const char *name;
    const void *kernel;
    void (*call)(const void *kernel, void **args); /* how the host calls it; NULL where the device does */
    unsigned grid[3], block[3];
    size_t shared; /* dynamic shared memory, bytes */
    void **args;
    const size_t *size;
    int n;
} pb_launch;

int pb_api_launch(const pb_launch *launch, void *stream);
int pb_api_set_shared(const void *kernel, size_t bytes); /* allows dynamic shared memory beyond 48 KiB */

/* --- graphs ------------------------------------------------------------------------------------- */

int pb_api_capture_begin(void *stream);
int pb_api_capture_node(void *stream, void **node); /* the last node captured */
int pb_api_capture_end(void *stream, void **graph);
int pb_api_graph_instantiate(void *graph, void **exec);
int pb_api_graph_free(void *graph);
int pb_api_exec_params(void *exec, void *node, const pb_launch *launch); /* new parameters for a kernel's node */
int pb_api_exec_launch(void *exec, void *stream);
int pb_api_exec_free(void *exec);

/* --- products (column-major, as cuBLASLt counts) --------------------------------------------- */

typedef enum pb_api_dtype { PB_API_F32, PB_API_BF16 } pb_api_dtype;

/* What becomes of s = alpha op(A)[m,k] op(B)[k,n] + beta D + bias[m] (GELU in its tanh form). */
typedef enum pb_api_epilogue {
    PB_API_SUM,       /* D[m,n] = s */
    PB_API_GELU,      /* D = gelu(s); with ld_aux, s goes to the auxiliary matrix too */
    PB_API_GELU_GRAD, /* D = s gelu'(auxiliary matrix) */
} pb_api_epilogue;

/* The auxiliary matrix has D's type, starts at a multiple of 16 bytes, and ld_aux (0: there is none) is a multiple of 8. */
typedef struct pb_api_product {
    int64_t m, n, k, lda, ldb, ldd, ld_aux;
    pb_api_epilogue epilogue;
    bool trans_a, trans_b, bias;
    pb_api_dtype ab, d, bias_dtype;
    int align_a, align_b, align_d, align_bias; /* bytes, powers of two up to 16 */
} pb_api_product;

#define PB_API_ALGO_BYTES 64
typedef struct pb_api_algo {
    uint64_t data[PB_API_ALGO_BYTES / 8];
    size_t workspace;
} pb_api_algo;

int pb_api_lt_new(void **lt);
int pb_api_lt_free(void *lt);
int pb_api_lt_version(int *version); /* 130001 = 13.0.1 */
int pb_api_lt_desc_new(void **desc, const pb_api_product *p);
int pb_api_lt_desc_free(void *desc);
int pb_api_lt_desc_bias(void *desc, const void *bias);
int pb_api_lt_desc_aux(void *desc, void *aux);
int pb_api_lt_layout_new(void **layout, pb_api_dtype dtype, int64_t rows, int64_t cols, int64_t ld);
int pb_api_lt_layout_free(void *layout);
/* The nth of the algorithms that the library proposes, from 0 = the one that it thinks the best, within `workspace` bytes; where
 * there are fewer, the last; *found false when there is none. At most PB_API_ALGORITHMS. Reductions of split sums in f32 only. */
#define PB_API_ALGORITHMS 32
int pb_api_lt_heuristic(void *lt, void *desc, void *a, void *b, void *d, const pb_api_product *p, size_t workspace, int nth,
                        pb_api_algo *algo, bool *found);
int pb_api_lt_matmul(void *lt, void *desc, float alpha, const void *a, void *layout_a, const void *b, void *layout_b,
                     float beta, void *d, void *layout_d, const pb_api_algo *algo, void *ws, size_t ws_bytes,
                     void *stream);

#ifdef __cplusplus
}
#endif
#endif
