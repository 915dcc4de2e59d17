/* Tensors: a handle into a device's arena with a dtype and a shape. Nothing above kernels/ reads through `data`.
 *
 * Row-major; the last dimension is contiguous; `stride` is the distance in elements between consecutive rows, so that a
 * column slice of a matrix is a tensor too. A tensor never owns memory: it is a plain value, freed with its arena. */
#ifndef PB_KERNELS_CORE_TENSOR_H
#define PB_KERNELS_CORE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pb_dtype { PB_F32, PB_BF16, PB_F64, PB_I32, PB_U8, PB_DTYPE_COUNT } pb_dtype;

size_t pb_dtype_size(pb_dtype dtype);      /* bytes per element */
const char *pb_dtype_name(pb_dtype dtype); /* "f32", "bf16", "f64", "i32", "u8" */

/* The type M of statistics, gradients and optimizer state that goes with a real dtype T: f64 for f64, else f32. */
static inline pb_dtype pb_dtype_master(pb_dtype dtype) { return dtype == PB_F64 ? PB_F64 : PB_F32; }

#define PB_MAX_DIMS 3

typedef struct pb_tensor {
    void *data; /* device address; NULL = "no tensor" (an optional argument left out) */
    pb_dtype dtype;
    int ndim;
    int64_t dim[PB_MAX_DIMS];
    int64_t stride; /* elements between rows of the last dimension; == dim[ndim-1] when contiguous */
} pb_tensor;

static inline bool pb_has(pb_tensor t) { return t.data != NULL; }

/* No indexing by ndim here: gcc 12 then believes that the copied argument is not initialised. */
static inline int64_t pb_cols(pb_tensor t) {
    return t.ndim == 2 ? t.dim[1] : t.ndim == 1 ? t.dim[0] : t.ndim == 3 ? t.dim[2] : 1;
}

static inline int64_t pb_rows(pb_tensor t) {
    return t.ndim == 2 ? t.dim[0] : t.ndim == 3 ? t.dim[0] * t.dim[1] : 1;
}

static inline int64_t pb_numel(pb_tensor t) { return pb_rows(t) * pb_cols(t); }

static inline bool pb_contiguous(pb_tensor t) { return pb_rows(t) <= 1 || t.stride == pb_cols(t); }

/* Bytes of the elements (not of the gaps between strided rows). */
static inline size_t pb_bytes(pb_tensor t) { return (size_t)pb_numel(t) * pb_dtype_size(t.dtype); }

/* Rows [from, from+n) of a matrix; columns [from, from+n); the same elements seen as rows x cols (contiguous only). */
pb_tensor pb_rows_of(pb_tensor t, int64_t from, int64_t n);
pb_tensor pb_cols_of(pb_tensor t, int64_t from, int64_t n);
pb_tensor pb_reshape(pb_tensor t, int64_t rows, int64_t cols);
/* A matrix of a type no wider, of which each row begins where that row of t does. */
pb_tensor pb_narrowed(pb_tensor t, pb_dtype dtype);

/* bf16 <-> f32 on the host, round to nearest even, NaN stays NaN. */
static inline float pb_bf16_to_f32(uint16_t h) {
    union {
        uint32_t u;
        float f;
    } v;
    v.u = (uint32_t)h << 16;
    return v.f;
}

static inline uint16_t pb_f32_to_bf16(float f) {
    union {
        uint32_t u;
        float f;
    } v;
    v.f = f;
    uint32_t nan = (v.u & 0x7fffffffu) > 0x7f800000u;
    uint32_t rounded = (v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16;
    return (uint16_t)(nan ? ((v.u >> 16) | 0x40u) : rounded);
}

#ifdef __cplusplus
}
#endif
#endif
