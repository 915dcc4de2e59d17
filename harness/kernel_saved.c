/* Runs of `peftbench kernels run` read back: harness/kernel_saved.h. */
#include "harness/kernel_saved.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/kernel_measure.h"
#include "results/record.h"

#define MOST_SAMPLES 100000

static const char *const anchor_names[PB_SAVED_ANCHORS] = {"copy", "gemm f32", "gemm bf16"};

const char *pb_anchor_name(int anchor) {
    return (unsigned)anchor < PB_SAVED_ANCHORS ? anchor_names[anchor] : "invalid anchor";
}

const char *pb_roof_name(const pb_saved_kernel *k) {
    static const char *const names[] = {"copy", "product", "vector"};
    return names[k->roof];
}

/* ---- samples ---- */

typedef struct numbers {
    double *v;
    int64_t n;
} numbers;

static pb_status add_samples(const pb_json *list, const char *where, numbers *out) {
    const pb_json *item = NULL;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || !(item->valuedouble > 0) || out->n >= MOST_SAMPLES)
            return PB_ERROR(PB_E_INPUT, "%s: expected at most %d positive samples", where,
                            MOST_SAMPLES);
        out->v[out->n++] = item->valuedouble;
    }
    return PB_OK;
}

static pb_status middle(pb_saved_times *t) {
    double some[PB_GATE_PROCESSES];
    int n = 0;
    for (int i = 0; i < t->n; i++)
        if (!isnan(t->medians[i])) some[n++] = t->medians[i];
    t->median = NAN;
    return n ? pb_derive("median", some, n, &t->median) : PB_OK;
}

/* samples_s, or cycles: a list a process. */
static pb_status read_times(const pb_json *lists, const char *where, pb_saved_times *t, double *p10,
                            double *p90) {
    pb_status status = PB_OK;
    const pb_json *list = NULL;
    numbers all = {.v = malloc(MOST_SAMPLES * sizeof *all.v)};
    if (!all.v) PB_FAIL(PB_E_OOM, "%s: no memory for samples", where);
    cJSON_ArrayForEach(list, lists) {
        int64_t before = all.n;
        if (t->n >= PB_GATE_PROCESSES)
            PB_FAIL(PB_E_INPUT, "%s: samples of more than %d processes", where, PB_GATE_PROCESSES);
        PB_TRY(add_samples(list, where, &all));
        t->medians[t->n] = NAN;
        if (all.n > before)
            PB_TRY(pb_derive("median", all.v + before, all.n - before, &t->medians[t->n]));
        if (t->n == 0 || all.n - before < t->fewest) t->fewest = all.n - before;
        t->n++;
    }
    *p10 = *p90 = t->least = NAN;
    for (int64_t i = 0; i < all.n; i++) {
        t->least = fmin(t->least, all.v[i]); /* leaves NaN out */
        t->total += all.v[i];
    }
    if (all.n > 0) {
        PB_TRY(pb_derive("p10", all.v, all.n, p10));
        PB_TRY(pb_derive("p90", all.v, all.n, p90));
    }
    PB_TRY(middle(t));
done:
    free(all.v);
    return status;
}

/* ---- kernels ---- */

static pb_status read_name(const pb_json *o, const char *where, const char *key, char *out,
                           size_t cap) {
    const char *text = NULL;
    PB_RETURN(pb_json_read_str(o, where, key, &text));
    if (!text) return PB_ERROR(PB_E_INPUT, "%s: no %s", where, key);
    pb_copy(out, cap, text);
    return PB_OK;
}

/* The least time that the roofs allow: max(bytes / copy, FLOPs of products / product, other operations /
 * vector units). Products without a roof of their own have no least time. */
static void place_under_roof(const pb_saved_run *run, pb_saved_kernel *k) {
    double flops_per_s = run->flops_per_s[strcmp(k->dtype, "bf16") == 0];
    k->least = k->share = NAN;
    if (!(run->bytes_per_s > 0) || (k->flops > 0 && !(flops_per_s > 0))) return;
    const double least[] = {k->bytes / run->bytes_per_s,
                            k->flops > 0 ? k->flops / flops_per_s : 0,
                            run->ops_per_s > 0 ? k->flops_else / run->ops_per_s : 0};
    for (int i = 0; i < 3; i++)
        if (least[i] > least[k->roof]) k->roof = (pb_saved_roof)i;
    k->least = least[k->roof];
    k->share = k->least / k->time.median;
}

