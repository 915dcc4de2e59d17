/* Two builds, kernel by kernel: harness/kernel_compare.h. */
#include "harness/kernel_compare.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "harness/kernel_count.h"
#include "harness/kernel_saved.h"
#include "kernels/core/rng.h"

#define FORECAST 3       /* pairs, after which it is said what can be found */
#define FIRST_SHARE 0.75 /* of the budget, for the first stage */

typedef struct work {
    const pb_compare_request *q;
    char program[2][1024];
    char backend[2][1024];         /* paths; "" on devices that have none */
    char said[2][2][PB_SHA256_HEX]; /* side, program or backend: hashes as the first process says */
    bool ran[2];                    /* a process of this side has said so */
    char cycles_by[16];             /* how the last process read them */
    char other_machine[192];
    double share_s; /* budget of a kernel in a process of the first stage; 0 = none */
    pb_kernel_folder folder;
    pb_comparison_of_builds *out;
} work;

static const char *const sides[] = {"A", "B"};

static pb_status find_program(const char *path, char out[1024]) {
    char *inside = pb_is_dir(path) ? pb_path_join(path, "peftbench") : NULL;
    bool fits = pb_copy(out, 1024, inside ? inside : path);
    free(inside);
    if (fits && access(out, X_OK) == 0 && !pb_is_dir(out)) return PB_OK;
    return PB_ERROR(PB_E_INPUT,
                    "%s: no program peftbench there; expected a build folder or a program", path);
}

/* ---- the kernels ---- */

pb_compared_side pb_compared_side_none(void) {
    return (pb_compared_side){
        .worst = NAN, .least = NAN, .flops = NAN, .flops_else = NAN, .bytes = NAN};
}

pb_status pb_compared_find(pb_comparison_of_builds *c, const char *name, bool add,
                           pb_compared **out) {
    *out = NULL;
    for (int i = 0; i < c->n && !*out; i++)
        if (strcmp(c->kernels[i].name, name) == 0) *out = &c->kernels[i];
    if (*out || !add) return PB_OK;
    pb_compared *grown = realloc(c->kernels, (size_t)(c->n + 1) * sizeof *grown);
    if (!grown) return PB_ERROR(PB_E_OOM, "no memory for %d kernels", c->n + 1);
    c->kernels = grown;
    *out = &grown[c->n++];
    **out = (pb_compared){.samples = 0};
    for (int side = 0; side < 2; side++) (*out)->side[side] = pb_compared_side_none();
    pb_copy((*out)->name, sizeof (*out)->name, name);
    return PB_OK;
}

static pb_status list_side(work *w, int side) {
    pb_status status = PB_OK;
    pb_json *list = NULL;
    const pb_json *o = NULL;
    pb_kernel_process p = {.program = w->program[side], .options = w->q->options};
    PB_TRY(pb_kernel_process_list(&p, &w->folder, &list));
    cJSON_ArrayForEach(o, list) {
        const char *name = NULL;
        pb_compared *k;
        PB_TRY(pb_json_read_str(o, w->program[side], "name", &name));
        if (!name) PB_FAIL(PB_E_INPUT, "%s kernels list: a case without a name", w->program[side]);
        if (!pb_kernel_case_holds(name, w->q->filter)) continue;
        PB_TRY(pb_compared_find(w->out, name, true, &k));
        k->side[side].listed = true;
    }
done:
    pb_json_free(list);
    return status;
}

static bool in_stage(const pb_compared *k, int stage) {
    if (!k->side[0].listed || !k->side[1].listed || *k->failed) return false;
    return stage == 0 || k->result.again;
}

static int count_stage(const pb_comparison_of_builds *c, int stage) {
    int n = 0;
    for (int i = 0; i < c->n; i++) n += in_stage(&c->kernels[i], stage);
    return n;
}

/* The filter that leaves a stage's kernels: the one that was asked for, or all names. */
static pb_status make_filter(const work *w, int stage, pb_text *out) {
    int n = 0;
    for (int i = 0; i < w->out->n; i++) {
        const pb_compared *k = &w->out->kernels[i];
        if (in_stage(k, stage)) pb_text_add(out, "%s%s", n++ ? "|" : "", k->name);
    }
    if (n == w->out->n) {
        pb_text_free(out);
        if (w->q->filter) pb_text_add(out, "%s", w->q->filter);
    }
    return pb_text_status(out);
}

