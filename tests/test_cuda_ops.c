/* The op case table on the cuda backend, on the host: its kernels run on the shim (tests/cuda/shim) in shuffled orders of
 * threads, its library calls on the stand-in. On a machine with a GPU tests/gpu runs the same rows on the device.
 *
 *     PB_CUDA_PLUGIN=build/tests/cuda/libpb_cuda_host.so build/tests/test_cuda_ops
 *
 * PB_SEED=n replays a case's values; CK_RUN_CASE=table one group. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/cuda/api_host.h"
#include "tests/op_check.h"
#include "tests/support.h"

/* Set to 0 when the last op has its kernel: then a missing one fails. */
#define SOME_ARE_NOT_YET_THERE 1

#define ORDERS 3 /* of threads */

static pb_device *open_device(const char *name) {
    pb_device *dev = NULL;
    pb_assert_ok(pb_device_open(name, &(pb_device_options){.threads = 1}, &dev));
    return dev;
}

static void another_order(int device) { pb_host_seed((uint64_t)device + 1); }

START_TEST(cuda_agrees_with_reference) {
    pb_op op = (pb_op)_i;
    pb_device *ref = open_device("ref"), *devs[ORDERS];
    for (int i = 0; i < ORDERS; i++) devs[i] = open_device("cuda");
    op_tally sum = {0};
    const char *variant = pb_op_variant(devs[0], op);
    for (int k = 0; variant != NULL && k < op_cases_count; k++) {
        if (op_cases[k].op != op) continue;
        for (int d = 0; d < PB_DTYPE_COUNT; d++) {
            if (!op_is_compared(&op_cases[k], d)) continue;
            op_compare_case(&op_cases[k], (pb_dtype)d, ref, devs, ORDERS, another_order, &sum);
        }
    }
    if (variant == NULL) {
        printf("%-14s NOT YET THERE on cuda\n", pb_op_name(op));
        ck_assert_msg(SOME_ARE_NOT_YET_THERE, "%s has no cuda kernel", pb_op_name(op));
    } else {
        printf("%-14s %-10s %3d ran, %d unsupported, worst %.0f %% of the tolerance: %s\n",
               pb_op_name(op), variant, sum.ran, sum.unsupported, 100.0 * sum.worst, sum.worst_case);
        ck_assert_msg(sum.ran > 0 && (SOME_ARE_NOT_YET_THERE || sum.unsupported == 0), "%s: %d ran, %d have no kernel",
                      pb_op_name(op), sum.ran, sum.unsupported);
    }
    for (int i = 0; i < ORDERS; i++) pb_device_close(devs[i]);
    pb_device_close(ref);
    ck_assert_int_eq(pb_host_live(), 0);
}
END_TEST

/* Kernels that choose by the architecture take their plain twins on an older one: same rows, same reference. */
START_TEST(an_older_architecture_agrees_too) {
    static const pb_op list[] = {PB_OP_linear, PB_OP_lowrank, PB_OP_lowrank_bwd, PB_OP_attention_fwd,
                                 PB_OP_attention_bwd};
    pb_op op = list[_i];
    pb_device *ref = open_device("ref"), *dev = NULL;
    pb_host_architecture(7, 5);
    dev = open_device("cuda");
    op_tally sum = {0};
    for (int k = 0; pb_op_variant(dev, op) != NULL && k < op_cases_count; k++) {
        if (op_cases[k].op == op && op_is_compared(&op_cases[k], PB_BF16))
            op_compare_case(&op_cases[k], PB_BF16, ref, &dev, 1, NULL, &sum);
    }
    printf("%-14s on sm_75   %3d ran, worst %.0f %% of the tolerance: %s\n", pb_op_name(op), sum.ran, 100.0 * sum.worst,
           sum.worst_case);
    pb_device_close(dev);
    pb_device_close(ref);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cuda ops");
    TCase *table = pb_test_case(s, "table");
    tcase_add_loop_test(table, cuda_agrees_with_reference, 0, PB_OP_COUNT);
    tcase_add_loop_test(table, an_older_architecture_agrees_too, 0, 5);
    return pb_run_suite(s);
}
