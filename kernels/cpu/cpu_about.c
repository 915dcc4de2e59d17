/* The matrix library's own word on its version, and what the CPU makes the kernels choose. */
#include "kernels/core/about.h"

#include <dnnl.h>
#include <stdio.h>

#include "kernels/cpu/cpu_isa.h"

const char *pb_kernels_library(void) {
    static _Thread_local char text[64];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

/* As PB_CLONES (cpu_math.h) and CALL (cpu_lanes.c) choose. */
const char *pb_kernels_isa(void) {
    return pb_cpu_has_avx512() ? "avx512" : pb_cpu_has_avx2() ? "avx2" : "base";
}

const char *pb_kernels_library_isa(void) {
    static _Thread_local char text[32];
    snprintf(text, sizeof text, "0x%x", (unsigned)dnnl_get_effective_cpu_isa());
    return text;
}
