/* Instructions of the program's own code, in the processor's own instruction set, on every x86-64 Linux:
 * the processor traps after each instruction, and the trap's handler counts those of this program's
 * file. What callgrind's CPU has not (AVX-512, AMX) is counted as it runs, where no counter may be
 * read. Code of shared libraries, and what they generate, is executed and not counted: no
 * allocator, no memcpy, no oneDNN. A string instruction counts once a turn. Some 200,000 instructions a second. Test:
 * tests/test_kernel_count.c.
 *
 * The handler of SIGTRAP and its count are the process's, so that one count runs at a time, of the
 * thread that began it. */
#ifndef PB_HARNESS_KERNEL_STEP_H
#define PB_HARNESS_KERNEL_STEP_H

#include "base/status.h"

/* PB_E_ENV where it cannot be done: another processor, under valgrind or a debugger that takes the
 * traps; PB_E_BUG within a count. */
pb_status pb_step_begin(void);
/* Instructions since then, a few of begin and end among them. */
double pb_step_end(void);

#endif
