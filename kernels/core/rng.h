/* Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011), shared by every backend so that all draw the same
 * dropout masks and initial weights. A draw is a pure function of (key, stream, index): nothing is stored, order and
 * thread count do not matter. */
#ifndef PB_KERNELS_CORE_RNG_H
#define PB_KERNELS_CORE_RNG_H

#include <stdint.h>

#ifdef __CUDACC__
#define PB_HOST_DEVICE __host__ __device__
#else
#define PB_HOST_DEVICE
#endif

typedef struct pb_u32x4 {
    uint32_t v[4];
} pb_u32x4;

/* Block number `block` of the stream: 128 random bits. */
static inline PB_HOST_DEVICE pb_u32x4 pb_philox(uint64_t key, uint64_t stream, uint64_t block) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    pb_u32x4 out = {{c0, c1, c2, c3}};
    return out;
}

/* Element `index` of the stream as 32 bits: word index%4 of block index/4. */
static inline PB_HOST_DEVICE uint32_t pb_random_u32(uint64_t key, uint64_t stream, uint64_t index) {
    return pb_philox(key, stream, index / 4).v[index % 4];
}

/* 24 random bits as a float in [0, 1): exact, the same everywhere. */
static inline PB_HOST_DEVICE float pb_u01(uint32_t u) { return (float)(u >> 8) * (1.0f / 16777216.0f); }

/* Dropout: element `index` is kept when its u32 >= pb_dropout_threshold(p); kept values are multiplied by 1/(1-p). */
typedef struct pb_drop {
    float p;         /* 0 = identity */
    uint64_t key;    /* from the run's seed */
    uint64_t stream; /* unique per (step, place) */
} pb_drop;

static inline PB_HOST_DEVICE uint32_t pb_dropout_threshold(float p) { return (uint32_t)((double)p * 4294967296.0); }

/* Host-side draws for initial weights and data order. */
double pb_random_normal(uint64_t key, uint64_t stream, uint64_t index);          /* N(0,1), Box-Muller in double */
double pb_random_uniform(uint64_t key, uint64_t stream, uint64_t index);         /* [0,1), 53 bits */
uint64_t pb_random_below(uint64_t key, uint64_t stream, uint64_t index, uint64_t n); /* {0..n-1}, n >= 1 */
/* A permutation of 0..n-1 (Fisher-Yates), a function of (key, stream) alone. */
void pb_random_permutation(uint64_t key, uint64_t stream, int64_t n, int32_t *out);
/* A stream number for a named purpose and two numbers (step, layer, ...): "dropout", "init", "order". */
uint64_t pb_random_stream(const char *purpose, uint64_t a, uint64_t b);

#endif
