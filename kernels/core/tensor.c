/* Names, sizes and views of tensors. Device independent: nothing here reads an element. */
#include "kernels/core/tensor.h"

#include "base/status.h"

size_t pb_dtype_size(pb_dtype dtype) {
    static const size_t size[PB_DTYPE_COUNT] = {4, 2, 8, 4, 1};
    PB_ASSERT((unsigned)dtype < PB_DTYPE_COUNT);
    return size[dtype];
}

const char *pb_dtype_name(pb_dtype dtype) {
    static const char *const name[PB_DTYPE_COUNT] = {"f32", "bf16", "f64", "i32", "u8"};
    return (unsigned)dtype < PB_DTYPE_COUNT ? name[dtype] : "invalid dtype";
}

static pb_tensor matrix_at(pb_tensor t, int64_t element, int64_t rows, int64_t cols) {
    pb_tensor out = {.dtype = t.dtype, .ndim = 2, .dim = {rows, cols, 0}, .stride = t.stride};
    out.data = (unsigned char *)t.data + (size_t)element * pb_dtype_size(t.dtype);
    return out;
}

pb_tensor pb_rows_of(pb_tensor t, int64_t from, int64_t n) {
    PB_ASSERT(pb_has(t) && t.ndim >= 1 && from >= 0 && n >= 0);
    if (t.ndim == 1) { /* a vector's rows are its elements */
        PB_ASSERT(from <= t.dim[0] - n);
        pb_tensor out = matrix_at(t, from, 1, n);
        out.ndim = 1;
        out.dim[0] = out.stride = n;
        out.dim[1] = 0;
        return out;
    }
    PB_ASSERT(from <= pb_rows(t) - n);
    return matrix_at(t, from * t.stride, n, pb_cols(t));
}

pb_tensor pb_cols_of(pb_tensor t, int64_t from, int64_t n) {
    PB_ASSERT(pb_has(t) && t.ndim >= 1 && from >= 0 && n >= 0 && from <= pb_cols(t) - n);
    if (t.ndim == 1) return pb_rows_of(t, from, n);
    return matrix_at(t, from, pb_rows(t), n);
}

pb_tensor pb_reshape(pb_tensor t, int64_t rows, int64_t cols) {
    PB_ASSERT(pb_has(t) && pb_contiguous(t) && rows >= 0 && cols >= 0);
    PB_ASSERT(rows * cols == pb_numel(t));
    pb_tensor out = matrix_at(t, 0, rows, cols);
    out.stride = cols;
    return out;
}

pb_tensor pb_narrowed(pb_tensor t, pb_dtype dtype) {
    size_t from = pb_dtype_size(t.dtype), to = pb_dtype_size(dtype);
    PB_ASSERT(pb_has(t) && t.ndim == 2 && from % to == 0);
    t.dtype = dtype;
    t.stride *= (int64_t)(from / to);
    return t;
}