static pb_status read_kernel(const pb_json *o, const char *where, pb_saved_run *run,
                             pb_saved_kernel *k) {
    const char *why = NULL;
    *k = (pb_saved_kernel){.worst = pb_json_number(o, "error_of_allowed")};
    PB_RETURN(read_name(o, where, "name", k->name, sizeof k->name));
    PB_RETURN(read_name(o, where, "op", k->op, sizeof k->op));
    PB_RETURN(read_name(o, where, "shape", k->shape, sizeof k->shape));
    PB_RETURN(read_name(o, where, "dtype", k->dtype, sizeof k->dtype));
    PB_RETURN(read_name(o, where, "variant", k->variant, sizeof k->variant));
    PB_RETURN(read_name(o, where, "output_sha256", k->sha256, sizeof k->sha256));
    PB_RETURN(pb_json_read_bool(o, where, "wrong", &k->wrong));
    PB_RETURN(pb_json_read_bool(o, where, "checked", &k->checked));
    PB_RETURN(pb_json_read_f64(o, where, "flops", 0, 1e30, &k->flops));
    PB_RETURN(pb_json_read_f64(o, where, "flops_else", 0, 1e30, &k->flops_else));
    PB_RETURN(pb_json_read_f64(o, where, "bytes", 0, 1e30, &k->bytes));
    if (k->wrong) {
        PB_RETURN(pb_json_read_str(o, where, "why", &why));
        pb_copy(k->why, sizeof k->why, why ? why : "wrong");
    }
    PB_RETURN(read_times(pb_json_get(o, "cycles"), where, &k->cycles, &k->p10, &k->p90));
    PB_RETURN(read_times(pb_json_get(o, "samples_s"), where, &k->time, &k->p10, &k->p90));
    if (k->cycles.n != k->time.n) k->cycles.n = 0;
    if (!k->wrong && isnan(k->time.median))
        return PB_ERROR(PB_E_INPUT, "%s: %s has no samples", where, k->name);
    place_under_roof(run, k);
    return PB_OK;
}

/* The clock while the kernel ran, process by process, and what the GPU did. */
static pb_status read_gauges(const pb_json *o, const char *where, const pb_saved_kernel *k,
                             pb_saved_run *run) {
    const pb_json *seen = NULL;
    bool clock = *run->cycles_by && strcmp(run->cycles_by, "perf_event") != 0 &&
                 strcmp(run->cycles_by, PB_CYCLES_MIXED) != 0;
    for (int i = 0; clock && i < k->cycles.n; i++) { /* fmin and fmax leave NaN out */
        double mhz = k->cycles.medians[i] / k->time.medians[i] * 1e-6;
        run->mhz_least = fmin(run->mhz_least, mhz);
        run->mhz_most = fmax(run->mhz_most, mhz);
    }
    cJSON_ArrayForEach(seen, pb_json_get(o, "gpu"))
        PB_RETURN(pb_gpu_report_add(seen, where, &run->gpu));
    return PB_OK;
}

/* The roofs are the anchors' fastest samples of all processes; of a file that does not say what the anchors
 * moved and multiplied, those that its first process noted. */
static pb_status read_roofs(const pb_json *roofs, const char *where, pb_saved_run *out) {
    const pb_json *flops = pb_json_get(roofs, "flops_per_s");
    double copy = 0, side = 0;
    PB_RETURN(pb_json_read_f64(roofs, where, "bytes_per_s", 0, 1e18, &out->bytes_per_s));
    PB_RETURN(pb_json_read_f64(roofs, where, "cache_bytes", 0, 1e18, &out->cache_bytes));
    PB_RETURN(pb_json_read_f64(flops, where, "f32", 0, 1e18, &out->flops_per_s[0]));
    PB_RETURN(pb_json_read_f64(flops, where, "bf16", 0, 1e18, &out->flops_per_s[1]));
    PB_RETURN(pb_json_read_f64(roofs, where, "vector_ops_per_s", 0, 1e18, &out->ops_per_s));
    PB_RETURN(pb_json_read_f64(roofs, where, "copy_bytes", 0, 1e18, &copy));
    PB_RETURN(pb_json_read_f64(roofs, where, "product_side", 0, 1e9, &side));
    if (copy > 0 && out->anchors[0].least > 0) out->bytes_per_s = 2 * copy / out->anchors[0].least;
    for (int d = 0; d < 2; d++)
        if (side > 0 && out->anchors[1 + d].least > 0)
            out->flops_per_s[d] = 2 * side * side * side / out->anchors[1 + d].least;
    return PB_OK;
}

