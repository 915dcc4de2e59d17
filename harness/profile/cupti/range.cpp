/* Hardware counters through CUPTI's range profiler: the order of calls is that of its headers. Tests:
 * tests/profile/test_counters.c (a stand-in for CUPTI), tests/profile/test_cupti.c (the host API itself). */
#include "harness/profile/cupti/range.h"

#include <cupti_profiler_host.h>
#include <cupti_profiler_target.h>
#include <cupti_range_profiler.h>
#include <cupti_target.h>
#include <dlfcn.h>

#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

/* A zeroed parameter struct that knows its size, and a call that notes its name. */
#define PARAMS(type, p)      \
    type##_Params p = {};    \
    p.structSize = type##_Params_STRUCT_SIZE
#define CALL(function, p)                       \
    do {                                        \
        *what = #function;                      \
        if (CUptiResult rc = function(&(p))) return rc; \
    } while (0)

namespace {

const char *const with_read[PB_CUPTI_METRICS + 1] = {
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "lts__t_bytes.sum",
    "sm__inst_executed_pipe_tensor.sum",
    "sm__pipe_tensor_cycles_active.sum",
    "sm__cycles_elapsed.max",
    nullptr,
};
const char *const with_op_read[PB_CUPTI_METRICS + 1] = {
    "gpu__time_duration.sum",
    "dram__bytes_op_read.sum",
    "dram__bytes_op_write.sum",
    "lts__t_bytes.sum",
    "sm__inst_executed_pipe_tensor.sum",
    "sm__pipe_tensor_cycles_active.sum",
    "sm__cycles_elapsed.max",
    nullptr,
};

}  // namespace

extern "C" const char *const *const pb_cupti_roofline_sets[] = {with_read, with_op_read, nullptr};

struct pb_cupti_range {
    CUpti_Profiler_Host_Object *host = nullptr;
    CUpti_RangeProfiler_Object *target = nullptr;
    const char *chip = nullptr;
    const char *metrics[PB_CUPTI_METRICS] = {};
    std::vector<uint8_t> availability, config, data;
    bool initialized = false, started = false;
    size_t set = 0;
};

