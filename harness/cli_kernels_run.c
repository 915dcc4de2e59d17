/* peftbench kernels run: cases checked against the reference and timed, in this process or in
 * several fresh ones, into one tree of JSON that the table is printed from. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "harness/cli_kernels.h"
#include "harness/environment.h"
#include "harness/kernel_history.h"
#include "harness/kernel_process.h"
#include "harness/kernel_saved.h"
#include "harness/cpu_roofs.h"
#include "harness/machine_state.h"
#include "results/record.h"

/* ---- one process ---- */

/* A list a process: of this one. */
static bool add_list(pb_json *o, const char *key, const double *values, int64_t n) {
    pb_json *lists = pb_json_add_array(o, key);
    pb_json *list = n > 0 ? pb_json_add_array(lists, NULL) : NULL;
    bool ok = lists && (list || n == 0);
    for (int64_t i = 0; i < n; i++) ok = ok && pb_json_add_f64(list, NULL, values[i]);
    return ok;
}

static bool add_samples(pb_json *o, const double *samples, int64_t n) {
    return add_list(o, "samples_s", samples, n);
}

static bool add_anchors(pb_json *root, const pb_cpu_roofs *r) {
    pb_json *anchors = pb_json_add_object(root, "anchors");
    bool ok = true;
    for (int i = 0; i < PB_SAVED_ANCHORS; i++)
        ok = ok && add_samples(pb_json_add_object(anchors, pb_anchor_name(i)), r->samples_s[i],
                               r->measured[i] ? PB_ROOF_SAMPLES : 0);
    return ok;
}

static bool on_cpu(const pb_kernels_request *q) { return strcmp(q->device, "cpu") == 0; }

static pb_status add_roofs(pb_json *root, const pb_kernels_request *q, const pb_cpu_roofs *r) {
    pb_json *roofs = pb_json_add_object(root, "roofs"), *flops;
    bool ok = pb_json_add_f64(roofs, "bytes_per_s", r->bytes_per_s) &&
              pb_json_add_i64(roofs, "copy_bytes", r->copy_bytes) &&
              pb_json_add_bool(roofs, "copy_streams", r->streams) &&
              pb_json_add_i64(roofs, "product_side", r->side) &&
              pb_json_add_f64(roofs, "vector_ops_per_s", r->ops_per_s) &&
              pb_json_add_i64(roofs, "cache_bytes", on_cpu(q) ? pb_last_cache_bytes(NULL) : 0);
    flops = pb_json_add_object(roofs, "flops_per_s");
    ok = ok && pb_json_add_f64(flops, "f32", r->flops_per_s[0]) &&
         pb_json_add_f64(flops, "bf16", r->flops_per_s[1]);
    return pb_cli_built(ok && add_anchors(root, r));
}

/* Kernels of the device "cuda" are not in the program. */
static pb_status add_programs(pb_json *root, const pb_kernels_request *q) {
    char hash[PB_SHA256_HEX], self[1024], backend[1024];
    PB_RETURN(pb_sha256_file("/proc/self/exe", hash));
    PB_RETURN(pb_cli_built(pb_json_add_str(root, "binary_sha256", hash)));
    if (strcmp(q->device, "cuda") != 0) return PB_OK;
    PB_RETURN(pb_own_program(self, sizeof self));
    PB_RETURN(pb_kernel_backend(self, backend));
    PB_RETURN(pb_sha256_file(backend, hash));
    return pb_cli_built(pb_json_add_str(root, "backend_sha256", hash));
}

/* What another run needs to do the same; null where nothing was said. */
static bool add_asked(pb_json *root, const pb_kernels_request *q) {
    pb_json *o = pb_json_add_object(root, "asked");
    return pb_json_add_str(o, "model", q->model) && pb_json_add_bool(o, "all", q->all) &&
           pb_json_add_f64(o, "rows", q->rows ? (double)q->rows : (double)NAN) &&
           pb_json_add_str(o, "dtype", q->dtype < 0 ? NULL : q->dtype ? "bf16" : "f32") &&
           pb_json_add_str(o, "filter", q->filter) &&
           pb_json_add_f64(o, "budget_s", q->budget_s > 0 ? q->budget_s : (double)NAN);
}

