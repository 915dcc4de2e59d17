/* Advice as text and as JSON. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/cli.h"
#include "harness/cli_advise.h"
#include "harness/cli_table.h"

#define GIB 1073741824.0

static const char *fit_word(const pb_advice *row) {
    if (!row->applies) return "does not apply";
    if (!row->fits) return "no";
    if (row->in_time == PB_TOO_SLOW) return "too slow";
    if (row->in_time == PB_PERHAPS_IN_TIME) return "perhaps in time";
    return row->fits_asked ? "yes" : "changed";
}

/* "-0.168 (-0.196 to -0.140), better" */
static void verdict_cell(pb_table *t, int column, const pb_measure *m, const pb_verdict *v) {
    int digits = m->scale > 1 ? 1 : 3;
    pb_table_cell(t, column, "%+.*f (%+.*f to %+.*f), %s", digits, m->scale * v->estimate, digits,
                  m->scale * v->interval.low, digits, m->scale * v->interval.high,
                  v->kind == PB_NO_DIFFERENCE ? "not told apart" : pb_verdict_name(v->kind));
}

static void quality_cells(pb_table *t, int column, const pb_advise *a, const pb_advise_quality *q) {
    if (!q->known) pb_table_cell(t, column, "unknown");
    if (!q->known) return;
    if (!q->lead) pb_table_cell(t, column, "compared with");
    else verdict_cell(t, column, pb_evidence_lead(a->evidence), q->lead);
    if (q->accuracy) verdict_cell(t, column + 1, &pb_measures[PB_ACCURACY], q->accuracy);
}

static void time_cells(pb_table *t, int column, const pb_advise *a, const pb_advice *row) {
    char least[32], mid[32], low[32], high[32];
    if (row->least_s <= 0) return;
    pb_format_seconds(least, row->least_s);
    pb_table_cell(t, column, "%s", least);
    if (!a->efficiency.known) return;
    pb_format_seconds(mid, row->mid_s);
    pb_format_seconds(low, row->low_s);
    pb_format_seconds(high, row->high_s);
    pb_table_cell(t, column + 1, "%s (%s to %s)", mid, low, high);
}

static pb_status print_methods(const pb_advise *a) {
    bool nll = a->evidence && pb_evidence_lead(a->evidence) == &pb_measures[PB_NLL];
    const char *lead = nll ? "NATS TO LORA" : "POINTS TO LORA";
    const char *const head[] = {"METHOD",     "FITS",          "NEEDS",    "CHANGE", "MAX BATCH",
                                "MAX LENGTH", "TIME AT LEAST", "EXPECTED", lead,     nll ? "POINTS TO LORA" : NULL,
                                NULL};
    pb_table t;
    char text[32];
    pb_table_start(&t, head, 1 | 2 | 8);
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advice *row = &a->rows[i];
        pb_table_row(&t);
        pb_table_cell(&t, 0, "%s%s", i == a->chosen ? "* " : "  ", row->method->name);
        pb_table_cell(&t, 1, "%s", fit_word(row));
        if (!row->applies) continue;
        pb_format_bytes(text, (double)(row->fits ? row->use_p.total : row->asked_p.total));
        pb_table_cell(&t, 2, "%s", text);
        if (row->fits) {
            pb_table_cell(&t, 3, "%s", row->change);
            pb_table_cell(&t, 4, "%" PRId64, row->max_batch);
            pb_table_cell(&t, 5, "%" PRId64, row->max_length);
            time_cells(&t, 6, a, row);
        }
        quality_cells(&t, 8, a, &row->quality);
    }
    return pb_table_end(&t, stdout);
}

/* What lies in the host's memory, and its price. */
static void print_paged(const pb_advise *a) {
    bool any = false;
    for (int i = 0; i < a->n_rows; i++) any |= a->rows[i].applies && a->rows[i].fits && a->rows[i].use.paged;
    if (any)
        printf("In brackets: paged, in the host's memory, not in the total%s.\n",
               a->request.gpu ? "; the times count its way there and back in every step over PCI Express" : "");
}

static pb_status print_memory(const pb_advise *a) {
    const char *head[PB_MEM_COUNT + 3] = {"GIB AS ASKED"};
    pb_table t;
    for (int m = 0; m < PB_MEM_COUNT; m++) head[m + 1] = pb_mem_name((pb_mem)m);
    head[PB_MEM_COUNT + 1] = "total";
    pb_table_start(&t, head, 1);
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advice *row = &a->rows[i];
        for (int k = 0; row->applies && k < (row->change[0] ? 2 : 1); k++) {
            const pb_prediction *p = k ? &row->use_p : &row->asked_p;
            pb_table_row(&t);
            pb_table_cell(&t, 0, k ? "  %s, changed" : "  %s", row->method->name);
            for (int m = 0; m < PB_MEM_COUNT; m++) {
                bool beside = k && m == PB_MEM_OPTIM && row->use.paged;
                pb_table_cell(&t, m + 1, beside ? "(%.2f)" : "%.2f", (double)p->bytes[m] / GIB);
            }
            pb_table_cell(&t, PB_MEM_COUNT + 1, "%.2f", (double)p->total / GIB);
        }
    }
    PB_RETURN(pb_table_end(&t, stdout));
    print_paged(a);
    return PB_OK;
}

