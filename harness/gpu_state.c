/* Watching a GPU by NVML: harness/gpu_state.h. The words are in gpu_advice.c. */
#include "harness/gpu_state.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libnvidia-ml.so.1"
/* As NVML numbers them. */
enum { DONE = 0, INSUFFICIENT_SIZE = 7 };
enum { CLOCK_SM = 1, CLOCK_MEMORY = 2 };

typedef struct nvml_device *gpu;
/* What is used of the library; what an old driver lacks stays NULL and is not told. */
typedef struct calls {
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *n);
    int (*by_bus)(const char *bus, gpu *out);
    int (*by_index)(unsigned index, gpu *out);
    int (*clock)(gpu g, int which, unsigned *mhz);
    int (*most_clock)(gpu g, int which, unsigned *mhz);
    int (*power)(gpu g, unsigned *mw);
    int (*power_limit)(gpu g, unsigned *mw);
    int (*temperature)(gpu g, int sensor, unsigned *celsius);
    int (*reasons)(gpu g, unsigned long long *bits);
    int (*processes)(gpu g, unsigned *n, void *infos);
    int (*driver)(char *text, unsigned cap);
    const char *(*error)(int code);
} calls;

struct pb_gpu_watch {
    void *object;
    calls nvml;
    gpu device;
    bool begun; /* init was called */
    char driver[32];
    pb_gpu_report report;
};

static const struct {
    const char *name;
    size_t at;
    bool needed;
} names[] = {{"nvmlInit_v2", offsetof(calls, init), true},
             {"nvmlShutdown", offsetof(calls, shutdown), true},
             {"nvmlDeviceGetCount_v2", offsetof(calls, count), true},
             {"nvmlDeviceGetHandleByPciBusId_v2", offsetof(calls, by_bus), true},
             {"nvmlDeviceGetHandleByIndex_v2", offsetof(calls, by_index), true},
             {"nvmlErrorString", offsetof(calls, error), true},
             {"nvmlDeviceGetClockInfo", offsetof(calls, clock), false},
             {"nvmlDeviceGetMaxClockInfo", offsetof(calls, most_clock), false},
             {"nvmlDeviceGetPowerUsage", offsetof(calls, power), false},
             {"nvmlDeviceGetEnforcedPowerLimit", offsetof(calls, power_limit), false},
             {"nvmlDeviceGetTemperature", offsetof(calls, temperature), false},
             {"nvmlDeviceGetCurrentClocksThrottleReasons", offsetof(calls, reasons), false},
             {"nvmlDeviceGetComputeRunningProcesses_v3", offsetof(calls, processes), false},
             {"nvmlSystemGetDriverVersion", offsetof(calls, driver), false}};

pb_gpu_report pb_gpu_report_none(void) {
    return (pb_gpu_report){.sm_mhz_least = NAN,
                           .sm_mhz_most = NAN,
                           .sm_mhz_limit = NAN,
                           .memory_mhz_least = NAN,
                           .memory_mhz_most = NAN,
                           .watts_most = NAN,
                           .watts_limit = NAN,
                           .celsius_most = NAN,
                           .processes_most = -1};
}

static pb_status load(pb_gpu_watch *w, const char *library) {
    w->object = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!w->object) {
        const char *why = dlerror();
        return PB_ERROR(PB_E_ENV, "the GPU's clocks are not read: %s", why ? why : library);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *symbol = dlsym(w->object, names[i].name);
        if (!symbol && names[i].needed)
            return PB_ERROR(PB_E_ENV, "%s has no %s: the GPU's clocks are not read", library,
                            names[i].name);
        memcpy((char *)&w->nvml + names[i].at, &symbol, sizeof symbol);
    }
    return PB_OK;
}

static pb_status checked(const pb_gpu_watch *w, int code, const char *what) {
    if (code == DONE) return PB_OK;
    const char *why = w->nvml.error(code);
    return PB_ERROR(PB_E_ENV, "NVML: %s: %s", what, why ? why : "?");
}

