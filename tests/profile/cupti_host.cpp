/* CUPTI's range profiler without a GPU: keeps the order of calls that its headers ask for, and gives every pushed range known
 * values. In the place of libcupti, and of the driver that the plug-in asks for a context. */
#include "tests/profile/cupti_host.h"

#include <cupti_profiler_host.h>
#include <cupti_profiler_target.h>
#include <cupti_range_profiler.h>
#include <cupti_target.h>
#include <cupti_version.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/status.h"

struct CUpti_Profiler_Host_Object {
    bool configured = false;
};
struct CUpti_RangeProfiler_Object {
    size_t max_ranges = 0;
    bool configured = false;
};

namespace {

struct state {
    uint64_t calls = 0, fail_at = 0;
    int fail_code = 0;
    bool failed = false, supported = true, initialized = false, started = false, open_range = false, decoded = false;
    int64_t objects = 0;
    int passes = 1, passes_done = 0, drop = 0, renamed = -1, spoiled = -1;
    double spoil = 0.0;
    std::string misuse, chip = "GH100", other_name;
    std::vector<std::string> ranges; /* of this pass */
    uint8_t *image = nullptr;
} now;

/* Every call: counted, failed on request, its struct's size set and its private field left alone. */
template <typename P>
CUptiResult begin(const P *p, size_t size, const char *name) {
    now.calls++;
    if (p->structSize != size || p->pPriv != nullptr) now.misuse += std::string(name) + ": size; ";
    if (now.fail_at == 0 || --now.fail_at > 0) return CUPTI_SUCCESS;
    now.failed = true;
    return (CUptiResult)now.fail_code;
}

CUptiResult need(bool good, const char *what) {
    if (good) return CUPTI_SUCCESS;
    if (now.misuse.empty()) now.misuse = what;
    return CUPTI_ERROR_INVALID_OPERATION;
}

}  // namespace

