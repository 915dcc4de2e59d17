/* Scalar arithmetic of the cpu backend, inlined into loops that the compiler vectorises for several
 * instruction sets (PB_CLONES): branch-free, no calls. Sums are in cpu_lanes.h. Private to
 * kernels/cpu. */
#ifndef PB_KERNELS_CPU_MATH_H
#define PB_KERNELS_CPU_MATH_H

#include <stdint.h>
#include <string.h>

#include "kernels/cpu/cpu_isa.h"

/* One function, three instruction sets, chosen when the program is loaded. Sanitizers and old
 * compilers get one. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && \
    !defined(PB_SANITIZED)
#if PB_CPU_WIDEST >= 16
#define PB_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif PB_CPU_WIDEST >= 8
#define PB_CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define PB_CLONES
#endif
#else
#define PB_CLONES
#endif
#define PB_INLINE static inline __attribute__((always_inline))

/* The loop carries no dependence although its pointers may be equal (in-place operation). */
#if defined(__clang__)
#define PB_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#else
#define PB_IVDEP _Pragma("GCC ivdep")
#endif

/* Full unrolling of a loop of at most 16 turns, so that its arrays become registers. */
#if defined(__clang__)
#define PB_UNROLL _Pragma("unroll")
#else
#define PB_UNROLL _Pragma("GCC unroll 16")
#endif

/* --- bf16 ------------------------------------------------------------------------------------ */

PB_INLINE float pb_widen(uint16_t h) {
    union {
        uint32_t u;
        float f;
    } v;
    v.u = (uint32_t)h << 16;
    return v.f;
}

/* To nearest even; NaN stays NaN. */
PB_INLINE uint16_t pb_narrow(float f) {
    union {
        uint32_t u;
        float f;
    } v;
    v.f = f;
    uint32_t rounded = v.u + 0x7fffu + ((v.u >> 16) & 1u), quiet = v.u | 0x400000u;
    return (uint16_t)((v.f != v.f ? quiet : rounded) >> 16);
}

/* --- functions ------------------------------------------------------------------------------- */

/* exp(x) for x up to 88.37, error below 2 ulp; below -87.33654 it is 0, NaN stays NaN.
 * x = n ln2 + r, |r| <= ln2/2: n by the rounding of adding 1.5*2^23 + 127, whose sum ends in the
 * exponent bits of 2^n; ln2 in two parts (the first has 9 bits, so that its product with n is
 * exact); (exp(r) - 1 - r) / r^2 by a polynomial of degree 4 (error of exp(r) 3e-9). 13 operations
 * where multiply-adds are fused. */
PB_INLINE float pb_exp_below88(float x) {
    union {
        uint32_t u;
        float f;
    } k, s;
    k.f = x * 1.44269504f + 12583039.0f;
    float n = k.f - 12583039.0f;
    float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 0.0013814540579915047f;
    p = p * r + 0.00836874544620514f;
    p = p * r + 0.04166838899254799f;
    p = p * r + 0.1666652113199234f;
    p = p * r + 0.4999999403953552f;
    p = p * (r * r) + r;
    s.u = k.u << 23;
    float y = p * s.f + s.f;
    return x < -87.33654f ? 0.0f : y;
}

/* The same for any x; above 88.37 it stays at exp(88.37). */
PB_INLINE float pb_exp(float x) { return pb_exp_below88(x > 88.37f ? 88.37f : x); }

/* 1/x for x from 1 to 2^125, error about 1 ulp: what a division's bits would be by subtracting x's
 * from a constant (5 %), then a step of third order (1.3e-4) and one of second (1.7e-8). Six
 * operations, where a division keeps a vector unit busy for 16 to 32. */
PB_INLINE float pb_reciprocal(float x) {
    union {
        uint32_t u;
        float f;
    } t;
    t.f = x;
    t.u = 0x7ef31000u - t.u;
    float q = t.f, e = 1.0f - x * q;
    q = q * (e * e + e) + q;
    e = 1.0f - x * q;
    return q * e + q;
}

/* 1 / (1 + exp(-|x|)) is in 0.5..1; for x < 0 times exp(x). */
PB_INLINE float pb_sigmoid(float x) {
    float e = pb_exp_below88(-__builtin_fabsf(x)), s = pb_reciprocal(1.0f + e);
    return x < 0.0f ? e * s : s;
}

/* The normal distribution function of x and its density. Phi(-a) = exp(-a^2/2) t P(t), t = 1/(1 +
 * 0.265 a), P of degree 8 fitted for a in [0, 14], beyond which the exponential is 0: relative
 * error 1.2e-8 in exact arithmetic, about 4 ulp in f32, plus the error of exp for large a. */
PB_INLINE float pb_phi(float x, float *density) {
    union {
        int32_t i; /* floats that are not negative are ordered as their bits are */
        float f;
    } a;
    a.f = __builtin_fabsf(x);
    a.i = a.i < 0x41600000 ? a.i : 0x41600000;
    float e = pb_exp_below88(-0.5f * x * x), t = pb_reciprocal(1.0f + 0.265f * a.f);
    float p = 0.0308207218f;
    p = p * t - 0.144227996f;
    p = p * t + 0.2178137f;
    p = p * t - 0.116361223f;
    p = p * t + 0.137952194f;
    p = p * t + 0.0603134781f;
    p = p * t + 0.102700889f;
    p = p * t + 0.105246678f;
    p = p * t + 0.10574156f;
    float tail = (t * p) * e;
    *density = 0.3989422804f * e;
    return x < 0.0f ? tail : 1.0f - tail;
}

#endif
