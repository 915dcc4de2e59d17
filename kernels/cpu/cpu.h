/* What the files of the cpu backend share: its context, access to tensors as f32, work splitting.
 *
 * Determinism: work is cut into pieces whose sizes depend on shapes alone, or that are independent
 * columns; threads take pieces, and sums over pieces are formed in the order of the pieces. So any
 * number of threads gives the same bits. Private to kernels/cpu. */
#ifndef PB_KERNELS_CPU_CPU_H
#define PB_KERNELS_CPU_CPU_H

#include <dnnl.h>
#include <omp.h>

#include "kernels/core/backend.h"
#include "kernels/cpu/cpu_lanes.h"
#include "kernels/cpu/cpu_math.h"

typedef struct pb_cpu_prim pb_cpu_prim; /* a compiled product, see cpu_gemm.h */

typedef struct pb_cpu {
    int threads;
    dnnl_engine_t engine;
    dnnl_stream_t *streams; /* one per thread */
    pb_cpu_prim **prims;    /* open hash table */
    size_t prims_cap, prims_n;
    bool bf16_products; /* oneDNN multiplies bf16 here */
    bool bf16_fast;     /* ... in hardware */
    int64_t past_bytes; /* outputs larger than this are stored past the caches, see pb_cpu_past */
    bool tiles;         /* bf16 products in tile registers: cpu_tiles.h */
} pb_cpu;

static inline pb_cpu *pb_cpu_of(const pb_device *dev) { return pb_device_context(dev); }

#define PB_CPU_BLOCK \
    512 /* elements a thread converts to f32 at once: a few such buffers fit the L1 cache */
#define PB_CPU_TILE 8192    /* elements of one piece of an elementwise op */
#define PB_CPU_SERIAL 16384 /* elementwise ops up to this size are not worth waking threads */

static inline int64_t pb_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t pb_max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t pb_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline size_t pb_align64(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Takes `bytes` from a workspace cursor. The same calls with *ws NULL at the start add up the size.
 */
static inline void *pb_cpu_take(char **ws, size_t bytes) {
    char *at = *ws;
    *ws += pb_align64(bytes);
    return at;
}

/* --- elements as f32 ------------------------------------------------------------------------- */

void pb_cpu_widen(float *dst, const uint16_t *src, int64_t n);
void pb_cpu_narrow(uint16_t *dst, const float *src, int64_t n);

/* Hardware prefetches no further than a page's end, so that a core that reads alone waits at every
 * page: lines are asked for one page ahead, 16 GB/s instead of 10 where a copy has 20. */
#define PB_CPU_AHEAD 4096

/* Asks for lines. A hint, no access: they may lie behind the tensor. */
static inline void pb_cpu_fetch(uintptr_t from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const void *)(from + i));
}

/* n elements from element offset `at` (counted in memory, gaps between rows included): the tensor's
 * own memory when it is f32, else converted into buf. */
static inline const float *pb_cpu_f32(pb_tensor t, int64_t at, int64_t n, float *buf) {
    if (t.dtype == PB_F32) return (const float *)t.data + at;
    pb_cpu_widen(buf, (const uint16_t *)t.data + at, n);
    return buf;
}
/* The same of a tensor that is walked from its begin to its end. */
static inline const float *pb_cpu_in(pb_tensor t, int64_t at, int64_t n, float *buf) {
    uintptr_t size = pb_dtype_size(t.dtype);
    pb_cpu_fetch((uintptr_t)t.data + (uintptr_t)at * size + PB_CPU_AHEAD, (size_t)n * size);
    return pb_cpu_f32(t, at, n, buf);
}
/* The same of a bf16 tensor as it is, for sums that widen as they add. */
static inline const uint16_t *pb_cpu_in_bf16(pb_tensor t, int64_t at, int64_t n) {
    const uint16_t *x = (const uint16_t *)t.data + at;
    pb_cpu_fetch((uintptr_t)x + PB_CPU_AHEAD, (size_t)n * sizeof *x);
    return x;
}
/* Where to write n values that pb_cpu_done then delivers. */
static inline float *pb_cpu_out(pb_tensor t, int64_t at, float *buf) {
    return t.dtype == PB_F32 ? (float *)t.data + at : buf;
}
static inline void pb_cpu_done(pb_tensor t, int64_t at, int64_t n, const float *buf) {
    if (t.dtype != PB_F32) pb_cpu_narrow((uint16_t *)t.data + at, buf, n);
}

