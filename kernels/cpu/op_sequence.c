/* Embeddings, rotary positions, pooling and row moves: copies and short sums, bound by memory. */
#include "kernels/cpu/cpu.h"

static pb_status no_f64(const char *op) {
    return PB_ERROR(PB_E_UNSUPPORTED, "cpu: %s has no f64 kernel", op);
}

static int32_t int_at(pb_tensor t, int64_t i) { return ((const int32_t *)t.data)[i]; }

static size_t row_bytes(pb_tensor t) { return (size_t)pb_cols(t) * pb_dtype_size(t.dtype); }

static void put_row(void *dst, const void *src, size_t bytes, bool past) {
    if (past) {
        pb_cpu_store_past(dst, src, bytes);
    } else {
        memcpy(dst, src, bytes);
    }
}

static void zero_row(pb_tensor t, int64_t row, bool past) {
    static const char zeros[1024] = {0};
    char *at = pb_cpu_at(t, row * t.stride);
    size_t bytes = row_bytes(t);
    if (!past) memset(at, 0, bytes);
    for (size_t i = 0; past && i < bytes; i += sizeof zeros)
        pb_cpu_store_past(at + i, zeros, bytes - i < sizeof zeros ? bytes - i : sizeof zeros);
}

/* Rows by index come from anywhere: the one that is used in ROWS_AHEAD turns is asked for now. */
#define ROWS_AHEAD 4

/* Of columns [col, col+n). */
static void fetch_row(pb_tensor t, pb_tensor idx, int64_t i, int64_t col, int64_t n) {
    if (i + ROWS_AHEAD >= pb_numel(idx)) return;
    const void *at = pb_cpu_at(t, int_at(idx, i + ROWS_AHEAD) * t.stride + col);
    pb_cpu_fetch((uintptr_t)at, (size_t)n * pb_dtype_size(t.dtype));
}

/* --- embedding ------------------------------------------------------------------------------- */

static void embed_row(const pb_embed_fwd_args *a, int64_t row, bool past) {
    float wb[PB_CPU_BLOCK], pb[PB_CPU_BLOCK], sum[PB_CPU_BLOCK];
    int64_t cols = pb_cols(a->y), type = pb_has(a->types) ? int_at(a->types, row) : 0;
    fetch_row(a->word, a->ids, row, 0, cols);
    if (!pb_has(a->pos) && !pb_has(a->type)) {
        put_row(pb_cpu_at(a->y, row * a->y.stride),
                pb_cpu_at(a->word, int_at(a->ids, row) * a->word.stride), row_bytes(a->y), past);
        return;
    }
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j), at = row * a->y.stride + j;
        float *y = pb_cpu_out_past(a->y, at, sum, past);
        const float *x = pb_cpu_f32(a->word, int_at(a->ids, row) * a->word.stride + j, n, wb);
        if (pb_has(a->pos)) {
            pb_cpu_plus(y, x, pb_cpu_f32(a->pos, int_at(a->positions, row) * a->pos.stride + j, n, pb),
                    n);
            x = y;
        }
        if (pb_has(a->type)) {
            pb_cpu_plus(y, x, pb_cpu_f32(a->type, type * a->type.stride + j, n, pb), n);
            x = y;
        }
        pb_cpu_done_past(a->y, at, n, y, past);
    }
}

static pb_status embed_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_embed_fwd_args *a = args;
    (void)ws;
    if (a->y.dtype == PB_F64) return no_f64("embed_fwd");
    int64_t rows = pb_rows(a->y);
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), pb_numel(a->y));
    bool past = pb_cpu_past(pb_cpu_of(dev), a->y);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < rows; i++) embed_row(a, i, past);
        pb_cpu_past_end();
    }
    return PB_OK;
}

/* A task owns a range of columns of all three tables and adds every token's segment in token order.
 * Columns are independent: their split may follow the threads. */
#define EMBED_COLS PB_CPU_BLOCK

static void embed_bwd_cols(const pb_embed_bwd_args *a, int64_t col, int64_t n) {
    float gb[EMBED_COLS];
    for (int64_t row = 0; row < pb_rows(a->dy); row++) {
        const float *g = pb_cpu_in(a->dy, row * a->dy.stride + col, n, gb);
        if (pb_has(a->dword)) fetch_row(a->dword, a->ids, row, col, n);
        int64_t type = pb_has(a->types) ? int_at(a->types, row) : 0;
        if (pb_has(a->dword)) {
            pb_cpu_add((float *)a->dword.data + int_at(a->ids, row) * a->dword.stride + col, g, n);
        }
        if (pb_has(a->dpos)) {
            pb_cpu_add((float *)a->dpos.data + int_at(a->positions, row) * a->dpos.stride + col, g,
                       n);
        }
        if (pb_has(a->dtype))
            pb_cpu_add((float *)a->dtype.data + type * a->dtype.stride + col, g, n);
    }
}

