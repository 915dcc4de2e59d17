/* peftbench kernels compare: is a build slower than another? */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "harness/cli.h"
#include "harness/cli_kernels.h"
#include "harness/kernel_compare.h"
#include "harness/kernel_process.h"
#include "harness/kernel_revision.h"
#include "harness/kernel_stored.h"

#define MOST_BYTES ((size_t)256 << 20)

/* Frees the text; status: what came of making it. */
static pb_status write_file(const char *path, pb_status status, pb_text *text) {
    if (status == PB_OK) status = pb_file_write_atomic(path, text->data, text->len);
    pb_text_free(text);
    return status;
}

/* How the comparison came about. */
typedef struct told {
    uint64_t key;                  /* of the order of processes */
    double budget_s;               /* 0 = none */
    const pb_stored_notes *stored; /* or NULL */
    const pb_machine_report *machine; /* or NULL: nothing was measured now */
    const char *samples;              /* folder or file with the raw ones; NULL: not kept */
    pb_status written;                /* what came of writing that file */
} told;

static bool add_advice(pb_json *root, const pb_comparison_of_builds *c, const told *t) {
    pb_text lines = {0};
    bool ok = pb_compared_advice(c, t->machine, &lines) == PB_OK && pb_kernels_add_advice(root, &lines);
    pb_text_free(&lines);
    return ok;
}

static bool add_stored(pb_json *root, const pb_stored_notes *notes) {
    pb_json *anchors = pb_json_add_object(root, "anchors");
    bool ok = anchors != NULL;
    for (int i = 0; i < PB_SAVED_ANCHORS; i++)
        ok = ok && pb_json_add_f64(anchors, pb_anchor_name(i), notes->anchors[i]);
    return ok;
}

/* Machine, system, build and libraries of a side; null where a program does not say. */
static bool add_environment(pb_json *root, const char *key, const pb_json *environment) {
    pb_json *copy = environment ? cJSON_Duplicate(environment, true) : cJSON_CreateNull();
    if (copy && cJSON_AddItemToObject(root, key, copy)) return true;
    pb_json_free(copy);
    return false;
}

static pb_status print_json(const pb_comparison_of_builds *c, const told *t, int code) {
    pb_json *root = cJSON_CreateObject();
    const char *differences = c->differences.data;
    bool ok = pb_json_add_str(root, "schema", "peftbench-kernels-compare-2") &&
              pb_json_add_str(root, "a_sha256", c->sha256[0]) &&
              pb_json_add_str(root, "b_sha256", c->sha256[1]) &&
              pb_json_add_str(root, "a_backend_sha256", *c->backend[0] ? c->backend[0] : NULL) &&
              pb_json_add_str(root, "b_backend_sha256", *c->backend[1] ? c->backend[1] : NULL) &&
              pb_json_add_str(root, "samples_in", t->samples) && add_advice(root, c, t) &&
              pb_json_add_bool(root, "stored", t->stored != NULL) &&
              pb_json_add_i64(root, "order_key", (int64_t)t->key) &&
              pb_json_add_f64(root, "budget_s", t->budget_s > 0 ? t->budget_s : (double)NAN) &&
              pb_json_add_i64(root, "samples_wanted", PB_KERNEL_SAMPLES) &&
              pb_json_add_str(root, "gauge", *c->gauge ? c->gauge : NULL) &&
              pb_json_add_str(root, "differences", differences ? differences : "") &&
              pb_json_add_str(root, "a_cycles_by", c->cycles_by[0]) &&
              pb_json_add_str(root, "b_cycles_by", c->cycles_by[1]) &&
              pb_json_add_f64(root, "clock_mhz_least", c->mhz_least) &&
              pb_json_add_f64(root, "clock_mhz_most", c->mhz_most) &&
              add_environment(root, "a_environment", c->environment[0]) &&
              add_environment(root, "b_environment", c->environment[1]) &&
              pb_json_add_i64(root, "exit", code) && (!t->stored || add_stored(root, t->stored));
    if (ok && t->machine)
        ok = pb_machine_json(t->machine, pb_json_add_object(root, "machine_state")) == PB_OK;
    if (ok && c->gpu.looks > 0)
        ok = pb_gpu_report_json(&c->gpu, pb_json_add_object(root, "gpu")) == PB_OK;
    pb_json *list = pb_json_add_array(root, "kernels");
    for (int i = 0; i < c->n; i++)
        ok = ok && pb_compared_json(&c->kernels[i], pb_json_add_object(list, NULL));
    if (ok) return pb_cli_print_json(root);
    pb_json_free(root);
    return pb_cli_built(false);
}