/* An output that is written only and far larger than the caches goes past them: an ordinary store
 * reads its line first, which makes three transfers out of a copy's two. Smaller ones stay, for the
 * op that reads them next. Bits are the same either way. Use: past = pb_cpu_past(cpu,
 * output), pb_cpu_out_past and pb_cpu_done_past for its values (buf is then used for f32 too); each
 * thread ends with pb_cpu_past_end, before others may read. */
static inline bool pb_cpu_past(const pb_cpu *cpu, pb_tensor t) {
    return (int64_t)pb_dtype_size(t.dtype) * pb_numel(t) > cpu->past_bytes;
}
static inline float *pb_cpu_out_past(pb_tensor t, int64_t at, float *buf, bool past) {
    return past ? buf : pb_cpu_out(t, at, buf);
}
void pb_cpu_done_past(pb_tensor t, int64_t at, int64_t n, const float *buf, bool past);

static inline void *pb_cpu_at(pb_tensor t, int64_t at) {
    return (char *)t.data + at * (int64_t)pb_dtype_size(t.dtype);
}
static inline float pb_cpu_get1(pb_tensor t, int64_t at) {
    return t.dtype == PB_F32 ? ((const float *)t.data)[at]
                             : pb_widen(((const uint16_t *)t.data)[at]);
}

/* --- pieces of elementwise work -------------------------------------------------------------- */

typedef struct pb_cpu_grid {
    int64_t rows, cols, per_row, n; /* n pieces, per_row of them in each row */
} pb_cpu_grid;
typedef struct pb_cpu_piece {
    int64_t row, col, n; /* columns [col, col+n) of a row */
} pb_cpu_piece;

/* `flat`: every tensor involved is contiguous, so all is one row. */
static inline pb_cpu_grid pb_cpu_grid_of(pb_tensor t, bool flat) {
    pb_cpu_grid g = {flat ? 1 : pb_rows(t), flat ? pb_numel(t) : pb_cols(t), 0, 0};
    g.per_row = pb_ceil_div(g.cols, PB_CPU_TILE);
    g.n = g.rows * g.per_row;
    return g;
}
static inline pb_cpu_piece pb_cpu_piece_of(pb_cpu_grid g, int64_t i) {
    pb_cpu_piece p = {i / g.per_row, i % g.per_row * PB_CPU_TILE, 0};
    p.n = pb_min64(PB_CPU_TILE, g.cols - p.col);
    return p;
}
static inline int pb_cpu_threads_for(const pb_cpu *cpu, int64_t elements) {
    return elements <= PB_CPU_SERIAL ? 1 : cpu->threads;
}

static inline int64_t pb_cpu_thread(void) { return omp_get_thread_num(); }

/* --- dropout --------------------------------------------------------------------------------- */

/* factor[i] = 0 or 1/(1-p) for elements first..first+n-1 of the drop's stream. p = 0: all ones. */
void pb_cpu_drop_factors(pb_drop drop, uint64_t first, int64_t n, float *factor);
/* The same for rows of n elements: row r starts at element first + r * pitch and at factor + r *
 * ld. */
void pb_cpu_drop_factor_rows(pb_drop drop, uint64_t first, uint64_t pitch, int64_t rows, int64_t n,
                             float *factor, int64_t ld);
/* out = D(x) for n elements: the mask of elements first.. applied. out may be x. */
void pb_cpu_drop_apply(pb_drop drop, uint64_t first, int64_t n, const float *x, float *out);
/* u [rows, cols] (contiguous) := D(rows [row, row+rows) of x), element index = row * cols + col. */
void pb_cpu_drop_rows(pb_drop drop, pb_tensor x, int64_t row, int64_t rows, void *u);
/* 32 random bits for elements 4*block .. 4*(block+n)-1 of a stream. */
void pb_cpu_random(uint64_t key, uint64_t stream, uint64_t block, int64_t n_blocks, uint32_t *out);
/* ... for elements first + r*pitch .. +n of rows r; out + r*ld. */
void pb_cpu_random_rows(uint64_t key, uint64_t stream, uint64_t first, uint64_t pitch, int64_t rows,
                        int64_t n, uint32_t *out, int64_t ld);

/* --- small f32 helpers ----------------------------------------------------------------------- */

void pb_cpu_mul(float *y, const float *a, const float *b, int64_t n); /* y = a*b */
void pb_cpu_plus(float *y, const float *a, const float *b, int64_t n); /* y = a+b */
void pb_cpu_scale(float *y, const float *a, float factor, int64_t n); /* y = factor*a */
static inline void pb_cpu_add(float *y, const float *a, int64_t n) { pb_cpu_plus(y, y, a, n); }
void pb_cpu_add_bf16(float *y, const uint16_t *a, int64_t n);

#endif
