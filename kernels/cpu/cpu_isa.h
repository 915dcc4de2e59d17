/* Which vectors a kernel may use: AVX-512 (with BW, DQ and VL), AVX2 with FMA, or those of every CPU.
 * The one place that asks; asked at every call, which takes two instructions. Private to kernels/cpu. */
#ifndef PB_KERNELS_CPU_ISA_H
#define PB_KERNELS_CPU_ISA_H

#include <stdbool.h>

/* f32 numbers in the widest vectors of this build. The tests build the backend with 8 and with 4, too,
 * so that a CPU that has everything runs the other forms as well. */
#ifndef PB_CPU_WIDEST
#define PB_CPU_WIDEST 16
#endif

static inline bool pb_cpu_has_avx512(void) {
#if defined(__x86_64__)
    return PB_CPU_WIDEST >= 16 && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

static inline bool pb_cpu_has_avx2(void) {
#if defined(__x86_64__)
    return PB_CPU_WIDEST >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

#endif
