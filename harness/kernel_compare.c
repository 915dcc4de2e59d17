/* Two builds, kernel by kernel: harness/kernel_compare.h. */
#include "harness/kernel_compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "harness/kernel_process.h"
#include "kernels/core/rng.h"

typedef struct work {
    const pb_compare_request *q;
    char program[2][1024];
    pb_kernel_folder folder;
    pb_comparison_of_builds *out;
} work;

static pb_status find_program(const char *path, char out[1024]) {
    char *inside = pb_is_dir(path) ? pb_path_join(path, "peftbench") : NULL;
    bool fits = pb_copy(out, 1024, inside ? inside : path);
    free(inside);
    if (fits && access(out, X_OK) == 0 && !pb_is_dir(out)) return PB_OK;
    return PB_ERROR(PB_E_INPUT,
                    "%s: no program peftbench there; expected a build folder or a program", path);
}

/* ---- what it measured ---- */

static pb_status find_kernel(pb_comparison_of_builds *c, const char *name, bool add,
                             pb_compared **out) {
    *out = NULL;
    for (int i = 0; i < c->n && !*out; i++)
        if (strcmp(c->kernels[i].name, name) == 0) *out = &c->kernels[i];
    if (*out || !add) return PB_OK;
    pb_compared *grown = realloc(c->kernels, (size_t)(c->n + 1) * sizeof *grown);
    if (!grown) return PB_ERROR(PB_E_OOM, "no memory for %d kernels", c->n + 1);
    c->kernels = grown;
    *out = &grown[c->n++];
    **out = (pb_compared){.in = {0, 0}};
    pb_copy((*out)->name, sizeof (*out)->name, name);
    return PB_OK;
}

/* One kernel of one process. */
static pb_status take(work *w, const pb_json *o, int side, int stage, int process) {
    static const char *const sides[] = {"A", "B"};
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
    PB_RETURN(find_kernel(w->out, name, stage == 0 && process == 0, &k));
    if (!k)
        return PB_ERROR(PB_E_INPUT, "%s: its first process did not have %s", w->program[side],
                        name);
    if (wrong) {
        PB_RETURN(pb_json_read_str(o, w->folder.samples, "why", &why));
        snprintf(k->wrong, sizeof k->wrong, "%s: %.140s", sides[side], why ? why : "wrong");
    } else if (!*k->sha256[side]) {
        pb_copy(k->sha256[side], sizeof k->sha256[side], sha);
    } else if (strcmp(k->sha256[side], sha) != 0) {
        snprintf(k->wrong, sizeof k->wrong, "%s: not the same output in every process",
                 sides[side]);
    }
    k->time[side][stage][process] = median;
    k->in[side]++;
    return PB_OK;
}

static pb_status run_process(work *w, int side, int stage, int process, const char *filter) {
    pb_status status = PB_OK;
    pb_json *root = NULL;
    const pb_json *o = NULL;
    bool check = stage == 0 && process == 0;
    fprintf(stderr, "stage %d, pair %d of %d: %s\n", stage + 1, process + 1, PB_GATE_PROCESSES,
            side ? "B" : "A");
    pb_kernel_process p = {w->program[side], w->q->options, filter, check, false};
    PB_TRY(pb_kernel_process_run(&p, &w->folder, &root));
    cJSON_ArrayForEach(o, pb_json_get(root, "kernels")) PB_TRY(take(w, o, side, stage, process));
done:
    pb_json_free(root);
    return status;
}

static pb_status run_stage(work *w, int stage, const char *filter) {
    for (int i = 0; i < PB_GATE_PROCESSES; i++) {
        int first = (int)(pb_random_u32(w->q->key, (uint64_t)stage, (uint64_t)i) & 1);
        PB_RETURN(run_process(w, first, stage, i, filter));
        PB_RETURN(run_process(w, !first, stage, i, filter));
    }
    return PB_OK;
}

/* ---- verdicts ---- */

static pb_status decide(pb_compared *k, int stages) {
    pb_gate_input in = {.stages = stages};
    for (int s = 0; s < stages; s++) {
        in.stage[s].a = (pb_gate_side){PB_GATE_PROCESSES, k->time[0][s], NULL};
        in.stage[s].b = (pb_gate_side){PB_GATE_PROCESSES, k->time[1][s], NULL};
    }
    if (*k->wrong) in.wrong = k->wrong;
    for (int side = 0; side < 2; side++)
        if (k->in[side] != stages * PB_GATE_PROCESSES)
            in.incomparable = k->in[side] ? "not measured by every process"
                              : side      ? "only A has it"
                                          : "only B has it";
    if (in.wrong || in.incomparable) in.stages = 0;
    return pb_gate_decide(&in, &k->result);
}