static void print_lines(const char *what, const pb_text *lines) {
    for (const char *p = lines->data; p && *p; p += strcspn(p, "\n") + 1)
        printf("%s%.*s\n", what, (int)strcspn(p, "\n"), p);
}

/* What this comparison could see: A's own spread and the slowdowns that it would have found. */
static pb_status print_power(const pb_comparison_of_builds *c) {
    pb_compared_power p;
    PB_RETURN(pb_compared_power_of(c, &p));
    if (p.n > 0)
        printf("A against itself: processes spread by %.1f %% (median of %d kernels, %.1f to %.1f)\n"
               "found with probability 0.8: a slowdown of %.1f %% (median, %.1f to %.1f)\n",
               100 * p.spread[1], p.n, 100 * p.spread[0], 100 * p.spread[2], 100 * p.detectable[1],
               100 * p.detectable[0], 100 * p.detectable[2]);
    return PB_OK;
}

static void print_kernel(const pb_compared *k) {
    const pb_gate_result *r = &k->result;
    const char *then = k->side[0].variant, *now = k->side[1].variant;
    printf("%-13s %s: %s", pb_gate_name(r->verdict), k->name, r->why);
    if (!isnan(r->stage[0].p)) printf(" [U %g, p %.2g", r->stage[0].u, r->stage[0].p);
    if (!isnan(r->stage[1].p)) printf("; again U %g, p %.2g", r->stage[1].u, r->stage[1].p);
    if (!isnan(r->cycles)) printf("; cycles %+.1f %%", 100 * (r->cycles - 1));
    if (!isnan(r->spread) && !isnan(r->detectable))
        printf("; A's spread %.1f %%, finds %.1f %%", 100 * r->spread, 100 * (r->detectable - 1));
    if (!isnan(r->stage[0].p)) printf("]");
    if (!isnan(r->work) && !k->counted_only)
        printf(" [%+.2f %% instructions]", 100 * (r->work - 1));
    if (*then && *now && strcmp(then, now) != 0) printf(" [kernel %s, then %s]", then, now);
    printf("\n");
}

static pb_status print_text(const pb_comparison_of_builds *c, const told *t) {
    printf("programs: A %.12s, B %.12s\n", c->sha256[0], c->sha256[1]);
    if (*c->backend[0] || *c->backend[1])
        printf("CUDA backends: A %.12s, B %.12s\n", c->backend[0], c->backend[1]);
    print_lines("differs: ", &c->differences);
    if (*c->gauge) printf("instructions: %s\n", c->gauge);
    print_lines("", &c->stored);
    for (int i = 0; i < c->n; i++) print_kernel(&c->kernels[i]);
    PB_RETURN(print_power(c));
    PB_RETURN(pb_kernels_print_clock(c->cycles_by[0], c->mhz_least, c->mhz_most, &c->gpu));
    print_lines("noise: ", &c->noise);
    return t->machine ? pb_kernels_print_machine(t->machine) : PB_OK;
}

static int exit_code(const pb_comparison_of_builds *c, bool allow_unclear) {
    int code = 1;
    pb_gate_verdict *v = calloc((size_t)c->n + 1, sizeof *v);
    for (int i = 0; v && i < c->n; i++) v[i] = c->kernels[i].result.verdict;
    if (v) code = pb_gate_exit(v, c->n, allow_unclear);
    free(v);
    return code;
}

static pb_status tell(pb_cli *cli, const pb_kernels_request *q, const pb_comparison_of_builds *c,
                      const told *t) {
    pb_status written = t->written, made;
    pb_text text = {0};
    cli->exit_code = exit_code(c, q->allow_unclear);
    if (q->junit) {
        made = pb_compared_junit(c, q->allow_unclear, &text);
        pb_kernels_written(&written, write_file(q->junit, made, &text));
    }
    if (q->markdown) {
        made = pb_compared_markdown(c, t->machine, cli->exit_code, &text);
        pb_kernels_written(&written, write_file(q->markdown, made, &text));
    }
    PB_RETURN(q->format != 0 ? print_json(c, t, cli->exit_code) : print_text(c, t));
    return pb_kernels_all_written(written);
}

