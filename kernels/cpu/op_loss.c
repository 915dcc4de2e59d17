/* Softmax cross-entropy in one pass over the logits and one over their gradient. The first takes
 * every exponential once, against the largest number so far (Milakov and Gimelshein 2018), and
 * keeps it in f32 in the thread's workspace, where a vocabulary of 128,000 fits the L2 cache; the
 * second scales. Bytes: logits and dlogits once. Operations: largest, difference, exponential 13,
 * sum, scale; in bf16 5 to 9 more for conversions. Multiply-adds are fused where the CPU can. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif
#include <float.h>
#include <math.h>

#include "kernels/cpu/cpu.h"

/* e[i] = exp(x[i] - base), base >= x[i] */
PB_CLONES static void exponentials(float *e, const float *x, float base, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) e[i] = pb_exp_below88(x[i] - base);
}

typedef struct softmax {
    float most;    /* the row's largest logit */
    int64_t block; /* column of the block where it comes first */
    float base;    /* the same, but finite when all are -inf */
    double sum;    /* of exp(x - base) */
    float *e;      /* exp(x - its block's base) of the row, where the gradient needs it, or NULL */
    float *bases;  /* of the blocks */
} softmax;

/* The row of an ignored target has a prediction only. */
static void row_softmax(softmax *s, pb_tensor t, int64_t row, bool ignored) {
    float xb[PB_CPU_BLOCK], eb[PB_CPU_BLOCK];
    int64_t cols = pb_cols(t);
    s->most = -INFINITY;
    s->base = -FLT_MAX;
    s->block = 0;
    s->sum = 0.0;
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j);
        const float *x = pb_cpu_in(t, row * t.stride + j, n, xb);
        float m = pb_cpu_max(x, n);
        if (m > s->most) {
            float base = m > -FLT_MAX ? m : -FLT_MAX;
            s->sum *= exp((double)s->base - (double)base);
            s->most = m;
            s->base = base;
            s->block = j;
        }
        if (ignored) continue;
        float *e = s->e != NULL ? s->e + j : eb;
        exponentials(e, x, s->base, n);
        s->sum += (double)pb_cpu_sum(e, n);
        if (s->e != NULL) s->bases[j / PB_CPU_BLOCK] = s->base;
    }
}

static int64_t prediction(const softmax *s, pb_tensor t, int64_t row) {
    float xb[PB_CPU_BLOCK];
    int64_t n = pb_min64(PB_CPU_BLOCK, pb_cols(t) - s->block);
    const float *x = pb_cpu_in(t, row * t.stride + s->block, n, xb);
    for (int64_t i = 0; i < n; i++) {
        if (x[i] >= s->most) return s->block + i;
    }
    return s->block;
}

static void row_gradient(const softmax *s, const pb_cross_entropy_args *a, int64_t row,
                         int64_t target) {
    pb_tensor t = a->dlogits;
    float yb[PB_CPU_BLOCK];
    double share = 0.0; /* probability of a block's exponential of 1 */
    for (int64_t j = 0, b = 0; j < pb_cols(t); j += PB_CPU_BLOCK, b++) {
        int64_t n = pb_min64(PB_CPU_BLOCK, pb_cols(t) - j), at = row * t.stride + j;
        float *y = pb_cpu_out(t, at, yb);
        if (j == 0 || s->bases[b] != s->bases[b - 1])
            share = exp((double)s->bases[b] - (double)s->base) / s->sum;
        pb_cpu_scale(y, s->e + j, (float)(a->scale * share), n);
        if (target >= j && target < j + n)
            y[target - j] = (float)(a->scale * ((double)s->e[target] * share - 1.0));
        pb_cpu_done(t, at, n, y);
    }
}

/* A thread's exponentials and bases of one row. */
static size_t row_bytes(const pb_cross_entropy_args *a, char *ws, softmax *s) {
    char *at = ws;
    if (!pb_has(a->dlogits)) return 0;
    size_t cols = (size_t)pb_cols(a->logits);
    s->e = pb_cpu_take(&at, cols * sizeof *s->e);
    s->bases = pb_cpu_take(&at, (cols / PB_CPU_BLOCK + 1) * sizeof *s->bases);
    return (size_t)(at - ws);
}

static size_t cross_entropy_workspace(const pb_device *dev, const void *args) {
    softmax s;
    return (size_t)pb_device_threads(dev) * row_bytes(args, NULL, &s);
}

static pb_status cross_entropy_run(pb_device *dev, const void *args, void *ws) {
    const pb_cross_entropy_args *a = args;
    if (a->logits.dtype == PB_F64)
        return PB_ERROR(PB_E_UNSUPPORTED, "cpu: cross_entropy has no f64 kernel");
    int64_t rows = pb_rows(a->logits), cols = pb_cols(a->logits);
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), rows * cols);
    softmax none = {0};
    size_t bytes = row_bytes(a, NULL, &none);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        softmax s = {0};
        (void)row_bytes(a, (char *)ws + (size_t)pb_cpu_thread() * bytes, &s);
        int64_t target = ((const int32_t *)a->target.data)[r];
        row_softmax(&s, a->logits, r, target < 0);
        double loss = 0.0;
        if (target >= 0)
            loss = log(s.sum) + (double)s.base -
                   (double)pb_cpu_get1(a->logits, r * a->logits.stride + target);
        ((float *)a->loss.data)[r] = (float)loss;
        ((int32_t *)a->pred.data)[r] = (int32_t)prediction(&s, a->logits, r);
        if (!pb_has(a->dlogits)) continue;
        if (target >= 0) {
            row_gradient(&s, a, r, target);
        } else { /* zeros of any type */
            memset(pb_cpu_at(a->dlogits, r * a->dlogits.stride), 0,
                   (size_t)cols * pb_dtype_size(a->dlogits.dtype));
        }
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_cross_entropy, "vector", cross_entropy_workspace, cross_entropy_run},
};
const pb_kernel_set pb_kernels_cpu_loss = {kernels, sizeof kernels / sizeof *kernels};