static pb_status run_stages(work *w) {
    pb_status status = PB_OK;
    pb_text again = {0};
    PB_TRY(run_stage(w, 0, w->q->filter));
    for (int i = 0; i < w->out->n; i++) {
        pb_compared *k = &w->out->kernels[i];
        PB_TRY(decide(k, 1));
        if (k->result.again) pb_text_add(&again, "%s%s", again.len ? "|" : "", k->name);
    }
    PB_TRY(pb_text_status(&again));
    if (!again.len) goto done;
    PB_TRY(run_stage(w, 1, again.data));
    for (int i = 0; i < w->out->n; i++)
        if (w->out->kernels[i].result.again) PB_TRY(decide(&w->out->kernels[i], 2));
done:
    pb_text_free(&again);
    return status;
}

pb_status pb_compare_builds(const pb_compare_request *request, pb_comparison_of_builds *out) {
    pb_status status = PB_OK;
    work w = {.q = request, .out = out};
    const char *paths[] = {request->a, request->b};
    *out = (pb_comparison_of_builds){.n = 0};
    for (int side = 0; side < 2; side++) {
        PB_RETURN(find_program(paths[side], w.program[side]));
        PB_RETURN(pb_sha256_file(w.program[side], out->sha256[side]));
    }
    PB_RETURN(pb_kernel_folder_open(&w.folder));
    PB_TRY(run_stages(&w));
done:
    pb_kernel_folder_close(&w.folder);
    if (status != PB_OK) pb_comparison_of_builds_free(out);
    return status;
}

void pb_comparison_of_builds_free(pb_comparison_of_builds *c) {
    free(c->kernels);
    *c = (pb_comparison_of_builds){.n = 0};
}

/* ---- for machines and for people ---- */

static void add_escaped(pb_text *t, const char *s) {
    for (; *s; s++) {
        if (*s == '&')
            pb_text_add(t, "&amp;");
        else if (*s == '<')
            pb_text_add(t, "&lt;");
        else if (*s == '>')
            pb_text_add(t, "&gt;");
        else if (*s == '"')
            pb_text_add(t, "&quot;");
        else
            pb_text_add_bytes(t, (unsigned char)*s < 0x20 ? " " : s, 1);
    }
}

pb_status pb_compared_junit(const pb_comparison_of_builds *c, bool allow_unclear, pb_text *out) {
    int failures = 0, skipped = 0;
    for (int i = 0; i < c->n; i++) {
        pb_gate_verdict v = c->kernels[i].result.verdict;
        bool fails = pb_gate_exit(&v, 1, allow_unclear) != 0;
        failures += fails;
        skipped += !fails && pb_gate_exit(&v, 1, false) != 0;
    }
    pb_text_add(out,
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"kernels\" "
                "tests=\"%d\" failures=\"%d\" skipped=\"%d\">\n",
                c->n, failures, skipped);
    for (int i = 0; i < c->n; i++) {
        const pb_compared *k = &c->kernels[i];
        pb_gate_verdict v = k->result.verdict;
        bool fails = pb_gate_exit(&v, 1, allow_unclear) != 0;
        pb_text_add(out, "  <testcase classname=\"kernels\" name=\"");
        add_escaped(out, k->name);
        if (!fails && pb_gate_exit(&v, 1, false) == 0) {
            pb_text_add(out, "\"/>\n");
            continue;
        }
        pb_text_add(out, "\"><%s message=\"%s: ", fails ? "failure" : "skipped", pb_gate_name(v));
        add_escaped(out, k->result.why);
        pb_text_add(out, "\"/></testcase>\n");
    }
    pb_text_add(out, "</testsuite>\n");
    return pb_text_status(out);
}

pb_status pb_compared_markdown(const pb_comparison_of_builds *c, pb_text *out) {
    pb_text_add(out, "| kernel | verdict | B / A | 95 %% interval | |\n");
    pb_text_add(out, "| --- | --- | --- | --- | --- |\n");
    for (int i = 0; i < c->n; i++) {
        const pb_compared *k = &c->kernels[i];
        const pb_gate_result *r = &k->result;
        pb_text_add(out, "| %s | %s | ", k->name, pb_gate_name(r->verdict));
        if (isnan(r->ratio))
            pb_text_add(out, "| | ");
        else
            pb_text_add(out, "%.3f | %.3f to %.3f | ", r->ratio, r->interval.low,
                        r->interval.high);
        pb_text_add(out, "%s |\n", r->why);
    }
    return pb_text_status(out);
}
