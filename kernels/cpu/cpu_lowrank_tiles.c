/* 64 token rows at a time go through all steps, so that x, dy, h and the sums that are added to
 * y and dx are in the L1 or L2 cache when they are used again; steps that compute ask for what is
 * read next. x and dy are tiles as they lie in memory; where they are a product's second operand
 * (dA, dB) two rows are shuffled together. Rounded to bf16 are h, h .* e, dh and D(x), which are
 * T; everything else is f32.
 *
 * Bytes: x once and y twice; x and dy once, dx twice. */
#include "kernels/cpu/cpu_lowrank.h"

#include "kernels/cpu/cpu_tiles.h"

bool pb_lowrank_tiles_serve(const pb_cpu *cpu, pb_dtype type, int64_t in, int64_t out, int64_t r) {
    return cpu->tiles && type == PB_BF16 && r > 0 && r <= PB_TILE && in > 0 && out > 0 &&
           in % PB_TILE == 0 && out % PB_TILE == 0;
}

size_t pb_lowrank_pack_bytes(int64_t k, int64_t n) {
    return pb_align64((size_t)(k / 2 * PB_TILE) * sizeof(uint32_t)) +
           pb_align64((size_t)(PB_TILE / 2 * n) * sizeof(uint32_t));
}

#if defined(__x86_64__) && defined(__linux__)

#include "kernels/cpu/cpu_tile_rows.h"

#define BLOCK 64 /* token rows that go through all steps together */
#define COLS 128 /* columns of a wide operand or result that are in the L1 cache together, */
#define WIDE 16  /* results in f32 for so many rows, */
#define LD (COLS + 16) /* which begin in different sets of that cache */

/* --- factors --------------------------------------------------------------------------------- */

/* A matrix [depth, width] that lies anyhow: (p, q) is at[p * down + q * right]. */
typedef struct factor {
    const uint16_t *at;
    int64_t depth, width, down, right;
} factor;

static factor plain(pb_tensor t) {
    return (factor){t.data, pb_rows(t), pb_cols(t), t.stride, 1};
}
static factor transposed(pb_tensor t) {
    return (factor){t.data, pb_cols(t), pb_rows(t), 1, t.stride};
}

/* to[ld columns]: pairs of rows of f; what lies beyond it is 0. */
static void pack(factor f, uint32_t *to, int64_t rows, int64_t ld) {
    memset(to, 0, (size_t)(rows / 2 * ld) * sizeof *to);
    for (int64_t p = 0; p < f.depth; p += 2) {
        const uint16_t *a = f.at + p * f.down, *b = p + 1 < f.depth ? a + f.down : NULL;
        for (int64_t q = 0; q < f.width; q++) {
            uint32_t high = b != NULL ? b[q * f.right] : 0;
            to[p / 2 * ld + q] = a[q * f.right] | high << 16;
        }
    }
}

static pb_lowrank_pack pack_both(factor narrow, factor wide, void *ws) {
    char *take = ws;
    pb_lowrank_pack p = {.k = narrow.depth, .n = wide.width, .r = wide.depth};
    p.padded = p.r <= PB_TILE / 2 ? PB_TILE / 2 : PB_TILE;
    p.narrow = pb_cpu_take(&take, (size_t)(p.k / 2 * PB_TILE) * sizeof *p.narrow);
    p.wide = pb_cpu_take(&take, (size_t)(PB_TILE / 2 * p.n) * sizeof *p.wide);
    pack(narrow, p.narrow, p.k, p.padded);
    pack(wide, p.wide, PB_TILE, p.n);
    return p;
}

pb_lowrank_pack pb_lowrank_pack_fwd(const pb_lowrank_args *a, void *ws) {
    return pack_both(transposed(a->a), transposed(a->b), ws);
}

pb_lowrank_pack pb_lowrank_pack_bwd(const pb_lowrank_bwd_args *a, void *ws) {
    return pack_both(plain(a->b), plain(a->a), ws);
}

/* --- token rows ------------------------------------------------------------------------------ */

