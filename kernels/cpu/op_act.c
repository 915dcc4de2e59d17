/* Activations, SwiGLU (Shazeer 2020) and dropout: one pass over memory, f32 arithmetic, pieces of
 * 8192 elements. Bytes: every operand once. Multiply-adds are fused where the CPU can: GELU is
 * bound by arithmetic, not memory. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif
#include "kernels/cpu/cpu_act.h"

/* --- arithmetic on blocks; in place is fine -------------------------------------------------- */

PB_CLONES static void gelu(float *y, const float *x, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        float density;
        y[i] = x[i] * pb_phi(x[i], &density);
    }
}

PB_CLONES static void gelu_grad(float *dx, const float *x, const float *dy, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        float density, phi = pb_phi(x[i], &density);
        dx[i] = dy[i] * (phi + x[i] * density);
    }
}

/* 0.5 x (1 + tanh(v)) = x sigmoid(2v), v = sqrt(2/pi) (x + 0.044715 x^3) */
PB_CLONES static void gelu_tanh(float *y, const float *x, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] * (1.5957691216f + 0.0713548162726f * (x[i] * x[i]));
        y[i] = x[i] * pb_sigmoid(v);
    }
}

/* Beyond |x| = 16 the gate is 0 or 1 and its slope 0: the clamp keeps x^2 finite. */
PB_CLONES static void gelu_tanh_grad(float *dx, const float *x, const float *dy, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        float c = x[i] > 16.0f ? 16.0f : x[i];
        c = c < -16.0f ? -16.0f : c;
        float s = pb_sigmoid(c * (1.5957691216f + 0.0713548162726f * (c * c)));
        float slope = 1.5957691216f + 0.2140644488178f * (c * c);
        dx[i] = dy[i] * (s + c * s * (1.0f - s) * slope);
    }
}

PB_CLONES static void relu(float *y, const float *x, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

PB_CLONES static void relu_grad(float *dx, const float *x, const float *dy, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) dx[i] = x[i] > 0.0f ? dy[i] : 0.0f;
}

PB_CLONES static void silu(float *y, const float *x, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * pb_sigmoid(x[i]);
}

PB_CLONES static void silu_grad(float *dx, const float *x, const float *dy, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        float s = pb_sigmoid(x[i]);
        dx[i] = dy[i] * (s * (1.0f + x[i] * (1.0f - s)));
    }
}

PB_CLONES static void swiglu(float *y, const float *gate, const float *up, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = gate[i] * pb_sigmoid(gate[i]) * up[i];
}

PB_CLONES static void swiglu_grad(float *dgate, float *dup, const float *gate, const float *up,
                                  const float *dy, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        float s = pb_sigmoid(gate[i]), g = dy[i];
        dup[i] = g * (gate[i] * s);
        dgate[i] = g * up[i] * (s * (1.0f + gate[i] * (1.0f - s)));
    }
}

PB_CLONES static void blend(float *y, const float *x, float beta, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) y[i] = x[i] + beta * y[i];
}

typedef void (*fwd_fn)(float *y, const float *x, int64_t n);
typedef void (*bwd_fn)(float *dx, const float *x, const float *dy, int64_t n);

static fwd_fn fwd_of(pb_act act) {
    switch (act) {
    case PB_ACT_GELU: return gelu;
    case PB_ACT_GELU_TANH: return gelu_tanh;
    case PB_ACT_RELU: return relu;
    case PB_ACT_SILU: return silu;
    case PB_ACT_COUNT: break;
    }
    return NULL;
}

static bwd_fn bwd_of(pb_act act) {
    switch (act) {
    case PB_ACT_GELU: return gelu_grad;
    case PB_ACT_GELU_TANH: return gelu_tanh_grad;
    case PB_ACT_RELU: return relu_grad;
    case PB_ACT_SILU: return silu_grad;
    case PB_ACT_COUNT: break;
    }
    return NULL;
}

/* --- ops ------------------------------------------------------------------------------------- */

static pb_status no_f64(const char *op) {
    return PB_ERROR(PB_E_UNSUPPORTED, "cpu: %s has no f64 kernel", op);
}

/* Arithmetic and memory work at the same time as long as a core has not asked for more lines than
 * it can wait for (16 here): blocks are 8 lines of each operand. */
static int64_t step_of(pb_dtype dtype) { return 512 / (int64_t)pb_dtype_size(dtype); }

