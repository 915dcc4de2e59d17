/* What a watch of the machine says, in numbers and in words: harness/machine_state.h. */
#include <math.h>
#include <string.h>

#include "harness/machine_state.h"

#define NOISY_OTHERS 0.05 /* CPUs' worth of time */
#define NOISY_STEAL 0.01

pb_status pb_machine_json(const pb_machine_report *r, pb_json *o) {
    bool ok = pb_json_add_i64(o, "cpus", r->cpus) && pb_json_add_i64(o, "allowed", r->allowed) &&
              pb_json_add_i64(o, "cores", r->cores) && pb_json_add_f64(o, "seconds", r->seconds) &&
              pb_json_add_f64(o, "others_cpus", r->others) &&
              pb_json_add_f64(o, "busiest_other_cpus", r->busiest_share) &&
              pb_json_add_f64(o, "steal", r->steal) && pb_json_add_f64(o, "load", r->load) &&
              pb_json_add_f64(o, "quota_cpus", r->quota) &&
              pb_json_add_f64(o, "mhz_begin", r->mhz[0]) &&
              pb_json_add_f64(o, "mhz_end", r->mhz[1]) &&
              pb_json_add_f64(o, "mhz_least", r->mhz_least) &&
              pb_json_add_f64(o, "mhz_most", r->mhz_most) &&
              pb_json_add_f64(o, "celsius_most", r->celsius_most) &&
              pb_json_add_f64(o, "watts", r->watts) &&
              pb_json_add_str(o, "governor", *r->governor ? r->governor : NULL) &&
              pb_json_add_str(o, "pinning", r->pinning);
    if (ok && r->stopped >= 0) ok = pb_json_add_i64(o, "quota_stops", r->stopped);
    if (ok && r->throttled >= 0) ok = pb_json_add_i64(o, "throttled", r->throttled);
    if (ok && r->boost_known) ok = pb_json_add_bool(o, "boost", r->boost);
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for the state of the machine");
}

static void about_others(const pb_machine_report *r, pb_text *t) {
    if (r->others > NOISY_OTHERS) {
        pb_text_add(t, "other processes used %.0f %% of a core during the run", 100 * r->others);
        if (*r->busiest && r->busiest_share > NOISY_OTHERS / 2)
            pb_text_add(t, ", of it %s %.0f %%", r->busiest, 100 * r->busiest_share);
        pb_text_add(t, ": stop them, or measure when nobody else works here\n");
    }
    if (r->steal > NOISY_STEAL)
        pb_text_add(t,
                    "the hypervisor gave %.1f %% of the CPUs' time to somebody else: take a machine "
                    "of your own, or instruction counts, which others cannot disturb\n",
                    100 * r->steal);
}

static void about_room(const pb_machine_report *r, pb_text *t) {
    int threads = r->threads > 0 ? r->threads : r->cpus;
    if (threads > r->allowed)
        pb_text_add(t, "%d threads on %d CPUs that may be used take turns: --threads %d\n", threads,
                    r->allowed, r->allowed);
    else if (threads > r->cores)
        pb_text_add(t, "%d threads share %d cores with their siblings (SMT): --threads %d\n", threads,
                    r->cores, r->cores);
    if (!isnan(r->quota) && r->quota < threads)
        pb_text_add(t,
                    "the control group may use %.3g CPUs at a time (cpu.max): --threads %d, or raise "
                    "the limit\n",
                    r->quota, r->quota >= 1 ? (int)r->quota : 1);
    if (r->stopped > 0)
        pb_text_add(t, "the control group was stopped %lld times for its quota (cpu.max): raise it\n",
                    (long long)r->stopped);
}

static void about_clock(const pb_machine_report *r, pb_text *t) {
    if (r->mhz_most > PB_NOISY_CLOCK * r->mhz_least)
        pb_text_add(t,
                    "the clock moved between %.0f and %.0f MHz: see to governor, boost and "
                    "temperature\n",
                    r->mhz_least, r->mhz_most);
    if (*r->governor && strcmp(r->governor, "performance") != 0)
        pb_text_add(t,
                    "governor %s: the clock follows the load; sudo cpupower frequency-set -g "
                    "performance\n",
                    r->governor);
    if (r->boost_known && r->boost)
        pb_text_add(t,
                    "the clock may be boosted, which depends on temperature and neighbours; for "
                    "equal clocks: echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo "
                    "(or echo 0 into cpufreq/boost)\n");
    if (r->throttled > 0)
        pb_text_add(t, "cores throttled %lld times for heat or power: cool the machine, or wait\n",
                    (long long)r->throttled);
}

void pb_machine_advice(const pb_machine_report *r, pb_text *lines) {
    about_others(r, lines);
    about_room(r, lines);
    about_clock(r, lines);
}
