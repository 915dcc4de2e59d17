/* The watch over the machine, on made /proc and /sys: every number has a known cause, every line of
 * advice is given when its cause is there and not otherwise. */
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "harness/machine_state.h"
#include "tests/support.h"

static void put(const char *root, const char *path, const char *text) {
    char *file = pb_path_join(root, path), *folder = pb_path_join(root, path);
    *strrchr(folder, '/') = 0;
    pb_assert_ok(pb_make_dirs(folder));
    pb_assert_ok(pb_file_write_atomic(file, text, strlen(text)));
    free(file);
    free(folder);
}

/* `seconds` of a machine since its start: busy and stolen CPUs' worth of time, the rest idle. */
static void put_stat(const char *root, double seconds, double busy, double steal) {
    double hz = (double)sysconf(_SC_CLK_TCK), cpus = (double)sysconf(_SC_NPROCESSORS_ONLN);
    char text[256];
    snprintf(text, sizeof text, "cpu  %.0f 0 0 %.0f 0 0 0 %.0f 0 0\ncpu0 1 2 3 4\n",
             seconds * busy * hz, seconds * (cpus - busy - steal) * hz, seconds * steal * hz);
    put(root, "proc/stat", text);
}

static void put_process(const char *root, int pid, const char *name, double seconds) {
    char path[64], text[256];
    snprintf(path, sizeof path, "proc/%d/stat", pid);
    snprintf(text, sizeof text,
             "%d (%s) R 1 1 1 0 -1 4194304 1 0 0 0 %.0f 0 0 0 20 0 1 0 77 1 1 1\n", pid, name,
             seconds * (double)sysconf(_SC_CLK_TCK));
    put(root, path, text);
}