static void act_fwd_piece(const pb_act_fwd_args *a, fwd_fn fn, pb_cpu_piece p, bool past) {
    float xb[PB_CPU_BLOCK], yb[PB_CPU_BLOCK];
    const int64_t step = step_of(a->x.dtype);
    for (int64_t j = 0; j < p.n; j += step) {
        int64_t n = pb_min64(step, p.n - j), at = p.row * a->y.stride + p.col + j;
        float *y = pb_cpu_out_past(a->y, at, yb, past);
        fn(y, pb_cpu_in(a->x, p.row * a->x.stride + p.col + j, n, xb), n);
        pb_cpu_done_past(a->y, at, n, y, past);
    }
}

void pb_cpu_act_fwd(const pb_cpu *cpu, const pb_act_fwd_args *a) {
    fwd_fn fn = fwd_of(a->act);
    pb_cpu_grid g = pb_cpu_grid_of(a->x, pb_contiguous(a->x) && pb_contiguous(a->y));
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->x));
    bool past = pb_cpu_past(cpu, a->y);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < g.n; i++) act_fwd_piece(a, fn, pb_cpu_piece_of(g, i), past);
        pb_cpu_past_end();
    }
}

static pb_status act_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_act_fwd_args *a = args;
    (void)ws;
    if (a->x.dtype == PB_F64) return no_f64("act_fwd");
    pb_cpu_act_fwd(pb_cpu_of(dev), a);
    return PB_OK;
}

static void act_bwd_piece(const pb_act_bwd_args *a, bwd_fn fn, pb_cpu_piece p, bool past) {
    float xb[PB_CPU_BLOCK], gb[PB_CPU_BLOCK], ob[PB_CPU_BLOCK];
    const int64_t step = step_of(a->x.dtype);
    for (int64_t j = 0; j < p.n; j += step) {
        int64_t n = pb_min64(step, p.n - j), col = p.col + j,
                at = p.row * a->dx.stride + col;
        const float *x = pb_cpu_in(a->x, p.row * a->x.stride + col, n, xb);
        const float *dy = pb_cpu_in(a->dy, p.row * a->dy.stride + col, n, gb);
        float *dx = pb_cpu_out_past(a->dx, at, ob, past);
        fn(dx, x, dy, n);
        pb_cpu_done_past(a->dx, at, n, dx, past);
    }
}

void pb_cpu_act_bwd(const pb_cpu *cpu, const pb_act_bwd_args *a) {
    bwd_fn fn = bwd_of(a->act);
    pb_cpu_grid g =
        pb_cpu_grid_of(a->x, pb_contiguous(a->x) && pb_contiguous(a->dy) && pb_contiguous(a->dx));
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->x));
    bool past = pb_cpu_past(cpu, a->dx);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < g.n; i++) act_bwd_piece(a, fn, pb_cpu_piece_of(g, i), past);
        pb_cpu_past_end();
    }
}

static pb_status act_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_act_bwd_args *a = args;
    (void)ws;
    if (a->x.dtype == PB_F64) return no_f64("act_bwd");
    pb_cpu_act_bwd(pb_cpu_of(dev), a);
    return PB_OK;
}

static void swiglu_fwd_piece(const pb_swiglu_fwd_args *a, pb_cpu_piece p, bool past) {
    float gb[PB_CPU_BLOCK], ub[PB_CPU_BLOCK], yb[PB_CPU_BLOCK];
    const int64_t step = step_of(a->up.dtype);
    for (int64_t j = 0; j < p.n; j += step) {
        int64_t n = pb_min64(step, p.n - j), col = p.col + j,
                at = p.row * a->y.stride + col;
        const float *gate = pb_cpu_in(a->gate, p.row * a->gate.stride + col, n, gb);
        const float *up = pb_cpu_in(a->up, p.row * a->up.stride + col, n, ub);
        float *y = pb_cpu_out_past(a->y, at, yb, past);
        swiglu(y, gate, up, n);
        pb_cpu_done_past(a->y, at, n, y, past);
    }
}

static pb_status swiglu_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_swiglu_fwd_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->y.dtype == PB_F64) return no_f64("swiglu_fwd");
    pb_cpu_grid g =
        pb_cpu_grid_of(a->y, pb_contiguous(a->gate) && pb_contiguous(a->up) && pb_contiguous(a->y));
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->y));
    bool past = pb_cpu_past(cpu, a->y);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < g.n; i++) swiglu_fwd_piece(a, pb_cpu_piece_of(g, i), past);
        pb_cpu_past_end();
    }
    return PB_OK;
}