static pb_status read_anchors(const pb_json *root, const char *where, pb_saved_run *out) {
    const pb_json *anchors = pb_json_get(root, "anchors");
    double ignored;
    for (int i = 0; i < PB_SAVED_ANCHORS; i++)
        PB_RETURN(read_times(pb_json_get(pb_json_get(anchors, anchor_names[i]), "samples_s"), where,
                             &out->anchors[i], &ignored, &ignored));
    return read_roofs(pb_json_get(root, "roofs"), where, out);
}

/* An equal part of the budget of a process for each of its kernels; PB_KERNEL_LIMIT_S without one. */
static pb_status read_limit(const pb_json *root, const char *where, int kernels, pb_saved_run *out) {
    const pb_json *asked = pb_json_get(root, "asked"), *budget = pb_json_get(asked, "budget_s");
    double seconds = 0;
    if (!budget) return PB_OK;
    if (!cJSON_IsNull(budget))
        PB_RETURN(pb_json_read_f64(asked, where, "budget_s", 0, 1e9, &seconds));
    out->limit_s = cJSON_IsNull(budget) ? PB_KERNEL_LIMIT_S : seconds / kernels;
    return PB_OK;
}

pb_status pb_saved_run_read(const pb_json *root, const char *where, pb_saved_run *out) {
    pb_status status = PB_OK;
    const pb_json *list = pb_json_get(root, "kernels"), *o = NULL;
    const char *schema = NULL, *text = NULL;
    int64_t processes = 1;
    *out = (pb_saved_run){.mhz_least = NAN, .mhz_most = NAN, .gpu = pb_gpu_report_none()};
    PB_TRY(pb_json_read_str(root, where, "schema", &schema));
    if (!schema || strcmp(schema, PB_KERNELS_SCHEMA) != 0)
        PB_FAIL(PB_E_INPUT, "%s: schema %s; expected %s, as `kernels run --save` writes", where,
                schema ? schema : "(none)", PB_KERNELS_SCHEMA);
    PB_TRY(read_name(root, where, "binary_sha256", out->binary, sizeof out->binary));
    PB_TRY(pb_json_read_str(root, where, "time_utc", &text));
    pb_copy(out->time_utc, sizeof out->time_utc, text ? text : "");
    text = NULL;
    PB_TRY(pb_json_read_str(root, where, "cycles_by", &text));
    pb_copy(out->cycles_by, sizeof out->cycles_by, text ? text : "");
    pb_copy(out->backend, sizeof out->backend, pb_json_text(root, "backend_sha256"));
    PB_TRY(pb_json_read_i64(root, where, "processes", 1, PB_GATE_PROCESSES, &processes));
    out->processes = (int)processes;
    out->environment = pb_json_get(root, "environment");
    out->advice = pb_json_get(root, "advice");
    PB_TRY(read_anchors(root, where, out));
    if (!cJSON_IsArray(list) || !list->child) PB_FAIL(PB_E_INPUT, "%s: no kernels", where);
    PB_TRY(read_limit(root, where, cJSON_GetArraySize(list), out));
    out->kernels = calloc((size_t)cJSON_GetArraySize(list), sizeof *out->kernels);
    if (!out->kernels) PB_FAIL(PB_E_OOM, "%s: no memory for its kernels", where);
    cJSON_ArrayForEach(o, list) {
        PB_TRY(read_kernel(o, where, out, &out->kernels[out->n++]));
        PB_TRY(read_gauges(o, where, &out->kernels[out->n - 1], out));
    }
done:
    if (status != PB_OK) pb_saved_run_free(out);
    return status;
}

void pb_saved_run_free(pb_saved_run *run) {
    free(run->kernels);
    *run = (pb_saved_run){.n = 0};
}

