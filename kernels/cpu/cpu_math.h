/* Scalar arithmetic of the cpu backend, inlined into loops that the compiler vectorises for several
 * instruction sets (PB_CLONES): branch-free, no calls. Sums are in cpu_lanes.h. Private to
 * kernels/cpu. */
#ifndef PB_KERNELS_CPU_MATH_H
#define PB_KERNELS_CPU_MATH_H

#include <stdint.h>
#include <string.h>

/* One function, three instruction sets, chosen when the program is loaded. Sanitizers and old
 * compilers get one. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && \
    !defined(PB_SANITIZED)
#define PB_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
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

/* exp(x), error below 2 ulp for |x| < 87.3. Below that 0, above it stays at exp(88.37); NaN stays
 * NaN. x = n ln2 + r, |r| <= ln2/2: n by the rounding of adding 1.5*2^23, ln2 in two parts (the
 * first has 9 bits, so that its product with n is exact), the Taylor polynomial of degree 7
 * (remainder 5e-9), 2^n by its exponent bits. */
PB_INLINE float pb_exp(float x) {
    union {
        uint32_t u;
        float f;
    } k, s;
    float c = x > 88.37f ? 88.37f : x;
    c = c < -87.33654f ? -87.33654f : c;
    k.f = c * 1.44269504f + 12582912.0f;
    float n = k.f - 12582912.0f;
    float r = (c - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    s.u = (k.u + 127u) << 23;
    float y = p * s.f + s.f;
    return x < -87.33654f ? 0.0f : y;
}

PB_INLINE float pb_sigmoid(float x) { return 1.0f / (1.0f + pb_exp(-x)); }

/* The normal distribution function of x and its density. With z = |x|/sqrt2: Phi(-|x|) = erfc(z)/2,
 * and erfc(z) = exp(-z^2) t P(t), t = 1/(1+0.35z), P of degree 9 fitted at Chebyshev nodes for z in
 * [0, 10]: relative error 1e-8 in exact arithmetic, about 4 ulp in f32, plus the error of exp for
 * large z. */
PB_INLINE float pb_phi(float x, float *density) {
    float e = pb_exp(-0.5f * x * x);
    float z = (x < 0.0f ? -x : x) * 0.70710678f;
    float t = 1.0f / (1.0f + 0.35f * z);
    float p = 0.036654728387307614f;
    p = p * t - 0.1495435378932083f;
    p = p * t + 0.15964122141293324f;
    p = p * t + 0.0010456044562295874f;
    p = p * t + 0.06340511805001514f;
    p = p * t + 0.15855468541223883f;
    p = p * t + 0.14691578247354395f;
    p = p * t + 0.18880639799813229f;
    p = p * t + 0.19703073783104041f;
    p = p * t + 0.19748926639842815f;
    float tail = 0.5f * (t * p) * e;
    *density = 0.3989422804f * e;
    return x < 0.0f ? tail : 1.0f - tail;
}

#endif