static pb_status find_gpu(pb_gpu_watch *w, const char *bus) {
    unsigned n = 0;
    if (*bus) return checked(w, w->nvml.by_bus(bus, &w->device), bus);
    PB_RETURN(checked(w, w->nvml.count(&n), "number of GPUs"));
    if (n != 1)
        return PB_ERROR(PB_E_ENV, "NVML knows %u GPUs: which one it is cannot be told without its bus",
                        n);
    return checked(w, w->nvml.by_index(0, &w->device), "GPU 0");
}

pb_status pb_gpu_watch_open(const char *library, const char *bus, pb_gpu_watch **out) {
    pb_status status = PB_OK;
    pb_gpu_watch *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return PB_ERROR(PB_E_OOM, "no memory to watch a GPU");
    if (!library) library = getenv("PB_NVML");
    if (!library || !*library) library = LIBRARY;
    PB_TRY(load(w, library));
    PB_TRY(checked(w, w->nvml.init(), "init"));
    w->begun = true;
    PB_TRY(find_gpu(w, bus));
    if (!w->nvml.driver || w->nvml.driver(w->driver, sizeof w->driver) != DONE) *w->driver = 0;
    (void)pb_gpu_watch_report(w);
    *out = w;
    w = NULL;
done:
    pb_gpu_watch_close(w);
    return status;
}

void pb_gpu_watch_close(pb_gpu_watch *w) {
    if (!w) return;
    if (w->begun) (void)w->nvml.shutdown();
    if (w->object) (void)dlclose(w->object);
    free(w);
}

/* ---- looks ---- */

static double clock_of(const pb_gpu_watch *w, int (*ask)(gpu, int, unsigned *), int which) {
    unsigned value = 0;
    return ask && ask(w->device, which, &value) == DONE ? (double)value : (double)NAN;
}

static double number_of(const pb_gpu_watch *w, int (*ask)(gpu, unsigned *)) {
    unsigned value = 0;
    return ask && ask(w->device, &value) == DONE ? (double)value : (double)NAN;
}

/* fmin and fmax leave NaN out. */
static void widen(double v, double *least, double *most) {
    *least = fmin(*least, v);
    *most = fmax(*most, v);
}

double pb_gpu_watch_clock_hz(pb_gpu_watch *w) {
    double mhz = clock_of(w, w->nvml.clock, CLOCK_SM);
    widen(mhz, &w->report.sm_mhz_least, &w->report.sm_mhz_most);
    return mhz * 1e6;
}

void pb_gpu_watch_look(pb_gpu_watch *w) {
    pb_gpu_report *r = &w->report;
    unsigned long long bits = 0;
    unsigned n = 0;
    r->looks++;
    (void)pb_gpu_watch_clock_hz(w);
    widen(clock_of(w, w->nvml.clock, CLOCK_MEMORY), &r->memory_mhz_least, &r->memory_mhz_most);
    r->watts_most = fmax(r->watts_most, number_of(w, w->nvml.power) / 1000);
    r->watts_limit = number_of(w, w->nvml.power_limit) / 1000;
    r->sm_mhz_limit = clock_of(w, w->nvml.most_clock, CLOCK_SM);
    r->celsius_most = fmax(r->celsius_most, clock_of(w, w->nvml.temperature, 0));
    if (w->nvml.reasons && w->nvml.reasons(w->device, &bits) == DONE) r->reasons |= bits;
    if (!w->nvml.processes) return;
    int code = w->nvml.processes(w->device, &n, NULL);
    if ((code == DONE || code == INSUFFICIENT_SIZE) && (int64_t)n > r->processes_most)
        r->processes_most = n;
}

pb_gpu_report pb_gpu_watch_report(pb_gpu_watch *w) {
    pb_gpu_report seen = w->report;
    w->report = pb_gpu_report_none();
    pb_copy(w->report.driver, sizeof w->report.driver, w->driver);
    return seen;
}