/* ---- several processes in one file ---- */

static pb_json *member(pb_json *o, const char *key) {
    return (pb_json *)(uintptr_t)pb_json_get(o, key);
}

/* Appends what the process has in the list `key`. */
static pb_status join_lists(pb_json *to, const pb_json *from, const char *key, const char *where) {
    const pb_json *list = NULL;
    pb_json *lists = member(to, key);
    if (!cJSON_IsArray(lists)) return PB_ERROR(PB_E_INPUT, "%s: no %s", where, key);
    cJSON_ArrayForEach(list, pb_json_get(from, key)) {
        pb_json *copy = cJSON_Duplicate(list, true);
        if (!copy || !cJSON_AddItemToArray(lists, copy)) {
            pb_json_free(copy);
            return PB_ERROR(PB_E_OOM, "%s: no memory for samples", where);
        }
    }
    return PB_OK;
}

static pb_status call_wrong(pb_json *o, const char *why) {
    cJSON_DeleteItemFromObjectCaseSensitive(o, "wrong");
    cJSON_DeleteItemFromObjectCaseSensitive(o, "why");
    if (pb_json_add_bool(o, "wrong", true) && pb_json_add_str(o, "why", why)) return PB_OK;
    return PB_ERROR(PB_E_OOM, "no memory for what is wrong with a kernel");
}

static pb_status join_kernel(pb_json *to, const pb_json *from, const char *where) {
    const char *a = NULL, *b = NULL, *sha_a = NULL, *sha_b = NULL, *why = NULL;
    bool wrong = false;
    PB_RETURN(pb_json_read_str(to, where, "name", &a));
    PB_RETURN(pb_json_read_str(from, where, "name", &b));
    if (!a || !b || strcmp(a, b) != 0)
        return PB_ERROR(PB_E_INPUT, "%s: it measured %s where the first process has %s", where,
                        b ? b : "nothing", a ? a : "nothing");
    PB_RETURN(pb_json_read_str(to, where, "output_sha256", &sha_a));
    PB_RETURN(pb_json_read_str(from, where, "output_sha256", &sha_b));
    PB_RETURN(pb_json_read_bool(from, where, "wrong", &wrong));
    PB_RETURN(pb_json_read_str(from, where, "why", &why));
    if (wrong) PB_RETURN(call_wrong(to, why ? why : "wrong"));
    if (sha_a && sha_b && strcmp(sha_a, sha_b) != 0)
        PB_RETURN(call_wrong(to, "not the same output in every process"));
    /* Beside the samples where both have them. */
    static const char *const beside[] = {"cycles", "gpu"};
    for (int i = 0; i < 2; i++)
        if (member(to, beside[i]) && pb_json_get(from, beside[i]))
            PB_RETURN(join_lists(to, from, beside[i], where));
    return join_lists(to, from, "samples_s", where);
}

/* The same program and backend, or samples of two would be one run's. */
static pb_status join_programs(pb_json *root, const pb_json *process, const char *where) {
    static const char *const keys[] = {"binary_sha256", "backend_sha256"};
    for (int i = 0; i < 2; i++)
        if (strcmp(pb_json_text(root, keys[i]), pb_json_text(process, keys[i])) != 0)
            return PB_ERROR(PB_E_ENV,
                            "%s: %s is not that of the first process: measure a copy that nobody builds "
                            "over",
                            where, keys[i]);
    if (strcmp(pb_json_text(root, "cycles_by"), pb_json_text(process, "cycles_by")) == 0) return PB_OK;
    cJSON_DeleteItemFromObjectCaseSensitive(root, "cycles_by");
    if (pb_json_add_str(root, "cycles_by", PB_CYCLES_MIXED)) return PB_OK;
    return PB_ERROR(PB_E_OOM, "%s: no memory", where);
}

