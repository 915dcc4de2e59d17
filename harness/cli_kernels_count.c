/* peftbench kernels count and baseline: instructions of kernels, and whether they became more. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "harness/cli_kernels.h"
#include "harness/cli_table.h"
#include "harness/kernel_compare.h"
#include "harness/kernel_count.h"
#include "kernels/core/about.h"

/* What is counted when nothing is named: every case within a minute under callgrind. */
#define MODEL "shape:minilm"
#define ROWS 64

static pb_status choose_table(const pb_kernels_request *q, const pb_counts *baseline,
                              pb_count_table *table) {
    if (baseline) {
        if (q->model || q->rows || q->dtype >= 0)
            return PB_ERROR(PB_E_INPUT, "--model, --rows and --dtype come from the baseline %s",
                            q->baseline);
        *table = baseline->table;
        return PB_OK;
    }
    *table = (pb_count_table){.rows = q->rows ? q->rows : ROWS};
    table->f32 = q->dtype != 1;
    table->bf16 = q->dtype != 0;
    if (!pb_copy(table->model, sizeof table->model, q->model ? q->model : MODEL))
        return PB_ERROR(PB_E_INPUT, "--model %s: longer than %zu characters", q->model,
                        sizeof table->model - 1);
    return PB_OK;
}

/* A baseline is compared with the gauge it was counted with. */
static pb_gauge choose_gauge(const pb_kernels_request *q, const pb_counts *baseline) {
    char why[160];
    if (pb_counter_in_callgrind()) return PB_GAUGE_CALLGRIND;
    if (q->gauge != PB_GAUGE_AUTO) return (pb_gauge)q->gauge;
    if (baseline && strcmp(baseline->setup.gauge, "step") == 0) return PB_GAUGE_STEP;
    if (baseline)
        return strncmp(baseline->setup.gauge, "callgrind", 9) == 0 ? PB_GAUGE_CALLGRIND
                                                                  : PB_GAUGE_PERF;
    if (pb_counter_has_perf(why)) return PB_GAUGE_PERF;
    fprintf(stderr, "%s; counting under callgrind\n", why);
    return PB_GAUGE_CALLGRIND;
}

static pb_status count(const pb_kernels_request *q, const pb_counts *baseline,
                       pb_counts *out) {
    pb_count_table table;
    pb_gauge gauge = choose_gauge(q, baseline);
    PB_RETURN(choose_table(q, baseline, &table));
    if (gauge == PB_GAUGE_CALLGRIND && !pb_counter_in_callgrind())
        return pb_counts_take_under_callgrind(&table, q->filter, out);
    return pb_counts_take(&table, q->filter, gauge, out);
}

/* ---- what is told ---- */

static bool add_setup(pb_json *o, const pb_count_setup *s) {
    return pb_json_add_str(o, "gauge", s->gauge) && pb_json_add_str(o, "isa", s->isa) &&
           pb_json_add_str(o, "compiler", s->compiler) && pb_json_add_str(o, "flags", s->flags) &&
           pb_json_add_str(o, "libc", s->libc) && pb_json_add_str(o, "library", s->library) &&
           pb_json_add_str(o, "library_isa", s->library_isa);
}

static bool add_change(pb_json *o, const pb_count_change *c) {
    return pb_json_add_str(o, "name", c->name) &&
           pb_json_add_str(o, "verdict", pb_gate_name(c->result.verdict)) &&
           pb_json_add_str(o, "why", c->result.why) && pb_json_add_bool(o, "decides", c->decides) &&
           pb_json_add_i64(o, "then", (int64_t)c->then) &&
           pb_json_add_i64(o, "now", (int64_t)c->now) &&
           pb_json_add_f64(o, "ratio", c->result.work);
}

static pb_status print_json(const pb_counts *now, const pb_count_changes *changes, int code) {
    pb_json *root = cJSON_CreateObject();
    bool ok = pb_json_add_str(root, "schema", "peftbench-kernels-count-1") &&
              add_setup(pb_json_add_object(root, "setup"), &now->setup);
    pb_json *list = pb_json_add_array(root, "kernels");
    if (changes) ok = ok && pb_json_add_i64(root, "exit", code) &&
                      pb_json_add_str(root, "incomparable",
                                      *changes->incomparable ? changes->incomparable : NULL);
    for (int i = 0; changes && i < changes->n; i++)
        ok = ok && add_change(pb_json_add_object(list, NULL), &changes->items[i]);
    for (int i = 0; !changes && i < now->n; i++) {
        const pb_count *c = &now->items[i];
        pb_json *o = pb_json_add_object(list, NULL);
        ok = ok && pb_json_add_str(o, "name", c->name) &&
             pb_json_add_str(o, "variant", c->variant) &&
             pb_json_add_i64(o, "instructions", (int64_t)c->instructions);
    }
    if (ok) return pb_cli_print_json(root);
    pb_json_free(root);
    return pb_cli_built(false);
}

