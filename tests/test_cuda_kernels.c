/* Single kernels of the cuda backend, checked and timed between events, on the host's stand-in: the
 * times mean nothing, the checks do. */
#include <stdio.h>

#include "harness/cpu_roofs.h"
#include "harness/queue_time.h"
#include "tests/cuda/api_host.h"
#include "tests/kernel_lab.h"
#include "tests/support.h"

START_TEST(kernels_in_a_queue_are_checked_and_timed) {
    static const char *const filter =
        "/axpby/|/lowrank/|/norm_fwd/|/cross_entropy/|/adamw/|/orthogonality/|/dequantize4/";
    pb_device *ref = kernel_lab_device("ref", 1), *dev = kernel_lab_device("cuda", 1);
    pb_kernel_cases cases =
        kernel_lab_cases("shape:llama-3.2-1b", 64, _i ? PB_BF16 : PB_F32, PB_LAYER_EACH, filter);
    ck_assert_int_ge(cases.n, 7);
    for (int i = 0; i < cases.n; i++) {
        pb_kernel_result r;
        pb_kernel_way way = {.hot = i > 0, .limit_s = 0.001}; /* a flush takes the stand-in long */
        pb_assert_ok(pb_kernel_measure(&cases.items[i], ref, dev, way, &r));
        ck_assert_msg(!r.wrong, "%s: %s", cases.items[i].name, r.why);
        ck_assert(r.n >= PB_KERNEL_LEAST && r.samples[0] > 0 && r.batch >= 1 && *r.variant);
        pb_kernel_result_free(&r);
    }
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_DATA), 0);
    pb_kernel_cases_free(&cases);
    pb_device_close(dev);
    pb_device_close(ref);
}
END_TEST

/* Calls in a row are handed over as one: at once the first time, as a graph from then on; and none of them is left out. */
START_TEST(calls_in_a_row_become_a_graph) {
    enum { CALLS = 5, TIMES = 4, N = 8 };
    pb_device *dev = kernel_lab_device("cuda", 1);
    pb_queue_clock clock;
    pb_tensor x;
    double ns = 0, back[N];
    pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, PB_F32, N, &x));
    pb_assert_ok(pb_fill_uniform(dev, &(pb_fill_uniform_args){.x = x, .lo = 1, .hi = 1}));
    pb_assert_ok(pb_queue_clock_new(dev, &clock));
    uint64_t before = pb_host_graph_launches();
    for (int i = 0; i < TIMES; i++) {
        pb_axpby_args twice = {.x = x, .y = x, .alpha = 2};
        pb_assert_ok(pb_queue_time_op(dev, &clock, PB_OP_axpby, &twice, CALLS, &ns));
        ck_assert_msg(ns > 0, "%g ns", ns);
    }
    ck_assert_uint_eq(pb_host_graph_launches() - before, TIMES - 1);
    pb_assert_ok(pb_device_get_f64(dev, back, x));
    for (int i = 0; i < N; i++) ck_assert(back[i] == (double)(1 << (CALLS * TIMES)));
    ck_assert(pb_device_queues(dev));
    pb_queue_clock_free(&clock);
    pb_device_close(dev);
    dev = kernel_lab_device("cpu", 1);
    ck_assert(!pb_device_queues(dev));
    pb_device_close(dev);
}
END_TEST

/* By which NVIDIA's library finds the same GPU. */
START_TEST(a_device_names_its_place_on_the_bus) {
    pb_device *dev = kernel_lab_device("cuda", 1);
    char text[512];
    pb_device_describe(dev, text, sizeof text);
    ck_assert_msg(strstr(text, "; " PB_DEVICE_BUS "0000:18:00.0;") != NULL, "%s", text);
    pb_device_close(dev);
}
END_TEST

START_TEST(a_device_has_roofs) {
    pb_device *dev = kernel_lab_device("cuda", 1);
    pb_cpu_roofs r;
    pb_assert_ok(pb_device_roofs_measure(dev, 1 << 20, 64, &r));
    for (int a = 0; a < 3; a++) ck_assert(r.measured[a] && r.samples_s[a][PB_ROOF_SAMPLES - 1] > 0);
    ck_assert(r.bytes_per_s > 0 && r.flops_per_s[0] > 0 && r.flops_per_s[1] > 0);
    ck_assert(r.copy_bytes == 1 << 20 && r.side == 64 && r.ops_per_s <= 0);
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_WORK), 0);
    pb_device_close(dev);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cuda_kernels");
    TCase *t = pb_test_case(s, "measure");
    tcase_add_loop_test(t, kernels_in_a_queue_are_checked_and_timed, 0, 2);
    tcase_add_test(t, calls_in_a_row_become_a_graph);
    tcase_add_test(t, a_device_names_its_place_on_the_bus);
    tcase_add_test(t, a_device_has_roofs);
    return pb_run_suite(s);
}
