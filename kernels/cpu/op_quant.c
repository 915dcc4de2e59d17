/* 4-bit block-wise quantisation (Dettmers et al. 2023) and squared row norms of stored weights. */
#include <stdlib.h>

#include "kernels/core/quant.h"
#include "kernels/cpu/cpu_quant.h"

static int64_t block_count(const pb_quant4 *q) { return pb_ceil_div(q->out * q->in, q->block); }

static size_t quantize4_workspace(const pb_device *dev, const void *args) {
    const pb_quantize4_args *a = args;
    (void)dev;
    return a->q.double_quant ? pb_align64((size_t)block_count(&a->q) * sizeof(float)) : 0;
}

/* rank[i] = how many thresholds x exceeds; |x| for FP4. Auto-vectorised: one compare and subtract
 * per threshold. */
PB_CLONES static void ranks(const float *x, float inverse, const float *threshold, int n_thresholds,
                            bool magnitude, int64_t n, int32_t *rank) {
    for (int64_t i = 0; i < n; i++) rank[i] = 0;
    for (int k = 0; k < n_thresholds; k++) {
        float t = threshold[k];
        for (int64_t i = 0; i < n; i++) {
            float v = x[i] * inverse;
            v = magnitude && v < 0.0f ? -v : v;
            rank[i] += v > t ? 1 : 0;
        }
    }
}

PB_CLONES static void pack(const int32_t *rank, int64_t n_bytes, uint8_t *out) {
    for (int64_t i = 0; i < n_bytes; i++) out[i] = (uint8_t)(rank[2 * i] << 4 | rank[2 * i + 1]);
}

PB_CLONES static void magnitudes(float *y, const float *x, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = x[i] < 0.0f ? -x[i] : x[i];
}

/* x: up to PB_CPU_BLOCK elements of a block from an even position; codes in element order. */
static void encode(pb_code code, const float *x, float inverse, int64_t n, uint8_t *out) {
    int32_t rank[PB_CPU_BLOCK + 1];
    int n_thresholds = 0;
    const float *t = pb_code_thresholds(code, &n_thresholds);
    ranks(x, inverse, t, n_thresholds, code == PB_CODE_FP4, n, rank);
    if (code == PB_CODE_FP4) {
        static const uint8_t by_size[8] = {0, 1, 6, 7, 4, 5, 2, 3};
        for (int64_t i = 0; i < n; i++)
            rank[i] = by_size[rank[i]] | (x[i] * inverse < 0.0f ? 8 : 0);
    }
    rank[n] = 0; /* the partner of an odd last element */
    pack(rank, (n + 1) / 2, out);
}

/* Element offset in memory of element i of the flattened matrix, and how many follow in its row. */
static int64_t place(pb_tensor t, int64_t i, int64_t *left) {
    int64_t cols = pb_cols(t), col = i % cols;
    *left = cols - col;
    return i / cols * t.stride + col;
}

/* n elements of src from element i on, across rows. */
static void gather(pb_tensor src, int64_t i, int64_t n, float *buf) {
    while (n > 0) {
        float tmp[PB_CPU_BLOCK];
        int64_t left, at = place(src, i, &left);
        int64_t m = pb_min64(pb_min64(n, left), PB_CPU_BLOCK);
        memcpy(buf, pb_cpu_in(src, at, m, tmp), (size_t)m * sizeof *buf);
        buf += m;
        i += m;
        n -= m;
    }
}

static float quantize_block(const pb_quant4 *q, pb_tensor src, int64_t block) {
    int64_t first = block * q->block, n = pb_min64(q->block, q->out * q->in - first);
    uint8_t *codes = (uint8_t *)q->codes.data + first / 2;
    float x[PB_CPU_BLOCK], size[PB_CPU_BLOCK], absmax = 0.0f;
    for (int64_t i = 0; i < n; i += PB_CPU_BLOCK) {
        int64_t m = pb_min64(PB_CPU_BLOCK, n - i);
        gather(src, first + i, m, x);
        magnitudes(size, x, m);
        float most = pb_cpu_max(size, m);
        absmax = most > absmax ? most : absmax;
    }
    float inverse = pb_quant_inverse(absmax);
    for (int64_t i = 0; i < n; i += PB_CPU_BLOCK) {
        int64_t m = pb_min64(PB_CPU_BLOCK, n - i);
        if (n > PB_CPU_BLOCK) gather(src, first + i, m, x);
        encode(q->code, x, inverse, m, codes + i / 2);
    }
    return absmax;
}

/* absmax itself in 8 bits: the mean is taken off, then blocks of 256 in the signed dynamic map. */
static void quantize_constants(pb_cpu *cpu, const pb_quant4 *q, const float *absmax) {
    int64_t blocks = block_count(q), groups = pb_ceil_div(blocks, PB_QUANT8_BLOCK);
    double sum = 0.0;
    for (int64_t i = 0; i < blocks; i++) sum += (double)absmax[i];
    float mean = (float)(sum / (double)pb_max64(1, blocks));
    *(float *)q->offset.data = mean;
    const float *map = pb_dynamic_map_signed();
    float *scale = q->absmax2.data;
    uint8_t *codes = q->absmax_q.data;
    int threads = groups < 8 ? 1 : cpu->threads;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t g = 0; g < groups; g++) {
        int64_t from = g * PB_QUANT8_BLOCK, to = pb_min64(blocks, from + PB_QUANT8_BLOCK);
        float most = 0.0f;
        for (int64_t i = from; i < to; i++) {
            float v = absmax[i] - mean;
            v = v < 0.0f ? -v : v;
            most = v > most ? v : most;
        }
        scale[g] = most;
        float inverse = pb_quant_inverse(most);
        for (int64_t i = from; i < to; i++)
            codes[i] = (uint8_t)pb_dynamic_encode(map, (absmax[i] - mean) * inverse);
    }
}

static pb_status quantize4_run(pb_device *dev, const void *args, void *ws) {
    const pb_quantize4_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    if (a->src.dtype == PB_F64)
        return PB_ERROR(PB_E_UNSUPPORTED, "cpu: quantize4 has no f64 kernel");
    float *absmax = a->q.double_quant ? ws : a->q.absmax.data;
    int64_t blocks = block_count(&a->q);
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->src));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t b = 0; b < blocks; b++) absmax[b] = quantize_block(&a->q, a->src, b);
    if (a->q.double_quant) quantize_constants(cpu, &a->q, absmax);
    return PB_OK;
}

static pb_status dequantize4_run(pb_device *dev, const void *args, void *ws) {
    const pb_dequantize4_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->dst.dtype == PB_F64)
        return PB_ERROR(PB_E_UNSUPPORTED, "cpu: dequantize4 has no f64 kernel");
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->dst));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t j = 0; j < a->q.out; j++) {
        pb_cpu_dequant4(&a->q, j * a->q.in, a->q.in, a->dst.dtype,
                        pb_cpu_at(a->dst, j * a->dst.stride));
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
