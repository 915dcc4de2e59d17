/* Ten training steps of every method on another device (PB_TEST_DEVICE=cuda) against the CPU's, f32. Without that variable it
 * is not run: tests/gpu/run_all.sh sets it on a machine with a GPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/cuda/on_gpu.h"
#include "tests/lab.h"
#include "tests/support.h"

enum { STEPS = 10 };

static bool losses_on(const char *device, const char *dir, pb_lab_model model, const pb_method *method, pb_dtype dtype,
                      double *loss) {
    pb_lab lab;
    bool trains = false;
    pb_lab_options o = {
        .model = model, .method = method, .device = device, .dtype = dtype, .steps = STEPS, .dropout = 0.1};
    pb_assert_ok(pb_lab_open(&lab, dir, &o, &trains));
    if (!trains) return false;
    pb_assert_gpu(lab.session.dev);
    pb_assert_ok(pb_lab_train(&lab, STEPS));
    pb_assert_ok(pb_lab_losses(&lab, loss, STEPS));
    pb_lab_close(&lab);
    return true;
}

/* AdamW turns a gradient's sign into a whole step, so values whose gradient is rounding noise may part by 2 lr; such a value
 * moves the loss by its own, vanishing, gradient. What is left is f32's rounding of about 1e-5 a step, times the steps. */
START_TEST(ten_steps_are_the_cpus) {
    const pb_method *method = pb_method_registry[_i / PB_LAB_MODELS];
    pb_lab_model model = (pb_lab_model)(_i % PB_LAB_MODELS);
    double want[STEPS], got[STEPS];
    char *dir = pb_test_dir();
    pb_lab_write_model(model, dir);
    if (losses_on("cpu", dir, model, method, PB_F32, want)) {
        ck_assert(losses_on(getenv("PB_TEST_DEVICE"), dir, model, method, PB_F32, got));
        pb_assert_close(got, want, STEPS, 0.0, 1e-5 * STEPS * STEPS, method->name);
        ck_assert(want[STEPS - 1] != want[0]);
    }
    free(dir);
}
END_TEST

/* On a GPU; on the host test_cuda_training.c has the same. */
START_TEST(graphs_change_no_bit) {
    static const pb_dtype dtypes[] = {PB_F32, PB_BF16};
    const pb_method *method = pb_method_registry[_i / PB_LAB_MODELS];
    pb_lab_model model = (pb_lab_model)(_i % PB_LAB_MODELS);
    if (!pb_test_on_gpu()) return;
    char *dir = pb_test_dir();
    pb_lab_write_model(model, dir);
    for (int d = 0; d < 2; d++) {
        double loss[2][STEPS];
        bool trains = true;
        for (int graphs = 0; graphs < 2 && trains; graphs++) {
            setenv("PB_CUDA_GRAPHS", graphs ? "1" : "0", 1);
            trains = losses_on(getenv("PB_TEST_DEVICE"), dir, model, method, dtypes[d], loss[graphs]);
        }
        for (int i = 0; i < STEPS && trains; i++)
            ck_assert_msg(memcmp(&loss[0][i], &loss[1][i], sizeof(double)) == 0, "%s in %s, step %d: %.17g eager, %.17g as a graph",
                          method->name, pb_dtype_name(dtypes[d]), i, loss[0][i], loss[1][i]);
    }
    unsetenv("PB_CUDA_GRAPHS");
    free(dir);
}
END_TEST

int main(void) {
    if (getenv("PB_TEST_DEVICE") == NULL) {
        puts("not run: PB_TEST_DEVICE names no device");
        return 77;
    }
    Suite *s = suite_create("gpu_steps");
    TCase *t = pb_test_case(s, "parity");
    tcase_add_loop_test(t, ten_steps_are_the_cpus, 0, pb_method_registry_count * PB_LAB_MODELS);
    t = pb_test_case(s, "graphs");
    tcase_add_loop_test(t, graphs_change_no_bit, 0, pb_method_registry_count * PB_LAB_MODELS);
    return pb_run_suite(s);
}