typedef struct rows {
    const uint16_t *at;
    int64_t ld;
} rows;

static int64_t whole(int64_t n) { return pb_ceil_div(n, PB_TILE) * PB_TILE; }

/* Zeros behind n rows, to whole tiles. */
static void zero_behind(uint16_t *buf, int64_t n, int64_t cols) {
    memset(buf + n * cols, 0, (size_t)((whole(n) - n) * cols) * sizeof *buf);
}

/* The rows as they lie, where they are whole tiles; else a copy in buf, with zeros behind. */
static rows rows_of(pb_tensor t, int64_t row, int64_t n, uint16_t *buf) {
    int64_t cols = pb_cols(t);
    rows own = {(const uint16_t *)t.data + row * t.stride, t.stride};
    if (n % PB_TILE == 0) return own;
    for (int64_t i = 0; i < n; i++)
        memcpy(buf + i * cols, own.at + i * own.ld, (size_t)cols * sizeof *buf);
    zero_behind(buf, n, cols);
    return (rows){buf, cols};
}

/* Asks for columns [col, col+n) of a row, if there is such a row. */
static void fetch(pb_tensor t, int64_t row, int64_t col, int64_t n) {
    if (!pb_has(t) || row >= pb_rows(t)) return;
    pb_cpu_fetch((uintptr_t)pb_cpu_at(t, row * t.stride + col), (size_t)n * sizeof(uint16_t));
}

/* to[rows/2, n] := pairs of rows, columns [col, col+n); asks for these columns of `next`. */
TARGET static void pair_rows(uint32_t *to, rows r, int64_t n_rows, int64_t col, int64_t n,
                             pb_tensor next, int64_t next_row) {
    for (int64_t i = 0; i < n_rows; i += 2) {
        const uint16_t *a = r.at + i * r.ld + col, *b = a + r.ld;
        fetch(next, next_row + i, col, n);
        fetch(next, next_row + i + 1, col, n);
        for (int64_t j = 0; j < n; j += 32)
            pair_up(to + i / 2 * n + j, 16, _mm512_loadu_si512(a + j), _mm512_loadu_si512(b + j));
    }
}

/* to[rows, 32] := the first r of the sums, rounded, and zeros: the other sums are none where x is
 * not finite. */
TARGET static void round_rank(uint16_t *to, const float *sums, int64_t n_rows,
                              const pb_lowrank_pack *p) {
    uint32_t some = UINT32_MAX >> (PB_TILE - p->r);
    for (int64_t i = 0; i < n_rows; i++) {
        const float *s = sums + i * p->padded;
        __m512 lo = _mm512_maskz_loadu_ps((__mmask16)some, s),
               hi = _mm512_maskz_loadu_ps((__mmask16)(some >> 16), s + p->padded - 16);
        __m512bh h = _mm512_cvtne2ps_pbh(hi, lo);
        memcpy(to + i * PB_TILE, &h, sizeof h);
    }
}

/* h .* e for rows of 32. */
static void times_e(uint16_t *h, pb_tensor e, int64_t n_rows, int64_t r) {
    if (!pb_has(e)) return;
    const uint16_t *ep = e.data;
    for (int64_t i = 0; i < n_rows; i++) {
        for (int64_t k = 0; k < r; k++)
            h[i * PB_TILE + k] = pb_narrow(pb_widen(h[i * PB_TILE + k]) * pb_widen(ep[k]));
    }
}

/* --- forward --------------------------------------------------------------------------------- */

typedef struct fwd_ws {
    uint16_t *u, *h; /* [BLOCK, in], [BLOCK, 32] */
    float *sums;     /* [BLOCK, 32] or [WIDE, LD] */
} fwd_ws;

static void *take_half(char **ws, int64_t n) {
    return pb_cpu_take(ws, (size_t)n * sizeof(uint16_t));
}
static void *take_float(char **ws, int64_t n) {
    return pb_cpu_take(ws, (size_t)n * sizeof(float));
}

