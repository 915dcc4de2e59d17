/* Watching the machine: harness/machine_state.h. The words are in machine_advice.c. */
#include "harness/machine_state.h"

#include <ctype.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "harness/machine_files.h"

enum { MOST_CPUS = 1024, MOST_ZONES = 64 };

typedef struct process {
    long pid;
    unsigned long long started, ticks;
    char name[32];
} process;

/* One look at everything that counts upwards. */
typedef struct look {
    double busy, steal, all; /* ticks of all CPUs together */
    double own;              /* seconds of this process and the children it has waited for */
    double mhz;
    double celsius, joules; /* joules: of all packages since some moment */
    int64_t stopped, throttled;
    process *processes;
    int n;
} look;

struct pb_machine_watch {
    char root[512];
    pb_machine_report report; /* what does not count upwards */
    look before;
};

/* ---- small files ---- */

/* The number after `key` at the start of a line; -1 when there is none. */
static int64_t keyed(const char *text, const char *key) {
    size_t n = strlen(key);
    for (const char *p = text; p && *p; p = strchr(p, '\n'), p += p != NULL)
        if (strncmp(p, key, n) == 0 && (p[n] == ' ' || p[n] == '\t'))
            return strtoll(p + n, NULL, 10);
    return -1;
}

/* ---- control groups ---- */

/* The first file `name` from this process's group upwards that is there (version 2), malloc'ed. */
static char *of_group(const char *root, const char *name) {
    char *groups = pb_machine_text(root, "/proc/self/cgroup"), path[768] = "", file[1024], *text = NULL;
    const char *own = groups ? strstr(groups, "0::/") : NULL;
    if (own && (own == groups || own[-1] == '\n'))
        snprintf(path, sizeof path, "%.*s", (int)strcspn(own + 3, "\n"), own + 3);
    free(groups);
    for (;;) {
        char *slash = strrchr(path, '/');
        if (slash && !slash[1]) *slash = 0;
        snprintf(file, sizeof file, "/sys/fs/cgroup%s/%s", path, name);
        if ((text = pb_machine_text(root, file)) != NULL || !*path) return text;
        *strrchr(path, '/') = 0;
    }
}