static pb_status start_json(const pb_kernels_request *q, const pb_device *dev,
                            const pb_cpu_roofs *roofs, pb_json *root) {
    char now[32], described[512];
    pb_json *environment = NULL;
    pb_utc_now(now);
    PB_RETURN(pb_environment_json(q->device, (int)q->threads, &environment));
    if (!pb_json_add_str(environment, "cache", q->cache == 1 ? "hot" : "cold") ||
        !cJSON_AddItemToObject(root, "environment", environment)) {
        pb_json_free(environment);
        return pb_cli_built(false);
    }
    pb_device_describe(dev, described, sizeof described);
    PB_RETURN(pb_environment_add_gpu(environment, described));
    PB_RETURN(pb_cli_built(pb_json_add_str(root, "schema", PB_KERNELS_SCHEMA) &&
                           pb_json_add_str(root, "time_utc", now) &&
                           pb_json_add_i64(root, "processes", 1) && add_asked(root, q)));
    PB_RETURN(add_programs(root, q));
    return add_roofs(root, q, roofs);
}

/* What is read beside the time. */
typedef struct gauges {
    pb_kernel_clock *clock;
    pb_gpu_watch *gpu; /* NULL on a CPU, or when the driver does not tell */
} gauges;

static pb_status open_gauges(const pb_kernels_request *q, const pb_device *dev, gauges *g) {
    char described[512], bus[32];
    if (on_cpu(q)) return pb_kernel_clock_open_host(pb_device_threads(dev), &g->clock);
    pb_device_describe(dev, described, sizeof described);
    (void)pb_environment_word(described, PB_DEVICE_BUS, bus, sizeof bus);
    if (pb_gpu_watch_open(NULL, *bus == '?' ? "" : bus, &g->gpu) == PB_OK)
        return pb_kernel_clock_open_gpu(g->gpu, &g->clock);
    fprintf(stderr, "%s\n", pb_error_message());
    pb_error_clear();
    return PB_OK;
}

static void close_gauges(gauges *g) {
    pb_kernel_clock_close(g->clock);
    pb_gpu_watch_close(g->gpu);
}

/* Cycles and their median, and what the GPU did meanwhile: lists of this process. */
static pb_status add_gauges(pb_json *o, const pb_kernel_result *r, gauges *g) {
    double median = NAN;
    if (r->cycles) {
        PB_RETURN(pb_derive("median", r->cycles, r->n, &median));
        for (int64_t i = 0; i < r->n; i++) r->cycles[i] = round(r->cycles[i] * 10) / 10;
        PB_RETURN(pb_cli_built(add_list(o, "cycles", r->cycles, r->n)));
    }
    PB_RETURN(pb_cli_built(pb_json_add_f64(o, "median_cycles", median)));
    if (!g->gpu) return PB_OK;
    pb_gpu_report seen = pb_gpu_watch_report(g->gpu);
    return pb_gpu_report_json(&seen, pb_json_add_object(pb_json_add_array(o, "gpu"), NULL));
}

static pb_status add_kernel(pb_json *list, const pb_kernels_request *q, const pb_kernel_case *c,
                            const pb_kernel_result *r, gauges *g) {
    pb_json *o = pb_json_add_object(list, NULL);
    double median = NAN;
    if (!r->wrong) PB_RETURN(pb_derive("median", r->samples, r->n, &median));
    PB_RETURN(pb_cli_built(
        pb_json_add_str(o, "name", c->name) && pb_json_add_str(o, "op", pb_op_name(c->op)) &&
        pb_json_add_str(o, "shape", c->shape) &&
        pb_json_add_str(o, "dtype", pb_dtype_name(c->layer.dtype)) &&
        pb_json_add_f64(o, "flops", c->work.flops) &&
        pb_json_add_f64(o, "flops_else", c->work.flops_else) &&
        pb_json_add_f64(o, "bytes", c->work.bytes) && pb_json_add_str(o, "variant", r->variant) &&
        pb_json_add_bool(o, "checked", !q->unchecked) && pb_json_add_bool(o, "wrong", r->wrong) &&
        (!r->wrong || pb_json_add_str(o, "why", r->why)) &&
        pb_json_add_f64(o, "error_of_allowed", q->unchecked ? NAN : r->worst) &&
        pb_json_add_str(o, "output_sha256", r->sha256) && pb_json_add_f64(o, "median_s", median) &&
        pb_json_add_i64(o, "batch", r->batch) &&
        add_samples(o, r->samples, r->wrong ? 0 : r->n)));
    return add_gauges(o, r, g);
}