static pb_status embed_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_embed_bwd_args *a = args;
    (void)ws;
    if (a->dy.dtype == PB_F64) return no_f64("embed_bwd");
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), pb_numel(a->dy));
    int64_t cols = pb_cols(a->dy);
    int64_t width = pb_min64(EMBED_COLS, pb_ceil_div(pb_ceil_div(cols, threads), 32) * 32);
    int64_t pieces = cols > 0 ? pb_ceil_div(cols, width) : 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < pieces; i++)
        embed_bwd_cols(a, i * width, pb_min64(width, cols - i * width));
    return PB_OK;
}

/* --- rotary positions (Su et al. 2021) ------------------------------------------------------- */

/* Per thread: cos and sin of one position, one row in f32. */
static int64_t rope_angles(const pb_rope_args *a) {
    return pb_ceil_div(pb_numel(a->inv_freq), 16) * 16;
}
static int64_t rope_floats(const pb_rope_args *a) {
    return 2 * rope_angles(a) + pb_ceil_div(2 * a->heads * pb_numel(a->inv_freq), 16) * 16;
}

static size_t rope_workspace(const pb_device *dev, const void *args) {
    return (size_t)(pb_device_threads(dev) * rope_floats(args)) * sizeof(float);
}

/* cos and sin of position * freq. The angle is reduced in double: angle = n pi/2 + r, |r| <= pi/4,
 * n by adding 1.5*2^52; then Taylor polynomials in f32 (remainders below 1e-8) and the quadrant by
 * sign changes. Valid below 1e9. */
PB_CLONES static void angles(float *c, float *s, const float *freq, double position, float sign,
                             int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        double angle = position * (double)freq[i];
        union {
            double d;
            uint64_t u;
        } k;
        k.d = angle * 0.63661977236758134308 + 6755399441055744.0;
        double turns = k.d - 6755399441055744.0;
        float r =
            (float)((angle - turns * 1.57079632679489655800) - turns * 6.12323399573676603587e-17);
        float r2 = r * r;
        float sine =
            r + r * r2 *
                    (-1.0f / 6.0f +
                     r2 * (1.0f / 120.0f + r2 * (-1.0f / 5040.0f + r2 * (1.0f / 362880.0f))));
        float cosine =
            1.0f +
            r2 * (-0.5f + r2 * (1.0f / 24.0f + r2 * (-1.0f / 720.0f + r2 * (1.0f / 40320.0f))));
        uint32_t quadrant = (uint32_t)k.u & 3u;
        float a = (quadrant & 1u) ? sine : cosine, b = (quadrant & 1u) ? cosine : sine;
        c[i] = (quadrant == 1u || quadrant == 2u) ? -a : a;
        s[i] = sign * (quadrant >= 2u ? -b : b);
    }
}

PB_CLONES static void rotate(float *x, float *y, const float *c, const float *s, int64_t n) {
    PB_IVDEP
    for (int64_t i = 0; i < n; i++) {
        float a = x[i], b = y[i];
        x[i] = a * c[i] - b * s[i];
        y[i] = b * c[i] + a * s[i];
    }
}

static pb_status rope_run(pb_device *dev, const void *args, void *ws) {
    const pb_rope_args *a = args;
    if (a->x.dtype == PB_F64) return no_f64("rope");
    int64_t rows = pb_rows(a->x), half = pb_numel(a->inv_freq), cols = 2 * a->heads * half,
            per_thread = rope_floats(a);
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), pb_numel(a->x));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        float *c = (float *)ws + pb_cpu_thread() * per_thread, *s = c + rope_angles(a),
              *buf = s + rope_angles(a);
        angles(c, s, a->inv_freq.data, (double)int_at(a->positions, row), a->inverse ? -1.0f : 1.0f,
               half);
        int64_t at = row * a->x.stride;
        float *x = pb_cpu_out(a->x, at, buf);
        if (a->x.dtype != PB_F32) (void)pb_cpu_in(a->x, at, cols, buf);
        for (int64_t h = 0; h < a->heads; h++)
            rotate(x + 2 * h * half, x + (2 * h + 1) * half, c, s, half);
        pb_cpu_done(a->x, at, cols, x);
    }
    return PB_OK;
}

/* --- pooling --------------------------------------------------------------------------------- */

static void copy_row(pb_tensor y, int64_t to, pb_tensor x, int64_t from) {
    memcpy(pb_cpu_at(y, to * y.stride), pb_cpu_at(x, from * x.stride),
           row_bytes(x));
}

static void mean_row(const pb_pool_fwd_args *a, int64_t s, int64_t from, int64_t to) {
    float sum[PB_CPU_BLOCK], yb[PB_CPU_BLOCK];
    int64_t cols = pb_cols(a->y);
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j), at = s * a->y.stride + j;
        memset(sum, 0, sizeof sum);
        for (int64_t r = from; r < to; r++) {
            int64_t x = r * a->x.stride + j;
            if (a->x.dtype == PB_BF16) pb_cpu_add_bf16(sum, pb_cpu_in_bf16(a->x, x, n), n);
            else pb_cpu_add(sum, pb_cpu_in(a->x, x, n, NULL), n);
        }
        float *y = pb_cpu_out(a->y, at, yb);
        pb_cpu_scale(y, sum, 1.0f / (float)(to - from), n);
        pb_cpu_done(a->y, at, n, y);
    }
}

