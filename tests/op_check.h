/* Running op cases on devices and comparing them with the reference: shared by the tests of every backend. */
#ifndef PB_TESTS_OP_CHECK_H
#define PB_TESTS_OP_CHECK_H

#include "tests/op_cases.h"

typedef struct op_result {
    unsigned char *raw[OP_SLOTS];
    pb_status status;
} op_result;

/* Binds, runs, fetches and checks that nothing else was written. Memory goes back to the arena. */
void op_execute(op_instance *t, pb_device *dev, op_result *r);
void op_result_free(op_result *r);

typedef struct op_tally {
    int ran, unsupported;
    double worst; /* fraction of the tolerance */
    char worst_case[128];
} op_tally;

#define OP_DEVICES 4

/* One case on `n` devices, at most OP_DEVICES: the first within the tolerance of the reference, the others with its bits.
 * before (optional) is called with the number of the device that is next. */
void op_compare_case(const op_case *def, pb_dtype dtype, pb_device *ref, pb_device **devs, int n,
                     void (*before)(int device), op_tally *sum);
/* f64 is the reference's own dtype. */
bool op_is_compared(const op_case *def, int dtype);

#endif