/* CPUs that may be used at a time. */
static double cpu_quota(const char *root) {
    char *text = of_group(root, "cpu.max");
    double quota = NAN, period = NAN, value = NAN;
    if (text && sscanf(text, "%lf %lf", &quota, &period) == 2 && period > 0) value = quota / period;
    free(text);
    if (!isnan(value)) return value;
    if (pb_machine_number(root, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota) && quota > 0 &&
        pb_machine_number(root, "/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period) && period > 0)
        return quota / period;
    return NAN;
}

static int64_t times_stopped(const char *root) {
    char *text = of_group(root, "cpu.stat");
    if (!text) text = pb_machine_text(root, "/sys/fs/cgroup/cpu/cpu.stat");
    int64_t n = text ? keyed(text, "nr_throttled") : -1;
    free(text);
    return n;
}

/* ---- clocks ---- */

static double mean_mhz(const char *root, int cpus) {
    double sum = 0, khz;
    int n = 0;
    for (int i = 0; i < cpus; i++) {
        if (!pb_machine_cpu_number(root, i, "cpufreq/scaling_cur_freq", &khz)) continue;
        sum += khz / 1000;
        n++;
    }
    if (n > 0) return sum / n;
    char *text = pb_machine_text(root, "/proc/cpuinfo");
    for (const char *p = text; p && (p = strstr(p, "cpu MHz")) != NULL; p++) {
        const char *colon = strchr(p, ':');
        if (!colon) break;
        sum += strtod(colon + 1, NULL);
        n++;
    }
    free(text);
    return n > 0 ? sum / n : NAN;
}

static int64_t times_throttled(const char *root, int cpus) {
    int64_t sum = -1;
    double n;
    for (int i = 0; i < cpus; i++)
        for (int package = 0; package < 2; package++) {
            const char *name = package ? "thermal_throttle/package_throttle_count"
                                       : "thermal_throttle/core_throttle_count";
            if (pb_machine_cpu_number(root, i, name, &n)) sum = (sum < 0 ? 0 : sum) + (int64_t)n;
        }
    return sum;
}

/* The hottest thermal zone, whichever it is; NaN without any. */
static double hottest(const char *root) {
    double most = NAN, value;
    for (int i = 0; i < MOST_ZONES; i++) {
        char path[64];
        snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/temp", i);
        if (pb_machine_number(root, path, &value)) most = fmax(most, value / 1000); /* leaves NaN out */
    }
    return most;
}

/* What the packages took since some moment, in joules; NaN when it may not be read. */
static double energy(const char *root) {
    double sum = NAN, value;
    for (int i = 0; i < MOST_ZONES; i++) {
        char path[64], name[32];
        snprintf(path, sizeof path, "/sys/class/powercap/intel-rapl:%d/name", i);
        if (!pb_machine_word(root, path, name, sizeof name) || strncmp(name, "package", 7) != 0) continue;
        snprintf(path, sizeof path, "/sys/class/powercap/intel-rapl:%d/energy_uj", i);
        if (pb_machine_number(root, path, &value)) sum = (isnan(sum) ? 0 : sum) + value * 1e-6;
    }
    return sum;
}

static void find_governor(const char *root, pb_machine_report *r) {
    double value;
    for (int i = 0; i < r->cpus; i++) {
        char path[128], name[32];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor", i);
        if (!pb_machine_word(root, path, name, sizeof name)) continue;
        bool other = *r->governor && strcmp(r->governor, name) != 0;
        pb_copy(r->governor, sizeof r->governor, other ? "mixed" : name);
        if (other) break;
    }
    if (pb_machine_number(root, "/sys/devices/system/cpu/intel_pstate/no_turbo", &value)) {
        r->boost_known = true;
        r->boost = !(value > 0);
    } else if (pb_machine_number(root, "/sys/devices/system/cpu/cpufreq/boost", &value)) {
        r->boost_known = true;
        r->boost = value > 0;
    }
}

/* ---- CPUs ---- */

/* The first allowed CPU of each core, in `first`; returns how many cores there are. Without a topology
 * every CPU is a core. */
static int cores_of(const char *root, const cpu_set_t *allowed, cpu_set_t *first) {
    double core[MOST_CPUS], package[MOST_CPUS];
    int cpu[MOST_CPUS], n = 0, cores = 0;
    CPU_ZERO(first);
    for (int i = 0; i < MOST_CPUS && i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET((size_t)i, allowed)) continue;
        core[n] = package[n] = -1 - i;
        pb_machine_cpu_number(root, i, "topology/core_id", &core[n]);
        pb_machine_cpu_number(root, i, "topology/physical_package_id", &package[n]);
        cpu[n++] = i;
    }
    for (int i = 0; i < n; i++) {
        bool again = false;
        for (int k = 0; k < i; k++) again = again || (core[k] == core[i] && package[k] == package[i]);
        if (again) continue;
        CPU_SET((size_t)cpu[i], first);
        cores++;
    }
    return cores;
}

void pb_machine_pin(const char *root, int threads, char text[160]) {
    cpu_set_t allowed, first;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        pb_copy(text, 160, "not pinned: the system does not say which CPUs are allowed");
        return;
    }
    int n = CPU_COUNT(&allowed), cores = cores_of(root, &allowed, &first);
    if (threads <= 0) threads = n;
    if (cores == n)
        snprintf(text, 160, "not pinned: %d threads on %d cores without siblings", threads, cores);
    else if (threads > cores)
        snprintf(text, 160, "not pinned: %d threads share %d cores of %d hardware threads", threads,
                 cores, n);
    else if (sched_setaffinity(0, sizeof first, &first) != 0)
        snprintf(text, 160, "not pinned: sched_setaffinity is refused");
    else
        snprintf(text, 160, "kept to one hardware thread of each of %d cores", cores);
}

/* ---- processes ---- */

static bool read_process(const char *root, const char *pid, process *out) {
    char path[300];
    unsigned long long user = 0, system = 0, started = 0;
    snprintf(path, sizeof path, "/proc/%.32s/stat", pid);
    char *text = pb_machine_text(root, path);
    char *open = text ? strchr(text, '(') : NULL, *close = text ? strrchr(text, ')') : NULL;
    /* After the name: state, then fields 4 to 22; 14 and 15 are times, 22 the start. */
    bool ok = open && close && close > open &&
              sscanf(close + 1,
                     " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu %*s %*s %*s %*s %*s "
                     "%*s %llu",
                     &user, &system, &started) == 3;
    if (ok) {
        *close = 0;
        *out = (process){.pid = strtol(pid, NULL, 10), .started = started, .ticks = user + system};
        pb_copy(out->name, sizeof out->name, open + 1);
    }
    free(text);
    return ok;
}

static pb_status look_at_processes(const char *root, look *l) {
    char path[768], **names = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/proc", root);
    if (pb_list_dir(path, &names, &n) != PB_OK) {
        pb_error_clear();
        return PB_OK;
    }
    l->processes = calloc(n + 1, sizeof *l->processes);
    for (size_t i = 0; l->processes && i < n; i++)
        if (isdigit((unsigned char)names[i][0]) && read_process(root, names[i], &l->processes[l->n]))
            l->n++;
    pb_names_free(names, n);
    return l->processes ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for a list of processes");
}

/* ---- looks ---- */