static pb_status measure_roofs(const pb_kernels_request *q, pb_device *dev, pb_cpu_roofs *out) {
    if (on_cpu(q)) return pb_cpu_roofs_measure((int)q->threads, out);
    return pb_device_roofs_measure(dev, 0, 0, out);
}

static pb_status measure_here(const pb_kernels_request *q, pb_json *root) {
    pb_status status = PB_OK;
    pb_kernel_cases cases = {0};
    pb_cpu_roofs roofs = {.side = 0};
    pb_device *ref = NULL, *dev = NULL;
    pb_device_options options = {.threads = (int)q->threads};
    gauges beside = {.clock = NULL};
    double left_s = q->budget_s; /* what one case does not need the later ones may have */
    PB_TRY(pb_kernels_cases(q, &cases));
    PB_TRY(pb_device_open(q->device, &options, &dev));
    if (!q->unchecked || q->anchors) PB_TRY(measure_roofs(q, dev, &roofs));
    PB_TRY(start_json(q, dev, &roofs, root));
    PB_TRY(open_gauges(q, dev, &beside));
    PB_TRY(pb_cli_built(pb_json_add_str(root, "cycles_by", pb_kernel_clock_name(beside.clock))));
    pb_json *list = pb_json_add_array(root, "kernels");
    PB_TRY(pb_device_open("ref", NULL, &ref));
    for (int i = 0; i < cases.n; i++) {
        pb_kernel_result r;
        double limit_s = q->budget_s > 0 ? fmax(left_s, 1e-3) / (cases.n - i) : 0;
        fprintf(stderr, "%d of %d: %s\n", i + 1, cases.n, cases.items[i].name);
        pb_kernel_way way = {.unchecked = q->unchecked,
                             .hot = q->cache == 1,
                             .limit_s = limit_s,
                             .clock = beside.clock};
        PB_TRY(pb_kernel_measure(&cases.items[i], ref, dev, way, &r));
        if (beside.gpu) pb_gpu_watch_look(beside.gpu);
        left_s -= r.spent_s;
        status = add_kernel(list, q, &cases.items[i], &r, &beside);
        pb_kernel_result_free(&r);
        if (status != PB_OK) goto done;
    }
    fprintf(stderr, PB_KERNELS_MEASURED "\n");
done:
    close_gauges(&beside);
    pb_device_close(ref);
    pb_device_close(dev);
    pb_kernel_cases_free(&cases);
    return status;
}

/* ---- several ---- */

