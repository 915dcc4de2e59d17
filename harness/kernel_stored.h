/* Two saved runs compared: the weaker mode, for when A's binary is gone. Its verdicts are SAME,
 * SUSPECT and UNCLEAR, INCOMPARABLE where machine or anchors moved, WRONG; never REGRESSED. Test:
 * tests/test_kernel_stored.c. */
#ifndef PB_HARNESS_KERNEL_STORED_H
#define PB_HARNESS_KERNEL_STORED_H

#include "harness/kernel_compare.h"
#include "harness/kernel_saved.h"

typedef struct pb_stored_notes {
    double anchors[PB_SAVED_ANCHORS]; /* B / A; NaN where a side lacks it */
} pb_stored_notes;

/* The copy and the library's product, in each dtype that the runs have kernels of, must be within 2
 * % of each other; a product that the library has in neither run is left out, and another dtype's takes its
 * place. Fewer than 60 samples in a process for want of a budget, or of a word about it, are UNCLEAR at
 * best. With another processor or another number of cores or threads nothing is
 * compared, nor a kernel that a run did not check. Numbers of processes may differ; one a side
 * decides nothing. PB_E_INPUT when a run has no kernels in common with the other. Free with
 * pb_comparison_of_builds_free. */
pb_status pb_compare_stored(const pb_saved_run *a, const pb_saved_run *b,
                            pb_comparison_of_builds *out, pb_stored_notes *notes);

#endif
