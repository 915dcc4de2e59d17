/* 4-bit codes (Dettmers et al. 2023, arXiv 2305.14314) and 8-bit dynamic maps (Dettmers et al.
 * 2022, arXiv 2110.02861); layout and thresholds as in bitsandbytes. */
#include "kernels/core/quant.h"

#include <stdlib.h>
#include <string.h>

const char *pb_code_name(pb_code code) {
    static const char *const name[PB_CODE_COUNT] = {"nf4", "fp4", "int4"};
    return (unsigned)code < PB_CODE_COUNT ? name[code] : "invalid code";
}

static const float table[PB_CODE_COUNT][16] = {
    /* Normal quantiles, scaled to [-1, 1]: 7 negative, zero, 8 positive. */
    {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
     -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
     0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
     0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f},
    /* One sign bit, two exponent bits, one mantissa bit. */
    {0.0f, 0.0052083333f, 0.66666667f, 1.0f, 0.33333333f, 0.5f, 0.16666667f, 0.25f, -0.0f,
     -0.0052083333f, -0.66666667f, -1.0f, -0.33333333f, -0.5f, -0.16666667f, -0.25f},
    {-1.0f, -1.0f, -6.0f / 7.0f, -5.0f / 7.0f, -4.0f / 7.0f, -3.0f / 7.0f, -2.0f / 7.0f,
     -1.0f / 7.0f, 0.0f, 1.0f / 7.0f, 2.0f / 7.0f, 3.0f / 7.0f, 4.0f / 7.0f, 5.0f / 7.0f,
     6.0f / 7.0f, 1.0f},
};

const float *pb_code_table(pb_code code) {
    PB_ASSERT((unsigned)code < PB_CODE_COUNT);
    return table[code];
}

static const float thresholds[PB_CODE_COUNT][15] = {
    {-0.8480964004993439f, -0.6106329262256622f, -0.4599952697753906f, -0.33967943489551544f,
     -0.23460740596055984f, -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f,
     0.1202552504837513f, 0.2035212516784668f, 0.2920137718319893f, 0.3893125355243683f,
     0.5016634166240692f, 0.6427869200706482f, 0.8614784181118011f},
    {0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f, 0.4166667f, 0.583333f, 0.8333333f},
    /* Midpoints of the table; the first is never exceeded downwards, since code 0 is not used. */
    {-2.0f, -13.0f / 14.0f, -11.0f / 14.0f, -9.0f / 14.0f, -7.0f / 14.0f, -5.0f / 14.0f,
     -3.0f / 14.0f, -1.0f / 14.0f, 1.0f / 14.0f, 3.0f / 14.0f, 5.0f / 14.0f, 7.0f / 14.0f,
     9.0f / 14.0f, 11.0f / 14.0f, 13.0f / 14.0f},
};

const float *pb_code_thresholds(pb_code code, int *n) {
    PB_ASSERT((unsigned)code < PB_CODE_COUNT);
    *n = code == PB_CODE_FP4 ? 7 : 15;
    return thresholds[code];
}

int pb_code_encode(pb_code code, float x) {
    static const int fp4_by_size[8] = {0, 1, 6, 7, 4, 5, 2, 3};
    int n = 0, rank = 0;
    const float *t = pb_code_thresholds(code, &n);
    float at = code == PB_CODE_FP4 && x < 0.0f ? -x : x;
    for (int i = 0; i < n; i++) rank += at > t[i];
    if (code != PB_CODE_FP4) return rank;
    return fp4_by_size[rank] | (x < 0.0f ? 8 : 0);
}

/* --- 8-bit dynamic maps ----------------------------------------------------------------------- */

/* Constant expressions: numbers would hide the formula, a table filled on first use would be
 * mutable state. */

/* Decade i = 0..6 has n = 2^i (signed) or 2^(i+1) (unsigned) entries: n+1 equally spaced points
 * from 0.1 to 1, the centres of neighbours, times 10^(i-6). All in f32, and the upper half of the
 * points is counted down from 1, so that the table has the bits of the usual implementation
 * (torch.linspace on a CPU). */
#define STEP(n) ((1.0f - 0.1f) / (float)(n))
#define POINT(n, j) \
    ((j) < ((n) + 1) / 2 ? 0.1f + STEP(n) * (float)(j) : 1.0f - STEP(n) * (float)((n) - (j)))