#define BEGIN(type)                                                                     \
    if (CUptiResult rc = begin(p, type##_Params_STRUCT_SIZE, #type)) return rc
#define NEED(condition, what)                                \
    if (CUptiResult rc = need((condition), (what))) return rc

extern "C" {

/* --- for the tests --- */

void pb_cupti_host_reset(void) { now = state(); }
uint64_t pb_cupti_host_calls(void) { return now.calls; }
void pb_cupti_host_fail_at(uint64_t n, int code) {
    now.fail_at = n;
    now.fail_code = code;
    now.failed = false;
}
bool pb_cupti_host_failed(void) { return now.failed; }
int pb_cupti_host_call(void) {
    now.calls++;
    if (now.fail_at == 0 || --now.fail_at > 0) return 0;
    now.failed = true;
    return now.fail_code;
}
int64_t pb_cupti_host_live(void) { return now.objects + now.initialized + now.started; }
const char *pb_cupti_host_misuse(void) { return now.misuse.c_str(); }
void pb_cupti_host_passes(int n) { now.passes = n; }
void pb_cupti_host_drop(int n) { now.drop = n; }
void pb_cupti_host_chip(const char *name) { now.chip = name; }
void pb_cupti_host_supported(bool yes) { now.supported = yes; }
void pb_cupti_host_rename(int range, const char *name) {
    now.renamed = range;
    now.other_name = name;
}
void pb_cupti_host_spoil(int range, double value) {
    now.spoiled = range;
    now.spoil = value;
}
double pb_cupti_host_value(int64_t at, int m) { return (double)(at + 1) * (m + 1); }

/* --- the driver (in the place of driver.c) --- */

pb_status pb_cupti_current(void **context, int *device) {
    static int any;
    *context = &any;
    *device = 0;
    return PB_OK;
}
bool pb_cupti_device_memory(uint64_t *used, uint64_t *capacity) {
    *used = *capacity = 0;
    return false;
}

/* --- CUPTI --- */

CUptiResult cuptiGetVersion(uint32_t *version) {
    *version = CUPTI_API_VERSION;
    return (CUptiResult)pb_cupti_host_call();
}
CUptiResult cuptiGetResultString(CUptiResult result, const char **str) {
    static char text[64];
    std::snprintf(text, sizeof text, "CUPTI_RESULT_%d", (int)result);
    *str = text;
    return CUPTI_SUCCESS;
}

CUptiResult cuptiProfilerInitialize(CUpti_Profiler_Initialize_Params *p) {
    BEGIN(CUpti_Profiler_Initialize);
    now.initialized = true;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerDeInitialize(CUpti_Profiler_DeInitialize_Params *p) {
    BEGIN(CUpti_Profiler_DeInitialize);
    now.initialized = false;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerDeviceSupported(CUpti_Profiler_DeviceSupported_Params *p) {
    BEGIN(CUpti_Profiler_DeviceSupported);
    NEED(now.initialized && p->api == CUPTI_PROFILER_RANGE_PROFILING, "DeviceSupported");
    p->isSupported = now.supported ? CUPTI_PROFILER_CONFIGURATION_SUPPORTED : CUPTI_PROFILER_CONFIGURATION_DISABLED;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiDeviceGetChipName(CUpti_Device_GetChipName_Params *p) {
    BEGIN(CUpti_Device_GetChipName);
    p->pChipName = now.chip.c_str();
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerGetCounterAvailability(CUpti_Profiler_GetCounterAvailability_Params *p) {
    BEGIN(CUpti_Profiler_GetCounterAvailability);
    NEED(now.initialized && p->ctx != nullptr, "GetCounterAvailability");
    if (p->pCounterAvailabilityImage == nullptr) {
        p->counterAvailabilityImageSize = 96;
        return CUPTI_SUCCESS;
    }
    NEED(p->counterAvailabilityImageSize == 96, "GetCounterAvailability: size");
    std::memset(p->pCounterAvailabilityImage, 0xA5, 96);
    return CUPTI_SUCCESS;
}

CUptiResult cuptiProfilerHostInitialize(CUpti_Profiler_Host_Initialize_Params *p) {
    BEGIN(CUpti_Profiler_Host_Initialize);
    NEED(p->profilerType == CUPTI_PROFILER_TYPE_RANGE_PROFILER && now.chip == p->pChipName &&
             p->pCounterAvailabilityImage != nullptr && p->pCounterAvailabilityImage[95] == 0xA5,
         "HostInitialize");
    p->pHostObject = new CUpti_Profiler_Host_Object;
    now.objects++;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostDeinitialize(CUpti_Profiler_Host_Deinitialize_Params *p) {
    CUptiResult rc = begin(p, CUpti_Profiler_Host_Deinitialize_Params_STRUCT_SIZE, "HostDeinitialize");
    delete p->pHostObject; /* gone also when it fails */
    now.objects--;
    return rc;
}
CUptiResult cuptiProfilerHostConfigAddMetrics(CUpti_Profiler_Host_ConfigAddMetrics_Params *p) {
    BEGIN(CUpti_Profiler_Host_ConfigAddMetrics);
    bool op_names = now.chip == "GB202";
    for (size_t i = 0; i < p->numMetrics; i++) {
        bool op_name = std::strstr(p->ppMetricNames[i], "_op_") != nullptr;
        bool dram = std::strncmp(p->ppMetricNames[i], "dram__", 6) == 0;
        if (dram && op_name != op_names) return CUPTI_ERROR_INVALID_PARAMETER; /* as 13.0 does */
    }
    p->pHostObject->configured = true;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostGetConfigImageSize(CUpti_Profiler_Host_GetConfigImageSize_Params *p) {
    BEGIN(CUpti_Profiler_Host_GetConfigImageSize);
    NEED(p->pHostObject->configured, "GetConfigImageSize");
    p->configImageSize = 64;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostGetConfigImage(CUpti_Profiler_Host_GetConfigImage_Params *p) {
    BEGIN(CUpti_Profiler_Host_GetConfigImage);
    NEED(p->pHostObject->configured && p->configImageSize == 64, "GetConfigImage");
    std::memset(p->pConfigImage, 0x5A, 64);
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostGetNumOfPasses(CUpti_Profiler_Host_GetNumOfPasses_Params *p) {
    BEGIN(CUpti_Profiler_Host_GetNumOfPasses);
    p->numOfPasses = (size_t)now.passes;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostGetSupportedChips(CUpti_Profiler_Host_GetSupportedChips_Params *p) {
    BEGIN(CUpti_Profiler_Host_GetSupportedChips);
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostEvaluateToGpuValues(CUpti_Profiler_Host_EvaluateToGpuValues_Params *p) {
    BEGIN(CUpti_Profiler_Host_EvaluateToGpuValues);
    NEED(now.decoded && p->pCounterDataImage == now.image && p->rangeIndex < now.ranges.size() &&
             p->numMetrics == 7 && p->pHostObject->configured,
         "EvaluateToGpuValues");
    int64_t at = std::stoll(now.ranges[p->rangeIndex]);
    for (int m = 0; m < 7; m++) p->pMetricValues[m] = pb_cupti_host_value(at, m);
    if ((int)p->rangeIndex == now.spoiled) p->pMetricValues[0] = now.spoil;
    return CUPTI_SUCCESS;
}

CUptiResult cuptiRangeProfilerEnable(CUpti_RangeProfiler_Enable_Params *p) {
    BEGIN(CUpti_RangeProfiler_Enable);
    NEED(now.initialized && p->ctx != nullptr, "Enable");
    p->pRangeProfilerObject = new CUpti_RangeProfiler_Object;
    now.objects++;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerDisable(CUpti_RangeProfiler_Disable_Params *p) {
    NEED(!now.started, "Disable while started");
    CUptiResult rc = begin(p, CUpti_RangeProfiler_Disable_Params_STRUCT_SIZE, "Disable");
    delete p->pRangeProfilerObject; /* gone also when it fails */
    now.objects--;
    return rc;
}
CUptiResult cuptiRangeProfilerGetCounterDataSize(CUpti_RangeProfiler_GetCounterDataSize_Params *p) {
    BEGIN(CUpti_RangeProfiler_GetCounterDataSize);
    NEED(p->numMetrics == 7 && p->maxNumOfRanges > 0 && p->maxNumRangeTreeNodes >= p->maxNumOfRanges,
         "GetCounterDataSize");
    p->pRangeProfilerObject->max_ranges = p->maxNumOfRanges;
    p->counterDataSize = 128 + 64 * p->maxNumOfRanges;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerCounterDataImageInitialize(CUpti_RangeProfiler_CounterDataImage_Initialize_Params *p) {
    BEGIN(CUpti_RangeProfiler_CounterDataImage_Initialize);
    NEED(p->counterDataSize == 128 + 64 * p->pRangeProfilerObject->max_ranges, "CounterDataImageInitialize");
    std::memset(p->pCounterData, 1, p->counterDataSize);
    now.image = p->pCounterData;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerSetConfig(CUpti_RangeProfiler_SetConfig_Params *p) {
    BEGIN(CUpti_RangeProfiler_SetConfig);
    NEED(p->configSize == 64 && p->pConfig[63] == 0x5A && p->pCounterDataImage == now.image &&
             p->range == CUPTI_UserRange && p->replayMode == CUPTI_UserReplay && p->numNestingLevels == 1 &&
             p->minNestingLevel == 1 && p->passIndex == 0 && p->maxRangesPerPass == p->pRangeProfilerObject->max_ranges,
         "SetConfig");
    p->pRangeProfilerObject->configured = true;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerStart(CUpti_RangeProfiler_Start_Params *p) {
    BEGIN(CUpti_RangeProfiler_Start);
    NEED(p->pRangeProfilerObject->configured && !now.started && now.passes_done < now.passes, "Start");
    now.started = true;
    now.ranges.clear();
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerStop(CUpti_RangeProfiler_Stop_Params *p) {
    BEGIN(CUpti_RangeProfiler_Stop);
    NEED(now.started, "Stop");
    now.started = now.open_range = false;
    now.passes_done++;
    p->isAllPassSubmitted = now.passes_done == now.passes;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerPushRange(CUpti_RangeProfiler_PushRange_Params *p) {
    BEGIN(CUpti_RangeProfiler_PushRange);
    NEED(now.started && !now.open_range && now.ranges.size() < p->pRangeProfilerObject->max_ranges, "PushRange");
    now.open_range = true;
    now.ranges.push_back(p->pRangeName);
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerPopRange(CUpti_RangeProfiler_PopRange_Params *p) {
    BEGIN(CUpti_RangeProfiler_PopRange);
    NEED(now.open_range, "PopRange");
    now.open_range = false;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerDecodeData(CUpti_RangeProfiler_DecodeData_Params *p) {
    BEGIN(CUpti_RangeProfiler_DecodeData);
    NEED(!now.started && now.passes_done == now.passes, "DecodeData");
    now.decoded = true;
    p->numOfRangeDropped = (size_t)now.drop;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerGetCounterDataInfo(CUpti_RangeProfiler_GetCounterDataInfo_Params *p) {
    BEGIN(CUpti_RangeProfiler_GetCounterDataInfo);
    NEED(now.decoded && p->pCounterDataImage == now.image, "GetCounterDataInfo");
    p->numTotalRanges = now.ranges.size() - (size_t)now.drop;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerCounterDataGetRangeInfo(CUpti_RangeProfiler_CounterData_GetRangeInfo_Params *p) {
    BEGIN(CUpti_RangeProfiler_CounterData_GetRangeInfo);
    NEED(now.decoded && p->rangeIndex < now.ranges.size() && p->rangeDelimiter != nullptr, "GetRangeInfo");
    bool other = (int)p->rangeIndex == now.renamed;
    p->rangeName = other ? now.other_name.c_str() : now.ranges[p->rangeIndex].c_str();
    return CUPTI_SUCCESS;
}

}  // extern "C"
