/* How much of the roofline this program reaches: calibration files, and making one here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/advise.h"
#include "harness/bench_step.h"
#include "harness/environment.h"
#include "harness/rates.h"

/* ---- reading ---- */

enum { MAX_METHODS = 32 };

typedef struct tally {
    double low, high, log_sum, log_method[MAX_METHODS];
    int n, n_method[MAX_METHODS];
    char where[200]; /* "Example CPU (cpu), 2026-01-31, revision 0123456789ab" */
} tally;

static void count(tally *t, const char *method, double e) {
    for (int m = 0; m < pb_method_registry_count && m < MAX_METHODS; m++) {
        if (strcmp(pb_method_registry[m]->name, method) != 0) continue;
        t->log_method[m] += log(e);
        t->n_method[m]++;
    }
    t->low = t->n ? fmin(t->low, e) : e;
    t->high = t->n ? fmax(t->high, e) : e;
    t->log_sum += log(e);
    t->n++;
}

/* Files of before the day was written have none. */
static void say_where(tally *t, const pb_json *root, const char *machine, const char *device) {
    const char *made = pb_json_text(root, "made"), *revision = pb_json_text(root, "revision");
    snprintf(t->where, sizeof t->where, "%.90s (%.20s), %.10s%s%.12s", machine, device, *made ? made : "undated",
             *revision ? ", revision " : "", revision);
}

static pb_status read_one(const char *path, const pb_gpu *gpu, tally *here, tally *elsewhere) {
    pb_status status = PB_OK;
    pb_json *root = NULL;
    const pb_json *run = NULL;
    const char *machine = "", *device = "";
    PB_TRY(pb_json_load(path, 1 << 20, &root));
    PB_TRY(pb_json_read_str(root, path, "machine", &machine));
    PB_TRY(pb_json_read_str(root, path, "device", &device));
    tally *t = gpu && pb_gpu_is(gpu, machine) ? here : elsewhere;
    cJSON_ArrayForEach (run, pb_json_get(root, "runs")) {
        double e = 0;
        const char *method = "";
        PB_TRY(pb_json_read_str(run, path, "method", &method));
        PB_TRY(pb_json_read_f64(run, path, "efficiency", 1e-6, 10, &e));
        if (e > 0) count(t, method, e);
    }
    say_where(t, root, machine, device);
done:
    pb_json_free(root);
    return status;
}

static pb_status read_all(const char *dir, const pb_gpu *gpu, tally *here, tally *elsewhere) {
    pb_status status = PB_OK;
    char **names = NULL, *path = NULL;
    size_t n = 0;
    PB_TRY(pb_list_dir(dir, &names, &n));
    for (size_t i = 0; i < n; i++) {
        if (!pb_glob("calibration*.json", names[i])) continue;
        free(path);
        path = pb_path_join(dir, names[i]);
        if (!path) PB_FAIL(PB_E_OOM, "no memory for a path");
        PB_TRY(read_one(path, gpu, here, elsewhere));
    }
done:
    free(path);
    pb_names_free(names, n);
    return status;
}

pb_status pb_advise_efficiency(const char *dir, const pb_gpu *gpu, pb_efficiency *out) {
    tally here = {0}, elsewhere = {0};
    *out = (pb_efficiency){0};
    if (dir && pb_is_dir(dir)) PB_RETURN(read_all(dir, gpu, &here, &elsewhere));
    const tally *t = here.n ? &here : &elsewhere;
    if (t->n == 0) {
        snprintf(out->what, sizeof out->what,
                 "no calibration file: times are the least ones, at the published rates; "
                 "`peftbench advise --calibrate FILE` measures how near this program comes");
        return PB_OK;
    }
    *out = (pb_efficiency){.known = true,
                           .on_this_gpu = here.n > 0,
                           .low = t->low,
                           .mid = exp(t->log_sum / t->n),
                           .high = t->high,
                           .n = t->n};
    if (here.n) {
        for (int m = 0; m < MAX_METHODS; m++)
            if (t->n_method[m]) out->method[m] = exp(t->log_method[m] / t->n_method[m]);
        snprintf(out->what, sizeof out->what,
                 "%d steps timed on %s, reached %.0f %% of its roofline (%.0f to %.0f %%); a method is expected at the "
                 "middle of its own steps, and the range goes over all", t->n, t->where, 100 * out->mid, 100 * out->low,
                 100 * out->high);
        return PB_OK;
    }
    /* Nothing was measured on this GPU: it may do as badly as elsewhere, or reach all of its rate. */
    out->high = fmax(1, t->high);
    snprintf(out->what, sizeof out->what,
             "untested on this GPU: %d steps timed on %s, reached %.0f %% of that machine's roofline "
             "(%.0f to %.0f %%); every method is expected at that middle, whatever its own steps reached there, and the "
             "range goes from the least of them to all of this GPU's rate",
             t->n, t->where, 100 * out->mid, 100 * t->low, 100 * t->high);
    return PB_OK;
}

/* ---- measuring ---- */

static const struct {
    const char *model;
    int64_t batch, length;
} cases[] = {{"minilm", 32, 64}, {"gpt2-124m", 4, 128}};