static void print_missing(const pb_advise *a) {
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advice *row = &a->rows[i];
        if (!row->applies) {
            printf("%s: %s\n", row->method->name, row->why_not);
            continue;
        }
        if (row->fits_asked) continue;
        printf("%s: %.2f GiB missing; ", row->method->name, (double)row->missing / GIB);
        if (row->fits) {
            printf("fits with %s\n", row->change);
            continue;
        }
        printf("with checkpointing, %s, the smallest batches and 16 tokens still %.2f GiB missing\n",
               a->pages ? "a paged or 8-bit optimizer" : "an 8-bit optimizer", (double)(row->least - a->usable) / GIB);
    }
}

static void print_head(const pb_advise *a) {
    const pb_advise_request *r = &a->request;
    char params[32];
    double n = (double)pb_model_config_params(&r->config);
    snprintf(params, sizeof params, n < 1e9 ? "%.1f M" : "%.2f G", n < 1e9 ? n / 1e6 : n / 1e9);
    printf("%s, %s parameters, %s; %" PRId64 " examples of %" PRId64 " tokens, epochs %g, batch %" PRId64
           ", %s\n",
           r->model, params, r->config.causal ? "decoder" : "encoder", r->examples, r->length,
           r->epochs, r->batch, pb_dtype_name(r->dtype));
    printf("%.2f GiB, of which %.2f GiB are kept for driver and context (assumed, --reserve)\n",
           (double)r->memory / GIB, (double)r->reserve / GIB);
    if (r->gpu && r->gpu->bf16_tflops == 0)
        printf("%s: no bf16 in hardware%s, %g TFLOP/s in f32, %g GB/s (%s)\n", r->gpu->name,
               r->dtype == PB_BF16 ? " (memory as asked, in bf16; time at the rate of f32)" : "",
               r->gpu->f32_tflops, r->gpu->gb_per_s, r->gpu->source);
    else if (r->gpu)
        printf("%s: %g TFLOP/s in bf16, %g in f32, %g GB/s (%s)\n", r->gpu->name, r->gpu->bf16_tflops,
               r->gpu->f32_tflops, r->gpu->gb_per_s, r->gpu->source);
    if (r->stand_in)
        printf("Planned for a GPU with the workspaces of the CPU, from which its own may differ: the cuda backend cannot be opened "
               "here (--device cuda says why).\n");
    else printf("Planned for --device %s%s.\n", r->device, a->pages ? "" : ", where a paged optimizer frees nothing");
    if (r->gpu) printf("Efficiency: %s.\n", a->efficiency.what);
    else printf("No --gpu: times are not predicted.\n");
    putchar('\n');
}

static void print_quality_source(const pb_advise *a) {
    if (!a->evidence) {
        printf("\nQuality: unknown; no comparison with LoRA under %s.\n",
               a->request.records ? a->request.records : "--records");
        return;
    }
    printf("\nQuality: test %s against LoRA with 95 %% intervals, verdicts after Holm's correction as in the report of\n"
           "these records: %s; on another model or data it may differ.\n",
           pb_evidence_lead(a->evidence) == &pb_measures[PB_NLL] ? "NLL, then points of accuracy," : "accuracy",
           pb_evidence_where(a->evidence));
    if (a->request.rank > 0) printf("The rows of the records have ranks of their own, not --rank.\n");
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advise_quality *q = &a->rows[i].quality;
        if (a->rows[i].applies && !q->known) printf("%s: unknown: %s.\n", a->rows[i].method->name, q->why);
    }
}

static void print_left_out(const pb_advise *a) {
    const char *before = "Left out of it, for they do not fit with the one setting of all its rows: ";
    for (int i = 0; i < a->n_rows; i++) {
        if (!a->rows[i].left_out) continue;
        printf("%s%s", before, a->rows[i].method->title);
        before = ", ";
    }
    if (*before == ',') printf(".\n");
}

