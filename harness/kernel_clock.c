/* Cycles of samples: harness/kernel_clock.h. */
#include "harness/kernel_clock.h"

#include <linux/perf_event.h>
#include <math.h>
#include <stdlib.h>

#include "harness/machine_state.h"

#define LINKS 2667 /* of the chain: some 8000 cycles, so that reading the time is 1 % of it */
#define LINK_CYCLES 3
#define TRIES 3

struct pb_kernel_clock {
    const char *name;
    pb_counter *counter; /* perf_event; else NULL */
    pb_gpu_watch *gpu;   /* nvml; else NULL */
    bool counting;
};

double pb_chain_hz(void) {
    double best = 0;
    uint64_t x = 3;
    for (int i = 0; i < TRIES; i++) {
        int64_t from = pb_now_ns();
        for (int k = 0; k < LINKS; k++) {
            x *= x;
            __asm__ volatile("" : "+r"(x)); /* each waits for the one before */
        }
        double ns = (double)(pb_now_ns() - from);
        if (ns > 0) best = fmax(best, LINKS * LINK_CYCLES / ns * 1e9);
    }
    return best;
}

static pb_status make(const char *name, pb_counter *counter, pb_gpu_watch *gpu,
                      pb_kernel_clock **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) return PB_ERROR(PB_E_OOM, "no memory for a clock");
    **out = (pb_kernel_clock){.name = name, .counter = counter, .gpu = gpu};
    return PB_OK;
}

pb_status pb_kernel_clock_open_counter(pb_counter *counter, pb_kernel_clock **out) {
    return make("perf_event", counter, NULL, out);
}

pb_status pb_kernel_clock_open_gpu(pb_gpu_watch *watch, pb_kernel_clock **out) {
    return make("nvml", NULL, watch, out);
}

pb_status pb_kernel_clock_open_host(int threads, pb_kernel_clock **out) {
    pb_counter *counter = NULL;
    double cycles = 0;
    bool ready = threads == 1 &&
                 pb_counter_open_event(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, &counter) == PB_OK;
    /* One that others use, or that stands still, is none. */
    if (ready) ready = pb_counter_start(counter) == PB_OK && pb_chain_hz() > 0 &&
                       pb_counter_stop(counter, &cycles) == PB_OK && cycles > 0;
    pb_error_clear();
    pb_status status = make(ready ? "perf_event" : "chain", ready ? counter : NULL, NULL, out);
    if (!ready || status != PB_OK) pb_counter_close(counter);
    return status;
}

void pb_kernel_clock_close(pb_kernel_clock *c) {
    if (c) pb_counter_close(c->counter);
    free(c);
}

const char *pb_kernel_clock_name(const pb_kernel_clock *c) { return c ? c->name : ""; }

void pb_kernel_clock_begin(pb_kernel_clock *c) {
    if (!c || !c->counter) return;
    c->counting = pb_counter_start(c->counter) == PB_OK;
    if (!c->counting) pb_error_clear();
}

double pb_kernel_clock_end(pb_kernel_clock *c, double seconds) {
    double cycles = NAN;
    if (!c) return NAN;
    if (c->gpu) return seconds * pb_gpu_watch_clock_hz(c->gpu);
    if (!c->counter) return seconds * pb_chain_hz();
    if (!c->counting) return NAN;
    if (pb_counter_stop(c->counter, &cycles) != PB_OK) {
        pb_error_clear();
        return NAN;
    }
    return cycles;
}

void pb_kernel_noise(double mhz_least, double mhz_most, const pb_gpu_report *gpu,
                     const pb_machine_report *machine, pb_text *lines) {
    if (gpu->looks == 0 && mhz_most > PB_NOISY_CLOCK * mhz_least)
        pb_text_add(lines,
                    "the clock moved by %.0f %%: see to governor, boost and temperature; what is slower by "
                    "as much is CLOCK\n",
                    100 * (mhz_most / mhz_least - 1));
    pb_gpu_advice(gpu, lines);
    if (!machine) return;
    pb_machine_report nameless = *machine; /* others read this */
    *nameless.busiest = 0;
    pb_machine_advice(&nameless, lines);
}
