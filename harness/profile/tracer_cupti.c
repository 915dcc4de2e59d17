/* CUPTI, through the plug-in: this file only looks for it. Without the plug-in, the driver or a GPU the tracer says so
 * and the host's takes its place. */
#include "harness/profile/profile.h"

static pb_status cupti_begin(pb_device *dev, pb_profile *profile, void **trace) {
    (void)dev;
    (void)profile;
    *trace = NULL;
    return PB_ERROR(PB_E_ENV, "this build has no CUPTI plug-in");
}

static pb_status cupti_end(void *trace) {
    (void)trace;
    return PB_OK;
}

const pb_tracer pb_tracer_cupti = {.name = "cupti", .begin = cupti_begin, .end = cupti_end};