static void print_suite(const pb_advise *a, const char *file) {
    if (!a->suite) return;
    if (file) printf("\nThe suite that would test it: peftbench run %s\n", file);
    else printf("\n--suite FILE writes the suite that would test it.\n");
    const pb_advice *chosen = &a->rows[a->chosen];
    char with[160];
    pb_advise_describe(&a->suite_setting, &chosen->asked, with);
    if (strcmp(with, chosen->change) != 0) printf("All its rows run with %s, so that more of them fit.\n", with);
    print_left_out(a);
    if (!a->request.data)
        printf("Its data are an example; --data names yours: %s.\n",
               a->request.config.causal ? "prompts with completions, or plain texts" : "texts with labels");
}

pb_status pb_advise_print_text(const pb_advise *a, const char *suite_file) {
    print_head(a);
    PB_RETURN(print_methods(a));
    putchar('\n');
    PB_RETURN(print_memory(a));
    putchar('\n');
    print_missing(a);
    print_quality_source(a);
    printf("\nRules of thumb:\n");
    for (int i = 0; i < 3; i++)
        printf("  %s: %s. %s.\n", a->rules[i].rule, a->rules[i].verdict, a->rules[i].numbers);
    printf("\n%s\n", a->reason);
    print_suite(a, suite_file);
    return PB_OK;
}

/* ---- JSON ---- */

static bool add_memory(pb_json *o, const char *key, const pb_prediction *p) {
    pb_json *m = pb_json_add_object(o, key);
    bool ok = m != NULL;
    for (int i = 0; i < PB_MEM_COUNT; i++)
        ok = ok && pb_json_add_i64(m, pb_mem_name((pb_mem)i), (int64_t)p->bytes[i]);
    return ok && pb_json_add_i64(m, "total", (int64_t)p->total);
}

static bool add_setting(pb_json *o, const char *key, const pb_advise_setting *s) {
    pb_json *t = pb_json_add_object(o, key);
    return pb_json_add_i64(t, "batch", s->batch) && pb_json_add_i64(t, "accumulate", s->accumulate) &&
           pb_json_add_i64(t, "length", s->length) && pb_json_add_bool(t, "checkpoint", s->checkpoint) &&
           pb_json_add_str(t, "optimizer", s->adamw8 ? "adamw8" : "adamw") &&
           pb_json_add_bool(t, "paged", s->paged);
}

static const char *time_word(const pb_advice *row) {
    return row->in_time == PB_IN_TIME ? "yes" : row->in_time == PB_TOO_SLOW ? "no" : "perhaps";
}

static bool add_fit(pb_json *o, const pb_advice *row) {
    bool ok = add_setting(o, "setting", &row->use) && add_memory(o, "memory_bytes", &row->use_p) &&
              pb_json_add_str(o, "change", row->change) &&
              pb_json_add_i64(o, "max_batch", row->max_batch) &&
              pb_json_add_i64(o, "max_length", row->max_length) &&
              pb_json_add_f64(o, "steps", row->steps) &&
              pb_json_add_f64(o, "flops_per_step", row->use_p.step.flops) &&
              pb_json_add_f64(o, "bytes_per_step", row->use_p.step.bytes) &&
              pb_json_add_i64(o, "bus_bytes_per_step", row->use.paged ? 2 * (int64_t)row->use_p.bytes[PB_MEM_OPTIM] : 0) &&
              pb_json_add_str(o, "in_time", time_word(row)) && pb_json_add_bool(o, "left_out_of_suite", row->left_out);
    if (!ok || row->least_s <= 0) return ok;
    pb_json *t = pb_json_add_object(o, "seconds");
    ok = pb_json_add_f64(t, "least", row->least_s);
    if (row->mid_s > 0)
        ok = ok && pb_json_add_f64(t, "expected", row->mid_s) && pb_json_add_f64(t, "low", row->low_s) &&
             pb_json_add_f64(t, "high", row->high_s);
    return ok;
}

static bool add_verdict(pb_json *o, const char *key, const pb_measure *m, const pb_verdict *v) {
    if (!v) return true;
    pb_json *t = pb_json_add_object(o, key);
    return pb_json_add_str(t, "verdict", pb_verdict_name(v->kind)) &&
           pb_json_add_f64(t, "difference", m->scale * v->estimate) &&
           pb_json_add_f64(t, "low", m->scale * v->interval.low) &&
           pb_json_add_f64(t, "high", m->scale * v->interval.high) && pb_json_add_f64(t, "p_holm", v->p_holm) &&
           pb_json_add_f64(t, "would_have_shown", m->scale * v->detectable);
}

/* Differences to LoRA: nats of NLL, points of accuracy; LoRA itself has none. */
static bool add_quality(pb_json *o, const pb_advise *a, const pb_advise_quality *q) {
    if (!q->known)
        return pb_json_add_str(o, "quality", NULL) && pb_json_add_str(o, "quality_unknown", q->why);
    pb_json *t = pb_json_add_object(o, "quality");
    const pb_measure *lead = pb_evidence_lead(a->evidence);
    return add_verdict(t, lead->name, lead, q->lead) &&
           add_verdict(t, "accuracy", &pb_measures[PB_ACCURACY], q->accuracy) &&
           pb_json_add_str(t, "row", q->label) && pb_json_add_i64(t, "seeds", q->n_seeds) &&
           pb_json_add_str(t, "from", pb_evidence_where(a->evidence));
}