#define D(p10, n, j)     ((POINT(n, j) + POINT(n, (j) + 1)) / 2.0f * (p10))
#define D1(s, p, n, j)   s D(p, n, j)
#define D2(s, p, n, j)   D1(s, p, n, j), D1(s, p, n, (j) + 1)
#define D4(s, p, n, j)   D2(s, p, n, j), D2(s, p, n, (j) + 2)
#define D8(s, p, n, j)   D4(s, p, n, j), D4(s, p, n, (j) + 4)
#define D16(s, p, n, j)  D8(s, p, n, j), D8(s, p, n, (j) + 8)
#define D32(s, p, n, j)  D16(s, p, n, j), D16(s, p, n, (j) + 16)
#define D64(s, p, n, j)  D32(s, p, n, j), D32(s, p, n, (j) + 32)
#define D128(s, p, n, j) D64(s, p, n, j), D64(s, p, n, (j) + 64)
/* The same, descending in j, for the negative half: entry j counts from the top, n-1-j. */
#define N1(p, n, j)  -D(p, n, (n)-1 - (j))
#define N2(p, n, j)  N1(p, n, j), N1(p, n, (j) + 1)
#define N4(p, n, j)  N2(p, n, j), N2(p, n, (j) + 2)
#define N8(p, n, j)  N4(p, n, j), N4(p, n, (j) + 4)
#define N16(p, n, j) N8(p, n, j), N8(p, n, (j) + 8)
#define N32(p, n, j) N16(p, n, j), N16(p, n, (j) + 16)
#define N64(p, n, j) N32(p, n, j), N32(p, n, (j) + 32)

static const float map_signed[256] = {
    N64(1e0f, 64, 0),     N32(1e-1f, 32, 0),    N16(1e-2f, 16, 0),   N8(1e-3f, 8, 0),
    N4(1e-4f, 4, 0),      N2(1e-5f, 2, 0),      N1(1e-6f, 1, 0),     0.0f,
    D1(+, 1e-6f, 1, 0),   D2(+, 1e-5f, 2, 0),   D4(+, 1e-4f, 4, 0),  D8(+, 1e-3f, 8, 0),
    D16(+, 1e-2f, 16, 0), D32(+, 1e-1f, 32, 0), D64(+, 1e0f, 64, 0), 1.0f,
};

static const float map_unsigned[256] = {
    0.0f,
    D2(+, 1e-6f, 2, 0),
    D4(+, 1e-5f, 4, 0),
    D8(+, 1e-4f, 8, 0),
    D16(+, 1e-3f, 16, 0),
    D32(+, 1e-2f, 32, 0),
    D64(+, 1e-1f, 64, 0),
    D128(+, 1e0f, 128, 0),
    1.0f,
};

const float *pb_dynamic_map_signed(void) { return map_signed; }
const float *pb_dynamic_map_unsigned(void) { return map_unsigned; }

int pb_dynamic_encode(const float *map, float x) {
    int lo = 0, hi = 255; /* map[lo] <= x <= map[hi] unless x lies outside */
    if (!(x > map[0])) return 0;
    if (x >= map[255]) return 255;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (x >= map[mid]) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    /* Differences in double are exact enough to tell a tie. */
    return (double)x - (double)map[lo] <= (double)map[hi] - (double)x ? lo : hi;
}

pb_status pb_quant4_alloc(pb_device *dev, pb_code code, int block, bool double_quant,
                          pb_dtype compute, int64_t out, int64_t in, pb_quant4 *q) {
    *q = (pb_quant4){0};
    if ((unsigned)code >= PB_CODE_COUNT || block < 2 || block % 2 != 0 || out < 0 || in < 0 ||
        (in > 0 && out > INT64_MAX / 8 / in)) {
        return PB_ERROR(PB_E_BUG, "quant4: code %d, block %d, %lld x %lld", (int)code, block,
                        (long long)out, (long long)in);
    }
    pb_quant4 r = {.code = code,
                   .block = block,
                   .double_quant = double_quant,
                   .compute = compute,
                   .out = out,
                   .in = in};
    int64_t n = out * in, blocks = (n + block - 1) / block;
    pb_dtype master = pb_dtype_master(compute);
    PB_RETURN(pb_alloc1(dev, PB_MEM_BASE, PB_U8, (n + 1) / 2, &r.codes));
    if (double_quant) {
        PB_RETURN(pb_alloc1(dev, PB_MEM_QUANT, PB_U8, blocks, &r.absmax_q));
        PB_RETURN(pb_alloc1(dev, PB_MEM_QUANT, master,
                            (blocks + PB_QUANT8_BLOCK - 1) / PB_QUANT8_BLOCK, &r.absmax2));
        PB_RETURN(pb_alloc1(dev, PB_MEM_QUANT, master, 1, &r.offset));
    } else {
        PB_RETURN(pb_alloc1(dev, PB_MEM_QUANT, master, blocks, &r.absmax));
    }
    *q = r;
    return PB_OK;
}