/* ---- what a process measured ---- */

static void read_optional(const pb_json *o, const char *key, double *out) {
    const pb_json *v = pb_json_get(o, key);
    if (cJSON_IsNumber(v)) *out = v->valuedouble;
}

static void copy_optional(const pb_json *o, const char *key, char *out, size_t cap) {
    const pb_json *v = pb_json_get(o, key);
    if (cJSON_IsString(v)) pb_copy(out, cap, v->valuestring);
}

static void take_samples(const pb_json *o, pb_compared *k) {
    const pb_json *list = pb_json_get(o, "samples_s"), *v = NULL;
    int n = 0;
    if (!cJSON_IsArray(list) || !list->child) return;
    cJSON_ArrayForEach(v, list->child) {
        k->seconds += v->valuedouble;
        n++;
    }
    if (k->samples == 0 || n < k->samples) k->samples = n;
}

/* Cycles of a kernel in a process, and what the GPU did meanwhile. */
static pb_status take_gauges(work *w, const pb_json *o, pb_compared *k, int side, int stage,
                             int process) {
    pb_comparison_of_builds *c = w->out;
    const pb_json *seen = NULL;
    double cycles = 0;
    read_optional(o, "median_cycles", &cycles);
    k->cycles[side][stage][process] = cycles;
    cJSON_ArrayForEach(seen, pb_json_get(o, "gpu"))
        PB_RETURN(pb_gpu_report_add(seen, w->folder.samples, &c->gpu));
    /* A counter of a thread leaves out what the kernel of the system does: no clock. */
    if (!(cycles > 0) || strcmp(w->cycles_by, "perf_event") == 0) return PB_OK;
    double mhz = cycles / k->time[side][stage][process] * 1e-6;
    c->mhz_least = fmin(c->mhz_least, mhz); /* leaves NaN out */
    c->mhz_most = fmax(c->mhz_most, mhz);
    return PB_OK;
}

/* One kernel of one process. */
static pb_status take(work *w, const pb_json *o, int side, int stage, int process) {
    const char *name = NULL, *sha = NULL, *why = NULL;
    bool wrong = false;
    double median = 0;
    pb_compared *k;
    PB_RETURN(pb_json_read_str(o, w->folder.samples, "name", &name));
    PB_RETURN(pb_json_read_str(o, w->folder.samples, "output_sha256", &sha));
    PB_RETURN(pb_json_read_bool(o, w->folder.samples, "wrong", &wrong));
    if (!wrong) PB_RETURN(pb_json_read_f64(o, w->folder.samples, "median_s", 0, 1e9, &median));
    if (!name || !sha || (!wrong && !(median > 0)))
        return PB_ERROR(PB_E_INPUT, "%s: a kernel without name, output_sha256 or median_s",
                        w->program[side]);
    PB_RETURN(pb_compared_find(w->out, name, false, &k));
    if (!k || !in_stage(k, stage)) return PB_OK; /* its name holds that of another one */
    pb_compared_side *s = &k->side[side];
    if (wrong) {
        PB_RETURN(pb_json_read_str(o, w->folder.samples, "why", &why));
        snprintf(k->wrong, sizeof k->wrong, "%s: %.140s", sides[side], why ? why : "wrong");
    } else if (!*s->sha256) {
        pb_copy(s->sha256, sizeof s->sha256, sha);
    } else if (strcmp(s->sha256, sha) != 0) {
        snprintf(k->wrong, sizeof k->wrong, "%s: not the same output in every process",
                 sides[side]);
    }
    if (s->in == 0) {
        copy_optional(o, "variant", s->variant, sizeof s->variant);
        copy_optional(o, "roof", s->roof, sizeof s->roof);
        read_optional(o, "error_of_allowed", &s->worst);
        read_optional(o, "least_s", &s->least);
        read_optional(o, "flops", &s->flops);
        read_optional(o, "flops_else", &s->flops_else);
        read_optional(o, "bytes", &s->bytes);
    }
    take_samples(o, k);
    k->time[side][stage][process] = median;
    s->in++;
    return wrong ? PB_OK : take_gauges(w, o, k, side, stage, process);
}

