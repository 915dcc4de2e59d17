/* Softmax cross-entropy. Three passes over a row that stays in cache: maximum, sum of exponentials,
 * gradient. */
#include <math.h>

#include "kernels/cpu/cpu.h"

/* e[i] = exp(x[i] - most) */
PB_CLONES static void exponentials(float *e, const float *x, float most, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) e[i] = pb_exp(x[i] - most);
}

PB_CLONES static void scaled(float *y, const float *e, float factor, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = factor * e[i];
}

static float row_max(pb_tensor t, int64_t row, int64_t cols, int64_t *index) {
    float xb[PB_CPU_BLOCK], most = -INFINITY;
    int64_t block = 0;
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j);
        float m = pb_cpu_max(pb_cpu_in(t, row * t.stride + j, n, xb), n);
        if (m > most) {
            most = m;
            block = j;
        }
    }
    *index = block;
    int64_t n = pb_min64(PB_CPU_BLOCK, cols - block);
    const float *x = pb_cpu_in(t, row * t.stride + block, n, xb);
    for (int64_t i = 0; i < n; i++) {
        if (x[i] >= most) {
            *index = block + i;
            break;
        }
    }
    return most;
}

static double row_sum(pb_tensor t, int64_t row, int64_t cols, float most) {
    float xb[PB_CPU_BLOCK], e[PB_CPU_BLOCK];
    double sum = 0.0;
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j);
        exponentials(e, pb_cpu_in(t, row * t.stride + j, n, xb), most, n);
        sum += (double)pb_cpu_sum(e, n);
    }
    return sum;
}

static void row_gradient(const pb_cross_entropy_args *a, int64_t row, int64_t cols, int64_t target,
                         float most, double sum) {
    float xb[PB_CPU_BLOCK], e[PB_CPU_BLOCK];
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j), at = row * a->dlogits.stride + j;
        if (target < 0) {
            memset(e, 0, sizeof e);
        } else {
            exponentials(e, pb_cpu_in(a->logits, row * a->logits.stride + j, n, xb), most, n);
            scaled(e, e, (float)(1.0 / sum), n);
            if (target >= j && target < j + n) e[target - j] -= 1.0f;
            scaled(e, e, (float)a->scale, n);
        }
        if (a->dlogits.dtype == PB_F32) {
            memcpy((float *)a->dlogits.data + at, e, (size_t)n * sizeof *e);
        } else {
            pb_cpu_done(a->dlogits, at, n, e);
        }
    }
}

static pb_status cross_entropy_run(pb_device *dev, const void *args, void *ws) {
    const pb_cross_entropy_args *a = args;
    (void)ws;
    if (a->logits.dtype == PB_F64)
        return PB_ERROR(PB_E_UNSUPPORTED, "cpu: cross_entropy has no f64 kernel");
    int64_t rows = pb_rows(a->logits), cols = pb_cols(a->logits);
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), rows * cols);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        int64_t index = 0, target = ((const int32_t *)a->target.data)[r];
        float most = row_max(a->logits, r, cols, &index);
        double sum = row_sum(a->logits, r, cols, most);
        double loss = 0.0;
        if (target >= 0)
            loss = log(sum) + (double)most -
                   (double)pb_cpu_get1(a->logits, r * a->logits.stride + target);
        ((float *)a->loss.data)[r] = (float)loss;
        ((int32_t *)a->pred.data)[r] = (int32_t)index;
        if (pb_has(a->dlogits)) row_gradient(a, r, cols, target, most, sum);
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {{PB_OP_cross_entropy, "vector", NULL, cross_entropy_run}};
const pb_kernel_set pb_kernels_cpu_loss = {kernels, sizeof kernels / sizeof *kernels};