static size_t fwd_layout(const pb_lowrank_args *a, char *base, fwd_ws *w) {
    char *take = base;
    w->u = take_half(&take, BLOCK * pb_cols(a->x));
    w->h = take_half(&take, BLOCK * PB_TILE);
    w->sums = take_float(&take, pb_max64(WIDE * LD, BLOCK * PB_TILE));
    return (size_t)(take - base);
}

size_t pb_lowrank_tiles_fwd_bytes(const pb_lowrank_args *a) {
    fwd_ws w;
    return fwd_layout(a, NULL, &w);
}

/* to[n rows, columns of p] := beta to + scale h wide, with its rows' mask where keep is given
 * ([rows, columns]). ask: for the columns that come next, if nobody has asked for these rows. */
static void add_wide(pb_tensor to, int64_t row, int64_t n, const uint16_t *h,
                     const pb_lowrank_pack *p, float scale, float beta, const float *keep,
                     float *sums, bool ask) {
    for (int64_t j = 0; j < p->n; j += COLS) {
        int64_t cols = pb_min64(COLS, p->n - j), ahead = j + cols < p->n ? 0 : BLOCK;
        int64_t then = ahead > 0 ? 0 : j + cols, then_cols = pb_min64(COLS, p->n - then);
        for (int64_t i = 0; i < n; i += WIDE) {
            pb_cpu_tile_row(cols, h + i * PB_TILE, PB_TILE, p->wide + j, p->n, sums, LD);
            for (int64_t k = i; k < pb_min64(n, i + WIDE); k++) {
                uint16_t *y = (uint16_t *)to.data + (row + k) * to.stride + j;
                float *s = sums + (k - i) * LD;
                if (ask) fetch(to, row + k + ahead, then, then_cols);
                if (keep != NULL) pb_cpu_mul(s, s, keep + k * p->n + j, cols);
                pb_cpu_blend_lines(y, s, scale, beta, cols);
            }
        }
    }
}

static void fwd_block(const pb_lowrank_args *a, const pb_lowrank_pack *p, int64_t row, int64_t n,
                      const fwd_ws *w) {
    rows u = {w->u, p->k};
    if (a->drop.p > 0.0f) {
        pb_cpu_drop_rows(a->drop, a->x, row, n, w->u);
        zero_behind(w->u, n, p->k);
    } else {
        u = rows_of(a->x, row, n, w->u);
    }
    pb_cpu_tile_product(whole(n), p->padded, p->k, u.at, u.ld, p->narrow, p->padded, w->sums,
                        p->padded, false);
    round_rank(w->h, w->sums, whole(n), p);
    for (int64_t i = 0; i < n; i++)
        memcpy(pb_cpu_at(a->h, (row + i) * a->h.stride), w->h + i * PB_TILE,
               (size_t)p->r * sizeof *w->h);
    times_e(w->h, a->e, n, p->r);
    add_wide(a->y, row, n, w->h, p, (float)a->scale, 1.0f, NULL, w->sums, true);
}

void pb_lowrank_tiles_fwd(const pb_lowrank_args *a, const pb_lowrank_pack *p, int64_t row,
                          int64_t n, void *ws) {
    fwd_ws w;
    (void)fwd_layout(a, ws, &w);
    for (int64_t i = 0; i < n; i += BLOCK) fwd_block(a, p, row + i, pb_min64(BLOCK, n - i), &w);
}

/* --- backward -------------------------------------------------------------------------------- */

typedef struct bwd_ws {
    uint16_t *u, *dy;       /* [BLOCK, in], [BLOCK, out]: copies where they are needed */
    uint16_t *dh, *dht, *het; /* [BLOCK, 32], [32, BLOCK] twice */
    uint32_t *pairs;        /* [BLOCK/2, COLS] */
    float *sums, *keep;     /* [BLOCK, 32] or [WIDE, LD]; [BLOCK, in] with dropout */
    float *da, *db;         /* [32, in], [32, out] */
} bwd_ws;

