/* Choosing a tracer, and the one that does nothing. */
#include <string.h>

#include "base/text.h"
#include "harness/profile/profile.h"

static pb_status none_begin(pb_device *dev, pb_profile *profile, void **trace) {
    (void)dev;
    *trace = profile; /* no state of its own */
    return PB_OK;
}

static pb_status none_end(void *trace) {
    (void)trace;
    return PB_OK;
}

const pb_tracer pb_tracer_none = {.name = "none", .begin = none_begin, .end = none_end};

pb_status pb_trace_begin(pb_device *dev, pb_profile *profile, const pb_tracer **tracer,
                         void **trace, char why_not[256]) {
    *tracer = &pb_tracer_host;
    if (why_not != NULL) why_not[0] = 0;
    if (strncmp(pb_device_name(dev), "cuda", 4) == 0) {
        pb_status status = pb_tracer_cupti.begin(dev, profile, trace);
        if (status == PB_OK) {
            *tracer = &pb_tracer_cupti;
            pb_copy(profile->tracer, sizeof profile->tracer, pb_tracer_cupti.name);
            return PB_OK;
        }
        if (status != PB_E_ENV) return status;
        if (why_not != NULL) snprintf(why_not, 256, "%.255s", pb_error_message());
        pb_error_clear();
        pb_profile_free(profile);
    }
    pb_copy(profile->tracer, sizeof profile->tracer, pb_tracer_host.name);
    return pb_tracer_host.begin(dev, profile, trace);
}
