/* Cycles of samples: from a counter, from a chain of multiplications, from a GPU's driver. */
#include <linux/perf_event.h>
#include <math.h>

#include "harness/kernel_clock.h"
#include "tests/support.h"

static double busy(double seconds) {
    int64_t from = pb_now_ns();
    while ((double)(pb_now_ns() - from) < seconds * 1e9) {}
    return (double)(pb_now_ns() - from) * 1e-9;
}

static double best_of(int n) {
    double best = 0;
    for (int i = 0; i < n; i++) best = fmax(best, pb_chain_hz());
    return best;
}

/* Whoever else works: the best of some moments is the core's own clock, which boost moves by less. */
START_TEST(the_chain_shows_the_clock) {
    double one = best_of(20), two = best_of(20);
    ck_assert_msg(one > 2e8 && one < 8e9, "%g Hz", one);
    ck_assert_msg(two < 1.4 * one && one < 1.4 * two, "%g Hz, then %g", one, two);
}
END_TEST

START_TEST(cycles_are_seconds_times_the_clock) {
    pb_kernel_clock *c = NULL;
    double ratio = 0;
    pb_assert_ok(pb_kernel_clock_open_host(2, &c)); /* two threads: no counter of one */
    ck_assert_str_eq(pb_kernel_clock_name(c), "chain");
    for (int i = 0; i < 20; i++) {
        pb_kernel_clock_begin(c);
        ratio = fmax(ratio, pb_kernel_clock_end(c, 1e-3) / 1e-3);
    }
    double clock = best_of(20);
    ck_assert_msg(ratio < 1.4 * clock && clock < 1.4 * ratio, "%g cycles a second at %g", ratio, clock);
    pb_kernel_clock_close(c);
    ck_assert_str_eq(pb_kernel_clock_name(NULL), "");
    ck_assert(isnan(pb_kernel_clock_end(NULL, 1)));
    pb_kernel_clock_begin(NULL);
    pb_kernel_clock_close(NULL);
}
END_TEST

/* The path of hardware counters, by one of the system's own: nanoseconds of this thread. */
START_TEST(a_counter_counts_between_begin_and_end) {
    pb_kernel_clock *c = NULL;
    pb_counter *counter = NULL;
    pb_assert_ok(pb_counter_open_event(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, &counter));
    pb_assert_ok(pb_kernel_clock_open_counter(counter, &c));
    ck_assert_str_eq(pb_kernel_clock_name(c), "perf_event");
    ck_assert(isnan(pb_kernel_clock_end(c, 1))); /* not begun */
    double least = INFINITY;
    for (int i = 0; i < 5; i++) {
        busy(0.002); /* not counted */
        pb_kernel_clock_begin(c);
        double wall = busy(0.002), counted = pb_kernel_clock_end(c, wall);
        ck_assert(counted > 0);
        least = fmin(least, counted);
    }
    ck_assert_msg(least < 3e6, "%g ns of 2 ms: what came before was counted too", least);
    pb_kernel_clock_close(c);
}
END_TEST

/* Whichever this machine has; a counter of cycles must agree with the chain. */
START_TEST(one_thread_has_cycles_everywhere) {
    pb_kernel_clock *c = NULL;
    double most = 0;
    pb_assert_ok(pb_kernel_clock_open_host(1, &c));
    for (int i = 0; i < 5; i++) {
        pb_kernel_clock_begin(c);
        double wall = busy(0.002);
        most = fmax(most, pb_kernel_clock_end(c, wall) / wall);
    }
    double clock = best_of(20);
    ck_assert_msg(most > 0.3 * clock && most < 1.4 * clock, "%s: %g cycles a second at %g",
                  pb_kernel_clock_name(c), most, clock);
    pb_kernel_clock_close(c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernel_clock");
    TCase *t = pb_test_case(s, "clock");
    tcase_add_test(t, the_chain_shows_the_clock);
    tcase_add_test(t, cycles_are_seconds_times_the_clock);
    tcase_add_test(t, a_counter_counts_between_begin_and_end);
    tcase_add_test(t, one_thread_has_cycles_everywhere);
    return pb_run_suite(s);
}