static bool add_params(pb_json *o, const pb_advice *row) {
    char *text = pb_json_print(row->params, false);
    pb_json *copy = text ? cJSON_Parse(text) : NULL;
    free(text);
    if (copy && cJSON_AddItemToObject(o, "params", copy)) return true;
    pb_json_free(copy);
    return false;
}

static bool add_row(pb_json *list, const pb_advise *a, const pb_advice *row) {
    pb_json *o = pb_json_add_object(list, NULL);
    bool ok = pb_json_add_str(o, "method", row->method->name) &&
              pb_json_add_bool(o, "applies", row->applies);
    if (!row->applies) return ok && pb_json_add_str(o, "why_not", row->why_not);
    ok = ok && add_params(o, row) && pb_json_add_bool(o, "fits_as_asked", row->fits_asked) &&
         pb_json_add_bool(o, "fits", row->fits) &&
         pb_json_add_i64(o, "params_trainable", row->asked_p.params_trainable) &&
         add_memory(o, "memory_bytes_as_asked", &row->asked_p) &&
         pb_json_add_i64(o, "missing_bytes", (int64_t)row->missing) && add_quality(o, a, &row->quality);
    if (ok && !row->fits) ok = pb_json_add_i64(o, "least_bytes", (int64_t)row->least);
    return ok && (!row->fits || add_fit(o, row));
}

static bool add_request(pb_json *root, const pb_advise *a) {
    const pb_advise_request *r = &a->request;
    bool ok = pb_json_add_str(root, "model", r->model) &&
              pb_json_add_i64(root, "params", pb_model_config_params(&r->config)) &&
              pb_json_add_i64(root, "memory_bytes", (int64_t)r->memory) &&
              pb_json_add_i64(root, "reserve_bytes", (int64_t)r->reserve) &&
              pb_json_add_i64(root, "examples", r->examples) &&
              pb_json_add_i64(root, "length", r->length) && pb_json_add_i64(root, "batch", r->batch) &&
              pb_json_add_f64(root, "epochs", r->epochs) && pb_json_add_i64(root, "rank", r->rank) &&
              pb_json_add_f64(root, "time_limit_s", r->time_s) &&
              pb_json_add_str(root, "dtype", pb_dtype_name(r->dtype)) &&
              pb_json_add_str(root, "gpu", r->gpu ? r->gpu->name : NULL) &&
              pb_json_add_str(root, "device", r->device) &&
              pb_json_add_str(root, "workspaces_of", r->stand_in ? "cpu" : r->device) &&
              pb_json_add_bool(root, "pages", a->pages);
    pb_json *e = pb_json_add_object(root, "efficiency");
    ok = ok && pb_json_add_str(e, "rests_on", a->efficiency.what) &&
         pb_json_add_bool(e, "measured_on_this_gpu", a->efficiency.on_this_gpu);
    if (ok && a->efficiency.known)
        ok = pb_json_add_f64(e, "low", a->efficiency.low) && pb_json_add_f64(e, "mid", a->efficiency.mid) &&
             pb_json_add_f64(e, "high", a->efficiency.high);
    return ok;
}

pb_status pb_advise_print_json(const pb_advise *a) {
    pb_json *root = cJSON_CreateObject();
    bool ok = add_request(root, a);
    pb_json *list = pb_json_add_array(root, "methods"), *rules = NULL;
    for (int i = 0; i < a->n_rows; i++) ok = ok && add_row(list, a, &a->rows[i]);
    ok = ok && (rules = pb_json_add_array(root, "rules")) != NULL;
    for (int i = 0; i < 3 && ok; i++) {
        pb_json *o = pb_json_add_object(rules, NULL);
        ok = pb_json_add_str(o, "rule", a->rules[i].rule) &&
             pb_json_add_str(o, "verdict", a->rules[i].verdict) &&
             pb_json_add_str(o, "numbers", a->rules[i].numbers);
    }
    ok = ok && pb_json_add_str(root, "recommended", a->chosen < 0 ? NULL : a->rows[a->chosen].method->name) &&
         pb_json_add_str(root, "reason", a->reason);
    if (ok && a->suite) {
        pb_json *suite = cJSON_Parse(a->suite);
        ok = suite && cJSON_AddItemToObject(root, "suite", suite);
        if (!ok) pb_json_free(suite);
    }
    if (ok) return pb_cli_print_json(root);
    pb_json_free(root);
    return pb_cli_built(false);
}