static pb_status measure_processes(const pb_kernels_request *q, const char *program, int processes,
                                   pb_json **out) {
    pb_status status = PB_OK;
    pb_kernel_folder folder = {.path = ""};
    pb_kernels_options options;
    pb_json *root = NULL, *more = NULL;
    pb_kernels_child_options(q, &options);
    PB_TRY(pb_kernel_folder_open(&folder));
    for (int i = 0; i < processes; i++) {
        pb_kernel_process p = {.program = program,
                               .options = options.argv,
                               .filter = q->filter,
                               .budget_s = q->budget_s / processes,
                               .check = i == 0 && !q->unchecked,
                               .anchors = true};
        fprintf(stderr, "process %d of %d\n", i + 1, processes);
        PB_TRY(pb_kernel_process_run(&p, &folder, i ? &more : &root));
        if (i > 0) PB_TRY(pb_saved_run_join(root, more, folder.samples));
        pb_json_free(more);
        more = NULL;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(root, "processes");
    PB_TRY(pb_cli_built(pb_json_add_i64(root, "processes", processes)));
    *out = root;
    root = NULL;
done:
    pb_json_free(more);
    pb_json_free(root);
    pb_kernel_folder_close(&folder);
    return status;
}

/* ---- the command ---- */

/* What follows from the samples, for readers of the file; nothing here reads it back. */
static pb_status add_derived(pb_json *root, const pb_saved_run *run) {
    static const char *const derived[] = {"median_s", "p10_s", "p90_s",    "least_s",       "roof_share",
                                          "roof",     "verified", "samples_fewest", "median_cycles"};
    pb_json *o = ((pb_json *)(uintptr_t)pb_json_get(root, "kernels"))->child;
    bool ok = true;
    for (int i = 0; i < run->n && ok; i++, o = o->next) {
        const pb_saved_kernel *k = &run->kernels[i];
        for (size_t d = 0; d < sizeof derived / sizeof derived[0]; d++)
            cJSON_DeleteItemFromObjectCaseSensitive(o, derived[d]);
        ok = pb_json_add_f64(o, "median_s", k->time.median) && pb_json_add_f64(o, "p10_s", k->p10) &&
             pb_json_add_f64(o, "p90_s", k->p90) && pb_json_add_f64(o, "least_s", k->least) &&
             pb_json_add_f64(o, "roof_share", k->share) &&
             pb_json_add_str(o, "roof", isnan(k->share) ? NULL : pb_roof_name(k)) &&
             pb_json_add_bool(o, "verified", k->checked && !k->wrong) &&
             pb_json_add_i64(o, "samples_fewest", k->time.fewest) &&
             pb_json_add_f64(o, "median_cycles", k->cycles.n ? k->cycles.median : (double)NAN);
    }
    return pb_cli_built(ok);
}

/* In this process or in several. */
static pb_status measure(const pb_kernels_request *q, pb_json **root, pb_machine_report *machine) {
    pb_status status = PB_OK;
    pb_machine_watch *watch = NULL;
    char self[1024], pinning[160];
    pb_machine_pin("", (int)q->threads, pinning);
    PB_TRY(pb_machine_begin("", (int)q->threads, &watch));
    if (q->processes > 1) {
        PB_TRY(pb_own_program(self, sizeof self));
        PB_TRY(measure_processes(q, self, (int)q->processes, root));
        cJSON_DeleteItemFromObjectCaseSensitive(*root, "machine_state"); /* of the first alone, */
        cJSON_DeleteItemFromObjectCaseSensitive(*root, "advice");        /* as this */
    } else {
        *root = cJSON_CreateObject();
        PB_TRY(measure_here(q, *root));
    }
    status = pb_machine_end(watch, machine);
    watch = NULL;
    if (status != PB_OK) goto done;
    memcpy(machine->pinning, pinning, sizeof pinning);
    PB_TRY(pb_machine_json(machine, pb_json_add_object(*root, "machine_state")));
done:
    pb_machine_drop(watch);
    return status;
}

static pb_status add_noise(pb_json *root, pb_saved_run *run, const pb_machine_report *machine) {
    pb_text lines = {0};
    pb_kernel_noise(run->mhz_least, run->mhz_most, &run->gpu, machine, &lines);
    bool ok = pb_text_status(&lines) == PB_OK && pb_kernels_add_advice(root, &lines);
    pb_text_free(&lines);
    run->advice = pb_json_get(root, "advice");
    return pb_cli_built(ok);
}

pb_status pb_kernels_measure(const pb_kernels_request *q, struct cJSON **root, pb_saved_run *run,
                             pb_machine_report *machine) {
    PB_RETURN(measure(q, root, machine));
    PB_RETURN(pb_saved_run_read(*root, "this run", run));
    PB_RETURN(add_noise(*root, run, machine));
    return add_derived(*root, run);
}

pb_status pb_kernels_run(pb_cli *cli, const pb_kernels_request *q) {
    pb_status status = PB_OK, written = PB_OK;
    pb_saved_run run = {.n = 0};
    pb_machine_report machine;
    pb_json *root = NULL;
    PB_TRY(pb_kernels_measure(q, &root, &run, &machine));
    if (q->save) pb_kernels_written(&written, pb_json_save(root, q->save));
    if (q->history) pb_kernels_written(&written, pb_history_append(q->history, &run));
    if (q->plots) pb_kernels_written(&written, pb_kernels_draw(&run, q->plots));
    for (int i = 0; i < run.n; i++)
        if (run.kernels[i].wrong) cli->exit_code = 5;
    if (q->format == 0) {
        PB_TRY(pb_kernels_print(q, &run));
        PB_TRY(pb_kernels_print_clock(run.cycles_by, run.mhz_least, run.mhz_most, &run.gpu));
        PB_TRY(pb_kernels_print_machine(&machine));
    } else {
        pb_json *told = root; /* which is freed */
        root = NULL;
        PB_TRY(pb_cli_print_json(told));
    }
    status = pb_kernels_all_written(written);
done:
    pb_saved_run_free(&run);
    pb_json_free(root);
    return status;
}
