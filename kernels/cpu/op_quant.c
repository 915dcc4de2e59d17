/* 4-bit block-wise quantisation (Dettmers et al. 2023) and squared row norms of stored weights. */
#include <stdlib.h>

#include "kernels/core/quant.h"
#include "kernels/cpu/cpu_quant.h"

static int64_t block_count(const pb_quant4 *q) { return pb_ceil_div(q->out * q->in, q->block); }

/* absmax for double quantisation, then a block a thread for rows that are not contiguous. */
static size_t quantize4_workspace(const pb_device *dev, const void *args) {
    const pb_quantize4_args *a = args;
    size_t bytes = 0;
    if (a->q.double_quant) bytes += pb_align64((size_t)block_count(&a->q) * sizeof(float));
    if (!pb_contiguous(a->src))
        bytes += (size_t)pb_device_threads(dev) *
                 pb_align64((size_t)a->q.block * pb_dtype_size(a->src.dtype));
    return bytes;
}

/* to := n elements of src from element i of the flattened matrix on, across rows. */
static void gather(pb_tensor src, int64_t i, int64_t n, void *to) {
    int64_t cols = pb_cols(src), size = (int64_t)pb_dtype_size(src.dtype);
    for (int64_t m; n > 0; i += m, n -= m) {
        m = pb_min64(n, cols - i % cols);
        memcpy(to, pb_cpu_at(src, i / cols * src.stride + i % cols), (size_t)(m * size));
        to = (char *)to + m * size;
    }
}

/* absmax itself in 8 bits: the mean is taken off, then blocks of 256 in the signed dynamic map. */
static void quantize_constants(pb_cpu *cpu, const pb_quant4 *q, const float *absmax) {
    int64_t blocks = block_count(q), groups = pb_ceil_div(blocks, PB_QUANT8_BLOCK);
    float mean = (float)(pb_cpu_sum_double(absmax, blocks) / (double)pb_max64(1, blocks));
    *(float *)q->offset.data = mean;
    float *scale = q->absmax2.data;
    uint8_t *codes = q->absmax_q.data;
    pb_cpu_code8 code;
    pb_cpu_code8_of(pb_dynamic_map_signed(), &code);
    int threads = groups < 8 ? 1 : cpu->threads;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t g = 0; g < groups; g++) {
        int64_t from = g * PB_QUANT8_BLOCK, n = pb_min64(PB_QUANT8_BLOCK, blocks - from);
        float v[PB_QUANT8_BLOCK];
        for (int64_t i = 0; i < n; i++) v[i] = absmax[from + i] - mean;
        scale[g] = pb_cpu_absmax(v, n);
        pb_cpu_encode8(&code, v, pb_quant_inverse(scale[g]), codes + from, n);
    }
}

static pb_status quantize4_run(pb_device *dev, const void *args, void *ws) {
    const pb_quantize4_args *a = args;
    const pb_quant4 *q = &a->q;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->src.dtype == PB_F64)
        return PB_ERROR(PB_E_UNSUPPORTED, "cpu: quantize4 has no f64 kernel");
    char *take = ws;
    int64_t blocks = block_count(q), n = q->out * q->in;
    size_t block_bytes = pb_align64((size_t)q->block * pb_dtype_size(a->src.dtype));
    float *absmax = q->double_quant ? pb_cpu_take(&take, (size_t)blocks * sizeof(float))
                                    : q->absmax.data;
    bool flat = pb_contiguous(a->src);
    int64_t step = flat ? pb_max64(1, PB_CPU_TILE / q->block) : 1; /* blocks of a piece */
    int threads = pb_cpu_threads_for(cpu, n);
    pb_cpu_code4 code;
    pb_cpu_code4_of(q->code, &code);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t b = 0; b < blocks; b += step) {
        int64_t from = b * q->block, m = pb_min64(step * q->block, n - from);
        char *buf = flat ? NULL : take + (size_t)pb_cpu_thread() * block_bytes;
        if (!flat) gather(a->src, from, m, buf);
        pb_cpu_encode4(&code, a->src.dtype, flat ? pb_cpu_at(a->src, from) : buf, m, q->block,
                       (uint8_t *)q->codes.data + from / 2, absmax + b);
    }
    if (q->double_quant) quantize_constants(cpu, q, absmax);
    return PB_OK;
}

static void dequantize_row(const pb_dequantize4_args *a, int64_t j, bool past) {
    float buf[PB_CPU_BLOCK];
    int64_t in = a->q.in, size = (int64_t)pb_dtype_size(a->dst.dtype);
    char *row = pb_cpu_at(a->dst, j * a->dst.stride);
    pb_cpu_fetch((uintptr_t)a->q.codes.data + (uintptr_t)(j * in / 2) + PB_CPU_AHEAD,
                 (size_t)in / 2);
    for (int64_t i = 0; i < in; i += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, in - i);
        void *to = past ? (void *)buf : row + i * size;
        pb_cpu_dequant4(&a->q, j * in + i, n, a->dst.dtype, to);
        if (past) pb_cpu_store_past(row + i * size, buf, (size_t)(n * size));
    }
}

static pb_status dequantize4_run(pb_device *dev, const void *args, void *ws) {
    const pb_dequantize4_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->dst.dtype == PB_F64)
        return PB_ERROR(PB_E_UNSUPPORTED, "cpu: dequantize4 has no f64 kernel");
    bool past = pb_cpu_past(cpu, a->dst);
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->dst));
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t j = 0; j < a->q.out; j++) dequantize_row(a, j, past);
        if (past) pb_cpu_past_end();
    }
    return PB_OK;
}

/* --- y[j] = sum of squares of row j ---------------------------------------------------------- */

static size_t weight_norm2_workspace(const pb_device *dev, const void *args) {
    const pb_weight_norm2_args *a = args;
    size_t row = pb_align64((size_t)pb_weight_in(a->w) * sizeof(float));
    return (size_t)pb_device_threads(dev) * row;
}

static pb_status weight_norm2_run(pb_device *dev, const void *args, void *ws) {
    const pb_weight_norm2_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->y.dtype == PB_F64)
        return PB_ERROR(PB_E_UNSUPPORTED, "cpu: weight_norm2 has no f64 kernel");
    int64_t out = pb_weight_out(a->w), in = pb_weight_in(a->w);
    int threads = pb_cpu_threads_for(cpu, out * in);
    int64_t row_floats = (int64_t)(pb_align64((size_t)in * sizeof(float)) / sizeof(float));
    float *y = a->y.data;
#pragma omp parallel num_threads(threads)
    {
        float *buf = (float *)ws + pb_cpu_thread() * row_floats;
#pragma omp for schedule(static)
        for (int64_t j = 0; j < out; j++) {
            const float *row = pb_cpu_weight_row(a->w, j, buf);
            y[j] = pb_cpu_dot(row, row, in);
        }
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_quantize4, "vector", quantize4_workspace, quantize4_run},
    {PB_OP_dequantize4, "vector", NULL, dequantize4_run},
    {PB_OP_weight_norm2, "vector", weight_norm2_workspace, weight_norm2_run},
};
const pb_kernel_set pb_kernels_cpu_quant = {kernels, sizeof kernels / sizeof *kernels};