pb_status pb_saved_run_join(pb_json *root, const pb_json *process, const char *where) {
    PB_RETURN(join_programs(root, process, where));
    pb_json *mine = member(root, "kernels");
    const pb_json *more = pb_json_get(process, "kernels"), *from = NULL;
    if (!mine || !more || cJSON_GetArraySize(mine) != cJSON_GetArraySize(more))
        return PB_ERROR(PB_E_INPUT, "%s: not the kernels of the first process", where);
    pb_json *to = mine->child;
    cJSON_ArrayForEach(from, more) {
        PB_RETURN(join_kernel(to, from, where));
        to = to->next;
    }
    for (int i = 0; i < PB_SAVED_ANCHORS; i++) {
        pb_json *here = member(member(root, "anchors"), anchor_names[i]);
        const pb_json *there = pb_json_get(pb_json_get(process, "anchors"), anchor_names[i]);
        if (here || there) PB_RETURN(join_lists(here, there, "samples_s", where));
    }
    return PB_OK;
}

/* ---- where it ran ---- */

/* A value as text: numbers and strings as they are, lists joined. */
static void flat(const pb_json *v, pb_text *out) {
    char number[PB_F64_CHARS];
    const pb_json *item = NULL;
    if (cJSON_IsString(v)) {
        pb_text_add(out, "%s", v->valuestring);
    } else if (cJSON_IsNumber(v)) {
        pb_format_f64(number, v->valuedouble);
        pb_text_add(out, "%s", number);
    } else if (cJSON_IsArray(v)) {
        cJSON_ArrayForEach(item, v) {
            flat(item, out);
            if (item->next) pb_text_add(out, " ");
        }
    } else {
        pb_text_add(out, v ? "?" : "(none)");
    }
}

static pb_status compare_value(const char *group, const char *key, const pb_json *a,
                               const pb_json *b, pb_text *lines) {
    pb_text x = {0}, y = {0};
    flat(a, &x);
    flat(b, &y);
    pb_status status = pb_text_status(&x);
    if (status == PB_OK) status = pb_text_status(&y);
    const char *left = x.data ? x.data : "", *right = y.data ? y.data : "";
    if (status == PB_OK && strcmp(left, right) != 0)
        pb_text_add(lines, "%s%s%s: %s, then %s\n", group ? group : "", group ? "/" : "", key,
                    left, right);
    pb_text_free(&x);
    pb_text_free(&y);
    return status;
}

static pb_status compare_group(const char *group, const pb_json *a, const pb_json *b,
                               pb_text *lines) {
    const pb_json *v = NULL;
    cJSON_ArrayForEach(v, a)
        PB_RETURN(compare_value(group, v->string, v, pb_json_get(b, v->string), lines));
    cJSON_ArrayForEach(v, b)
        if (!pb_json_get(a, v->string)) PB_RETURN(compare_value(group, v->string, NULL, v, lines));
    return PB_OK;
}

/* What "machine/gpu/name" leads to, NULL when a step is not there. */
static const pb_json *value_at(const pb_json *o, const char *path) {
    char key[64];
    while (o && *path) {
        size_t n = strcspn(path, "/");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        o = pb_json_get(o, key);
        path += n + (path[n] == '/');
    }
    return o;
}

pb_status pb_environment_differences(const pb_json *a, const pb_json *b, pb_text *lines,
                                     char other_machine[192]) {
    static const char *const groups[] = {"machine", "system", "libraries", "variables"};
    /* A driver is what may be asked about, as a compiler is: another GPU is another machine, its driver not. */
    static const struct {
        const char *path;
        bool other;
    } keys[] = {{"build/compiler", false},       {"build/flags", false}, {"threads", true},
                {"device", true},                {"cache", true},        {"machine/cores_online", true},
                {"machine/cpu", true},           {"machine/gpu/name", true},
                {"machine/gpu/driver", false}};
    *other_machine = 0;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        PB_RETURN(compare_group(groups[i], pb_json_get(a, groups[i]), pb_json_get(b, groups[i]),
                                lines));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *path = keys[i].path;
        pb_text line = {0};
        pb_status status = compare_value(NULL, path, value_at(a, path), value_at(b, path), &line);
        if (status == PB_OK) status = pb_text_status(&line);
        if (status == PB_OK && line.len > 0 && keys[i].other)
            snprintf(other_machine, 192, "%.*s", (int)(line.len - 1), line.data);
        bool listed = strncmp(path, "machine/", 8) == 0 && !strchr(path + 8, '/');
        if (line.len > 0 && !listed) pb_text_add_bytes(lines, line.data, line.len);
        pb_text_free(&line);
        PB_RETURN(status);
    }
    return pb_text_status(lines);
}
