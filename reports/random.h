/* Random draws of the statistics: pure functions of a key, a purpose and a counter, so that the same
 * data give the same numbers in any order and on any machine. */
#ifndef PB_REPORTS_RANDOM_H
#define PB_REPORTS_RANDOM_H

#include <stdint.h>

/* 64 bits, a function of key, stream and counter alone (the finaliser of SplitMix64, Steele et al.
 * 2014). */
static inline uint64_t pb_draw_mixed(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static inline uint64_t pb_draw_base(uint64_t key, uint64_t stream, uint64_t draw) {
    return pb_draw_mixed(pb_draw_mixed(pb_draw_mixed(key) ^ stream) ^ draw);
}

/* Item `k` of draw `base`: a number in 0..n-1. */
static inline int pb_draw_below(uint64_t base, int k, int n) {
    uint64_t bits = pb_draw_mixed(base + (uint64_t)k) >> 32;
    return (int)((bits * (uint64_t)n) >> 32);
}

#endif
