/* The op case table on the cuda backend, on the host: its kernels run on the shim (tests/cuda/shim) in shuffled orders of
 * threads, its library calls on the stand-in. On a machine with a GPU tests/gpu runs the same rows on the device.
 *
 *     PB_CUDA_PLUGIN=build/tests/cuda/libpb_cuda_host.so build/tests/test_cuda_ops
 *
 * PB_SEED=n replays a case's values; CK_RUN_CASE=table one group. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/cuda/api_host.h"
#include "tests/cuda/on_gpu.h"
#include "tests/op_check.h"
#include "tests/support.h"

#ifdef PB_SANITIZED
#define ORDERS 2 /* of threads: one fewer where each is ten times slower */
#else
#define ORDERS 3
#endif

static pb_device *open_device(const char *name) {
    pb_device *dev = NULL;
    pb_assert_ok(pb_device_open(name, &(pb_device_options){.threads = 1}, &dev));
    pb_assert_gpu(dev);
    return dev;
}

/* A GPU's order of threads is its own: twice there, to see that bits do not depend on it; once under a sanitizer. */
static int devices(void) {
    if (getenv("PB_TEST_ONCE") != NULL) return 1;
    return pb_test_on_gpu() ? 2 : ORDERS;
}

static void another_order(int device) { pb_host_seed((uint64_t)device + 1); }

START_TEST(cuda_agrees_with_reference) {
    pb_op op = (pb_op)_i;
    pb_device *ref = open_device("ref"), *devs[ORDERS];
    int n = devices();
    for (int i = 0; i < n; i++) devs[i] = open_device("cuda");
    op_tally sum = {0};
    const char *variant = pb_op_variant(devs[0], op);
    for (int k = 0; variant != NULL && k < op_cases_count; k++) {
        if (op_cases[k].op != op) continue;
        for (int d = 0; d < PB_DTYPE_COUNT; d++) {
            if (!op_is_compared(&op_cases[k], d)) continue;
            op_compare_case(&op_cases[k], (pb_dtype)d, ref, devs, n, another_order, &sum);
        }
    }
    printf("%-14s %-10s %3d ran, %d unsupported, worst %.0f %% of the tolerance: %s\n",
           pb_op_name(op), variant != NULL ? variant : "-", sum.ran, sum.unsupported,
           100.0 * sum.worst, sum.worst_case);
    ck_assert_msg(sum.ran > 0 && sum.unsupported == 0, "%s: %d cases ran, %d have no cuda kernel",
                  pb_op_name(op), sum.ran, sum.unsupported);
    for (int i = 0; i < n; i++) pb_device_close(devs[i]);
    pb_device_close(ref);
    ck_assert_int_eq(pb_host_live(), 0);
    if (pb_test_on_gpu()) ck_assert_uint_eq(pb_host_calls(), 0);
}
END_TEST

/* Cases of an op in bf16 as the device that is opened now computes them; threads that it took. */
static uint64_t threads_of(pb_op op, const char *how) {
    pb_device *ref = open_device("ref"), *dev = open_device("cuda");
    op_tally sum = {0};
    uint64_t before = pb_host_threads_run();
    for (int k = 0; pb_op_variant(dev, op) != NULL && k < op_cases_count; k++) {
        if (op_cases[k].op == op && op_is_compared(&op_cases[k], PB_BF16))
            op_compare_case(&op_cases[k], PB_BF16, ref, &dev, 1, NULL, &sum);
    }
    printf("%-14s %-10s %3d ran, worst %.0f %% of the tolerance: %s\n", pb_op_name(op), how, sum.ran, 100.0 * sum.worst,
           sum.worst_case);
    ck_assert_int_gt(sum.ran, 0);
    pb_device_close(dev);
    pb_device_close(ref);
    return pb_host_threads_run() - before;
}

/* Kernels that choose by the architecture take their plain twins on an older one, and on any where PB_CUDA_PLAIN says so: same
 * rows, same reference. */
START_TEST(plain_twins_agree_too) {
    static const pb_op list[] = {PB_OP_linear, PB_OP_lowrank, PB_OP_lowrank_bwd, PB_OP_attention_fwd,
                                 PB_OP_attention_bwd};
    if (pb_test_on_gpu()) return; /* there tests/gpu/run_all.sh runs all of this program with the variable */
    setenv("PB_CUDA_PLAIN", "1", 1);
    uint64_t plain = threads_of(list[_i], "plain");
    setenv("PB_CUDA_PLAIN", "0", 1);
    pb_host_architecture(7, 5);
    ck_assert_uint_eq(threads_of(list[_i], "on sm_75"), plain);
}
END_TEST

/* A plan asks for the same workspace and counts the same work, without a GPU. */
START_TEST(plan_counts_as_the_device_does) {
    pb_device *real = open_device("cuda"), *plan = open_device("plan:cuda");
    for (int k = 0; k < op_cases_count; k++) {
        for (int d = 0; d < PB_DTYPE_COUNT; d++) {
            if (!op_is_compared(&op_cases[k], d)) continue;
            op_instance *t = op_case_build(&op_cases[k], (pb_dtype)d);
            op_bound bound;
            op_result r = {0};
            pb_mark mark = pb_device_mark(plan, PB_MEM_DATA);
            if (t->forward == NULL) { /* others need values to be valid calls */
                op_execute(t, real, &r);
                pb_assert_ok(op_bind(t, plan, &bound));
                pb_assert_ok(pb_op_run(plan, t->op, &t->args));
                ck_assert_msg(pb_device_mem_peak(plan, PB_MEM_WORK) == pb_device_mem_peak(real, PB_MEM_WORK),
                              "%s: other workspace", t->name);
                ck_assert_msg(pb_device_work(plan).flops == pb_device_work(real).flops, "%s", t->name);
            }
            pb_device_rewind(plan, PB_MEM_DATA, mark);
            op_result_free(&r);
            op_case_free(t);
        }
    }
    ck_assert(pb_device_fast_dtype(plan, PB_BF16));
    pb_device_close(plan);
    pb_device_close(real);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cuda ops");
    TCase *table = pb_test_case(s, "table");
    tcase_add_loop_test(table, cuda_agrees_with_reference, 0, PB_OP_COUNT);
    tcase_add_loop_test(table, plain_twins_agree_too, 0, 5);
    TCase *plan = pb_test_case(s, "plan");
    tcase_add_test(plan, plan_counts_as_the_device_does);
    return pb_run_suite(s);
}