static char *quiet(void) {
    char *root = pb_test_dir();
    put_stat(root, 100, 0, 0);
    put_process(root, 4000001, "sleeper", 0);
    put_process(root, 4000002, "odd ) name", 0);
    put(root, "proc/loadavg", "0.25 0.2 0.1 1/99 7\n");
    put(root, "proc/self/cgroup", "0::/job/one\n");
    put(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
    return root;
}

static pb_machine_report watched(const char *root, void (*during)(const char *root), int threads) {
    pb_machine_watch *w = NULL;
    pb_machine_report r;
    pb_assert_ok(pb_machine_begin(root, threads, &w));
    if (during) during(root);
    pb_assert_ok(pb_machine_end(w, &r));
    return r;
}

static void assert_advice(const pb_machine_report *r, const char *part) {
    pb_text t = {0};
    pb_machine_advice(r, &t);
    pb_assert_ok(pb_text_status(&t));
    const char *said = t.data ? t.data : "";
    ck_assert_msg(part ? strstr(said, part) != NULL : !*said, "\"%s\", wanted \"%s\"", said,
                  part ? part : "nothing");
    pb_text_free(&t);
}

static void ten_quiet_seconds(const char *root) {
    put_stat(root, 110, 0, 0);
}

START_TEST(a_quiet_machine_needs_no_advice) {
    char *root = quiet();
    pb_machine_report r = watched(root, ten_quiet_seconds, 1);
    double want[] = {10, 0, 0, 0.25}, got[] = {r.seconds, r.others, r.steal, r.load};
    pb_assert_close(got, want, 4, 0.02, 0, "seconds, others, steal, load");
    ck_assert(isnan(r.celsius_most) && isnan(r.watts));
    ck_assert(isnan(r.quota) && r.stopped == -1 && r.throttled == -1 && isnan(r.mhz[0]));
    ck_assert_str_eq(r.governor, "performance");
    ck_assert(!r.boost_known);
    assert_advice(&r, NULL);
    free(root);
}
END_TEST

/* 110 s at 100 s: 10 s with half a CPU busy and a tenth of one stolen. */
static void busy_neighbour(const char *root) {
    double hz = (double)sysconf(_SC_CLK_TCK), cpus = (double)sysconf(_SC_NPROCESSORS_ONLN);
    char text[256];
    snprintf(text, sizeof text, "cpu  %.0f 0 0 %.0f 0 0 0 %.0f 0 0\n", 5 * hz,
             (110 * cpus - 5 - 1) * hz, 1 * hz);
    put(root, "proc/stat", text);
    put_process(root, 4000001, "sleeper", 1);
    put_process(root, 4000002, "odd ) name", 3.5);
    put_process(root, 4000003, "newcomer", 0.5);
}

START_TEST(other_processes_and_stolen_time_are_named) {
    char *root = quiet();
    pb_machine_report r = watched(root, busy_neighbour, 1);
    double cpus = (double)sysconf(_SC_NPROCESSORS_ONLN);
    double want[] = {0.5, 0.35, 0.1 / cpus}, got[] = {r.others, r.busiest_share, r.steal};
    pb_assert_close(got, want, 3, 0.02, 0, "others, the busiest, steal");
    ck_assert_str_eq(r.busiest, "odd ) name");
    assert_advice(&r, "of a core during the run, of it odd ) name 35 %");
    if (r.steal > 0.01) assert_advice(&r, "the hypervisor gave");
    pb_json *o = cJSON_CreateObject();
    pb_assert_ok(pb_machine_json(&r, o));
    char *text = pb_json_print(o, false);
    ck_assert(strstr(text, "odd") == NULL && strstr(text, "\"busiest_other_cpus\":0.35") != NULL);
    free(text);
    pb_json_free(o);
    free(root);
}
END_TEST

static void stopped_and_hot(const char *root) {
    ten_quiet_seconds(root);
    put(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1900000\n");
    put(root, "sys/fs/cgroup/job/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 12\n");
    put(root, "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "8\n");
    put(root, "sys/class/thermal/thermal_zone1/temp", "91500\n");
    put(root, "sys/class/powercap/intel-rapl:0/energy_uj", "1500000000\n");
    put(root, "sys/class/powercap/intel-rapl:1/energy_uj", "9000000000\n");
}

START_TEST(quotas_clocks_and_heat_are_named) {
    char *root = quiet();
    put(root, "sys/fs/cgroup/job/cpu.stat", "usage_usec 1\nnr_periods 2\nnr_throttled 5\n");
    put(root, "sys/fs/cgroup/job/cpu.max", "50000 100000\n");
    put(root, "sys/fs/cgroup/cpu.max", "max 100000\n"); /* further up: not asked */
    put(root, "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3\n");
    put(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    put(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2100000\n");
    put(root, "sys/devices/system/cpu/intel_pstate/no_turbo", "0\n");
    put(root, "sys/class/thermal/thermal_zone0/temp", "45000\n");
    put(root, "sys/class/thermal/thermal_zone1/temp", "60000\n");
    put(root, "sys/class/powercap/intel-rapl:0/name", "package-0\n");
    put(root, "sys/class/powercap/intel-rapl:0/energy_uj", "500000000\n");
    put(root, "sys/class/powercap/intel-rapl:1/name", "psys\n"); /* holds the package too */
    put(root, "sys/class/powercap/intel-rapl:1/energy_uj", "1\n");
    pb_machine_report r = watched(root, stopped_and_hot, 1);
    ck_assert_double_eq_tol(r.celsius_most, 91.5, 1e-9);
    ck_assert_double_eq_tol(r.watts, 100, 2); /* 1000 J in 10 s */
    ck_assert(r.quota == 0.5 && r.stopped == 7 && r.throttled == 5 && r.mhz[1] == 1900);
    ck_assert(r.mhz_least == 1900 && r.mhz_most == 2100);
    assert_advice(&r, "the clock moved between 1900 and 2100 MHz");
    ck_assert(r.boost && r.boost_known);
    assert_advice(&r, "may use 0.5 CPUs at a time (cpu.max): --threads 1");
    assert_advice(&r, "was stopped 7 times");
    assert_advice(&r, "throttled 5 times");
    assert_advice(&r, "governor powersave");
    assert_advice(&r, "no_turbo");
    put(root, "sys/devices/system/cpu/intel_pstate/no_turbo", "1\n");
    r = watched(root, NULL, 1);
    ck_assert(!r.boost && r.boost_known);
    free(root);
}
END_TEST

/* Slow in between only, when a process has just ended. */
START_TEST(glances_see_the_clock_on_the_way) {
    char *root = quiet();
    pb_machine_watch *w = NULL;
    pb_machine_report r;
    put(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2000000\n");
    pb_assert_ok(pb_machine_begin(root, 1, &w));
    put(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000\n");
    pb_machine_glance(w);
    put(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2000000\n");
    ten_quiet_seconds(root);
    pb_assert_ok(pb_machine_end(w, &r));
    ck_assert(r.mhz[0] == 2000 && r.mhz[1] == 2000 && r.mhz_least == 1500 && r.mhz_most == 2000);
    pb_machine_glance(NULL);
    free(root);
}
END_TEST

START_TEST(siblings_are_left_alone) {
    char *root = quiet(), path[96], text[160];
    cpu_set_t allowed;
    for (int i = 0; i < CPU_SETSIZE; i++) { /* one core has them all */
        snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%d/topology/core_id", i);
        ck_assert_int_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
        if (!CPU_ISSET((size_t)i, &allowed)) continue;
        put(root, path, "0\n");
        memcpy(strrchr(path, '/'), "/physical_package_id", 21);
        put(root, path, "0\n");
    }
    int n = CPU_COUNT(&allowed);
    pb_machine_report r = watched(root, ten_quiet_seconds, n);
    ck_assert_int_eq(r.cores, 1);
    if (n > 1) assert_advice(&r, "share 1 cores with their siblings (SMT): --threads 1");
    pb_machine_pin(root, n, text);
    if (n > 1) ck_assert_msg(strstr(text, "not pinned: ") == text, "%s", text);
    pb_machine_pin(root, 1, text);
    ck_assert_int_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    ck_assert_msg(CPU_COUNT(&allowed) == 1, "%s", text);
    ck_assert(n == 1 || strcmp(text, "kept to one hardware thread of each of 1 cores") == 0);
    pb_machine_pin(root, 1, text); /* nothing left to keep apart */
    ck_assert(strstr(text, "not pinned: 1 threads on 1 cores without siblings") != NULL);
    free(root);
}
END_TEST

START_TEST(this_machine_is_watched) {
    pb_machine_watch *w = NULL;
    pb_machine_report r;
    pb_assert_ok(pb_machine_begin("", 0, &w));
    volatile double x = 1;
    for (int i = 0; i < 30000000; i++) x = x * 1.0000001;
    pb_assert_ok(pb_machine_end(w, &r));
    ck_assert(r.cpus >= 1 && r.allowed >= 1 && r.cores >= 1 && r.seconds >= 0 && r.others >= 0);
    pb_machine_drop(NULL);
}
END_TEST

int main(void) {
    Suite *s = suite_create("machine_state");
    TCase *t = pb_test_case(s, "watch");
    tcase_add_test(t, a_quiet_machine_needs_no_advice);
    tcase_add_test(t, other_processes_and_stolen_time_are_named);
    tcase_add_test(t, quotas_clocks_and_heat_are_named);
    tcase_add_test(t, glances_see_the_clock_on_the_way);
    tcase_add_test(t, siblings_are_left_alone);
    tcase_add_test(t, this_machine_is_watched);
    return pb_run_suite(s);
}