/* It must be the same program, and backend, in every process, and the file that was there at the
 * beginning. */
static pb_status check_program(work *w, const pb_json *root, int side) {
    static const char *const keys[] = {"binary_sha256", "backend_sha256"};
    const char *const paths[] = {w->program[side], w->backend[side]};
    const char *const then[] = {w->out->sha256[side], w->out->backend[side]};
    for (int i = 0; i < 2; i++) {
        const char *says = pb_json_text(root, keys[i]);
        char now[PB_SHA256_HEX] = "";
        if (!w->ran[side]) pb_copy(w->said[side][i], sizeof w->said[side][i], says);
        if (*paths[i]) PB_RETURN(pb_sha256_file(paths[i], now));
        if (strcmp(w->said[side][i], says) == 0 && strcmp(then[i], now) == 0) continue;
        return PB_ERROR(PB_E_ENV,
                        "%s became another %s while it was measured; compare copies that nobody "
                        "builds over",
                        *paths[i] ? paths[i] : paths[0], i ? "backend" : "program");
    }
    return PB_OK;
}

/* One process that reads cycles in another way leaves none to compare. */
static void note_cycles(work *w, const pb_json *root, int side) {
    char *all = w->out->cycles_by[side];
    pb_copy(w->cycles_by, sizeof w->cycles_by, pb_json_text(root, "cycles_by"));
    if (!w->ran[side])
        pb_copy(all, sizeof w->out->cycles_by[side], w->cycles_by);
    else if (strcmp(all, w->cycles_by) != 0)
        pb_copy(all, sizeof w->out->cycles_by[side], PB_CYCLES_MIXED);
}

static pb_status keep(const work *w, const pb_json *root, int side, int stage, int process) {
    char name[64];
    if (!w->q->save) return PB_OK;
    snprintf(name, sizeof name, "stage%d-pair%02d-%s.json", stage + 1, process + 1, sides[side]);
    char *path = pb_path_join(w->q->save, name);
    if (!path) return PB_ERROR(PB_E_OOM, "no memory for a path");
    pb_status status = pb_json_save(root, path);
    free(path);
    return status;
}

/* ---- processes ---- */

/* Signals of a program's own fault; others (too little memory, a CI job at its end) come from outside. */
static bool is_fault(int number) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (faults[i] == number) return true;
    return false;
}

/* A process ended within a kernel: that kernel has its verdict and the others go on without it.
 * False when it is not known which one it was. */
static bool blame_kernel(work *w, int side, int stage, int code) {
    char name[160], line[160];
    pb_compared *k = NULL;
    pb_kernel_process_last(&w->folder, name, line);
    if (code == 0 || !*name) return false;
    if (pb_compared_find(w->out, name, false, &k) != PB_OK || !k || !in_stage(k, stage))
        return false;
    if (is_fault(code - 128))
        snprintf(k->wrong, sizeof k->wrong, "%s: ended its process with signal %d", sides[side],
                 code - 128);
    if (code > 128)
        snprintf(k->failed, sizeof k->failed, "%s: its process was ended by signal %d: %.100s",
                 sides[side], code - 128, line);
    else
        snprintf(k->failed, sizeof k->failed, "%s: exit status %d: %.120s", sides[side], code, line);
    fprintf(stderr, "%s: %s\n", name, k->failed);
    return true;
}

static pb_status run_once(work *w, int side, int stage, int process, int *code, pb_json **out) {
    pb_text filter = {0};
    pb_status status = PB_OK;
    int n = count_stage(w->out, stage), all = count_stage(w->out, 0);
    double budget = w->share_s * n;
    if (stage > 0) /* what is left of the whole, and no more a kernel than in the first */
        budget = fmin(budget, w->share_s * all * (1 - FIRST_SHARE) / FIRST_SHARE);
    PB_TRY(make_filter(w, stage, &filter));
    pb_kernel_process p = {.program = w->program[side],
                           .options = w->q->options,
                           .filter = filter.data,
                           .budget_s = budget,
                           .check = stage == 0 && process == 0,
                           .code = code};
    PB_TRY(pb_kernel_process_run(&p, &w->folder, out));
done:
    pb_text_free(&filter);
    return status;
}