/* A folder or a program as it is; anything else is the name of a revision. */
static pb_status find_side(const pb_kernels_request *q, const char *name, char program[1024]) {
    char cache[1024];
    bool cuda = strcmp(q->device, "cuda") == 0;
    if (pb_is_dir(name) || pb_file_exists(name)) {
        if (pb_copy(program, 1024, name)) return PB_OK;
        return PB_ERROR(PB_E_INPUT, "%s: the path is too long", name);
    }
    if (q->revisions) return pb_kernel_revision(".", name, q->revisions, cuda, program);
    PB_RETURN(pb_beside_program("revisions", cache, sizeof cache));
    return pb_kernel_revision(".", name, cache, cuda, program);
}

/* What is counted: the timed model and rows where they are named, else the table of `kernels
 * count`, which takes a minute under callgrind. */
static void count_options(const pb_kernels_request *q, pb_kernels_options *out) {
    pb_kernels_request counted = {.model = q->model, .rows = q->rows, .dtype = q->dtype};
    pb_kernels_child_options(&counted, out);
}

pb_status pb_kernels_compare(pb_cli *cli, const pb_kernels_request *q, const char *a,
                             const char *b) {
    pb_status status = PB_OK;
    char program[2][1024], pinning[160];
    pb_comparison_of_builds c = {0};
    pb_kernels_options options, counting;
    pb_machine_watch *watch = NULL;
    pb_machine_report machine;
    uint64_t key = ((uint64_t)pb_now_ns() ^ (uint64_t)getpid()) & UINT64_C(0xffffffffffff);
    const char *backend = getenv("PB_CUDA_PLUGIN");
    bool cuda = strcmp(q->device, "cuda") == 0;
    if (cuda && backend && *backend && strcmp(a, b) != 0)
        PB_FAIL(PB_E_INPUT, "PB_CUDA_PLUGIN names one backend for both builds, %s: unset it, and each opens "
                            "its own", backend);
    pb_kernels_child_options(q, &options);
    count_options(q, &counting);
    PB_TRY(find_side(q, a, program[0]));
    PB_TRY(find_side(q, b, program[1]));
    pb_compare_request request = {.a = program[0],
                                  .b = program[1],
                                  .options = options.argv,
                                  .cuda = cuda,
                                  .filter = q->filter,
                                  .budget_s = q->budget_s,
                                  .save = q->save,
                                  .key = key,
                                  .instructions = q->instructions,
                                  .gauge = (pb_gauge)q->gauge,
                                  .count_options = counting.argv};
    pb_machine_pin("", (int)q->threads, pinning); /* here, so that both builds inherit the same */
    PB_TRY(pb_machine_begin("", (int)q->threads, &watch));
    request.watch = watch;
    PB_TRY(pb_compare_builds(&request, &c));
    status = pb_machine_end(watch, &machine);
    watch = NULL;
    if (status != PB_OK) goto done;
    memcpy(machine.pinning, pinning, sizeof pinning);
    const told t = {.key = key, .budget_s = q->budget_s, .machine = &machine, .samples = q->save};
    PB_TRY(tell(cli, q, &c, &t));
done:
    pb_machine_drop(watch);
    pb_comparison_of_builds_free(&c);
    return status;
}

/* ---- saved runs ---- */

/* One option of the saved run: its value is taken, and another one on the command line refused. What it does
 * not say it was made without, or, where it is of a program that did not write it down, is not known. */
static pb_status like_text(const char *option, const char *saved, bool known, const char **mine) {
    if (!*saved && !known) return PB_OK;
    if (*mine && strcmp(*mine, saved) != 0)
        return PB_ERROR(PB_E_INPUT, "--%s %s: A was measured with%s%s, and B is measured as A was", option,
                        *mine, *saved ? " " : "out it", saved);
    if (*saved) *mine = saved;
    return PB_OK;
}

static pb_status like_number(const char *option, double saved, bool known, int64_t *mine) {
    char text[2][32] = {"", ""};
    const char *value = *mine ? text[0] : NULL;
    snprintf(text[0], sizeof text[0], "%lld", (long long)*mine);
    if (saved > 0) snprintf(text[1], sizeof text[1], "%.0f", saved);
    PB_RETURN(like_text(option, text[1], known, &value));
    if (saved > 0) *mine = (int64_t)saved;
    return PB_OK;
}

