/* The second gauge of kernels: how many instructions one call of an op executes. Time cannot decide
 * on a shared machine; instructions repeat there to a few parts in a million, so that a CI job can
 * compare them with a committed file. What `peftbench kernels count` and `baseline` print. Test:
 * tests/test_kernel_count.c.
 *
 * The cases are those of harness/kernel_measure.h, on the cpu device with one thread. Every case
 * starts from the same bytes, whichever others are counted: the op runs once uncounted (products
 * are compiled then), what it wrote is put back, and the next call is counted.
 *
 * The processor counts where perf_event_open(2) lets it, in its own instruction set. Callgrind
 * counts everywhere: the program runs itself under it. Its CPU has no AVX-512, so the AVX2 forms of
 * the kernels are what is counted, on every machine that has AVX2. Step by step
 * (harness/kernel_step.h) our own kernels are counted in the machine's own instruction set, slowly. */
#ifndef PB_HARNESS_KERNEL_COUNT_H
#define PB_HARNESS_KERNEL_COUNT_H

#include "harness/kernel_counter.h"
#include "harness/kernel_measure.h"
#include "reports/gate.h"

/* Everything but our own code that a count depends on. */
typedef struct pb_count_setup {
    char gauge[64];       /* "callgrind-3.19.0", "perf_event", "step" */
    char isa[32];         /* that own kernels were counted in: "avx2" */
    char compiler[64];    /* "GNU 12.2.0" */
    char flags[192];      /* "Release -O3 -g" */
    char libc[32];        /* "glibc 2.36": its memcpy is counted too */
    char library[64];     /* of the products: "oneDNN 2.6.3" */
    char library_isa[32]; /* as it calls it */
} pb_count_setup;

/* Which cases: those of a model's layer. */
typedef struct pb_count_table {
    char model[256]; /* "shape:minilm" or a folder */
    int64_t rows;
    bool f32, bf16;
} pb_count_table;

typedef struct pb_count {
    char name[160];   /* as in pb_kernel_case */
    char variant[64]; /* the forms that its op chooses from */
    double instructions;
} pb_count;
/* May it be the library's kernel ("onednn", "tiles or onednn")? Then the library's version matters, and
 * STEP, which does not see what the library executes, leaves it out. */
bool pb_count_of_library(const pb_count *c);

/* Zero-initialise; free with pb_counts_free. */
typedef struct pb_counts {
    pb_count_table table;
    pb_count_setup setup;
    pb_count *items;
    int n;
} pb_counts;
void pb_counts_free(pb_counts *counts);

/* Counts every case of the table whose name holds `filter` (NULL = all) in this process: PERF, STEP
 * (without the library's kernels), or CALLGRIND inside it. PB_E_INPUT when there is none. */
pb_status pb_counts_take(const pb_count_table *table, const char *filter, pb_gauge gauge,
                         pb_counts *out);
/* The same, in a process of this program under callgrind. PB_E_ENV without valgrind or when that
 * process fails. */
pb_status pb_counts_take_under_callgrind(const pb_count_table *table, const char *filter,
                                         pb_counts *out);

/* Files: "peftbench-kernel-instructions-1". */
pb_status pb_counts_write(const char *path, const pb_counts *counts);
pb_status pb_counts_read(const char *path, pb_counts *out);

/* ---- against a baseline ---- */

/* Differences that are no work of a kernel: a check of an argument more on the way to it. Matters
 * for the smallest kernels only, which execute some 1000. */
#define PB_COUNT_SLACK 64

typedef struct pb_count_change {
    char name[160];
    double then, now;  /* 0 = not counted on this side */
    bool decides;      /* takes part in the exit status */
    pb_gate_result result;
} pb_count_change;

typedef struct pb_count_changes {
    char incomparable[320]; /* what of the setups differs, "" when nothing that matters */
    pb_count_change *items;
    int n, missing, added; /* cases on one side only: the baseline is of another table */
} pb_count_changes;

/* Cases outside `filter` are left out. Own kernels are comparable when gauge, isa, compiler, flags
 * and libc are the same; those of the library when its version and isa are too: otherwise they are
 * shown and do not decide. */
pb_status pb_counts_compare(const pb_counts *then, const pb_counts *now, const char *filter,
                            pb_count_changes *out);
void pb_count_changes_free(pb_count_changes *changes);
/* As pb_gate_exit; 1 when a case is on one side only and there is no worse news. */
int pb_count_changes_exit(const pb_count_changes *changes);

#endif
