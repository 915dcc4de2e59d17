/* The matrix library's own word on its version. */
#include "kernels/core/about.h"

#include <dnnl.h>
#include <stdio.h>

const char *pb_kernels_library(void) {
    static _Thread_local char text[64];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return text;
}
