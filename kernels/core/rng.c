/* Host-side draws on top of Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
 * 1, 2, 3"). */
#include "kernels/core/rng.h"

#include <math.h>

#include "base/status.h"

static uint64_t word64(pb_u32x4 b, int i) { return (uint64_t)b.v[2 * i] << 32 | b.v[2 * i + 1]; }

/* 53 random bits in [0, 1). */
static double to_unit(uint64_t bits) { return (double)(bits >> 11) * 0x1p-53; }

double pb_random_uniform(uint64_t key, uint64_t stream, uint64_t index) {
    return to_unit(word64(pb_philox(key, stream, index), 0));
}

double pb_random_normal(uint64_t key, uint64_t stream, uint64_t index) {
    pb_u32x4 b = pb_philox(key, stream, index);
    double u = 1.0 - to_unit(word64(b, 0)); /* (0, 1]: the logarithm is finite */
    double v = to_unit(word64(b, 1));
    return sqrt(-2.0 * log(u)) * cos(6.28318530717958647692 * v);
}

/* Unbiased: draws from the incomplete last range of 2^64 are thrown away and drawn again under
 * another key. */
uint64_t pb_random_below(uint64_t key, uint64_t stream, uint64_t index, uint64_t n) {
    PB_ASSERT(n >= 1);
    uint64_t reject = (0 - n) % n; /* 2^64 mod n */
    for (uint64_t attempt = 0;; attempt++) {
        pb_u32x4 b = pb_philox(key + attempt * 0x9E3779B97F4A7C15u, stream, index);
        for (int i = 0; i < 2; i++) {
            uint64_t x = word64(b, i);
            if (x >= reject) return x % n;
        }
    }
}

void pb_random_permutation(uint64_t key, uint64_t stream, int64_t n, int32_t *out) {
    PB_ASSERT(n >= 0 && n <= INT32_MAX);
    for (int64_t i = 0; i < n; i++) out[i] = (int32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)pb_random_below(key, stream, (uint64_t)i, (uint64_t)i + 1);
        int32_t t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}

/* The finaliser of SplitMix64 (Steele et al. 2014): every input bit reaches every output bit. */
static uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

uint64_t pb_random_stream(const char *purpose, uint64_t a, uint64_t b) {
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a over the name */
    for (const char *p = purpose; *p != '\0'; p++) h = (h ^ (unsigned char)*p) * 0x100000001B3u;
    return mix(mix(mix(h) ^ a) + b);
}