/* The roof is measured around each case: the host's speed may drift from one to the next. */
static pb_status time_case(const char *device, int threads, pb_dtype dtype, int c,
                           const pb_method *method, pb_json *runs) {
    pb_status status = PB_OK;
    pb_rates before, after;
    pb_bench_step_result r = {0};
    pb_prediction p;
    bool applies = true;
    pb_advise_request q = {.model = cases[c].model,
                           .device = device,
                           .examples = cases[c].batch * 16,
                           .epochs = 1,
                           .dtype = dtype};
    pb_advise_setting s = {.batch = cases[c].batch, .accumulate = 1, .length = cases[c].length};
    pb_bench_step_options o = {.model = cases[c].model,
                               .method = method,
                               .device = device,
                               .threads = threads,
                               .dtype = dtype,
                               .batch = s.batch,
                               .max_len = s.length,
                               .steps = 8,
                               .dropout = true,
                               .seed = 1};
    PB_TRY(pb_model_shape(cases[c].model, &q.config));
    PB_TRY(pb_advise_predict(&q, method, NULL, &s, &p, &applies));
    if (!applies) pb_error_clear();
    if (!applies) goto done;
    PB_TRY(pb_rates_measure(device, threads, dtype, &before));
    PB_TRY(pb_bench_step(&o, &r));
    PB_TRY(pb_rates_measure(device, threads, dtype, &after));
    double flops_per_s = (before.flops_per_s + after.flops_per_s) / 2,
           bytes_per_s = (before.bytes_per_s + after.bytes_per_s) / 2;
    double least = pb_rates_seconds(p.step, flops_per_s, bytes_per_s);
    pb_json *one = pb_json_add_object(runs, NULL);
    if (!pb_json_add_str(one, "model", cases[c].model) ||
        !pb_json_add_str(one, "method", method->name) || !pb_json_add_i64(one, "batch", s.batch) ||
        !pb_json_add_i64(one, "length", s.length) || !pb_json_add_f64(one, "flops", p.step.flops) ||
        !pb_json_add_f64(one, "bytes", p.step.bytes) ||
        !pb_json_add_f64(one, "flops_per_s", flops_per_s) ||
        !pb_json_add_f64(one, "bytes_per_s", bytes_per_s) || !pb_json_add_f64(one, "step_s", r.median_s) ||
        !pb_json_add_f64(one, "efficiency", least / r.median_s))
        PB_FAIL(PB_E_OOM, "no memory for a calibration");
    fprintf(stderr, "%s, %s: %.4g s a step, %.0f %% of the roofline\n", cases[c].model, method->name,
            r.median_s, 100 * least / r.median_s);
done:
    pb_bench_step_free(&r);
    return status;
}

static pb_status calibrate(const char *device, int threads, pb_json *root) {
    pb_device *dev = NULL;
    PB_RETURN(pb_device_open(device, &(pb_device_options){.threads = threads}, &dev));
    pb_dtype dtype = pb_device_fast_dtype(dev, PB_BF16) ? PB_BF16 : PB_F32;
    pb_device_close(dev);
    bool ok = pb_json_add_str(root, "dtype", pb_dtype_name(dtype));
    pb_json *runs = pb_json_add_array(root, "runs");
    if (!ok || !runs) return PB_ERROR(PB_E_OOM, "no memory for a calibration");
    for (int c = 0; c < (int)(sizeof cases / sizeof cases[0]); c++)
        for (int m = 0; m < pb_method_registry_count; m++)
            PB_RETURN(time_case(device, threads, dtype, c, pb_method_registry[m], runs));
    return PB_OK;
}

static pb_status environment_of(const char *device, int threads, pb_json **out) {
    pb_device_facts facts;
    PB_RETURN(pb_environment_json(device, threads, out));
    PB_RETURN(pb_device_probe(device, &(pb_device_options){.threads = threads}, &facts));
    return pb_environment_add_gpu(*out, facts.text);
}

pb_status pb_advise_machine(const char *device, int threads, char out[96]) {
    pb_json *e = NULL;
    pb_status status = environment_of(device, threads, &e);
    if (status == PB_OK) pb_copy(out, 96, pb_environment_machine(e));
    pb_json_free(e);
    return status;
}

/* What was timed, where, when, and by which build. */
static pb_status head(const char *device, int threads, pb_json *root) {
    pb_status status = PB_OK;
    pb_json *e = NULL;
    char now[32];
    PB_TRY(environment_of(device, threads, &e));
    const pb_json *build = pb_json_get(e, "build");
    const char *revision = cJSON_IsTrue(pb_json_get(build, "dirty")) ? "" : pb_json_text(build, "revision");
    pb_utc_now(now);
    if (!pb_json_add_str(root, "machine", pb_environment_machine(e)) || !pb_json_add_str(root, "device", device) ||
        !pb_json_add_str(root, "made", now) || !pb_json_add_str(root, "revision", revision))
        PB_FAIL(PB_E_OOM, "no memory for a calibration");
done:
    pb_json_free(e);
    return status;
}

pb_status pb_advise_calibrate(const char *device, int threads, const char *path) {
    pb_status status = PB_OK;
    pb_json *root = cJSON_CreateObject();
    PB_TRY(head(device, threads, root));
    PB_TRY(calibrate(device, threads, root));
    PB_TRY(pb_json_save(root, path));
done:
    pb_json_free(root);
    return status;
}
