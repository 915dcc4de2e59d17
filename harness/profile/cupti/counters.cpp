/* The C++ side of the CUPTI plug-in: metric configurations through CUPTI's host API, and names of kernels.
 * Test: tests/test_cupti.c. */
#include "harness/profile/cupti/counters.h"

#include <cupti_profiler_host.h>
#include <cupti_profiler_target.h>
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" const char *const pb_cupti_roofline_metrics[] = {
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "lts__t_bytes.sum",
    "sm__inst_executed_pipe_tensor.sum",
    "sm__pipe_tensor_cycles_active.sum",
    "sm__cycles_elapsed.max",
    nullptr,
};

namespace {

int host_passes(CUpti_Profiler_Host_Object *host, const char *const *metrics, size_t n, size_t *passes,
                const char **what) {
    std::vector<const char *> names(metrics, metrics + n);
    CUpti_Profiler_Host_ConfigAddMetrics_Params add = {CUpti_Profiler_Host_ConfigAddMetrics_Params_STRUCT_SIZE,
                                                       nullptr, host, names.data(), n};
    *what = "cuptiProfilerHostConfigAddMetrics";
    if (CUptiResult rc = cuptiProfilerHostConfigAddMetrics(&add)) return rc;
    CUpti_Profiler_Host_GetConfigImageSize_Params size = {};
    size.structSize = CUpti_Profiler_Host_GetConfigImageSize_Params_STRUCT_SIZE;
    size.pHostObject = host;
    *what = "cuptiProfilerHostGetConfigImageSize";
    if (CUptiResult rc = cuptiProfilerHostGetConfigImageSize(&size)) return rc;
    std::vector<uint8_t> image(size.configImageSize);
    CUpti_Profiler_Host_GetConfigImage_Params get = {CUpti_Profiler_Host_GetConfigImage_Params_STRUCT_SIZE, nullptr,
                                                     host, image.size(), image.data()};
    *what = "cuptiProfilerHostGetConfigImage";
    if (CUptiResult rc = cuptiProfilerHostGetConfigImage(&get)) return rc;
    CUpti_Profiler_Host_GetNumOfPasses_Params count = {CUpti_Profiler_Host_GetNumOfPasses_Params_STRUCT_SIZE, nullptr,
                                                       image.size(), image.data(), 0};
    *what = "cuptiProfilerHostGetNumOfPasses";
    if (CUptiResult rc = cuptiProfilerHostGetNumOfPasses(&count)) return rc;
    *passes = count.numOfPasses;
    return 0;
}

}  // namespace

extern "C" int pb_cupti_passes(const char *chip, const char *const *metrics, size_t n, size_t *passes,
                               const char **what) {
    CUpti_Profiler_Host_Initialize_Params init = {};
    init.structSize = CUpti_Profiler_Host_Initialize_Params_STRUCT_SIZE;
    init.profilerType = CUPTI_PROFILER_TYPE_RANGE_PROFILER;
    init.pChipName = chip;
    *passes = 0;
    *what = "cuptiProfilerHostInitialize";
    if (CUptiResult rc = cuptiProfilerHostInitialize(&init)) return rc;
    int rc = host_passes(init.pHostObject, metrics, n, passes, what);
    CUpti_Profiler_Host_Deinitialize_Params end = {CUpti_Profiler_Host_Deinitialize_Params_STRUCT_SIZE, nullptr,
                                                   init.pHostObject};
    CUptiResult last = cuptiProfilerHostDeinitialize(&end);
    return rc != 0 ? rc : last;
}

extern "C" int pb_cupti_chips(const char **names, size_t cap, size_t *n) {
    CUpti_Profiler_Host_GetSupportedChips_Params p = {};
    p.structSize = CUpti_Profiler_Host_GetSupportedChips_Params_STRUCT_SIZE;
    *n = 0;
    if (CUptiResult rc = cuptiProfilerHostGetSupportedChips(&p)) return rc;
    for (; *n < p.numChips && *n < cap; ++*n) names[*n] = p.ppChipNames[*n];
    return 0;
}

extern "C" int pb_cupti_counters_allowed(char *why, size_t cap) {
    CUpti_Profiler_Initialize_Params init = {};
    init.structSize = CUpti_Profiler_Initialize_Params_STRUCT_SIZE;
    CUptiResult rc = cuptiProfilerInitialize(&init);
    if (rc == CUPTI_SUCCESS) {
        CUpti_Profiler_DeviceSupported_Params device = {};
        device.structSize = CUpti_Profiler_DeviceSupported_Params_STRUCT_SIZE;
        device.cuDevice = 0;
        rc = cuptiProfilerDeviceSupported(&device);
        if (rc == CUPTI_SUCCESS && device.isSupported != CUPTI_PROFILER_CONFIGURATION_SUPPORTED)
            rc = CUPTI_ERROR_NOT_SUPPORTED;
    }
    const char *name = "unknown error";
    (void)cuptiGetResultString(rc, &name);
    if (rc == CUPTI_ERROR_INSUFFICIENT_PRIVILEGES)
        std::snprintf(why, cap, "%s; load the driver with NVreg_RestrictProfilingToAdminUsers=0 or run as root", name);
    else if (rc != CUPTI_SUCCESS)
        std::snprintf(why, cap, "%s", name);
    else if (cap > 0)
        why[0] = 0;
    return rc;
}

extern "C" char *pb_cupti_demangled(const char *name) {
    int bad = 0;
    char *text = abi::__cxa_demangle(name, nullptr, nullptr, &bad);
    if (text == nullptr || bad != 0) return strdup(name);
    const char *from = std::strncmp(text, "void ", 5) == 0 ? text + 5 : text;
    int depth = 0;
    size_t n = 0;
    for (; from[n] != 0 && !(from[n] == '(' && depth == 0 && std::strncmp(from + n, "(anonymous", 10) != 0); n++)
        depth += from[n] == '<' ? 1 : from[n] == '>' ? -1 : 0;
    char *cut = strndup(from, n);
    std::free(text);
    return cut;
}