static double seconds_of(struct timeval t) {
    return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

static pb_status take_look(const pb_machine_watch *w, look *l) {
    double t[8] = {0};
    *l = (look){.n = 0};
    char *text = pb_machine_text(w->root, "/proc/stat");
    /* user nice system idle iowait irq softirq steal, in ticks since the start */
    if (text)
        sscanf(text, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &t[0], &t[1], &t[2], &t[3], &t[4],
               &t[5], &t[6], &t[7]);
    free(text);
    l->busy = t[0] + t[1] + t[2] + t[5] + t[6];
    l->steal = t[7];
    l->all = l->busy + t[3] + t[4] + t[7];
    for (int who = 0; who < 2; who++) {
        struct rusage u;
        if (getrusage(who ? RUSAGE_CHILDREN : RUSAGE_SELF, &u) == 0)
            l->own += seconds_of(u.ru_utime) + seconds_of(u.ru_stime);
    }
    l->mhz = mean_mhz(w->root, w->report.cpus);
    l->celsius = hottest(w->root);
    l->joules = energy(w->root);
    l->stopped = times_stopped(w->root);
    l->throttled = times_throttled(w->root, w->report.cpus);
    return look_at_processes(w->root, l);
}

/* fmin and fmax leave NaN out. */
static void see_clock(pb_machine_report *r, double mhz) {
    r->mhz_least = fmin(r->mhz_least, mhz);
    r->mhz_most = fmax(r->mhz_most, mhz);
}

void pb_machine_glance(pb_machine_watch *w) {
    if (w) see_clock(&w->report, mean_mhz(w->root, w->report.cpus));
}

static int64_t risen(int64_t before, int64_t after) {
    return before < 0 || after < 0 ? -1 : after - before;
}

/* The process that took most between two looks, this one left out. */
static void find_busiest(const look *a, const look *b, double ticks_per_cpu, pb_machine_report *r) {
    for (int i = 0; i < b->n; i++) {
        const process *p = &b->processes[i];
        unsigned long long before = 0;
        bool new = true;
        if (p->pid == (long)getpid()) continue;
        for (int k = 0; k < a->n && new; k++)
            if (a->processes[k].pid == p->pid && a->processes[k].started == p->started) {
                before = a->processes[k].ticks;
                new = false;
            }
        double share = p->ticks > before ? (double)(p->ticks - before) / ticks_per_cpu : 0;
        if (share <= r->busiest_share) continue;
        r->busiest_share = share;
        pb_copy(r->busiest, sizeof r->busiest, p->name);
    }
}

pb_status pb_machine_begin(const char *root, int threads, pb_machine_watch **out) {
    pb_machine_watch *w = calloc(1, sizeof *w);
    cpu_set_t allowed, first;
    if (!w) return PB_ERROR(PB_E_OOM, "no memory to watch the machine");
    pb_copy(w->root, sizeof w->root, root);
    pb_machine_report *r = &w->report;
    r->threads = threads;
    r->mhz_least = r->mhz_most = NAN;
    r->cpus = r->allowed = r->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        r->allowed = CPU_COUNT(&allowed);
        r->cores = cores_of(root, &allowed, &first);
    }
    r->quota = cpu_quota(root);
    if (!pb_machine_number(root, "/proc/loadavg", &r->load)) r->load = NAN;
    find_governor(root, r);
    pb_status status = take_look(w, &w->before);
    if (status != PB_OK) {
        pb_machine_drop(w);
        return status;
    }
    *out = w;
    return PB_OK;
}

pb_status pb_machine_end(pb_machine_watch *w, pb_machine_report *out) {
    look after;
    pb_status status = take_look(w, &after);
    pb_machine_report *r = &w->report;
    double hz = (double)sysconf(_SC_CLK_TCK), all = after.all - w->before.all;
    double ticks = all / r->cpus; /* of one CPU */
    if (status == PB_OK) {
        r->seconds = ticks / hz;
        r->mhz[0] = w->before.mhz;
        r->mhz[1] = after.mhz;
        for (int i = 0; i < 2; i++) see_clock(r, r->mhz[i]);
        r->celsius_most = fmax(w->before.celsius, after.celsius);
        double joules = after.joules - w->before.joules; /* below 0: a counter began anew */
        r->watts = joules >= 0 && r->seconds > 0 ? joules / r->seconds : (double)NAN;
        r->stopped = risen(w->before.stopped, after.stopped);
        r->throttled = risen(w->before.throttled, after.throttled);
        if (all > 0) {
            double own = (after.own - w->before.own) * hz;
            r->others = fmax(0, after.busy - w->before.busy - own) / ticks;
            r->steal = fmax(0, after.steal - w->before.steal) / all;
            find_busiest(&w->before, &after, ticks, r);
        }
        *out = *r;
    }
    free(after.processes);
    pb_machine_drop(w);
    return status;
}

void pb_machine_drop(pb_machine_watch *w) {
    if (!w) return;
    free(w->before.processes);
    free(w);
}