namespace {

/* CUPTI opens these by their names alone, which finds them where the system looks for libraries only. In a toolkit with a
 * folder of its own they lie beside libcupti, and what is open already is found by its name. They stay open. */
void open_perfworks() {
    static const char *const names[] = {"libnvperf_host.so", "libnvperf_target.so"};
    Dl_info cupti;
    char path[PATH_MAX + 32];
    if (dladdr(reinterpret_cast<void *>(&cuptiProfilerHostInitialize), &cupti) == 0) return;
    if (cupti.dli_fname == nullptr || realpath(cupti.dli_fname, path) == nullptr) return;
    char *slash = std::strrchr(path, '/');
    if (slash == nullptr) return;
    for (const char *name : names) {
        std::strcpy(slash + 1, name);
        (void)dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
}

/* --- host side: which counters, how evaluated --- */

void drop_host(pb_cupti_range *r) {
    if (r->host == nullptr) return;
    PARAMS(CUpti_Profiler_Host_Deinitialize, end);
    end.pHostObject = r->host;
    (void)cuptiProfilerHostDeinitialize(&end);
    r->host = nullptr;
}

/* A host object that refused a name takes no other one either: it is made anew. */
int configure_set(pb_cupti_range *r, const char *const *set, const char **what) {
    drop_host(r);
    open_perfworks();
    for (int i = 0; i < PB_CUPTI_METRICS; i++) r->metrics[i] = set[i];
    PARAMS(CUpti_Profiler_Host_Initialize, init);
    init.profilerType = CUPTI_PROFILER_TYPE_RANGE_PROFILER;
    init.pChipName = r->chip;
    init.pCounterAvailabilityImage = r->availability.empty() ? nullptr : r->availability.data();
    CALL(cuptiProfilerHostInitialize, init);
    r->host = init.pHostObject;
    PARAMS(CUpti_Profiler_Host_ConfigAddMetrics, add);
    add.pHostObject = r->host;
    add.ppMetricNames = r->metrics;
    add.numMetrics = PB_CUPTI_METRICS;
    CALL(cuptiProfilerHostConfigAddMetrics, add);
    PARAMS(CUpti_Profiler_Host_GetConfigImageSize, size);
    size.pHostObject = r->host;
    CALL(cuptiProfilerHostGetConfigImageSize, size);
    r->config.assign(size.configImageSize, 0);
    PARAMS(CUpti_Profiler_Host_GetConfigImage, image);
    image.pHostObject = r->host;
    image.configImageSize = r->config.size();
    image.pConfigImage = r->config.data();
    CALL(cuptiProfilerHostGetConfigImage, image);
    return 0;
}

/* A name that the chip does not know is an invalid metric name by the header, an invalid parameter in CUPTI 13.0. */
int configure(pb_cupti_range *r, const char **what) {
    int rc = 0;
    for (r->set = 0; pb_cupti_roofline_sets[r->set] != nullptr; r->set++) {
        rc = configure_set(r, pb_cupti_roofline_sets[r->set], what);
        bool name = rc == CUPTI_ERROR_INVALID_METRIC_NAME || rc == CUPTI_ERROR_INVALID_PARAMETER;
        if (!name || r->host == nullptr) break;
    }
    return rc;
}

int count_passes(pb_cupti_range *r, size_t *passes, const char **what) {
    PARAMS(CUpti_Profiler_Host_GetNumOfPasses, count);
    count.configImageSize = r->config.size();
    count.pConfigImage = r->config.data();
    CALL(cuptiProfilerHostGetNumOfPasses, count);
    *passes = count.numOfPasses;
    return 0;
}

/* --- target side: the device --- */

int device_ready(pb_cupti_range *r, CUcontext context, int device, const char **what) {
    open_perfworks();
    PARAMS(CUpti_Profiler_Initialize, init);
    CALL(cuptiProfilerInitialize, init);
    r->initialized = true;
    PARAMS(CUpti_Profiler_DeviceSupported, support);
    support.cuDevice = device;
    support.api = CUPTI_PROFILER_RANGE_PROFILING;
    CALL(cuptiProfilerDeviceSupported, support);
    if (support.isSupported != CUPTI_PROFILER_CONFIGURATION_SUPPORTED) return CUPTI_ERROR_NOT_SUPPORTED;
    PARAMS(CUpti_Device_GetChipName, name);
    name.deviceIndex = (size_t)device;
    CALL(cuptiDeviceGetChipName, name);
    r->chip = name.pChipName;
    PARAMS(CUpti_Profiler_GetCounterAvailability, available);
    available.ctx = context;
    CALL(cuptiProfilerGetCounterAvailability, available);
    r->availability.assign(available.counterAvailabilityImageSize, 0);
    available.pCounterAvailabilityImage = r->availability.data();
    CALL(cuptiProfilerGetCounterAvailability, available);
    return 0;
}

int device_enable(pb_cupti_range *r, CUcontext context, size_t n_ranges, const char **what) {
    PARAMS(CUpti_RangeProfiler_Enable, enable);
    enable.ctx = context;
    CALL(cuptiRangeProfilerEnable, enable);
    r->target = enable.pRangeProfilerObject;
    PARAMS(CUpti_RangeProfiler_GetCounterDataSize, size);
    size.pRangeProfilerObject = r->target;
    size.pMetricNames = r->metrics;
    size.numMetrics = PB_CUPTI_METRICS;
    size.maxNumOfRanges = n_ranges;
    size.maxNumRangeTreeNodes = (uint32_t)n_ranges;
    CALL(cuptiRangeProfilerGetCounterDataSize, size);
    r->data.assign(size.counterDataSize, 0);
    PARAMS(CUpti_RangeProfiler_CounterDataImage_Initialize, image);
    image.pRangeProfilerObject = r->target;
    image.counterDataSize = r->data.size();
    image.pCounterData = r->data.data();
    CALL(cuptiRangeProfilerCounterDataImageInitialize, image);
    PARAMS(CUpti_RangeProfiler_SetConfig, config);
    config.pRangeProfilerObject = r->target;
    config.configSize = r->config.size();
    config.pConfig = r->config.data();
    config.counterDataImageSize = r->data.size();
    config.pCounterDataImage = r->data.data();
    config.range = CUPTI_UserRange;
    config.replayMode = CUPTI_UserReplay;
    config.maxRangesPerPass = n_ranges;
    config.numNestingLevels = 1; /* a range inside a range is never pushed */
    config.minNestingLevel = 1;
    config.passIndex = 0;
    config.targetNestingLevel = 1;
    CALL(cuptiRangeProfilerSetConfig, config);
    return 0;
}

int open_all(pb_cupti_range *r, CUcontext context, int device, size_t n_ranges, const char **what) {
    if (int rc = device_ready(r, context, device, what)) return rc;
    if (int rc = configure(r, what)) return rc;
    return device_enable(r, context, n_ranges, what);
}

}  // namespace

extern "C" int pb_cupti_passes(const char *chip, size_t *passes, size_t *set, const char **what) try {
    pb_cupti_range r;
    r.chip = chip;
    *passes = 0;
    int rc = configure(&r, what);
    if (rc == 0) rc = count_passes(&r, passes, what);
    *set = r.set;
    drop_host(&r);
    return rc;
} catch (const std::bad_alloc &) {
    return CUPTI_ERROR_OUT_OF_MEMORY;
}

extern "C" int pb_cupti_chips(const char **names, size_t cap, size_t *n, const char **what) {
    PARAMS(CUpti_Profiler_Host_GetSupportedChips, chips);
    *n = 0;
    open_perfworks();
    CALL(cuptiProfilerHostGetSupportedChips, chips);
    for (; *n < chips.numChips && *n < cap; ++*n) names[*n] = chips.ppChipNames[*n];
    return 0;
}

extern "C" int pb_cupti_range_open(void *context, int device, size_t n_ranges, pb_cupti_range **out,
                                   const char **what) {
    *out = nullptr;
    *what = "memory for counters";
    auto *r = new (std::nothrow) pb_cupti_range;
    if (r == nullptr || n_ranges > UINT32_MAX) {
        delete r;
        return CUPTI_ERROR_OUT_OF_MEMORY;
    }
    int rc = CUPTI_ERROR_OUT_OF_MEMORY;
    try {
        rc = open_all(r, (CUcontext)context, device, n_ranges, what);
    } catch (const std::bad_alloc &) {
    }
    if (rc != 0) pb_cupti_range_close(r);
    else *out = r;
    return rc;
}

extern "C" int pb_cupti_range_start(pb_cupti_range *r, const char **what) {
    PARAMS(CUpti_RangeProfiler_Start, start);
    start.pRangeProfilerObject = r->target;
    CALL(cuptiRangeProfilerStart, start);
    r->started = true;
    return 0;
}

extern "C" int pb_cupti_range_push(pb_cupti_range *r, const char *name, const char **what) {
    PARAMS(CUpti_RangeProfiler_PushRange, push);
    push.pRangeProfilerObject = r->target;
    push.pRangeName = name;
    CALL(cuptiRangeProfilerPushRange, push);
    return 0;
}

extern "C" int pb_cupti_range_pop(pb_cupti_range *r, const char **what) {
    PARAMS(CUpti_RangeProfiler_PopRange, pop);
    pop.pRangeProfilerObject = r->target;
    CALL(cuptiRangeProfilerPopRange, pop);
    return 0;
}

extern "C" int pb_cupti_range_stop(pb_cupti_range *r, bool *all, const char **what) {
    PARAMS(CUpti_RangeProfiler_Stop, stop);
    stop.pRangeProfilerObject = r->target;
    CALL(cuptiRangeProfilerStop, stop);
    r->started = false;
    *all = stop.isAllPassSubmitted != 0;
    return 0;
}

extern "C" int pb_cupti_range_decode(pb_cupti_range *r, size_t *n, size_t *dropped, const char **what) {
    PARAMS(CUpti_RangeProfiler_DecodeData, decode);
    decode.pRangeProfilerObject = r->target;
    CALL(cuptiRangeProfilerDecodeData, decode);
    *dropped = decode.numOfRangeDropped;
    PARAMS(CUpti_RangeProfiler_GetCounterDataInfo, info);
    info.pCounterDataImage = r->data.data();
    info.counterDataImageSize = r->data.size();
    CALL(cuptiRangeProfilerGetCounterDataInfo, info);
    *n = info.numTotalRanges;
    return 0;
}

extern "C" int pb_cupti_range_value(pb_cupti_range *r, size_t i, const char **name, double *values,
                                    const char **what) {
    PARAMS(CUpti_RangeProfiler_CounterData_GetRangeInfo, info);
    info.pCounterDataImage = r->data.data();
    info.counterDataImageSize = r->data.size();
    info.rangeIndex = i;
    info.rangeDelimiter = "/";
    CALL(cuptiRangeProfilerCounterDataGetRangeInfo, info);
    *name = info.rangeName;
    PARAMS(CUpti_Profiler_Host_EvaluateToGpuValues, evaluate);
    evaluate.pHostObject = r->host;
    evaluate.pCounterDataImage = r->data.data();
    evaluate.counterDataImageSize = r->data.size();
    evaluate.rangeIndex = i;
    evaluate.ppMetricNames = r->metrics;
    evaluate.numMetrics = PB_CUPTI_METRICS;
    evaluate.pMetricValues = values;
    CALL(cuptiProfilerHostEvaluateToGpuValues, evaluate);
    return 0;
}

/* In reverse order; nobody is left to hear of a failure. */
extern "C" void pb_cupti_range_close(pb_cupti_range *r) {
    if (r == nullptr) return;
    if (r->target != nullptr) {
        PARAMS(CUpti_RangeProfiler_Stop, stop);
        stop.pRangeProfilerObject = r->target;
        if (r->started) (void)cuptiRangeProfilerStop(&stop);
        PARAMS(CUpti_RangeProfiler_Disable, disable);
        disable.pRangeProfilerObject = r->target;
        (void)cuptiRangeProfilerDisable(&disable);
    }
    drop_host(r);
    if (r->initialized) {
        PARAMS(CUpti_Profiler_DeInitialize, end);
        (void)cuptiProfilerDeInitialize(&end);
    }
    delete r;
}