static pb_status run_process(work *w, int side, int stage, int process) {
    pb_status status = PB_OK;
    pb_json *root = NULL;
    const pb_json *o = NULL;
    fprintf(stderr, "stage %d, pair %d of %d: %s\n", stage + 1, process + 1, PB_GATE_PROCESSES,
            sides[side]);
    while (!root) {
        int code = 0;
        if (count_stage(w->out, stage) == 0) return PB_OK;
        status = run_once(w, side, stage, process, &code, &root);
        if (status != PB_OK && !blame_kernel(w, side, stage, code)) return status;
        if (status != PB_OK) pb_error_clear();
    }
    pb_machine_glance(w->q->watch);
    PB_TRY(check_program(w, root, side));
    note_cycles(w, root, side);
    w->ran[side] = true;
    PB_TRY(keep(w, root, side, stage, process));
    if (stage == 0 && process == 0 && pb_json_get(root, "environment")) {
        w->out->environment[side] = cJSON_Duplicate(pb_json_get(root, "environment"), true);
        if (!w->out->environment[side]) PB_FAIL(PB_E_OOM, "no memory for an environment");
    }
    cJSON_ArrayForEach(o, pb_json_get(root, "kernels")) PB_TRY(take(w, o, side, stage, process));
done:
    pb_json_free(root);
    return status;
}

/* ---- verdicts ---- */

void pb_compared_judge_samples(pb_compared *k, double limit_s) {
    if (k->samples == 0 || k->samples >= PB_KERNEL_SAMPLES || limit_s >= PB_KERNEL_LIMIT_S) return;
    snprintf(k->few, sizeof k->few, "%d samples a process, %d are wanted: a greater --budget",
             k->samples, PB_KERNEL_SAMPLES);
}

/* Every process of both sides read them, in one way. */
static bool has_cycles(const work *w, const pb_compared *k, int stages, int processes) {
    const pb_comparison_of_builds *c = w->out;
    bool all = *c->cycles_by[0] && strcmp(c->cycles_by[0], PB_CYCLES_MIXED) != 0 &&
               strcmp(c->cycles_by[0], c->cycles_by[1]) == 0;
    for (int side = 0; side < 2; side++)
        for (int s = 0; s < stages; s++)
            for (int p = 0; p < processes; p++) all = all && k->cycles[side][s][p] > 0;
    return all;
}

static pb_status decide(const work *w, pb_compared *k, int stages, int processes) {
    double then = k->side[0].instructions, now = k->side[1].instructions;
    pb_gate_input in = {.stages = k->counted_only ? 0 : stages,
                        .instructions_a = then,
                        .instructions_b = fabs(now - then) <= PB_COUNT_SLACK ? then : now};
    bool cycles = has_cycles(w, k, stages, processes);
    for (int s = 0; s < stages; s++) {
        in.stage[s].a = (pb_gate_side){processes, k->time[0][s], cycles ? k->cycles[0][s] : NULL};
        in.stage[s].b = (pb_gate_side){processes, k->time[1][s], cycles ? k->cycles[1][s] : NULL};
    }
    pb_compared_judge_samples(k, w->share_s > 0 ? w->share_s : PB_KERNEL_LIMIT_S);
    if (*k->few) in.few = k->few;
    if (*k->wrong) in.wrong = k->wrong;
    for (int side = 0; side < 2 && !k->counted_only; side++)
        if (!k->side[side].listed)
            in.incomparable = side ? "only A has it" : "only B has it";
        else if (!in.incomparable && k->side[side].in != stages * processes)
            in.incomparable = "not measured by every process";
    if (*k->failed) in.incomparable = k->failed;
    if (*w->other_machine) in.incomparable = w->other_machine;
    if (in.wrong || in.incomparable) in.stages = 0;
    return pb_gate_decide(&in, &k->result);
}