static size_t bwd_layout(const pb_lowrank_bwd_args *a, char *base, bwd_ws *w) {
    char *take = base;
    int64_t in = pb_cols(a->x), out = pb_cols(a->dy);
    w->u = take_half(&take, BLOCK * in);
    w->dy = take_half(&take, BLOCK * out);
    w->dh = take_half(&take, BLOCK * PB_TILE);
    w->dht = take_half(&take, BLOCK * PB_TILE);
    w->het = take_half(&take, BLOCK * PB_TILE);
    w->pairs = take_float(&take, BLOCK / 2 * COLS);
    w->sums = take_float(&take, pb_max64(WIDE * LD, BLOCK * PB_TILE));
    w->keep = a->drop.p > 0.0f ? take_float(&take, BLOCK * in) : NULL;
    w->da = pb_has(a->da) ? take_float(&take, PB_TILE * in) : NULL;
    w->db = pb_has(a->db) ? take_float(&take, PB_TILE * out) : NULL;
    return (size_t)(take - base);
}

size_t pb_lowrank_tiles_bwd_bytes(const pb_lowrank_bwd_args *a) {
    bwd_ws w;
    return bwd_layout(a, NULL, &w);
}

/* to[32, BLOCK] := h of [n, 32] transposed. */
static void transpose_rank(uint16_t *to, const uint16_t *h, int64_t n, int64_t r) {
    memset(to, 0, (size_t)(PB_TILE * BLOCK) * sizeof *to);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < r; k++) to[k * BLOCK + i] = h[i * PB_TILE + k];
    }
}

/* sum[32, cols of t] = (add ? sum : 0) + ht u over the rows of a block. */
static void add_outer(float *sum, int64_t cols, const uint16_t *ht, int64_t r, rows u, int64_t n,
                      bool add, uint32_t *pairs, pb_tensor next, int64_t next_row) {
    for (int64_t j = 0; j < cols; j += COLS) {
        int64_t m = pb_min64(COLS, cols - j);
        pair_rows(pairs, u, whole(n), j, m, next, next_row);
        pb_cpu_tile_product(r > 16 ? 32 : 16, m, whole(n), ht, BLOCK, pairs, m, sum + j, cols, add);
    }
}

/* dh = round(scale dq .* e) from dq in w->sums, also transposed; de += dq .* h, and het. */
static void rank_gradients(const pb_lowrank_bwd_args *a, const pb_lowrank_pack *p, int64_t row,
                           int64_t n, float *de, const bwd_ws *w) {
    float hb[PB_TILE], scale = (float)a->scale;
    for (int64_t i = 0; i < n; i++) {
        float *dq = w->sums + i * p->padded;
        pb_cpu_scale(dq, dq, scale, p->r);
        if (de == NULL) continue;
        const float *h = pb_cpu_f32(a->h, (row + i) * a->h.stride, p->r, hb);
        for (int64_t k = 0; k < p->r; k++) de[k] += dq[k] * h[k];
    }
    if (w->db != NULL) {
        for (int64_t i = 0; i < n; i++)
            memcpy(w->dh + i * PB_TILE, pb_cpu_at(a->h, (row + i) * a->h.stride),
                   (size_t)p->r * sizeof *w->dh);
        times_e(w->dh, a->e, n, p->r);
        transpose_rank(w->het, w->dh, n, p->r);
    }
    if (pb_has(a->e)) {
        float eb[PB_TILE];
        const float *e = pb_cpu_f32(a->e, 0, p->r, eb);
        for (int64_t i = 0; i < n; i++) {
            float *dq = w->sums + i * p->padded;
            pb_cpu_mul(dq, dq, e, p->r);
        }
    }
    round_rank(w->dh, w->sums, whole(n), p);
    if (w->da != NULL) transpose_rank(w->dht, w->dh, n, p->r);
}

