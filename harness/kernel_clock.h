/* Cycles of a sample: what tells a kernel that became slower from a clock that did. Test:
 * tests/test_kernel_clock.c.
 *
 *   perf_event  the processor's own counter, of this thread, in user mode: where perf_event_open(2)
 *               gives one and one thread works
 *   chain       seconds x the core's clock, which a chain of dependent multiplications shows right
 *               after the sample: everywhere else on a CPU, virtual machines too
 *   nvml        seconds x the clock of the GPU's multiprocessors, as its driver tells right after
 *               the sample (harness/gpu_state.h)
 *
 * Only ratios matter: a multiplication counts as 3 cycles, which it takes on x86-64 CPUs since 2008
 * and Zen. Where several threads work it is the clock of the one that waits for them. */
#ifndef PB_HARNESS_KERNEL_CLOCK_H
#define PB_HARNESS_KERNEL_CLOCK_H

#include "harness/gpu_state.h"
#include "harness/kernel_counter.h"
#include "harness/machine_state.h"

typedef struct pb_kernel_clock pb_kernel_clock;

/* Of a host's device; threads: that work in a sample. Free with pb_kernel_clock_close. */
pb_status pb_kernel_clock_open_host(int threads, pb_kernel_clock **out);
/* Of a GPU: `watch` must outlive it. */
pb_status pb_kernel_clock_open_gpu(pb_gpu_watch *watch, pb_kernel_clock **out);
/* Any counter, which the clock then owns. */
pb_status pb_kernel_clock_open_counter(pb_counter *counter, pb_kernel_clock **out);
void pb_kernel_clock_close(pb_kernel_clock *c); /* NULL is fine */

/* "perf_event", "chain" or "nvml"; "" of NULL. */
const char *pb_kernel_clock_name(const pb_kernel_clock *c);

/* Around a sample of so many seconds; the cycles of it, NaN when they could not be read or of NULL. */
void pb_kernel_clock_begin(pb_kernel_clock *c);
double pb_kernel_clock_end(pb_kernel_clock *c, double seconds);

/* The core's clock in Hz, as the chain shows it within some 25 us: the best of three, since a turn of
 * somebody else's makes it slower and nothing makes it faster. */
double pb_chain_hz(void);

/* A line with what helps for everything that made times differ between processes that were measured: a
 * clock that moved, in MHz (NaN: not read; a GPU that was looked at tells its own), the GPU, the machine
 * (or NULL), of which no other process is named. */
void pb_kernel_noise(double mhz_least, double mhz_most, const pb_gpu_report *gpu,
                     const pb_machine_report *machine, pb_text *lines);

#endif