static pb_status print_counts(const pb_counts *now) {
    static const char *const head[] = {"CASE", "KERNEL", "INSTRUCTIONS", NULL};
    pb_table table = {0};
    pb_table_start(&table, head, 3);
    for (int i = 0; i < now->n; i++) {
        pb_table_row(&table);
        pb_table_cell(&table, 0, "%s", now->items[i].name);
        pb_table_cell(&table, 1, "%s", now->items[i].variant);
        pb_table_cell(&table, 2, "%.0f", now->items[i].instructions);
    }
    PB_RETURN(pb_table_end(&table, stdout));
    const pb_count_setup *s = &now->setup;
    printf("%s, %s, %s, %s, %s, %s with %s\n", s->gauge, s->isa, s->compiler, s->flags, s->libc,
           s->library, s->library_isa);
    return PB_OK;
}

/* One line per kernel, then what to do. */
static void print_changes(const pb_count_changes *c, const char *baseline) {
    int less = 0;
    for (int i = 0; i < c->n; i++) {
        const pb_count_change *k = &c->items[i];
        less += k->decides && k->result.verdict == PB_GATE_LESS_WORK;
        printf("%-13s %s: %.0f, was %.0f: %s%s\n", pb_gate_name(k->result.verdict), k->name, k->now,
               k->then, k->result.why, k->decides ? "" : " (does not decide)");
    }
    if (*c->incomparable)
        fprintf(stderr, "not comparable with %s: %s\n", baseline, c->incomparable);
    else if (less || c->missing || c->added)
        fprintf(stderr,
                "%d kernels do less, %d are new, %d are gone: peftbench kernels baseline %s writes "
                "the new counts\n",
                less, c->added, c->missing, baseline);
}

/* Verdicts for a CI job. What does not decide is skipped there. */
static pb_status write_junit(const char *path, const pb_count_changes *changes) {
    pb_status status = PB_OK;
    pb_comparison_of_builds c = {.n = changes->n};
    pb_text text = {0};
    c.kernels = calloc((size_t)changes->n + 1, sizeof *c.kernels);
    if (!c.kernels) PB_FAIL(PB_E_OOM, "no memory for %d verdicts", changes->n);
    for (int i = 0; i < changes->n; i++) {
        const pb_count_change *from = &changes->items[i];
        pb_compared *k = &c.kernels[i];
        pb_copy(k->name, sizeof k->name, from->name);
        k->result = from->result;
        /* A case of one side alone decides by being there: it makes the exit status 1. */
        bool idle = !from->decides && from->then > 0 && from->now > 0;
        if (idle) k->result.verdict = PB_GATE_UNCLEAR;
    }
    PB_TRY(pb_compared_junit(&c, true, &text));
    PB_TRY(pb_file_write_atomic(path, text.data, text.len));
done:
    pb_text_free(&text);
    free(c.kernels);
    return status;
}

/* Callgrind's CPU is narrower than most: what it leaves out is said. */
static void tell_narrower(const pb_count_setup *counted) {
    const char *here = pb_kernels_isa();
    if (strncmp(counted->gauge, "callgrind", 9) != 0 || strcmp(counted->isa, here) == 0) return;
    fprintf(stderr,
            "counted in %s; here kernels run in %s, and what only those forms do is not in these "
            "counts: --gauge step counts them\n",
            counted->isa, here);
}

pb_status pb_kernels_count(pb_cli *cli, const pb_kernels_request *q) {
    pb_status status = PB_OK, written = PB_OK;
    pb_counts now = {.n = 0}, then = {.n = 0};
    pb_count_changes changes = {.n = 0};
    if (q->junit && !q->baseline)
        PB_FAIL(PB_E_INPUT, "count --junit tells verdicts: against which --baseline?");
    if (q->baseline) PB_TRY(pb_counts_read(q->baseline, &then));
    PB_TRY(count(q, q->baseline ? &then : NULL, &now));
    if (q->save) pb_kernels_written(&written, pb_counts_write(q->save, &now));
    if (q->baseline) {
        PB_TRY(pb_counts_compare(&then, &now, q->filter, &changes));
        cli->exit_code = pb_count_changes_exit(&changes);
        if (q->junit) pb_kernels_written(&written, write_junit(q->junit, &changes));
    }
    if (q->format != 0) {
        PB_TRY(print_json(&now, q->baseline ? &changes : NULL, cli->exit_code));
    } else if (q->baseline) {
        print_changes(&changes, q->baseline);
        tell_narrower(&now.setup);
    } else {
        PB_TRY(print_counts(&now));
        tell_narrower(&now.setup);
    }
    status = pb_kernels_all_written(written);
done:
    pb_count_changes_free(&changes);
    pb_counts_free(&then);
    pb_counts_free(&now);
    return status;
}