/* What a run made now must ask for to be held against a saved one; texts point into its tree. */
static pb_status like_saved(const pb_json *tree, const pb_saved_run *like, pb_kernels_request *now) {
    static const char *const dtypes[] = {"f32", "bf16"}, *const caches[] = {"cold", "hot"};
    const pb_json *asked = pb_json_get(tree, "asked"), *e = like->environment;
    const char *device = now->device_given ? now->device : NULL;
    const char *cache = now->cache_given ? caches[now->cache] : NULL;
    const char *dtype = now->dtype >= 0 ? dtypes[now->dtype] : NULL;
    bool known = asked != NULL, was_all = cJSON_IsTrue(pb_json_get(asked, "all"));
    PB_RETURN(like_number("threads", pb_json_number(e, "threads"), false, &now->threads));
    PB_RETURN(like_text("device", pb_json_text(e, "device"), false, &device));
    PB_RETURN(like_text("cache", pb_json_text(e, "cache"), false, &cache));
    PB_RETURN(like_text("model", pb_json_text(asked, "model"), known, &now->model));
    if (now->all && known && !was_all)
        return PB_ERROR(PB_E_INPUT, "--all: A was measured without it, and B is measured as A was");
    PB_RETURN(like_text("dtype", pb_json_text(asked, "dtype"), known, &dtype));
    PB_RETURN(like_number("rows", pb_json_number(asked, "rows"), known, &now->rows));
    if (device) now->device = device;
    now->cache = cache && strcmp(cache, "hot") == 0;
    now->all = now->all || was_all;
    if (dtype) now->dtype = strcmp(dtype, "bf16") == 0;
    /* These two may be others: fewer kernels, or more time for them, are no other way to measure. */
    if (!now->filter && *pb_json_text(asked, "filter")) now->filter = pb_json_text(asked, "filter");
    double budget = pb_json_number(asked, "budget_s") * like->processes;
    if (!(now->budget_s > 0) && budget > 0) now->budget_s = budget;
    now->processes = like->processes;
    return PB_OK;
}

/* Leaves the kernels that the filter holds. */
static void narrow(pb_saved_run *run, const char *filter) {
    int n = 0;
    for (int i = 0; i < run->n; i++)
        if (pb_kernel_case_holds(run->kernels[i].name, filter)) run->kernels[n++] = run->kernels[i];
    run->n = n;
}

pb_status pb_kernels_compare_stored(pb_cli *cli, const pb_kernels_request *q, const char *a,
                                    const char *b) {
    pb_status status = PB_OK, written = PB_OK;
    pb_json *trees[2] = {NULL, NULL};
    pb_saved_run runs[2] = {{.n = 0}, {.n = 0}};
    pb_comparison_of_builds c = {0};
    pb_stored_notes notes = {.anchors = {0}};
    pb_kernels_request now = *q;
    pb_machine_report machine;
    PB_TRY(pb_json_load(a, MOST_BYTES, &trees[0]));
    PB_TRY(pb_saved_run_read(trees[0], a, &runs[0]));
    narrow(&runs[0], q->filter);
    if (runs[0].n == 0) PB_FAIL(PB_E_INPUT, "--filter %s: no kernel of %s has this in its name", q->filter, a);
    if (b) {
        PB_TRY(pb_json_load(b, MOST_BYTES, &trees[1]));
        PB_TRY(pb_saved_run_read(trees[1], b, &runs[1]));
    } else {
        PB_TRY(like_saved(trees[0], &runs[0], &now));
        PB_TRY(pb_kernels_measure(&now, &trees[1], &runs[1], &machine));
        if (q->save) pb_kernels_written(&written, pb_json_save(trees[1], q->save));
        runs[1].advice = NULL; /* the machine's own report tells it */
    }
    narrow(&runs[1], q->filter);
    PB_TRY(pb_compare_stored(&runs[0], &runs[1], &c, &notes));
    const told t = {.budget_s = b ? 0 : now.budget_s,
                    .stored = &notes,
                    .machine = b ? NULL : &machine,
                    .samples = q->save,
                    .written = written};
    PB_TRY(tell(cli, q, &c, &t));
done:
    pb_comparison_of_builds_free(&c);
    for (int i = 0; i < 2; i++) {
        pb_saved_run_free(&runs[i]);
        pb_json_free(trees[i]);
    }
    return status;
}
