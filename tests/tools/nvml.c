/* A stand-in for the library of NVIDIA's driver that tells of clocks and power. What it says stands in
 * the file $PB_NVML_SAYS: numbers in the order of `says`, one line a look; the last line stays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN __attribute__((visibility("default")))

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned *n);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **out);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out);
int nvmlDeviceGetClockInfo(void *g, int which, unsigned *mhz);
int nvmlDeviceGetMaxClockInfo(void *g, int which, unsigned *mhz);
int nvmlDeviceGetPowerUsage(void *g, unsigned *mw);
int nvmlDeviceGetEnforcedPowerLimit(void *g, unsigned *mw);
int nvmlDeviceGetTemperature(void *g, int sensor, unsigned *celsius);
int nvmlDeviceGetCurrentClocksThrottleReasons(void *g, unsigned long long *bits);
int nvmlDeviceGetComputeRunningProcesses_v3(void *g, unsigned *n, void *infos);
int nvmlSystemGetDriverVersion(char *text, unsigned cap);
const char *nvmlErrorString(int code);

enum { NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7 };
static struct {
    unsigned gpus, sm, memory, milliwatts, celsius, reasons, processes;
} says;
static FILE *script;
static int gpu;

/* The clock of the multiprocessors begins a look. */
static void next_line(void) {
    char line[256];
    if (script && fgets(line, sizeof line, script))
        sscanf(line, "%u %u %u %u %u %x %u", &says.gpus, &says.sm, &says.memory, &says.milliwatts,
               &says.celsius, &says.reasons, &says.processes);
}

SHOWN int nvmlInit_v2(void) {
    const char *path = getenv("PB_NVML_SAYS");
    script = path ? fopen(path, "r") : NULL;
    if (!script) return NOT_FOUND;
    next_line();
    return 0;
}
SHOWN int nvmlShutdown(void) {
    if (script) fclose(script);
    script = NULL;
    return 0;
}
SHOWN int nvmlDeviceGetCount_v2(unsigned *n) {
    *n = says.gpus;
    return 0;
}
SHOWN int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **out) {
    *out = &gpu;
    return strcmp(bus, "0000:18:00.0") == 0 ? 0 : NOT_FOUND;
}
SHOWN int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    *out = &gpu;
    return index < says.gpus ? 0 : NOT_FOUND;
}
SHOWN int nvmlDeviceGetClockInfo(void *g, int which, unsigned *mhz) {
    if (g != &gpu) return NOT_FOUND;
    if (which == 1) next_line();
    *mhz = which == 1 ? says.sm : says.memory;
    return which == 1 || which == 2 ? 0 : NOT_SUPPORTED;
}
SHOWN int nvmlDeviceGetMaxClockInfo(void *g, int which, unsigned *mhz) {
    *mhz = 1980;
    return g == &gpu && which == 1 ? 0 : NOT_FOUND;
}
SHOWN int nvmlDeviceGetPowerUsage(void *g, unsigned *mw) {
    *mw = says.milliwatts;
    return g == &gpu ? 0 : NOT_FOUND;
}
SHOWN int nvmlDeviceGetEnforcedPowerLimit(void *g, unsigned *mw) {
    *mw = 700000;
    return g == &gpu ? 0 : NOT_FOUND;
}
SHOWN int nvmlDeviceGetTemperature(void *g, int sensor, unsigned *celsius) {
    *celsius = says.celsius;
    return g == &gpu && sensor == 0 ? 0 : NOT_SUPPORTED;
}
SHOWN int nvmlDeviceGetCurrentClocksThrottleReasons(void *g, unsigned long long *bits) {
    *bits = says.reasons;
    return g == &gpu ? 0 : NOT_FOUND;
}
SHOWN int nvmlDeviceGetComputeRunningProcesses_v3(void *g, unsigned *n, void *infos) {
    (void)g;
    *n = says.processes;
    return infos || !says.processes ? 0 : TOO_SMALL;
}
SHOWN int nvmlSystemGetDriverVersion(char *text, unsigned cap) {
    snprintf(text, cap, "580.65.06");
    return 0;
}
SHOWN const char *nvmlErrorString(int code) {
    return code == NOT_FOUND ? "Not Found" : "Other";
}
