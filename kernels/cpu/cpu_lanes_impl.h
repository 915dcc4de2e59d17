/* The body of cpu_lanes.c for one instruction set. Set before each inclusion:
 * WIDTH (floats in a register), ROWS (rows of a product block held in registers), TARGET
 * (attribute), LARGER(a, b) (of two vectors; b where one is NaN), STORE_PAST(aligned address, vector),
 * FN(name). */

#define PARTS (PB_LANES / WIDTH) /* registers that make up 16 lanes */
#define vec FN(vec)
#define lanes FN(lanes)

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef struct lanes {
    vec v[PARTS];
} lanes;

#define HELPER static inline __attribute__((always_inline)) TARGET

HELPER vec FN(load)(const float *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
HELPER void FN(store)(float *p, vec v) { memcpy(p, &v, sizeof v); }

/* Halves of 16 lanes are added to halves: 16, 8, 4, 2, 1. */
HELPER float FN(total)(const lanes *s) {
    pb_v4 q[4];
    memcpy(q, s, sizeof q);
    pb_v4 t = (q[0] + q[2]) + (q[1] + q[3]);
    t += __builtin_shufflevector(t, t, 2, 3, 2, 3);
    return t[0] + t[1];
}

/* Long sums run in CHAINS x 16 lanes: one chain of additions waits 4 cycles for each line. */
HELPER float FN(total_of_chains)(const lanes s[CHAINS]) {
    lanes t;
    PB_UNROLL
    for (int i = 0; i < PARTS; i++) t.v[i] = (s[0].v[i] + s[1].v[i]) + (s[2].v[i] + s[3].v[i]);
    return FN(total)(&t);
}

HELPER pb_v4 FN(larger)(pb_v4 a, pb_v4 b) {
    pb_v4u more = (pb_v4u)(a > b);
    return (pb_v4)((more & (pb_v4u)a) | (~more & (pb_v4u)b));
}

/* s += x .* y or (x - mean)^2 for 16 elements. */
HELPER void FN(add16)(lanes *s, const float *x) {
    PB_UNROLL
    for (int i = 0; i < PARTS; i++) s->v[i] += FN(load)(x + WIDTH * i);
}
HELPER void FN(dot16)(lanes *s, const float *x, const float *y) {
    PB_UNROLL
    for (int i = 0; i < PARTS; i++) s->v[i] += FN(load)(x + WIDTH * i) * FN(load)(y + WIDTH * i);
}
HELPER void FN(centred16)(lanes *s, const float *x, float mean) {
    PB_UNROLL
    for (int i = 0; i < PARTS; i++) {
        vec d = FN(load)(x + WIDTH * i) - mean;
        s->v[i] += d * d;
    }
}

/* The last n % 16 elements with `fill` behind them. */
HELPER void FN(tail)(float t[PB_LANES], const float *x, int64_t n, float fill) {
    for (int i = 0; i < PB_LANES; i++) t[i] = i < n ? x[i] : fill;
}

TARGET static float FN(sum)(const float *x, int64_t n) {
    lanes s[CHAINS] = {0};
    float t[PB_LANES];
    int64_t i = 0;
    for (; i + CHAINS * PB_LANES <= n; i += CHAINS * PB_LANES) {
        PB_UNROLL
        for (int c = 0; c < CHAINS; c++) FN(add16)(&s[c], x + i + c * PB_LANES);
    }
    for (; i + PB_LANES <= n; i += PB_LANES) FN(add16)(&s[0], x + i);
    if (i < n) {
        FN(tail)(t, x + i, n - i, 0.0f);
        FN(add16)(&s[0], t);
    }
    return FN(total_of_chains)(s);
}

TARGET static double FN(sum_double)(const float *x, int64_t n) {
    double s[PB_LANES] = {0};
    int64_t i = 0;
    for (; i + PB_LANES <= n; i += PB_LANES) {
        for (int k = 0; k < PB_LANES; k++) s[k] += (double)x[i + k];
    }
    for (int k = 0; i + k < n; k++) s[k] += (double)x[i + k];
    for (int half = PB_LANES / 2; half > 0; half /= 2) {
        for (int k = 0; k < half; k++) s[k] += s[k + half];
    }
    return s[0];
}

TARGET static float FN(dot)(const float *x, const float *y, int64_t n) {
    lanes s[CHAINS] = {0};
    float t[PB_LANES], u[PB_LANES];
    int64_t i = 0;
    for (; i + CHAINS * PB_LANES <= n; i += CHAINS * PB_LANES) {
        PB_UNROLL
        for (int c = 0; c < CHAINS; c++) FN(dot16)(&s[c], x + i + c * PB_LANES, y + i + c * PB_LANES);
    }
    for (; i + PB_LANES <= n; i += PB_LANES) FN(dot16)(&s[0], x + i, y + i);
    if (i < n) {
        FN(tail)(t, x + i, n - i, 0.0f);
        FN(tail)(u, y + i, n - i, 0.0f);
        FN(dot16)(&s[0], t, u);
    }
    return FN(total_of_chains)(s);
}

TARGET static float FN(centred_squares)(const float *x, float mean, int64_t n) {
    lanes s[CHAINS] = {0};
    float t[PB_LANES];
    int64_t i = 0;
    for (; i + CHAINS * PB_LANES <= n; i += CHAINS * PB_LANES) {
        PB_UNROLL
        for (int c = 0; c < CHAINS; c++) FN(centred16)(&s[c], x + i + c * PB_LANES, mean);
    }
    for (; i + PB_LANES <= n; i += PB_LANES) FN(centred16)(&s[0], x + i, mean);
    if (i < n) {
        FN(tail)(t, x + i, n - i, mean);
        FN(centred16)(&s[0], t, mean);
    }
    return FN(total_of_chains)(s);
}

/* max of best and x or |x|; NaN is passed over. */
HELPER void FN(max16)(lanes *best, const float *x, const bool absolute) {
    typedef uint32_t uvec __attribute__((vector_size(4 * WIDTH)));
    PB_UNROLL
    for (int i = 0; i < PARTS; i++) {
        uvec v = (uvec)FN(load)(x + WIDTH * i);
        if (absolute) v &= 0x7fffffffu;
        best->v[i] = LARGER((vec)v, best->v[i]);
    }
}

HELPER float FN(largest)(const lanes *best) {
    pb_v4 q[4];
    memcpy(q, best, sizeof q);
    pb_v4 r = FN(larger)(FN(larger)(q[0], q[1]), FN(larger)(q[2], q[3]));
    r = FN(larger)(r, __builtin_shufflevector(r, r, 2, 3, 2, 3));
    return r[0] > r[1] ? r[0] : r[1];
}

HELPER float FN(max_of)(const float *x, int64_t n, const bool absolute) {
    const float least = absolute ? 0.0f : -INFINITY;
    lanes best[CHAINS];
    float t[PB_LANES];
    int64_t i = 0;
    PB_UNROLL
    for (int k = 0; k < CHAINS * PARTS; k++) best[k / PARTS].v[k % PARTS] = (vec){0} + least;
    for (; i + CHAINS * PB_LANES <= n; i += CHAINS * PB_LANES) {
        PB_UNROLL
        for (int c = 0; c < CHAINS; c++) FN(max16)(&best[c], x + i + c * PB_LANES, absolute);
    }
    for (; i < n; i += PB_LANES) {
        FN(tail)(t, x + i, n - i, least);
        FN(max16)(&best[0], t, absolute);
    }
    PB_UNROLL
    for (int k = PARTS; k < CHAINS * PARTS; k++)
        best[0].v[k % PARTS] = LARGER(best[k / PARTS].v[k % PARTS], best[0].v[k % PARTS]);
    return FN(largest)(best);
}
TARGET static float FN(max)(const float *x, int64_t n) { return FN(max_of)(x, n, false); }
TARGET static float FN(absmax)(const float *x, int64_t n) { return FN(max_of)(x, n, true); }

/* Whole lines of dst; the rest of its first and last line goes the ordinary way. */
TARGET static void FN(store_past)(char *dst, const char *src, size_t bytes) {
    size_t head = -(uintptr_t)dst % 64, i = head < bytes ? head : bytes;
    memcpy(dst, src, i);
    for (; i + 64 <= bytes; i += 64) {
        PB_UNROLL
        for (size_t k = 0; k < 64; k += 4 * WIDTH) {
            vec v;
            memcpy(&v, src + i + k, sizeof v);
            STORE_PAST(dst + i + k, v);
        }
    }
    memcpy(dst + i, src + i, bytes - i);
}

/* --- scores: flat loops, which vectorise ----------------------------------------------------- */

TARGET static float FN(softmax_row)(float *s, int64_t keys, int64_t padded, float scale,
                                    float *max) {
    PB_IVDEP
    for (int64_t j = 0; j < padded; j++) s[j] = j < keys ? scale * s[j] : -INFINITY;
    float most = *max = FN(max)(s, padded);
    PB_IVDEP
    for (int64_t j = 0; j < padded; j++) s[j] = pb_exp(s[j] - most);
    return FN(sum)(s, padded);
}

TARGET static void FN(probability_row)(float *s, int64_t keys, int64_t padded, float scale,
                                       float lse) {
    PB_IVDEP
    for (int64_t j = 0; j < padded; j++) s[j] = j < keys ? pb_exp(scale * s[j] - lse) : 0.0f;
}

TARGET static void FN(score_gradient_row)(float *dp, const float *p, int64_t padded, float scale) {
    float mean = FN(dot)(p, dp, padded);
    PB_IVDEP
    for (int64_t j = 0; j < padded; j++) dp[j] = scale * p[j] * (dp[j] - mean);
}

/* --- products -------------------------------------------------------------------------------- */

/* mr rows x nv registers of results: mr, nv are constants at every use, so that the loops over them
 * unroll. Per k: nv loads of b, mr broadcasts of a, mr * nv multiply-adds. */
HELPER void FN(micro)(const int mr, const int nv, const pb_small *o, const float *a, const float *b,
                      float *c) {
    vec acc[8][2];
    PB_UNROLL
    for (int i = 0; i < mr; i++) {
        PB_UNROLL
        for (int j = 0; j < nv; j++)
            acc[i][j] = o->add ? FN(load)(c + i * o->ldc + WIDTH * j) : (vec){0};
    }
    for (int64_t k = 0; k < o->k; k++) {
        vec bv[2];
        PB_UNROLL
        for (int j = 0; j < nv; j++) bv[j] = FN(load)(b + k * o->ldb + WIDTH * j);
        PB_UNROLL
        for (int i = 0; i < mr; i++) {
            float x = a[i * o->row + k * o->col];
            PB_UNROLL
            for (int j = 0; j < nv; j++) acc[i][j] += x * bv[j];
        }
    }
    PB_UNROLL
    for (int i = 0; i < mr; i++) {
        PB_UNROLL
        for (int j = 0; j < nv; j++) FN(store)(c + i * o->ldc + WIDTH * j, acc[i][j]);
    }
}

HELPER void FN(panel)(const int nv, const pb_small *o, int64_t m, const float *a, const float *b,
                      float *c) {
    int64_t i = 0;
    for (; i + ROWS <= m; i += ROWS) FN(micro)(ROWS, nv, o, a + i * o->row, b, c + i * o->ldc);
    for (; i + 4 <= m; i += 4) FN(micro)(4, nv, o, a + i * o->row, b, c + i * o->ldc);
    for (; i + 2 <= m; i += 2) FN(micro)(2, nv, o, a + i * o->row, b, c + i * o->ldc);
    for (; i < m; i++) FN(micro)(1, nv, o, a + i * o->row, b, c + i * o->ldc);
}

TARGET static void FN(small_product)(const pb_small *o, int64_t m, int64_t n, const float *a,
                                     const float *b, float *c) {
    int64_t j = 0;
    for (; j + 2 * WIDTH <= n; j += 2 * WIDTH) FN(panel)(2, o, m, a, b + j, c + j);
    for (; j < n; j += WIDTH) FN(panel)(1, o, m, a, b + j, c + j);
}

#undef PARTS
#undef vec
#undef lanes
#undef HELPER
