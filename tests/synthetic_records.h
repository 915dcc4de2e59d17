/* Records without training: plausible numbers for tests of records, plots and reports. */
#ifndef PB_TESTS_SYNTHETIC_RECORDS_H
#define PB_TESTS_SYNTHETIC_RECORDS_H

#include "results/record.h"

typedef struct pb_synthetic {
    const char *suite, *method, *label;
    uint64_t seed;
    pb_run_status status;
    double accuracy, nll;   /* about what the run reaches */
    double step_s, peak_mb; /* median step, peak memory */
    int64_t trainable;
    int steps, examples; /* lengths of curves and evaluation; 0 = none */
    bool sparse;         /* only what a record must have */
} pb_synthetic;

/* A record that pb_record_write accepts. The caller frees it. */
pb_status pb_synthetic_record(const pb_synthetic *s, pb_record *out);

/* The eight rows of the quick suite with `seeds` seeds, written under root. */
pb_status pb_synthetic_suite(const char *root, const char *suite, int seeds);

/* One run in every status that is not ok, written under root. */
pb_status pb_synthetic_failures(const char *root, const char *suite);

#endif
