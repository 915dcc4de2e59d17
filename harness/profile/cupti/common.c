/* CUPTI's return codes in words. */
#include "harness/profile/cupti/common.h"

#include <cupti.h>

static const char *remedy(int code) {
    switch (code) {
    case CUPTI_ERROR_INSUFFICIENT_PRIVILEGES:
    case CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES:
        return "; counters need root, or the driver loaded with NVreg_RestrictProfilingToAdminUsers=0 (ERR_NVGPUCTRPERM)";
    case CUPTI_ERROR_HARDWARE_BUSY:
    case CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED:
        return "; another profiler is attached: end it and try again";
    case CUPTI_ERROR_OUT_OF_MEMORY: return "; leave the GPU some memory: a smaller batch";
    default: return "";
    }
}

pb_status pb_cupti_check(int code, const char *call) {
    const char *name = "unknown error";
    if (code == CUPTI_SUCCESS) return PB_OK;
    (void)cuptiGetResultString((CUptiResult)code, &name);
    return PB_ERROR(PB_E_ENV, "CUPTI: %s: %s (%d)%s", call, name, code, remedy(code));
}

pb_status pb_cupti_check_version(void) {
    uint32_t version = 0;
    PB_RETURN(pb_cupti_check(cuptiGetVersion(&version), "cuptiGetVersion"));
    if (version / 100 == CUPTI_API_VERSION / 100) return PB_OK; /* 130001: 13.0, first update */
    return PB_ERROR(PB_E_ENV, "CUPTI %u is loaded, but this was built for %u: build again with that toolkit",
                    (unsigned)version, (unsigned)CUPTI_API_VERSION);
}