static pb_status pool_fwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_pool_fwd_args *a = args;
    (void)ws;
    if (a->y.dtype == PB_F64) return no_f64("pool_fwd");
    int64_t sequences = pb_rows(a->y);
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), pb_numel(a->x));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t s = 0; s < sequences; s++) {
        int64_t from = int_at(a->cu, s), to = int_at(a->cu, s + 1);
        if (from >= to) {
            zero_row(a->y, s, false);
        } else if (a->pool == PB_POOL_MEAN) {
            mean_row(a, s, from, to);
        } else {
            copy_row(a->y, s, a->x, a->pool == PB_POOL_CLS ? from : to - 1);
        }
    }
    return PB_OK;
}

static void pool_bwd_sequence(const pb_pool_bwd_args *a, int64_t s, bool past) {
    float gb[PB_CPU_BLOCK], db[PB_CPU_BLOCK];
    uint16_t half[PB_CPU_BLOCK];
    int64_t from = int_at(a->cu, s), to = int_at(a->cu, s + 1), cols = pb_cols(a->dx);
    size_t size = pb_dtype_size(a->dx.dtype);
    if (from >= to) return;
    if (a->pool != PB_POOL_MEAN) {
        int64_t chosen = a->pool == PB_POOL_CLS ? from : to - 1;
        for (int64_t r = from; r < to; r++) {
            if (r != chosen) zero_row(a->dx, r, past);
        }
        copy_row(a->dx, chosen, a->dy, s);
        return;
    }
    for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
        int64_t n = pb_min64(PB_CPU_BLOCK, cols - j);
        pb_cpu_scale(db, pb_cpu_in(a->dy, s * a->dy.stride + j, n, gb), 1.0f / (float)(to - from), n);
        if (a->dx.dtype != PB_F32) pb_cpu_narrow(half, db, n);
        const void *row = a->dx.dtype == PB_F32 ? (const void *)db : half;
        for (int64_t r = from; r < to; r++)
            put_row(pb_cpu_at(a->dx, r * a->dx.stride + j), row, (size_t)n * size, past);
    }
}

static pb_status pool_bwd_run(pb_device *dev, const void *args, void *ws) {
    const pb_pool_bwd_args *a = args;
    (void)ws;
    if (a->dx.dtype == PB_F64) return no_f64("pool_bwd");
    int64_t sequences = pb_rows(a->dy), rows = pb_rows(a->dx);
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), pb_numel(a->dx));
    bool past = pb_cpu_past(pb_cpu_of(dev), a->dx);
    for (int64_t r = 0; sequences > 0 && r < int_at(a->cu, 0); r++) zero_row(a->dx, r, false);
    for (int64_t r = sequences > 0 ? int_at(a->cu, sequences) : 0; r < rows; r++)
        zero_row(a->dx, r, false);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t s = 0; s < sequences; s++) pool_bwd_sequence(a, s, past);
        pb_cpu_past_end();
    }
    return PB_OK;
}

/* --- rows by index --------------------------------------------------------------------------- */

static pb_status gather_rows_run(pb_device *dev, const void *args, void *ws) {
    const pb_gather_rows_args *a = args;
    (void)ws;
    if (a->x.dtype == PB_F64) return no_f64("gather_rows");
    int64_t n = pb_rows(a->y), cols = pb_cols(a->x);
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), pb_numel(a->y));
    bool past = pb_cpu_past(pb_cpu_of(dev), a->y);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < n; i++) {
            fetch_row(a->x, a->idx, i, 0, cols);
            put_row(pb_cpu_at(a->y, i * a->y.stride),
                    pb_cpu_at(a->x, int_at(a->idx, i) * a->x.stride), row_bytes(a->x), past);
        }
        pb_cpu_past_end();
    }
    return PB_OK;
}

static pb_status scatter_rows_run(pb_device *dev, const void *args, void *ws) {
    const pb_scatter_rows_args *a = args;
    (void)ws;
    if (a->x.dtype == PB_F64) return no_f64("scatter_rows");
    int64_t n = pb_rows(a->x), rows = pb_rows(a->y);
    int threads = pb_cpu_threads_for(pb_cpu_of(dev), pb_numel(a->y));
    bool past = pb_cpu_past(pb_cpu_of(dev), a->y);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < rows; i++) zero_row(a->y, i, past);
        pb_cpu_past_end();
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i++) copy_row(a->y, int_at(a->idx, i), a->x, i);
    }
    return PB_OK;
}

static const pb_kernel kernels[] = {
    {PB_OP_embed_fwd, "vector", NULL, embed_fwd_run},
    {PB_OP_embed_bwd, "vector", NULL, embed_bwd_run},
    {PB_OP_rope, "vector", rope_workspace, rope_run},
    {PB_OP_pool_fwd, "vector", NULL, pool_fwd_run},
    {PB_OP_pool_bwd, "vector", NULL, pool_bwd_run},
    {PB_OP_gather_rows, "plain", NULL, gather_rows_run},
    {PB_OP_scatter_rows, "plain", NULL, scatter_rows_run},
};
const pb_kernel_set pb_kernels_cpu_sequence = {kernels, sizeof kernels / sizeof *kernels};
