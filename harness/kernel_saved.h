/* What `peftbench kernels run` measured, read back from its JSON: the one form that tables, plots,
 * histories and comparisons of stored numbers are made from. Test: tests/test_kernel_stored.c. */
#ifndef PB_HARNESS_KERNEL_SAVED_H
#define PB_HARNESS_KERNEL_SAVED_H

#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "harness/gpu_state.h"
#include "reports/gate.h"

#define PB_KERNELS_SCHEMA "peftbench-kernels-2"
#define PB_SAVED_ANCHORS 3 /* copy, product in f32, product in bf16 */
#define PB_CYCLES_MIXED "mixed" /* processes that read cycles in different ways: none to compare */

typedef enum pb_saved_roof { PB_ROOF_COPY, PB_ROOF_PRODUCT, PB_ROOF_VECTOR } pb_saved_roof;

typedef struct pb_saved_times {
    double medians[PB_GATE_PROCESSES]; /* seconds, one a process; NaN where the process has none */
    int n;
    int64_t fewest; /* samples of a process; 0 without any */
    double total;   /* of all samples together */
    double median;  /* of the medians; NaN without any */
    double least;   /* of all samples; NaN without any */
} pb_saved_times;

typedef struct pb_saved_kernel {
    char name[160], op[32], shape[64], dtype[8], variant[64];
    char sha256[PB_SHA256_HEX], why[160]; /* why: of wrong */
    bool wrong, checked;
    double worst; /* error over what is allowed, of the process that checked; NaN when none did */
    double flops, flops_else, bytes;
    pb_saved_times time;
    pb_saved_times cycles; /* of the same samples; n = 0 where a process did not read them */
    double p10, p90; /* over the samples of all processes, seconds */
    double least;    /* seconds at the roof that binds; NaN when no roof is known */
    double share;    /* least / median */
    pb_saved_roof roof; /* that binds */
} pb_saved_kernel;

typedef struct pb_saved_run {
    pb_saved_kernel *kernels;
    int n, processes;
    pb_saved_times anchors[PB_SAVED_ANCHORS];
    double bytes_per_s, flops_per_s[2], ops_per_s; /* roofs; 0 = not measured, or there is none */
    double cache_bytes;                 /* of the last level */
    char cycles_by[16];                 /* "perf_event", "chain", "nvml", PB_CYCLES_MIXED; "" = not read */
    char binary[PB_SHA256_HEX], time_utc[32];
    char backend[PB_SHA256_HEX];        /* of the CUDA backend beside the program; "" on other devices */
    double limit_s; /* that a process could spend on a kernel's samples; 0 = not told */
    const pb_json *environment; /* within the tree that was read, as the next */
    const pb_json *advice;      /* lines of noise as they were saved; NULL where the program did not save them */
    double mhz_least, mhz_most; /* of the clock while kernels ran: of all processes' medians; NaN where
                                   cycles were not read or are those of one thread alone */
    pb_gpu_report gpu;          /* of all kernels and processes; no looks on a CPU */
} pb_saved_run;

/* Reads a run's tree, which must outlive *out: medians and percentiles are derived from the samples
 * again. `where` names it in messages. PB_E_INPUT for what is no such run. Free with
 * pb_saved_run_free. */
pb_status pb_saved_run_read(const pb_json *root, const char *where, pb_saved_run *out);
void pb_saved_run_free(pb_saved_run *run);

/* Adds the samples, the output's hash and the anchors of one more process to `root`. PB_E_INPUT when
 * it measured something else, PB_E_ENV when it was another program; a kernel whose output differs becomes
 * wrong; cycles that it read in another way become PB_CYCLES_MIXED. */
pb_status pb_saved_run_join(pb_json *root, const pb_json *process, const char *where);

/* The roof that binds: "copy", "product" or "vector". */
const char *pb_roof_name(const pb_saved_kernel *k);
const char *pb_anchor_name(int anchor); /* "copy", "gemm f32", "gemm bf16" */

/* Differences of two environments, one line each ("machine/cpu: X, Y"): processor, cores, memory,
 * caches, system, compiler, flags, libraries, variables, threads; not the revision, which may
 * differ. *other_machine: why times of both cannot be compared at all, "" when they can. */
pb_status pb_environment_differences(const pb_json *a, const pb_json *b, pb_text *lines,
                                     char other_machine[192]);

#endif