static void swiglu_bwd_piece(const pb_swiglu_bwd_args *a, pb_cpu_piece p, bool past) {
    float gb[PB_CPU_BLOCK], ub[PB_CPU_BLOCK], db[PB_CPU_BLOCK], og[PB_CPU_BLOCK], ou[PB_CPU_BLOCK];
    const int64_t step = step_of(a->up.dtype);
    for (int64_t j = 0; j < p.n; j += step) {
        int64_t n = pb_min64(step, p.n - j), col = p.col + j;
        int64_t gate_at = p.row * a->dgate.stride + col, up_at = p.row * a->dup.stride + col;
        const float *gate = pb_cpu_in(a->gate, p.row * a->gate.stride + col, n, gb);
        const float *up = pb_cpu_in(a->up, p.row * a->up.stride + col, n, ub);
        const float *dy = pb_cpu_in(a->dy, p.row * a->dy.stride + col, n, db);
        float *dgate = pb_cpu_out_past(a->dgate, gate_at, og, past);
        float *dup = pb_cpu_out_past(a->dup, up_at, ou, past);
        swiglu_grad(dgate, dup, gate, up, dy, n);
        pb_cpu_done_past(a->dgate, gate_at, n, dgate, past);
        pb_cpu_done_past(a->dup, up_at, n, dup, past);
    }
}

static pb_status swiglu_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_swiglu_bwd_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->dy.dtype == PB_F64) return no_f64("swiglu_bwd");
    bool flat = pb_contiguous(a->gate) && pb_contiguous(a->up) && pb_contiguous(a->dy) &&
                pb_contiguous(a->dgate) && pb_contiguous(a->dup);
    pb_cpu_grid g = pb_cpu_grid_of(a->dy, flat);
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->dy));
    bool past = pb_cpu_past(cpu, a->dgate);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < g.n; i++) swiglu_bwd_piece(a, pb_cpu_piece_of(g, i), past);
        pb_cpu_past_end();
    }
    return PB_OK;
}

static void dropout_piece(const pb_dropout_args *a, pb_cpu_piece p, int64_t cols, bool past) {
    float xb[PB_CPU_BLOCK], yb[PB_CPU_BLOCK], t[PB_CPU_BLOCK], beta = (float)a->beta;
    /* Whole sets of random numbers: cpu_random.c. */
    const int64_t step = a->x.dtype == PB_F32 ? 128 : PB_CPU_BLOCK;
    for (int64_t j = 0; j < p.n; j += step) {
        int64_t n = pb_min64(step, p.n - j), col = p.col + j,
                at = p.row * a->y.stride + col;
        const float *x = pb_cpu_in(a->x, p.row * a->x.stride + col, n, xb);
        float *y = pb_cpu_out_past(a->y, at, yb, past);
        uint64_t first = (uint64_t)(p.row * cols + col);
        if (beta != 0.0f) {
            pb_cpu_drop_apply(a->drop, first, n, x, t);
            if (a->y.dtype != PB_F32) (void)pb_cpu_in(a->y, at, n, yb);
            blend(y, t, beta, n);
        } else {
            pb_cpu_drop_apply(a->drop, first, n, x, y);
        }
        pb_cpu_done_past(a->y, at, n, y, past);
    }
}

static pb_status dropout_run(pb_device *dev, const void *args, void *ws) {
    const pb_dropout_args *a = args;
    pb_cpu *cpu = pb_cpu_of(dev);
    (void)ws;
    if (a->x.dtype == PB_F64) return no_f64("dropout");
    pb_cpu_grid g = pb_cpu_grid_of(a->x, pb_contiguous(a->x) && pb_contiguous(a->y));
    int threads = pb_cpu_threads_for(cpu, pb_numel(a->x));
    bool past = a->beta == 0.0 && pb_cpu_past(cpu, a->y);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < g.n; i++) dropout_piece(a, pb_cpu_piece_of(g, i), g.cols, past);
        pb_cpu_past_end();
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_act_fwd, "vector", NULL, act_fwd_run},
    {PB_OP_act_bwd, "vector", NULL, act_bwd_run},
    {PB_OP_swiglu_fwd, "vector", NULL, swiglu_fwd_run},
    {PB_OP_swiglu_bwd, "vector", NULL, swiglu_bwd_run},
    {PB_OP_dropout, "vector", NULL, dropout_run},
};
const pb_kernel_set pb_kernels_cpu_act = {kernels, sizeof kernels / sizeof *kernels};