/* What the pairs so far say about the machine, before the rest of the time is spent on it. */
static pb_status forecast(const work *w) {
    pb_compared_power power;
    for (int i = 0; i < w->out->n; i++) PB_RETURN(decide(w, &w->out->kernels[i], 1, FORECAST));
    PB_RETURN(pb_compared_power_of(w->out, &power));
    if (power.n > 0)
        fprintf(stderr,
                "after %d pairs: A's processes spread by %.1f %% (median of %d kernels), about "
                "%.1f %% of slowdown will be found (%.1f to %.1f), by the spread of both sides\n",
                FORECAST, 100 * power.spread[1], power.n, 100 * power.detectable[1],
                100 * power.detectable[0], 100 * power.detectable[2]);
    if (power.n > 0 && power.detectable[1] > 2 * (PB_GATE_SLOWER - 1))
        fprintf(stderr, "a quieter machine, or --instructions, could tell more\n");
    for (int i = 0; i < w->out->n; i++)
        w->out->kernels[i].result = (pb_gate_result){.again = false};
    return PB_OK;
}

static pb_status run_stage(work *w, int stage) {
    for (int i = 0; i < PB_GATE_PROCESSES; i++) {
        int first = (int)(pb_random_u32(w->q->key, (uint64_t)stage, (uint64_t)i) & 1);
        PB_RETURN(run_process(w, first, stage, i));
        PB_RETURN(run_process(w, !first, stage, i));
        if (stage == 0 && i == 0)
            PB_RETURN(pb_environment_differences(w->out->environment[0], w->out->environment[1],
                                                 &w->out->differences, w->other_machine));
        if (stage == 0 && i + 1 == FORECAST) PB_RETURN(forecast(w));
    }
    return PB_OK;
}

static pb_status run_stages(work *w) {
    const char *const programs[] = {w->program[0], w->program[1]};
    pb_comparison_of_builds *c = w->out;
    for (int side = 0; side < 2; side++) PB_RETURN(list_side(w, side));
    if (w->q->instructions) PB_RETURN(pb_compare_instructions(w->q, programs, &w->folder, c));
    if (c->n == 0)
        return PB_ERROR(PB_E_INPUT,
                        "--filter %s: no case has this in its name; see peftbench kernels list",
                        w->q->filter ? w->q->filter : "");
    int n = count_stage(c, 0);
    if (n > 0) w->share_s = FIRST_SHARE * w->q->budget_s / (2 * PB_GATE_PROCESSES * n);
    if (n > 0) PB_RETURN(run_stage(w, 0));
    for (int i = 0; i < c->n; i++) PB_RETURN(decide(w, &c->kernels[i], 1, PB_GATE_PROCESSES));
    if (count_stage(c, 1) == 0) return PB_OK;
    PB_RETURN(run_stage(w, 1));
    for (int i = 0; i < c->n; i++)
        if (c->kernels[i].result.again) PB_RETURN(decide(w, &c->kernels[i], 2, PB_GATE_PROCESSES));
    return PB_OK;
}

pb_status pb_compare_builds(const pb_compare_request *request, pb_comparison_of_builds *out) {
    pb_status status = PB_OK;
    work w = {.q = request, .out = out};
    const char *paths[] = {request->a, request->b};
    *out = (pb_comparison_of_builds){
        .mhz_least = NAN, .mhz_most = NAN, .gpu = pb_gpu_report_none()};
    for (int side = 0; side < 2; side++) {
        PB_RETURN(find_program(paths[side], w.program[side]));
        PB_RETURN(pb_sha256_file(w.program[side], out->sha256[side]));
        if (!request->cuda) continue;
        PB_RETURN(pb_kernel_backend(w.program[side], w.backend[side]));
        PB_RETURN(pb_sha256_file(w.backend[side], out->backend[side]));
    }
    if (request->save) PB_RETURN(pb_make_dirs(request->save));
    PB_RETURN(pb_kernel_folder_open(&w.folder));
    PB_TRY(run_stages(&w));
done:
    pb_kernel_folder_close(&w.folder);
    if (status != PB_OK) pb_comparison_of_builds_free(out);
    return status;
}

void pb_comparison_of_builds_free(pb_comparison_of_builds *c) {
    for (int side = 0; side < 2; side++) pb_json_free(c->environment[side]);
    pb_text_free(&c->differences);
    pb_text_free(&c->stored);
    pb_text_free(&c->noise);
    free(c->kernels);
    *c = (pb_comparison_of_builds){.n = 0};
}