/* buf := keep .* u, rounded, and zeros behind. */
static rows masked(rows u, int64_t n, int64_t cols, const float *keep, uint16_t *buf) {
    float xb[PB_CPU_BLOCK];
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < cols; j += PB_CPU_BLOCK) {
            int64_t m = pb_min64(PB_CPU_BLOCK, cols - j);
            pb_cpu_widen(xb, u.at + i * u.ld + j, m);
            pb_cpu_mul(xb, xb, keep + i * cols + j, m);
            pb_cpu_narrow(buf + i * cols + j, xb, m);
        }
    }
    zero_behind(buf, n, cols);
    return (rows){buf, cols};
}

static void bwd_block(const pb_lowrank_bwd_args *a, const pb_lowrank_pack *p, int64_t row,
                      int64_t n, bool add, float *de, const bwd_ws *w) {
    int64_t in = p->n, out = p->k;
    pb_tensor dx = a->beta_dx != 0.0 ? a->dx : (pb_tensor){0};
    rows dy = rows_of(a->dy, row, n, w->dy);
    pb_cpu_tile_product(whole(n), p->padded, out, dy.at, dy.ld, p->narrow, p->padded, w->sums,
                        p->padded, false);
    rank_gradients(a, p, row, n, de, w);
    if (w->db != NULL) {
        add_outer(w->db, out, w->het, p->r, dy, n, add, w->pairs,
                  w->da != NULL ? a->x : (pb_tensor){0}, row);
    }
    /* One mask for u and for dx: rows are numbered without gaps. */
    if (w->keep != NULL) pb_cpu_drop_factors(a->drop, (uint64_t)(row * in), n * in, w->keep);
    if (w->da != NULL) {
        rows u = rows_of(a->x, row, n, w->u);
        if (w->keep != NULL) u = masked(u, n, in, w->keep, w->u);
        add_outer(w->da, in, w->dht, p->r, u, n, add, w->pairs, dx, row);
    }
    if (pb_has(a->dx))
        add_wide(a->dx, row, n, w->dh, p, 1.0f, (float)a->beta_dx, w->keep, w->sums, false);
}

void pb_lowrank_tiles_bwd(const pb_lowrank_bwd_args *a, const pb_lowrank_pack *p, int64_t row,
                          int64_t n, float *da, float *db, float *de, void *ws) {
    bwd_ws w;
    (void)bwd_layout(a, ws, &w);
    if (de != NULL) memset(de, 0, (size_t)p->r * sizeof *de);
    for (int64_t i = 0; i < n; i += BLOCK)
        bwd_block(a, p, row + i, pb_min64(BLOCK, n - i), i > 0, de, &w);
    for (int64_t k = 0; k < p->r; k++) {
        if (da != NULL) memcpy(da + k * p->n, w.da + k * p->n, (size_t)p->n * sizeof *da);
        if (db != NULL) pb_cpu_scale(db + k * p->k, w.db + k * p->k, (float)a->scale, p->k);
    }
}

#else

pb_lowrank_pack pb_lowrank_pack_fwd(const pb_lowrank_args *a, void *ws) {
    (void)a, (void)ws;
    return (pb_lowrank_pack){0};
}
pb_lowrank_pack pb_lowrank_pack_bwd(const pb_lowrank_bwd_args *a, void *ws) {
    (void)a, (void)ws;
    return (pb_lowrank_pack){0};
}
size_t pb_lowrank_tiles_fwd_bytes(const pb_lowrank_args *a) {
    (void)a;
    return 0;
}
void pb_lowrank_tiles_fwd(const pb_lowrank_args *a, const pb_lowrank_pack *p, int64_t row,
                          int64_t rows, void *ws) {
    (void)a, (void)p, (void)row, (void)rows, (void)ws;
}
size_t pb_lowrank_tiles_bwd_bytes(const pb_lowrank_bwd_args *a) {
    (void)a;
    return 0;
}
void pb_lowrank_tiles_bwd(const pb_lowrank_bwd_args *a, const pb_lowrank_pack *p, int64_t row,
                          int64_t rows, float *da, float *db, float *de, void *ws) {
    (void)a, (void)p, (void)row, (void)rows, (void)da, (void)db, (void)de, (void)ws;
}

#endif
