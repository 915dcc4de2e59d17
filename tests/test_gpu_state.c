/* A GPU watched through a stand-in for its driver's library. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "harness/gpu_state.h"
#include "harness/kernel_clock.h"
#include "tests/support.h"

/* What the stand-in says: GPUs, clock of the multiprocessors, of the memory, mW, degrees, reasons,
 * processes; a line a look, after the first, which is read when it is opened. */
static pb_gpu_watch *watch(const char *lines, const char *bus) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "says");
    pb_gpu_watch *w = NULL;
    pb_assert_ok(pb_file_write_atomic(path, lines, strlen(lines)));
    ck_assert_int_eq(setenv("PB_NVML_SAYS", path, 1), 0);
    pb_assert_ok(pb_gpu_watch_open(PB_NVML_STAND_IN, bus, &w));
    free(path);
    free(dir);
    return w;
}

static const char *const two_looks = "1 1 1 1 1 0 1\n"
                                     "1 1980 2619 350000 50 4 1\n"
                                     "1 1500 2619 698000 83 20 2\n";

START_TEST(what_a_gpu_did_is_told) {
    pb_gpu_watch *w = watch(two_looks, "0000:18:00.0");
    pb_text advice = {0};
    pb_gpu_watch_look(w);
    pb_gpu_watch_look(w);
    pb_gpu_report r = pb_gpu_watch_report(w), again = pb_gpu_watch_report(w);
    ck_assert_int_eq(r.looks, 2);
    const double got[] = {r.sm_mhz_least,     r.sm_mhz_most, r.sm_mhz_limit, r.memory_mhz_least,
                          r.memory_mhz_most,  r.watts_most,  r.watts_limit,  r.celsius_most};
    const double want[] = {1500, 1980, 1980, 2619, 2619, 698, 700, 83};
    pb_assert_close(got, want, 8, 0, 1e-12, "clocks, watts, degrees");
    ck_assert(r.reasons == 0x24 && r.processes_most == 2);
    ck_assert_str_eq(r.driver, "580.65.06");
    ck_assert(again.looks == 0 && isnan(again.sm_mhz_least) && again.reasons == 0);
    pb_gpu_advice(&r, &advice);
    ck_assert(strstr(advice.data, "moved between 1500 and 1980 MHz: sudo nvidia-smi -lgc 1500") != NULL);
    ck_assert(strstr(advice.data, "power cap (698 W of 700)") != NULL);
    ck_assert(strstr(advice.data, "heat, by the driver (83 degrees)") != NULL);
    ck_assert(strstr(advice.data, "2 processes computed on the GPU") != NULL);
    pb_text_free(&advice);
    /* A quiet one has no lines. */
    pb_gpu_report quiet = r;
    quiet.sm_mhz_least = 1980;
    quiet.reasons = 1; /* idle between samples */
    quiet.processes_most = 1;
    pb_gpu_advice(&quiet, &advice);
    ck_assert_uint_eq(advice.len, 0);
    pb_gpu_watch_close(w);
}
END_TEST

START_TEST(what_is_written_is_read_back_and_joined) {
    pb_gpu_watch *w = watch(two_looks, "");
    pb_gpu_report one, two, sum = pb_gpu_report_none();
    pb_gpu_watch_look(w);
    one = pb_gpu_watch_report(w);
    pb_gpu_watch_look(w);
    two = pb_gpu_watch_report(w);
    for (int i = 0; i < 2; i++) {
        pb_json *o = cJSON_CreateObject();
        pb_assert_ok(pb_gpu_report_json(i ? &two : &one, o));
        pb_assert_ok(pb_gpu_report_add(o, "made", &sum));
        pb_json_free(o);
    }
    ck_assert(sum.looks == 2 && sum.reasons == 0x24 && sum.processes_most == 2);
    const double got[] = {sum.sm_mhz_least, sum.sm_mhz_most, sum.watts_most, sum.watts_limit,
                          sum.celsius_most};
    const double want[] = {1500, 1980, 698, 700, 83};
    pb_assert_close(got, want, 5, 0, 1e-12, "joined");
    /* What is not told stays so. */
    pb_json *o = cJSON_CreateObject();
    pb_gpu_report none = pb_gpu_report_none();
    pb_assert_ok(pb_gpu_report_json(&none, o));
    pb_assert_ok(pb_gpu_report_add(o, "made", &none));
    ck_assert(isnan(none.sm_mhz_least) && isnan(none.watts_most) && none.processes_most == -1);
    pb_json *held = (pb_json *)(uintptr_t)pb_json_get(o, "clocks_held_for");
    ck_assert(pb_json_add_str(held, NULL, "boredom"));
    pb_assert_fails(pb_gpu_report_add(o, "made", &none), PB_E_INPUT, "made: clocks_held_for has boredom");
    pb_json_free(o);
    pb_gpu_watch_close(w);
}
END_TEST

START_TEST(cycles_follow_the_gpus_clock) {
    pb_gpu_watch *w = watch(two_looks, "0000:18:00.0");
    pb_kernel_clock *c = NULL;
    pb_assert_ok(pb_kernel_clock_open_gpu(w, &c));
    ck_assert_str_eq(pb_kernel_clock_name(c), "nvml");
    double got[2];
    for (int i = 0; i < 2; i++) {
        pb_kernel_clock_begin(c);
        got[i] = pb_kernel_clock_end(c, 1e-3);
    }
    const double want[] = {1.98e6, 1.5e6};
    pb_assert_close(got, want, 2, 0, 1e-12, "cycles of a millisecond");
    pb_gpu_report r = pb_gpu_watch_report(w);
    ck_assert(r.sm_mhz_least >= 1500 && r.sm_mhz_least <= 1500 && r.looks == 0);
    pb_kernel_clock_close(c);
    pb_gpu_watch_close(w);
}
END_TEST

START_TEST(what_cannot_be_watched_is_named) {
    pb_gpu_watch *w = watch("2 1 1 1 1 0 1\n", "0000:18:00.0"); /* one of two, by its bus */
    pb_gpu_watch_close(w);
    pb_assert_fails(pb_gpu_watch_open(PB_NVML_STAND_IN, "", &w), PB_E_ENV, "NVML knows 2 GPUs");
    pb_assert_fails(pb_gpu_watch_open(PB_NVML_STAND_IN, "0000:99:00.0", &w), PB_E_ENV,
                    "0000:99:00.0: Not Found");
    ck_assert_int_eq(setenv("PB_NVML_SAYS", "/nowhere", 1), 0);
    pb_assert_fails(pb_gpu_watch_open(PB_NVML_STAND_IN, "", &w), PB_E_ENV, "NVML: init: Not Found");
    pb_assert_fails(pb_gpu_watch_open("/nowhere/nvml.so", "", &w), PB_E_ENV, "/nowhere/nvml.so");
    pb_assert_fails(pb_gpu_watch_open("libm.so.6", "", &w), PB_E_ENV, "libm.so.6 has no nvmlInit_v2");
    ck_assert_ptr_null(w);
    pb_gpu_watch_close(NULL);
}
END_TEST

int main(void) {
    Suite *s = suite_create("gpu_state");
    TCase *t = pb_test_case(s, "gpu");
    tcase_add_test(t, what_a_gpu_did_is_told);
    tcase_add_test(t, what_is_written_is_read_back_and_joined);
    tcase_add_test(t, cycles_follow_the_gpus_clock);
    tcase_add_test(t, what_cannot_be_watched_is_named);
    return pb_run_suite(s);
}
